//! The directory of one life of one container, and who may stand in for it.

use std::os::fd::{AsRawFd as _, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, FlockOperation, Mode, OFlags, flock};
use rustix::io::{Errno, Result};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
use shim_proto::end::hello;
use shim_proto::message::{Failure, Hello};

use crate::fail::tolerate;
use crate::host::{self, ProcessId};
use crate::kernel;

/// How long the lock is tried for: a client that looks whether it is held holds it for an
/// instant itself.
const LOCK_MS: u64 = 500;
/// How long between two tries.
const LOCK_STEP_MS: u64 = 10;

/// What the command line says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Arguments {
    pub(crate) instance: String,
    pub(crate) key: String,
    pub(crate) incarnation: u64,
    pub(crate) directory: PathBuf,
    pub(crate) purpose: Purpose,
}

/// What a shim is started for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// Make the container.
    Launch,
    /// Take over what there is.
    Adopt,
}

impl Arguments {
    /// Reads `INSTANCE KEY.INCARNATION DIRECTORY launch|adopt`.
    pub(crate) fn parse(words: &[String]) -> Option<Self> {
        let [instance, mark, directory, mode] = words else {
            return None;
        };
        let (key, incarnation) = mark.split_once('.')?;
        let purpose = match mode.as_str() {
            "launch" => Purpose::Launch,
            "adopt" => Purpose::Adopt,
            _ => return None,
        };
        let is_label = shim_proto::init::is_process_name;
        let directory = PathBuf::from(directory);
        (is_label(instance) && is_label(key) && directory.is_absolute()).then_some(())?;
        Some(Self {
            instance: instance.clone(),
            key: key.into(),
            incarnation: incarnation.parse().ok()?,
            directory,
            purpose,
        })
    }
}

/// The one shim of a life.
#[derive(Debug)]
pub(crate) struct Life {
    /// Whom it answers for.
    pub(crate) me: Hello,
    /// Its directory.
    pub(crate) directory: PathBuf,
    /// It began in the version 2 cgroup of shims.
    pub(crate) born_in_place: bool,
    opened: OwnedFd,
    lock: OwnedFd,
    oom_score_before: i32,
}

