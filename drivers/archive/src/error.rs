//! Why a tree was not copied, or not whole.

use std::io;

use rustix::io::Errno;

/// Most troubles that are told one by one.
const TOLD_MAX: usize = 20;

/// Why a tree was not copied.
#[derive(Debug, thiserror::Error)]
pub enum CopyError {
    /// What is to be copied, or where it is to go, is not there.
    #[error("there is no {0}")]
    Missing(Shown),
    /// The kernel refused one act on one path.
    #[error("cannot {act} {path}")]
    Act {
        /// What was attempted.
        act: &'static str,
        /// On what.
        path: Shown,
        /// Why.
        #[source]
        errno: Errno,
    },
    /// It is something else than it has to be.
    #[error("{path} {why}")]
    Unfit {
        /// What.
        path: Shown,
        /// What is wrong with it.
        why: &'static str,
    },
    /// A name in the archive leads out of where it is unpacked.
    #[error("{0} leads out of the destination")]
    Outside(Shown),
    /// The archive is none, or was damaged.
    #[error("the archive cannot be read: {0}")]
    Malformed(&'static str),
    /// The archive ends too early.
    #[error("the archive ends before its end")]
    Cut,
    /// The archive does not arrive.
    #[error("the archive does not arrive")]
    Input(#[source] io::Error),
    /// Nobody takes the archive.
    #[error("nobody takes the archive")]
    Output(#[source] io::Error),
    /// Most of it was copied.
    #[error("{0}")]
    Partly(Troubles),
}

/// A path or name as it is told: bytes that a terminal could take for more are not shown as
/// they are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shown(String);

impl Shown {
    pub(crate) fn new(path: &[u8]) -> Self {
        let text = String::from_utf8_lossy(path);
        let plain = |letter: char| -> String {
            if letter.is_control() {
                letter.escape_default().collect()
            } else {
                letter.to_string()
            }
        };
        Self(text.chars().map(plain).collect())
    }
}

impl std::fmt::Display for Shown {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// What was left out while the rest was copied.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Troubles {
    told: Vec<String>,
    count: u64,
}

impl Troubles {
    /// Adds one.
    pub(crate) fn note(&mut self, error: &CopyError) {
        self.count += 1;
        if self.told.len() < TOLD_MAX {
            self.told.push(chain(error));
        }
    }

    /// Returns the error that these are, if there is any.
    pub(crate) fn into_result(self) -> Result<(), CopyError> {
        if self.count == 0 {
            return Ok(());
        }
        Err(CopyError::Partly(self))
    }
}

impl std::fmt::Display for Troubles {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.told.join("\n"))?;
        let rest = self.count.saturating_sub(TOLD_MAX as u64);
        if rest > 0 {
            write!(f, "\nand {rest} more")?;
        }
        Ok(())
    }
}

/// Returns an error and what caused it in one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(under) = cause {
        text.push_str(": ");
        text.push_str(&under.to_string());
        cause = under.source();
    }
    text
}

impl CopyError {
    /// Returns it in words, with its cause.
    #[must_use]
    pub fn words(&self) -> String {
        chain(self)
    }

    /// Returns what makes an error of the kernel's answer to an act on a path.
    pub(crate) fn at<'a>(act: &'static str, path: &'a [u8]) -> impl Fn(Errno) -> Self + 'a {
        move |errno| Self::Act {
            act,
            path: Shown::new(path),
            errno,
        }
    }

    pub(crate) fn unfit(path: &[u8], why: &'static str) -> Self {
        Self::Unfit {
            path: Shown::new(path),
            why,
        }
    }
}
