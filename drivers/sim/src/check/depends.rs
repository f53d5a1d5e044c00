//! What waits for what, judged by what is there and not by the planner.

use std::collections::BTreeMap;

use driver_api::{ExitStatus, Life, ProcessObserved, ProcessState};
use specs::desired::{Condition, Desired, RestartPolicy, Run};
use specs::id::{Key, ProcessName};

use crate::world::{SimProcess, World};

/// How a process stands.
struct Stands {
    runs: bool,
    completed: bool,
}

impl Stands {
    fn meets(&self, condition: Condition) -> bool {
        match condition {
            Condition::Started => self.runs || self.completed,
            Condition::Healthy => self.runs,
            Condition::Completed => self.completed,
        }
    }
}

/// *Law:* no process is started before those that it depends on were seen to be as it needs
/// them.
pub(super) fn may_start(
    name: &ProcessName,
    desired: &Desired,
    life: Option<&Life>,
) -> Result<(), String> {
    let seen = life.and_then(|life| life.processes.known());
    let stands = |other: &ProcessName| {
        let process = seen.and_then(|seen| seen.get(other));
        process.map(|process| observed(desired, other, process))
    };
    unmet(desired, name, stands).map_or(Ok(()), |(other, condition)| {
        Err(format!("{other} was not seen {}", condition.as_str()))
    })
}

fn observed(desired: &Desired, name: &ProcessName, process: &ProcessObserved) -> Stands {
    let fits = fits(desired, name, (process.digest, process.restart_epoch));
    let exit = process.last_exit.map(|run| (run.status, run.asked));
    Stands {
        runs: fits && matches!(process.state, ProcessState::Running { .. }),
        completed: fits
            && process.state == ProcessState::Ended
            && exit == Some((ExitStatus::Code(0), false))
            && rests(desired, name),
    }
}

fn real(desired: &Desired, name: &ProcessName, process: &SimProcess) -> Stands {
    let fits = fits(desired, name, (process.digest, process.restart_epoch));
    let exit = process.last_exit.map(|run| (run.status, run.asked));
    let running = process.running.is_some();
    Stands {
        runs: fits && running,
        completed: fits
            && !running
            && exit == Some((ExitStatus::Code(0), false))
            && rests(desired, name),
    }
}

fn fits(desired: &Desired, name: &ProcessName, is: (specs::id::Digest, u64)) -> bool {
    let wanted = desired.processes.get(name);
    wanted.is_some_and(|wanted| wanted.digest() == is.0) && is.1 >= desired.restart_epoch
}

fn rests(desired: &Desired, name: &ProcessName) -> bool {
    let wanted = desired.processes.get(name);
    wanted.is_some_and(|wanted| wanted.restart.policy != RestartPolicy::Always)
}

fn unmet<'d>(
    desired: &'d Desired,
    name: &ProcessName,
    stands: impl Fn(&ProcessName) -> Option<Stands>,
) -> Option<(&'d ProcessName, Condition)> {
    let needs = desired.processes.get(name)?.depends_on.iter();
    let mut needs = needs.map(|(other, condition)| (other, *condition));
    needs.find(|(other, condition)| !stands(other).is_some_and(|one| one.meets(*condition)))
}

/// Returns whether a process has to wait for another of its container.
pub(super) fn waits_in(
    processes: &BTreeMap<ProcessName, SimProcess>,
    desired: &Desired,
    name: &ProcessName,
) -> bool {
    let stands = |other: &ProcessName| {
        let process = processes.get(other);
        process.map(|process| real(desired, other, process))
    };
    unmet(desired, name, stands).is_some()
}

/// Returns whether a process of a container that should run has to wait for another, or for
/// another container: `held` says that one of those is not as it is needed.
#[must_use]
pub fn waits(world: &World, key: &Key, desired: &Desired, held: bool) -> bool {
    let lives = world.lives.iter().filter(|((of, _), _)| of == key);
    desired.run == Run::Running
        && lives.map(|(_, life)| life).any(|life| {
            desired.processes.keys().any(|name| {
                let process = life.processes.get(name);
                let running = process.is_some_and(|process| process.running.is_some());
                let over = process.is_some_and(|process| over(desired, name, process));
                let waits = held || waits_in(&life.processes, desired, name);
                !running && waits && !over
            })
        })
}

/// It has ended by itself, and its policy is content.
fn over(desired: &Desired, name: &ProcessName, process: &SimProcess) -> bool {
    let policy = desired.processes.get(name).map(|one| one.restart.policy);
    let content = |status| match policy {
        Some(RestartPolicy::Never) => !matches!(status, ExitStatus::NotStarted(_)),
        Some(RestartPolicy::OnFailure) => status == ExitStatus::Code(0),
        Some(RestartPolicy::Always) | None => false,
    };
    let exit = process.last_exit.filter(|run| !run.asked);
    let fits = fits(desired, name, (process.digest, process.restart_epoch));
    fits && exit.is_some_and(|run| content(run.status))
}

/// Returns whether a container is on the host what another needs of it.
#[must_use]
pub fn container_is(world: &World, key: &Key, desired: &Desired, condition: Condition) -> bool {
    let lives = world.lives.iter().filter(|((of, _), _)| of == key);
    let mut fitting = lives.map(|(_, life)| life).filter(|life| {
        let bundle = life.bundle.as_ref();
        let fits = bundle.is_some_and(|bundle| bundle.container == desired.container.digest());
        fits && life.boot == world.boots && life.init.as_ref().is_some_and(|init| init.ready)
    });
    fitting.any(|life| {
        let stands = |name: &ProcessName| {
            let process = life.processes.get(name);
            process.map(|process| real(desired, name, process))
        };
        whole(desired, condition, stands)
    })
}

/// Returns whether the daemon was told that a container is what another needs of it.
#[must_use]
pub fn container_was_seen(
    world: &World,
    key: &Key,
    desired: &Desired,
    condition: Condition,
) -> bool {
    let told = world
        .told
        .alone
        .get(key)
        .into_iter()
        .chain(&world.told.hosts);
    let said = told.filter_map(|observed| observed.containers.get(key));
    let mut lives = said.flat_map(|container| container.lives.values());
    lives.any(|life| {
        let bundle = life.bundle.known();
        let fits = bundle.is_some_and(|bundle| bundle.container == desired.container.digest());
        let ready = life.init.known().is_some_and(|init| init.ready);
        let stands = |name: &ProcessName| {
            let process = life.processes.known().and_then(|all| all.get(name));
            process.map(|process| observed(desired, name, process))
        };
        fits && ready && whole(desired, condition, stands)
    })
}

fn whole(
    desired: &Desired,
    condition: Condition,
    stands: impl Fn(&ProcessName) -> Option<Stands>,
) -> bool {
    let is = |name: &ProcessName| {
        let stands = stands(name);
        stands.is_some_and(|one| match condition {
            Condition::Started | Condition::Healthy => one.runs || one.completed,
            Condition::Completed => one.completed,
        })
    };
    let some = condition != Condition::Completed || !desired.processes.is_empty();
    desired.run == Run::Running && some && desired.processes.keys().all(is)
}
