//! What people are told of a key's history: each change once.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use driver_api::{Action, ExitStatus, Fact, Outcome, ProcessObserved, ProcessState, Run};
use specs::event::Severity;
use specs::id::{Incarnation, Key, ProcessName};
use specs::status::{ConditionKind, Failure, Phase, Status, Truth};
use specs::units::Millis;

use super::Desk;
use super::slot::{Memory, Slot};
use crate::explain;
use crate::io::{Intent, NewEvent};
use crate::plan::{Class, Drift, Obstacle, Plan, Planned};

/// Looks in a row that must miss the same thing before people are told.
const GAP_LOOKS: u32 = 2;

pub(super) fn event(key: &Key, slot: &Slot, reason: &'static str, message: String) -> NewEvent {
    let generation = slot.generation();
    let severity = Severity::Normal;
    NewEvent {
        key: Some(key.clone()),
        generation,
        severity,
        reason,
        message,
        kills_told: None,
    }
}

pub(super) fn warning(key: &Key, slot: &Slot, reason: &'static str, message: String) -> NewEvent {
    NewEvent {
        severity: Severity::Warning,
        ..event(key, slot, reason, message)
    }
}

impl Memory {
    pub(super) fn forget_life(&mut self, life: Incarnation) {
        self.processes.retain(|(of, _), _| *of != life);
        self.inits.remove(&life);
        self.nobodys.remove(&life);
        self.loopback.remove(&life);
        self.alive_ms.remove(&life);
        self.killed.remove(&life);
        self.died.remove(&life);
    }
}

impl Desk {
    /// Tells what differs between this look and the ones before.
    pub(super) fn tell_changes(&mut self, key: &Key, slot: &mut Slot) {
        let Some(view) = slot.view.take() else { return };
        let first = !core::mem::replace(&mut slot.memory.looked, true);
        for (incarnation, life) in &view.observed.lives {
            let told = self.tell_kills(key, slot, (*incarnation, life), first);
            for (name, seen) in life.processes.known().into_iter().flatten() {
                let is_told = first || told.contains(name);
                self.tell_process(key, slot, (*incarnation, name), seen, (first, is_told));
            }
            if life.loopback_up == Fact::Known(true) {
                slot.memory.loopback.insert(*incarnation);
            }
            if let Some(init) = life.init.known().filter(|init| init.ready) {
                let now = self.now.boot_ms;
                slot.memory.alive_ms.entry(*incarnation).or_insert(now);
                let known = slot.memory.inits.insert(*incarnation, init.id);
                if known.is_none() && !first && slot.wanted().is_some() {
                    self.tell_made(key, slot, *incarnation);
                }
            }
        }
        if slot.intent == Intent::Gone && !view.observed.lives.is_empty() {
            slot.memory.pruned = true;
        }
        slot.view = Some(view);
    }

    fn tell_made(&mut self, key: &Key, slot: &mut Slot, incarnation: Incarnation) {
        let told = match slot.memory.anew.take() {
            Some(why) => event(
                key,
                slot,
                "Recreated",
                format!("made anew as life {incarnation}: {why}"),
            ),
            None => event(key, slot, "Created", format!("made as life {incarnation}")),
        };
        slot.tell(told);
    }

    fn tell_process(
        &mut self,
        key: &Key,
        slot: &mut Slot,
        (incarnation, name): (Incarnation, &ProcessName),
        seen: &ProcessObserved,
        (first, is_end_told): (bool, bool),
    ) {
        let before = slot
            .memory
            .processes
            .insert((incarnation, name.clone()), seen.clone());
        if first {
            return;
        }
        let starts = before.as_ref().map_or(0, |before| before.starts);
        let ran = before
            .as_ref()
            .is_some_and(|before| before.state != ProcessState::Ended);
        let new_start = seen.starts > starts;
        let over = seen.state == ProcessState::Ended;
        let exits_changed = before.as_ref().and_then(|before| before.last_exit) != seen.last_exit;
        let has_ended = exits_changed || (over && (ran || new_start) && seen.last_exit.is_none());
        if has_ended && !is_end_told {
            let told = self.exited(key, slot, name, seen.last_exit);
            slot.tell(told);
        }
        if let (ProcessState::Running { id, .. }, true) = (&seen.state, new_start) {
            let words = format!("{name} started, pid {}", id.pid);
            let told = event(key, slot, "ProcessStarted", words);
            slot.tell(told);
        }
    }

