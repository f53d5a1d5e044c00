//! What would be done to one container, and why.
//!
//! A [`Plan`] is ordered: a stage begins when the one before it is over. People are shown
//! the whole of it; the machine executes the first stage only and then looks again.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;

use driver_api::{Action, ContainerObserved, Life, Step};
use specs::desired::{Condition, Desired, Run};
use specs::id::{Generation, Incarnation, Key, ProcessName};

use crate::io::{Intent, Mode, Wanted};
use crate::{explain, order};

mod drift;
mod end;
mod keep;
mod make;
mod network;
mod processes;
pub(crate) mod shim;
mod subject;
#[cfg(test)]
mod tests;
mod waits;

pub use drift::{Class, Drift, LimitDrift, Reason};
pub(crate) use waits::is_well;
pub use waits::{Need, Unmet};

use subject::Subject;

/// What to do to one key, over all its lives.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// In order.
    pub stages: Vec<Stage>,
    /// What cannot be decided or done now.
    pub blocked: Vec<Blocked>,
    /// Differences that are left alone, and why: for people only.
    pub notes: Vec<Note>,
    /// The life that is kept or being made, if one is wanted.
    pub life: Option<Incarnation>,
}

/// What may be done before looking again, and what is waited for beside it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stage {
    /// What to do, in this order. Steps on different lives do not depend on each other; a
    /// failed one lets the later ones on its own life wait.
    pub steps: Vec<Planned>,
    /// Long work already begun that must be seen to end before the next stage.
    pub awaits: Vec<Await>,
}

/// A step with its reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Planned {
    /// What to do.
    pub step: Step,
    /// Why.
    pub reason: Reason,
}

/// Long work already begun.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Await {
    /// A process was asked to end.
    ProcessEnds {
        /// Which life.
        incarnation: Incarnation,
        /// Which process.
        name: ProcessName,
        /// When it was asked, milliseconds since boot.
        since_ms: u64,
    },
    /// The supervisor is making the init.
    InitReady {
        /// Which life.
        incarnation: Incarnation,
    },
    /// A process is started again when its delay is over.
    Backoff {
        /// Which process; none for a new life of the container.
        process: Option<ProcessName>,
    },
    /// A process is not started before what it depends on is as its spec says.
    Dependency {
        /// Which process.
        process: ProcessName,
        /// What it waits for.
        need: Need,
        /// To be what.
        condition: Condition,
    },
}

/// Something that cannot be decided or done now.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Blocked {
    /// What is waited on, for example `read cgroup of web.3`.
    pub on: String,
    /// Why, in words.
    pub why: String,
    /// What kind of obstacle it is.
    pub kind: Obstacle,
}

/// A kind of obstacle.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Obstacle {
    /// The host could not be read: unknown is not absent.
    Unknown,
    /// Nothing may be ended or removed at present.
    Withheld,
    /// This host cannot do what is asked; a person must act.
    Impossible,
    /// A step failed and waits for its next try.
    Failed,
}

/// A difference that is left alone.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Note(pub String);

/// What planning may rest on beside intent and observation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlanPolicy {
    /// What may be destroyed.
    pub mode: Mode,
    /// What the next life is called.
    pub next_incarnation: Incarnation,
    /// Newest generation that was seen settled: a difference under it is drift, not an edit.
    pub settled: Generation,
    /// What is wanted changed since then, perhaps under the same generation.
    pub edited: bool,
    /// Lives whose supervisor has not answered for so long that it is taken to hang.
    pub hung: BTreeSet<Incarnation>,
    /// The intent before this one, for the stop policy of what it no longer names.
    pub former: Option<Arc<Desired>>,
    /// Containers that its starts wait for and that are not what is waited for.
    pub unmet: Vec<(Unmet, Condition)>,
    /// What waits for its next try.
    pub hold: Hold,
}

