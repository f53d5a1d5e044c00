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

/// Returns whether a process of a container that should run has to wait for another.
#[must_use]
pub fn waits(world: &World, key: &Key, desired: &Desired) -> bool {
    let lives = world.lives.iter().filter(|((of, _), _)| of == key);
    desired.run == Run::Running
        && lives.map(|(_, life)| life).any(|life| {
            desired.processes.keys().any(|name| {
                let process = life.processes.get(name);
                let running = process.is_some_and(|process| process.running.is_some());
                let over = process.is_some_and(|process| over(desired, name, process));
                !running && waits_in(&life.processes, desired, name) && !over
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
