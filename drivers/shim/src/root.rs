//! The container's root file system and everything mounted in it.
//!
//! ```text
//! shim   prepare:  layers -> overlay -> /dev, binds, tmpfs      one tree, attached nowhere
//!   | clone3
//! init   enter:    attach -> proc, sys, cgroup, mqueue -> settings, files -> covers -> pivot
//! ```
//!
//! Two ways to the same tree. **Detached** (Linux 6.15): it hangs on one descriptor, the
//! host's mount table never changes, and dropping the descriptor frees all of it. **Classic**:
//! it stands in a mount namespace of the shim's own, which the init's is copied from. Only
//! where the overlay goes and how the init gets at it differ; see
//! `docs/adr/detached-root-classic-fallback.md`.
//!
//! Every path below a root is resolved by descriptor (`openat2(2)`), so an image's or a
//! neighbour's links lead nowhere but into the same root.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::OFlags;
use rustix::io::Errno;
use rustix::mount::{MountAttrFlags, MountPropagationFlags, mount_change};
use rustix::process::fchdir;
use rustix::thread::{CapabilitySet, LinkNameSpaceType, move_into_link_name_space};
use shim_proto::launch::{Assembly, Launch, Mount, Root};

mod acting;
mod cgroup;
mod dev;
mod enter;
mod failure;
mod files;
mod hide;
mod image;
mod layers;
mod live;
mod object;
mod resolve;
mod sysctl;
mod users;

pub(crate) use enter::enter;
pub(crate) use failure::{Failure, FailureKind};
pub(crate) use live::{Inside, restore_mount, write_file};
pub(crate) use users::lookup_user;

use acting::Acting;
use cgroup::Cgroups;
use dev::Devices;
use failure::OrFail;
use layers::Layers;
use object::attach;
use resolve::{Making, device, mount_point, names, open_host, plain_directory};

/// A root ready to be entered.
///
/// *Guarantees*: with a detached tree, dropping it frees everything. With a staged one the
/// shim stands in a mount namespace of its own, in the root's directory, until
/// [`Prepared::release`]; it must neither change directory nor mount before it has cloned.
#[derive(Debug)]
pub(crate) struct Prepared {
    tree: Tree,
    null: OwnedFd,
    host_sys: Option<OwnedFd>,
    cgroups: Cgroups,
}

#[derive(Debug)]
enum Tree {
    Detached(OwnedFd),
    Staged {
        /// The mount namespace to go back to.
        host: OwnedFd,
        /// File system of the staged root.
        device: u64,
    },
}

impl Prepared {
    /// Lets go of the root, in the shim, after the init was cloned or when it will not be.
    /// The shim is in the host's mount namespace again and works in `/`.
    ///
    /// Not for the init, which just drops its copy.
    ///
    /// # Errors
    ///
    /// As `setns(2)`; the shim then stays where it is, harming nothing.
    pub(crate) fn release(self) -> Result<(), Failure> {
        match self.tree {
            Tree::Detached(_) => Ok(()),
            Tree::Staged { host, .. } => go_home(host.as_fd()),
        }
    }
}

/// Builds the root of `launch`, in the shim and the host's namespaces, before the init is
/// cloned. `userns` is the container's user namespace, or one with the same maps.
///
/// # Errors
///
/// When something asked for is missing, hostile, or beyond this kernel. Nothing of it is left
/// then.
pub(crate) fn prepare(
    launch: &Launch,
    userns: Option<BorrowedFd<'_>>,
) -> Result<Prepared, Failure> {
    let what = "cannot prepare the root";
    let Some(root) = &launch.root else {
        return Err(Failure::terminal(what, "the launch description has none"));
    };
    if launch.user_namespace.is_some() != userns.is_some() {
        return Err(Failure::terminal(
            what,
            "id range and user namespace do not go together",
        ));
    }
    launch.mounts.iter().try_for_each(check_mount)?;
    let ids = object::Ids {
        range: launch.user_namespace,
        userns,
    };
    let parts = Parts { launch, root, ids };
    match wanted(launch) {
        Assembly::Classic => parts.staged(dev::devices(launch)?),
        Assembly::Detached => {
            let devices = dev::devices(launch)?;
            join_devices(&devices).or_fail(|| {
                format!("{what}: this kernel cannot mount on a tree that is not attached")
            })?;
            parts.detached(&devices)
        }
        Assembly::Auto => {
            let devices = dev::devices(launch)?;
            // The first mount on a tree that is not attached is the probe.
            match join_devices(&devices) {
                Ok(()) => parts.detached(&devices),
                Err(Errno::INVAL) => parts.staged(devices),
                Err(errno) => Err(Failure::kernel(errno, what)),
            }
        }
    }
}

/// The assembly to be tried.
///
/// Mounts copied into a user namespace's mount namespace are locked there together with
/// their flags (`mount_namespaces(7)`), those moved into it are not. That makes a difference
/// only to a container that may mount, which then could make a read-only bind writable.
fn wanted(launch: &Launch) -> Assembly {
    let may_mount = launch.privileged
        || CapabilitySet::from_bits_retain(launch.capabilities).contains(CapabilitySet::SYS_ADMIN);
    match launch.assembly() {
        Assembly::Auto if launch.user_namespace.is_some() && may_mount => Assembly::Classic,
        assembly => assembly,
    }
}

/// Refuses mounts that would be hidden by, or hide, what every container has.
fn check_mount(mount: &Mount) -> Result<(), Failure> {
    let what = format!("cannot mount {}", mount.path);
    let names = names(&mount.path, &what)?;
    match names.as_slice() {
        [] => Err(Failure::terminal(what, "it is the root itself")),
        ["proc" | "sys", ..] => Err(Failure::terminal(what, "/proc and /sys are the kernel's")),
        ["dev"] => Err(Failure::terminal(
            what,
            "/dev is made by us; mount below it",
        )),
        _ => Ok(()),
    }
}

