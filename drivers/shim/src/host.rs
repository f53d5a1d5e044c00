//! Facts about processes, read from `/proc`, and small files of the life's directory.

use std::fs;
use std::io::Read as _;
use std::os::fd::{AsFd, AsRawFd as _, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};
use rustix::io::{Errno, Result};
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use shim_proto::launch::CgroupDirectory;

/// Most bytes of a small file that are looked at.
const SMALL_BYTES_MAX: u64 = 4096;
/// Place of the process group in `stat`, counted behind the name (`proc_pid_stat(5)`).
pub(crate) const STAT_GROUP: usize = 2;
/// Place of the session in `stat`, counted behind the name.
pub(crate) const STAT_SESSION: usize = 3;
/// Place of the start time, field 22, in `stat`, counted behind the name.
const STAT_START: usize = 19;

/// A process that cannot be mistaken for another while the host is up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ProcessId {
    /// Host pid.
    pub(crate) pid: u32,
    /// Field 22 of its `stat`.
    pub(crate) start: u64,
}

/// Returns milliseconds of `CLOCK_BOOTTIME`.
pub(crate) fn boot_ms() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    let seconds = u64::try_from(now.tv_sec).unwrap_or(0);
    let nanoseconds = u64::try_from(now.tv_nsec).unwrap_or(0);
    seconds * 1000 + nanoseconds / 1_000_000
}

/// Returns the numbered field of a `stat` text, counted behind the name, which may itself
/// hold spaces and parentheses.
pub(crate) fn stat_field(stat: &str, field: usize) -> Option<u64> {
    let (_, behind) = stat.rsplit_once(')')?;
    behind.split_ascii_whitespace().nth(field)?.parse().ok()
}

/// Returns the start time of a process.
pub(crate) fn start_time(pid: u32) -> Option<u64> {
    let stat = read_small(Path::new(&format!("/proc/{pid}/stat"))).ok()?;
    stat_field(&stat, STAT_START)
}

/// Returns who is behind a pidfd; none once it is reaped.
pub(crate) fn identify(pidfd: &OwnedFd) -> Option<ProcessId> {
    let facts = read_small(Path::new(&format!(
        "/proc/self/fdinfo/{}",
        pidfd.as_raw_fd()
    )))
    .ok()?;
    let line = facts.lines().find_map(|line| line.strip_prefix("Pid:"))?;
    let pid: u32 = line.trim().parse().ok().filter(|pid| *pid > 0)?;
    let start = start_time(pid)?;
    Some(ProcessId { pid, start })
}

/// Returns a pidfd of the process, if that one still lives.
pub(crate) fn find(id: ProcessId) -> Option<OwnedFd> {
    let pid = Pid::from_raw(i32::try_from(id.pid).ok()?)?;
    let pidfd = pidfd_open(pid, PidfdFlags::NONBLOCK).ok()?;
    // Looked at after the pidfd was opened: if it is the same process now, the pidfd is its.
    (start_time(id.pid) == Some(id.start) && !has_ended(&pidfd)).then_some(pidfd)
}

/// Returns whether the process behind a pidfd has ended.
pub(crate) fn has_ended(pidfd: impl AsFd) -> bool {
    is_readable(pidfd, 0)
}

/// Returns whether a descriptor becomes readable, or its other end closes, within that time.
pub(crate) fn is_readable(fd: impl AsFd, timeout_ms: u64) -> bool {
    use rustix::event::{PollFd, PollFlags, poll};
    let until = boot_ms() + timeout_ms;
    loop {
        let mut fds = [PollFd::new(&fd, PollFlags::IN)];
        let left = timespec(until.saturating_sub(boot_ms()));
        match poll(&mut fds, Some(&left)) {
            Ok(0) => return false,
            Err(Errno::INTR) => {}
            Ok(_) | Err(_) => return true,
        }
    }
}

