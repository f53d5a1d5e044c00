//! A supervisor that hangs: killed, since its init needs nobody, and replaced.

use alloc::vec::Vec;

use driver_api::{Action, Expect, Init, Life, Precondition, Shim, ShimState};
use specs::id::Incarnation;

use super::subject::{Subject, against};
use super::{Class, Drift, Reason, Stage};

/// Returns whether a life has a supervisor that did not answer at the last look.
pub(crate) fn is_silent(life: &Life) -> bool {
    let silent = |shim: &Shim| shim.state == ShimState::Silent;
    life.shim.known().is_some_and(silent)
}

/// Plans another supervisor in the place of one that hangs; nothing while it may still answer.
/// An init that does not stand yet goes with it, as with any supervisor that dies.
pub(crate) fn replace(
    subject: &Subject<'_>,
    (incarnation, life): (Incarnation, &Life),
    class: Class,
) -> Vec<Stage> {
    if !is_silent(life) || !subject.policy.hung.contains(&incarnation) {
        return Vec::new();
    }
    let step = |precondition, action| {
        let reason = Reason::new(class, Drift::ShimHangs);
        Stage::of(subject.step(incarnation, precondition, action, reason))
    };
    let mut stages = Vec::from([step(against(life), Action::KillShim)]);
    if life.init.known().is_some_and(|init: &Init| init.ready) {
        let alone = Precondition {
            shim: Expect::Absent,
            ..against(life)
        };
        stages.push(step(alone, Action::AdoptInit));
    }
    stages
}
