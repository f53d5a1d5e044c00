//! Failures in the words that the daemon passes on.

use rustix::io::Errno;
use shim_proto::message::Failure;

use crate::root::FailureKind;

/// Says that the kernel refused something: lack of a resource may pass, all else needs a
/// person.
pub(crate) fn kernel(what: impl Into<String>, errno: Errno) -> Failure {
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
        | Errno::SRCH
        | Errno::TIMEDOUT
        | Errno::TXTBSY
        | Errno::USERS => FailureKind::Retry,
        _ => FailureKind::Terminal,
    };
    let (what, errno) = (what.into(), errno.raw_os_error());
    Failure {
        kind: kind as i32,
        what,
        errno,
        cause: String::new(),
        no_such_command: false,
    }
}

/// Says that a person must act.
pub(crate) fn terminal(what: impl Into<String>, cause: impl Into<String>) -> Failure {
    shim_proto::init::failure(FailureKind::Terminal, what, cause)
}

/// Says that it may work later.
pub(crate) fn retry(what: impl Into<String>, cause: impl Into<String>) -> Failure {
    shim_proto::init::failure(FailureKind::Retry, what, cause)
}

/// Says that the asker's picture is old.
pub(crate) fn stale(what: impl Into<String>, cause: impl Into<String>) -> Failure {
    shim_proto::init::failure(FailureKind::Stale, what, cause)
}

/// Says that the request makes no sense.
pub(crate) fn unknown(what: impl Into<String>, cause: impl Into<String>) -> Failure {
    shim_proto::init::failure(FailureKind::Unknown, what, cause)
}

/// Passes on what the root's assembly said.
pub(crate) fn of_root(failure: crate::root::Failure) -> Failure {
    let crate::root::Failure {
        kind,
        what,
        errno,
        cause,
    } = failure;
    Failure {
        kind: kind as i32,
        what,
        errno,
        cause,
        no_such_command: false,
    }
}

/// Goes on whatever came of it. The caller says why that is right.
pub(crate) fn tolerate<T, E>(_outcome: Result<T, E>) {}
