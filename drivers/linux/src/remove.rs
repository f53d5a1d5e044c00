//! Removal of a tree that hostile programs filled: by descriptor, never over a mount, a
//! bounded part at a time.

use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use driver_api::Deadline;
use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

use crate::clock::left_ms;

/// Most entries removed by one call.
pub(crate) const ENTRIES_MAX: u32 = 50_000;
/// Deepest descent by nested descriptors; what lies deeper is first moved up.
const DEPTH_MAX: usize = 64;
/// Directories noted in one look at a listing.
const PENDING_MAX: usize = 256;
/// Entries between two looks at the clock.
const LOOK_AT_CLOCK: u32 = 256;

/// How far a removal got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Removed {
    /// There was nothing.
    Nothing,
    /// All of it.
    All,
    /// A part; call again.
    Part,
}

/// Why a tree could not be removed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RemoveError {
    /// Something is mounted inside, which is not ours to touch.
    #[error("something is mounted on {0} inside of it")]
    Mounted(String),
    /// A system call failed.
    #[error("{what} {name}")]
    Io {
        /// What was attempted.
        what: &'static str,
        /// On which name.
        name: String,
        /// Why.
        #[source]
        source: io::Error,
    },
}

struct Level {
    fd: OwnedFd,
    name: CString,
    pending: Vec<CString>,
}

struct Walk {
    levels: Vec<Level>,
    left: u32,
    moved: u64,
    deadline: Deadline,
}

fn fail(what: &'static str, name: &CStr, err: Errno) -> RemoveError {
    let name = name.to_string_lossy().into_owned();
    match err {
        Errno::XDEV | Errno::BUSY => RemoveError::Mounted(name),
        err => RemoveError::Io {
            what,
            name,
            source: err.into(),
        },
    }
}

fn open_below(parent: BorrowedFd<'_>, name: &CStr) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_XDEV | ResolveFlags::NO_SYMLINKS;
    rustix::fs::openat2(parent, name, flags, Mode::empty(), resolve)
}

fn unlink(parent: BorrowedFd<'_>, name: &CStr, flags: AtFlags) -> Result<bool, RemoveError> {
    match rustix::fs::unlinkat(parent, name, flags) {
        Ok(()) => Ok(true),
        Err(Errno::NOENT) => Ok(false),
        Err(err) => Err(fail("remove", name, err)),
    }
}

/// Removes `name` below `parent`, whatever it is.
///
/// *Guarantees:* nothing outside of it is touched; no symbolic link is followed; a mount
/// inside stops it before anything below that mount is looked at.
pub(crate) fn remove(
    parent: &Path,
    name: &str,
    deadline: Deadline,
) -> Result<Removed, RemoveError> {
    let c_name = CString::new(name).map_err(|err| RemoveError::Io {
        what: "remove",
        name: name.to_owned(),
        source: err.into(),
    })?;
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let parent_fd = rustix::fs::open(parent, flags, Mode::empty())
        .map_err(|err| fail("open the parent of", &c_name, err))?;
    let top = match open_below(parent_fd.as_fd(), &c_name) {
        Ok(top) => top,
        Err(Errno::NOENT) => return Ok(Removed::Nothing),
        Err(Errno::NOTDIR | Errno::LOOP) => {
            unlink(parent_fd.as_fd(), &c_name, AtFlags::empty())?;
            return Ok(Removed::All);
        }
        Err(err) => return Err(fail("open", &c_name, err)),
    };
    let level = Level {
        fd: top,
        name: c_name.clone(),
        pending: Vec::new(),
    };
    let mut walk = Walk {
        levels: vec![level],
        left: ENTRIES_MAX,
        moved: 0,
        deadline,
    };
    if !walk.empty()? {
        return Ok(Removed::Part);
    }
    unlink(parent_fd.as_fd(), &c_name, AtFlags::REMOVEDIR)?;
    Ok(Removed::All)
}

impl Walk {
    /// Empties the topmost directory; false when the call's share is used up.
    fn empty(&mut self) -> Result<bool, RemoveError> {
        while let Some(level) = self.levels.last_mut() {
            if let Some(name) = level.pending.pop() {
                if !self.descend(name)? {
                    return Ok(false);
                }
                continue;
            }
            if !self.clear_files()? {
                return Ok(false);
            }
            let Some(level) = self.levels.last() else {
                break;
            };
            if level.pending.is_empty() {
                if self.levels.len() == 1 {
                    return Ok(true);
                }
                let done = self.levels.pop();
                if let (Some(done), Some(up)) = (done, self.levels.last()) {
                    unlink(up.fd.as_fd(), &done.name, AtFlags::REMOVEDIR)?;
                }
            }
        }
        Ok(true)
    }

    /// Takes one entry off the call's share.
    fn spend(&mut self) -> bool {
        self.left = self.left.saturating_sub(1);
        let is_time_up = self.left.is_multiple_of(LOOK_AT_CLOCK) && left_ms(self.deadline) == 0;
        self.left > 0 && !is_time_up
    }

    /// Goes into a directory of the deepest level, or moves it up when that is too deep.
    fn descend(&mut self, name: CString) -> Result<bool, RemoveError> {
        if !self.spend() {
            return Ok(false);
        }
        let depth = self.levels.len();
        let (Some(top), Some(level)) = (self.levels.first(), self.levels.last()) else {
            return Ok(true);
        };
        if depth >= DEPTH_MAX {
            // The name is free: a taken one fails with EXIST or NOTEMPTY, then the next.
            self.moved += 1;
            let up = format!(".moved-{}-{}", std::process::id(), self.moved);
            return match rustix::fs::renameat(&level.fd, &name, &top.fd, up.as_str()) {
                Ok(()) | Err(Errno::NOENT) => Ok(true),
                Err(Errno::EXIST | Errno::NOTEMPTY | Errno::NOTDIR) => Ok(true),
                Err(err) => Err(fail("move up", &name, err)),
            };
        }
        match open_below(level.fd.as_fd(), &name) {
            Ok(fd) => self.levels.push(Level {
                fd,
                name,
                pending: Vec::new(),
            }),
            Err(Errno::NOENT) => {}
            Err(Errno::NOTDIR | Errno::LOOP) => {
                unlink(level.fd.as_fd(), &name, AtFlags::empty())?;
            }
            Err(err) => return Err(fail("open", &name, err)),
        }
        Ok(true)
    }

    /// Removes what is no directory in the deepest level, and notes what is one.
    fn clear_files(&mut self) -> Result<bool, RemoveError> {
        let Some(level) = self.levels.last() else {
            return Ok(true);
        };
        let name = level.name.clone();
        let listing = |err| fail("list", &name, err);
        let mut entries = Dir::read_from(&level.fd).map_err(listing)?;
        // A fresh look from the start: earlier ones moved the shared offset.
        entries.rewind();
        let mut pending = Vec::new();
        while let Some(entry) = entries.read() {
            let entry = entry.map_err(listing)?;
            let entry_name = entry.file_name();
            if matches!(entry_name.to_bytes(), b"." | b"..") {
                continue;
            }
            if matches!(entry.file_type(), FileType::Directory | FileType::Unknown) {
                pending.push(entry_name.to_owned());
                if pending.len() >= PENDING_MAX {
                    break;
                }
                continue;
            }
            let Some(level) = self.levels.last() else {
                break;
            };
            unlink(level.fd.as_fd(), entry_name, AtFlags::empty())?;
            if !self.spend() {
                return Ok(false);
            }
        }
        if let Some(level) = self.levels.last_mut() {
            level.pending = pending;
        }
        Ok(true)
    }
}
