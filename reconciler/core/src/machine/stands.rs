//! What containers are to those that wait for them.

use alloc::borrow::ToOwned;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::String;
use alloc::vec::Vec;

use driver_api::Action;
use specs::desired::{Condition, Desired};
use specs::id::Key;

use super::Machine;
use super::slot::Slot;
use crate::io::{Cause, Intent};
use crate::plan::{Await, Need, Plan, Unmet};
use crate::status::Stand;

/// How each wanted container stands, as last seen under what is wanted of it now.
#[derive(Debug, Default)]
pub(super) struct Stands {
    by_key: BTreeMap<Key, Stand>,
    /// Who depends on each.
    dependents: BTreeMap<Key, BTreeSet<Key>>,
    /// Those that stand otherwise than before, until those that wait for them are woken.
    moved: BTreeSet<Key>,
}

impl Stands {
    /// Notes what is wanted of a key now: what was seen before says nothing of it.
    pub(super) fn intend(&mut self, key: &Key, before: Option<&Desired>, intent: &Intent) {
        for on in before
            .into_iter()
            .flat_map(|before| before.depends_on.keys())
        {
            if let Some(dependents) = self.dependents.get_mut(on) {
                dependents.remove(key);
                if dependents.is_empty() {
                    self.dependents.remove(on);
                }
            }
        }
        match intent {
            Intent::Present(wanted) => {
                for on in wanted.desired.depends_on.keys() {
                    let dependents = self.dependents.entry(on.clone()).or_default();
                    dependents.insert(key.clone());
                }
                self.doubt(key);
            }
            Intent::Deleted { .. } => self.set(key, Stand::down("it is being removed".to_owned())),
            Intent::Gone => self.forget(key),
        }
    }

    /// Nobody knows how it stands until it was looked at.
    pub(super) fn doubt(&mut self, key: &Key) {
        self.set(key, Stand::down("it is still to be looked at".to_owned()));
    }

    /// The same of one that is wanted.
    pub(super) fn doubt_known(&mut self, key: &Key) {
        if self.by_key.contains_key(key) {
            self.doubt(key);
        }
    }

    pub(super) fn set(&mut self, key: &Key, stand: Stand) {
        if self.by_key.get(key) != Some(&stand) {
            self.by_key.insert(key.clone(), stand);
            self.moved.insert(key.clone());
        }
    }

    pub(super) fn forget(&mut self, key: &Key) {
        if self.by_key.remove(key).is_some() {
            self.moved.insert(key.clone());
        }
    }

    /// Returns what a container waits for.
    pub(super) fn unmet(&self, desired: &Desired) -> Vec<(Unmet, Condition)> {
        let needs = desired.depends_on.iter();
        let unmet = needs.filter_map(|(on, condition)| {
            let why = self.why_not(on, *condition)?;
            let unmet = Unmet {
                key: on.clone(),
                why,
            };
            Some((unmet, *condition))
        });
        unmet.collect()
    }

    /// Returns what the starts of a key wait for.
    pub(super) fn unmet_of(&self, slot: &Slot) -> Vec<(Unmet, Condition)> {
        slot.wanted()
            .map_or_else(Vec::new, |wanted| self.unmet(&wanted.desired))
    }

    /// Returns whether a step is a start that has to wait for another container.
    pub(super) fn forbid(&self, action: &Action) -> bool {
        match action {
            Action::StartProcess { desired, .. } => !self.unmet(desired).is_empty(),
            _ => false,
        }
    }

    fn why_not(&self, on: &Key, condition: Condition) -> Option<String> {
        let Some(stand) = self.by_key.get(on) else {
            return Some("no spec wants it".to_owned());
        };
        stand.why_not(condition)
    }
}

impl Machine {
    /// Returns what a container that is wanted like this would wait for.
    #[must_use]
    pub fn unmet(&self, desired: &Desired) -> Vec<(Unmet, Condition)> {
        self.desk.stands.unmet(desired)
    }

    /// Wakes those that wait for a container that stands otherwise than before.
    pub(super) fn wake_dependents(&mut self) {
        let now = self.desk.now.boot_ms;
        for moved in core::mem::take(&mut self.desk.stands.moved) {
            let dependents = self.desk.stands.dependents.get(&moved);
            for key in dependents.cloned().unwrap_or_default() {
                if let Some(slot) = self.slots.get_mut(&key).filter(|slot| slot.waits) {
                    self.desk.wake_slot(&key, slot, now, Cause::Dependency);
                }
            }
        }
    }
}

impl Slot {
    /// Keeps whether a start of this key waits for another container.
    pub(super) fn keep_waits(&mut self, plan: &Plan) {
        let awaits = plan.stages.iter().flat_map(|stage| &stage.awaits);
        let container = |wait: &Await| {
            let need = match wait {
                Await::Dependency { need, .. } => need,
                Await::ProcessEnds { .. } | Await::InitReady { .. } | Await::Backoff { .. } => {
                    return false;
                }
            };
            matches!(need, Need::Container(_))
        };
        self.waits = awaits.into_iter().any(container);
    }
}
