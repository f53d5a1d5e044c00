//! What waits for what: starts for their conditions, ends for the ends of what depends on them.
//!
//! ```text
//!   migrate ◀─completed─ db ◀─started─ web      start: migrate, db, web     end: web, db
//! ```

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::String;
use alloc::vec::Vec;

use driver_api::{ExitStatus, ProcessObserved};
use specs::desired::{Condition, Desired};
use specs::id::{Key, ProcessName};

use super::Await;
use super::subject::Subject;
use crate::policy::Verdict;

/// What a start waits for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Need {
    /// A process of the same container.
    Process(ProcessName),
    /// Another container, and why it is not what is waited for.
    Container(Unmet),
}

/// A container that is not what another waits for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Unmet {
    /// Which.
    pub key: Key,
    /// Why not, in words.
    pub why: String,
}

/// How a process stands towards those that depend on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    /// It does not run, or will not go on as it is.
    Down,
    /// It runs as it shall.
    Runs,
    /// It has ended well, and that is all it had to do.
    Done,
}

impl Standing {
    pub(crate) fn of(verdict: &Verdict, seen: Option<&ProcessObserved>) -> Self {
        match verdict {
            Verdict::Keep => Self::Runs,
            Verdict::Rest if is_well(seen) => Self::Done,
            Verdict::Rest
            | Verdict::Ending { .. }
            | Verdict::Replace(_)
            | Verdict::Start(_)
            | Verdict::Again(_) => Self::Down,
        }
    }

    fn meets(self, condition: Condition) -> bool {
        match condition {
            Condition::Started => self != Self::Down,
            Condition::Healthy => self == Self::Runs,
            Condition::Completed => self == Self::Done,
        }
    }
}

/// Returns whether the last run of a process ended with code 0.
pub(crate) fn is_well(seen: Option<&ProcessObserved>) -> bool {
    let status = seen.and_then(|seen| seen.last_exit).map(|run| run.status);
    status == Some(ExitStatus::Code(0))
}

/// When each process of a container may start.
#[derive(Debug)]
pub(crate) struct Starts<'a> {
    desired: &'a Desired,
    unmet: &'a [(Unmet, Condition)],
    standings: BTreeMap<ProcessName, Standing>,
}

impl<'a> Starts<'a> {
    /// A process of which nothing is said is down.
    pub(crate) fn new(
        subject: &Subject<'a>,
        desired: &'a Desired,
        standings: BTreeMap<ProcessName, Standing>,
    ) -> Self {
        Self {
            desired,
            unmet: &subject.policy.unmet,
            standings,
        }
    }

    /// Returns what keeps a process from being started now.
    pub(crate) fn waits(&self, name: &ProcessName) -> Vec<Await> {
        let wait = |need, condition| Await::Dependency {
            process: name.clone(),
            need,
            condition,
        };
        let unmet = self.unmet.iter();
        let containers =
            unmet.map(|(unmet, condition)| wait(Need::Container(unmet.clone()), *condition));
        let processes = self.missing(name);
        let processes =
            processes.map(|(other, condition)| wait(Need::Process(other.clone()), condition));
        containers.chain(processes).collect()
    }

    /// Returns after how many others a process starts, one after another: those that wait for
    /// nothing are the first.
    pub(crate) fn turn(&self, name: &ProcessName) -> usize {
        let most = self.desired.processes.len();
        let mut turn = usize::from(!self.unmet.is_empty());
        let mut at: BTreeSet<&ProcessName> = self.missing(name).map(|(other, _)| other).collect();
        // A chain is no longer than there are processes: no circle keeps this from ending.
        for depth in 1..=most {
            if at.is_empty() {
                break;
            }
            turn = turn.max(depth + usize::from(!self.unmet.is_empty()));
            at = at
                .into_iter()
                .flat_map(|name| self.missing(name).map(|(other, _)| other))
                .collect();
        }
        turn
    }

    fn missing(&self, name: &ProcessName) -> impl Iterator<Item = (&ProcessName, Condition)> {
        let needs = self.desired.processes.get(name);
        let needs = needs.into_iter().flat_map(|process| &process.depends_on);
        needs
            .filter(|(other, condition)| {
                let standing = self.standings.get(*other).copied();
                !standing.unwrap_or(Standing::Down).meets(**condition)
            })
            .map(|(other, condition)| (other, *condition))
    }
}

/// Returns after how many others each process is asked to end, one after another: what nothing
/// depends on that still runs is the first.
///
/// *Law:* a process is asked only when everything that depends on it, directly or by way of
/// others, has ended.
pub(crate) fn end_turns<'a>(
    subject: &Subject<'a>,
    ending: &BTreeSet<&'a ProcessName>,
) -> BTreeMap<&'a ProcessName, usize> {
    let needs: BTreeMap<&ProcessName, BTreeSet<&ProcessName>> = ending
        .iter()
        .map(|name| (*name, all_needs(subject, name)))
        .collect();
    let mut turns: BTreeMap<&ProcessName, usize> = ending.iter().map(|name| (*name, 0)).collect();
    for _ in 0..ending.len() {
        let before = turns.clone();
        for (name, turn) in &mut turns {
            let later = |(other, needs): &(&&ProcessName, &BTreeSet<&ProcessName>)| {
                needs.contains(name) && **other != *name
            };
            let dependents = needs.iter().filter(later);
            let last = dependents.filter_map(|(other, _)| before.get(*other)).max();
            *turn = last.map_or(0, |last| last + 1);
        }
        if turns == before {
            return turns;
        }
    }
    // Specifications without a circle never come here; with one, all end together.
    ending.iter().map(|name| (*name, 0)).collect()
}

/// Returns everything that a process depends on, as wanted now, else as wanted before.
fn all_needs<'a>(subject: &Subject<'a>, name: &'a ProcessName) -> BTreeSet<&'a ProcessName> {
    let mut found = BTreeSet::new();
    let mut left: Vec<&ProcessName> = [name].into();
    while let Some(at) = left.pop() {
        let needs = subject.process_of(at);
        for other in needs
            .into_iter()
            .flat_map(|process| process.depends_on.keys())
        {
            if found.insert(other) {
                left.push(other);
            }
        }
    }
    found
}

#[cfg(test)]
mod tests;
