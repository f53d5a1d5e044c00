//! Makes and removes groups, and puts processes into them.

use std::io;
use std::path::Path;

use cgroups_rs::CgroupPid;
use cgroups_rs::fs::Controller as _;
use cgroups_rs::fs::memory::MemController;
use driver_api::{Deadline, StepError, StepFailure};
use specs::desired::Limits;

use super::layout::{Hierarchy, Layout};
use super::{Dir, Group, limits};
use crate::clock::wait_until;
use crate::error::{During as _, failed, terminal};
use crate::text;

/// Makes whatever of the group is missing and writes the limits.
pub(crate) fn create(
    layout: &Layout,
    group: &Group,
    leaf: &str,
    wanted: &Limits,
) -> Result<(), StepError> {
    limits::check_controllers(group, leaf, wanted)?;
    for dir in group.wanted(wanted.cpu_set.is_some()) {
        let is_there = dir
            .exists()
            .during(|| format!("look at {}", dir.path.display()))?;
        if dir.unified
            && let Some(up) = dir.path.parent()
        {
            hand_down(layout, dir, up)?;
        }
        if !is_there {
            limits::make_directory(dir, dir.path.clone())?;
        }
    }
    limits::apply(group, leaf, wanted)
}

/// Makes the groups that shims live in, and returns their directories.
pub(crate) fn create_shims(layout: &Layout) -> Result<Vec<Dir>, StepError> {
    let mut dirs = Vec::new();
    for hierarchy in layout.used().filter(|at| layout.is_required(at)) {
        let dir = shims(hierarchy);
        if !dir
            .exists()
            .during(|| format!("look at {}", dir.path.display()))?
        {
            limits::make_directory(&dir, dir.path.clone())?;
        }
        dirs.push(dir);
    }
    Ok(dirs)
}

/// Returns the directory of the group that shims live in.
pub(crate) fn shims(hierarchy: &Hierarchy) -> Dir {
    let path = hierarchy.shims();
    Dir {
        unified: hierarchy.unified,
        controllers: hierarchy.controllers.clone(),
        proc_path: hierarchy.proc_path(&path),
        mount: hierarchy.mount.clone(),
        required: false,
        path,
    }
}

/// Enables the controllers of a version 2 group in each of its parents, one at a time: a
/// write of several fails as a whole, and says not which (`cgroup-v2.rst`).
fn hand_down(layout: &Layout, dir: &Dir, up: &Path) -> Result<(), StepError> {
    let Some(hierarchy) = layout.owner(up) else {
        return Ok(());
    };
    std::fs::create_dir_all(up).during(|| format!("make the cgroup {}", up.display()))?;
    let mut parents: Vec<&Path> = up
        .ancestors()
        .take_while(|path| path.starts_with(&hierarchy.mount))
        .collect();
    parents.reverse();
    for controller in &dir.controllers {
        for parent in &parents {
            enable(parent, controller)?;
        }
    }
    Ok(())
}

fn enable(parent: &Path, controller: &str) -> Result<(), StepError> {
    let file = parent.join("cgroup.subtree_control");
    let what = || format!("enable {controller} below {}", parent.display());
    let on = text::read(&file).during(what)?.unwrap_or_default();
    if on.split_ascii_whitespace().any(|name| name == controller) {
        return Ok(());
    }
    std::fs::write(&file, format!("+{controller}")).map_err(|err| match err.raw_os_error() {
        Some(libc::EBUSY) => terminal(
            what(),
            "processes live in that group, and version 2 lets only empty groups hand \
             controllers down",
            "start the daemon in a leaf of a delegated tree (systemd: Delegate=yes and \
             DelegateSubgroup=daemon), or set cgroupParent",
        ),
        Some(libc::ENOENT | libc::EOPNOTSUPP) => terminal(
            what(),
            format!("the kernel does not offer it there: {err}"),
            format!("delegate the {controller} controller to the daemon's cgroup"),
        ),
        _ => failed(what(), &err),
    })
}

/// Puts processes into every directory of the group that is there.
///
/// # Errors
/// When the kernel refuses; a process that ended meanwhile is none.
pub(crate) fn join(group: &Group, leaf: &str, pids: &[u32]) -> Result<(), StepError> {
    for dir in &group.dirs {
        if !dir
            .exists()
            .during(|| format!("look at {}", dir.path.display()))?
        {
            continue;
        }
        let inside = super::pids(&dir.path).during(|| format!("read who is in {leaf}"))?;
        let inside = inside.unwrap_or_default();
        let controller = MemController::new(dir.path.clone(), dir.mount.clone(), dir.unified);
        for pid in pids.iter().filter(|pid| !inside.contains(pid)) {
            match controller.add_task_by_tgid(&CgroupPid::from(u64::from(*pid))) {
                Ok(()) => {}
                Err(err) if crate::error::errno_of(&err) == Some(libc::ESRCH) => {}
                Err(err) => {
                    return Err(failed(format!("move process {pid} into {leaf}"), &err));
                }
            }
        }
    }
    Ok(())
}

/// Removes the group from every hierarchy, groups below it first.
///
/// *Guarantees:* goes on after a failure, and then says the first one; a group with
/// processes stays. The kernel answers `EBUSY` until the last dead one is collected, so that
/// is tried again until the deadline.
pub(crate) fn remove(group: &Group, leaf: &str, deadline: Deadline) -> Result<bool, StepError> {
    let mut did = false;
    let mut first = None;
    for dir in &group.dirs {
        match remove_one(&dir.path, deadline) {
            Ok(removed) => did |= removed,
            Err(err) => {
                first.get_or_insert((dir.path.display().to_string(), err));
            }
        }
    }
    match first {
        None => Ok(did),
        Some((path, err)) => Err(StepError::Retry(StepFailure {
            what: format!("remove the cgroup of {leaf} at {path}"),
            cause: err.to_string(),
            errno: err.raw_os_error(),
            hint: None,
        })),
    }
}

fn remove_one(path: &Path, deadline: Deadline) -> io::Result<bool> {
    if !super::exists(path)? {
        return Ok(false);
    }
    let mut last = None;
    let gone = wait_until(deadline, || -> io::Result<bool> {
        last = None;
        for below in super::subtree(path)? {
            match std::fs::remove_dir(&below) {
                Ok(()) => {}
                Err(err) if err.kind() == io::ErrorKind::NotFound => {}
                Err(err) if err.raw_os_error() == Some(libc::EBUSY) => last = Some(err),
                Err(err) => return Err(err),
            }
        }
        Ok(last.is_none())
    })?;
    match last {
        Some(err) if !gone => Err(err),
        _ => Ok(true),
    }
}