/// What waits for its next try.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hold {
    /// No new life is begun.
    pub new_life: bool,
    /// Ended processes whose delay is not over.
    pub processes: BTreeSet<ProcessName>,
    /// Steps that failed, with the cause in words.
    pub steps: BTreeMap<StepKey, String>,
}

/// What a step is about, whatever it was planned against.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct StepKey {
    /// Which life.
    pub incarnation: Incarnation,
    /// Verb.
    pub verb: &'static str,
    /// Process or path, where there is one.
    pub subject: String,
}

/// A name at which planning breaks, to show what that costs.
#[cfg(test)]
pub(crate) const POISON: &str = "poison";

/// Returns what to do to one key.
///
/// *Law:* same arguments, same plan, byte for byte; a container that is as it shall be gives
/// the empty plan. Nothing is created, killed, deleted or released on what is unknown:
/// `complete` says whether every place that could hold a life of this key was listed.
#[must_use]
pub fn plan(
    key: &Key,
    intent: &Intent,
    observed: &ContainerObserved,
    complete: bool,
    policy: &PlanPolicy,
) -> Plan {
    #[cfg(test)]
    assert!(key.as_str() != POISON, "planted");
    let subject = |desired| Subject {
        key,
        desired,
        observed,
        complete,
        policy,
    };
    match intent {
        Intent::Present(wanted) if wanted.desired.suspend => {
            suspended(present(&subject(Some(&wanted.desired)), wanted))
        }
        Intent::Present(wanted) => present(&subject(Some(&wanted.desired)), wanted),
        Intent::Deleted { last } => unwanted(&subject(last.as_ref()), &Drift::Deleted),
        Intent::Gone => unwanted(&subject(None), &Drift::Orphan),
    }
}

fn present(subject: &Subject<'_>, wanted: &Wanted) -> Plan {
    let desired = &wanted.desired;
    let digests = crate::diff::Digests::of(desired);
    let lives = &subject.observed.lives;
    let mut choice = crate::policy::choose(lives, &digests.container, desired.run);
    // What shall not run is ended whatever is granted.
    let runs = desired.run == Run::Running;
    let withdrawn = wanted.withdrawn.as_deref().filter(|_| runs);
    if withdrawn.is_some() {
        // What could not be made again is not ended to be made anew.
        choice.ended.retain(|life, drift| {
            let is_dead = |life: &Life| life.init.is_absent();
            *drift != Drift::Changed || lives.get(life).is_some_and(is_dead)
        });
    }
    let mut plan = Plan {
        life: choice.kept,
        ..Plan::default()
    };
    plan.blocked
        .extend(choice.gaps.iter().map(Blocked::unknown));

    let ended = end::end_lives(subject, &choice.ended, &mut plan.blocked);
    let kept = choice
        .kept
        .and_then(|kept| lives.get(&kept).map(|life| (kept, life)));
    let afresh = choice.ended.values().any(Drift::is_made_anew);
    let class = if afresh {
        Class::Recreate
    } else {
        Class::Create
    };
    let made = match kept {
        Some((kept, life)) if life.init.known().is_some() => {
            // It lives already: nothing of it waits for the end of another.
            let stages = keep::keep(subject, desired, &digests, (kept, life), &mut plan);
            let stages = order::release(stages, subject.policy, &mut plan.blocked);
            let others = order::in_turn([ended.stop, ended.clean]);
            let others = order::release(others, subject.policy, &mut plan.blocked);
            plan.stages = order::abreast([stages, others]);
            return plan.sorted();
        }
        Some((kept, life)) if life.init.gap().is_some() => {
            shim::replace(subject, (kept, life), Class::Repair)
        }
        _ if !choice.gaps.is_empty() || ended.may_live => Vec::new(),
        _ if !subject.complete => {
            plan.blocked.push(subject.unlisted());
            Vec::new()
        }
        None if desired.run == Run::Stopped => Vec::new(),
        _ if withdrawn.is_some() => {
            plan.blocked.extend(withdrawn.map(Blocked::withdrawn));
            Vec::new()
        }
        Some((kept, life)) => make::make(subject, desired, (kept, Some(life)), class, &mut plan),
        None => {
            let next = subject.policy.next_incarnation;
            plan.life = Some(next);
            make::make(subject, desired, (next, None), class, &mut plan)
        }
    };
    let stages = order::in_turn([ended.stop, order::abreast([ended.clean, made])]);
    plan.stages = order::release(stages, subject.policy, &mut plan.blocked);
    plan.sorted()
}

