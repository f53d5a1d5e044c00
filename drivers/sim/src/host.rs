//! The world as a driver.

use std::sync::{Mutex, MutexGuard, PoisonError};

use driver_api::{Deadline, Driver, Observed, Outcome, Scope, Step, StepError};

use crate::faults::Chances;
use crate::world::{Told, World};

/// Looks at the whole host that a daemon may still rest on.
const HOST_LOOKS: usize = 3;

/// A host that is simulated.
#[derive(Debug)]
pub struct SimHost(Mutex<World>);

impl SimHost {
    /// Returns a host with strangers' things and nothing of ours.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(Mutex::new(World::new(seed)))
    }

    /// Returns the world, to look at and to lay hands on.
    ///
    /// *Guarantees:* one hand at a time. A panic of another holder does not matter: the world
    /// belongs to one test.
    pub fn world(&self) -> MutexGuard<'_, World> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sets how often each fault happens from now on.
    pub fn set_chances(&self, chances: Chances) {
        self.world().chances = chances;
    }

    /// Notes what a daemon was told, so that what it does can be held against it.
    pub fn delivered(&self, scope: &Scope, observed: &Observed) {
        let mut world = self.world();
        match scope {
            Scope::Container(key) => {
                world.told.alone.insert(key.clone(), observed.clone());
            }
            Scope::Host => {
                world.told.hosts.push_front(observed.clone());
                world.told.hosts.truncate(HOST_LOOKS);
            }
        }
    }

    /// Forgets what was told: the daemon that knew it is gone.
    pub fn daemon_died(&self) {
        self.world().told = Told::default();
    }
}

impl Driver for SimHost {
    fn observe(&self, scope: &Scope, _deadline: Deadline) -> Observed {
        self.world().observe(scope)
    }

    fn execute(&self, step: &Step, _deadline: Deadline) -> Result<Outcome, StepError> {
        self.world().execute(step)
    }
}
