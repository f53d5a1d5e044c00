//! Finding shims as processes, without their runtime directories.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::Path;

use driver_api::{Gap, Mark, ProcessId};
use specs::id::Instance;

use crate::error::gap;
use crate::host::{LinuxHost, SHIM_NAME};
use crate::{cgroup, process, text};

/// Shims that were found as processes, by the life they are for.
pub(crate) type Shims = BTreeMap<Mark, Vec<ProcessId>>;

/// Finds the shims of one life in the group that shims live in.
pub(crate) fn of_life(host: &LinuxHost, mark: &Mark) -> Result<Vec<ProcessId>, Gap> {
    Ok(in_groups(host)?.remove(mark).unwrap_or_default())
}

/// Finds shims in the group that they live in, without looking at every process.
pub(crate) fn in_groups(host: &LinuxHost) -> Result<Shims, Gap> {
    let mut pids = BTreeSet::new();
    for hierarchy in host.layout.used() {
        let path = hierarchy.shims();
        let found = cgroup::pids(&path)
            .map_err(|err| gap(format!("read who is in {}", path.display()), &err))?;
        pids.extend(found.unwrap_or_default());
    }
    among(pids.into_iter(), &host.places.instance)
}

/// Finds shims among all processes, also one that has not reached its group yet.
pub(crate) fn everywhere(instance: &Instance) -> Result<Shims, Gap> {
    let pids = process::all().map_err(|err| gap("list the processes", &err))?;
    among(pids.into_iter(), instance)
}

fn among(pids: impl Iterator<Item = u32>, instance: &Instance) -> Result<Shims, Gap> {
    let mut shims = Shims::new();
    for pid in pids {
        let found =
            shim_of(pid, instance).map_err(|err| gap(format!("look at process {pid}"), &err))?;
        if let Some((mark, id)) = found {
            shims.entry(mark).or_default().push(id);
        }
    }
    for ids in shims.values_mut() {
        ids.sort_unstable();
    }
    Ok(shims)
}

/// Returns which life a process is the shim of. A command line can be imitated, so the
/// process must also run the memory file that we execute, as us, in our pid namespace: the
/// last keeps out whatever runs inside a container.
pub(crate) fn shim_of(pid: u32, instance: &Instance) -> io::Result<Option<(Mark, ProcessId)>> {
    let Some(line) = text::read(&process::proc_path(pid, "cmdline"))? else {
        return Ok(None);
    };
    let Some(mark) = mark_of(&line, instance) else {
        return Ok(None);
    };
    let Some(stat) = process::stat(pid)? else {
        return Ok(None);
    };
    let link = |path: &Path| match std::fs::read_link(path) {
        Ok(to) => Ok(Some(to)),
        Err(err) if text::is_gone(&err) => Ok(None),
        Err(err) => Err(err),
    };
    let exe = link(&process::proc_path(pid, "exe"))?;
    let wanted = format!("/memfd:{SHIM_NAME}");
    let is_exe = exe.is_some_and(|exe| exe.to_string_lossy().starts_with(&wanted));
    let namespace = link(&process::proc_path(pid, "ns/pid"))?;
    let is_outside = namespace == link(Path::new("/proc/self/ns/pid"))?;
    let id = ProcessId {
        pid,
        start: stat.start,
    };
    let is_ours = is_exe && is_outside && is_us(pid)? && process::is_alive(id)?;
    Ok(is_ours.then_some((mark, id)))
}

fn mark_of(command_line: &str, instance: &Instance) -> Option<Mark> {
    let mut words = command_line.split('\0');
    if words.next()? != "reconciler-shim" || words.next()? != instance.as_str() {
        return None;
    }
    Mark::from_leaf(instance, words.next()?).ok()
}

/// Returns whether all user ids of a process are ours.
fn is_us(pid: u32) -> io::Result<bool> {
    let Some(status) = text::read(&process::proc_path(pid, "status"))? else {
        return Ok(false);
    };
    let own = rustix::process::geteuid().as_raw().to_string();
    let line = status.lines().find_map(|line| line.strip_prefix("Uid:"));
    Ok(line.is_some_and(|ids| ids.split_ascii_whitespace().all(|id| id == own)))
}
