//! What becomes of a life's supervisor.

use driver_api::{Shim, ShimState};

use crate::world::SimLife;

impl SimLife {
    /// Whether there is a supervisor to ask.
    pub(crate) fn answers(&self) -> bool {
        let silent = |shim: &Shim| shim.state == ShimState::Silent;
        self.shim.as_ref().is_some_and(|shim| !silent(shim))
    }

    /// Lets a supervisor that does not hang see that its init is over.
    pub(crate) fn dismiss_shim(&mut self) {
        let answers = self.answers();
        if let Some(shim) = self.shim.as_mut().filter(|_| answers) {
            shim.state = ShimState::Idle;
        }
    }

    /// Ends the supervisor: an init that does not stand yet goes with it.
    pub(crate) fn end_shim(&mut self, now_ms: u64) {
        if self.init.as_ref().is_some_and(|init| !init.ready) {
            self.end_init(now_ms);
        }
        self.shim = None;
    }
}
