//! The way into the root, in the container's first process.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::mount::{MountPropagationFlags, UnmountFlags, mount_change, unmount};
use rustix::process::{chdir, fchdir, pivot_root, umask};
use shim_proto::launch::Launch;

use super::failure::{Failure, OrFail};
use super::object::{NO_SUID_DEV_EXEC, READ_ONLY, attach, cloned, filesystem, here};
use super::resolve::{Footing, Making, device, mount_point, plain_directory};
use super::{Prepared, Tree, files, hide, sysctl};
use crate::sys::mount::{Change, change_mount};

/// Makes the prepared root this process's `/` and leaves nothing of the host's.
///
/// *Assumptions*: runs in the container's own namespaces as id 0 of them, in the directory
/// and with the capabilities it was cloned with.
///
/// # Errors
///
/// When the image is hostile, a setting or file is refused, or the kernel does. Then the
/// process has to end: it stands between two roots.
pub(crate) fn enter(launch: &Launch, prepared: &Prepared) -> Result<(), Failure> {
    let before = umask(0.into());
    let entered = walk(launch, prepared);
    umask(before);
    entered
}

fn walk(launch: &Launch, prepared: &Prepared) -> Result<(), Failure> {
    // Slave and not private: binds that follow their source on the host keep doing so.
    // Nothing that is mounted here goes out either way.
    let inward = MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC;
    mount_change("/", inward).or_fail(|| "cannot cut the mounts off the host's".to_owned())?;
    let tree = take(prepared)?;
    // While the host's are still to be seen: the kernel gives a container a proc and sysfs of
    // its own only then (`mount_too_revealing` in `fs/namespace.c`).
    let kernel = Kernel::make(launch)?;
    attach_at_root(&tree)?;
    kernel.attach(tree.as_fd(), prepared)?;
    sysctl::write_all(kernel.proc.as_fd(), launch)?;
    for file in &launch.files {
        files::place(tree.as_fd(), file)?;
    }
    hide::cover(tree.as_fd(), launch, prepared.null.as_fd())?;
    if launch.root.as_ref().is_some_and(|root| root.read_only) {
        let change = Change {
            set: READ_ONLY,
            ..Change::NONE
        };
        change_mount(tree.as_fd(), &change)
            .or_fail(|| "cannot make the root read-only".to_owned())?;
    }
    pivot(&tree)
}

/// The tree in this mount namespace, attached nowhere.
fn take(prepared: &Prepared) -> Result<OwnedFd, Failure> {
    let what = "cannot take over the root";
    match &prepared.tree {
        Tree::Detached(tree) => tree
            .try_clone()
            .map_err(|error| Failure::retry(what, error.to_string())),
        Tree::Staged { device: staged, .. } => {
            // The copy of the mount namespace moved our working directory to its copy of the
            // staged root (`copy_mnt_ns`): no path is resolved to find it.
            let place = here().or_fail(|| what.to_owned())?;
            if device(place.as_fd(), what)? != *staged {
                return Err(Failure::terminal(
                    what,
                    "the working directory is not the root",
                ));
            }
            cloned(place.as_fd(), true, what)
        }
    }
}

fn attach_at_root(tree: &OwnedFd) -> Result<(), Failure> {
    let what = || "cannot attach the root".to_owned();
    chdir("/").or_fail(what)?;
    attach(tree.as_fd(), here().or_fail(what)?.as_fd()).or_fail(what)
}

/// File systems that show the namespaces of whoever makes them.
struct Kernel {
    proc: OwnedFd,
    /// None where the prepared clone of the host's is used.
    sys: Option<OwnedFd>,
    mqueue: OwnedFd,
}

impl Kernel {
    fn make(launch: &Launch) -> Result<Kernel, Failure> {
        let sys = if needs_host_sys(launch) {
            None
        } else {
            let mut attributes = NO_SUID_DEV_EXEC;
            attributes.set(READ_ONLY, !launch.privileged);
            Some(filesystem("sysfs", &[], attributes)?)
        };
        Ok(Kernel {
            proc: filesystem("proc", &[], NO_SUID_DEV_EXEC)?,
            sys,
            mqueue: filesystem("mqueue", &[], NO_SUID_DEV_EXEC)?,
        })
    }

    fn attach(&self, root: BorrowedFd<'_>, prepared: &Prepared) -> Result<(), Failure> {
        let put = |mount: &OwnedFd, name: &str| {
            let place = plain_directory(root, name)?;
            attach(mount.as_fd(), place.as_fd()).or_fail(|| format!("cannot mount /{name}"))
        };
        put(&self.proc, "proc")?;
        if let Some(sys) = self.sys.as_ref().or(prepared.host_sys.as_ref()) {
            put(sys, "sys")?;
            prepared.cgroups.attach(root)?;
        }
        let what = "cannot mount /dev/mqueue";
        let directory = Footing::Directory;
        // Nothing is made: /dev is ours and has the directory.
        let place = mount_point(root, "/dev/mqueue", directory, Making::On(&[]), what)?;
        attach(self.mqueue.as_fd(), place.as_fd()).or_fail(|| what.to_owned())
    }
}

/// A sysfs shows the network namespace of whoever makes it, who has to own that one.
pub(super) fn needs_host_sys(launch: &Launch) -> bool {
    launch.host_network && launch.user_namespace.is_some()
}

/// Changes roots without a directory for the old one, which lands over the new and is taken
/// away from there (`pivot_root(2)`, "pivot_root(".", ".")").
fn pivot(tree: &OwnedFd) -> Result<(), Failure> {
    let what = || "cannot change to the new root".to_owned();
    fchdir(tree).or_fail(what)?;
    pivot_root(".", ".").map_err(|errno| {
        let failure = Failure::kernel(errno, what());
        if errno == rustix::io::Errno::INVAL {
            failure.because("a host that runs from its initial RAM disk cannot")
        } else {
            failure
        }
    })?;
    unmount(".", UnmountFlags::DETACH).or_fail(what)?;
    chdir("/").or_fail(what)?;
    let old = device(here().or_fail(what)?.as_fd(), &what())?;
    let new = device(tree.as_fd(), &what())?;
    assert!(old == new, "BUG: the working directory is not the new root");
    Ok(())
}
