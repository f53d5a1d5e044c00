//! What a machine begins with, and what its start found.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use specs::event::KillsTold;
use specs::id::{Generation, Incarnation, Key};
use specs::units::Millis;

use crate::io::Mode;

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
    /// How far the kills for memory in them were told; nothing: none was.
    pub kills_told: BTreeMap<(Key, Incarnation), KillsTold>,
    /// What may be destroyed until the first [`Input::Mode`](crate::io::Input::Mode).
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
