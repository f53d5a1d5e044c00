//! Growing an image under a living container.

use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::Path;

use driver_api::{Outcome, StepError, StepFailure};
use rustix::fs::{Mode, OFlags, fstatvfs, openat};
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsconfig_set_string, fsmount,
    fsopen,
};
use specs::units::Bytes;

use super::superblock::Superblock;
use super::{Access, BLOCK, INODES_OWN, image, loops, open};
use crate::error::{During as _, failure, retry};
use crate::{caps, sys};

/// Grows an image that is mounted to so many bytes.
///
/// *Guarantees:* file, device and file system are brought along one after the other, so a
/// crash between two is seen as the smaller size and mended by the next call.
///
/// # Errors
/// `Retry` with the figures when it would have to be made smaller, or would get more inodes
/// than are allowed: it then needs a root made anew.
pub(crate) fn grow(
    directory: &Path,
    leaf: &str,
    bytes: u64,
    inodes: Option<u64>,
) -> Result<Outcome, StepError> {
    let what = || format!("set limits.disk of {leaf} to {}", Bytes(bytes));
    let path = image(directory);
    let file = open(&path, Access::Grow).during(what)?;
    let length = file.metadata().during(what)?.len();
    let Some(device) = loops::of(&file).during(what)? else {
        return Err(retry(what(), "its image is not mounted"));
    };
    let now = Superblock::read(&device.file).during(what)?;
    let blocks = bytes / BLOCK;
    let in_it = mount(&device.node).during(what)?;
    if blocks.saturating_mul(BLOCK) < length {
        return Err(too_small(what(), &in_it, length));
    }
    refuse_inodes(what, &now, blocks, inodes)?;
    if now.bytes() == blocks.saturating_mul(BLOCK) {
        return Ok(Outcome::AlreadyDone);
    }
    refuse_without_capability(what)?;
    file.set_len(blocks.saturating_mul(BLOCK)).during(what)?;
    sys::loops::take_size(device.file.as_fd()).during(what)?;
    sys::loops::resize_ext4(in_it.as_fd(), blocks).during(what)?;
    Ok(Outcome::Done)
}

/// Opens the root of the file system on a device. The kernel gives the one that is mounted.
fn mount(node: &str) -> io::Result<OwnedFd> {
    let context = fsopen("ext4", FsOpenFlags::FSOPEN_CLOEXEC)?;
    fsconfig_set_string(context.as_fd(), "source", node)?;
    fsconfig_create(context.as_fd())?;
    let flags = FsMountFlags::FSMOUNT_CLOEXEC;
    let mount = fsmount(context.as_fd(), flags, MountAttrFlags::empty())?;
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    Ok(openat(&mount, ".", flags, Mode::empty())?)
}

fn too_small(what: String, in_it: &OwnedFd, length: u64) -> StepError {
    let used = match fstatvfs(in_it) {
        Ok(found) => {
            let blocks = found.f_blocks.saturating_sub(found.f_bfree);
            let bytes = blocks.saturating_mul(found.f_frsize);
            format!("{} of them are in use", Bytes(bytes / BLOCK * BLOCK))
        }
        Err(_) => "how much of it is in use is not known".to_owned(),
    };
    StepError::Retry(StepFailure {
        hint: Some(
            "an image is never made smaller: raise limits.disk.bytes again, or delete the \
             container and apply it anew"
                .to_owned(),
        ),
        ..failure(what, format!("its image has {}, {used}", Bytes(length)))
    })
}

/// Before anything is touched: the kernel asks last for what the last act needs
/// (`ext4_resize_begin` in `fs/ext4/resize.c`).
fn refuse_without_capability(what: impl Fn() -> String) -> Result<(), StepError> {
    let bit = caps::bit("SYS_RESOURCE").unwrap_or(0);
    if caps::own()?.effective & bit != 0 {
        return Ok(());
    }
    Err(StepError::Retry(StepFailure {
        errno: Some(libc::EPERM),
        hint: Some("start the daemon with CAP_SYS_RESOURCE".to_owned()),
        ..failure(what(), "without CAP_SYS_RESOURCE no mounted image can grow")
    }))
}

/// An image that grows gets whole groups, each with its part of inodes.
fn refuse_inodes(
    what: impl Fn() -> String,
    now: &Superblock,
    blocks: u64,
    inodes: Option<u64>,
) -> Result<(), StepError> {
    let Some(inodes) = inodes else {
        return Ok(());
    };
    let after = now.inodes_with(blocks).saturating_sub(INODES_OWN);
    if (inodes..=inodes + now.grain_with(blocks)).contains(&after) {
        return Ok(());
    }
    Err(StepError::Retry(StepFailure {
        hint: Some(
            "delete the container and apply it anew, or leave limits.disk.inodes out".to_owned(),
        ),
        ..failure(
            what(),
            format!("its image would have {after} inodes, {inodes} are asked for"),
        )
    }))
}
