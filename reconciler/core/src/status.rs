//! What people are told, derived from intent, observation and plan; never edited.

use alloc::collections::BTreeSet;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use driver_api::{ContainerObserved, Life, ProcessObserved, ProcessState};
use specs::desired::{Condition, Desired, Port, Run};
use specs::id::{Generation, Key, ProcessName};
use specs::status::{DiskStatus, Failure, NetworkStatus, Phase, ProcessStatus, Status, Usage};

use crate::backoff::{Respawns, Timer};
use crate::diff::Digests;
use crate::explain;
use crate::io::Wanted;
use crate::plan::{Await, Class, Need, Obstacle, Plan, is_well};

use crate::policy::{Verdict, judge};

mod conditions;
mod stand;

pub(crate) use stand::Stand;

/// Everything that a status is derived from.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Basis<'a> {
    pub(crate) key: &'a Key,
    /// None once it is not wanted any more.
    pub(crate) wanted: Option<&'a Wanted>,
    pub(crate) generation: Generation,
    pub(crate) observed: &'a ContainerObserved,
    pub(crate) plan: &'a Plan,
    pub(crate) retry: Option<&'a Timer>,
    pub(crate) respawns: &'a Respawns,
    pub(crate) last_error: Option<&'a Failure>,
    /// Only a person can help.
    pub(crate) terminal: bool,
    pub(crate) now_wall_ms: u64,
    /// Wall clock minus `CLOCK_BOOTTIME`, for display.
    pub(crate) boot_at_wall_ms: u64,
    pub(crate) before: Option<&'a Status>,
}

/// Returns what to tell.
pub(crate) fn derive(basis: &Basis<'_>) -> (Status, Stand) {
    let life = basis
        .plan
        .life
        .and_then(|life| basis.observed.lives.get(&life));
    let shown = life.or_else(|| basis.observed.lives.values().next_back());
    let tally = Tally::of(basis, life);
    let timers = basis
        .respawns
        .values()
        .map(|respawn| &respawn.timer)
        .chain(basis.retry);
    let due = timers
        .filter_map(|timer| timer.due_wall_ms)
        .filter(|due| *due > basis.now_wall_ms);
    let mut status = Status {
        key: basis.key.clone(),
        generation: basis.generation,
        observed_generation: basis.generation,
        phase: phase(basis, life, &tally),
        conditions: Vec::new(),
        processes: processes(basis, shown),
        restarts: known_processes(shown)
            .map(|(_, seen)| seen.starts.saturating_sub(1))
            .sum(),
        pid: shown
            .and_then(|life| life.init.known())
            .map(|init| init.id.pid),
        created_ms: shown
            .and_then(|life| life.bundle.known())
            .map(|bundle| bundle.created_ms),
        next_retry_ms: due.min(),
        usage: shown.and_then(|life| usage(basis, life)),
        disk: shown.and_then(disk),
        network: shown.and_then(network),
        last_error: basis.last_error.cloned(),
        override_note: basis.wanted.and_then(|wanted| wanted.override_note.clone()),
        drift: drift(basis.plan),
    };
    status.conditions = conditions::derive(basis, life, &tally, status.phase);
    (status, Stand::of(basis, life, &tally))
}

/// What limits the writes to a life's root.
fn disk(life: &Life) -> Option<DiskStatus> {
    let disk = life.disk.known()?;
    Some(DiskStatus {
        backend: disk.backend.as_str().into(),
        limit_bytes: disk.bytes,
        limit_inodes: disk.inodes,
    })
}

/// What connects a life: the address it has, and the ports that lead to it.
fn network(life: &Life) -> Option<NetworkStatus> {
    let address = life.network.link.known()?.address?;
    let ports = life.network.rules.known().map(|rules| &rules.ports);
    let port = |port: &Port| {
        let at = port.address.map_or_else(String::new, |at| format!("{at}:"));
        let transport = port.transport.name();
        format!("{at}{}->{}/{transport}", port.host, port.container)
    };
    Some(NetworkStatus {
        address,
        ports: ports.into_iter().flatten().map(port).collect(),
    })
}

