//! Kills for memory: each is told once, over restarts of the daemon too, and whose it was.
//!
//! The kernel counts them for a whole container; the init says which of them ended a process.
//! What is left over was something inside.

use alloc::collections::BTreeSet;
use alloc::format;
use alloc::string::ToString as _;
use alloc::vec::Vec;

use driver_api::{ExitStatus, Life, Run};
use specs::event::KillsTold;
use specs::id::{Incarnation, Key, ProcessName};

use super::Desk;
use super::slot::Slot;
use super::tell::warning;
use crate::explain;
use crate::io::NewEvent;

/// A kill is nobody's when no process is seen to have ended by it for so long: one that is
/// killed is dead, and reaped, within milliseconds.
const NOBODYS_MS: u64 = 2_000;
/// The stable word for one.
const OOM_KILLED: &str = "OOMKilled";

impl Slot {
    /// Returns when kills that fit no process are to be told.
    pub(super) fn kills_due(&self) -> impl Iterator<Item = u64> + use<'_> {
        let nobodys = self.memory.nobodys.values();
        nobodys.map(|since| since.saturating_add(NOBODYS_MS))
    }
}

impl Desk {
    /// Tells the kills for memory in a life that were not told yet. Returns the processes
    /// that were said to have ended by one.
    pub(super) fn tell_kills(
        &mut self,
        key: &Key,
        slot: &mut Slot,
        (incarnation, life): (Incarnation, &Life),
        first: bool,
    ) -> BTreeSet<ProcessName> {
        let Some(count) = counted(life) else {
            return BTreeSet::new();
        };
        let mut told = slot.kills.get(&incarnation).copied().unwrap_or_default();
        if count < told.kills {
            // A group that was made again counts from the beginning.
            told.kills = 0;
        }
        let mut left = count - told.kills;
        let mut ended = Vec::new();
        for (name, seen) in life.processes.known().into_iter().flatten() {
            let Some(run) = seen.last_exit else { continue };
            let before = slot.memory.processes.get(&(incarnation, name.clone()));
            let is_new = !first && before.and_then(|before| before.last_exit) != Some(run);
            let is_untold = run.oom_killed && run.ended_ms > told.ended_ms;
            if is_untold || (is_new && left > 0 && may_be(&run)) {
                left = left.saturating_sub(1);
                ended.push((name.clone(), run));
            }
        }
        for (name, run) in &ended {
            told.kills = count.min(told.kills.saturating_add(1));
            told.ended_ms = told.ended_ms.max(run.ended_ms);
            let words = format!("{name} was {}", explain::exit(run.status, true));
            tell(key, slot, (incarnation, life), told, &words);
        }
        self.tell_nobodys(key, slot, (incarnation, life), (left, told));
        ended.into_iter().map(|(name, _)| name).collect()
    }

    /// Tells kills that fit no process, once none can be seen to have ended by one any more.
    fn tell_nobodys(
        &mut self,
        key: &Key,
        slot: &mut Slot,
        (incarnation, life): (Incarnation, &Life),
        (left, mut told): (u64, KillsTold),
    ) {
        if left == 0 {
            slot.memory.nobodys.remove(&incarnation);
            return;
        }
        let now = self.now.boot_ms;
        let since = *slot.memory.nobodys.entry(incarnation).or_insert(now);
        let is_over = life.init.is_absent();
        if !is_over && now.saturating_sub(since) < NOBODYS_MS {
            return;
        }
        slot.memory.nobodys.remove(&incarnation);
        told.kills = told.kills.saturating_add(left);
        let what = match left {
            1 => "a process".to_string(),
            more => format!("{more} processes"),
        };
        let words = if is_over {
            format!("{what} of life {incarnation}, which has ended, was killed (out of memory)")
        } else {
            format!("{what} inside, none of its own, was killed (out of memory)")
        };
        tell(key, slot, (incarnation, life), told, &words);
    }
}

/// Says how much memory there was, and keeps how far kills are told.
fn tell(
    key: &Key,
    slot: &mut Slot,
    (incarnation, life): (Incarnation, &Life),
    told: KillsTold,
    words: &str,
) {
    let cgroup = life.cgroup.known();
    let peak = cgroup.and_then(|cgroup| cgroup.memory_peak);
    let limit = cgroup.and_then(|cgroup| cgroup.limits.memory.known().copied());
    let words = format!("{words}; {}", explain::memory_at_kill(peak, limit));
    slot.kills.insert(incarnation, told);
    let event = NewEvent {
        kills_told: Some((incarnation, told)),
        ..warning(key, slot, OOM_KILLED, words)
    };
    slot.tell(event);
}

/// Returns how many there were. When the group is gone, the ends of processes still say.
fn counted(life: &Life) -> Option<u64> {
    let in_group = life.cgroup.known().and_then(|cgroup| cgroup.oom_kills);
    let exits = life.processes.known().into_iter().flatten();
    let exits = exits.filter_map(|(_, seen)| seen.last_exit?.oom_kills);
    in_group.or_else(|| exits.max())
}

/// Returns whether a run may have ended by such a kill although nobody counted: its init is
/// of an older release, or its group was made again.
fn may_be(run: &Run) -> bool {
    run.status == ExitStatus::Signal(9) && !run.asked && run.oom_kills.is_none()
}
