//! Faults in what a person wrote: what is wrong, exactly where, and what to write instead.
//!
//! Texts from a file are passed through [`plain()`] before they become part of a message, so
//! that nothing a spec holds can steer a terminal or forge a line of a log.

mod code;
mod plain;
mod render;

use serde::Serialize;

pub use code::{Code, explain};
pub use plain::plain;
pub use render::render;

/// Most faults told for one file; the rest is counted.
pub const DIAGNOSTICS_MAX: usize = 100;

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// The file is not taken.
    Error,
    /// The file is taken; worth a look.
    Warning,
}

/// One finding.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Diagnostic {
    /// What kind; stable over releases.
    pub code: Code,
    /// Whether the file is still taken.
    pub severity: Severity,
    /// One sentence.
    pub message: String,
    /// File it was found in.
    pub file: String,
    /// Line, from 1.
    pub line: u32,
    /// First column, in characters from 1.
    pub column: u32,
    /// Column after the last one, on the same line.
    pub end_column: u32,
    /// Something to know beside it, for example the other place.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
    /// What to write instead.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub help: Option<String>,
}

impl Diagnostic {
    /// Returns `FILE:LINE:COLUMN: error[CODE]: MESSAGE` on one line.
    #[must_use]
    pub fn one_line(&self) -> String {
        let word = match self.severity {
            Severity::Error => "error",
            Severity::Warning => "warning",
        };
        let file = plain(&self.file);
        format!(
            "{file}:{}:{}: {word}[{}]: {}",
            self.line, self.column, self.code, self.message
        )
    }
}

impl std::fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.one_line())
    }
}

/// Says whether any of them keeps the file from being taken.
#[must_use]
pub fn is_refused(diagnostics: &[Diagnostic]) -> bool {
    diagnostics
        .iter()
        .any(|one| one.severity == Severity::Error)
}

/// Returns the known word that was most likely meant.
#[must_use]
pub fn closest<'a>(text: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    // Longer texts are never a slip of the fingers, and comparing them costs.
    if text.is_empty() || text.len() > 64 {
        return None;
    }
    let lower = text.to_ascii_lowercase();
    let scored = known.into_iter().map(|word| {
        let distance = strsim::osa_distance(&lower, &word.to_ascii_lowercase());
        (distance, word)
    });
    let (distance, word) = scored.min_by_key(|(distance, _)| *distance)?;
    let allowed = (word.chars().count().max(text.chars().count()) / 3).max(1);
    (distance <= allowed).then_some(word)
}
