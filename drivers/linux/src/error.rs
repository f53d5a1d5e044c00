//! How failures become words and classes.

use std::error::Error;
use std::io;

use driver_api::{Gap, StepError, StepFailure};

/// Returns an error and its causes as one line.
pub(crate) fn words(err: &dyn Error) -> String {
    let mut text = err.to_string();
    let mut cause = err.source();
    while let Some(inner) = cause {
        let more = inner.to_string();
        if !text.ends_with(&more) {
            text.push_str(": ");
            text.push_str(&more);
        }
        cause = inner.source();
    }
    text
}

/// Returns the first `errno` among an error and its causes.
pub(crate) fn errno_of(err: &(dyn Error + 'static)) -> Option<i32> {
    let mut at = Some(err);
    while let Some(inner) = at {
        if let Some(code) = inner
            .downcast_ref::<io::Error>()
            .and_then(io::Error::raw_os_error)
        {
            return Some(code);
        }
        at = inner.source();
    }
    None
}

/// Returns a gap in what is observed.
pub(crate) fn gap(what: impl Into<String>, err: &dyn Error) -> Gap {
    Gap {
        what: what.into(),
        why: words(err),
    }
}

/// Returns a failure in words, with no class yet.
pub(crate) fn failure(what: impl Into<String>, cause: impl Into<String>) -> StepFailure {
    StepFailure {
        what: what.into(),
        cause: cause.into(),
        errno: None,
        hint: None,
    }
}

/// Returns a failure that trying again cannot mend, and what a person should do about it.
pub(crate) fn terminal(
    what: impl Into<String>,
    cause: impl Into<String>,
    hint: impl Into<String>,
) -> StepError {
    StepError::Terminal(StepFailure {
        hint: Some(hint.into()),
        ..failure(what, cause)
    })
}

/// Returns a failure that may go away by itself.
pub(crate) fn retry(what: impl Into<String>, cause: impl Into<String>) -> StepError {
    StepError::Retry(failure(what, cause))
}

/// Classifies a failed system call.
///
/// What the kernel can't do it can't do later either; anything else may pass.
pub(crate) fn failed(what: impl Into<String>, err: &(dyn Error + 'static)) -> StepError {
    let errno = errno_of(err);
    let failure = StepFailure {
        errno,
        ..failure(what, words(err))
    };
    match errno {
        Some(libc::EINVAL | libc::ENOSYS | libc::EOPNOTSUPP | libc::ENAMETOOLONG) => {
            StepError::Terminal(failure)
        }
        _ => StepError::Retry(failure),
    }
}

/// Names what was attempted when a result is an error.
pub(crate) trait During<T> {
    /// Turns an error into a classified one.
    fn during(self, what: impl FnOnce() -> String) -> Result<T, StepError>;
}

impl<T> During<T> for Result<T, io::Error> {
    fn during(self, what: impl FnOnce() -> String) -> Result<T, StepError> {
        self.map_err(|err| failed(what(), &err))
    }
}

impl<T> During<T> for Result<T, rustix::io::Errno> {
    fn during(self, what: impl FnOnce() -> String) -> Result<T, StepError> {
        self.map_err(|err| failed(what(), &io::Error::from(err)))
    }
}

impl<T> During<T> for Result<T, cgroups_rs::fs::error::Error> {
    fn during(self, what: impl FnOnce() -> String) -> Result<T, StepError> {
        self.map_err(|err| failed(what(), &err))
    }
}