fn unwanted(subject: &Subject<'_>, why: &Drift) -> Plan {
    let mut plan = Plan::default();
    let lives = &subject.observed.lives;
    let orphan = *why == Drift::Orphan;
    if orphan && !lives.is_empty() && !(subject.policy.mode.prune && subject.complete) {
        plan.blocked.push(Blocked {
            on: String::from("a whole listing of every source"),
            why: explain::not_pruned(subject.key),
            kind: Obstacle::Withheld,
        });
        return plan;
    }
    let every = lives
        .keys()
        .map(|incarnation| (*incarnation, why.clone()))
        .collect();
    let ended = end::end_lives(subject, &every, &mut plan.blocked);
    let stages = order::in_turn([ended.stop, ended.clean]);
    plan.stages = order::release(stages, subject.policy, &mut plan.blocked);
    plan.sorted()
}

/// *Law:* a suspended container is left exactly as it is; what differs is told.
fn suspended(would: Plan) -> Plan {
    let drifts = would
        .steps()
        .map(|planned| Note(explain::suspended_drift(planned)));
    let mut notes: Vec<Note> = drifts.collect();
    notes.extend(would.notes.iter().cloned());
    notes.dedup();
    Plan {
        life: would.life,
        notes,
        ..Plan::default()
    }
}

impl Blocked {
    /// Returns the obstacle that a policy is which grants something no more.
    fn withdrawn(why: &str) -> Self {
        Self {
            on: String::from("the policy"),
            why: explain::withdrawn(why),
            kind: Obstacle::Impossible,
        }
    }

    /// Returns the obstacle that a gap is.
    pub(crate) fn unknown(gap: &driver_api::Gap) -> Self {
        Self {
            on: gap.what.clone(),
            why: gap.why.clone(),
            kind: Obstacle::Unknown,
        }
    }
}

impl Plan {
    /// Returns whether nothing is to do, awaited or blocked.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        self.stages.is_empty() && self.blocked.is_empty()
    }

    /// Returns whether nothing goes on before another process or container is as it is needed.
    pub(crate) fn only_depends(&self) -> bool {
        let depends =
            |wait: &Await| matches!(wait, Await::Dependency { .. } | Await::Backoff { .. });
        self.acts().next().is_none()
            && self
                .stages
                .first()
                .is_some_and(|stage| stage.awaits.iter().all(depends))
    }

    fn sorted(mut self) -> Self {
        self.blocked.sort();
        self.blocked.dedup();
        self.notes.sort();
        self.notes.dedup();
        self
    }

    /// Returns the steps that may be done now.
    pub(crate) fn acts(&self) -> impl Iterator<Item = &Planned> {
        self.stages.iter().take(1).flat_map(|stage| &stage.steps)
    }

    /// Returns every step in order.
    pub fn steps(&self) -> impl Iterator<Item = &Planned> {
        self.stages.iter().flat_map(|stage| stage.steps.iter())
    }
}

impl StepKey {
    /// Returns what the step is about.
    #[must_use]
    pub fn of(step: &Step) -> Self {
        let subject = match &step.action {
            Action::StartProcess { name, .. }
            | Action::StopProcess { name, .. }
            | Action::SignalProcess { name, .. }
            | Action::ForgetProcess(name) => name.as_str(),
            Action::RestoreMount { path, .. } | Action::CoverPath { path, .. } => path,
            _ => "",
        };
        Self {
            incarnation: step.incarnation,
            verb: step.action.verb(),
            subject: String::from(subject),
        }
    }
}
