//! A short-lived child that does one piece of work and sends its answer back.
//!
//! For work that has to join namespaces for good (`setns(2)` of a user namespace cannot be
//! undone) or may hang on a foreign file system. Only for single-threaded programs.
#![expect(unsafe_code, reason = "clone3 without exec has no safe wrapper")]

use std::os::fd::{AsFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::{Errno, Result};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{Signal, WaitId, WaitIdOptions};

/// Most bytes of an answer; fits a pipe at once, so that a child never waits to say it.
pub(crate) const ANSWER_BYTES_MAX: usize = 4096;
/// How long a killed child is waited for, in milliseconds.
const REAP_MS: i64 = 1000;

/// What became of an errand.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Errand {
    /// Its answer.
    Answered(Vec<u8>),
    /// It ended without one.
    Died,
    /// It was killed for taking too long.
    Late,
}

/// Runs `work` in a child process for at most `limit_ms` and gives its answer, cut to
/// [`ANSWER_BYTES_MAX`].
///
/// *Guarantees*: no `SIGCHLD` is sent and `waitpid(-1)` without `__WALL` does not see the
/// child; it dies with this process; nothing of the caller's stack runs twice.
///
/// # Errors
///
/// When no child or pipe can be made.
pub(crate) fn run(limit_ms: i64, work: impl FnOnce() -> Vec<u8>) -> Result<Errand> {
    let (reader, writer) = pipe_with(PipeFlags::CLOEXEC)?;
    let Some(child) = fork()? else {
        // Dropped by a panic too, so the caller's frames never unwind in the child.
        let end = EndOfChild;
        drop(reader);
        child(&writer, work);
        drop(end);
        unreachable!("BUG: the errand's child went on");
    };
    drop(writer);
    let errand = answer(reader.as_fd(), limit_ms)?;
    if errand == Errand::Late {
        // A child that is gone already is as good as a killed one.
        rustix::process::pidfd_send_signal(&child, Signal::KILL).unwrap_or(());
    }
    reap(child.as_fd())?;
    Ok(errand)
}

fn child(writer: &OwnedFd, work: impl FnOnce() -> Vec<u8>) {
    if rustix::process::set_parent_process_death_signal(Some(Signal::KILL)).is_err() {
        return;
    }
    let mut answer = work();
    answer.truncate(ANSWER_BYTES_MAX);
    let mut rest = answer.as_slice();
    while !rest.is_empty() {
        match rustix::io::write(writer, rest) {
            Ok(count) => rest = rest.get(count..).unwrap_or_default(),
            Err(Errno::INTR) => {}
            Err(_) => return,
        }
    }
}

fn answer(reader: BorrowedFd<'_>, limit_ms: i64) -> Result<Errand> {
    if !is_ready(reader, limit_ms)? {
        return Ok(Errand::Late);
    }
    let mut answer = vec![0; ANSWER_BYTES_MAX];
    let mut filled = 0;
    while let Some(room) = answer.get_mut(filled..).filter(|room| !room.is_empty()) {
        match rustix::io::read(reader, room) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
    }
    answer.truncate(filled);
    Ok(if filled == 0 {
        Errand::Died
    } else {
        Errand::Answered(answer)
    })
}

/// Waits for the child's end, but not for ever: one that hangs inside the kernel is left.
fn reap(child: BorrowedFd<'_>) -> Result<()> {
    if !is_ready(child, REAP_MS)? {
        return Ok(());
    }
    let options = WaitIdOptions::EXITED
        | WaitIdOptions::NOHANG
        | WaitIdOptions::from_bits_retain(libc::__WALL.cast_unsigned());
    match rustix::process::waitid(WaitId::PidFd(child), options) {
        Ok(_) | Err(Errno::CHILD) => Ok(()),
        Err(errno) => Err(errno),
    }
}

/// Waits until `fd` can be read or has hung up. A signal begins the wait anew, which only
/// lengthens it.
fn is_ready(fd: BorrowedFd<'_>, limit_ms: i64) -> Result<bool> {
    let limit = Timespec {
        tv_sec: limit_ms / 1000,
        tv_nsec: limit_ms % 1000 * 1_000_000,
    };
    loop {
        let mut fds = [PollFd::from_borrowed_fd(fd, PollFlags::IN)];
        match poll(&mut fds, Some(&limit)) {
            Ok(count) => return Ok(count > 0),
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
    }
}

/// Ends the process it is dropped in, without running anything of the parent's.
struct EndOfChild;

impl Drop for EndOfChild {
    fn drop(&mut self) {
        // SAFETY: ends the process; nothing of it is used afterwards.
        // JUSTIFICATION: std's exit runs handlers that belong to the parent.
        unsafe { libc::_exit(0) }
    }
}

/// `clone3(2)` like `fork(2)`, with a pidfd and without an exit signal. `None` in the child.
fn fork() -> Result<Option<OwnedFd>> {
    let mut pidfd: RawFd = -1;
    // SAFETY: `clone_args` is plain numbers, for which all zeroes is the documented default.
    // JUSTIFICATION: it has fields that differ between releases of libc.
    let mut args: libc::clone_args = unsafe { std::mem::zeroed() };
    args.flags = u64::from(libc::CLONE_PIDFD.cast_unsigned());
    args.pidfd = (&raw mut pidfd).addr() as u64;
    // SAFETY: no CLONE_VM, so the child has its own copy of this stack; the program has one
    // thread, so no lock is held by a thread that the child lacks; `args` and `pidfd` outlive
    // the call and the size is the true one.
    // JUSTIFICATION: no crate wraps clone3, and fork(2) gives neither pidfd nor signal choice.
    let result = unsafe {
        libc::syscall(
            libc::SYS_clone3,
            &raw mut args,
            size_of::<libc::clone_args>(),
        )
    };
    match result {
        0 => Ok(None),
        pid if pid > 0 => {
            // SAFETY: the kernel has just put an open descriptor here that nobody else owns.
            // JUSTIFICATION: that is how CLONE_PIDFD hands it over.
            Ok(Some(unsafe { OwnedFd::from_raw_fd(pidfd) }))
        }
        _ => Err(std::io::Error::last_os_error()
            .raw_os_error()
            .map_or(Errno::IO, Errno::from_raw_os_error)),
    }
}
