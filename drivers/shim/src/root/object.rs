//! Mounts that are not attached anywhere yet: each is one descriptor, and gone with it.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{CWD, FileType, OFlags, fstat};
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MoveMountFlags, OpenTreeFlags, fsconfig_create,
    fsconfig_set_flag, fsconfig_set_string, fsmount, fsopen, move_mount, open_tree,
};
use shim_proto::launch::{Bind, IdRange, Mount, MountSource, Tmpfs};

use super::failure::{Failure, OrFail};
use super::resolve::{Footing, open_beneath, open_host};
use crate::sys::mount::{Change, Propagation, change_mount};

/// `nosuid,nodev`.
pub(super) const NO_SUID_DEV: MountAttrFlags =
    MountAttrFlags::MOUNT_ATTR_NOSUID.union(MountAttrFlags::MOUNT_ATTR_NODEV);
/// `nosuid,nodev,noexec`.
pub(super) const NO_SUID_DEV_EXEC: MountAttrFlags =
    NO_SUID_DEV.union(MountAttrFlags::MOUNT_ATTR_NOEXEC);
/// `nosuid,noexec`.
pub(super) const NO_SUID_EXEC: MountAttrFlags =
    MountAttrFlags::MOUNT_ATTR_NOSUID.union(MountAttrFlags::MOUNT_ATTR_NOEXEC);
/// `ro`.
pub(super) const READ_ONLY: MountAttrFlags = MountAttrFlags::MOUNT_ATTR_RDONLY;

/// One parameter of a file system.
#[derive(Clone, Debug)]
pub(super) enum Parameter {
    /// By itself.
    Flag(&'static str),
    /// With a value.
    Text(&'static str, String),
}

/// Makes a new file system of `kind` and mounts it nowhere.
///
/// # Errors
///
/// As the kernel says; `EPERM` for `proc` and `sysfs` also when the host has covered a part
/// of its own.
pub(super) fn filesystem(
    kind: &str,
    parameters: &[Parameter],
    attributes: MountAttrFlags,
) -> Result<OwnedFd, Failure> {
    let what = || format!("cannot make a new {kind}");
    let context = fsopen(kind, FsOpenFlags::FSOPEN_CLOEXEC).or_fail(what)?;
    let is_source = |parameter: &Parameter| matches!(parameter, Parameter::Text("source", _));
    if !parameters.iter().any(is_source) {
        fsconfig_set_string(&context, "source", kind).or_fail(what)?;
    }
    for parameter in parameters {
        match parameter {
            Parameter::Flag(name) => fsconfig_set_flag(&context, *name),
            Parameter::Text(name, value) => fsconfig_set_string(&context, *name, value.as_str()),
        }
        .map_err(|errno| Failure::kernel(errno, what()).because(format!("{parameter:?}")))?;
    }
    let refused = |errno| {
        let failure = Failure::kernel(errno, what());
        if errno == Errno::PERM && matches!(kind, "proc" | "sysfs") {
            failure.because("a part of the host's own is covered, or the namespace is another's")
        } else {
            failure
        }
    };
    fsconfig_create(&context).map_err(refused)?;
    fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, attributes).map_err(refused)
}

/// Makes a tmpfs that belongs to root of `ids`.
///
/// # Errors
///
/// When its size is 0, which the kernel takes as unlimited, and as [`filesystem`].
pub(super) fn tmpfs(
    size: &Tmpfs,
    ids: Option<IdRange>,
    attributes: MountAttrFlags,
) -> Result<OwnedFd, Failure> {
    if size.bytes == 0 {
        return Err(Failure::terminal(
            "cannot make a new tmpfs",
            "its size limit is 0",
        ));
    }
    let base = ids.map_or(0, |ids| ids.base).to_string();
    let parameters = [
        Parameter::Text("size", size.bytes.to_string()),
        Parameter::Text("mode", format!("{:o}", size.mode & 0o7777)),
        Parameter::Text("uid", base.clone()),
        Parameter::Text("gid", base),
    ];
    filesystem("tmpfs", &parameters, attributes)
}

/// A mount not attached yet, and what it can stand on.
pub(super) struct Object {
    pub(super) mount: OwnedFd,
    pub(super) footing: Footing,
}

/// Who sees a bind's ids how.
#[derive(Clone, Copy)]
pub(super) struct Ids<'a> {
    pub(super) range: Option<IdRange>,
    pub(super) userns: Option<BorrowedFd<'a>>,
}

/// Makes what `mount` asks for.
///
/// # Errors
///
/// When a source is missing (may pass), leaves its allowed root, or cannot be id-mapped.
pub(super) fn object(mount: &Mount, ids: Ids<'_>) -> Result<Object, Failure> {
    let what = format!("cannot mount {}", mount.path);
    match &mount.source {
        Some(MountSource::Bind(bind)) => bound(bind, mount.read_only, ids, &what),
        Some(MountSource::Tmpfs(size)) => {
            let mut attributes = NO_SUID_DEV;
            attributes.set(READ_ONLY, mount.read_only);
            let mount = tmpfs(size, ids.range, attributes)
                .map_err(|failure| Failure { what, ..failure })?;
            Ok(Object {
                mount,
                footing: Footing::Directory,
            })
        }
        // Of a running container only: there is nothing to be covered before.
        Some(MountSource::Cover(_)) | None => Err(Failure::terminal(what, "it has no source")),
    }
}

