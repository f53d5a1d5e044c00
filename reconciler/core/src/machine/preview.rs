//! What would be done, for people: nothing of it is done.

use alloc::vec::Vec;

use driver_api::ContainerObserved;
use specs::id::Key;

use super::slot::Slot;
use super::{HostLook, Machine};
use crate::io::Intent;
use crate::plan::{Plan, plan};

impl Machine {
    /// Returns what would be done to one key, from what the host last said; nothing if the
    /// host was not asked yet.
    #[must_use]
    pub fn plan_for(&self, key: &Key) -> Option<Plan> {
        self.preview(key, &self.slots.get(key)?.intent)
    }

    /// Returns what would be done to one key if `intent` were its intent; delays are left
    /// out, since an edit ends them.
    #[must_use]
    pub fn preview(&self, key: &Key, intent: &Intent) -> Option<Plan> {
        let now = self.desk.now.boot_ms;
        let unmet =
            super::intent_desired(intent).map_or_else(Vec::new, |desired| self.unmet(desired));
        let Some(slot) = self.slots.get(key) else {
            let slot = Slot::new(Intent::Gone);
            let mut policy = slot.policy(self.desk.mode, self.desk.next_incarnation, now);
            policy.unmet = unmet;
            let complete = matches!(self.desk.host, HostLook::Due(_));
            return Some(plan(
                key,
                intent,
                &ContainerObserved::default(),
                complete,
                &policy,
            ));
        };
        let view = slot.view.as_ref()?;
        let mut policy = slot.policy(self.desk.mode, self.desk.next_incarnation, now);
        policy.unmet = unmet;
        if slot.intent != *intent {
            policy.hold = crate::plan::Hold::default();
            policy.former = slot.desired().cloned();
        }
        Some(plan(key, intent, &view.observed, view.complete, &policy))
    }
}
