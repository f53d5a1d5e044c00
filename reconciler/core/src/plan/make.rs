//! The making of a life:
//!
//! ```text
//! runtime directory ─▶ cgroup and upper layer ─▶ supervisor, init ─▶ network ─▶ processes
//! ```

use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec::Vec;

use driver_api::{Action, Expect, Fact, Life, Precondition};
use specs::desired::{Desired, Run, Writable};
use specs::id::Incarnation;

use super::keep::{InTurn, impossible};
use super::processes::start_in_turn;
use super::subject::{NOBODY, Subject};
use super::waits::Starts;
use super::{Await, Blocked, Class, Drift, Plan, Planned, Reason, Stage, StepKey, shim};
use crate::diff;

/// Plans the making of a life, or of what is missing of a half-made one.
pub(crate) fn make(
    subject: &Subject<'_>,
    desired: &Arc<Desired>,
    (incarnation, life): (Incarnation, Option<&Life>),
    class: Class,
    plan: &mut Plan,
) -> Vec<Stage> {
    let drift = if life.is_none() {
        Drift::Missing
    } else {
        Drift::Unfinished
    };
    let step = |precondition: Precondition, action: Action| -> Planned {
        subject.step(
            incarnation,
            precondition,
            action,
            Reason::new(class, drift.clone()),
        )
    };
    let mut stages = Vec::new();
    if subject.policy.hold.new_life {
        stages.push(Stage {
            awaits: [Await::Backoff { process: None }].into(),
            ..Stage::default()
        });
    }
    match life.map(|life| (life, &life.shim)) {
        Some((life, Fact::Known(_))) => {
            let replaced = shim::replace(subject, (incarnation, life), Class::Repair);
            let begun = || begun(subject, desired, incarnation, class);
            return if replaced.is_empty() {
                begun()
            } else {
                replaced
            };
        }
        Some((_, Fact::Unknown(gap))) => {
            plan.blocked.push(Blocked::unknown(gap));
            return stages;
        }
        Some((_, Fact::Absent)) | None => {}
    }
    if life.is_none() {
        stages.push(Stage::of(step(
            NOBODY,
            Action::PrepareBundle(desired.clone()),
        )));
    }
    let Some(parts) = parts(desired, life, plan) else {
        return stages;
    };
    let mut second = Stage::default();
    if parts.cgroup {
        second
            .steps
            .push(step(NOBODY, Action::CreateCgroup(desired.limits.clone())));
    }
    if parts.root {
        second
            .steps
            .push(step(NOBODY, Action::PrepareRoot(desired.clone())));
    }
    if !second.is_empty() {
        stages.push(second);
    }
    let start = step(NOBODY, Action::StartShim(desired.clone()));
    let key = StepKey::of(&start.step);
    let mut stage = Stage::of(start);
    // While the start is held, there is nothing to make sure of.
    if parts.lasting_root && !subject.policy.hold.steps.contains_key(&key) {
        stage
            .steps
            .insert(0, step(NOBODY, Action::PrepareRoot(desired.clone())));
    }
    stages.push(stage);
    stages.extend(start_all(subject, desired, incarnation, class));
    stages
}

/// Plans what follows once a supervisor makes the init. All that it needs was there when it
/// began; what is taken away meanwhile is mended once it is done.
fn begun(
    subject: &Subject<'_>,
    desired: &Arc<Desired>,
    incarnation: Incarnation,
    class: Class,
) -> Vec<Stage> {
    let making = Stage {
        awaits: [Await::InitReady { incarnation }].into(),
        ..Stage::default()
    };
    let rest = start_all(subject, desired, incarnation, class);
    [making].into_iter().chain(rest).collect()
}

/// Plans what follows once the init stands: shown, and planned anew when it does.
pub(crate) fn start_all(
    subject: &Subject<'_>,
    desired: &Arc<Desired>,
    incarnation: Incarnation,
    class: Class,
) -> Vec<Stage> {
    let mut stages = Vec::new();
    let later = Precondition::default();
    if desired.container.network.is_own() {
        let reason = Reason::new(class, Drift::LoopbackDown);
        let raise = subject.step(incarnation, later.clone(), Action::RaiseLoopback, reason);
        let mut network = Stage::of(raise);
        let todo = super::network::network(desired, &Life::ABSENT, class).todo;
        let steps = todo.into_iter().map(|(action, class, drift)| {
            let reason = Reason::new(class, drift);
            subject.step(incarnation, later.clone(), action, reason)
        });
        network.steps.extend(steps);
        stages.push(network);
    }
    let mut in_turn = InTurn::new();
    if desired.run == Run::Running {
        // None of them runs yet.
        let starts = Starts::new(subject, desired, BTreeMap::new());
        for name in desired.processes.keys() {
            let precondition = Precondition {
                starts: Expect::Absent,
                ..later.clone()
            };
            let action = Action::StartProcess {
                name: name.clone(),
                desired: desired.clone(),
            };
            let reason = Reason::new(class, Drift::ProcessMissing);
            let start = subject.step(incarnation, precondition, action, reason);
            start_in_turn(&mut in_turn, &starts, name, start);
        }
    }
    stages.extend(in_turn.into_values());
    stages
}

/// Which parts are still to be made.
struct Parts {
    cgroup: bool,
    /// The life's own upper layer.
    root: bool,
    /// An upper layer that is not the life's own leaves no trace in what is observed of the
    /// life, so it is made sure of right before it is needed.
    lasting_root: bool,
}

fn parts(desired: &Desired, life: Option<&Life>, plan: &mut Plan) -> Option<Parts> {
    let own = desired.container.rootfs.writable == Writable::Ephemeral;
    let Some(life) = life else {
        return Some(Parts {
            cgroup: true,
            root: own,
            lasting_root: !own,
        });
    };
    let cgroup = match &life.cgroup {
        Fact::Absent => true,
        Fact::Unknown(gap) => {
            plan.blocked.push(Blocked::unknown(gap));
            return None;
        }
        Fact::Known(cgroup) => {
            let limits = diff::limits(&desired.limits, &cgroup.limits);
            plan.blocked
                .extend(limits.gaps.iter().map(Blocked::unknown));
            plan.blocked
                .extend(limits.impossible.iter().map(|field| impossible(field)));
            if !limits.impossible.is_empty() || !limits.gaps.is_empty() {
                // No process begins under limits that are not known to hold.
                return None;
            }
            !cgroup.whole || !limits.differ.is_empty()
        }
    };
    let unmade = match &life.root {
        Fact::Known(prepared) => !prepared,
        Fact::Absent => true,
        Fact::Unknown(gap) => {
            plan.blocked.push(Blocked::unknown(gap));
            return None;
        }
    };
    Some(Parts {
        cgroup,
        root: own && unmade,
        lasting_root: !own && unmade,
    })
}