fn bound(bind: &Bind, read_only: bool, ids: Ids<'_>, what: &str) -> Result<Object, Failure> {
    let source = if bind.beneath.is_empty() {
        open_host(&bind.source, OFlags::empty(), what)?
    } else {
        open_beneath(&bind.beneath, &bind.source, what)?
    };
    let footing = Footing::of(source.as_fd(), what)?;
    let mount = cloned(source.as_fd(), bind.recursive, what)?;
    let mut set = NO_SUID_DEV;
    set.set(READ_ONLY, read_only);
    let change = Change {
        set,
        propagation: if bind.slave {
            Propagation::Slave
        } else {
            Propagation::Private
        },
        recursive: bind.recursive,
        ..Change::NONE
    };
    change_mount(mount.as_fd(), &change).or_fail(|| what.to_owned())?;
    if let (true, Some(userns)) = (bind.id_mapped, ids.userns) {
        id_map(mount.as_fd(), userns, bind.recursive, &bind.source, what)?;
    }
    Ok(Object { mount, footing })
}

/// Clones the mount at `place` and attaches the clone nowhere.
///
/// # Errors
///
/// As `open_tree(2)`.
pub(super) fn cloned(
    place: BorrowedFd<'_>,
    recursive: bool,
    what: &str,
) -> Result<OwnedFd, Failure> {
    let mut flags = OpenTreeFlags::OPEN_TREE_CLONE
        | OpenTreeFlags::OPEN_TREE_CLOEXEC
        | OpenTreeFlags::AT_EMPTY_PATH;
    flags.set(OpenTreeFlags::AT_RECURSIVE, recursive);
    open_tree(place, "", flags).or_fail(|| what.to_owned())
}

/// Shows the ids of a cloned mount through `userns`.
///
/// # Errors
///
/// When a file system in it cannot be; the failure names `path` and why.
pub(super) fn id_map(
    mount: BorrowedFd<'_>,
    userns: BorrowedFd<'_>,
    recursive: bool,
    path: &str,
    what: &str,
) -> Result<(), Failure> {
    let change = Change {
        id_map: Some(userns),
        recursive,
        ..Change::NONE
    };
    change_mount(mount, &change).map_err(|errno| {
        let why = match errno {
            Errno::INVAL if recursive => "its file system, or one mounted below it, cannot be",
            Errno::INVAL => "its file system cannot be",
            Errno::PERM => "it already is, or its file system belongs to a user namespace",
            _ => "the kernel refused it",
        };
        Failure::kernel(errno, what).because(format!(
            "the ids of {path} cannot be mapped to the container's: {why}"
        ))
    })
}

/// Attaches `mount` on `place`.
///
/// # Errors
///
/// As `move_mount(2)`: `EINVAL` when `place` is in a tree that itself is not attached and the
/// kernel is older than 6.15.
pub(super) fn attach(mount: BorrowedFd<'_>, place: BorrowedFd<'_>) -> rustix::io::Result<()> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    move_mount(mount, "", place, "", flags)
}

/// A clone of the host's `/dev/null`, checked to be that device and made read-only: what
/// masked files are hidden under (CVE-2025-31133).
///
/// # Errors
///
/// When the host's `/dev/null` is something else.
pub(super) fn null() -> Result<OwnedFd, Failure> {
    let what = "cannot use the host's /dev/null";
    let place = open_host("/dev/null", OFlags::NOFOLLOW, what)?;
    check_null(place.as_fd(), what)?;
    let mount = cloned(place.as_fd(), false, what)?;
    let change = Change {
        set: READ_ONLY | NO_SUID_EXEC,
        propagation: Propagation::Private,
        ..Change::NONE
    };
    change_mount(mount.as_fd(), &change).or_fail(|| what.to_owned())?;
    check_null(mount.as_fd(), what)?;
    Ok(mount)
}

fn check_null(place: BorrowedFd<'_>, what: &str) -> Result<(), Failure> {
    let stat = fstat(place).or_fail(|| what.to_owned())?;
    let is_null = FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice
        && stat.st_rdev == rustix::fs::makedev(1, 3);
    if is_null {
        Ok(())
    } else {
        Err(Failure::terminal(what, "it is not the device 1:3"))
    }
}

/// A clone of the host's `/sys`, read-only unless `writable`, for a container whose user
/// namespace does not own its network namespace and so may not have a sysfs of its own.
///
/// # Errors
///
/// As `open_tree(2)` and `mount_setattr(2)`.
pub(super) fn host_sys(writable: bool) -> Result<OwnedFd, Failure> {
    let what = "cannot clone the host's /sys";
    let place = open_host("/sys", OFlags::DIRECTORY, what)?;
    let mount = cloned(place.as_fd(), false, what)?;
    let mut set = NO_SUID_DEV_EXEC;
    set.set(READ_ONLY, !writable);
    let change = Change {
        set,
        propagation: Propagation::Private,
        ..Change::NONE
    };
    change_mount(mount.as_fd(), &change).or_fail(|| what.to_owned())?;
    Ok(mount)
}

/// The directory this process works in, as a place.
///
/// # Errors
///
/// As `open(2)`.
pub(super) fn here() -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::openat(CWD, ".", flags, rustix::fs::Mode::empty())
}
