//! Repairs inside a container that runs, by short-lived children of the shim.
//!
//! A child because joining a user namespace cannot be undone, and because a file system the
//! container mounted may never answer: then the child is killed and the shim goes on.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use prost::Message;
use rustix::fs::{AtFlags, CWD, OFlags, StatVfsMountFlags, StatxAttributes, StatxFlags};
use rustix::fs::{fstatvfs, statx};
use rustix::process::umask;
use rustix::thread::{Gid, ThreadNameSpaceType, Uid};
use rustix::thread::{
    move_into_thread_name_spaces, set_thread_groups, set_thread_res_gid, set_thread_res_uid,
};
use shim_proto::launch::{File, Launch, Mount, MountSource};
use shim_proto::message::{self, Done, Reply};

use super::acting::Acting;
use super::failure::{Failure, OrFail};
use super::object::{Ids, Object, READ_ONLY, attach, cloned, null, object};
use super::resolve::{Making, device, mount_point, open_in_root};
use super::{check_mount, files, hide};
use crate::sys::errand::{ANSWER_BYTES_MAX, Errand, run};
use crate::sys::mount::{Change, change_mount};

/// How long a repair may take, in milliseconds.
const LIMIT_MS: i64 = 10_000;
/// Most bytes of a cause that are passed on.
const CAUSE_BYTES_MAX: usize = 1024;

/// Makes `mount` again in the container whose init `init_pidfd` is open on. Where it already
/// is, nothing is done.
///
/// # Errors
///
/// When the container is gone (may pass), or as at its making.
pub(crate) fn restore_mount(
    launch: &Launch,
    mount: &Mount,
    init_pidfd: BorrowedFd<'_>,
    userns: Option<BorrowedFd<'_>>,
) -> Result<(), Failure> {
    if let Some(MountSource::Cover(cover)) = &mount.source {
        return cover_again(&mount.path, cover.hide, init_pidfd);
    }
    check_mount(mount)?;
    let ids = Ids {
        range: launch.user_namespace,
        userns,
    };
    // Made here, where the source's path means the host's.
    let object = object(mount, ids)?;
    errand("cannot repair a mount", || {
        let what = format!("cannot mount {} again", mount.path);
        let root = join(init_pidfd, ThreadNameSpaceType::MOUNT, &what)?;
        let own = [device(root.as_fd(), &what)?];
        if is_there(root.as_fd(), mount, &object)? {
            return Ok(());
        }
        let acting = Acting::begin(launch.user_namespace)?;
        let making = Making::On(&own);
        let place = mount_point(root.as_fd(), &mount.path, object.footing, making, &what)?;
        drop(acting);
        attach(object.mount.as_fd(), place.as_fd()).or_fail(|| what)
    })
}

fn cover_again(path: &str, hide: bool, init_pidfd: BorrowedFd<'_>) -> Result<(), Failure> {
    // Taken here, where the path means the host's.
    let null = null()?;
    errand("cannot cover a path again", || {
        let what = format!("cannot cover {path} again");
        let root = join(init_pidfd, ThreadNameSpaceType::MOUNT, &what)?;
        hide::cover_again(root.as_fd(), path, hide, null.as_fd())
    })
}

/// Says whether what would be mounted is at its path already, with the same flag.
fn is_there(root: BorrowedFd<'_>, mount: &Mount, object: &Object) -> Result<bool, Failure> {
    let what = || format!("cannot look at {}", mount.path);
    let Ok(place) = open_in_root(root, &mount.path, OFlags::PATH) else {
        return Ok(false);
    };
    let look = |place: BorrowedFd<'_>| {
        statx(place, "", AtFlags::EMPTY_PATH, StatxFlags::BASIC_STATS).or_fail(what)
    };
    let (found, wanted) = (look(place.as_fd())?, look(object.mount.as_fd())?);
    if !found.stx_attributes.contains(StatxAttributes::MOUNT_ROOT) {
        return Ok(false);
    }
    let is_read_only = fstatvfs(&place)
        .or_fail(what)?
        .f_flag
        .contains(StatVfsMountFlags::RDONLY);
    if is_read_only != mount.read_only {
        return Ok(false);
    }
    let same_device =
        (found.stx_dev_major, found.stx_dev_minor) == (wanted.stx_dev_major, wanted.stx_dev_minor);
    Ok(match &mount.source {
        Some(MountSource::Bind(_)) => same_device && found.stx_ino == wanted.stx_ino,
        // Each tmpfs is a new one, so any tmpfs that is mounted just there counts.
        Some(MountSource::Tmpfs(_)) => {
            let kind = |place: BorrowedFd<'_>| rustix::fs::fstatfs(place).or_fail(what);
            kind(place.as_fd())?.f_type == kind(object.mount.as_fd())?.f_type
        }
        Some(MountSource::Cover(_)) | None => false,
    })
}

