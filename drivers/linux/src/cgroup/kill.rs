//! Kills everything in a group.

use std::io;
use std::path::{Path, PathBuf};

use cgroups_rs::fs::freezer::FreezerController;
use cgroups_rs::fs::{Cgroup, Hierarchy, Subsystem};
use driver_api::{Deadline, ProcessId, StepError};

use super::{Dir, Group, observe};
use crate::clock::wait_until;
use crate::error::{During as _, failed, retry};
use crate::{process, text};

/// A version 2 tree as `cgroups-rs` wants to see it; its own search for one fails where
/// version 1 controllers are mounted beside it.
#[derive(Debug)]
struct UnifiedTree {
    root: PathBuf,
}

impl Hierarchy for UnifiedTree {
    fn subsystems(&self) -> Vec<Subsystem> {
        Vec::new()
    }

    fn root(&self) -> PathBuf {
        self.root.clone()
    }

    fn root_control_group(&self) -> Cgroup {
        Cgroup::load(
            Box::new(Self {
                root: self.root.clone(),
            }),
            "",
        )
    }

    fn parent_control_group(&self, path: &str) -> Cgroup {
        let parent = Path::new(path).parent().unwrap_or(Path::new(""));
        Cgroup::load(
            Box::new(Self {
                root: self.root.clone(),
            }),
            parent,
        )
    }

    fn v2(&self) -> bool {
        true
    }
}

/// Kills whatever lives in the group, and waits until nobody does.
///
/// # Errors
/// `Retry` when somebody still lives at the deadline: in an uninterruptible wait, mostly.
pub(crate) fn kill(group: &Group, leaf: &str, deadline: Deadline) -> Result<bool, StepError> {
    let is_populated = || observe::is_populated(group).during(|| format!("read who is in {leaf}"));
    if !is_populated()? {
        return Ok(false);
    }
    let empty = wait_until(deadline, || {
        if let Some(dir) = group.unified() {
            kill_unified(dir, leaf)?;
        }
        for dir in group.dirs.iter().filter(|dir| !dir.unified) {
            kill_each(dir, leaf)?;
        }
        is_populated().map(|populated| !populated)
    })?;
    if empty {
        return Ok(true);
    }
    Err(retry(
        format!("kill the processes of {leaf}"),
        "some are still there after SIGKILL; they wait in the kernel and cannot be interrupted",
    ))
}

/// One write kills the whole tree at once, forks included (Linux 5.14).
fn kill_unified(dir: &Dir, leaf: &str) -> Result<(), StepError> {
    let (Some(root), Some(name)) = (dir.path.parent(), dir.path.file_name()) else {
        return Ok(());
    };
    if !dir.exists().during(|| format!("look at {leaf}"))? {
        return Ok(());
    }
    let tree = Box::new(UnifiedTree {
        root: root.to_path_buf(),
    });
    match Cgroup::load(tree, Path::new(name)).kill() {
        Ok(()) => Ok(()),
        // Before 5.14: one by one, until no fork wins the race.
        Err(err) if err.kind() == &cgroups_rs::fs::error::ErrorKind::InvalidOperation => {
            kill_each(dir, leaf)
        }
        Err(err) if crate::error::errno_of(&err) == Some(libc::ENOENT) => Ok(()),
        Err(err) => Err(failed(format!("kill the processes of {leaf}"), &err)),
    }
}

/// Kills the processes one by one. Where the freezer is ours they are frozen while the
/// signals are queued, so that no fork gets away, and thawed so that they can die: a frozen
/// process does not take a signal (`freezer-subsystem.rst`).
fn kill_each(dir: &Dir, leaf: &str) -> Result<(), StepError> {
    let what = || format!("kill the processes of {leaf}");
    if !dir.exists().during(what)? {
        return Ok(());
    }
    let groups = super::subtree(&dir.path).during(what)?;
    let has_freezer = !dir.unified && dir.controllers.contains("freezer");
    if has_freezer {
        // Best effort: whatever escapes is met in the next turn.
        let _frozen = freezer(&dir.path, dir).freeze();
    }
    let mut outcome = Ok(());
    for below in &groups {
        let killed = kill_in(below, dir).during(what);
        if outcome.is_ok() {
            outcome = killed;
        }
    }
    if has_freezer {
        // Inner groups too: they may have been frozen by somebody else.
        for below in groups.iter().rev() {
            let _thawed = freezer(below, dir).thaw();
        }
    }
    outcome
}

fn freezer(path: &Path, dir: &Dir) -> FreezerController {
    FreezerController::new(path.to_path_buf(), dir.mount.clone(), false)
}

fn kill_in(group: &Path, dir: &Dir) -> io::Result<()> {
    for pid in super::pids(group)?.unwrap_or_default() {
        let Some(stat) = process::stat(pid)? else {
            continue;
        };
        let id = ProcessId {
            pid,
            start: stat.start,
        };
        // Between listing and start time the pid may have changed hands: the one that has
        // this start time must still be in the group.
        let is_ours = text::read(&process::proc_path(pid, "cgroup"))?.is_some_and(|found| {
            found.lines().any(|line| {
                line.splitn(3, ':')
                    .nth(2)
                    .is_some_and(|path| Path::new(path).starts_with(&dir.proc_path))
            })
        });
        if is_ours {
            process::kill(id)?;
        }
    }
    Ok(())
}
