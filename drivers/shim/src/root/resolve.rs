//! Every path, on the host and in a container's root, becomes a descriptor here.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{FileType, Mode, OFlags, ResolveFlags, fstat, mkdirat, openat2};
use rustix::io::{Errno, Result as SysResult};

use super::failure::{Failure, OrFail};

/// Looks before a path whose directories are being renamed under us counts as moving.
const TRIES: u32 = 64;
/// Permission bits of directories that are made on the way to something.
const DIRECTORY_MODE: Mode = Mode::from_raw_mode(0o755);
/// Permission bits of a file that only is there to be mounted on.
const MOUNT_POINT_MODE: Mode = Mode::from_raw_mode(0o644);

/// Opens `path` below `directory` without going through a magic link.
///
/// # Errors
///
/// As `openat2(2)`; `EAGAIN` only when the path moved on every one of many looks.
pub(super) fn open(
    directory: BorrowedFd<'_>,
    path: &str,
    flags: OFlags,
    resolve: ResolveFlags,
) -> SysResult<OwnedFd> {
    let mut tries = 0;
    loop {
        let flags = flags | OFlags::CLOEXEC;
        let resolve = resolve | ResolveFlags::NO_MAGICLINKS;
        match openat2(directory, path, flags, Mode::empty(), resolve) {
            Err(Errno::AGAIN | Errno::INTR) if tries < TRIES => tries += 1,
            result => return result,
        }
    }
}

/// Opens `path` with `root` as `/`: no link and no `..` leads out.
///
/// # Errors
///
/// As [`open`].
pub(super) fn open_in_root(root: BorrowedFd<'_>, path: &str, flags: OFlags) -> SysResult<OwnedFd> {
    open(root, path, flags, ResolveFlags::IN_ROOT)
}

/// Opens an absolute path of the host as a place (`O_PATH`).
///
/// # Errors
///
/// When there is nothing (may pass) or it cannot be reached.
pub(super) fn open_host(path: &str, flags: OFlags, what: &str) -> Result<OwnedFd, Failure> {
    if !path.starts_with('/') {
        return Err(Failure::terminal(
            what,
            format!("{path} is not an absolute path"),
        ));
    }
    open(
        rustix::fs::CWD,
        path,
        flags | OFlags::PATH,
        ResolveFlags::empty(),
    )
    .map_err(|errno| source_failure(errno, what, path))
}

/// Opens `path` of the host as a place, below `beneath` and never leaving it.
///
/// # Errors
///
/// When it is not below, a link leads out, or there is nothing (may pass).
pub(super) fn open_beneath(beneath: &str, path: &str, what: &str) -> Result<OwnedFd, Failure> {
    let outside = || Failure::terminal(what, format!("{path} is not below {beneath}"));
    let root = beneath.trim_end_matches('/');
    let rest = path.strip_prefix(root).ok_or_else(outside)?;
    if !rest.is_empty() && !rest.starts_with('/') {
        return Err(outside());
    }
    let directory = open_host(beneath, OFlags::DIRECTORY, what)?;
    let relative = match rest.trim_start_matches('/') {
        "" => ".",
        relative => relative,
    };
    open(
        directory.as_fd(),
        relative,
        OFlags::PATH,
        ResolveFlags::BENEATH,
    )
    .map_err(|errno| {
        let failure = source_failure(errno, what, path);
        if errno == Errno::XDEV {
            failure.because(format!("{path} leads out of {beneath}"))
        } else {
            failure
        }
    })
}

fn source_failure(errno: Errno, what: &str, path: &str) -> Failure {
    let failure = Failure::kernel(errno, what).because(format!("cannot open {path}"));
    // What is not there yet (a disk mounted later, a directory made later) may come.
    if errno == Errno::NOENT {
        failure.may_pass()
    } else {
        failure
    }
}

/// The names in an absolute path; none for `/`.
///
/// # Errors
///
/// When it is not absolute, or has `.`, `..` or a NUL in it.
pub(super) fn names<'a>(path: &'a str, what: &str) -> Result<Vec<&'a str>, Failure> {
    let wrong = |why: &str| Err(Failure::terminal(what, format!("{path:?} {why}")));
    if !path.starts_with('/') {
        return wrong("is not an absolute path");
    }
    if path.contains('\0') {
        return wrong("has a NUL in it");
    }
    let names: Vec<&str> = path.split('/').filter(|name| !name.is_empty()).collect();
    if names.iter().any(|name| matches!(*name, "." | "..")) {
        return wrong("has \".\" or \"..\" in it");
    }
    Ok(names)
}

/// Where missing directories may be made.
#[derive(Clone, Copy)]
pub(super) enum Making<'a> {
    /// On these file systems (`st_dev`), which are the container's own.
    On(&'a [u64]),
    /// Wherever this process's rights let it.
    Anywhere,
}

impl Making<'_> {
    fn check(self, place: BorrowedFd<'_>, what: &str) -> Result<(), Failure> {
        let Making::On(devices) = self else {
            return Ok(());
        };
        let device = device(place, what)?;
        if devices.contains(&device) {
            return Ok(());
        }
        Err(Failure::terminal(
            what,
            "it does not exist, and lies in a directory of the host where nothing is made",
        ))
    }
}

/// The file system that `place` is on.
///
/// # Errors
///
/// As `fstat(2)`.
pub(super) fn device(place: BorrowedFd<'_>, what: &str) -> Result<u64, Failure> {
    Ok(fstat(place).or_fail(|| what.to_owned())?.st_dev)
}

