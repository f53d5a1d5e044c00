//! The seam between deciding and doing.
//!
//! A driver has two verbs. [`Driver::observe`] says what the host says is there and never
//! fails as a whole: what could not be read is a [`Fact::Unknown`]. [`Driver::execute`] does
//! one [`Step`]. Both block, are bounded by a [`Deadline`], and hold no memory of earlier
//! calls that a decision could rest on. [`Wake`] hints travel beside them and say no more
//! than "look again".
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

mod driver;
mod error;
mod fact;
mod files;
mod network;
mod observed;
mod ownership;
mod step;

pub use driver::{Deadline, Driver, Scope, Wake, WakeReason};
pub use error::{Outcome, StepError, StepFailure};
pub use fact::{Fact, Gap};
pub use files::files_mark;
pub use network::{LinkObserved, NetworkObserved, RulesObserved};
pub use observed::{
    Bundle, Cgroup, ContainerObserved, DiskBackend, DiskObserved, ExitStatus, Init, Life,
    LimitsObserved, MountObserved, Observed, ProcessId, ProcessObserved, ProcessState, Run, Shim,
    ShimState, UsageObserved,
};
pub use ownership::{Mark, MarkError};
pub use step::{Action, Expect, Precondition, Step};
