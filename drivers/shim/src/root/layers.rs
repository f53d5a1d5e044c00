//! The overlay: the image below, what the container writes above.
//!
//! With a user namespace the shared lower layer is shown through it, so one copy on disk
//! serves every id range. A persistent upper too: what lies on disk then does not depend on
//! the range. One in an image is mounted for this root alone. An ephemeral upper is plain, its directories were made for the range's root.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use rustix::fs::{AtFlags, OFlags, ResolveFlags, mkdirat, unlinkat};
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsconfig_set_fd, fsconfig_set_flag,
    fsconfig_set_string, fsmount, fsopen,
};
use shim_proto::launch::{IdRange, Root, Tmpfs};

use super::acting::Acting;
use super::failure::{Failure, OrFail};
use super::image;
use super::object::{Ids, NO_SUID_DEV_EXEC, attach, cloned, id_map, tmpfs};
use super::resolve::{open, open_host};
use crate::sys::mount::{Change, Propagation, change_mount};

const WHAT: &str = "cannot put the root together";
/// The staging tmpfs holds three directories.
const STAGE: Tmpfs = Tmpfs {
    bytes: 64 << 10,
    mode: 0o755,
};

/// The three directories of an overlay as places.
pub(super) struct Layers {
    lower: OwnedFd,
    upper: OwnedFd,
    work: OwnedFd,
    /// Clones among them, which older kernels want attached before they become layers
    /// (`clone_private_mount` in `fs/namespace.c`).
    clones: Vec<OwnedFd>,
    /// The upper can only be written as this range's ids.
    upper_ids: Option<IdRange>,
}

impl Layers {
    /// Opens the layers of `root`, id-mapped as needed.
    ///
    /// # Errors
    ///
    /// When one is missing or cannot be id-mapped.
    pub(super) fn open(root: &Root, ids: Ids<'_>) -> Result<Layers, Failure> {
        let mut clones = Vec::new();
        let lower = open_host(&root.lower, OFlags::DIRECTORY, WHAT)?;
        let lower = match ids.userns {
            Some(userns) => {
                let clone = mapped(lower.as_fd(), userns, &root.lower)?;
                let place = open_below(clone.as_fd(), ".")?;
                clones.push(clone);
                place
            }
            None => lower,
        };
        let upper_ids = ids.range.filter(|_| root.persistent);
        let (upper, work) = match (root.persistent, ids.userns) {
            (_, userns) if !root.image.is_empty() => {
                let mount = image::mounted(&root.image)?;
                make_private(mount.as_fd())?;
                if let Some(userns) = userns.filter(|_| root.persistent) {
                    id_map(mount.as_fd(), userns, false, &root.image, WHAT)?;
                }
                let layers = (
                    open_below(mount.as_fd(), &root.upper)?,
                    open_below(mount.as_fd(), &root.work)?,
                );
                clones.push(mount);
                layers
            }
            (true, Some(userns)) => {
                // Both have to be on one mount, so it is their common parent that is mapped.
                let (parent, upper, work) = common_parent(&root.upper, &root.work)?;
                let place = open_host(parent, OFlags::DIRECTORY, WHAT)?;
                let clone = mapped(place.as_fd(), userns, parent)?;
                let layers = (
                    open_below(clone.as_fd(), upper)?,
                    open_below(clone.as_fd(), work)?,
                );
                clones.push(clone);
                layers
            }
            _ => (
                open_host(&root.upper, OFlags::DIRECTORY, WHAT)?,
                open_host(&root.work, OFlags::DIRECTORY, WHAT)?,
            ),
        };
        Ok(Layers {
            lower,
            upper,
            work,
            clones,
            upper_ids,
        })
    }

    /// Attaches the clones on a staging tmpfs over the upper directory, or the image's, in a mount namespace
    /// of our own, and gives the place the overlay goes on.
    ///
    /// # Errors
    ///
    /// As the kernel says.
    pub(super) fn stage(&self, root: &Root) -> Result<OwnedFd, Failure> {
        let stage = tmpfs(&STAGE, None, NO_SUID_DEV_EXEC)?;
        let over = match root.image.rsplit_once('/') {
            Some((directory, _)) => directory,
            None => &root.upper,
        };
        let place = open_host(over, OFlags::DIRECTORY, WHAT)?;
        attach(stage.as_fd(), place.as_fd()).or_fail(|| WHAT.to_owned())?;
        let directory = |name: &str| {
            mkdirat(&stage, name, 0o755.into()).or_fail(|| WHAT.to_owned())?;
            open_below(stage.as_fd(), name)
        };
        for (index, clone) in self.clones.iter().enumerate() {
            let place = directory(&format!("layer{index}"))?;
            attach(clone.as_fd(), place.as_fd()).or_fail(|| WHAT.to_owned())?;
        }
        directory("root")
    }

