//! `/dev`: always our own tmpfs, filled with nodes we make.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{
    AtFlags, Dev, Dir, FileType, Gid, Mode, OFlags, ResolveFlags, Stat, Uid, chownat, fstat,
    makedev, mkdirat, mknodat, openat, statat, symlinkat,
};
use rustix::io::Errno;
use rustix::mount::MountAttrFlags;
use shim_proto::launch::{IdRange, Launch, Tmpfs};

use super::acting::Acting;
use super::failure::{Failure, OrFail};
use super::object::{NO_SUID_DEV_EXEC, NO_SUID_EXEC, Parameter, filesystem, tmpfs};
use super::resolve::{Making, make_directories, names, open, open_host};

const WHAT: &str = "cannot fill /dev";
/// Size of `/dev` itself: room for nodes, sockets and small files.
const DEV: Tmpfs = Tmpfs {
    bytes: 64 << 20,
    mode: 0o755,
};
/// Size of `/dev/shm`.
const SHM: Tmpfs = Tmpfs {
    bytes: 64 << 20,
    mode: 0o1777,
};
/// Group `tty`, owner of terminals wherever a group has that name.
const TTY_GROUP: u32 = 5;
/// Nodes copied for a privileged container, at most.
const HOST_NODES_MAX: usize = 8192;
/// Directories below the host's `/dev` that are looked into, at most this deep.
const HOST_DEPTH_MAX: usize = 8;

/// Devices every container has: name, major, minor; mode 0666.
const NODES: [(&str, u32, u32); 6] = [
    ("null", 1, 3),
    ("zero", 1, 5),
    ("full", 1, 7),
    ("random", 1, 8),
    ("urandom", 1, 9),
    ("tty", 5, 0),
];
/// Links every container has.
const LINKS: [(&str, &str); 5] = [
    ("ptmx", "pts/ptmx"),
    ("fd", "/proc/self/fd"),
    ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
    ("stderr", "/proc/self/fd/2"),
];

