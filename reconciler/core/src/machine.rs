//! The daemon as a value: inputs in, effects out.
//!
//! The shell reads the clocks, calls [`Machine::input`], then drains
//! [`Machine::poll_effect`] until it is empty, and sends [`Input::Tick`] when
//! [`Machine::poll_timeout`] has come.
//!
//! Order at a start: [`Machine::new`] with what the store holds, [`Input::Mode`],
//! [`Input::Intents`] with every head, [`Input::Woke`] with [`Cause::Boot`]. Before that
//! last one nothing is looked at.
//!
//! A container's `ttl` counts from the first acceptance of its key, which the store knows:
//! the shell asks [`crate::policy::expires_ms`] and hands in [`Intent::Deleted`] when that
//! time has come.

use alloc::collections::{BTreeMap, VecDeque};
use alloc::vec::Vec;

use driver_api::ContainerObserved;
use specs::id::{Generation, Incarnation, Key};
use specs::status::Status;
use specs::units::Millis;

use crate::io::{Effect, Input, Intent, Mode, Now};
use crate::plan::Plan;

/// What a machine begins with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MachineConfig {
    /// Most keys in hand at once; at least 1.
    pub concurrency: usize,
    /// Each key is looked at at least this often.
    pub resync: Millis,
    /// Delay after the first failure of a container's step.
    pub retry_initial: Millis,
    /// Longest delay between tries.
    pub retry_max: Millis,
    /// The lowest incarnation never given out: the store's highest, plus one.
    pub next_incarnation: Incarnation,
    /// Lives that may have left objects on the host, as the store has them.
    pub lives: Vec<(Key, Incarnation, Generation)>,
    /// What may be destroyed until the first [`Input::Mode`].
    pub mode: Mode,
}

/// What a start found, once every key was looked at and had its first round.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BootReport {
    /// Containers found alive and kept.
    pub adopted: u64,
    /// Containers found alive that the start made anew.
    pub restarted: u64,
    /// Containers that could not be read.
    pub unknown: u64,
}

/// The daemon as a value.
#[derive(Debug)]
pub struct Machine {
    config: MachineConfig,
    intents: BTreeMap<Key, Intent>,
    effects: VecDeque<Effect>,
}

impl Machine {
    /// Returns a machine that has seen nothing yet.
    #[must_use]
    pub fn new(config: MachineConfig) -> Self {
        Self {
            config,
            intents: BTreeMap::new(),
            effects: VecDeque::new(),
        }
    }

    /// Takes one input.
    pub fn input(&mut self, input: Input, _now: Now) {
        match input {
            Input::Intents(changed) => self.intents.extend(changed),
            Input::Mode(mode) => self.config.mode = mode,
            _ => {}
        }
    }

    /// Returns the next effect, if there is any.
    pub fn poll_effect(&mut self) -> Option<Effect> {
        self.effects.pop_front()
    }

    /// Returns when [`Input::Tick`] is due, in milliseconds of `CLOCK_BOOTTIME`.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<u64> {
        None
    }

    /// Returns the status of one key.
    #[must_use]
    pub fn status(&self, _key: &Key) -> Option<&Status> {
        None
    }

    /// Returns every status, sorted by key.
    pub fn statuses(&self) -> impl Iterator<Item = &Status> {
        [].into_iter()
    }

    /// Returns what the host last said of one key.
    #[must_use]
    pub fn observed(&self, _key: &Key) -> Option<&ContainerObserved> {
        None
    }

    /// Returns what would be done to one key, from what the host last said.
    #[must_use]
    pub fn plan_for(&self, _key: &Key) -> Option<Plan> {
        None
    }

    /// Returns what would be done to one key if `intent` were its intent.
    #[must_use]
    pub fn preview(&self, _key: &Key, _intent: &Intent) -> Option<Plan> {
        None
    }

    /// Returns what the start found, once that is known.
    #[must_use]
    pub fn boot_report(&self) -> Option<BootReport> {
        None
    }
}
