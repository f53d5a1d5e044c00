//! Why something could not be done, in the words the daemon passes on.

use std::fmt;

use rustix::io::Errno;
use shim_proto::message;
pub(crate) use shim_proto::message::FailureKind;

/// Why something could not be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Failure {
    /// How to take it.
    pub(crate) kind: FailureKind,
    /// What was attempted, on what.
    pub(crate) what: String,
    /// `errno`, 0 for none.
    pub(crate) errno: i32,
    /// The cause in words, where `errno` does not say it.
    pub(crate) cause: String,
}

impl Failure {
    /// A person must act: `cause` says what is wrong with what was asked.
    pub(crate) fn terminal(what: impl Into<String>, cause: impl Into<String>) -> Failure {
        Failure {
            kind: FailureKind::Terminal,
            what: what.into(),
            errno: 0,
            cause: cause.into(),
        }
    }

    /// It may work later.
    pub(crate) fn retry(what: impl Into<String>, cause: impl Into<String>) -> Failure {
        Failure {
            kind: FailureKind::Retry,
            what: what.into(),
            errno: 0,
            cause: cause.into(),
        }
    }

    /// The kernel refused `what`. Lack of a resource may pass, all else needs a person.
    pub(crate) fn kernel(errno: Errno, what: impl Into<String>) -> Failure {
        let kind = match errno {
            Errno::AGAIN
            | Errno::BUSY
            | Errno::DQUOT
            | Errno::INTR
            | Errno::IO
            | Errno::MFILE
            | Errno::NFILE
            | Errno::NOMEM
            | Errno::NOSPC
            | Errno::STALE
            | Errno::TIMEDOUT
            | Errno::USERS => FailureKind::Retry,
            _ => FailureKind::Terminal,
        };
        Failure {
            kind,
            what: what.into(),
            errno: errno.raw_os_error(),
            cause: String::new(),
        }
    }

    /// The same, with the cause put in words.
    pub(crate) fn because(mut self, cause: impl Into<String>) -> Failure {
        self.cause = cause.into();
        self
    }

    /// The same, taken as one that may pass.
    pub(crate) fn may_pass(mut self) -> Failure {
        self.kind = FailureKind::Retry;
        self
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)?;
        if !self.cause.is_empty() {
            write!(f, ": {}", self.cause)?;
        }
        if self.errno != 0 {
            write!(f, ": {}", Errno::from_raw_os_error(self.errno))?;
        }
        Ok(())
    }
}

impl std::error::Error for Failure {}

impl From<Failure> for message::Failure {
    fn from(failure: Failure) -> message::Failure {
        message::Failure {
            kind: failure.kind.into(),
            what: failure.what,
            errno: failure.errno,
            cause: failure.cause,
            no_such_command: false,
        }
    }
}

impl From<message::Failure> for Failure {
    fn from(failure: message::Failure) -> Failure {
        Failure {
            kind: failure.kind(),
            what: failure.what,
            errno: failure.errno,
            cause: failure.cause,
        }
    }
}

/// Puts words to what the kernel refused.
pub(super) trait OrFail<T> {
    /// Says what was attempted.
    fn or_fail(self, what: impl FnOnce() -> String) -> Result<T, Failure>;
}

impl<T> OrFail<T> for rustix::io::Result<T> {
    fn or_fail(self, what: impl FnOnce() -> String) -> Result<T, Failure> {
        self.map_err(|errno| Failure::kernel(errno, what()))
    }
}