/// How the wanted processes stand.
#[derive(Clone, Copy, Debug, Default)]
struct Tally {
    wanted: usize,
    running: usize,
    /// Of them those that go on as they are.
    as_wanted: usize,
    /// Ended well, for good.
    done: usize,
    /// Ended badly, and left so by their policy.
    failed: usize,
    /// Waiting for their next start.
    waiting: usize,
    ending: usize,
    /// Not running, and last killed for memory.
    oom_killed: usize,
    /// Not started before others are as it needs them.
    depending: usize,
    unknown: bool,
}

impl Tally {
    fn of(basis: &Basis<'_>, life: Option<&Life>) -> Self {
        let mut tally = Self::default();
        let Some(wanted) = basis.wanted else {
            return tally;
        };
        let desired = &*wanted.desired;
        tally.wanted = desired.processes.len();
        let Some(life) = life else { return tally };
        tally.unknown = life.processes.gap().is_some() || life.init.gap().is_some();
        let digests = Digests::of(desired);
        let depending: BTreeSet<&ProcessName> =
            waits(basis.plan).map(|(process, ..)| process).collect();
        tally.depending = depending.len();
        for (name, process) in &desired.processes {
            let seen = life.processes.known().and_then(|seen| seen.get(name));
            let is_oom_killed = seen
                .and_then(|seen| seen.last_exit)
                .is_some_and(|run| run.oom_killed);
            let verdict = judge(desired, name, process, &digests, seen);
            if matches!(verdict, Verdict::Rest | Verdict::Again(_)) {
                tally.oom_killed += usize::from(is_oom_killed);
            }
            match verdict {
                Verdict::Keep => {
                    tally.running += 1;
                    tally.as_wanted += 1;
                }
                Verdict::Replace(_) => tally.running += 1,
                Verdict::Rest if is_well(seen) => tally.done += 1,
                Verdict::Rest => tally.failed += 1,
                Verdict::Again(_) if depending.contains(name) => {}
                Verdict::Again(_) => tally.waiting += 1,
                Verdict::Ending { .. } => tally.ending += 1,
                Verdict::Start(_) => {}
            }
        }
        tally
    }

    fn is_healthy(&self) -> bool {
        self.running + self.done == self.wanted
    }
}

fn phase(basis: &Basis<'_>, life: Option<&Life>, tally: &Tally) -> Phase {
    let Some(wanted) = basis.wanted else {
        return Phase::Stopping;
    };
    let desired = &*wanted.desired;
    if desired.suspend {
        return Phase::Suspended;
    }
    let blocked = |kind| {
        basis
            .plan
            .blocked
            .iter()
            .any(|obstacle| obstacle.kind == kind)
    };
    let init = life.and_then(|life| life.init.known());
    if blocked(Obstacle::Unknown) && (init.is_none() || tally.unknown) {
        return Phase::Unknown;
    }
    if basis.terminal || blocked(Obstacle::Impossible) {
        return Phase::Failed;
    }
    if desired.run == Run::Stopped {
        let alive = tally.running + tally.ending > 0 || basis.plan.steps().next().is_some();
        return if alive {
            Phase::Stopping
        } else {
            Phase::Stopped
        };
    }
    let retrying = basis.retry.is_some();
    let Some(init) = init.filter(|init| init.ready) else {
        let recreating = |class| basis.plan.steps().any(|step| step.reason.class == class);
        return match () {
            () if retrying => Phase::Backoff,
            () if recreating(Class::Recreate) => Phase::Updating,
            () if basis.observed.lives.is_empty() && init.is_none() => Phase::Pending,
            () => Phase::Starting,
        };
    };
    debug_assert!(init.ready, "BUG: filtered above");
    living_phase(basis, desired, tally, retrying)
}

fn living_phase(basis: &Basis<'_>, desired: &Desired, tally: &Tally, retrying: bool) -> Phase {
    if tally.unknown {
        return Phase::Unknown;
    }
    if tally.is_healthy() {
        let edits = |step: &crate::plan::Planned| step.reason.class != Class::Repair;
        return match () {
            () if basis.plan.steps().any(edits) => Phase::Updating,
            () if retrying => Phase::Degraded,
            () if tally.wanted > 0 && tally.done == tally.wanted => Phase::Completed,
            () => Phase::Running,
        };
    }
    let none_runs = tally.running == 0;
    let begins = tally.waiting + tally.failed + tally.ending == 0;
    let depending = tally.depending > 0 && basis.plan.acts().next().is_none();
    let over = tally.failed + tally.done + tally.depending;
    match () {
        () if none_runs && tally.waiting > 0 => Phase::Backoff,
        () if none_runs && tally.failed > 0 && over == desired.processes.len() => Phase::Failed,
        () if depending && begins && !retrying => Phase::Waiting,
        () if none_runs && begins && !retrying => Phase::Starting,
        () if tally.ending > 0 && tally.waiting + tally.failed == 0 => Phase::Updating,
        () => Phase::Degraded,
    }
}

