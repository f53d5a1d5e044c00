//! Which life is kept, when an ended process starts again, what may be destroyed.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use driver_api::{
    Bundle, Cgroup, ExitStatus, Fact, Gap, Life, ProcessObserved, ProcessState, Shim, ShimState,
};
use specs::desired::{Desired, Process, RestartPolicy, Run};
use specs::id::{Digest, Incarnation, ProcessName};

use crate::diff::Digests;
use crate::plan::Drift;

/// Returns when a container's `ttl` is over, in milliseconds since the epoch, given when its
/// key was first accepted; nothing if it has none.
#[must_use]
pub fn expires_ms(desired: &Desired, first_accepted_ms: u64) -> Option<u64> {
    desired
        .ttl
        .map(|ttl| first_accepted_ms.saturating_add(ttl.0))
}

/// What becomes of each life of a wanted container.
#[derive(Clone, Debug, Default)]
pub(crate) struct Choice {
    /// The one life that is kept or finished.
    pub(crate) kept: Option<Incarnation>,
    /// Lives that are ended, with the reason.
    pub(crate) ended: BTreeMap<Incarnation, Drift>,
    /// What could not be read and would have to be, before a life may be begun or chosen.
    pub(crate) gaps: Vec<Gap>,
}

enum Standing {
    Lives,
    MayLive(Gap),
    HalfMade,
    Unreadable(Gap),
    Over(Drift),
}

/// Chooses among the lives of a wanted container.
///
/// *Law:* at most one is kept. The newest that fits and lives; without one that lives, the
/// newest that fits and whose init can still be made. One that may live is never passed over
/// for one that does not.
pub(crate) fn choose(lives: &BTreeMap<Incarnation, Life>, container: &Digest, run: Run) -> Choice {
    let mut choice = Choice::default();
    let (mut living, mut perhaps, mut half_made) = (None, None, None);
    let mut fitting = Vec::new();
    for (incarnation, life) in lives {
        match standing(life, container, run) {
            Standing::Lives => {
                living = Some(*incarnation);
                fitting.push((*incarnation, Drift::Superseded));
            }
            Standing::MayLive(gap) => {
                perhaps = Some(*incarnation);
                choice.gaps.push(gap);
                fitting.push((*incarnation, Drift::Superseded));
            }
            Standing::HalfMade => {
                half_made = Some(*incarnation);
                fitting.push((*incarnation, Drift::Leftover));
            }
            Standing::Unreadable(gap) => choice.gaps.push(gap),
            Standing::Over(drift) => {
                choice.ended.insert(*incarnation, drift);
            }
        }
    }
    choice.kept = living.or(perhaps).or(half_made);
    for (incarnation, drift) in fitting {
        // While one may live, no other is judged: what is not read decides nothing.
        if Some(incarnation) != choice.kept && (living.is_some() || perhaps.is_none()) {
            choice.ended.insert(incarnation, drift);
        }
    }
    choice
}

fn standing(life: &Life, container: &Digest, run: Run) -> Standing {
    let bundle: &Bundle = match &life.bundle {
        Fact::Known(bundle) => bundle,
        Fact::Unknown(gap) => return Standing::Unreadable(gap.clone()),
        Fact::Absent => return Standing::Over(Drift::Leftover),
    };
    if !bundle.this_boot {
        return Standing::Over(Drift::Rebooted);
    }
    if bundle.container != *container {
        return Standing::Over(Drift::Changed);
    }
    match &life.init {
        Fact::Known(_) => Standing::Lives,
        Fact::Unknown(gap) => Standing::MayLive(gap.clone()),
        Fact::Absent if is_over(life, bundle) => Standing::Over(Drift::InitDead),
        Fact::Absent if run == Run::Stopped => Standing::Over(Drift::Leftover),
        Fact::Absent => Standing::HalfMade,
    }
}

/// Returns whether a life without an init cannot be finished any more.
fn is_over(life: &Life, bundle: &Bundle) -> bool {
    let idle = |shim: &Shim| shim.state == ShimState::Idle;
    let given_up = life.shim.known().is_some_and(idle);
    let strays = life
        .cgroup
        .known()
        .is_some_and(|cgroup: &Cgroup| cgroup.populated);
    bundle.launched || given_up || (strays && life.shim.is_absent())
}

/// What is to become of one wanted process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It runs as it shall.
    Keep,
    /// It ended and its policy is content.
    Rest,
    /// It was asked to end.
    Ending {
        /// When, milliseconds since boot.
        since_ms: u64,
    },
    /// It runs, and must be ended first.
    Replace(Drift),
    /// It is started at once.
    Start(Drift),
    /// It ended by itself and is started again after its delay.
    Again(ExitStatus),
}

/// Judges one wanted process of a running container.
///
/// *Law:* an end on our word is no exit. What was stopped and is wanted again starts at once,
/// whatever its policy and status.
pub(crate) fn judge(
    desired: &Desired,
    name: &ProcessName,
    wanted: &Process,
    digests: &Digests,
    seen: Option<&ProcessObserved>,
) -> Verdict {
    let Some(seen) = seen else {
        return Verdict::Start(Drift::ProcessMissing);
    };
    let changed = if digests.processes.get(name) != Some(&seen.digest) {
        Some(Drift::ProcessChanged)
    } else if seen.restart_epoch < desired.restart_epoch {
        Some(Drift::RestartAsked)
    } else if digests.restart_due(&seen.files) {
        Some(Drift::ProcessFiles)
    } else {
        None
    };
    match (&seen.state, changed) {
        (ProcessState::Stopping { since_ms, .. }, _) => Verdict::Ending {
            since_ms: *since_ms,
        },
        (ProcessState::Running { .. }, Some(drift)) => Verdict::Replace(drift),
        (ProcessState::Running { .. }, None) => Verdict::Keep,
        (ProcessState::Ended, Some(drift)) => Verdict::Start(drift),
        (ProcessState::Ended, None) => after_end(wanted, seen),
    }
}

fn after_end(wanted: &Process, seen: &ProcessObserved) -> Verdict {
    // An end without a record was seen by nobody; it is not taken for success.
    let status = match seen.last_exit {
        Some(run) if run.asked => return Verdict::Start(Drift::ProcessWanted),
        Some(run) => run.status,
        None => ExitStatus::Unseen,
    };
    let again = match (wanted.restart.policy, status) {
        // It never came to run, so no policy about exits applies.
        (_, ExitStatus::NotStarted(_)) | (RestartPolicy::Always, _) => true,
        (RestartPolicy::OnFailure, status) => status != ExitStatus::Code(0),
        (RestartPolicy::Never, _) => false,
    };
    if again {
        Verdict::Again(status)
    } else {
        Verdict::Rest
    }
}

/// Returns how many failures in a row stand behind an ended process, the first being 1.
///
/// `calm` is the number of starts up to which nothing counts any more: the last one that
/// was asked for, or that ran long enough. A daemon that has just begun does not know it and
/// takes 0: the count then rests on what the host remembers, which is never too low.
pub(crate) fn failures(wanted: &Process, seen: &ProcessObserved, calm: u64) -> u32 {
    let long = |run: driver_api::Run| {
        run.ended_ms.saturating_sub(run.started_ms) >= wanted.restart.reset_after.0
    };
    if seen.last_exit.is_some_and(long) {
        return 1;
    }
    u32::try_from(seen.starts.saturating_sub(calm).max(1)).unwrap_or(u32::MAX)
}
