//! The one way to standard output.
//!
//! Everything passes [`escape::screen`], so that nothing from a spec or a container steers the
//! terminal even where a renderer forgot. A reader that has gone (`EPIPE`) is no error: the
//! writer falls silent, the command still ends with its true exit code, and what follows a
//! stream asks [`Out::is_closed`] when to stop. Output is buffered: whoever is about to wait
//! flushes first.

use std::fs::File;
use std::io::{self, BufWriter, IsTerminal, Write};
use std::os::fd::AsFd as _;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use serde::Serialize;

use crate::render::escape;
use crate::render::paint::Paint;

/// Standard output could not be written, for another reason than a reader that left.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OutError {
    /// The system refused the write.
    #[error("cannot write to standard output")]
    Write(#[source] io::Error),
    /// A value has no text form.
    #[error("cannot print the answer as JSON")]
    Json(#[source] serde_json::Error),
    /// A value has no text form.
    #[error("cannot print the answer as YAML")]
    Yaml(#[source] serde_yaml::Error),
}

/// Standard output.
#[derive(Debug)]
pub(crate) struct Out {
    sink: BufWriter<File>,
    closed: bool,
    /// How text for people is painted.
    pub(crate) paint: Paint,
    /// A person looks at it.
    pub(crate) is_terminal: bool,
}

impl Out {
    /// Returns a writer to standard output that paints or not.
    ///
    /// # Errors
    /// When the process may not have one more descriptor.
    pub(crate) fn new(paint: Paint) -> Result<Self, OutError> {
        // A descriptor of our own: the standard library's handle would break lines apart.
        let own = io::stdout()
            .as_fd()
            .try_clone_to_owned()
            .map_err(OutError::Write)?;
        Ok(Self::over(own.into(), paint))
    }

    fn over(sink: File, paint: Paint) -> Self {
        let is_terminal = sink.is_terminal();
        Self {
            sink: BufWriter::new(sink),
            closed: false,
            paint,
            is_terminal,
        }
    }

    /// Writes text for people.
    ///
    /// # Errors
    /// When the system refuses the write; not when the reader has left.
    pub(crate) fn text(&mut self, text: &str) -> Result<(), OutError> {
        let safe = escape::screen(text, self.paint.color);
        self.raw(safe.as_bytes())
    }

    /// Writes text for people and ends the line.
    ///
    /// # Errors
    /// As [`Self::text`].
    pub(crate) fn line(&mut self, text: &str) -> Result<(), OutError> {
        self.text(&format!("{text}\n"))
    }

    /// Writes a value as indented JSON.
    ///
    /// # Errors
    /// As [`Self::text`], or when the value has no JSON form.
    pub(crate) fn json<T: Serialize>(&mut self, value: &T) -> Result<(), OutError> {
        let text = serde_json::to_string_pretty(value).map_err(OutError::Json)?;
        self.raw(format!("{}\n", escape::json(&text)).as_bytes())
    }

    /// Writes a value as JSON on one line.
    ///
    /// # Errors
    /// As [`Self::json`].
    pub(crate) fn json_line<T: Serialize>(&mut self, value: &T) -> Result<(), OutError> {
        let text = serde_json::to_string(value).map_err(OutError::Json)?;
        self.raw(format!("{}\n", escape::json(&text)).as_bytes())
    }

    /// Writes a value as YAML. A value that holds characters which YAML would show as they
    /// are and a terminal obey is written in YAML's JSON form, where they have an escape.
    ///
    /// # Errors
    /// As [`Self::text`], or when the value has no YAML form.
    pub(crate) fn yaml<T: Serialize>(&mut self, value: &T) -> Result<(), OutError> {
        let text = serde_yaml::to_string(value).map_err(OutError::Yaml)?;
        if escape::lines(&text) == text {
            return self.raw(text.as_bytes());
        }
        let text = serde_json::to_string_pretty(value).map_err(OutError::Json)?;
        self.raw(format!("{}\n", escape::yaml_of_json(&text)).as_bytes())
    }

    /// Writes bytes as they are. Only for output that was made harmless, or that a person
    /// asked to have raw and that no terminal reads.
    ///
    /// # Errors
    /// As [`Self::text`].
    pub(crate) fn raw(&mut self, bytes: &[u8]) -> Result<(), OutError> {
        if self.closed {
            return Ok(());
        }
        let result = self.sink.write_all(bytes);
        self.settle(result)
    }

    /// Sends what is buffered on its way.
    ///
    /// # Errors
    /// As [`Self::text`].
    pub(crate) fn flush(&mut self) -> Result<(), OutError> {
        if self.closed {
            return Ok(());
        }
        let result = self.sink.flush();
        self.settle(result)
    }

    /// Whether the reader has left, as far as is known.
    pub(crate) fn is_closed(&self) -> bool {
        self.closed
    }

    /// Asks the system whether the reader has left, for when nothing is written that would
    /// tell.
    pub(crate) fn look_for_reader(&mut self) {
        let mut fds = [PollFd::new(self.sink.get_ref(), PollFlags::empty())];
        let asked = poll(&mut fds, Some(&Timespec::default()));
        let [fd] = &fds;
        // `poll(2)`: POLLERR is set for the writing end once the reading end is closed.
        self.closed |= asked.is_ok() && fd.revents().contains(PollFlags::ERR);
    }

    fn settle(&mut self, result: io::Result<()>) -> Result<(), OutError> {
        match result {
            Err(err) if err.kind() == io::ErrorKind::BrokenPipe => {
                self.closed = true;
                Ok(())
            }
            other => other.map_err(OutError::Write),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Seek as _};

    use super::*;

    fn written(color: bool, write: impl FnOnce(&mut Out)) -> String {
        let mut file = tempfile::tempfile().unwrap();
        let mut out = Out::over(file.try_clone().unwrap(), Paint { color });
        write(&mut out);
        out.flush().unwrap();
        let mut text = String::new();
        file.rewind().unwrap();
        file.read_to_string(&mut text).unwrap();
        text
    }

    #[test]
    fn what_a_renderer_forgot_to_escape_is_escaped_here() {
        let attack = "a\u{1b}]0;t\u{7}\u{1b}[2J\u{202e}\r";
        let harmless = "a\\x1b]0;t\\x07\\x1b[2J\\u{202e}\\r\n";
        for color in [false, true] {
            assert_eq!(written(color, |out| out.line(attack).unwrap()), harmless);
        }
    }

    #[test]
    fn our_own_colours_pass_only_when_there_shall_be_colour() {
        let red = "\u{1b}[31mx\u{1b}[0m";
        assert_eq!(written(true, |out| out.text(red).unwrap()), red);
        assert_eq!(
            written(false, |out| out.text(red).unwrap()),
            "\\x1b[31mx\\x1b[0m"
        );
    }
}
