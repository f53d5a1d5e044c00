//! Finding shims as processes, without their runtime directories.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use driver_api::{Gap, Mark, ProcessId};
use rustix::event::epoll;
use specs::id::{Instance, Key};

use crate::error::gap;
use crate::host::{LinuxHost, SHIM_NAME};
use crate::{cgroup, process, text};

/// Shims that were found as processes, by the life they are for.
pub(crate) type Shims = BTreeMap<Mark, Vec<ProcessId>>;

/// Finds the shims of one life in the group that shims live in.
pub(crate) fn of_life(host: &LinuxHost, mark: &Mark) -> Result<Vec<ProcessId>, Gap> {
    Ok(of_container(host, &mark.key)?
        .remove(mark)
        .unwrap_or_default())
}

/// Shims that were looked at before and have lived ever since: a look at one container costs
/// nothing for each other one. A process is told apart from a later one of its pid by a
/// descriptor that says when it ended (`pidfd_open(2)`).
#[derive(Debug, Default)]
pub(crate) struct Roll(Mutex<Page>);

#[derive(Debug, Default)]
struct Page {
    /// Tells which of them ended.
    poll: Option<OwnedFd>,
    known: BTreeMap<u32, Known>,
}

#[derive(Debug)]
struct Known {
    mark: Mark,
    id: ProcessId,
    _process: OwnedFd,
}

impl Page {
    /// Strikes off who ended; all of them if that cannot be told.
    fn strike_off(&mut self) {
        let Some(poll) = &self.poll else {
            self.known.clear();
            return;
        };
        let mut ended: Vec<epoll::Event> = Vec::with_capacity(64);
        loop {
            ended.clear();
            let none = rustix::event::Timespec::default();
            let asked = epoll::wait(
                poll,
                rustix::buffer::spare_capacity(&mut ended),
                Some(&none),
            );
            if asked.is_err() {
                self.known.clear();
                return;
            }
            if ended.is_empty() {
                return;
            }
            for event in &ended {
                // Closed with it, its descriptor is waited for no more.
                let pid = u32::try_from(event.data.u64()).unwrap_or_default();
                self.known.remove(&pid);
            }
        }
    }

    /// Enters a shim that was just looked at, and says whether it did: only one that lives, and
    /// whose end will be told. Another is looked at again the next time.
    fn enter(&mut self, mark: &Mark, id: ProcessId) -> bool {
        if self.poll.is_none() {
            self.poll = epoll::create(epoll::CreateFlags::CLOEXEC).ok();
        }
        let (Some(poll), Ok(Some(process))) = (&self.poll, process::open(id)) else {
            return false;
        };
        let token = epoll::EventData::new_u64(id.pid.into());
        if epoll::add(poll, &process, token, epoll::EventFlags::IN).is_err() {
            return false;
        }
        let known = Known {
            mark: mark.clone(),
            id,
            _process: process,
        };
        self.known.insert(id.pid, known);
        true
    }

    /// Returns those of a container.
    fn of(&self, key: &Key) -> Shims {
        let mut shims = Shims::new();
        for known in self.known.values().filter(|known| known.mark.key == *key) {
            shims.entry(known.mark.clone()).or_default().push(known.id);
        }
        shims
    }
}

/// Finds the shims of one container in the group that all of them live in, without looking at
/// every process.
pub(crate) fn of_container(host: &LinuxHost, key: &Key) -> Result<Shims, Gap> {
    let mut page = host.shims.0.lock().unwrap_or_else(PoisonError::into_inner);
    let inside = count(host)?;
    page.strike_off();
    if inside.is_some_and(|inside| inside == page.known.len()) {
        return Ok(page.of(key));
    }
    let mut pids = BTreeSet::new();
    for hierarchy in host.layout.used() {
        let path = hierarchy.shims();
        let found = cgroup::pids(&path)
            .map_err(|err| gap(format!("read who is in {}", path.display()), &err))?;
        pids.extend(found.unwrap_or_default());
    }
    // Who is still on the page now was the same when the pids were read.
    page.strike_off();
    let mut unentered = Vec::new();
    for pid in pids {
        if page.known.contains_key(&pid) {
            continue;
        }
        let found = shim_of(pid, &host.places.instance)
            .map_err(|err| gap(format!("look at process {pid}"), &err))?;
        if let Some((mark, id)) = found
            && !page.enter(&mark, id)
            && mark.key == *key
        {
            unentered.push((mark, id));
        }
    }
    let mut shims = page.of(key);
    for (mark, id) in unentered {
        shims.entry(mark).or_default().push(id);
    }
    for ids in shims.values_mut() {
        ids.sort_unstable();
    }
    Ok(shims)
}

/// Returns how many processes are in the shims' group, where the kernel counts them: as many
/// as are known are those that are known. A shim has one thread.
fn count(host: &LinuxHost) -> Result<Option<usize>, Gap> {
    let mut used = host.layout.used();
    let Some(hierarchy) = used.find(|at| at.controllers.contains("pids")) else {
        return Ok(None);
    };
    let path = hierarchy.shims().join("pids.current");
    let text = text::read(&path).map_err(|err| gap(format!("read {}", path.display()), &err))?;
    Ok(text.and_then(|text| text.trim().parse().ok()))
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