impl Life {
    /// Takes the lock of the directory; none if another shim has it.
    pub(crate) fn take(arguments: &Arguments, born_in_place: bool) -> Result<Option<Self>> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let opened = rustix::fs::open(&arguments.directory, flags, Mode::empty())?;
        let facts = rustix::fs::fstat(&opened)?;
        if facts.st_uid != 0 || facts.st_mode & 0o077 != 0 {
            // Others could put sockets and records of their own there.
            return Err(Errno::PERM);
        }
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let lock = rustix::fs::openat(&opened, "shim.lock", flags, Mode::RUSR | Mode::WUSR)?;
        let until = host::boot_ms() + LOCK_MS;
        let mut is_contended = false;
        while let Err(errno) = flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            is_contended = true;
            if errno != Errno::WOULDBLOCK && errno != Errno::INTR {
                return Err(errno);
            }
            if host::boot_ms() >= until {
                return Ok(None);
            }
            let step = host::timespec(LOCK_STEP_MS);
            tolerate(rustix::event::poll(&mut [], Some(&step)));
        }
        if is_contended && arguments.directory.join("ended").exists() {
            // The one that had the lock was told to end meanwhile; so was this one.
            return Ok(None);
        }
        let me = hello(&arguments.instance, &arguments.key, arguments.incarnation);
        let directory = arguments.directory.clone();
        Ok(Some(Self {
            me,
            directory,
            born_in_place,
            opened,
            lock,
            oom_score_before: read_oom_score(),
        }))
    }

    /// Closes the lock in a copy of this process: it must end with the shim, not with the
    /// container.
    pub(crate) fn release_lock(&self) {
        let fd = self.lock.as_raw_fd().unsigned_abs();
        // The owner of the number lives in a process that goes on without ever dropping it.
        tolerate(kernel::close_range(fd, fd, false));
    }

    /// Makes the shim the last that a full memory costs, if the host allows it.
    pub(crate) fn protect(&self) {
        tolerate(host::write_word(
            Path::new("/proc/self/oom_score_adj"),
            "-999",
        ));
    }

    /// Gives a container's init the score asked for, or the one the shim had before it
    /// protected itself; a protection of the daemon is not passed on.
    pub(crate) fn give_oom_score(&self, pid: u32, asked: Option<i32>) {
        let score = asked.unwrap_or_else(|| self.oom_score_before.max(0));
        let path = format!("/proc/{pid}/oom_score_adj");
        if host::write_word(Path::new(&path), &score.to_string()).is_err() {
            // Going below what was given takes a right the host may not have; what can be
            // had is that the container is no better protected than the daemon was.
            let plain = self.oom_score_before.to_string();
            tolerate(host::write_word(Path::new(&path), &plain));
        }
    }

    /// Binds a socket of the directory, mode 0600. Whatever lay there is replaced: the lock
    /// says that nobody else may listen.
    pub(crate) fn bind(&self, name: &str) -> Result<OwnedFd> {
        match rustix::fs::unlinkat(&self.opened, name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(errno) => return Err(errno),
        }
        let socket = self.socket()?;
        rustix::net::bind(&socket, &self.address(name)?)?;
        let mode = Mode::RUSR | Mode::WUSR;
        rustix::fs::chmodat(&self.opened, name, mode, AtFlags::empty())?;
        Ok(socket)
    }

    /// Connects to a socket of the directory, without waiting.
    pub(crate) fn connect(&self, name: &str) -> Result<OwnedFd> {
        let socket = self.socket()?;
        rustix::net::connect(&socket, &self.address(name)?)?;
        Ok(socket)
    }

    /// Writes down why there is no container.
    pub(crate) fn write_failure(&self, failure: &Failure) {
        let bytes = prost::Message::encode_to_vec(failure);
        // If it cannot be written the daemon still sees that there is no shim.
        tolerate(host::write_whole(&self.directory, "failure", &bytes));
    }

    /// Returns why there is no container, if that was written down.
    pub(crate) fn read_failure(&self) -> Option<Failure> {
        let bytes = std::fs::read(self.directory.join("failure")).ok()?;
        prost::Message::decode(bytes.as_slice()).ok()
    }

    /// Writes down who this is.
    pub(crate) fn write_shim_id(&self) -> std::io::Result<()> {
        let pid = std::process::id();
        let start = host::start_time(pid).unwrap_or(0);
        host::write_id(&self.directory, "shim.id", ProcessId { pid, start })
    }

    /// Writes down that this life was ended on the daemon's word.
    pub(crate) fn write_ended(&self) {
        // If it cannot be written, a shim started at this very moment stays until it is told.
        tolerate(std::fs::write(self.directory.join("ended"), ""));
    }

    /// Returns whether the directory was removed.
    pub(crate) fn is_removed(&self) -> bool {
        rustix::fs::fstat(&self.opened).is_ok_and(|facts| facts.st_nlink == 0)
    }

    /// Removes a file of the directory, if it is there.
    pub(crate) fn remove(&self, name: &str) {
        tolerate(std::fs::remove_file(self.directory.join(name)));
    }

    fn socket(&self) -> Result<OwnedFd> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)
    }

    /// By descriptor, because a directory's own path may be longer than an address
    /// (`unix(7)`: 107 bytes).
    fn address(&self, name: &str) -> Result<SocketAddrUnix> {
        SocketAddrUnix::new(format!("/proc/self/fd/{}/{name}", self.opened.as_raw_fd()))
    }
}

fn read_oom_score() -> i32 {
    let text = host::read_small(Path::new("/proc/self/oom_score_adj"));
    text.ok()
        .and_then(|text| text.trim().parse().ok())
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(words: &[&str]) -> Option<Arguments> {
        Arguments::parse(&words.iter().map(|word| (*word).into()).collect::<Vec<_>>())
    }

    #[test]
    fn the_command_line_is_read_strictly() {
        let good = check(&["main", "web.3", "/run/x", "launch"]).unwrap();
        assert_eq!(
            (good.key.as_str(), good.incarnation, good.purpose),
            ("web", 3, Purpose::Launch)
        );
        for bad in [
            &["main", "web.3", "/run/x"][..],
            &["main", "web", "/run/x", "launch"],
            &["main", "web.x", "/run/x", "launch"],
            &["main", "web.3", "run/x", "launch"],
            &["main", "web.3", "/run/x", "go"],
            &["ma in", "web.3", "/run/x", "adopt"],
            &["main", "../web.3", "/run/x", "adopt"],
        ] {
            assert_eq!(check(bad), None, "{bad:?}");
        }
    }
}
