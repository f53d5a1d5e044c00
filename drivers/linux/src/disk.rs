//! What limits the writes to a root: an ext4 image of the asked size, beside the directories
//! it takes the place of.
//!
//! ```text
//! .disk.img.partial ─ mkfs.ext4, rename ─▶ disk.img ─ the shim ─▶ loop device, mounted nowhere
//! ```
//!
//! What is there decides, and not what was asked for: a persistent root stays what it was
//! first made. A device goes with its last mount (`LO_FLAGS_AUTOCLEAR`), so nothing of this is
//! left on the host when a container, its supervisor or the daemon ends.

mod grow;
mod loops;
mod make;
mod superblock;

use std::fs::File;
use std::io;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use driver_api::{DiskBackend, DiskObserved, Fact, ProcessId};
use rustix::fs::statvfs;
use specs::usage::DiskUsage;

pub(crate) use grow::grow;
pub(crate) use make::{MKFS, Wanted, make, mkfs};

use crate::error::gap;
use crate::process;
use superblock::Superblock;

/// Name of the image in the directory of an upper layer.
const IMAGE: &str = "disk.img";
/// Bytes of a block of every image.
const BLOCK: u64 = 4096;
/// Inodes that are not the container's: those that ext4 keeps (11), `upper`, `work`, and what
/// overlay makes in `work`.
const INODES_OWN: u64 = 16;

/// Returns where the image of an upper layer is, if it has one.
pub(crate) fn image(directory: &Path) -> PathBuf {
    directory.join(IMAGE)
}

/// Returns whether an upper layer has an image.
pub(crate) fn has_image(directory: &Path) -> io::Result<bool> {
    match std::fs::symlink_metadata(image(directory)) {
        Ok(_) => Ok(true),
        Err(err) if err.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(err) => Err(err),
    }
}

/// Returns what limits an upper layer, as its file system says.
pub(crate) fn observe(directory: &Path, leaf: &str) -> Fact<DiskObserved> {
    match look(directory) {
        Ok(Some(seen)) => Fact::Known(seen),
        Ok(None) => Fact::Absent,
        Err(err) => Fact::Unknown(gap(format!("read the image of {leaf}"), &err)),
    }
}

fn look(directory: &Path) -> io::Result<Option<DiskObserved>> {
    let file = match open(&image(directory), Access::Look) {
        Ok(file) => file,
        Err(err) if err.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(err) => return Err(err),
    };
    let length = file.metadata()?.len();
    let mut found = Superblock::read(&file)?;
    // While it is mounted the newest may be in the device's memory only.
    if found.bytes() != length
        && let Some(device) = loops::of(&file)?
    {
        found = Superblock::read(&device.file)?;
    }
    Ok(Some(DiskObserved {
        backend: DiskBackend::Image,
        bytes: found.bytes().min(length),
        inodes: Some(found.inodes.saturating_sub(INODES_OWN)),
        inodes_grain: found.grain(),
    }))
}

/// Returns what the image of an upper layer holds; none without an image. What counts against
/// the limit is known while it is mounted: the root of `init` is the file system above it.
pub(crate) fn usage(directory: &Path, init: Option<ProcessId>) -> Option<DiskUsage> {
    let meta = std::fs::symlink_metadata(image(directory)).ok()?;
    let seen = look(directory).ok().flatten()?;
    let mounted = init.and_then(|init| statvfs(process::proc_path(init.pid, "root")).ok());
    // It may have ended between the two calls, and its number been given away.
    let mounted = mounted.filter(|_| {
        let lives = init.map(process::is_alive);
        matches!(lives, Some(Ok(true)))
    });
    let bytes = mounted.as_ref().map(|found| {
        let blocks = found.f_blocks.saturating_sub(found.f_bfree);
        blocks.saturating_mul(found.f_frsize)
    });
    let inodes = mounted.map(|found| found.f_files.saturating_sub(found.f_ffree));
    Some(DiskUsage {
        total_bytes: bytes,
        exclusive_bytes: Some(meta.blocks().saturating_mul(512)),
        limit_bytes: Some(seen.bytes),
        inodes: inodes.map(|inodes| inodes.saturating_sub(INODES_OWN)),
        limit_inodes: seen.inodes,
    })
}

/// Opens an image, not through a link.
fn open(path: &Path, to: Access) -> io::Result<File> {
    let mut options = File::options();
    options.read(true).write(to == Access::Grow);
    let file = options.custom_flags(libc::O_NOFOLLOW).open(path)?;
    if file.metadata()?.is_file() {
        Ok(file)
    } else {
        Err(io::Error::other("it is no regular file"))
    }
}

/// What an image is opened for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Access {
    Look,
    Grow,
}
