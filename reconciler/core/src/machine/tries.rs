//! Failures of one key: what is held, what is tried again when.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use driver_api::{Action, ExitStatus, Life, Outcome, StepError, StepFailure};
use specs::desired::Run;
use specs::id::{Incarnation, Key, ProcessName};
use specs::status::Failure;
use specs::units::Millis;

use super::Desk;
use super::slot::{HUNG_MS, Slot, Tries};
use crate::backoff::{Held, TERMINAL_MS, Timer};
use crate::diff::Digests;
use crate::explain;
use crate::io::{Cause, Effect, Intent, Record};
use crate::order::{self, Gate};
use crate::plan::{Obstacle, Plan, Planned, StepKey};
use crate::policy::{Verdict, judge};

/// A life that lasted so long forgets how often others before it ended.
const LIFE_LONG_MS: u64 = 10 * 60_000;
/// Stale answers in a row that are answered with a new look at once.
const STALE_AT_ONCE: u32 = 3;

impl Tries {
    pub(super) fn is_terminal(&self) -> bool {
        let terminal = |held: &Held| held.terminal_until_ms.is_some();
        self.terminal_until_ms.is_some() || self.held.values().any(terminal)
    }

    /// Forgets what failed: it does not any more.
    pub(super) fn calm(&mut self) {
        self.attempt = 0;
        self.retry = None;
        self.new_life = false;
        self.unrecorded = false;
        self.held.clear();
        self.terminal_until_ms = None;
        self.last_error = None;
        self.stale = 0;
    }
}

impl Slot {
    /// Nothing is left to do.
    pub(super) fn settle(&mut self) {
        if let Some(wanted) = self.wanted() {
            self.settled = wanted.desired.generation;
        }
        self.edited = false;
        self.tries.calm();
    }

    /// Whether what is left to do waits for nothing that failed.
    pub(super) fn is_calm(&self, plan: &Plan) -> bool {
        let lives = self.view.as_ref().map(|view| &view.observed.lives);
        let kept = plan.life.and_then(|life| lives?.get(&life));
        let ready = kept
            .and_then(|life| life.init.known())
            .is_some_and(|init| init.ready);
        let failed = |kind| matches!(kind, Obstacle::Failed | Obstacle::Unknown);
        ready
            && (plan.steps().next().is_none() || plan.only_depends())
            && !plan.blocked.iter().any(|obstacle| failed(obstacle.kind))
    }

    /// Returns when something that is waited out is over.
    pub(super) fn next_due(&self, now_ms: u64) -> Option<u64> {
        let Tries {
            respawns,
            retry,
            held,
            ..
        } = &self.tries;
        let timers = respawns.values().map(|respawn| &respawn.timer).chain(retry);
        let terminal = held.values().filter_map(|held| held.terminal_until_ms);
        let hung = self.silent.values().map(|(_, since)| since + HUNG_MS);
        let due = timers
            .filter_map(|timer| timer.due_ms)
            .chain(terminal)
            .chain(hung)
            .chain(self.kills_due());
        let due = due.chain(self.tries.terminal_until_ms);
        due.filter(|due| *due > now_ms).min()
    }
}

impl Desk {
    /// Lets go of what has waited long enough.
    pub(super) fn release_due(&mut self, slot: &mut Slot) {
        let now = self.now.boot_ms;
        let tries = &mut slot.tries;
        let over = tries.retry.is_some_and(|timer| timer.is_over(now));
        if over {
            tries.retry = None;
            tries.new_life = false;
            tries.unrecorded = false;
        }
        let repeats = &mut tries.repeats;
        tries.held.retain(|step, held| {
            let stays = held.terminal_until_ms.map_or(!over, |until| until > now);
            if !stays {
                repeats.excuse(step);
            }
            stays
        });
        tries.terminal_until_ms = tries.terminal_until_ms.filter(|until| *until > now);
    }

    /// Asks the shell for a delay, unless one is running.
    pub(super) fn ask_retry(&mut self, key: &Key, slot: &mut Slot, at_least: u32) {
        let tries = &mut slot.tries;
        if tries.retry.is_some() {
            return;
        }
        tries.attempt = tries.attempt.saturating_add(1).max(at_least);
        tries.retry = Some(Timer {
            attempt: tries.attempt,
            ..Timer::default()
        });
        self.effects.push_back(Effect::ScheduleRetry {
            key: key.clone(),
            process: None,
            attempt: tries.attempt,
            initial: self.config.retry_initial,
            max: self.config.retry_max,
        });
    }