    fn exited(&self, key: &Key, slot: &Slot, name: &ProcessName, run: Option<Run>) -> NewEvent {
        let oom = run.is_some_and(|run| run.oom_killed);
        let status = run.map_or(ExitStatus::Unseen, |run| run.status);
        let words = match status {
            ExitStatus::Code(_) => format!("{name} {}", explain::exit(status, oom)),
            ExitStatus::Unseen => format!("{name} ended, nobody saw how"),
            ExitStatus::Signal(_) | ExitStatus::NotStarted(_) => {
                format!("{name} was {}", explain::exit(status, oom))
            }
        };
        match run {
            Some(run) if run.asked => {
                event(key, slot, "ProcessExited", format!("{words}, as asked"))
            }
            _ if status == ExitStatus::Code(0) => event(key, slot, "ProcessExited", words),
            _ => warning(key, slot, "ProcessExited", words),
        }
    }

    /// Tells what a step brought about, where a person would name it.
    pub(super) fn tell_done(
        &mut self,
        key: &Key,
        slot: &mut Slot,
        planned: &Planned,
        outcome: Outcome,
    ) {
        if outcome == Outcome::AlreadyDone {
            return;
        }
        let reason = &planned.reason;
        let why = explain::drift(&reason.drift);
        let life = planned.step.incarnation;
        let told = match (&planned.step.action, reason.class) {
            (Action::SetLimits(_) | Action::SetDisk(_), Class::Live) => {
                event(key, slot, "LimitsChanged", why)
            }
            (Action::SetLimits(_) | Action::SetDisk(_), _) => {
                warning(key, slot, "LimitsRepaired", why)
            }
            (Action::RestoreMount { .. }, _) => warning(key, slot, "MountRestored", why),
            (Action::CoverPath { .. }, _) => warning(key, slot, "PathCovered", why),
            (Action::RejoinCgroup(_), _) => warning(key, slot, "CgroupRejoined", why),
            (Action::KillShim, _) => warning(key, slot, "ShimKilled", why),
            (Action::AdoptInit, _) => warning(key, slot, "ShimReplaced", why),
            (Action::RaiseLoopback, _) if slot.memory.loopback.contains(&life) => {
                warning(key, slot, "LoopbackRaised", why)
            }
            (Action::SetRules(_), Class::Live) => event(key, slot, "RulesChanged", why),
            (Action::SetRules(_), Class::Repair) => warning(key, slot, "RulesRepaired", why),
            (Action::PublishPorts(_), Class::Live) => event(key, slot, "PortsChanged", why),
            (Action::PublishPorts(_), Class::Repair) => warning(key, slot, "PortsRepaired", why),
            (Action::ConnectNetwork(_), Class::Repair) => {
                warning(key, slot, "NetworkRepaired", why)
            }
            (Action::WriteFiles(_), _) => event(key, slot, "FilesWritten", why),
            (Action::SignalProcess { .. }, _) => {
                event(key, slot, "ProcessSignalled", explain::step(&planned.step))
            }
            (Action::KillLife, Class::Recreate) => {
                if slot.memory.anew.is_none() {
                    slot.memory.anew = Some(why);
                }
                return;
            }
            _ => {
                if reason.drift == Drift::Rebooted {
                    slot.memory.anew = Some("the host was started anew".into());
                }
                return;
            }
        };
        slot.tell(told);
    }

    pub(super) fn tell_adopted(&mut self, key: &Key, slot: &mut Slot, plan: &Plan) {
        let life = plan.life.unwrap_or_default();
        let init = slot.memory.inits.get(&life).map_or(0, |init| init.pid);
        let told = event(
            key,
            slot,
            "Adopted",
            format!("found alive as life {life}, init {init}"),
        );
        slot.tell(told);
    }

    pub(super) fn tell_died(&mut self, key: &Key, slot: &mut Slot, incarnation: Incarnation) {
        let words = format!("the init of life {incarnation} ended; a new life follows");
        let told = warning(key, slot, "ContainerDied", words);
        slot.tell(told);
    }

    pub(super) fn tell_backoff(
        &mut self,
        key: &Key,
        slot: &mut Slot,
        name: &ProcessName,
        attempt: u32,
        delay: Millis,
    ) {
        let after = explain::span(delay.0);
        let words = format!("{name} starts again in {after}, {attempt} failures in a row");
        let told = event(key, slot, "Backoff", words);
        slot.tell(told);
    }

    /// Tells a failure when it is a new one, not at each try.
    pub(super) fn tell_failed(
        &mut self,
        key: &Key,
        slot: &mut Slot,
        failure: &Failure,
        terminal: bool,
    ) {
        let known = slot.tries.last_error.as_ref();
        if known.is_some_and(|known| known.step == failure.step && known.cause == failure.cause) {
            return;
        }
        let hint = failure
            .hint
            .as_ref()
            .map_or_else(String::new, |hint| format!("; {hint}"));
        let words = format!("{}: {}{hint}", failure.what, failure.cause);
        let reason = if terminal { "Failed" } else { "StepFailed" };
        let told = warning(key, slot, reason, words);
        slot.tell(told);
    }

