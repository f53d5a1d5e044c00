//! A world with faults behind the same seam; tests only.
//!
//! [`SimHost`] is a world, not a tape of answers: it holds lives with their bundles, cgroups,
//! supervisors, inits, mounts and processes, a small space of pids that are used again, a
//! clock that moves when told, and things of strangers that must never change. It checks the
//! preconditions of each step as the real driver does, and counts the stale ones. Faults are
//! drawn from a seeded generator of integers: same seed, same run.
//!
//! [`check`] holds what must be true after every effect and at the end.
#![forbid(unsafe_code)]

pub mod check;
mod execute;
mod faults;
mod hands;
mod host;
mod network;
mod observe;
mod supervisor;
mod world;

pub use faults::{Chances, Ratio, Rng};
pub use hands::Hand;
pub use host::SimHost;
pub use world::{SimCgroup, SimInit, SimLife, SimProcess, World};
