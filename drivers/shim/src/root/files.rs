//! Placing a file in a root, by descriptors and with no more rights than the container's
//! own root has.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{
    AtFlags, FsWord, Gid, Mode, OFlags, Uid, fchmod, fchown, fstatfs, openat, renameat, unlinkat,
};
use rustix::io::Errno;
use shim_proto::launch::File;

use super::failure::{Failure, OrFail};
use super::resolve::{Making, make_directories, names};
use super::users::lookup_user;

/// Name of a file while it is written. One name, so that nothing piles up when writing is
/// interrupted: whoever writes next takes it away.
const UNFINISHED: &str = ".reconciler-unfinished";
/// File systems of the kernel, where a name is not a file (`statfs(2)`).
const KERNEL_FILE_SYSTEMS: [(FsWord, &str); 4] = [
    (0x9fa0, "proc"),
    (0x6265_6572, "sysfs"),
    (0x0027_e0eb, "cgroup"),
    (0x6367_7270, "cgroup2"),
];

/// Places `file` in the root that `root` is open on: whole or not at all. A link at its path
/// is replaced, not followed.
///
/// *Assumptions*: the caller acts with the rights of the container's root, so that ids are
/// those inside and nothing is written that it could not write.
///
/// # Errors
///
/// When the path cannot be made or written, or the owner is unknown.
pub(super) fn place(root: BorrowedFd<'_>, file: &File) -> Result<(), Failure> {
    let what = format!("cannot write the file {}", file.path);
    let names = names(&file.path, &what)?;
    let Some((name, parents)) = names.split_last() else {
        return Err(Failure::terminal(what, "it has no name"));
    };
    let owner = lookup_user(root, &file.user)?;
    let parent = make_directories(root, parents, Making::Anywhere, &what)?;
    check_parent(&parent, &what)?;
    let content = unfinished(parent.as_fd(), &what)?;
    let written = (|| {
        write_all(&content, &file.content)?;
        fchown(
            &content,
            Some(Uid::from_raw(owner.uid)),
            Some(Gid::from_raw(owner.gid)),
        )?;
        // After the owner, which takes set-id bits away.
        fchmod(&content, Mode::from_raw_mode(file.mode & 0o7777))?;
        renameat(&parent, UNFINISHED, &parent, *name)
    })();
    written.map_err(|errno| {
        let failure = Failure::kernel(errno, what);
        let failure = match unlinkat(&parent, UNFINISHED, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => failure,
            Err(left) => failure.because(format!("and {UNFINISHED} stays behind: {left}")),
        };
        match errno {
            Errno::INVAL => failure.because(format!(
                "user {} or group {} is outside the container's id range",
                owner.uid, owner.gid
            )),
            Errno::ISDIR => failure.because("a directory is there"),
            Errno::BUSY => failure.because("something is mounted there"),
            _ => failure,
        }
    })
}

fn check_parent(parent: &OwnedFd, what: &str) -> Result<(), Failure> {
    let kind = fstatfs(parent).or_fail(|| what.to_owned())?.f_type;
    match KERNEL_FILE_SYSTEMS.iter().find(|(magic, _)| *magic == kind) {
        Some((_, name)) => Err(Failure::terminal(
            what,
            format!("its directory is in {name}"),
        )),
        None => Ok(()),
    }
}

fn unfinished(parent: BorrowedFd<'_>, what: &str) -> Result<OwnedFd, Failure> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mode = Mode::from_raw_mode(0o600);
    let made = match openat(parent, UNFINISHED, flags, mode) {
        Err(Errno::EXIST) => {
            unlinkat(parent, UNFINISHED, AtFlags::empty()).map_err(|errno| {
                Failure::kernel(errno, what).because(format!("{UNFINISHED} is in the way"))
            })?;
            openat(parent, UNFINISHED, flags, mode)
        }
        made => made,
    };
    made.map_err(|errno| {
        let failure = Failure::kernel(errno, what);
        if errno == Errno::ROFS {
            failure.because("its directory is read-only")
        } else {
            failure
        }
    })
}

fn write_all(file: &OwnedFd, mut bytes: &[u8]) -> rustix::io::Result<()> {
    while !bytes.is_empty() {
        match rustix::io::write(file, bytes) {
            Ok(count) => bytes = bytes.get(count..).unwrap_or_default(),
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
}
