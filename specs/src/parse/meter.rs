//! A text that ends early when the parser behind it holds back too much of it.
//!
//! The parser holds back a whole flow collection (`[...]`, `{...}`) until its end, about a
//! hundred bytes for each token, because the collection could turn out to be a key. A
//! megabyte of `[a,a,` would so cost over a hundred. Here the characters that can part two
//! tokens of a flow collection are counted from one event to the next.

use std::cell::Cell;
use std::rc::Rc;

use saphyr_parser::Input;

/// Most characters that could part tokens between two events: at most twice as many tokens.
pub(super) const SEPARATORS_MAX: usize = 50_000;

/// The count, shared between the text and the reader of events.
#[derive(Clone, Debug, Default)]
pub(super) struct Meter(Rc<Cell<usize>>);

impl Meter {
    /// Begins anew: an event came, so nothing is held back.
    pub(super) fn reset(&self) {
        if !self.is_over() {
            self.0.set(0);
        }
    }

    /// Says whether the text was ended early.
    pub(super) fn is_over(&self) -> bool {
        self.0.get() > SEPARATORS_MAX
    }

    fn count(&self) {
        self.0.set(self.0.get().saturating_add(1));
    }
}

/// A text under a [`Meter`].
#[derive(Debug)]
pub(super) struct Metered<'a> {
    rest: &'a str,
    /// Characters that the parser asked to see ahead.
    ahead: usize,
    meter: Meter,
}

impl<'a> Metered<'a> {
    pub(super) fn new(text: &'a str, meter: Meter) -> Self {
        Self {
            rest: text,
            ahead: 0,
            meter,
        }
    }

    fn take(&mut self) -> Option<char> {
        let mut characters = self.rest.chars();
        let first = characters.next()?;
        self.rest = characters.as_str();
        Some(first)
    }
}

/// Only what has no default: all else goes through these.
impl Input for Metered<'_> {
    fn lookahead(&mut self, count: usize) {
        self.ahead = self.ahead.max(count);
    }

    fn buflen(&self) -> usize {
        self.ahead
    }

    fn bufmaxlen(&self) -> usize {
        16
    }

    fn raw_read_ch(&mut self) -> char {
        self.take().unwrap_or('\0')
    }

    /// Called inside block scalars only. These begin outside of flow collections only, so
    /// nothing is held back.
    fn raw_read_non_breakz_ch(&mut self) -> Option<char> {
        self.meter.reset();
        match self.peek() {
            '\n' | '\r' | '\0' | '\u{feff}' => None,
            _ => self.take(),
        }
    }

    fn skip(&mut self) {
        self.ahead = self.ahead.saturating_sub(1);
        let parts = |c| {
            matches!(
                c,
                ',' | '[' | ']' | '{' | '}' | ':' | '?' | '&' | '*' | '!' | '"' | '\''
            )
        };
        if self.take().is_some_and(parts) {
            self.meter.count();
            if self.meter.is_over() {
                self.rest = "";
            }
        }
    }

    fn skip_n(&mut self, count: usize) {
        for _ in 0..count {
            self.skip();
        }
    }

    fn peek_opt(&self) -> Option<char> {
        self.rest.chars().next()
    }

    fn peek(&self) -> char {
        self.peek_opt().unwrap_or('\0')
    }

    fn peek_nth(&self, n: usize) -> char {
        self.rest.chars().nth(n).unwrap_or('\0')
    }
}
