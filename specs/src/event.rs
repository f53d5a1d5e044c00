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
