//! Looks at the whole host: at a start, and now and then for what carries our mark unasked.

use driver_api::{Observed, Scope};

use super::slot::{Slot, View};
use super::{Desk, HostLook, Machine};
use crate::io::{Cause, Effect, Intent, Ticket};

/// The whole host is looked at at least this often, for what carries our mark unasked.
const HOST_LOOK_MS: u64 = 5 * 60_000;
/// The same after a look that was not complete.
const HOST_LOOK_AGAIN_MS: u64 = 10_000;

impl Desk {
    /// Asks for a look at the whole host, or for another one after the one under way.
    pub(super) fn look_at_host(&mut self) {
        if let HostLook::Asked { again, .. } = &mut self.host {
            *again = true;
            return;
        }
        let ticket = self.ticket(None);
        self.host = HostLook::Asked {
            ticket,
            again: false,
        };
        self.effects.push_back(Effect::Observe {
            ticket,
            scope: Scope::Host,
        });
    }
}

impl Machine {
    /// Takes a look at the whole host. It says nothing new of a key that had a look of its
    /// own, or anything else in hand, since this one was asked for.
    pub(super) fn host_observed(&mut self, ticket: Ticket, mut observed: Observed) {
        let HostLook::Asked {
            ticket: asked,
            again,
        } = self.desk.host
        else {
            return;
        };
        if asked != ticket {
            return;
        }
        let now = self.desk.now.boot_ms;
        let after = if observed.complete {
            HOST_LOOK_MS
        } else {
            HOST_LOOK_AGAIN_MS
        };
        self.desk.host = HostLook::Due(if again {
            now
        } else {
            now.saturating_add(after)
        });
        let dropped = core::mem::take(&mut self.desk.dropped);
        observed
            .containers
            .retain(|key, _| self.slots.contains_key(key) || !dropped.contains(key));
        for key in observed.containers.keys() {
            self.slots
                .entry(key.clone())
                .or_insert_with(|| Slot::new(Intent::Gone));
        }
        if self.desk.boot.left.is_none() {
            self.desk.boot.left = Some(self.slots.keys().cloned().collect());
            self.slots.values_mut().for_each(|slot| slot.boot = true);
        }
        for (key, slot) in &mut self.slots {
            let said = observed.containers.remove(key);
            let newer = slot.is_idle() && slot.last_ticket < ticket && !dropped.contains(key);
            if newer && (said.is_some() || observed.complete) {
                let (observed, complete) = (said.unwrap_or_default(), observed.complete);
                slot.view = Some(View {
                    observed,
                    complete,
                    at_ms: now,
                    fresh: true,
                });
            }
            self.desk.wake_slot(key, slot, now, Cause::Resync);
        }
    }
}
