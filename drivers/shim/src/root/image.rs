//! An upper layer that is limited by the size of an ext4 image: mounted nowhere, on a loop
//! device that goes with its last mount.

use std::ffi::OsStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;

use rustix::fs::{CWD, Dir, FileType, FlockOperation, Mode, OFlags, flock, fstat, openat};
use rustix::io::Errno;
use rustix::mount::MountAttrFlags;

use super::failure::{Failure, OrFail};
use super::object::{Parameter, filesystem};
use crate::sys::loops;

/// Tries for a device: each other one was taken, or went, between two calls.
const TRIES: u32 = 32;

/// Mounts an image, attached nowhere.
///
/// *Guarantees*: one image is never on two devices, which would be two file systems on the
/// same bytes: where a mount of an earlier life lasts, its device is used and the kernel gives
/// the file system that is there.
///
/// # Errors
///
/// When it is no regular file, or as the kernel says.
pub(super) fn mounted(path: &str) -> Result<OwnedFd, Failure> {
    let what = format!("cannot mount the image {path}");
    let open = |flags: OFlags| {
        let flags = flags | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        openat(CWD, path, flags, Mode::empty()).or_fail(|| what.clone())
    };
    // Of a description of its own: the device keeps the other one.
    let lock = open(OFlags::RDONLY)?;
    flock(&lock, FlockOperation::NonBlockingLockExclusive).map_err(|errno| {
        let failure = Failure::kernel(errno, what.clone());
        failure.because("another supervisor is at it")
    })?;
    let file = open(OFlags::RDWR)?;
    let stat = fstat(&file).or_fail(|| what.clone())?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return Err(Failure::terminal(what, "it is no regular file"));
    }
    let identity = (stat.st_dev, stat.st_ino);
    let mut busy = Errno::BUSY;
    for _try in 0..TRIES {
        let taken = match in_use(path, identity).or_fail(|| what.clone())? {
            Some(device) => Ok(device),
            None => attached(file.as_fd()),
        };
        match taken {
            // The device is held until the mount does.
            Ok((device, node)) => {
                let mounted = ext4(&node)?;
                drop(device);
                return Ok(mounted);
            }
            Err(errno @ (Errno::BUSY | Errno::NXIO)) => busy = errno,
            Err(errno) => {
                let failure = Failure::kernel(errno, what);
                return Err(failure.because("no loop device can be had"));
            }
        }
    }
    Err(Failure::kernel(busy, what)
        .because("every loop device was taken")
        .may_pass())
}

fn ext4(node: &str) -> Result<OwnedFd, Failure> {
    let parameters = [
        Parameter::Text("source", node.to_owned()),
        Parameter::Text("errors", "remount-ro".to_owned()),
        // What is deleted inside is given back to the host.
        Parameter::Flag("discard"),
        // Unused tables read as zeros already: writing them would only fill the host's disk.
        Parameter::Flag("noinit_itable"),
    ];
    filesystem("ext4", &parameters, MountAttrFlags::empty())
}

/// Puts the file on a free device.
fn attached(file: BorrowedFd<'_>) -> rustix::io::Result<(OwnedFd, String)> {
    let control = openat(
        CWD,
        "/dev/loop-control",
        OFlags::RDWR | OFlags::CLOEXEC,
        Mode::empty(),
    )?;
    let node = format!("/dev/loop{}", loops::free(control.as_fd())?);
    let device = open_device(&node)?;
    loops::configure(device.as_fd(), file)?;
    Ok((device, node))
}

/// Returns the device that has this file already, held open.
fn in_use(path: &str, identity: (u64, u64)) -> rustix::io::Result<Option<(OwnedFd, String)>> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let blocks = openat(CWD, "/sys/block", flags, Mode::empty())?;
    let leaf = path.rsplit('/').next().unwrap_or(path);
    for entry in Dir::read_from(&blocks)? {
        let entry = entry?;
        let name = OsStr::from_bytes(entry.file_name().to_bytes());
        let Some(name) = name.to_str().filter(|name| name.starts_with("loop")) else {
            continue;
        };
        let backing = format!("/sys/block/{name}/loop/backing_file");
        // Without a file there is no such directory.
        let Ok(text) = std::fs::read_to_string(backing) else {
            continue;
        };
        if !text.trim_end().contains(leaf) {
            continue;
        }
        let node = format!("/dev/{name}");
        let Ok(device) = open_device(&node) else {
            continue;
        };
        // Asked of what is open: it cannot be cleared any more.
        if loops::file_of(device.as_fd()) == Ok(identity) {
            return Ok(Some((device, node)));
        }
    }
    Ok(None)
}

fn open_device(node: &str) -> rustix::io::Result<OwnedFd> {
    openat(CWD, node, OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())
}
