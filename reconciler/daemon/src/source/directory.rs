//! One look at a watched directory: every name listed, every candidate opened once.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;

use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, ResolveFlags, Stat};
use rustix::io::Errno;
use specs::id::Digest;

/// Largest spec file, in bytes; the parser has its own, lower bounds on what it holds.
pub(crate) const FILE_BYTES_MAX: u64 = 1 << 20;
/// Most names in one directory.
pub(crate) const NAMES_MAX: usize = 20_000;
/// Most ignored names that are shown.
const IGNORED_SHOWN_MAX: usize = 50;
/// A directory that changes while it is listed is listed again at once, so many times.
const RELIST_MAX: usize = 3;

/// Which directory it is, beyond its path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Identity {
    /// Device of the directory; anonymous devices get a new one with each mount.
    pub(crate) device: u64,
    /// Identifier of its file system (`statfs(2)`, `f_fsid`).
    pub(crate) file_system: u64,
    /// Inode of the directory.
    pub(crate) inode: u64,
}

impl Identity {
    /// Returns whether both are one directory, perhaps mounted again in between.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        self.inode == other.inode
            && (self.device == other.device
                || (self.file_system == other.file_system && self.file_system != 0))
    }
}

/// What one look saw.
#[derive(Clone, Debug)]
pub(crate) struct Look {
    /// Which directory it was.
    pub(crate) identity: Identity,
    /// Nothing changed in the directory while it was listed. Only then is a name that is not
    /// here not there.
    pub(crate) complete: bool,
    /// Candidates by file name.
    pub(crate) files: BTreeMap<String, Seen>,
    /// Names that are never specs, for display; cut at a bound.
    pub(crate) ignored: Vec<String>,
}

/// One candidate.
#[derive(Clone, Debug)]
pub(crate) enum Seen {
    /// A regular file, read whole from one descriptor.
    Text(Text),
    /// Something that is there and may not be read as a spec: why. Never its content.
    Refused(String),
}

/// A text and what proves that it has not moved since.
#[derive(Clone, Debug)]
pub(crate) struct Text {
    /// The bytes.
    pub(crate) bytes: Arc<[u8]>,
    /// What was read from where.
    pub(crate) stamp: Stamp,
    /// Owner of the file, by the descriptor that was read.
    pub(crate) owner: u32,
    /// The file changed while it was read.
    pub(crate) moving: bool,
    /// Its last change was to its name or owner, not to its content.
    pub(crate) renamed_last: bool,
}

/// Size, times and content: equal over two looks means nobody writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stamp {
    device: u64,
    inode: u64,
    size: u64,
    mtime: (i64, i64),
    ctime: (i64, i64),
    /// Digest of the content.
    pub(crate) digest: Digest,
}

/// A directory that could not be listed whole.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LookError {
    #[error("open the directory: {0}")]
    Open(#[source] Errno),
    #[error("list the directory: {0}")]
    List(#[source] Errno),
    #[error("the directory holds more than {NAMES_MAX} names")]
    TooMany,
    #[error("the directory was replaced while it was listed")]
    Replaced,
}

/// Returns whether a name can be a spec's: an allow list, so that no editor's or package
/// manager's leavings are ever read.
pub(crate) fn is_candidate(name: &str) -> bool {
    let plain = !name.starts_with(['.', '#', '~']);
    plain && (name.ends_with(".yaml") || name.ends_with(".yml"))
}

/// Returns which directory a path names now.
///
/// # Errors
/// When the path names no directory that can be opened.
pub(crate) fn identify(path: &Path) -> Result<Identity, LookError> {
    identity(&open_directory(path)?).map_err(LookError::Open)
}

/// Lists the directory and reads every candidate.
///
/// # Errors
/// When the directory cannot be opened or listed to the end: the caller knows nothing then.
pub(crate) fn look(path: &Path) -> Result<Look, LookError> {
    let mut look = look_once(path)?;
    for _ in 1..RELIST_MAX {
        if look.complete {
            break;
        }
        look = look_once(path)?;
    }
    Ok(look)
}

fn open_directory(path: &Path) -> Result<OwnedFd, LookError> {
    // The path is the administrator's own: a link in it is followed, so that a release can
    // be switched by a link.
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::openat(CWD, path, flags, Mode::empty()).map_err(LookError::Open)
}

fn identity(directory: &OwnedFd) -> Result<Identity, Errno> {
    let stat = rustix::fs::fstat(directory)?;
    let system = rustix::fs::fstatvfs(directory)?;
    Ok(Identity {
        device: stat.st_dev,
        file_system: system.f_fsid,
        inode: stat.st_ino,
    })
}

fn look_once(path: &Path) -> Result<Look, LookError> {
    let directory = open_directory(path)?;
    let before = rustix::fs::fstat(&directory).map_err(LookError::List)?;
    let identity = identity(&directory).map_err(LookError::Open)?;
    let (names, mut ignored) = list(&directory)?;
    let shared = before.st_mode & 0o022 != 0;
    let mut complete = true;
    let mut files = BTreeMap::new();
    for name in names {
        match read(&directory, &name, shared) {
            Ok(Some(seen)) => {
                files.insert(name, seen);
            }
            Ok(None) => ignored.push(name),
            // It went between the listing and the opening: that listing is no evidence.
            Err(Errno::NOENT) => complete = false,
            Err(err) => {
                files.insert(name, Seen::Refused(format!("it cannot be opened: {err}")));
            }
        }
    }
    let after = rustix::fs::fstat(&directory).map_err(LookError::List)?;
    if !self::identify(path)?.is_same(&identity) {
        return Err(LookError::Replaced);
    }
    complete &= times(&before) == times(&after) && after.st_nlink > 0;
    Ok(Look {
        identity,
        complete,
        files,
        ignored,
    })
}

fn list(directory: &OwnedFd) -> Result<(Vec<String>, Vec<String>), LookError> {
    let mut names = Vec::new();
    let mut ignored = Vec::new();
    let entries = Dir::read_from(directory).map_err(LookError::List)?;
    for (count, entry) in entries.enumerate() {
        let entry = entry.map_err(LookError::List)?;
        if count > NAMES_MAX {
            return Err(LookError::TooMany);
        }
        let raw = entry.file_name();
        let name = raw.to_string_lossy();
        if name == "." || name == ".." {
            continue;
        }
        if raw.to_str().is_ok() && is_candidate(&name) {
            names.push(name.into_owned());
        } else if ignored.len() < IGNORED_SHOWN_MAX {
            ignored.push(name.into_owned());
        }
    }
    names.sort();
    ignored.sort();
    Ok((names, ignored))
}

/// Reads one candidate; nothing of a directory, which is no file whatever it is called.
fn read(directory: &OwnedFd, name: &str, shared: bool) -> Result<Option<Seen>, Errno> {
    let refused = |why: String| Ok(Some(Seen::Refused(why)));
    // NONBLOCK: opening a FIFO without a writer, or a modem, does not wait (`open(2)`).
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let file = match rustix::fs::openat(directory, name, flags | OFlags::NOFOLLOW, Mode::empty()) {
        Err(Errno::LOOP) => match follow(directory, name, flags) {
            Ok(file) => file,
            Err(why) => return refused(why),
        },
        Err(Errno::NXIO) => return refused("it is a socket, not a regular file".into()),
        other => other?,
    };
    let before = rustix::fs::fstat(&file)?;
    if FileType::from_raw_mode(before.st_mode) == FileType::Directory {
        return Ok(None);
    }
    if let Some(why) = refusal(&before, shared) {
        return refused(why);
    }
    let file = std::fs::File::from(file);
    let mut bytes = Vec::new();
    if let Err(err) = (&file).take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes) {
        return refused(format!("it cannot be read: {err}"));
    }
    if bytes.len() as u64 > FILE_BYTES_MAX {
        return refused(too_large());
    }
    let after = rustix::fs::fstat(&file)?;
    let moving = times(&before) != times(&after) || after.st_size != bytes_len(&bytes);
    Ok(Some(Seen::Text(Text {
        stamp: stamp(&after, &bytes),
        bytes: bytes.into(),
        owner: after.st_uid,
        moving,
        renamed_last: times(&after).1 > times(&after).0,
    })))
}

