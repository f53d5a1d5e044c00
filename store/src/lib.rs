//! Durable intent: what was accepted, what was promised, what was made, what happened.
//!
//! [`Store`] is the only door, and [`Store::commit_durable`] the only way to write. It knows
//! nothing of steps, drivers or the host. Its bytes: `docs/formats/store.md`.
#![forbid(unsafe_code)]

mod check;
mod commit;
mod copy;
mod disk;
mod draft;
mod engine;
mod export;
mod frame;
mod home;
mod image;
pub mod model;
mod open;
mod outcome;
mod read;
mod seal;
mod store;
mod wire;

pub use crate::check::{Report, check};
pub use crate::draft::GENERATIONS_MAX;
pub use crate::export::{ExportError, ImportError, export, import};
pub use crate::outcome::{
    CommitError, Committed, Condition, Health, OpenError, Opened, RefusedError,
};
pub use crate::read::{EventQuery, ReadError};
pub use crate::store::{Held, Options, Store};

#[cfg(test)]
mod tests;
