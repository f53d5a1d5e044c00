//! One round of one key: observe, write records, plan, execute the first stage.

use alloc::boxed::Box;
use alloc::collections::{BTreeSet, VecDeque};
use alloc::string::String;

use driver_api::{Observed, Outcome, Scope, StepError};
use specs::id::{Incarnation, Key};

use super::Desk;
use super::slot::{Activity, Slot, View};
use crate::io::{Cause, Effect, Intent, Now, Record, Ticket};
use crate::order::{self, Gate};
use crate::plan::{Await, Obstacle, Plan, Planned, plan};

/// A look at the whole host serves for a key's own if it is no older than this.
const FRESH_MS: u64 = 1_000;
/// Long work that was begun is looked at this often, should its wake be lost.
const AWAIT_LOOK_MS: u64 = 1_000;
/// The wall clock is taken to have been set when it moves against the other by so much.
const WALL_JUMP_MS: u64 = 2_000;

impl Desk {
    pub(super) fn tell_time(&mut self, now: Now) {
        self.now = now;
        let offset = now.wall_ms.saturating_sub(now.boot_ms);
        if offset.abs_diff(self.boot_at_wall_ms) > WALL_JUMP_MS {
            self.boot_at_wall_ms = offset;
        }
    }

    pub(super) fn bound(&self) -> usize {
        self.config.concurrency.max(1)
    }

    pub(super) fn ticket(&mut self, key: Option<&Key>) -> Ticket {
        self.last_ticket = Ticket(self.last_ticket.0 + 1);
        self.tickets.insert(self.last_ticket, key.cloned());
        self.last_ticket
    }

    /// Puts a key in the queue, or marks it to be looked at again once it is out of hand.
    pub(super) fn wake_slot(&mut self, key: &Key, slot: &mut Slot, at_ms: u64, cause: Cause) {
        if slot.is_idle() || at_ms > self.now.boot_ms {
            self.queue.push(key, at_ms, cause);
        } else {
            slot.again = Some(slot.again.map_or(cause, |before| before.min(cause)));
        }
    }

    /// Begins a round.
    pub(super) fn begin(&mut self, key: &Key, slot: &mut Slot, cause: Cause) {
        if !slot.is_idle() {
            slot.again = Some(cause);
            return;
        }
        if let Some(until) = slot.tries.shunned_until_ms
            && until > self.now.boot_ms
        {
            return self.queue.push(key, until, Cause::Retry);
        }
        self.in_hand += 1;
        slot.again = None;
        self.release_due(slot);
        let now = self.now.boot_ms;
        let fresh = |view: &View| view.fresh && now.saturating_sub(view.at_ms) <= FRESH_MS;
        if slot.view.as_ref().is_some_and(fresh) {
            self.looked(key, slot);
            return;
        }
        let ticket = self.ticket(Some(key));
        slot.last_ticket = ticket;
        slot.activity = Activity::Observing(ticket);
        let scope = Scope::Container(key.clone());
        self.effects.push_back(Effect::Observe { ticket, scope });
    }

    pub(super) fn observed(
        &mut self,
        key: &Key,
        slot: &mut Slot,
        ticket: Ticket,
        mut observed: Observed,
    ) {
        if !matches!(slot.activity, Activity::Observing(asked) if asked == ticket) {
            return;
        }
        let said = observed.containers.remove(key).unwrap_or_default();
        let (complete, at_ms) = (observed.complete, self.now.boot_ms);
        slot.view = Some(View {
            observed: said,
            complete,
            at_ms,
            fresh: true,
        });
        self.looked(key, slot);
    }

    /// Goes on after a look: what it tells people, then what the store must know first.
    fn looked(&mut self, key: &Key, slot: &mut Slot) {
        let now = self.now.boot_ms;
        self.tell_changes(key, slot);
        self.count_ends(key, slot);
        slot.count_silence(now);
        if !slot.wants_life() {
            slot.begun = None;
        }
        let Some(view) = &mut slot.view else { return };
        view.fresh = false;
        let mut records = VecDeque::new();
        for (incarnation, life) in &view.observed.lives {
            let above = incarnation.next();
            self.next_incarnation = self.next_incarnation.max(above);
            if slot.begun == Some(*incarnation) {
                slot.begun = None;
            }
            if !slot.recorded.contains_key(incarnation) {
                let made = life.bundle.known().map(|bundle| bundle.generation);
                records.push_back(Record::LifeBegins {
                    key: key.clone(),
                    incarnation: *incarnation,
                    generation: made.unwrap_or_default(),
                });
            }
        }
        if view.complete {
            let gone = |life: &&Incarnation| !view.observed.lives.contains_key(*life);
            let over = slot
                .recorded
                .keys()
                .filter(gone)
                .filter(|life| slot.begun != Some(**life));
            records.extend(over.map(|incarnation| Record::LifeEnded {
                key: key.clone(),
                incarnation: *incarnation,
            }));
        }
        view.at_ms = now;
        self.record_next(key, slot, records);
    }