    pub(super) fn tell_contended(&mut self, key: &Key, slot: &mut Slot, failure: &Failure) {
        if slot.memory.contended.insert(failure.what.clone()) {
            let words = format!("{}: {}", failure.what, failure.cause);
            let told = warning(key, slot, "Contended", words);
            slot.tell(told);
        }
    }

    pub(super) fn tell_cleaned(&mut self, key: &Key, slot: &mut Slot) {
        let told = event(
            key,
            slot,
            "Deleted",
            "nothing of it is left on the host".into(),
        );
        slot.tell(told);
    }

    pub(super) fn tell_pruned(&mut self, key: &Key, slot: &mut Slot) {
        let words = "it carried our mark and nobody wanted it; nothing of it is left".to_string();
        let told = event(key, slot, "Pruned", words);
        slot.tell(told);
    }

    /// Tells what a new status means, before it is published.
    pub(super) fn tell_phase(&mut self, key: &Key, slot: &mut Slot, status: &Status, plan: &Plan) {
        let before = slot.memory.phase.replace(status.phase);
        let entered = |phase| status.phase == phase && before.is_some_and(|before| before != phase);
        let mut told = Vec::new();
        if entered(Phase::Stopped) {
            told.push(event(
                key,
                slot,
                "Stopped",
                "its processes have ended and stay so".into(),
            ));
        }
        if entered(Phase::Suspended) {
            told.push(event(
                key,
                slot,
                "Suspended",
                "it is left exactly as it is".into(),
            ));
        }
        if before == Some(Phase::Suspended) && status.phase != Phase::Suspended {
            told.push(event(
                key,
                slot,
                "Resumed",
                "it is looked after again".into(),
            ));
        }
        if entered(Phase::Completed) {
            told.push(event(
                key,
                slot,
                "Completed",
                "every process has ended well".into(),
            ));
        }
        let settled = status.conditions.iter().any(|condition| {
            condition.kind == ConditionKind::Settled && condition.status == Truth::True
        });
        if settled && slot.wanted().is_some() && slot.memory.settled < status.generation {
            slot.memory.settled = status.generation;
            told.push(event(key, slot, "Settled", "nothing is left to do".into()));
        }
        told.into_iter().for_each(|event| slot.tell(event));
        self.tell_blocked(key, slot, plan);
    }

    fn tell_blocked(&mut self, key: &Key, slot: &mut Slot, plan: &Plan) {
        let mut seen = core::mem::take(&mut slot.memory.blocked);
        for obstacle in &plan.blocked {
            // A failed step was told when it failed.
            if obstacle.kind == Obstacle::Failed {
                continue;
            }
            let words = explain::blocked(obstacle);
            let looks = seen.remove(&words).unwrap_or(0).saturating_add(1);
            let enough = if obstacle.kind == Obstacle::Unknown {
                GAP_LOOKS
            } else {
                1
            };
            if looks == enough {
                let severity = severity(obstacle.kind);
                let told = NewEvent {
                    severity,
                    ..event(key, slot, "Blocked", words.clone())
                };
                slot.tell(told);
            }
            slot.memory.blocked.insert(words, looks);
        }
    }

    /// Tells when the next try is due.
    pub(super) fn tell_retry(&mut self, slot: &mut Slot) {
        let Some(mut status) = slot.status.clone() else {
            return;
        };
        let wall = self.now.wall_ms;
        for process in &mut status.processes {
            let respawn = slot.tries.respawns.get(&process.name);
            let due = respawn.and_then(|respawn| respawn.timer.due_wall_ms);
            if process.pid.is_none() {
                process.next_start_ms = due.filter(|due| *due > wall);
            }
        }
        let retry = slot.tries.retry.iter();
        let timers = slot
            .tries
            .respawns
            .values()
            .map(|respawn| &respawn.timer)
            .chain(retry);
        let due = timers
            .filter_map(|timer| timer.due_wall_ms)
            .filter(|due| *due > wall);
        status.next_retry_ms = due.min();
        self.publish(slot, status);
    }
}

/// How bad an obstacle is for people.
fn severity(kind: Obstacle) -> Severity {
    match kind {
        Obstacle::Withheld => Severity::Normal,
        Obstacle::Unknown | Obstacle::Impossible | Obstacle::Failed => Severity::Warning,
    }
}