    /// Mounts the overlay, attached nowhere.
    ///
    /// `by_descriptor` gives the layers as descriptors (Linux 6.13), else they are named
    /// through `/proc/self/fd`, where nothing has to be escaped.
    ///
    /// # Errors
    ///
    /// As the kernel says.
    pub(super) fn mount(
        &self,
        root: &Root,
        attributes: MountAttrFlags,
        by_descriptor: bool,
    ) -> Result<OwnedFd, Failure> {
        if !root.persistent {
            forget_interrupted(self.work.as_fd());
        }
        // Overlay keeps the ids and capabilities it is mounted with for its own work.
        let _acting = self
            .upper_ids
            .map(|ids| Acting::begin(Some(ids)))
            .transpose()?;
        let refused = |errno| {
            Failure::kernel(errno, WHAT).because(format!(
                "overlay of {} below and {} above",
                root.lower, root.upper
            ))
        };
        let context = fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC).or_fail(|| WHAT.to_owned())?;
        fsconfig_set_string(&context, "source", "overlay").map_err(refused)?;
        let layers = [
            ("lowerdir+", "lowerdir", &self.lower),
            ("upperdir", "upperdir", &self.upper),
            ("workdir", "workdir", &self.work),
        ];
        for (key, key_by_path, layer) in layers {
            if by_descriptor {
                fsconfig_set_fd(&context, key, layer).map_err(refused)?;
            } else {
                let path = format!("/proc/self/fd/{}", layer.as_raw_fd());
                fsconfig_set_string(&context, key_by_path, path).map_err(refused)?;
            }
        }
        if !root.persistent {
            // No sync of the backing disk at unmount for what is thrown away (Linux 5.10).
            fsconfig_set_flag(&context, "volatile").map_err(refused)?;
        }
        fsconfig_create(&context).map_err(refused)?;
        fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, attributes).map_err(refused)
    }
}

fn mapped(place: BorrowedFd<'_>, userns: BorrowedFd<'_>, path: &str) -> Result<OwnedFd, Failure> {
    let clone = cloned(place, false, WHAT)?;
    make_private(clone.as_fd())?;
    id_map(clone.as_fd(), userns, false, path, WHAT)?;
    Ok(clone)
}

fn make_private(mount: BorrowedFd<'_>) -> Result<(), Failure> {
    let change = Change {
        propagation: Propagation::Private,
        ..Change::NONE
    };
    change_mount(mount, &change).or_fail(|| WHAT.to_owned())
}

fn open_below(directory: BorrowedFd<'_>, path: &str) -> Result<OwnedFd, Failure> {
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV;
    open(directory, path, OFlags::PATH | OFlags::DIRECTORY, resolve)
        .map_err(|errno| Failure::kernel(errno, WHAT).because(format!("cannot open {path}")))
}

/// The longest directory that both paths are below, and what is left of each.
fn common_parent<'a>(
    first: &'a str,
    second: &'a str,
) -> Result<(&'a str, &'a str, &'a str), Failure> {
    let same = first
        .bytes()
        .zip(second.bytes())
        .take_while(|(a, b)| a == b)
        .count();
    let split = first.get(..same).and_then(|same| same.rfind('/'));
    let parts = split.and_then(|slash| {
        let parent = if slash == 0 { "/" } else { first.get(..slash)? };
        Some((parent, first.get(slash + 1..)?, second.get(slash + 1..)?))
    });
    parts
        .filter(|(_, upper, work)| !upper.is_empty() && !work.is_empty())
        .ok_or_else(|| Failure::terminal(WHAT, format!("{first} and {second} lie apart")))
}

/// Takes away the mark of an earlier `volatile` mount of the same work directory, which a
/// start that was given up leaves behind and overlay refuses to go on from
/// (`overlayfs.rst`). What was in the upper is the same throw-away life's.
fn forget_interrupted(work: BorrowedFd<'_>) {
    let mark = [
        ("work/incompat/volatile/dirty", AtFlags::empty()),
        ("work/incompat/volatile", AtFlags::REMOVEDIR),
        ("work/incompat", AtFlags::REMOVEDIR),
    ];
    for (path, flags) in mark {
        match unlinkat(work, path, flags) {
            // Not there is the rule; anything else shows when overlay refuses the mount.
            Ok(()) | Err(Errno::NOENT | Errno::NOTDIR) => {}
            Err(_) => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::common_parent;

    #[test]
    fn upper_and_work_share_their_longest_parent() {
        #[track_caller]
        fn check(first: &str, second: &str, want: Option<(&str, &str, &str)>) {
            assert_eq!(common_parent(first, second).ok(), want);
        }
        check("/a/upper", "/a/work", Some(("/a", "upper", "work")));
        check("/a/w1/x", "/a/w2/y", Some(("/a", "w1/x", "w2/y")));
        check("/up", "/uq", Some(("/", "up", "uq")));
        check("/a/up", "/a/upper", Some(("/a", "up", "upper")));
        check("/a/b", "/a/b/c", Some(("/a", "b", "b/c")));
        check("relative", "other", None);
        check("/a/", "/a/work", None);
    }
}
