//! What the tests share: the world a test lives in, bounded waits, and the leak oracle.
#![forbid(unsafe_code)]

pub mod eventually;
pub mod golden;
pub mod inventory;
pub mod world;
