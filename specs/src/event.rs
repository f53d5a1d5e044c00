//! One line of history that a person would read.

use serde::{Deserialize, Serialize};

use crate::id::{Generation, Key};

/// One thing that happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Event {
    /// Position in the history; grows by one.
    pub seq: u64,
    /// Milliseconds since the epoch.
    pub at_ms: u64,
    /// Which container; none for what concerns the daemon or a whole source.
    pub key: Option<Key>,
    /// Version of the intent it speaks of.
    pub generation: Generation,
    /// Whether a person should look.
    pub severity: Severity,
    /// Stable CamelCase word, for example `Created`, `LimitsRepaired`, `SpecRefused`.
    pub reason: String,
    /// A sentence.
    pub message: String,
}

/// Whether a person should look.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// As it should be.
    Normal,
    /// Worth a look.
    Warning,
}

/// How far the kills for memory in one life were told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KillsTold {
    /// How many.
    pub kills: u64,
    /// When the last process that was told to have ended by one ended, `CLOCK_BOOTTIME`
    /// milliseconds.
    pub ended_ms: u64,
}