    fn record_next(&mut self, key: &Key, slot: &mut Slot, mut rest: VecDeque<Record>) {
        let Some(record) = rest.pop_front() else {
            self.decide(key, slot);
            return;
        };
        // What was seen is not acted on before the record is durable.
        self.stands.doubt_known(key);
        let ticket = self.ticket(Some(key));
        slot.last_ticket = ticket;
        slot.activity = Activity::Recording {
            ticket,
            record: record.clone(),
            rest,
        };
        self.effects.push_back(Effect::Append { ticket, record });
    }

    pub(super) fn appended(
        &mut self,
        key: &Key,
        slot: &mut Slot,
        ticket: Ticket,
        result: Result<(), String>,
    ) {
        let Activity::Recording {
            ticket: asked,
            record,
            rest,
        } = core::mem::take(&mut slot.activity)
        else {
            return;
        };
        if asked != ticket {
            slot.activity = Activity::Recording {
                ticket: asked,
                record,
                rest,
            };
            return;
        }
        if let Err(why) = result {
            // What has no record is not touched; what has one is not held up by this.
            self.record_failed(key, slot, &record, &why);
            if let Record::LifeBegins {
                incarnation,
                generation,
                ..
            } = record
                && Self::is_new(slot, incarnation)
            {
                // It may be durable all the same. The number is not used; the record goes.
                slot.recorded.insert(incarnation, generation);
            }
            return self.record_next(key, slot, rest);
        }
        match record {
            Record::LifeBegins {
                incarnation,
                generation,
                ..
            } => {
                let seen = !Self::is_new(slot, incarnation);
                slot.recorded.insert(incarnation, generation);
                slot.begun = if seen { slot.begun } else { Some(incarnation) };
            }
            Record::LifeEnded { incarnation, .. } => {
                slot.recorded.remove(&incarnation);
                slot.memory.forget_life(incarnation);
                slot.kills.remove(&incarnation);
            }
            // Wanted again, and perhaps deleted again, since: that is another cleanup.
            Record::Cleaned { .. } if slot.outdated && slot.intent != Intent::Gone => {}
            Record::Cleaned { .. } => {
                slot.cleaned = true;
                self.tell_cleaned(key, slot);
            }
        }
        self.record_next(key, slot, rest);
    }

    fn is_new(slot: &Slot, incarnation: Incarnation) -> bool {
        let lives = slot.view.as_ref().map(|view| &view.observed.lives);
        !lives.is_some_and(|lives| lives.contains_key(&incarnation))
    }

    /// Plans, tells, and begins the first stage.
    fn decide(&mut self, key: &Key, slot: &mut Slot) {
        let now = self.now.boot_ms;
        slot.outdated = false;
        let Some(view) = slot.view.clone() else {
            return;
        };
        let mut policy = slot.policy(self.mode, self.next_incarnation, now);
        policy.unmet = self.stands.unmet_of(slot);
        let plan = plan(key, &slot.intent, &view.observed, view.complete, &policy);
        slot.keep_waits(&plan);
        self.tally_boot(key, slot, &plan);
        if slot.begun.is_some() && slot.begun != plan.life {
            // Another life serves after all: the record of this one goes at the next look.
            slot.begun = None;
        }
        let deleted = matches!(slot.intent, Intent::Deleted { .. }) && !slot.cleaned;
        if deleted && slot.is_clear() && !slot.tries.unrecorded {
            let record = Record::Cleaned { key: key.clone() };
            return self.record_next(key, slot, [record].into());
        }
        let steps = self.hold_repeats(key, slot, &plan);
        let begins =
            |life: &Incarnation| !slot.recorded.contains_key(life) && Self::is_new(slot, *life);
        let mut lives = steps.iter().map(|planned| planned.step.incarnation);
        if let Some(incarnation) = lives.find(begins) {
            self.next_incarnation = self.next_incarnation.max(incarnation.next());
            let generation = slot.generation();
            let key_of = key.clone();
            let record = Record::LifeBegins {
                key: key_of,
                incarnation,
                generation,
            };
            return self.record_next(key, slot, [record].into());
        }
        let recorded = |planned: &Planned| slot.recorded.contains_key(&planned.step.incarnation);
        let steps: VecDeque<Planned> = steps.into_iter().filter(recorded).collect();
        if steps.is_empty() {
            self.finish(key, slot, &plan);
        } else {
            self.tell_status(key, slot, &plan);
            self.execute_next(key, slot, steps, BTreeSet::new());
        }
    }