/// Puts the parts of `/dev` on it while none is attached.
fn join_devices(devices: &Devices) -> rustix::io::Result<()> {
    for (name, part) in &devices.parts {
        let flags = OFlags::PATH | OFlags::DIRECTORY;
        let place = resolve::open_in_root(devices.dev.as_fd(), name, flags)?;
        attach(part.as_fd(), place.as_fd())?;
    }
    Ok(())
}

struct Parts<'a> {
    launch: &'a Launch,
    root: &'a Root,
    ids: object::Ids<'a>,
}

impl Parts<'_> {
    fn detached(&self, devices: &Devices) -> Result<Prepared, Failure> {
        let layers = Layers::open(self.root, self.ids)?;
        let tree = layers.mount(self.root, self.attributes(), true)?;
        let dev = self.place_dev(tree.as_fd())?;
        attach(devices.dev.as_fd(), dev.as_fd()).or_fail(|| "cannot mount /dev".to_owned())?;
        self.mount_all(tree.as_fd(), devices)?;
        self.finish(Tree::Detached(tree))
    }

    fn staged(&self, devices: Devices) -> Result<Prepared, Failure> {
        let what = || "cannot make a mount namespace to build the root in".to_owned();
        let host = open_host("/proc/self", OFlags::DIRECTORY, &what())?;
        let flags = OFlags::RDONLY | OFlags::CLOEXEC;
        let host = rustix::fs::openat(&host, "ns/mnt", flags, 0.into()).or_fail(what)?;
        crate::sys::mount::unshare_mounts().or_fail(what)?;
        let tree = match self.stage(&devices) {
            Ok(device) => Tree::Staged { host, device },
            Err(failure) => {
                go_home(host.as_fd())?;
                return Err(failure);
            }
        };
        let home = match &tree {
            Tree::Staged { host, .. } => host.try_clone(),
            Tree::Detached(_) => unreachable!("BUG: it was just staged"),
        };
        match (self.finish(tree), home) {
            (Err(failure), Ok(home)) => {
                go_home(home.as_fd())?;
                Err(failure)
            }
            (result, _) => result,
        }
    }

    /// Builds the tree in the mount namespace just made; gives the root's file system.
    fn stage(&self, devices: &Devices) -> Result<u64, Failure> {
        let what = "cannot stage the root";
        // Slave and not private, so that what the host unmounts is not held here.
        let inward = MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC;
        mount_change("/", inward).or_fail(|| what.to_owned())?;
        let layers = Layers::open(self.root, self.ids)?;
        let place = layers.stage(self.root)?;
        let tree = layers.mount(self.root, self.attributes(), false)?;
        attach(tree.as_fd(), place.as_fd()).or_fail(|| what.to_owned())?;
        let dev = self.place_dev(tree.as_fd())?;
        attach(devices.dev.as_fd(), dev.as_fd()).or_fail(|| "cannot mount /dev".to_owned())?;
        join_devices(devices).or_fail(|| "cannot mount below /dev".to_owned())?;
        self.mount_all(tree.as_fd(), devices)?;
        fchdir(&tree).or_fail(|| what.to_owned())?;
        device(tree.as_fd(), what)
    }

    /// Device nodes of an image are dead, except for who may have all devices anyway.
    fn attributes(&self) -> MountAttrFlags {
        if self.launch.privileged {
            MountAttrFlags::empty()
        } else {
            MountAttrFlags::MOUNT_ATTR_NODEV
        }
    }

    fn place_dev(&self, tree: BorrowedFd<'_>) -> Result<OwnedFd, Failure> {
        let _acting = Acting::begin(self.ids.range)?;
        // Looked at now, so that a hostile image is refused before anything is cloned.
        plain_directory(tree, "proc")?;
        plain_directory(tree, "sys")?;
        plain_directory(tree, "dev")
    }

    fn mount_all(&self, tree: BorrowedFd<'_>, devices: &Devices) -> Result<(), Failure> {
        let what = "cannot mount";
        // Missing mount points are made where only this container sees them.
        let mut own = vec![device(tree, what)?, device(devices.dev.as_fd(), what)?];
        for mount in &self.launch.mounts {
            let what = format!("cannot mount {}", mount.path);
            let object = object::object(mount, self.ids)?;
            let acting = Acting::begin(self.ids.range)?;
            let making = Making::On(&own);
            let place = mount_point(tree, &mount.path, object.footing, making, &what)?;
            drop(acting);
            attach(object.mount.as_fd(), place.as_fd()).or_fail(|| what.clone())?;
            if matches!(
                mount.source,
                Some(shim_proto::launch::MountSource::Tmpfs(_))
            ) {
                own.push(device(object.mount.as_fd(), &what)?);
            }
        }
        Ok(())
    }

    fn finish(&self, tree: Tree) -> Result<Prepared, Failure> {
        let host_sys = if enter::needs_host_sys(self.launch) {
            Some(object::host_sys(self.launch.privileged)?)
        } else {
            None
        };
        let cgroups = Cgroups::open(self.launch)?;
        Ok(Prepared {
            tree,
            null: object::null()?,
            host_sys,
            cgroups,
        })
    }
}

fn go_home(host: BorrowedFd<'_>) -> Result<(), Failure> {
    move_into_link_name_space(host, Some(LinkNameSpaceType::Mount))
        .or_fail(|| "cannot return to the host's mount namespace".to_owned())
}