/// Returns that many milliseconds as the kernel takes them.
pub(crate) fn timespec(ms: u64) -> rustix::event::Timespec {
    let tv_sec = i64::try_from(ms / 1000).unwrap_or(i64::MAX);
    let tv_nsec = i64::try_from(ms % 1000 * 1_000_000).unwrap_or(0);
    rustix::event::Timespec { tv_sec, tv_nsec }
}

/// Writes `PID START`.
pub(crate) fn write_id(directory: &Path, name: &str, id: ProcessId) -> std::io::Result<()> {
    write_whole(
        directory,
        name,
        format!("{} {}\n", id.pid, id.start).as_bytes(),
    )
}

/// Reads `PID START`.
pub(crate) fn read_id(directory: &Path, name: &str) -> Option<ProcessId> {
    let text = read_small(&directory.join(name)).ok()?;
    let (pid, start) = text.trim_end().split_once(' ')?;
    Some(ProcessId {
        pid: pid.parse().ok()?,
        start: start.parse().ok()?,
    })
}

/// Writes a file so that a reader finds all of it or what was there before.
pub(crate) fn write_whole(directory: &Path, name: &str, bytes: &[u8]) -> std::io::Result<()> {
    let beside: PathBuf = directory.join(format!("{name}.new"));
    fs::write(&beside, bytes)?;
    fs::rename(&beside, directory.join(name))
}

/// Reads the beginning of a small file.
pub(crate) fn read_small(path: &Path) -> std::io::Result<String> {
    let mut text = String::new();
    fs::File::open(path)?
        .take(SMALL_BYTES_MAX)
        .read_to_string(&mut text)?;
    Ok(text)
}

/// Writes a word to a file of the kernel.
pub(crate) fn write_word(path: &Path, word: &str) -> Result<()> {
    let file = rustix::fs::open(path, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())?;
    rustix::io::write(&file, word.as_bytes()).map(|_| ())
}

/// Moves a process, 0 being this one, into a cgroup.
///
/// To move a whole process the kernel waits until no thread is made anywhere, which takes some
/// ten milliseconds (`cgroup_procs_write_start`). For a thread that moves itself it does not
/// since 5.5, and this program is one thread; version 2 has no such way.
pub(crate) fn join_cgroup(directory: &CgroupDirectory, pid: u32) -> Result<()> {
    let tasks = Path::new(&directory.path).join("tasks");
    if pid == 0 && !directory.unified && write_word(&tasks, "0").is_ok() {
        return Ok(());
    }
    write_word(
        &Path::new(&directory.path).join("cgroup.procs"),
        &pid.to_string(),
    )
}

/// Returns whether a pipe has no reader left.
pub(crate) fn is_deserted(pipe: &OwnedFd) -> bool {
    let mut watched = [rustix::event::PollFd::new(
        pipe,
        rustix::event::PollFlags::empty(),
    )];
    let now = timespec(0);
    rustix::event::poll(&mut watched, Some(&now)).is_ok_and(|count| count > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_cannot_forge_the_fields_behind_it() {
        let stat = "7 (a) S 1 1) R 2 3 4 0 -1 0 0 0 0 0 0 0 0 0 20 0 1 0 99 0";
        assert_eq!(stat_field(stat, STAT_GROUP), Some(3));
        assert_eq!(stat_field(stat, STAT_SESSION), Some(4));
        assert_eq!(stat_field(stat, STAT_START), Some(99));
        assert_eq!(stat_field("7 (a", 1), None);
    }

    #[test]
    fn a_process_is_found_by_pid_and_start_only() {
        let pid = std::process::id();
        let start = start_time(pid).unwrap();
        let pidfd = find(ProcessId { pid, start }).unwrap();
        assert_eq!(identify(&pidfd), Some(ProcessId { pid, start }));
        assert!(
            find(ProcessId {
                pid,
                start: start + 1
            })
            .is_none()
        );
    }
}