/// `/dev` and what is mounted in it, nothing attached.
pub(super) struct Devices {
    /// The tmpfs.
    pub(super) dev: OwnedFd,
    /// Name in `/dev` of each mount that goes on it.
    pub(super) parts: Vec<(&'static str, OwnedFd)>,
}

/// Makes `/dev` as `launch` wants it.
///
/// # Errors
///
/// When a device asked for is not one, or the kernel refuses.
pub(super) fn devices(launch: &Launch) -> Result<Devices, Failure> {
    let ids = launch.user_namespace;
    // Made in the initial user namespace, so that nodes in it work (`SB_I_NODEV` is off).
    let dev = tmpfs(&DEV, ids, MountAttrFlags::MOUNT_ATTR_NOSUID)?;
    let acting = Acting::begin(ids)?;
    standard(dev.as_fd())?;
    let host = open_host("/dev", OFlags::DIRECTORY, WHAT)?;
    for path in &launch.devices {
        copy_named(host.as_fd(), dev.as_fd(), path, ids)?;
    }
    if launch.privileged {
        copy_all(host.as_fd(), dev.as_fd(), ids)?;
    }
    drop(acting);
    let mut parts = vec![("pts", terminals(ids)?)];
    let is_shm = |path: &str| {
        path.split('/')
            .filter(|name| !name.is_empty())
            .eq(["dev", "shm"])
    };
    if !launch.mounts.iter().any(|mount| is_shm(&mount.path)) {
        parts.push(("shm", tmpfs(&SHM, ids, NO_SUID_DEV_EXEC)?));
    }
    Ok(Devices { dev, parts })
}

fn standard(dev: BorrowedFd<'_>) -> Result<(), Failure> {
    for (name, major, minor) in NODES {
        mknodat(
            dev,
            name,
            FileType::CharacterDevice,
            0o666.into(),
            makedev(major, minor),
        )
        .map_err(|errno| Failure::kernel(errno, WHAT).because(name))?;
    }
    for (name, target) in LINKS {
        symlinkat(target, dev, name).or_fail(|| WHAT.to_owned())?;
    }
    for name in ["pts", "shm", "mqueue"] {
        mkdirat(dev, name, 0o755.into()).or_fail(|| WHAT.to_owned())?;
    }
    Ok(())
}

/// A devpts of its own: no terminal of the host or of another container is in it.
fn terminals(ids: Option<IdRange>) -> Result<OwnedFd, Failure> {
    let mut parameters = vec![
        Parameter::Flag("newinstance"),
        Parameter::Text("ptmxmode", "0666".to_owned()),
        Parameter::Text("mode", "0620".to_owned()),
    ];
    if let Some(gid) = host_id(TTY_GROUP, ids) {
        parameters.push(Parameter::Text("gid", gid.to_string()));
    }
    filesystem("devpts", &parameters, NO_SUID_EXEC)
}

/// What `id` inside is on the host; `None` outside the range.
fn host_id(id: u32, ids: Option<IdRange>) -> Option<u32> {
    match ids {
        None => Some(id),
        Some(ids) if id < ids.count => ids.base.checked_add(id),
        Some(_) => None,
    }
}

fn copy_named(
    host: BorrowedFd<'_>,
    dev: BorrowedFd<'_>,
    path: &str,
    ids: Option<IdRange>,
) -> Result<(), Failure> {
    let what = format!("cannot give the device {path}");
    let wrong = |why: &str| Failure::terminal(what.clone(), why);
    let below = path
        .strip_prefix("/dev/")
        .ok_or_else(|| wrong("it is not below /dev"))?;
    // A link of the host's (/dev/disk/by-id) is followed, but not out of /dev.
    let place = open(host, below, OFlags::PATH, ResolveFlags::BENEATH).map_err(|errno| {
        let failure = Failure::kernel(errno, what.clone());
        if errno == Errno::XDEV {
            failure.because("it leads out of /dev")
        } else {
            failure.because("on the host")
        }
    })?;
    let stat = fstat(&place).or_fail(|| what.clone())?;
    if !is_device(&stat) {
        return Err(wrong("it is no device on the host"));
    }
    let below = format!("/{below}");
    let names = names(&below, &what)?;
    let Some((name, parents)) = names.split_last() else {
        return Err(wrong("it has no name"));
    };
    let parent = make_directories(dev, parents, Making::Anywhere, &what)?;
    copy(parent.as_fd(), name, &stat, ids).map_err(|failure| Failure { what, ..failure })
}

fn is_device(stat: &Stat) -> bool {
    let kind = FileType::from_raw_mode(stat.st_mode);
    matches!(kind, FileType::CharacterDevice | FileType::BlockDevice)
}

/// Makes a node like the one that `stat` is of. One that is there already, a standard one,
/// stays.
fn copy(
    parent: BorrowedFd<'_>,
    name: &str,
    stat: &Stat,
    ids: Option<IdRange>,
) -> Result<(), Failure> {
    if statat(parent, name, AtFlags::SYMLINK_NOFOLLOW).is_ok() {
        return Ok(());
    }
    let kind = FileType::from_raw_mode(stat.st_mode);
    let mode = Mode::from_raw_mode(stat.st_mode & 0o777);
    let device: Dev = stat.st_rdev;
    mknodat(parent, name, kind, mode, device).or_fail(|| WHAT.to_owned())?;
    // The owner's number on the host means the same name inside more often than not; where
    // the range has no such id the container's root owns it.
    let root = ids.map_or(0, |ids| ids.base);
    let owner = Uid::from_raw(host_id(stat.st_uid, ids).unwrap_or(root));
    let group = Gid::from_raw(host_id(stat.st_gid, ids).unwrap_or(root));
    chownat(
        parent,
        name,
        Some(owner),
        Some(group),
        AtFlags::SYMLINK_NOFOLLOW,
    )
    .or_fail(|| WHAT.to_owned())
}

/// Copies every device of the host, except what is on another file system (terminals).
fn copy_all(
    host: BorrowedFd<'_>,
    dev: BorrowedFd<'_>,
    ids: Option<IdRange>,
) -> Result<(), Failure> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let device = fstat(host).or_fail(|| WHAT.to_owned())?.st_dev;
    let mut left = HOST_NODES_MAX;
    let mut waiting = vec![(Vec::<String>::new(), HOST_DEPTH_MAX)];
    while let Some((path, depth)) = waiting.pop() {
        let place = if path.is_empty() {
            ".".to_owned()
        } else {
            path.join("/")
        };
        // A device may go while we look.
        let Ok(directory) = openat(host, place.as_str(), flags, Mode::empty()) else {
            continue;
        };
        for entry in Dir::read_from(&directory).or_fail(|| WHAT.to_owned())? {
            let entry = entry.or_fail(|| WHAT.to_owned())?;
            let Ok(name) = entry.file_name().to_str() else {
                continue;
            };
            let Ok(stat) = statat(&directory, name, AtFlags::SYMLINK_NOFOLLOW) else {
                continue;
            };
            if matches!(name, "." | "..") || stat.st_dev != device {
                continue;
            }
            if FileType::from_raw_mode(stat.st_mode) == FileType::Directory && depth > 0 {
                let mut below = path.clone();
                below.push(name.to_owned());
                waiting.push((below, depth - 1));
            } else if is_device(&stat) {
                left = left.checked_sub(1).ok_or_else(|| {
                    Failure::terminal(WHAT, format!("the host has over {HOST_NODES_MAX} devices"))
                })?;
                let parents: Vec<&str> = path.iter().map(String::as_str).collect();
                let parent = make_directories(dev, &parents, Making::Anywhere, WHAT)?;
                copy(parent.as_fd(), name, &stat, ids)?;
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::{IdRange, host_id};

    #[test]
    fn ids_outside_a_range_have_no_counterpart() {
        let ids = Some(IdRange {
            base: 100_000,
            count: 10,
        });
        assert_eq!(host_id(9, ids), Some(100_009));
        assert_eq!(host_id(10, ids), None);
        assert_eq!(host_id(5, None), Some(5));
        assert_eq!(
            host_id(
                1,
                Some(IdRange {
                    base: u32::MAX,
                    count: 2
                })
            ),
            None
        );
    }
}
