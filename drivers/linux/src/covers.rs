//! Paths that were hidden or made read-only, and whether they still are.
//!
//! What lies on a path is in the mount table. Where nothing lies on it, it stands open or was
//! never there, and only a walk in the container's root tells: not through links, and not
//! through a file system that somebody else answers for and that might never answer. A path
//! that is a link in the image is covered where it leads to, and is not judged.

use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::OwnedFd;

use driver_api::{Fact, Gap, MountObserved, ProcessId};
use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, openat2};
use rustix::io::Errno;
use shim_proto::launch::{COVER_INODES, Launch};

use crate::process;

/// File systems of the kernel's own and of local disks: looking a name up in them ends.
const PLAIN: [&str; 9] = [
    "btrfs", "cgroup", "cgroup2", "ext4", "overlay", "proc", "sysfs", "tmpfs", "xfs",
];

/// Returns the paths that stand open in the container of a living init.
pub(crate) fn exposed(
    launch: &Launch,
    init: ProcessId,
    mounts: &BTreeMap<String, MountObserved>,
    leaf: &str,
) -> Fact<BTreeSet<String>> {
    let gap = |path: &str, errno: Errno| {
        let what = format!("look at {path} of {leaf}");
        let why = errno.to_string();
        Fact::Unknown(Gap { what, why })
    };
    let hidden = launch.masked_paths.iter().map(|path| (path, true));
    let read_only = launch.read_only_paths.iter().map(|path| (path, false));
    let mut root: Option<OwnedFd> = None;
    let mut exposed = BTreeSet::new();
    for (path, hide) in hidden.chain(read_only) {
        if !launch.is_covered(path) {
            continue;
        }
        if let Some(mount) = mounts.get(path) {
            if !covers(mount, hide) {
                exposed.insert(path.clone());
            }
            continue;
        }
        if !is_plain(path, mounts) {
            continue;
        }
        let from = match root.take().map_or_else(|| open_root(init), Ok) {
            Ok(from) => from,
            // It has just ended.
            Err(Errno::NOENT | Errno::SRCH) => return Fact::Absent,
            Err(errno) => return gap("/", errno),
        };
        match walk(&from, path) {
            Ok(_) => _ = exposed.insert(path.clone()),
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => {}
            Err(errno) => return gap(path, errno),
        }
        root = Some(from);
    }
    Fact::Known(exposed)
}

/// Files lie under the host's `/dev/null`, directories under an empty tmpfs of our own.
fn covers(mount: &MountObserved, hide: bool) -> bool {
    let is_ours = mount.fs_type == "tmpfs" && mount.inodes == Some(COVER_INODES);
    let hides = mount.root == "/null" || (is_ours && mount.root == "/");
    mount.read_only && (hides || !hide)
}

fn is_plain(path: &str, mounts: &BTreeMap<String, MountObserved>) -> bool {
    let is_above = |point: &str| {
        let rest = path.strip_prefix(point.trim_end_matches('/'));
        rest.is_some_and(|rest| rest.starts_with('/'))
    };
    let mut above = mounts.iter().filter(|(point, _)| is_above(point));
    above.all(|(_, mount)| PLAIN.contains(&mount.fs_type.as_str()))
}

fn open_root(init: ProcessId) -> Result<OwnedFd, Errno> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::openat(
        CWD,
        process::proc_path(init.pid, "root"),
        flags,
        Mode::empty(),
    )
}

fn walk(root: &OwnedFd, path: &str) -> Result<OwnedFd, Errno> {
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    openat2(root, path, flags, Mode::empty(), resolve)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mount(fs_type: &str, root: &str, read_only: bool) -> MountObserved {
        MountObserved {
            fs_type: fs_type.to_owned(),
            read_only,
            root: root.to_owned(),
            device: "0:1".to_owned(),
            inodes: None,
            stacked: 1,
        }
    }

    fn cover() -> MountObserved {
        MountObserved {
            inodes: Some(COVER_INODES),
            ..mount("tmpfs", "/", true)
        }
    }

    #[test]
    fn what_covers_a_path_is_read_only_and_hides_what_shall_be_hidden() {
        for (lies, hides, seals) in [
            (mount("devtmpfs", "/null", true), true, true),
            (cover(), true, true),
            (mount("tmpfs", "/", true), false, true),
            (mount("proc", "/sys", true), false, true),
            (mount("proc", "/sys", false), false, false),
            (mount("tmpfs", "/", false), false, false),
        ] {
            assert_eq!(covers(&lies, true), hides, "{lies:?}");
            assert_eq!(covers(&lies, false), seals, "{lies:?}");
        }
    }

    #[test]
    fn nobody_walks_where_somebody_else_answers() {
        let table = |kind: &str| {
            let mounts = [("/", "overlay"), ("/data", kind), ("/data/x", "ext4")];
            let of = |(at, kind): (&str, &str)| (at.to_owned(), mount(kind, "/", false));
            mounts.into_iter().map(of).collect::<BTreeMap<_, _>>()
        };
        assert!(is_plain("/data/x/secret", &table("tmpfs")));
        assert!(!is_plain("/data/x/secret", &table("fuse.sshfs")));
        assert!(is_plain("/database", &table("fuse.sshfs")));
    }
}
