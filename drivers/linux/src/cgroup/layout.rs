//! Which hierarchies there are, which controller is where, and where ours are made.

use std::collections::BTreeSet;
use std::io;
use std::path::{Component, Path, PathBuf};

use driver_api::Mark;
use specs::id::Instance;

use crate::mounts::{self, MountLine};
use crate::text;

/// Controllers that this program sets or reads.
const OURS: [&str; 6] = ["memory", "cpu", "cpuset", "pids", "freezer", "devices"];

/// Why no layout could be made out.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LayoutError {
    /// A file of the kernel's could not be read.
    #[error("read {}", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The mount table holds a line that is not of the documented form.
    #[error("the mount table has an {0}")]
    Mounts(String),
    /// Nothing is mounted.
    #[error("no cgroup hierarchy is mounted; mount cgroup2 on /sys/fs/cgroup")]
    None,
    /// The configured parent is no clean path.
    #[error("cgroup parent {0:?} is not an absolute path without `..`")]
    Parent(String),
}

/// How the host's cgroups are arranged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Version 1 only.
    V1,
    /// Version 1 controllers beside a version 2 tree.
    Hybrid,
    /// Version 2 only.
    V2,
}

/// One hierarchy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Hierarchy {
    /// Version 2.
    pub(crate) unified: bool,
    /// Those of [`OURS`] that are here.
    pub(crate) controllers: BTreeSet<String>,
    /// Mount point.
    pub(crate) mount: PathBuf,
    /// What part of the hierarchy is mounted there.
    pub(crate) mount_root: String,
    /// Directory below which our instance's directory is made.
    pub(crate) parent: PathBuf,
    /// Our instance's directory.
    pub(crate) instance: PathBuf,
}

/// All hierarchies of the host that matter to us.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Layout {
    /// How they are arranged.
    pub(crate) kind: Kind,
    hierarchies: Vec<Hierarchy>,
}

impl Layout {
    /// Asks the kernel.
    pub(crate) fn discover(instance: &Instance, parent: Option<&str>) -> Result<Self, LayoutError> {
        let read = |path: &str| match text::read(Path::new(path)) {
            Ok(Some(found)) => Ok(found),
            Ok(None) => Err(LayoutError::Read {
                path: path.into(),
                source: io::Error::from_raw_os_error(libc::ENOENT),
            }),
            Err(source) => Err(LayoutError::Read {
                path: path.into(),
                source,
            }),
        };
        let own = read("/proc/self/cgroup")?;
        let lines = mounts::parse(&read("/proc/self/mountinfo")?).map_err(LayoutError::Mounts)?;
        let mut layout = Self::parse(&own, &lines, instance, parent)?;
        for hierarchy in layout.hierarchies.iter_mut().filter(|at| at.unified) {
            if parent.is_none() {
                hierarchy.step_out_of_leaf(instance);
            }
            let path = hierarchy.parent.join("cgroup.controllers");
            let names = text::read(&path)
                .map_err(|source| LayoutError::Read { path, source })?
                .or_else(|| text::read(&hierarchy.mount.join("cgroup.controllers")).ok()?)
                .unwrap_or_default();
            hierarchy.controllers = ours(names.split_ascii_whitespace());
        }
        Ok(layout)
    }

    /// Combines `/proc/self/cgroup` with the mount table.
    pub(crate) fn parse(
        own: &str,
        lines: &[MountLine],
        instance: &Instance,
        parent: Option<&str>,
    ) -> Result<Self, LayoutError> {
        if let Some(parent) = parent {
            check_parent(parent)?;
        }
        let mut hierarchies: Vec<Hierarchy> = Vec::new();
        for line in lines {
            let unified = match line.fs_type.as_str() {
                "cgroup2" => true,
                "cgroup" => false,
                _ => continue,
            };
            let controllers = if unified {
                BTreeSet::new()
            } else {
                ours(line.super_options.split(','))
            };
            let known = hierarchies.iter().any(|at| {
                at.unified == unified && (unified || !at.controllers.is_disjoint(&controllers))
            });
            if known || (!unified && controllers.is_empty()) {
                continue;
            }
            let place = match parent {
                Some(absolute) => absolute.to_owned(),
                None => own_path(own, unified, &controllers).unwrap_or_else(|| "/".to_owned()),
            };
            let mount = PathBuf::from(&line.point);
            let parent = match parent {
                Some(_) => below(&mount, "/", &place),
                None => below(&mount, &line.root, &place),
            };
            let mount_root = line.root.clone();
            let instance = parent.join(Mark::cgroup_directory(instance));
            hierarchies.push(Hierarchy {
                unified,
                controllers,
                mount,
                mount_root,
                parent,
                instance,
            });
        }
        hierarchies.sort_by(|a, b| {
            b.unified
                .cmp(&a.unified)
                .then_with(|| a.mount.cmp(&b.mount))
        });
        let has = |unified| hierarchies.iter().any(|at| at.unified == unified);
        let kind = match (has(true), has(false)) {
            (true, true) => Kind::Hybrid,
            (true, false) => Kind::V2,
            (false, true) => Kind::V1,
            (false, false) => return Err(LayoutError::None),
        };
        Ok(Self { kind, hierarchies })
    }

