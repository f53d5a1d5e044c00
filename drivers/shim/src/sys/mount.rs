//! The mount calls that rustix does not wrap, and safe names for those it marks unsafe.
#![expect(unsafe_code, reason = "mount_setattr and unshare have no safe wrapper")]

use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use rustix::io::{Errno, Result};
use rustix::mount::MountAttrFlags;
use rustix::thread::UnshareFlags;

/// What `mount_setattr(2)` shall do, one field per effect.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Change<'a> {
    /// Flags to be set.
    pub(crate) set: MountAttrFlags,
    /// Flags to be taken away.
    pub(crate) clear: MountAttrFlags,
    /// How mounts and unmounts spread from and to it.
    pub(crate) propagation: Propagation,
    /// Show ids through this user namespace (`MOUNT_ATTR_IDMAP`, Linux 5.12).
    pub(crate) id_map: Option<BorrowedFd<'a>>,
    /// With every mount below.
    pub(crate) recursive: bool,
}

/// How mounts spread; `mount_namespaces(7)`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Propagation {
    /// As it is.
    Keep,
    /// Neither in nor out.
    Private,
    /// In, not out.
    Slave,
}

impl Change<'_> {
    /// Changes nothing; the base that others are written from.
    pub(crate) const NONE: Change<'static> = Change {
        set: MountAttrFlags::empty(),
        clear: MountAttrFlags::empty(),
        propagation: Propagation::Keep,
        id_map: None,
        recursive: false,
    };
}

/// `struct mount_attr` of `linux/mount.h`, version 0 (32 bytes).
#[repr(C)]
struct MountAttr {
    attr_set: u64,
    attr_clr: u64,
    propagation: u64,
    userns_fd: u64,
}

/// Changes the mount that `mount` is the root of (`mount_setattr(2)`, Linux 5.12).
///
/// # Errors
///
/// As the kernel says: among others `EINVAL` when a file system cannot be id-mapped, `EPERM`
/// when it already is or a flag is locked.
pub(crate) fn change_mount(mount: BorrowedFd<'_>, change: &Change<'_>) -> Result<()> {
    let mut attr = MountAttr {
        attr_set: u64::from(change.set.bits()),
        attr_clr: u64::from(change.clear.bits()),
        propagation: match change.propagation {
            Propagation::Keep => 0,
            Propagation::Private => libc::MS_PRIVATE,
            Propagation::Slave => libc::MS_SLAVE,
        },
        userns_fd: 0,
    };
    if let Some(userns) = change.id_map {
        attr.attr_set |= u64::from(MountAttrFlags::MOUNT_ATTR_IDMAP.bits());
        attr.userns_fd = u64::try_from(userns.as_raw_fd()).map_err(|_| Errno::BADF)?;
    }
    let mut flags = libc::AT_EMPTY_PATH;
    if change.recursive {
        flags |= libc::AT_RECURSIVE;
    }
    // SAFETY: the path is a constant C string, `attr` lives through the call and its true
    // size is passed, the descriptors are borrowed and so open.
    // JUSTIFICATION: neither rustix nor nix wraps mount_setattr.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_fd().as_raw_fd(),
            c"".as_ptr(),
            flags,
            &raw const attr,
            size_of::<MountAttr>(),
        )
    };
    if result == 0 {
        Ok(())
    } else {
        Err(last_error())
    }
}

/// Gives this process a mount namespace of its own.
///
/// # Errors
///
/// As `unshare(2)` with `CLONE_NEWNS`.
pub(crate) fn unshare_mounts() -> Result<()> {
    // SAFETY: only CLONE_FILES endangers other threads' descriptors, and it is not asked for.
    // JUSTIFICATION: rustix marks every use of unshare unsafe because of CLONE_FILES.
    unsafe { rustix::thread::unshare_unsafe(UnshareFlags::NEWNS) }
}

fn last_error() -> Errno {
    std::io::Error::last_os_error()
        .raw_os_error()
        .map_or(Errno::IO, Errno::from_raw_os_error)
}