/// What a file is written into.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Inside<'a> {
    /// Pidfd of the container's init.
    pub(crate) init: BorrowedFd<'a>,
    /// The container has a user namespace of its own.
    pub(crate) has_user_namespace: bool,
}

/// Writes `file` into the root of a running container, atomically, with the ids and no more
/// rights than the container's own root.
///
/// `root` is an `O_PATH` descriptor of the init's root (`/proc/PID/root`). Where the root is
/// read-only, it is written through a writable clone of its mount that only this call sees;
/// a read-only mount below it stays so.
///
/// # Errors
///
/// When the container is gone (may pass), or as at its making.
pub(crate) fn write_file(
    root: BorrowedFd<'_>,
    file: &File,
    inside: &Inside<'_>,
) -> Result<(), Failure> {
    errand("cannot write a file", || {
        let what = format!("cannot write the file {}", file.path);
        let mut spaces = ThreadNameSpaceType::MOUNT;
        spaces.set(ThreadNameSpaceType::USER, inside.has_user_namespace);
        umask(0.into());
        let own = join(inside.init, spaces, &what)?;
        if inside.has_user_namespace {
            become_root(&what)?;
        }
        let writable = writable_clone(own.as_fd(), &what)?;
        match &writable {
            Some(clone) => files::place(clone.as_fd(), file),
            None => files::place(root, file),
        }
    })
}

/// A clone of the whole tree with its top writable, if that is read-only.
fn writable_clone(root: BorrowedFd<'_>, what: &str) -> Result<Option<OwnedFd>, Failure> {
    let flags = fstatvfs(root).or_fail(|| what.to_owned())?.f_flag;
    if !flags.contains(StatVfsMountFlags::RDONLY) {
        return Ok(None);
    }
    // With the mounts below: alone, a mount that hides locked ones is not cloned.
    let clone = cloned(root, true, what)?;
    let change = Change {
        clear: READ_ONLY,
        ..Change::NONE
    };
    change_mount(clone.as_fd(), &change)
        .map_err(|errno| Failure::kernel(errno, what).because("its root is read-only"))?;
    Ok(Some(clone))
}

/// Joins namespaces of the init and opens what is `/` there.
fn join(init: BorrowedFd<'_>, spaces: ThreadNameSpaceType, what: &str) -> Result<OwnedFd, Failure> {
    move_into_thread_name_spaces(init, spaces).map_err(|errno| {
        Failure::kernel(errno, what)
            .because("cannot join the container")
            .may_pass()
    })?;
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::openat(CWD, "/", flags, 0.into()).or_fail(|| what.to_owned())
}

/// Becomes id 0 of the user namespace just joined, whose capabilities came with joining.
fn become_root(what: &str) -> Result<(), Failure> {
    let fail = || what.to_owned();
    set_thread_groups(&[]).or_fail(fail)?;
    set_thread_res_gid(Gid::ROOT, Gid::ROOT, Gid::ROOT).or_fail(fail)?;
    set_thread_res_uid(Uid::ROOT, Uid::ROOT, Uid::ROOT).or_fail(fail)
}

/// Runs `work` in a child with a deadline and brings its failure home.
fn errand(what: &str, work: impl FnOnce() -> Result<(), Failure>) -> Result<(), Failure> {
    let outcome = run(LIMIT_MS, || {
        let answer = match work() {
            Ok(()) => message::Answer::Done(Done {}),
            Err(failure) => message::Answer::Failure(shortened(failure).into()),
        };
        Reply {
            id: 0,
            answer: Some(answer),
        }
        .encode_to_vec()
    });
    match outcome.or_fail(|| what.to_owned())? {
        Errand::Late => Err(Failure::retry(
            what,
            "the container's files did not answer in time",
        )),
        Errand::Died => Err(Failure::retry(what, "the child sent for it died")),
        Errand::Answered(bytes) => match Reply::decode(bytes.as_slice()).map(|r| r.answer) {
            Ok(Some(message::Answer::Done(_))) => Ok(()),
            Ok(Some(message::Answer::Failure(failure))) => Err(failure.into()),
            _ => Err(Failure::retry(
                what,
                "the child sent for it gave no clear answer",
            )),
        },
    }
}

/// So that the answer fits; a path may be 4096 bytes long.
fn shortened(mut failure: Failure) -> Failure {
    const { assert!(2 * CAUSE_BYTES_MAX + 64 <= ANSWER_BYTES_MAX) };
    for text in [&mut failure.what, &mut failure.cause] {
        let end = (0..=CAUSE_BYTES_MAX.min(text.len()))
            .rev()
            .find(|at| text.is_char_boundary(*at));
        text.truncate(end.unwrap_or(0));
    }
    failure
}
