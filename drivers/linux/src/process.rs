//! Processes by (pid, start time), held by pidfd while they are acted on.

use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use driver_api::ProcessId;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use crate::text;

/// What `/proc/PID/stat` says (`proc_pid_stat(5)`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stat {
    /// Field 3.
    pub(crate) state: u8,
    /// Field 22, clock ticks since boot.
    pub(crate) start: u64,
}

/// Returns a path below `/proc/PID`.
pub(crate) fn proc_path(pid: u32, name: &str) -> PathBuf {
    PathBuf::from(format!("/proc/{pid}/{name}"))
}

/// Parses `/proc/PID/stat`; the name in field 2 is chosen by the process and may hold
/// anything, so fields are counted from the last `)`.
pub(crate) fn parse_stat(text: &str) -> Option<Stat> {
    let (_, rest) = text.rsplit_once(')')?;
    let mut fields = rest.split_ascii_whitespace();
    let state = *fields.next()?.as_bytes().first()?;
    Some(Stat {
        state,
        start: fields.nth(18)?.parse().ok()?,
    })
}

/// Returns what `stat` says, `None` when there is no such process.
pub(crate) fn stat(pid: u32) -> io::Result<Option<Stat>> {
    match text::read(&proc_path(pid, "stat"))? {
        None => Ok(None),
        Some(line) => parse_stat(&line)
            .map(Some)
            .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "unreadable stat line")),
    }
}

/// Returns whether this very process lives. A zombie does not.
pub(crate) fn is_alive(id: ProcessId) -> io::Result<bool> {
    Ok(stat(id.pid)?
        .is_some_and(|stat| stat.start == id.start && !matches!(stat.state, b'Z' | b'X')))
}

/// Returns a descriptor of this very process, `None` when it is gone.
pub(crate) fn open(id: ProcessId) -> io::Result<Option<OwnedFd>> {
    let Some(pid) = i32::try_from(id.pid).ok().and_then(Pid::from_raw) else {
        return Ok(None);
    };
    let fd = match pidfd_open(pid, PidfdFlags::empty()) {
        Ok(fd) => fd,
        Err(rustix::io::Errno::SRCH) => return Ok(None),
        // A thread that leads no group, or a zombie leader of one that goes on.
        Err(rustix::io::Errno::INVAL) => return Ok(None),
        Err(err) => return Err(err.into()),
    };
    // Checked after the descriptor pins the process, so the pid cannot have been reused.
    Ok(is_alive(id)?.then_some(fd))
}

/// Kills this very process; says whether it was there.
pub(crate) fn kill(id: ProcessId) -> io::Result<bool> {
    let Some(fd) = open(id)? else {
        return Ok(false);
    };
    match pidfd_send_signal(&fd, Signal::KILL) {
        Ok(()) => Ok(true),
        Err(rustix::io::Errno::SRCH) => Ok(false),
        Err(err) => Err(err.into()),
    }
}

/// Reads a `PID START` file; `None` when it is not there.
///
/// # Errors
/// When it can't be read or holds something else: half-written is not absent.
pub(crate) fn read_id(path: &Path) -> io::Result<Option<ProcessId>> {
    let Some(line) = text::read(path)? else {
        return Ok(None);
    };
    let mut words = line.split_ascii_whitespace();
    let id = match (words.next(), words.next(), words.next()) {
        (Some(pid), Some(start), None) => pid
            .parse()
            .ok()
            .zip(start.parse().ok())
            .map(|(pid, start)| ProcessId { pid, start }),
        _ => None,
    };
    id.map(Some)
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "not a process identity"))
}

/// Returns every process id in `/proc`.
pub(crate) fn all() -> io::Result<Vec<u32>> {
    let mut pids = Vec::new();
    for entry in std::fs::read_dir("/proc")? {
        let name = entry?.file_name();
        if let Some(pid) = name.to_str().and_then(|name| name.parse().ok()) {
            pids.push(pid);
        }
    }
    Ok(pids)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hostile_process_name_does_not_shift_the_fields() {
        let tail = "S 1 1 1 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 4242 9 9";
        for name in ["sh", "a) R 1 2 3", "x\n) Z (", "))))", ""] {
            let line = format!("77 ({name}) {tail}");
            assert_eq!(
                parse_stat(&line),
                Some(Stat {
                    state: b'S',
                    start: 4242
                }),
                "{name:?}"
            );
        }
        assert_eq!(parse_stat("77 (sh) S 1"), None);
        assert_eq!(parse_stat(""), None);
    }

    #[test]
    fn a_pid_with_another_start_time_is_somebody_else() {
        let pid = std::process::id();
        let start = stat(pid).unwrap().unwrap().start;
        assert!(is_alive(ProcessId { pid, start }).unwrap());
        assert!(
            !is_alive(ProcessId {
                pid,
                start: start + 1
            })
            .unwrap()
        );
        assert!(open(ProcessId { pid, start }).unwrap().is_some());
        assert!(
            open(ProcessId {
                pid,
                start: start + 1
            })
            .unwrap()
            .is_none()
        );
        assert!(
            !kill(ProcessId {
                pid,
                start: start + 1
            })
            .unwrap()
        );
    }

    #[test]
    fn a_half_written_identity_is_not_absent() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("init.id");
        assert_eq!(read_id(&path).unwrap(), None);
        for bad in ["", "12", "12 x", "12 13 14", "-1 3"] {
            std::fs::write(&path, bad).unwrap();
            assert!(read_id(&path).is_err(), "{bad:?}");
        }
        std::fs::write(&path, "12 13\n").unwrap();
        assert_eq!(
            read_id(&path).unwrap(),
            Some(ProcessId { pid: 12, start: 13 })
        );
    }
}
