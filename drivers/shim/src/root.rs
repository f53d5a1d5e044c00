//! Stands in for the assembly of the root until that is here: a plain bind of the lower.

use std::os::fd::{AsFd as _, BorrowedFd};

use rustix::fs::{Mode, OFlags, ResolveFlags, openat2};
use rustix::mount::{
    MountFlags, MountPropagationFlags, UnmountFlags, mount, mount_bind_recursive, mount_change,
    unmount,
};
use shim_proto::launch::{File, Launch, Mount};
pub(crate) use shim_proto::message::FailureKind;

/// Why something could not be done.
#[derive(Clone, Debug)]
pub(crate) struct Failure {
    pub(crate) kind: FailureKind,
    pub(crate) what: String,
    pub(crate) errno: i32,
    pub(crate) cause: String,
}

/// What was made ready before the clone.
#[derive(Debug)]
pub(crate) struct Prepared;

impl Prepared {
    /// Lets go of it, in the shim.
    pub(crate) fn release(self) -> Result<(), Failure> {
        Ok(())
    }
}

/// Whose root a file is written into.
#[derive(Debug)]
pub(crate) struct Inside<'a> {
    pub(crate) init: BorrowedFd<'a>,
    pub(crate) has_user_namespace: bool,
}

fn failed(what: &str) -> impl FnOnce(rustix::io::Errno) -> Failure + '_ {
    move |errno| Failure {
        kind: FailureKind::Terminal,
        what: what.into(),
        errno: errno.raw_os_error(),
        cause: String::new(),
    }
}

pub(crate) fn prepare(
    launch: &Launch,
    _userns: Option<BorrowedFd<'_>>,
) -> Result<Prepared, Failure> {
    let root = launch
        .root
        .as_ref()
        .map(|root| root.lower.as_str())
        .unwrap_or_default();
    rustix::fs::stat(root).map_err(failed("look at the lower"))?;
    Ok(Prepared)
}

pub(crate) fn enter(launch: &Launch, _prepared: &Prepared) -> Result<(), Failure> {
    let root = launch
        .root
        .as_ref()
        .map(|root| root.lower.as_str())
        .unwrap_or_default();
    let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
    mount_change("/", private).map_err(failed("make mounts private"))?;
    mount_bind_recursive(root, root).map_err(failed("bind the lower"))?;
    let null = format!("{root}/dev/null");
    mount_bind_recursive("/dev/null", &*null).map_err(failed("bind /dev/null"))?;
    rustix::process::chdir(root).map_err(failed("stand in the root"))?;
    let proc_flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    mount("proc", "proc", "proc", proc_flags, None).map_err(failed("mount proc"))?;
    rustix::process::pivot_root(".", ".").map_err(failed("pivot"))?;
    unmount(".", UnmountFlags::DETACH).map_err(failed("leave the old root"))?;
    rustix::process::chdir("/").map_err(failed("stand in the new root"))?;
    let root = rustix::fs::open("/", OFlags::PATH | OFlags::CLOEXEC, Mode::empty())
        .map_err(failed("open the root"))?;
    launch
        .files
        .iter()
        .try_for_each(|file| place(root.as_fd(), file))
}

pub(crate) fn restore_mount(
    _launch: &Launch,
    _mount: &Mount,
    _init: BorrowedFd<'_>,
    _userns: Option<BorrowedFd<'_>>,
) -> Result<(), Failure> {
    Err(failed("make the mount again")(rustix::io::Errno::NOSYS))
}

pub(crate) fn write_file(
    root: BorrowedFd<'_>,
    file: &File,
    inside: &Inside<'_>,
) -> Result<(), Failure> {
    // The real one joins these; here the host's root writes.
    let _ = (inside.init, inside.has_user_namespace);
    place(root, file)
}

fn place(root: BorrowedFd<'_>, file: &File) -> Result<(), Failure> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC | OFlags::CLOEXEC;
    let mode = Mode::from_raw_mode(file.mode & 0o7777);
    let path = file.path.trim_start_matches('/');
    let opened = openat2(root, path, flags, mode, ResolveFlags::IN_ROOT);
    let opened = opened.map_err(failed("open the file"))?;
    rustix::io::write(&opened, &file.content)
        .map(|_| ())
        .map_err(failed("write the file"))
}
