//! Output on its way to disk, and what is tried again later.

use shim_proto::init::Pipe;
use shim_proto::launch::Logs as Wanted;

use super::{RETRY_MS, Shim};
use crate::host;
use crate::logs::Moved;

impl Shim {
    pub(super) fn has_to_wait(&self, logs: Wanted) -> bool {
        let Some(mover) = &self.logs else { return true };
        mover.is_stuck() && !logs.discard && !(logs.drop && mover.has_settled())
    }

    /// Moves a chunk of output; true if there may be more.
    pub(super) fn pump(&mut self, slot: u32, pipe: Pipe) -> bool {
        let (Some(logs), Some(exits)) = (&mut self.logs, &self.exits) else {
            return false;
        };
        let (moved, drained) = self.processes.pump(slot, pipe, logs, exits);
        if moved == Moved::Stuck {
            self.retry_later();
        }
        self.tell_drained(drained);
        matches!(moved, Moved::Some(_))
    }

    pub(super) fn retry_later(&mut self) {
        self.look_again(RETRY_MS);
    }

    pub(super) fn look_again(&mut self, after_ms: u64) {
        if self.retry_ms == 0 {
            self.retry_ms = host::boot_ms() + after_ms;
        }
    }

    /// Tries again what did not work: the disk, or an init that did not listen.
    pub(super) fn retry(&mut self) {
        self.retry_ms = 0;
        if self.link.is_none() && self.init.is_some() {
            self.reconnect();
        }
        self.settle();
    }

    pub(super) fn settle(&mut self) {
        let (Some(logs), Some(exits)) = (&mut self.logs, &self.exits) else {
            return;
        };
        if logs.is_stuck() {
            self.processes.settle(logs, exits);
            if logs.is_stuck() {
                self.retry_later();
            }
        }
    }

    pub(super) fn pump_tail(&mut self, slot: u32) {
        let (Some(logs), Some(exits)) = (&mut self.logs, &self.exits) else {
            return;
        };
        let drained = self.processes.pump_tail(slot, logs, exits);
        let is_stuck = logs.is_stuck();
        drained
            .into_iter()
            .for_each(|drained| self.tell_drained(Some(drained)));
        if is_stuck {
            self.retry_later();
        }
    }
}
