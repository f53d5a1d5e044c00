//! The few system calls that no library wraps, for the root alone.

pub(crate) mod errand;
pub(crate) mod fsids;
pub(crate) mod loops;
pub(crate) mod mount;
