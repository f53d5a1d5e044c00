//! Durable intent: what was accepted, what was promised, what was made, what happened.
//!
//! [`Store`](store::Store) is the only door. It knows nothing of steps, drivers or the host.
#![forbid(unsafe_code)]

pub mod model;
