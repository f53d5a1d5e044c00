//! What people ask for, and what they are told. No I/O: no path is touched, no clock read.
//!
//! Reading order: [`id`] and [`units`] (the small words), [`spec`] (as a person wrote it),
//! [`parse`] and [`diagnostic`] (text to spec, or to a list of faults with their places),
//! [`validate`] (laws inside one spec and across specs), [`resolve`] (every default filled,
//! every choice made), [`desired`] (the result: nothing left to decide), [`change`] (what an
//! edit costs), [`status`] and [`event`] (what people read).
#![forbid(unsafe_code)]

pub mod capacity;
pub mod change;
pub mod config;
pub mod desired;
pub mod diagnostic;
pub mod event;
pub mod explain;
mod fields;
pub mod id;
pub mod parse;
pub mod policy;
pub mod resolve;
pub mod schema;
pub mod spec;
pub mod status;
pub mod units;
pub mod usage;
pub mod validate;
