//! Steps about cgroups.

use std::collections::BTreeSet;
use std::path::Path;

use driver_api::{Outcome, ProcessId, StepError};
use specs::desired::Limits;

use super::Act;
use crate::bundle::Record;
use crate::cgroup::devices::Filter;
use crate::cgroup::{self, create, kill, limits, record};
use crate::clock::wait_until;
use crate::error::{During as _, retry};
use crate::{process, text};

/// Most turns of putting processes back: each may find children that were forked meanwhile.
const TURNS_MAX: usize = 10;

impl Act<'_> {
    pub(super) fn create_cgroup(&self, wanted: &Limits) -> Result<Outcome, StepError> {
        // Without its record the life could not be told from a foreign one's remains.
        self.launch()?;
        self.make_group(wanted)?;
        Ok(Outcome::Done)
    }

    /// Makes what is missing of the group: directories, device filter, limits.
    fn make_group(&self, wanted: &Limits) -> Result<(), StepError> {
        let group = &self.peek.group;
        self.host
            .with_parents(|| create::create(&self.host.layout, group, &self.leaf, wanted))?;
        let directory = self.host.places.bundle(&self.mark);
        let what = || format!("read which devices {} may use", self.leaf);
        match Filter::read(&directory).during(what)? {
            Some(filter) => self.host.devices.apply(group, &self.leaf, &filter)?,
            None => return Err(StepError::Stale(format!("{} has no bundle", self.leaf))),
        }
        record::keep(&directory, wanted).during(|| format!("keep the limits of {}", self.leaf))
    }

    pub(super) fn set_limits(&self, wanted: &Limits) -> Result<Outcome, StepError> {
        let group = &self.peek.group;
        let cpu_set = group.site("cpuset").filter(|dir| !dir.required);
        if let (Some(dir), Some(_)) = (cpu_set, &wanted.cpu_set)
            && !dir
                .exists()
                .during(|| format!("look at {}", dir.path.display()))?
        {
            // Asked for only now: the group is joined by those that live in the others.
            limits::check_controllers(group, &self.leaf, wanted)?;
            self.host
                .with_parents(|| limits::make_directory(dir, dir.path.clone()))?;
            limits::apply(group, &self.leaf, wanted)?;
            self.put_back()?;
        } else {
            limits::apply(group, &self.leaf, wanted)?;
        }
        record::keep(&self.host.places.bundle(&self.mark), wanted)
            .during(|| format!("keep the limits of {}", self.leaf))?;
        Ok(Outcome::Done)
    }

    pub(super) fn rejoin_cgroup(&self, wanted: &Limits) -> Result<Outcome, StepError> {
        self.init()?;
        self.make_group(wanted)?;
        self.put_back()?;
        Ok(Outcome::Done)
    }

    /// Puts the init, all that descends from it and all that is in one directory of the
    /// group into every directory of it, until nobody new is found.
    fn put_back(&self) -> Result<(), StepError> {
        let what = || format!("look for the processes of {}", self.leaf);
        for _turn in 0..TURNS_MAX {
            let mut pids = BTreeSet::new();
            if let Some(init) = self.peek.init.known() {
                descendants(*init, &mut pids).during(what)?;
            }
            for dir in &self.peek.group.dirs {
                for below in cgroup::subtree(&dir.path).during(what)? {
                    pids.extend(cgroup::pids(&below).during(what)?.unwrap_or_default());
                }
            }
            let mut outside = BTreeSet::new();
            for pid in pids {
                let found = text::read(&process::proc_path(pid, "cgroup")).during(what)?;
                let Some(found) = found else {
                    continue;
                };
                if !cgroup::observe::holds(&self.peek.group, &found).during(what)? {
                    outside.insert(pid);
                }
            }
            if outside.is_empty() {
                return Ok(());
            }
            let outside: Vec<u32> = outside.into_iter().collect();
            create::join(&self.peek.group, &self.leaf, &outside)?;
        }
        Err(retry(
            format!("put the processes of {} back", self.leaf),
            "they fork faster than they can be moved",
        ))
    }

    pub(super) fn kill_life(&self) -> Result<Outcome, StepError> {
        let mut did = kill::kill(&self.peek.group, &self.leaf, self.deadline)?;
        let what = || format!("kill the init of {}", self.leaf);
        // The cgroup may be gone or have lost it.
        match &self.peek.init {
            driver_api::Fact::Absent => {}
            driver_api::Fact::Unknown(gap) if !did => {
                return Err(retry(gap.what.clone(), gap.why.clone()));
            }
            driver_api::Fact::Unknown(_) => {}
            driver_api::Fact::Known(id) => {
                did |= process::kill(*id).during(what)?;
                let ended =
                    wait_until(self.deadline, || process::is_alive(*id).map(|alive| !alive));
                if !ended.during(what)? {
                    return Err(retry(what(), "it is still there after SIGKILL"));
                }
            }
        }
        Ok(if did {
            Outcome::Done
        } else {
            Outcome::AlreadyDone
        })
    }

    pub(super) fn remove_cgroup(&self) -> Result<Outcome, StepError> {
        let removed = create::remove(&self.peek.group, &self.leaf, self.deadline)?;
        self.host.prune_parents();
        if let Record::Known(launch) = &self.peek.record
            && self.peek.this_boot
        {
            // Directories of an earlier daemon, below another parent than ours.
            for directory in launch.cgroups.iter().chain(&launch.shim_cgroups) {
                if let Some(up) = Path::new(&directory.path).parent()
                    && self.host.layout.used().all(|at| at.instance != up)
                {
                    let _shims = std::fs::remove_dir(up.join("shims"));
                    let _instance = std::fs::remove_dir(up);
                }
            }
        }
        Ok(if removed {
            Outcome::Done
        } else {
            Outcome::AlreadyDone
        })
    }
}

/// Collects a process and all that descend from it, by what each thread lists as its
/// children (`proc_tid_children(5)`); a kernel without that gives the process alone.
fn descendants(root: ProcessId, pids: &mut BTreeSet<u32>) -> std::io::Result<()> {
    if !process::is_alive(root)? {
        return Ok(());
    }
    let mut todo = vec![root.pid];
    while let Some(pid) = todo.pop() {
        if !pids.insert(pid) {
            continue;
        }
        let tasks = match std::fs::read_dir(process::proc_path(pid, "task")) {
            Ok(tasks) => tasks,
            Err(err) if text::is_gone(&err) => continue,
            Err(err) => return Err(err),
        };
        for task in tasks {
            let Ok(task) = task else {
                continue;
            };
            let children = text::read(&task.path().join("children"))?.unwrap_or_default();
            todo.extend(
                children
                    .split_ascii_whitespace()
                    .filter_map(|pid| pid.parse::<u32>().ok()),
            );
        }
    }
    Ok(())
}
