//! What is told of one key: its status, and what its start found.

use alloc::boxed::Box;

use driver_api::Life;
use specs::id::Key;
use specs::status::{ConditionKind, Status, Truth};

use super::Desk;
use super::slot::{Activity, Slot};
use crate::io::{Cause, Effect, Intent};
use crate::plan::{Class, Obstacle, Plan};
use crate::status::{self, Basis};

impl Desk {
    /// Counts a key's first plan after a start. What nobody claims yet (the store was lost,
    /// and its source is still to be listed) counts once it is claimed.
    pub(super) fn tally_boot(&mut self, key: &Key, slot: &mut Slot, plan: &Plan) {
        if !slot.boot {
            return;
        }
        slot.boot = slot.intent == Intent::Gone;
        if let Some(left) = &mut self.boot.left {
            left.remove(key);
        }
        let Some(view) = &slot.view else { return };
        let lives = &view.observed.lives;
        let alive = |life: &Life| life.init.known().is_some();
        let kept = plan.life.and_then(|life| lives.get(&life));
        let ends = plan
            .steps()
            .any(|step| step.reason.class == Class::Recreate);
        let unknown = plan
            .blocked
            .iter()
            .any(|obstacle| obstacle.kind == Obstacle::Unknown);
        let report = &mut self.boot.report;
        match () {
            () if slot.wanted().is_none() => {}
            () if kept.is_some_and(alive) => {
                report.adopted += 1;
                self.tell_adopted(key, slot, plan);
            }
            () if lives.values().any(alive) && ends => report.restarted += 1,
            () if unknown => report.unknown += 1,
            () => {}
        }
    }

    /// Derives the status and publishes it, with what happened, if anything differs.
    pub(super) fn tell_status(&mut self, key: &Key, slot: &mut Slot, plan: &Plan) {
        let Some(view) = &slot.view else { return };
        let last_error = slot.tries.last_error.as_ref();
        let basis = Basis {
            key,
            wanted: slot.wanted(),
            generation: slot.generation(),
            observed: &view.observed,
            plan,
            retry: slot.tries.retry.as_ref(),
            respawns: &slot.tries.respawns,
            last_error,
            terminal: slot.tries.is_terminal(),
            now_wall_ms: self.now.wall_ms,
            boot_at_wall_ms: self.boot_at_wall_ms,
            before: slot.status.as_ref(),
        };
        let (status, stand) = status::derive(&basis);
        if slot.wanted().is_some() {
            self.stands.set(key, stand);
        }
        self.tell_phase(key, slot, &status, plan);
        self.publish(slot, status);
    }

    pub(super) fn publish(&mut self, slot: &mut Slot, status: Status) {
        let differs = slot.status.as_ref() != Some(&status);
        let events = core::mem::take(&mut slot.events);
        if differs || !events.is_empty() {
            let told = differs.then(|| Box::new(status.clone()));
            self.effects.push_back(Effect::Publish {
                status: told,
                events,
            });
        }
        slot.status = Some(status);
    }

    /// Tells at once that a newer generation is wanted than the status speaks of.
    pub(super) fn tell_status_only(&mut self, slot: &mut Slot) {
        let generation = slot.generation();
        let Some(mut status) = slot.status.clone() else {
            return;
        };
        status.generation = generation;
        if slot.wanted().is_some() && status.observed_generation != generation {
            for condition in &mut status.conditions {
                if condition.kind == ConditionKind::Settled && condition.status == Truth::True {
                    condition.status = Truth::False;
                    condition.reason = "Progressing".into();
                    condition.message = "a newer specification was accepted".into();
                    condition.since_ms = self.now.wall_ms;
                }
            }
        }
        self.publish(slot, status);
    }

    /// Ends the last round of a key of which nothing is left.
    pub(super) fn forget(&mut self, key: &Key, slot: &mut Slot) {
        if core::mem::take(&mut slot.memory.pruned) {
            self.tell_pruned(key, slot);
        }
        let events = core::mem::take(&mut slot.events);
        if !events.is_empty() {
            self.effects.push_back(Effect::Publish {
                status: None,
                events,
            });
        }
        if slot.status.is_some() {
            self.effects.push_back(Effect::Forget(key.clone()));
        }
        slot.status = None;
        if slot.again.is_some() {
            return self.end_round(key, slot, self.now.boot_ms, Cause::Progress);
        }
        slot.activity = Activity::Idle;
        self.in_hand = self.in_hand.saturating_sub(1);
        self.forgotten.push(key.clone());
    }
}