/// Which processes wait for what.
fn waits(plan: &Plan) -> impl Iterator<Item = (&ProcessName, &Need, Condition)> {
    let all = plan.stages.iter().flat_map(|stage| &stage.awaits);
    all.filter_map(|wait| match wait {
        Await::Dependency {
            process,
            need,
            condition,
        } => Some((process, need, *condition)),
        Await::ProcessEnds { .. } | Await::InitReady { .. } | Await::Backoff { .. } => None,
    })
}

fn known_processes(life: Option<&Life>) -> impl Iterator<Item = (&ProcessName, &ProcessObserved)> {
    life.and_then(|life| life.processes.known())
        .into_iter()
        .flatten()
}

fn processes(basis: &Basis<'_>, life: Option<&Life>) -> Vec<ProcessStatus> {
    let unknown = life.is_some_and(|life| life.processes.gap().is_some());
    let seen = life.and_then(|life| life.processes.known());
    let mut names: Vec<&ProcessName> = known_processes(life).map(|(name, _)| name).collect();
    names.extend(
        basis
            .wanted
            .into_iter()
            .flat_map(|wanted| wanted.desired.processes.keys()),
    );
    names.sort();
    names.dedup();
    names
        .into_iter()
        .map(|name| process(basis, name, seen.and_then(|seen| seen.get(name)), unknown))
        .collect()
}

fn process(
    basis: &Basis<'_>,
    name: &ProcessName,
    seen: Option<&ProcessObserved>,
    unknown: bool,
) -> ProcessStatus {
    let mut status = ProcessStatus {
        name: name.clone(),
        state: if unknown {
            "unknown".into()
        } else {
            "waiting".into()
        },
        pid: None,
        started_ms: None,
        restarts: 0,
        last_exit: None,
        next_start_ms: None,
        waits_for: waits(basis.plan)
            .filter(|(process, ..)| *process == name)
            .map(|(_, need, condition)| explain::needed(need, condition))
            .collect(),
    };
    let Some(seen) = seen else { return status };
    status.restarts = seen.starts.saturating_sub(1);
    status.last_exit = seen.last_exit.as_ref().map(explain::last_exit);
    match seen.state {
        ProcessState::Running { id, started_ms } => {
            status.state = "running".into();
            status.pid = Some(id.pid);
            status.started_ms = Some(basis.boot_at_wall_ms.saturating_add(started_ms));
        }
        ProcessState::Stopping { id, .. } => {
            status.state = "stopping".into();
            status.pid = Some(id.pid);
        }
        ProcessState::Ended => {
            let timer = basis.respawns.get(name).map(|respawn| &respawn.timer);
            let next = timer.and_then(|timer| timer.due_wall_ms);
            status.next_start_ms = next.filter(|due| *due > basis.now_wall_ms);
            status.state = if status.next_start_ms.is_some() || !status.waits_for.is_empty() {
                "waiting"
            } else {
                "exited"
            }
            .into();
        }
    }
    status
}

fn usage(basis: &Basis<'_>, life: &Life) -> Option<Usage> {
    let usage = life.cgroup.known()?.usage;
    let limits = basis.wanted.map(|wanted| &wanted.desired.limits);
    Some(Usage {
        memory_bytes: usage.memory_bytes,
        memory_limit_bytes: limits.and_then(|limits| limits.memory).map(|bytes| bytes.0),
        cpu_usec: usage.cpu_usec,
        pids: usage.pids,
    })
}

fn drift(plan: &Plan) -> Vec<String> {
    let repairs = plan
        .steps()
        .filter(|step| step.reason.class == Class::Repair);
    let mut lines: Vec<String> = repairs.map(explain::planned).collect();
    lines.extend(plan.notes.iter().map(|note| note.0.clone()));
    lines
}
