//! A bounded list of findings in one file.

use super::tree::Place;
use crate::diagnostic::{Code, DIAGNOSTICS_MAX, Diagnostic, Severity};

/// What is wrong with one value, before its place is known.
#[derive(Debug)]
pub(crate) struct Fault {
    pub(crate) code: Code,
    pub(crate) message: String,
    pub(crate) note: Option<String>,
    pub(crate) help: Option<String>,
}

impl Fault {
    pub(crate) fn new(code: Code, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
            note: None,
            help: None,
        }
    }

    pub(crate) fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    pub(crate) fn note(mut self, note: impl Into<String>) -> Self {
        self.note = Some(note.into());
        self
    }

    pub(crate) fn at(self, file: &str, place: Place) -> Diagnostic {
        Diagnostic {
            code: self.code,
            severity: Severity::Error,
            message: self.message,
            file: file.to_owned(),
            line: place.line,
            column: place.column,
            end_column: place.end_column,
            note: self.note,
            help: self.help,
        }
    }
}

/// Findings in one file, at most [`DIAGNOSTICS_MAX`] and a count of the rest.
#[derive(Debug)]
pub(crate) struct Faults<'a> {
    file: &'a str,
    list: Vec<Diagnostic>,
    dropped: usize,
}

impl<'a> Faults<'a> {
    pub(crate) fn new(file: &'a str) -> Self {
        Self {
            file,
            list: Vec::new(),
            dropped: 0,
        }
    }

    pub(crate) fn push(&mut self, place: Place, fault: Fault) {
        if self.list.len() < DIAGNOSTICS_MAX {
            self.list.push(fault.at(self.file, place));
        } else {
            self.dropped += 1;
        }
    }

    pub(crate) fn is_full(&self) -> bool {
        self.dropped > 0
    }

    /// Returns how many there are, the dropped ones included.
    pub(crate) fn len(&self) -> usize {
        self.list.len() + self.dropped
    }

    /// Returns the findings in the order of the file.
    pub(crate) fn finish(mut self) -> Vec<Diagnostic> {
        self.list
            .sort_by_key(|one| (one.line, one.column, one.code));
        if self.dropped > 0
            && let Some(last) = self.list.last()
        {
            let place = Place {
                line: last.line,
                column: last.column,
                end_column: last.end_column,
            };
            let message = format!("{} more, not shown", self.dropped);
            self.list
                .push(Fault::new(Code::TooMany, message).at(self.file, place));
        }
        self.list
    }
}
