//! One file of an archive is made.

use std::io::Read;
use std::os::fd::{AsFd as _, BorrowedFd};

use rustix::fs::{
    AtFlags, FileType, Gid, Mode, OFlags, StatxFlags, Timespec, Timestamps, UTIME_OMIT, Uid,
    XattrFlags, fchmod, fchown, fsetxattr, ftruncate, futimens, openat, renameat, statx, unlinkat,
};
use rustix::io::{Errno, Result as SysResult, pwrite};

use crate::attributes::is_kept;
use crate::entry::{Entry, Kind};
use crate::error::CopyError;
use crate::reader::Reader;
use crate::resolve::Side;
use crate::sparse::Part;

/// Bytes moved at once.
pub(crate) const CHUNK_BYTES: usize = 256 << 10;
/// Names that are tried for what is to take another's place.
const NAMES_MAX: u32 = 64;

/// What a file may be given.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rights {
    pub(crate) side: Side,
    /// Whose it becomes; else of who makes it.
    pub(crate) owner: Option<(u32, u32)>,
}

/// Makes a file. What has its name is replaced once all of it is there.
pub(crate) fn make(
    parent: BorrowedFd<'_>,
    name: &[u8],
    entry: &Entry,
    rights: Rights,
    reader: &mut Reader<impl Read>,
    chunk: &mut [u8],
) -> Result<(), CopyError> {
    let open = |name: &[u8]| {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW;
        let mode = Mode::RUSR | Mode::WUSR;
        openat(parent, name, flags | OFlags::CLOEXEC, mode)
    };
    let refused = |errno| CopyError::at("make", &entry.path)(errno);
    let (file, made) = match open(name) {
        Ok(file) => (file, name.to_vec()),
        Err(Errno::EXIST) => {
            refuse_directory(parent, name, &entry.path)?;
            beside(open).map_err(refused)?
        }
        Err(errno) => return Err(refused(errno)),
    };
    let filled =
        fill(file.as_fd(), entry, reader, chunk).and_then(|()| dress(file.as_fd(), entry, rights));
    // An attribute that is not taken is told, and the file stands.
    let trouble = match filled {
        Err(err) if !matches!(err, CopyError::Unfit { .. }) => {
            return Err(given_up(parent, &made, err));
        }
        told => told,
    };
    if made != name {
        renameat(parent, made.as_slice(), parent, name)
            .map_err(|errno| given_up(parent, &made, refused(errno)))?;
    }
    trouble
}

/// Takes away what was begun.
fn given_up(parent: BorrowedFd<'_>, made: &[u8], err: CopyError) -> CopyError {
    // What cannot be taken away either is the lesser trouble.
    unlinkat(parent, made, AtFlags::empty()).unwrap_or_default();
    err
}

fn fill(
    file: BorrowedFd<'_>,
    entry: &Entry,
    reader: &mut Reader<impl Read>,
    chunk: &mut [u8],
) -> Result<(), CopyError> {
    let whole = [Part {
        offset: 0,
        length: entry.size,
    }];
    let parts = entry
        .sparse
        .as_ref()
        .map_or(&whole[..], |sparse| &sparse.parts);
    for part in parts {
        let mut at = part.offset;
        let end = part.offset + part.length;
        while at < end {
            let wanted = usize::try_from(end - at).unwrap_or(usize::MAX);
            let wanted = wanted.min(chunk.len());
            let count = reader.data(chunk.get_mut(..wanted).unwrap_or_default())?;
            let mut bytes = chunk.get(..count).unwrap_or_default();
            while !bytes.is_empty() {
                match pwrite(file, bytes, at) {
                    Ok(count) => {
                        at += count as u64;
                        bytes = bytes.get(count..).unwrap_or_default();
                    }
                    Err(Errno::INTR) => {}
                    Err(errno) => return Err(CopyError::at("write", &entry.path)(errno)),
                }
            }
        }
    }
    if let Some(sparse) = &entry.sparse {
        ftruncate(file, sparse.size).map_err(CopyError::at("write", &entry.path))?;
    }
    Ok(())
}