    /// Returns the hierarchies that lives may have a directory in, version 2 first.
    pub(crate) fn used(&self) -> impl Iterator<Item = &Hierarchy> {
        self.hierarchies
            .iter()
            .filter(|at| self.is_required(at) || at.controllers.contains("cpuset"))
    }

    /// Returns whether every life has a directory here.
    ///
    /// Version 2 always; of version 1 memory, cpu and pids, which also tell the use, and
    /// without a version 2 tree freezer and devices. A version 1 cpuset costs every task a
    /// migration and is joined only when asked for.
    pub(crate) fn is_required(&self, hierarchy: &Hierarchy) -> bool {
        hierarchy.unified
            || hierarchy
                .controllers
                .iter()
                .any(|name| match name.as_str() {
                    "memory" | "cpu" | "pids" => true,
                    "freezer" | "devices" => self.kind == Kind::V1,
                    _ => false,
                })
    }

    /// Returns the hierarchy that has a controller.
    pub(crate) fn controller(&self, name: &str) -> Option<&Hierarchy> {
        self.hierarchies
            .iter()
            .find(|at| at.controllers.contains(name))
    }

    /// Returns the version 2 hierarchy.
    pub(crate) fn unified(&self) -> Option<&Hierarchy> {
        self.hierarchies.iter().find(|at| at.unified)
    }

    /// Returns the hierarchy that a path belongs to.
    pub(crate) fn owner(&self, path: &Path) -> Option<&Hierarchy> {
        self.hierarchies
            .iter()
            .filter(|at| path.starts_with(&at.mount))
            .max_by_key(|at| at.mount.as_os_str().len())
    }
}

impl Hierarchy {
    /// Returns where the group of a life is made.
    pub(crate) fn life(&self, mark: &Mark) -> PathBuf {
        self.instance.join(mark.leaf())
    }

    /// Returns where shims live: beside the lives, with a name that is no mark.
    pub(crate) fn shims(&self) -> PathBuf {
        self.instance.join("shims")
    }

    /// Returns a path as `/proc/PID/cgroup` spells it.
    pub(crate) fn proc_path(&self, path: &Path) -> String {
        let rest = path.strip_prefix(&self.mount).unwrap_or(Path::new(""));
        let whole = Path::new(&self.mount_root).join(rest);
        whole.to_string_lossy().into_owned()
    }

    /// On version 2 a group with processes cannot hand controllers down ("no internal
    /// processes", `cgroup-v2.rst`). A supervisor that delegates a tree therefore starts the
    /// daemon in a leaf of it and marks the parent; that parent is where ours belong.
    fn step_out_of_leaf(&mut self, instance: &Instance) {
        let Some(up) = self
            .parent
            .parent()
            .filter(|up| up.starts_with(&self.mount))
        else {
            return;
        };
        let is_delegated = ["user.delegate", "trusted.delegate"].iter().any(|name| {
            let mut value = [0_u8; 4];
            matches!(rustix::fs::getxattr(up, *name, &mut value), Ok(len) if len > 0 && value.starts_with(b"1"))
        });
        if is_delegated {
            self.parent = up.to_path_buf();
            self.instance = self.parent.join(Mark::cgroup_directory(instance));
        }
    }
}

fn ours<'a>(names: impl Iterator<Item = &'a str>) -> BTreeSet<String> {
    names
        .filter(|name| OURS.contains(name))
        .map(str::to_owned)
        .collect()
}

fn check_parent(parent: &str) -> Result<(), LayoutError> {
    let path = Path::new(parent);
    let clean = path.is_absolute()
        && path
            .components()
            .all(|part| matches!(part, Component::RootDir | Component::Normal(_)));
    if clean {
        Ok(())
    } else {
        Err(LayoutError::Parent(parent.to_owned()))
    }
}

