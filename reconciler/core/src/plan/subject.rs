//! What a plan is about, and the making of its steps.

use alloc::format;
use alloc::sync::Arc;

use driver_api::{
    Action, ContainerObserved, Expect, Fact, Gap, Init, Life, Precondition, ProcessId, Shim, Step,
};
use specs::desired::{Desired, Process, Stop};
use specs::id::{Incarnation, Key, ProcessName};
use specs::units::{Millis, Signal};

use super::{Blocked, Class, Drift, Obstacle, PlanPolicy, Planned, Reason, Stage};

/// How a process is ended that no known specification speaks of: `TERM`, then 10 s.
const STOP_DEFAULT: Stop = Stop {
    signal: Signal(15),
    grace: Millis(10_000),
};

/// Everything that a plan rests on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Subject<'a> {
    pub(crate) key: &'a Key,
    /// The wanted one, or the last one wanted.
    pub(crate) desired: Option<&'a Arc<Desired>>,
    pub(crate) observed: &'a ContainerObserved,
    pub(crate) complete: bool,
    pub(crate) policy: &'a PlanPolicy,
}

impl<'a> Subject<'a> {
    /// Returns a process as wanted now, else as wanted before.
    pub(crate) fn process_of(&self, name: &ProcessName) -> Option<&'a Process> {
        [self.desired, self.policy.former.as_ref()]
            .into_iter()
            .flatten()
            .find_map(|desired| desired.processes.get(name))
    }

    /// Returns how a process is ended: as wanted now, else as wanted before.
    pub(crate) fn stop_of(&self, name: &ProcessName) -> Stop {
        self.process_of(name)
            .map_or(STOP_DEFAULT, |process| process.stop)
    }

    /// Returns the obstacle of a listing that stopped half way.
    pub(crate) fn unlisted(&self) -> Blocked {
        Blocked {
            on: format!("a whole listing of {}", self.key),
            why: "another life of it may be there unseen".into(),
            kind: Obstacle::Unknown,
        }
    }

    pub(crate) fn step(
        &self,
        incarnation: Incarnation,
        precondition: Precondition,
        action: Action,
        reason: Reason,
    ) -> Planned {
        let key = self.key.clone();
        Planned {
            step: Step {
                key,
                incarnation,
                precondition,
                action,
            },
            reason,
        }
    }
}

impl Reason {
    pub(crate) fn new(class: Class, drift: Drift) -> Self {
        Self { class, drift }
    }
}

impl Stage {
    pub(crate) fn of(step: Planned) -> Self {
        Self {
            steps: [step].into(),
            awaits: [].into(),
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.steps.is_empty() && self.awaits.is_empty()
    }
}

/// Returns what a step on a life as observed is planned against.
pub(crate) fn against(life: &Life) -> Precondition {
    Precondition {
        init: expect(&life.init, |init: &Init| init.id),
        shim: expect(&life.shim, |shim: &Shim| shim.id),
        starts: Expect::Any,
    }
}

fn expect<T>(fact: &Fact<T>, id: impl Fn(&T) -> ProcessId) -> Expect<ProcessId> {
    match fact {
        Fact::Known(value) => Expect::Is(id(value)),
        Fact::Absent => Expect::Absent,
        Fact::Unknown(_) => Expect::Any,
    }
}

/// Neither init nor supervisor: before they are made, and after they are gone.
pub(crate) const NOBODY: Precondition = Precondition {
    init: Expect::Absent,
    shim: Expect::Absent,
    starts: Expect::Any,
};

/// Returns the gap of a fact that should be there and is reported absent.
pub(crate) fn odd(what: &str, key: &Key, incarnation: Incarnation) -> Gap {
    Gap {
        what: format!("{what} of {key}.{incarnation}"),
        why: "it is reported absent although the init lives".into(),
    }
}
