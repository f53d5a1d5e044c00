//! Hidden and read-only paths, over whatever the path leads to inside the root.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{AtFlags, OFlags, StatVfsMountFlags, StatxAttributes, StatxFlags, statx};
use rustix::io::Errno;
use shim_proto::launch::{COVER_INODES, Launch};

use super::failure::{Failure, OrFail};
use super::object::{NO_SUID_DEV_EXEC, Parameter, READ_ONLY, attach, cloned, filesystem};
use super::resolve::{Footing, names, open_in_root};
use crate::sys::mount::{Change, change_mount};

/// Makes the paths of `launch` read-only, then hides those to be hidden. What the root does
/// not have is passed over.
///
/// `null` is the host's `/dev/null`, not attached yet. All files are hidden under it and all
/// directories under one empty tmpfs: a clone each costs no further file system. Older
/// kernels clone only what is attached, so the first of each kind is, and the others are
/// cloned from there.
///
/// # Errors
///
/// As the kernel says; nothing that should be hidden stays open without one.
pub(super) fn cover(
    root: BorrowedFd<'_>,
    launch: &Launch,
    null: BorrowedFd<'_>,
) -> Result<(), Failure> {
    for path in launch
        .read_only_paths
        .iter()
        .filter(|path| launch.is_covered(path))
    {
        read_only(root, path)?;
    }
    let mut file = None;
    let mut directory = None;
    for path in launch
        .masked_paths
        .iter()
        .filter(|path| launch.is_covered(path))
    {
        let what = format!("cannot hide {path}");
        let Some(place) = find(root, path, &what)? else {
            continue;
        };
        let (shown, fresh): (_, &dyn Fn() -> Result<OwnedFd, Failure>) =
            match Footing::of(place.as_fd(), &what)? {
                Footing::File => (&mut file, &|| {
                    null.try_clone_to_owned()
                        .map_err(|e| Failure::retry(&what, e.to_string()))
                }),
                Footing::Directory => (&mut directory, &empty),
            };
        let mount = match shown {
            Some(shown) => cloned(OwnedFd::as_fd(shown), false, &what)?,
            None => fresh()?,
        };
        attach(mount.as_fd(), place.as_fd()).or_fail(|| what.clone())?;
        shown.get_or_insert(mount);
    }
    Ok(())
}

/// Covers one path of a running container again. What is covered, and what the root does not
/// have, is passed over.
///
/// # Errors
///
/// As [`cover`].
pub(super) fn cover_again(
    root: BorrowedFd<'_>,
    path: &str,
    hide: bool,
    null: BorrowedFd<'_>,
) -> Result<(), Failure> {
    let what = format!("cannot cover {path} again");
    let Some(place) = find(root, path, &what)? else {
        return Ok(());
    };
    if is_covered(place.as_fd(), hide, &what)? {
        return Ok(());
    }
    if !hide {
        return read_only(root, path);
    }
    let mount = match Footing::of(place.as_fd(), &what)? {
        Footing::File => null
            .try_clone_to_owned()
            .map_err(|error| Failure::retry(&what, error.to_string()))?,
        Footing::Directory => empty()?,
    };
    attach(mount.as_fd(), place.as_fd()).or_fail(|| what)
}

/// Says whether what lies on a place is read-only and, where it shall hide, is what we hide
/// under. The daemon asks where it sees an open path (`drivers/linux/src/covers.rs`); what it
/// takes for open must be open here too, or it would ask for ever. It sees less: the whole of a
/// read-only tmpfs of somebody else it takes for ours.
fn is_covered(place: BorrowedFd<'_>, hide: bool, what: &str) -> Result<bool, Failure> {
    let fail = || what.to_owned();
    let flags = rustix::fs::fstatvfs(place).or_fail(fail)?.f_flag;
    let found = statx(place, "", AtFlags::EMPTY_PATH, StatxFlags::BASIC_STATS).or_fail(fail)?;
    let is_top = found.stx_attributes.contains(StatxAttributes::MOUNT_ROOT);
    if !is_top || !flags.contains(StatVfsMountFlags::RDONLY) {
        return Ok(false);
    }
    let is_null = (found.stx_rdev_major, found.stx_rdev_minor) == (1, 3);
    let system = rustix::fs::fstatfs(place).or_fail(fail)?;
    let is_ours = system.f_type == libc::TMPFS_MAGIC && system.f_files == COVER_INODES;
    Ok(!hide || is_null || is_ours)
}

/// An empty directory that nothing can be put into.
fn empty() -> Result<OwnedFd, Failure> {
    let parameters = [
        Parameter::Text("size", "4096".to_owned()),
        Parameter::Text("nr_inodes", COVER_INODES.to_string()),
        Parameter::Text("mode", "0555".to_owned()),
    ];
    filesystem("tmpfs", &parameters, NO_SUID_DEV_EXEC | READ_ONLY)
}

/// Makes `path` in `root` read-only by a mount of it on itself, with every mount below.
fn read_only(root: BorrowedFd<'_>, path: &str) -> Result<(), Failure> {
    let what = format!("cannot make {path} read-only");
    let Some(place) = find(root, path, &what)? else {
        return Ok(());
    };
    let mount = cloned(place.as_fd(), true, &what)?;
    let change = Change {
        set: READ_ONLY,
        recursive: true,
        ..Change::NONE
    };
    change_mount(mount.as_fd(), &change).or_fail(|| what.clone())?;
    attach(mount.as_fd(), place.as_fd()).or_fail(|| what)
}

fn find(root: BorrowedFd<'_>, path: &str, what: &str) -> Result<Option<OwnedFd>, Failure> {
    if names(path, what)?.is_empty() {
        return Err(Failure::terminal(what, "it is the root itself"));
    }
    match open_in_root(root, path, OFlags::PATH) {
        Ok(place) => Ok(Some(place)),
        Err(Errno::NOENT | Errno::NOTDIR) => Ok(None),
        Err(errno) => Err(Failure::kernel(errno, what)),
    }
}