/// Returns our own path in a hierarchy, from `/proc/self/cgroup`.
fn own_path(own: &str, unified: bool, controllers: &BTreeSet<String>) -> Option<String> {
    own.lines().find_map(|line| {
        let mut fields = line.splitn(3, ':');
        let (number, names, path) = (fields.next()?, fields.next()?, fields.next()?);
        let matches = if unified {
            number == "0" && names.is_empty()
        } else {
            names.split(',').any(|name| controllers.contains(name))
        };
        matches.then(|| path.to_owned())
    })
}

/// Returns the directory of a cgroup path under a mount that shows `root` and below. A path
/// outside of it (a cgroup namespace's `/..`) gives the mount point itself.
fn below(mount: &Path, root: &str, path: &str) -> PathBuf {
    let rest = Path::new(path).strip_prefix(root).unwrap_or(Path::new(""));
    let clean = rest
        .components()
        .all(|part| matches!(part, Component::Normal(_)));
    if clean && !rest.as_os_str().is_empty() {
        mount.join(rest)
    } else {
        mount.to_path_buf()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HYBRID: &str = "\
        31 23 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw\n\
        32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n\
        35 31 0:32 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n\
        39 31 0:36 / /sys/fs/cgroup/pids rw - cgroup cgroup rw,pids\n\
        37 31 0:34 / /sys/fs/cgroup/freezer rw - cgroup cgroup rw,freezer\n\
        40 31 0:37 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,name=systemd\n";
    const UNIFIED: &str = "41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n";
    const OWN: &str = "4:memory:/session/a\n2:cpu,cpuacct:/\n8:pids:/\n3:freezer:/\n0::/own\n";

    fn layout(mounts: &str, own: &str, parent: Option<&str>) -> Result<Layout, LayoutError> {
        let lines = mounts::parse(mounts).unwrap();
        Layout::parse(own, &lines, &Instance::new("t").unwrap(), parent)
    }

    #[test]
    fn a_life_nests_below_our_own_group_in_each_hierarchy() {
        let found = layout(&format!("{HYBRID}{UNIFIED}"), OWN, None).unwrap();
        assert_eq!(found.kind, Kind::Hybrid);
        let at = |name: &str| {
            found
                .controller(name)
                .unwrap()
                .instance
                .display()
                .to_string()
        };
        assert_eq!(at("memory"), "/sys/fs/cgroup/memory/session/a/reconciler-t");
        assert_eq!(at("cpu"), "/sys/fs/cgroup/cpu,cpuacct/reconciler-t");
        let unified = found.unified().unwrap();
        assert_eq!(
            unified.instance,
            Path::new("/sys/fs/cgroup/unified/own/reconciler-t")
        );
        assert!(found.used().next().unwrap().unified);
        assert!(!found.is_required(found.controller("freezer").unwrap()));
    }

    #[test]
    fn a_configured_parent_is_taken_from_the_top() {
        let found = layout(&format!("{HYBRID}{UNIFIED}"), OWN, Some("/machines")).unwrap();
        let memory = found.controller("memory").unwrap();
        assert_eq!(
            memory.instance,
            Path::new("/sys/fs/cgroup/memory/machines/reconciler-t")
        );
        for bad in ["machines", "/a/../b", "", "/a/./../c"] {
            assert!(layout(HYBRID, OWN, Some(bad)).is_err(), "{bad}");
        }
    }

    #[test]
    fn without_a_version_2_tree_the_freezer_is_needed() {
        let found = layout(HYBRID, OWN, None).unwrap();
        assert_eq!(found.kind, Kind::V1);
        assert!(found.is_required(found.controller("freezer").unwrap()));
        assert!(found.unified().is_none());
    }

    #[test]
    fn a_partial_mount_shows_paths_below_its_root() {
        let mounts = "9 1 0:9 /box/x /cg rw - cgroup2 cgroup2 rw\n";
        let found = layout(mounts, "0::/box/x/me\n", None).unwrap();
        let unified = found.unified().unwrap();
        assert_eq!(unified.parent, Path::new("/cg/me"));
        assert_eq!(unified.proc_path(Path::new("/cg/me/a")), "/box/x/me/a");
        // Outside of what is mounted: the mount point, never above it.
        let outside = layout(mounts, "0::/../other\n", None).unwrap();
        assert_eq!(outside.unified().unwrap().parent, Path::new("/cg"));
    }

    #[test]
    fn nothing_mounted_is_an_error() {
        assert!(matches!(
            layout("1 0 0:1 / / rw - ext4 x rw\n", "", None),
            Err(LayoutError::None)
        ));
    }
}
