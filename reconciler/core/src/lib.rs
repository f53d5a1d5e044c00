//! Decides everything, does nothing.
//!
//! [`io`] is the border: what goes in, what comes out. [`machine::Machine`] is the daemon as
//! a value, [`plan`] the pure planner inside it. No clock, no I/O, no randomness, no hash
//! maps: they cannot be named here.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;
#[cfg(test)]
extern crate std;

mod backoff;
mod diff;
pub mod explain;
#[cfg(test)]
mod fixture;
pub mod io;
pub mod machine;
pub mod order;
pub mod plan;
pub mod policy;
mod queue;
mod status;
