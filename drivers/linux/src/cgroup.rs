//! Control groups: version 1, version 2 and both side by side.
//!
//! Which controller lives in which hierarchy is found by asking (`cgroups(7)`); writes go
//! through `cgroups-rs` where it is sound, reads are our own, since that crate turns errors
//! into zeros.

pub(crate) mod create;
pub(crate) mod devices;
mod facts;
pub(crate) mod kill;
pub(crate) mod layout;
pub(crate) mod limits;
pub(crate) mod numbers;
pub(crate) mod observe;
pub(crate) mod record;
pub(crate) mod usage;

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};

use driver_api::Mark;
use shim_proto::launch::CgroupDirectory;

use layout::{Hierarchy, Layout};

/// The cgroup of one life: one directory in each hierarchy that is used.
#[derive(Clone, Debug)]
pub(crate) struct Group {
    /// Version 2 first, if there is any.
    pub(crate) dirs: Vec<Dir>,
}

/// One directory of a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Dir {
    /// Where it is mounted.
    pub(crate) path: PathBuf,
    /// Version 2.
    pub(crate) unified: bool,
    /// Controllers of ours that can be set here.
    pub(crate) controllers: BTreeSet<String>,
    /// Path as `/proc/PID/cgroup` spells it.
    pub(crate) proc_path: String,
    /// Mount point of the hierarchy.
    pub(crate) mount: PathBuf,
    /// A group is whole only if this directory is there.
    pub(crate) required: bool,
}

impl Group {
    /// Returns the group of a life: where its record says, else where new ones are made.
    pub(crate) fn of(layout: &Layout, mark: &Mark, recorded: &[CgroupDirectory]) -> Self {
        let mut dirs = Vec::new();
        for hierarchy in layout.used() {
            let path = recorded
                .iter()
                .map(|directory| PathBuf::from(&directory.path))
                .find(|path| {
                    layout
                        .owner(path)
                        .is_some_and(|at| at.mount == hierarchy.mount)
                })
                .unwrap_or_else(|| hierarchy.life(mark));
            dirs.push(Dir::new(layout, hierarchy, path));
        }
        Self { dirs }
    }

    /// Returns the directory that has a controller.
    pub(crate) fn site(&self, controller: &str) -> Option<&Dir> {
        self.dirs
            .iter()
            .find(|dir| dir.controllers.contains(controller))
    }

    /// Returns the version 2 directory.
    pub(crate) fn unified(&self) -> Option<&Dir> {
        self.dirs.iter().find(|dir| dir.unified)
    }

    /// Returns the directories that a new life needs: the required ones, and cpuset if asked.
    pub(crate) fn wanted(&self, cpu_set: bool) -> impl Iterator<Item = &Dir> {
        self.dirs
            .iter()
            .filter(move |dir| dir.required || (cpu_set && dir.controllers.contains("cpuset")))
    }
}

impl Dir {
    fn new(layout: &Layout, hierarchy: &Hierarchy, path: PathBuf) -> Self {
        Self {
            unified: hierarchy.unified,
            controllers: hierarchy.controllers.clone(),
            proc_path: hierarchy.proc_path(&path),
            mount: hierarchy.mount.clone(),
            required: layout.is_required(hierarchy),
            path,
        }
    }

    /// Returns whether the directory is there.
    ///
    /// # Errors
    /// When that could not be found out, or something else stands there.
    pub(crate) fn exists(&self) -> io::Result<bool> {
        exists(&self.path)
    }
}

/// Returns whether a directory is there; a file in its place is an error.
pub(crate) fn exists(path: &Path) -> io::Result<bool> {
    match std::fs::symlink_metadata(path) {
        Ok(meta) if meta.is_dir() => Ok(true),
        Ok(_) => Err(io::Error::from_raw_os_error(libc::ENOTDIR)),
        Err(err) if err.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(err) => Err(err),
    }
}

/// Returns the pids in a cgroup file, `None` when the group is not there.
pub(crate) fn pids(directory: &Path) -> io::Result<Option<Vec<u32>>> {
    let Some(text) = crate::text::read(&directory.join("cgroup.procs"))? else {
        return Ok(None);
    };
    text.lines()
        .map(|line| {
            line.parse()
                .map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "not a pid"))
        })
        .collect::<io::Result<Vec<u32>>>()
        .map(Some)
}

/// Returns the groups below a directory and itself, children before parents.
///
/// *Guarantees:* at most [`GROUPS_MAX`]; a group that goes meanwhile is left out.
pub(crate) fn subtree(directory: &Path) -> io::Result<Vec<PathBuf>> {
    let mut found = vec![directory.to_path_buf()];
    let mut at = 0;
    while let Some(next) = found.get(at).cloned() {
        at += 1;
        let entries = match std::fs::read_dir(&next) {
            Ok(entries) => entries,
            Err(err) if crate::text::is_gone(&err) => continue,
            Err(err) => return Err(err),
        };
        for entry in entries {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                found.push(entry.path());
            }
        }
        if found.len() > GROUPS_MAX {
            return Err(io::Error::other(format!(
                "more than {GROUPS_MAX} groups below this one"
            )));
        }
    }
    found.reverse();
    Ok(found)
}

/// Most groups below one of ours that we walk.
pub(crate) const GROUPS_MAX: usize = 100_000;