/// Opens the directory `names` in `root`, making what is missing with mode 0755.
///
/// Links of the image are followed inside the root; a link that leads nowhere is not made
/// to lead somewhere.
///
/// # Errors
///
/// When something on the way is no directory, or must not or cannot be made.
pub(super) fn make_directories(
    root: BorrowedFd<'_>,
    names: &[&str],
    making: Making<'_>,
    what: &str,
) -> Result<OwnedFd, Failure> {
    let directory = OFlags::PATH | OFlags::DIRECTORY;
    let mut here = open_in_root(root, ".", directory).or_fail(|| what.to_owned())?;
    let mut path = String::new();
    for name in names {
        path.push('/');
        path.push_str(name);
        here = match open_in_root(root, &path, directory) {
            Ok(next) => next,
            Err(Errno::NOENT) => {
                making.check(here.as_fd(), what)?;
                mkdirat(&here, *name, DIRECTORY_MODE)
                    .map_err(|errno| making_failure(errno, what, &path))?;
                open_made(here.as_fd(), name, directory, what)?
            }
            Err(errno) => {
                return Err(Failure::kernel(errno, what).because(format!("cannot enter {path}")));
            }
        };
    }
    Ok(here)
}

/// What a thing mounted needs to stand on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Footing {
    /// A directory.
    Directory,
    /// Anything else.
    File,
}

impl Footing {
    /// The footing that what `place` is can stand on.
    ///
    /// # Errors
    ///
    /// As `fstat(2)`.
    pub(super) fn of(place: BorrowedFd<'_>, what: &str) -> Result<Footing, Failure> {
        let mode = fstat(place).or_fail(|| what.to_owned())?.st_mode;
        Ok(match FileType::from_raw_mode(mode) {
            FileType::Directory => Footing::Directory,
            _ => Footing::File,
        })
    }
}

/// Opens `path` in `root` as a place to mount on, making it when it is missing.
///
/// # Errors
///
/// When it is the root itself, of the wrong kind, or must not or cannot be made.
pub(super) fn mount_point(
    root: BorrowedFd<'_>,
    path: &str,
    footing: Footing,
    making: Making<'_>,
    what: &str,
) -> Result<OwnedFd, Failure> {
    let names = names(path, what)?;
    let Some((last, parents)) = names.split_last() else {
        return Err(Failure::terminal(
            what,
            "the root itself cannot be mounted over",
        ));
    };
    match open_in_root(root, path, OFlags::PATH) {
        Ok(place) => return fitting(place, footing, what),
        Err(Errno::NOENT) => {}
        Err(errno) => return Err(Failure::kernel(errno, what)),
    }
    if footing == Footing::Directory {
        return make_directories(root, &names, making, what);
    }
    let parent = make_directories(root, parents, making, what)?;
    making.check(parent.as_fd(), what)?;
    let flags = OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(&parent, *last, flags | OFlags::WRONLY, MOUNT_POINT_MODE)
        .map_err(|errno| making_failure(errno, what, path))?;
    let place = open_made(parent.as_fd(), last, OFlags::PATH, what)?;
    fitting(place, footing, what)
}

fn fitting(place: OwnedFd, footing: Footing, what: &str) -> Result<OwnedFd, Failure> {
    match (Footing::of(place.as_fd(), what)?, footing) {
        (Footing::Directory, Footing::File) => Err(Failure::terminal(
            what,
            "a file cannot be mounted on a directory",
        )),
        (Footing::File, Footing::Directory) => Err(Failure::terminal(
            what,
            "a directory cannot be mounted on a file",
        )),
        _ => Ok(place),
    }
}

fn making_failure(errno: Errno, what: &str, path: &str) -> Failure {
    let failure = Failure::kernel(errno, what);
    match errno {
        Errno::EXIST => failure.because(format!("{path} is a link that leads nowhere")),
        Errno::ROFS => failure.because(format!("{path} is missing and cannot be made")),
        _ => failure.because(format!("cannot make {path}")),
    }
}

/// Opens what was just made in `parent`; a link put in its place is refused.
fn open_made(
    parent: BorrowedFd<'_>,
    name: &str,
    flags: OFlags,
    what: &str,
) -> Result<OwnedFd, Failure> {
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
    open(parent, name, flags, resolve).or_fail(|| what.to_owned())
}

/// Opens the directory `name` at the top of `root` that a kernel file system goes on, making
/// it when the image has none.
///
/// # Errors
///
/// When the image has something else there: a link would let it choose where the file system
/// goes (CVE-2019-16884, CVE-2026-41579).
pub(super) fn plain_directory(root: BorrowedFd<'_>, name: &str) -> Result<OwnedFd, Failure> {
    let what = format!("cannot use /{name} of the image");
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
    match open(root, name, flags, resolve) {
        Ok(place) => Ok(place),
        Err(Errno::NOENT) => {
            mkdirat(root, name, DIRECTORY_MODE).or_fail(|| what.clone())?;
            open(root, name, flags, resolve).or_fail(|| what)
        }
        Err(Errno::LOOP) => Err(Failure::kernel(Errno::LOOP, what)
            .because("it is a symbolic link, it has to be a directory")),
        Err(Errno::NOTDIR) => Err(not_a_directory(root, name, what)),
        Err(errno) => Err(Failure::kernel(errno, what)),
    }
}

/// `O_DIRECTORY` with `O_NOFOLLOW` answers `ENOTDIR` for links as well.
fn not_a_directory(root: BorrowedFd<'_>, name: &str, what: String) -> Failure {
    let stat = rustix::fs::statat(root, name, rustix::fs::AtFlags::SYMLINK_NOFOLLOW);
    let is_link = stat.is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::Symlink);
    Failure::kernel(Errno::NOTDIR, what).because(if is_link {
        "it is a symbolic link, it has to be a directory"
    } else {
        "it has to be a directory"
    })
}