    fn execute_next(
        &mut self,
        key: &Key,
        slot: &mut Slot,
        mut rest: VecDeque<Planned>,
        shut: BTreeSet<Incarnation>,
    ) {
        // What a start waits for may have gone since it was planned.
        rest.retain(|planned| !self.stands.forbid(&planned.step.action));
        rest.retain(|planned| !shut.contains(&planned.step.incarnation));
        if slot.outdated {
            // Planned for what was wanted before.
            rest.clear();
        }
        let Some(planned) = rest.pop_front() else {
            return self.end_round(key, slot, self.now.boot_ms, Cause::Progress);
        };
        let ticket = self.ticket(Some(key));
        slot.last_ticket = ticket;
        let step = Box::new(planned.step.clone());
        slot.activity = Activity::Executing {
            ticket,
            planned: Box::new(planned),
            rest,
            shut,
        };
        self.effects.push_back(Effect::Execute { ticket, step });
    }

    pub(super) fn executed(
        &mut self,
        key: &Key,
        slot: &mut Slot,
        ticket: Ticket,
        result: Result<Outcome, StepError>,
    ) {
        let Activity::Executing {
            ticket: asked,
            planned,
            rest,
            mut shut,
        } = core::mem::take(&mut slot.activity)
        else {
            return;
        };
        if asked != ticket {
            slot.activity = Activity::Executing {
                ticket: asked,
                planned,
                rest,
                shut,
            };
            return;
        }
        match result {
            Ok(outcome) => {
                self.step_done(key, slot, (&planned, outcome));
            }
            Err(StepError::Stale(why)) => {
                // The world moved: what else was planned with this step is as old as it.
                let at_ms = self.stale(key, slot, &planned, why);
                return self.end_round(key, slot, at_ms, Cause::Progress);
            }
            Err(error) => {
                self.step_failed(key, slot, &planned, error);
                if !matches!(order::gate(&planned), Gate::Nothing | Gate::Process) {
                    shut.insert(planned.step.incarnation);
                }
            }
        }
        self.execute_next(key, slot, rest, shut);
    }

    /// Ends a round with nothing to execute.
    pub(super) fn finish(&mut self, key: &Key, slot: &mut Slot, plan: &Plan) {
        let now = self.now.boot_ms;
        if plan.is_settled() {
            slot.settle();
        } else if plan
            .blocked
            .iter()
            .any(|obstacle| obstacle.kind == Obstacle::Unknown)
        {
            self.ask_retry(key, slot, 1);
        } else if slot.is_calm(plan) {
            slot.tries.calm();
        }
        if slot.is_clear() && slot.intent == Intent::Gone {
            return self.forget(key, slot);
        }
        self.tell_status(key, slot, plan);
        let awaits = plan.stages.first().is_some_and(|stage| {
            stage
                .awaits
                .iter()
                .any(|wait| !matches!(wait, Await::Backoff { .. } | Await::Dependency { .. }))
        });
        let next = if awaits {
            AWAIT_LOOK_MS
        } else {
            self.resync_ms(key)
        };
        let next = slot
            .next_due(now)
            .map_or(next, |due| next.min(due.saturating_sub(now)));
        self.end_round(key, slot, now.saturating_add(next), Cause::Resync);
    }

    /// Spreads the looks of many keys over the time between two of them.
    fn resync_ms(&self, key: &Key) -> u64 {
        let longest = self.config.resync.0.max(2);
        let spread = key.as_str().bytes().fold(0u64, |sum, byte| {
            sum.wrapping_mul(31).wrapping_add(u64::from(byte))
        });
        longest / 2 + spread % (longest / 2)
    }

    pub(super) fn end_round(&mut self, key: &Key, slot: &mut Slot, at_ms: u64, cause: Cause) {
        slot.activity = Activity::Idle;
        self.in_hand = self.in_hand.saturating_sub(1);
        match slot.again.take() {
            Some(woken) => self.queue.push(key, self.now.boot_ms, woken),
            None => self.queue.push(key, at_ms, cause),
        }
    }
}
