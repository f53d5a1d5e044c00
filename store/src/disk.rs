//! The files beside the engine: lock, whole-file writes, ballast, quarantine.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use rustix::fs::{FallocateFlags, FlockOperation, fallocate, flock, statvfs};
use rustix::io::Errno;

/// Damaged engines kept.
const KEPT_ASIDE: usize = 4;
const TEMPORARY: &str = "tmp";
/// A child of the last holder has its files between `fork(2)` and `execve(2)`.
const LOCK_TRIES: u32 = 20;
const LOCK_PAUSE: Duration = Duration::from_millis(5);

/// Why the lock was not taken.
#[derive(Debug)]
pub(crate) enum LockError {
    /// Somebody has it; by its own word, this process.
    Held(Option<u32>),
    Io(io::Error),
}

/// Makes the directory if it is not there.
pub(crate) fn make_directory(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(path)
}

/// Takes the lock and writes our pid into it. It lasts as long as the file is open; being
/// close-on-exec (as all of std's files are), it is in no program that we start.
pub(crate) fn lock(directory: &Path) -> Result<File, LockError> {
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(directory.join("lock"))
        .map_err(LockError::Io)?;
    let mut taken = flock(&file, FlockOperation::NonBlockingLockExclusive);
    for _ in 1..LOCK_TRIES {
        if taken != Err(Errno::WOULDBLOCK) {
            break;
        }
        thread::sleep(LOCK_PAUSE);
        taken = flock(&file, FlockOperation::NonBlockingLockExclusive);
    }
    match taken {
        Ok(()) => {}
        Err(Errno::WOULDBLOCK) => {
            let mut text = String::new();
            let holder = match file.read_to_string(&mut text) {
                Ok(_) => text.trim().parse().ok(),
                Err(_) => None,
            };
            return Err(LockError::Held(holder));
        }
        Err(errno) => return Err(LockError::Io(errno.into())),
    }
    match write_pid(&mut file) {
        // A full disk may not keep a daemon from starting; the lock holds without the text.
        Err(error) if error.kind() != io::ErrorKind::StorageFull => Err(LockError::Io(error)),
        _ => Ok(file),
    }
}

fn write_pid(file: &mut File) -> io::Result<()> {
    file.set_len(0)?;
    file.write_all(format!("{}\n", std::process::id()).as_bytes())
}

/// Fails for an open file that was removed: what is written to it is gone with this process.
pub(crate) fn check_named(file: &File) -> io::Result<()> {
    if file.metadata()?.nlink() == 0 {
        return Err(io::Error::new(
            io::ErrorKind::NotFound,
            "the file was removed",
        ));
    }
    Ok(())
}

/// Replaces a file as a whole; after a power cut it is the old one or the new one.
pub(crate) fn write_whole(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let temporary = path.with_extension(TEMPORARY);
    let written = create(&temporary)
        .and_then(|mut file| {
            file.write_all(bytes)?;
            file.sync_all()
        })
        .and_then(|()| fs::rename(&temporary, path));
    if let Err(error) = written {
        // What is left of it would only take room; the cause is the error that is returned.
        drop(fs::remove_file(&temporary));
        return Err(error);
    }
    match path.parent() {
        Some(parent) => sync_directory(parent),
        None => Ok(()),
    }
}

/// Makes a file anew, for its owner only.
pub(crate) fn create(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(path)
}

/// Makes names in a directory durable.
pub(crate) fn sync_directory(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

/// Returns a file's bytes, or nothing if it is not there.
pub(crate) fn read_if_there(path: &Path) -> io::Result<Option<Vec<u8>>> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Removes a file; one that is not there is removed.
pub(crate) fn remove_if_there(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Returns the names in a directory.
pub(crate) fn names(directory: &Path) -> io::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(directory)? {
        names.push(entry?.file_name().to_string_lossy().into_owned());
    }
    names.sort();
    Ok(names)
}

/// Removes what a crash left of [`write_whole`].
pub(crate) fn remove_temporaries(directory: &Path) -> io::Result<()> {
    for name in names(directory)? {
        if name.ends_with(".tmp") {
            remove_if_there(&directory.join(name))?;
        }
    }
    Ok(())
}

/// Returns whether a directory exists and has anything in it.
pub(crate) fn has_entries(path: &Path) -> io::Result<bool> {
    match fs::read_dir(path) {
        Ok(mut entries) => Ok(entries.next().is_some()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// Removes a directory with all in it; one that is not there is removed.
pub(crate) fn remove_tree(path: &Path) -> io::Result<()> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Renames `directory/name` to `name.bad-N` and returns where it went.
pub(crate) fn move_aside(directory: &Path, name: &str) -> io::Result<PathBuf> {
    let prefix = format!("{name}.bad-");
    let mut numbers: Vec<u64> = names(directory)?
        .iter()
        .filter_map(|name| name.strip_prefix(&prefix)?.parse().ok())
        .collect();
    numbers.sort_unstable();
    let next = numbers.last().map_or(1, |last| last.saturating_add(1));
    let to = directory.join(format!("{prefix}{next}"));
    fs::rename(directory.join(name), &to)?;
    sync_directory(directory)?;
    let surplus = (numbers.len() + 1).saturating_sub(KEPT_ASIDE);
    for number in numbers.into_iter().take(surplus) {
        remove_tree(&directory.join(format!("{prefix}{number}")))?;
    }
    Ok(to)
}

/// Returns the bytes that may still be written below `directory`.
pub(crate) fn free_bytes(directory: &Path) -> io::Result<u64> {
    let figures = statvfs(directory)?;
    Ok(figures.f_bavail.saturating_mul(figures.f_frsize))
}

/// Takes `bytes` of the disk for a worse day, if `spare` more stay free. Returns whether the
/// ballast is there.
pub(crate) fn hold_ballast(directory: &Path, bytes: u64, spare: u64) -> io::Result<bool> {
    let path = directory.join("ballast");
    match fs::metadata(&path) {
        Ok(metadata) if metadata.len() == bytes => return Ok(bytes > 0),
        Ok(_) => fs::remove_file(&path)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    if bytes == 0 || free_bytes(directory)? < bytes.saturating_add(spare) {
        return Ok(false);
    }
    let file = create(&path)?;
    let taken = match fallocate(&file, FallocateFlags::empty(), 0, bytes) {
        // A file system without fallocate(2) gets its blocks by being written to.
        Err(Errno::OPNOTSUPP) => {
            io::copy(&mut io::repeat(0xb5).take(bytes), &mut &file).and_then(|_| file.sync_all())
        }
        result => result.map_err(io::Error::from),
    };
    match taken {
        Ok(()) => Ok(true),
        Err(error) => {
            fs::remove_file(&path)?;
            Err(error)
        }
    }
}

/// Gives the ballast back.
pub(crate) fn free_ballast(directory: &Path) -> io::Result<()> {
    remove_if_there(&directory.join("ballast"))?;
    // Only after a journal commit are the blocks for others to take.
    sync_directory(directory)
}

/// Returns 32 hex digits that nobody has drawn before.
pub(crate) fn draw_id() -> io::Result<String> {
    let mut bytes = [0; 16];
    File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(format!("{:032x}", u128::from_le_bytes(bytes)))
}