/// Gives a file or directory its owner, attributes, mode and time, in the order in which none
/// takes another away (`chown(2)` clears set-user-id bits and capabilities).
pub(crate) fn dress(file: BorrowedFd<'_>, entry: &Entry, rights: Rights) -> Result<(), CopyError> {
    if let Some((uid, gid)) = rights.owner {
        fchown(file, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)))
            .map_err(CopyError::at("give its owner to", &entry.path))?;
    }
    let given = give_attributes(file, entry, rights.side);
    // What runs with its owner's rights would do so on the host.
    let bits = match (rights.side, entry.kind) {
        (Side::Host, Kind::File) => 0o1777,
        _ => 0o7777,
    };
    fchmod(file, Mode::from_raw_mode(entry.mode & bits))
        .map_err(CopyError::at("set the mode of", &entry.path))?;
    futimens(file, &times(entry)).map_err(CopyError::at("set the time of", &entry.path))?;
    given
}

/// Gives a file or directory its extended attributes, where its file system has any.
pub(crate) fn give_attributes(
    file: BorrowedFd<'_>,
    entry: &Entry,
    side: Side,
) -> Result<(), CopyError> {
    let mut given = Ok(());
    for (name, value) in entry.attributes.iter().filter(|(name, _)| is_kept(name)) {
        if side == Side::Host && !name.starts_with(b"user.") {
            continue;
        }
        match fsetxattr(file, name.as_slice(), value, XattrFlags::empty()) {
            Ok(()) | Err(Errno::OPNOTSUPP) => {}
            Err(_) => {
                let why = "was not given all of its extended attributes";
                given = Err(CopyError::unfit(&entry.path, why));
            }
        }
    }
    given
}

/// Returns the times to set: the last change only.
pub(crate) fn times(entry: &Entry) -> Timestamps {
    Timestamps {
        last_access: Timespec {
            tv_sec: 0,
            tv_nsec: UTIME_OMIT,
        },
        last_modification: Timespec {
            tv_sec: entry.mtime.0,
            tv_nsec: entry.mtime.1.into(),
        },
    }
}

/// Makes what has no content, in the place of what has its name; a directory is not replaced.
pub(crate) fn put(
    parent: BorrowedFd<'_>,
    name: &[u8],
    shown: &[u8],
    make: impl Fn(&[u8]) -> SysResult<()>,
) -> Result<(), CopyError> {
    let refused = CopyError::at("make", shown);
    match make(name) {
        Err(Errno::EXIST) => refuse_directory(parent, name, shown)?,
        told => return told.map_err(refused),
    }
    let ((), made) = beside(make).map_err(&refused)?;
    let renamed = renameat(parent, made.as_slice(), parent, name);
    // Also when both are one file, which `rename(2)` leaves as they are.
    unlinkat(parent, made.as_slice(), AtFlags::empty()).unwrap_or_default();
    renamed.map_err(refused)
}

/// Makes something under a name that is free.
fn beside<T>(make: impl Fn(&[u8]) -> SysResult<T>) -> SysResult<(T, Vec<u8>)> {
    let own = rustix::process::getpid().as_raw_nonzero();
    for number in 0..NAMES_MAX {
        let name = format!(".reconciler-cp.{own}.{number}").into_bytes();
        match make(&name) {
            Err(Errno::EXIST) => {}
            told => return told.map(|made| (made, name)),
        }
    }
    Err(Errno::EXIST)
}

fn refuse_directory(parent: BorrowedFd<'_>, name: &[u8], shown: &[u8]) -> Result<(), CopyError> {
    let found = statx(parent, name, AtFlags::SYMLINK_NOFOLLOW, StatxFlags::TYPE);
    let is_directory = found
        .is_ok_and(|found| FileType::from_raw_mode(found.stx_mode.into()) == FileType::Directory);
    if is_directory {
        return Err(CopyError::unfit(
            shown,
            "stands in the place of a directory",
        ));
    }
    Ok(())
}
