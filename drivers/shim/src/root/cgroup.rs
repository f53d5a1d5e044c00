//! The container's own cgroup at `/sys/fs/cgroup`, read-only.
//!
//! It is a bind of the container's directory and not a mount of the hierarchy: what lies
//! above is not there at all, on version 1 neither is `release_agent` (CVE-2022-0492), and it
//! does not depend on when the cgroup namespace was made.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{FsWord, OFlags, fstatfs, mkdirat, symlinkat};
use shim_proto::launch::{Launch, Tmpfs};

use super::failure::{Failure, OrFail};
use super::object::{NO_SUID_DEV_EXEC, READ_ONLY, attach, cloned, tmpfs};
use super::resolve::{open_host, open_in_root};
use crate::sys::mount::{Change, Propagation, change_mount};

const WHAT: &str = "cannot mount the cgroup";
/// Where hierarchies are on every host we know.
const TOP: &str = "/sys/fs/cgroup";
/// `CGROUP2_SUPER_MAGIC` of `linux/magic.h`.
const CGROUP2: FsWord = 0x6367_7270;
/// The directory of hierarchies, where there is more than one.
const HIERARCHIES: Tmpfs = Tmpfs {
    bytes: 64 << 10,
    mode: 0o755,
};

/// A container's cgroup directories, not attached.
#[derive(Debug)]
pub(super) struct Cgroups {
    /// The one hierarchy is of version 2 and is the whole of `/sys/fs/cgroup`.
    only: Option<OwnedFd>,
    /// Name of each hierarchy otherwise.
    named: Vec<(String, OwnedFd)>,
}

impl Cgroups {
    /// Clones the directories of `launch`, in the host's namespaces. One that is not below
    /// `/sys/fs/cgroup` has no name there and is left out.
    ///
    /// # Errors
    ///
    /// When a directory is missing (may pass).
    pub(super) fn open(launch: &Launch) -> Result<Cgroups, Failure> {
        let mut cgroups = Cgroups {
            only: None,
            named: Vec::new(),
        };
        for directory in &launch.cgroups {
            let Some(below) = directory
                .path
                .strip_prefix(TOP)
                .and_then(|p| p.strip_prefix('/'))
            else {
                continue;
            };
            let place = open_host(&directory.path, OFlags::DIRECTORY, WHAT)?;
            let mount = cloned(place.as_fd(), false, WHAT)?;
            let change = Change {
                set: NO_SUID_DEV_EXEC | READ_ONLY,
                propagation: Propagation::Private,
                ..Change::NONE
            };
            change_mount(mount.as_fd(), &change).or_fail(|| WHAT.to_owned())?;
            let top = open_host(TOP, OFlags::DIRECTORY, WHAT)?;
            if fstatfs(&top).or_fail(|| WHAT.to_owned())?.f_type == CGROUP2 {
                cgroups.only = Some(mount);
            } else if let Some((hierarchy, _)) = below.split_once('/') {
                cgroups.named.push((hierarchy.to_owned(), mount));
            }
        }
        Ok(cgroups)
    }

    /// Attaches them at `/sys/fs/cgroup` of `root`, whose `/sys` is mounted.
    ///
    /// # Errors
    ///
    /// As the kernel says.
    pub(super) fn attach(&self, root: BorrowedFd<'_>) -> Result<(), Failure> {
        if self.only.is_none() && self.named.is_empty() {
            return Ok(());
        }
        let directory = OFlags::PATH | OFlags::DIRECTORY;
        let top = open_in_root(root, TOP, directory).or_fail(|| WHAT.to_owned())?;
        if let Some(only) = &self.only {
            return attach(only.as_fd(), top.as_fd()).or_fail(|| WHAT.to_owned());
        }
        let hierarchies = tmpfs(&HIERARCHIES, None, NO_SUID_DEV_EXEC)?;
        attach(hierarchies.as_fd(), top.as_fd()).or_fail(|| WHAT.to_owned())?;
        for (name, mount) in &self.named {
            mkdirat(&hierarchies, name.as_str(), 0o755.into()).or_fail(|| WHAT.to_owned())?;
            let place =
                open_in_root(hierarchies.as_fd(), name, directory).or_fail(|| WHAT.to_owned())?;
            attach(mount.as_fd(), place.as_fd()).or_fail(|| WHAT.to_owned())?;
            // Hosts name joint hierarchies "cpu,cpuacct" and link each name to them.
            for alias in name.split(',').filter(|alias| *alias != name.as_str()) {
                symlinkat(name.as_str(), &hierarchies, alias).or_fail(|| WHAT.to_owned())?;
            }
        }
        let change = Change {
            set: READ_ONLY,
            ..Change::NONE
        };
        change_mount(hierarchies.as_fd(), &change).or_fail(|| WHAT.to_owned())
    }
}