/// Follows a link as long as it stays beneath the directory (`openat2(2)`,
/// `RESOLVE_BENEATH`): that is what a mounted ConfigMap looks like, and nothing else passes.
fn follow(directory: &OwnedFd, name: &str, flags: OFlags) -> Result<OwnedFd, String> {
    let beneath = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS | ResolveFlags::NO_XDEV;
    rustix::fs::openat2(directory, name, flags, Mode::empty(), beneath).map_err(|err| match err {
        Errno::XDEV => "it is a link that leaves the directory".into(),
        Errno::NOENT => "it is a link to nothing".into(),
        Errno::LOOP => "it is a link that goes in circles".into(),
        err => format!("it is a link that cannot be followed: {err}"),
    })
}

fn refusal(stat: &Stat, shared: bool) -> Option<String> {
    let kind = match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => None,
        FileType::Fifo => Some("a FIFO"),
        FileType::Socket => Some("a socket"),
        FileType::CharacterDevice | FileType::BlockDevice => Some("a device"),
        _ => Some("something else"),
    };
    if let Some(kind) = kind {
        return Some(format!("it is {kind}, not a regular file"));
    }
    if u64::try_from(stat.st_size).unwrap_or(u64::MAX) > FILE_BYTES_MAX {
        return Some(too_large());
    }
    if stat.st_mode & 0o002 != 0 {
        return Some("every user may write it, so nobody can be held to it: chmod o-w".into());
    }
    // A second name may have been made by a user who does not own the file, to speak with
    // the rights of the one who does.
    (shared && stat.st_nlink > 1).then(|| {
        "it has a second name (hard link), in a directory that others than its owner may write"
            .into()
    })
}

fn too_large() -> String {
    format!("it is larger than {} KiB", FILE_BYTES_MAX >> 10)
}

fn bytes_len(bytes: &[u8]) -> i64 {
    i64::try_from(bytes.len()).unwrap_or(i64::MAX)
}

type Times = ((i64, i64), (i64, i64));

fn times(stat: &Stat) -> Times {
    let nanos = |raw: u64| i64::try_from(raw).unwrap_or(i64::MAX);
    let mtime = (stat.st_mtime, nanos(stat.st_mtime_nsec));
    (mtime, (stat.st_ctime, nanos(stat.st_ctime_nsec)))
}

fn stamp(stat: &Stat, bytes: &[u8]) -> Stamp {
    let (mtime, ctime) = times(stat);
    Stamp {
        device: stat.st_dev,
        inode: stat.st_ino,
        size: u64::try_from(stat.st_size).unwrap_or(0),
        mtime,
        ctime,
        digest: Digest::of(bytes),
    }
}

/// Returns whether something at the path is a mount point's or a plain directory's content
/// that can be looked at; for messages only.
pub(crate) fn exists(path: &Path) -> bool {
    rustix::fs::statat(CWD, path, AtFlags::empty()).is_ok()
}