    /// Takes a delay that the shell has drawn.
    pub(super) fn retry_at(
        &mut self,
        key: &Key,
        slot: &mut Slot,
        process: Option<&ProcessName>,
        delay: Millis,
    ) {
        let due_ms = self.now.boot_ms.saturating_add(delay.0);
        let timer = match process {
            None => slot.tries.retry.as_mut(),
            Some(name) => slot
                .tries
                .respawns
                .get_mut(name)
                .map(|respawn| &mut respawn.timer),
        };
        // One that was forgiven meanwhile needs no delay any more.
        let Some(timer) = timer.filter(|timer| timer.due_ms.is_none()) else {
            return;
        };
        timer.due_ms = Some(due_ms);
        timer.due_wall_ms = Some(self.now.wall_ms.saturating_add(delay.0));
        let attempt = timer.attempt;
        if let Some(name) = process {
            self.tell_backoff(key, slot, name, attempt, delay);
        }
        self.queue.push(key, due_ms, Cause::Retry);
        self.tell_retry(slot);
    }

    pub(super) fn step_done(&mut self, key: &Key, slot: &mut Slot, done: (&Planned, Outcome)) {
        let (planned, outcome) = done;
        slot.tries.stale = 0;
        slot.tries.held.remove(&StepKey::of(&planned.step));
        // Made sure of before every try of what needs it, so repeating it means nothing.
        if !matches!(planned.step.action, Action::PrepareRoot(_)) {
            slot.tries.repeats.done(&planned.step, self.now.boot_ms);
        }
        if planned.step.action == Action::KillLife {
            slot.memory.killed.insert(planned.step.incarnation);
        }
        self.tell_done(key, slot, planned, outcome);
    }

    /// Takes a stale answer; returns when to look again.
    pub(super) fn stale(
        &mut self,
        key: &Key,
        slot: &mut Slot,
        planned: &Planned,
        why: String,
    ) -> u64 {
        slot.tries.stale = slot.tries.stale.saturating_add(1);
        if slot.tries.stale <= STALE_AT_ONCE {
            return self.now.boot_ms;
        }
        let failure = StepFailure {
            what: explain::step(&planned.step),
            cause: why,
            errno: None,
            hint: None,
        };
        self.step_failed(key, slot, planned, StepError::Retry(failure));
        self.now.boot_ms
    }

    /// Holds a step that failed.
    pub(super) fn step_failed(
        &mut self,
        key: &Key,
        slot: &mut Slot,
        planned: &Planned,
        error: StepError,
    ) {
        let (failure, on, terminal) = match error {
            StepError::Retry(failure) => (failure, None, false),
            StepError::Blocked { on, failure } => (failure, Some(on), false),
            StepError::Terminal(failure) => (failure, None, true),
            StepError::Stale(_) => return,
        };
        let until = self.now.boot_ms + TERMINAL_MS;
        if terminal && is_making(&planned.step.action) {
            slot.tries.terminal_until_ms = Some(until);
        }
        if !terminal {
            self.ask_retry(key, slot, 1);
        }
        let failure = Failure {
            step: planned.step.action.verb().to_string(),
            what: failure.what,
            cause: failure.cause,
            errno: failure.errno,
            hint: failure.hint,
            attempts: slot.tries.attempt.max(1),
        };
        self.tell_failed(key, slot, &failure, terminal);
        slot.tries.last_error = Some(failure.clone());
        let terminal_until_ms = terminal.then_some(until);
        let held = Held {
            failure,
            on,
            terminal_until_ms,
        };
        slot.tries.held.insert(StepKey::of(&planned.step), held);
    }

    /// Holds back what needed a record that could not be written.
    pub(super) fn record_failed(&mut self, key: &Key, slot: &mut Slot, record: &Record, why: &str) {
        let (step, what) = match record {
            Record::LifeBegins { incarnation, .. } => {
                slot.tries.new_life = true;
                (
                    "LifeBegins",
                    format!("record the begin of {key}.{incarnation}"),
                )
            }
            Record::LifeEnded { incarnation, .. } => (
                "LifeEnded",
                format!("record the end of {key}.{incarnation}"),
            ),
            Record::Cleaned { .. } => ("Cleaned", format!("record that {key} is gone")),
        };
        slot.tries.unrecorded = true;
        self.ask_retry(key, slot, 1);
        let failure = Failure {
            step: step.into(),
            what,
            cause: why.into(),
            errno: None,
            hint: None,
            attempts: slot.tries.attempt.max(1),
        };
        self.tell_failed(key, slot, &failure, false);
        slot.tries.last_error = Some(failure);
    }

