//! The order of stages, and what is taken out of a plan because it may not be done now.

use alloc::collections::BTreeSet;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use driver_api::Action;
use specs::id::Incarnation;

use crate::explain;
use crate::plan::{Blocked, Class, Drift, Obstacle, PlanPolicy, Planned, Stage, StepKey};

/// Puts chains one after another.
pub(crate) fn in_turn<const N: usize>(chains: [Vec<Stage>; N]) -> Vec<Stage> {
    chains.into_iter().flatten().collect()
}

/// Puts chains side by side: they do not depend on each other.
pub(crate) fn abreast(chains: [Vec<Stage>; 2]) -> Vec<Stage> {
    let mut out: Vec<Stage> = Vec::new();
    for chain in chains {
        for (at, stage) in chain.into_iter().enumerate() {
            match out.get_mut(at) {
                Some(beside) => {
                    beside.steps.extend(stage.steps);
                    beside.awaits.extend(stage.awaits);
                }
                None => out.push(stage),
            }
        }
    }
    out
}

/// What cannot go on while a step is not done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Gate {
    /// Everything after it.
    All,
    /// Everything after it in the same life.
    Life,
    /// Starts and signals in the same life.
    Starts,
    /// The start of the same process.
    Process,
    /// Nothing.
    Nothing,
}

/// Returns what cannot go on while a step is not done.
pub(crate) fn gate(planned: &Planned) -> Gate {
    let ends_life = is_ending(planned.reason.class);
    match planned.step.action {
        Action::StopProcess { .. } | Action::KillShim | Action::AdoptInit if ends_life => Gate::All,
        Action::KillLife | Action::EndShim => Gate::All,
        // A file that it shall not see is not written while it runs.
        Action::StopProcess { .. } if planned.reason.drift == Drift::ProcessFiles => Gate::Life,
        Action::StopProcess { .. } => Gate::Process,
        Action::PrepareBundle(_)
        | Action::CreateCgroup(_)
        | Action::PrepareRoot(_)
        | Action::StartShim(_)
        | Action::KillShim
        | Action::AdoptInit
        | Action::RemoveNetwork
        | Action::RemoveCgroup
        | Action::RemoveRoot
        | Action::RemoveBundle => Gate::Life,
        Action::RejoinCgroup(_)
        | Action::RestoreMount { .. }
        | Action::CoverPath { .. }
        | Action::RaiseLoopback
        | Action::SetRules(_)
        | Action::ConnectNetwork(_)
        | Action::WriteFiles(_) => Gate::Starts,
        Action::SetLimits(_)
        | Action::PublishPorts(_)
        | Action::StartProcess { .. }
        | Action::SignalProcess { .. }
        | Action::ForgetProcess(_)
        | Action::SetDisk(_) => Gate::Nothing,
    }
}

fn is_ending(class: Class) -> bool {
    matches!(class, Class::Recreate | Class::Delete | Class::Prune)
}

/// Returns whether a step ends or removes something.
#[must_use]
pub fn is_destructive(action: &Action) -> bool {
    match action {
        Action::StopProcess { .. }
        | Action::ForgetProcess(_)
        | Action::KillShim
        | Action::KillLife
        | Action::EndShim
        | Action::RemoveNetwork
        | Action::RemoveCgroup
        | Action::RemoveRoot
        | Action::RemoveBundle => true,
        Action::PrepareBundle(_)
        | Action::CreateCgroup(_)
        | Action::PrepareRoot(_)
        | Action::StartShim(_)
        | Action::AdoptInit
        | Action::WriteFiles(_)
        | Action::RaiseLoopback
        | Action::SetRules(_)
        | Action::PublishPorts(_)
        | Action::ConnectNetwork(_)
        | Action::StartProcess { .. }
        | Action::SignalProcess { .. }
        | Action::SetLimits(_)
        | Action::SetDisk(_)
        | Action::RejoinCgroup(_)
        | Action::RestoreMount { .. }
        | Action::CoverPath { .. } => false,
    }
}

fn is_start(action: &Action) -> bool {
    matches!(
        action,
        Action::StartProcess { .. } | Action::SignalProcess { .. }
    )
}

/// The doors that steps taken out have closed behind them.
#[derive(Default)]
struct Closed {
    all: bool,
    lives: BTreeSet<Incarnation>,
    starts: BTreeSet<Incarnation>,
    processes: BTreeSet<(Incarnation, String)>,
    /// Lives of which a process was not asked to end: those that it depends on are not either.
    ends: BTreeSet<Incarnation>,
}

impl Closed {
    fn close(&mut self, planned: &Planned) {
        let life = planned.step.incarnation;
        match gate(planned) {
            Gate::All => self.all = true,
            Gate::Life => {
                self.lives.insert(life);
            }
            Gate::Starts => {
                self.starts.insert(life);
            }
            Gate::Process => {
                self.processes
                    .insert((life, StepKey::of(&planned.step).subject));
            }
            Gate::Nothing => {}
        }
    }

    fn shuts_out(&self, planned: &Planned) -> bool {
        let life = &planned.step.incarnation;
        let waits_for_end = || {
            let subject = StepKey::of(&planned.step).subject;
            self.processes.contains(&(*life, subject))
        };
        let ends = matches!(planned.step.action, Action::StopProcess { .. });
        self.lives.contains(life)
            || ends && self.ends.contains(life)
            || is_start(&planned.step.action) && (self.starts.contains(life) || waits_for_end())
    }
}

/// Takes out what may not be done now, and what depends on it; says so instead.
pub(crate) fn release(
    stages: Vec<Stage>,
    policy: &PlanPolicy,
    blocked: &mut Vec<Blocked>,
) -> Vec<Stage> {
    let mut closed = Closed::default();
    let mut kept = Vec::new();
    for mut stage in stages {
        if closed.all {
            break;
        }
        let mut unasked = BTreeSet::new();
        stage.steps.retain(|planned| {
            if closed.shuts_out(planned) {
                return false;
            }
            let Some(why) = obstacle(planned, policy) else {
                return true;
            };
            blocked.push(why);
            closed.close(planned);
            if matches!(planned.step.action, Action::StopProcess { .. }) {
                unasked.insert(planned.step.incarnation);
            }
            false
        });
        closed.ends.append(&mut unasked);
        if !stage.is_empty() {
            kept.push(stage);
        }
    }
    kept
}

fn obstacle(planned: &Planned, policy: &PlanPolicy) -> Option<Blocked> {
    let step = &planned.step;
    if !policy.mode.destroy && is_destructive(&step.action) {
        return Some(Blocked {
            on: "the store".to_string(),
            why: explain::withheld(step),
            kind: Obstacle::Withheld,
        });
    }
    let why = policy.hold.steps.get(&StepKey::of(step))?;
    Some(Blocked {
        on: explain::step(step),
        why: why.clone(),
        kind: Obstacle::Failed,
    })
}