    /// Returns the steps of the first stage that may be done now; what was done and undone
    /// again and again waits.
    pub(super) fn hold_repeats(&mut self, key: &Key, slot: &mut Slot, plan: &Plan) -> Vec<Planned> {
        let mut steps: Vec<Planned> = Vec::new();
        let mut shut: Vec<Incarnation> = Vec::new();
        for planned in plan.stages.iter().take(1).flat_map(|stage| &stage.steps) {
            if shut.contains(&planned.step.incarnation) {
                continue;
            }
            let Some(over) = slot.tries.repeats.too_many(&planned.step, self.now.boot_ms) else {
                steps.push(planned.clone());
                continue;
            };
            self.ask_retry(key, slot, over);
            let failure = Failure {
                step: planned.step.action.verb().to_string(),
                what: explain::step(&planned.step),
                cause: "it was done and undone again and again; somebody else changes it".into(),
                errno: None,
                hint: Some("find who else manages it, or change the specification".into()),
                attempts: slot.tries.attempt,
            };
            self.tell_contended(key, slot, &failure);
            slot.tries.last_error = Some(failure.clone());
            let held = Held {
                failure,
                on: None,
                terminal_until_ms: None,
            };
            slot.tries.held.insert(StepKey::of(&planned.step), held);
            if !matches!(order::gate(planned), Gate::Nothing | Gate::Process) {
                shut.push(planned.step.incarnation);
            }
        }
        steps
    }

    /// Counts ends of inits and of processes that ask for a delay.
    pub(super) fn count_ends(&mut self, key: &Key, slot: &mut Slot) {
        let Intent::Present(wanted) = slot.intent.clone() else {
            return;
        };
        let desired = &wanted.desired;
        if desired.run == Run::Stopped || desired.suspend {
            return;
        }
        let digests = Digests::of(desired);
        let Some(view) = slot.view.take() else { return };
        let fits = |life: &Life| {
            life.bundle
                .known()
                .is_some_and(|bundle| bundle.this_boot && bundle.container == digests.container)
        };
        let lives = || {
            view.observed
                .lives
                .iter()
                .filter(|(_, life)| fits(life))
                .rev()
        };
        let living = lives().find(|(_, life)| life.init.known().is_some());
        for (incarnation, life) in lives() {
            let launched = life.bundle.known().is_some_and(|bundle| bundle.launched);
            let ended = launched && life.init.is_absent();
            if ended && living.is_none() && !slot.memory.killed.contains(incarnation) {
                self.init_died(key, slot, *incarnation);
            }
        }
        if let Some((incarnation, life)) = living {
            for (name, seen) in life.processes.known().into_iter().flatten() {
                let Some(process) = desired.processes.get(name) else {
                    continue;
                };
                let respawn = slot.tries.respawns.entry(name.clone()).or_default();
                respawn.observe(*incarnation, seen);
                let verdict = judge(desired, name, process, &digests, Some(seen));
                let Verdict::Again(status) = verdict else {
                    continue;
                };
                if matches!(status, ExitStatus::NotStarted(_)) {
                    // It is on record, so its own delay takes the place of the step's.
                    slot.tries.held.remove(&StepKey {
                        incarnation: *incarnation,
                        verb: "StartProcess",
                        subject: name.to_string(),
                    });
                }
                let respawn = slot.tries.respawns.entry(name.clone()).or_default();
                if let Some(attempt) = respawn.ended(process, seen) {
                    self.effects.push_back(Effect::ScheduleRetry {
                        key: key.clone(),
                        process: Some(name.clone()),
                        attempt,
                        initial: process.restart.initial,
                        max: process.restart.max,
                    });
                }
            }
        }
        slot.view = Some(view);
    }

    fn init_died(&mut self, key: &Key, slot: &mut Slot, incarnation: Incarnation) {
        if !slot.memory.died.insert(incarnation) {
            return;
        }
        let since = slot.memory.alive_ms.get(&incarnation).copied();
        let lived = since.map_or(0, |since| self.now.boot_ms.saturating_sub(since));
        let tries = &mut slot.tries;
        tries.deaths = if lived >= LIFE_LONG_MS {
            1
        } else {
            tries.deaths.saturating_add(1)
        };
        tries.new_life = true;
        let deaths = tries.deaths;
        self.ask_retry(key, slot, deaths);
        slot.memory.anew = Some("its init had ended".into());
        self.tell_died(key, slot, incarnation);
    }
}

fn is_making(action: &Action) -> bool {
    matches!(
        action,
        Action::PrepareBundle(_)
            | Action::CreateCgroup(_)
            | Action::PrepareRoot(_)
            | Action::StartShim(_)
    )
}
