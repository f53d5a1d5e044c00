//! The end of lives, each part only after the former was seen to be gone:
//!
//! ```text
//! processes ─▶ init and strays ─▶ supervisor ─▶ network ─▶ cgroup ─▶ upper layer ─▶ runtime
//!                                                                             directory
//! ```

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use driver_api::{
    Action, Expect, Fact, Gap, Init, Life, NetworkObserved, Precondition, ProcessState,
};
use specs::id::{Incarnation, ProcessName};

use super::keep::InTurn;
use super::subject::{NOBODY, Subject, against};
use super::waits::end_turns;
use super::{Await, Blocked, Class, Drift, Planned, Reason, Stage, StepKey, shim};
use crate::order;

/// The end of some lives.
#[derive(Clone, Debug, Default)]
pub(crate) struct Ended {
    /// Until nothing of them runs.
    pub(crate) stop: Vec<Stage>,
    /// Until nothing of them is left.
    pub(crate) clean: Vec<Stage>,
    /// Something of them runs or may run, and its end cannot be planned yet.
    pub(crate) may_live: bool,
}

/// Plans the end of lives, side by side.
pub(crate) fn end_lives(
    subject: &Subject<'_>,
    lives: &BTreeMap<Incarnation, Drift>,
    blocked: &mut Vec<Blocked>,
) -> Ended {
    let mut all = Ended::default();
    for (incarnation, drift) in lives {
        let Some(life) = subject.observed.lives.get(incarnation) else {
            continue;
        };
        let one = End {
            subject,
            incarnation: *incarnation,
            life,
            drift,
        };
        match one.stop() {
            Ok(Way::Whole(stop)) => {
                all.stop = order::abreast([all.stop, stop]);
                let (clean, gap) = one.clean();
                all.clean = order::abreast([all.clean, clean]);
                blocked.extend(gap.as_ref().map(Blocked::unknown));
            }
            Ok(Way::Begins(first)) => {
                all.may_live = true;
                all.stop = order::abreast([all.stop, first]);
            }
            Err(gap) => {
                all.may_live = true;
                blocked.push(Blocked::unknown(&gap));
            }
        }
    }
    all
}

/// The way to where nothing of a life runs.
enum Way {
    /// All of it.
    Whole(Vec<Stage>),
    /// Its first steps: what follows rests on what is seen then.
    Begins(Vec<Stage>),
}

struct End<'a> {
    subject: &'a Subject<'a>,
    incarnation: Incarnation,
    life: &'a Life,
    drift: &'a Drift,
}

impl End<'_> {
    fn class(&self) -> Class {
        self.drift.end_class()
    }

    fn step(&self, precondition: Precondition, action: Action) -> Planned {
        let reason = Reason::new(self.class(), self.drift.clone());
        self.subject
            .step(self.incarnation, precondition, action, reason)
    }

    fn stop(&self) -> Result<Way, Gap> {
        let life = (self.incarnation, self.life);
        let replaced = shim::replace(self.subject, life, self.class());
        if !replaced.is_empty() {
            return Ok(Way::Begins(replaced));
        }
        let populated = match &self.life.cgroup {
            Fact::Known(cgroup) => cgroup.populated,
            Fact::Absent => false,
            Fact::Unknown(gap) => return Err(gap.clone()),
        };
        let mut stages = Vec::new();
        let kill = match &self.life.init {
            Fact::Unknown(gap) => return Err(gap.clone()),
            Fact::Known(init) => {
                if let Some(adopt) = self.adopt(init) {
                    return Ok(Way::Begins([Stage::of(adopt)].into()));
                }
                stages.extend(self.stop_processes(init)?);
                true
            }
            Fact::Absent => populated,
        };
        if kill {
            let precondition = Precondition {
                shim: Expect::Any,
                ..against(self.life)
            };
            stages.push(Stage::of(self.step(precondition, Action::KillLife)));
        }
        match &self.life.shim {
            Fact::Unknown(gap) => return Err(gap.clone()),
            Fact::Known(_) => {
                let gone = Precondition {
                    init: Expect::Absent,
                    ..against(self.life)
                };
                stages.push(Stage::of(self.step(gone, Action::EndShim)));
            }
            Fact::Absent => {}
        }
        Ok(Way::Whole(stages))
    }

    /// Ending processes with grace takes a supervisor: an init that lost its own is given one,
    /// and is ended without grace only when that has failed.
    fn adopt(&self, init: &Init) -> Option<Planned> {
        if !init.ready || !self.life.shim.is_absent() {
            return None;
        }
        let adopt = self.step(against(self.life), Action::AdoptInit);
        let held = &self.subject.policy.hold.steps;
        (!held.contains_key(&StepKey::of(&adopt.step))).then_some(adopt)
    }

    /// Ends the processes with grace.
    fn stop_processes(&self, init: &Init) -> Result<Vec<Stage>, Gap> {
        match &self.life.shim {
            Fact::Unknown(gap) => return Err(gap.clone()),
            Fact::Known(_) if init.ready => {}
            Fact::Known(_) | Fact::Absent => return Ok(Vec::new()),
        }
        let processes = match &self.life.processes {
            Fact::Known(processes) => processes,
            Fact::Absent => return Ok(Vec::new()),
            Fact::Unknown(gap) => return Err(gap.clone()),
        };
        let runs = processes
            .iter()
            .filter(|(_, process)| process.state != ProcessState::Ended);
        let turns = end_turns(self.subject, &runs.map(|(name, _)| name).collect());
        let mut stages = InTurn::new();
        for (name, process) in processes {
            let turn = turns.get(name).copied().unwrap_or_default();
            match process.state {
                ProcessState::Running { .. } => {
                    stages.entry(turn).or_default().steps.push(stop_process(
                        self.subject,
                        (self.incarnation, self.life),
                        (name, process.starts),
                        Reason::new(self.class(), self.drift.clone()),
                    ));
                }
                ProcessState::Stopping { since_ms, .. } => {
                    let (incarnation, name) = (self.incarnation, name.clone());
                    stages
                        .entry(turn)
                        .or_default()
                        .awaits
                        .push(Await::ProcessEnds {
                            incarnation,
                            name,
                            since_ms,
                        });
                }
                ProcessState::Ended => {}
            }
        }
        Ok(stages.into_values().collect())
    }

    fn clean(&self) -> (Vec<Stage>, Option<Gap>) {
        let life = self.life;
        let parts = [
            (connection(&life.network), Action::RemoveNetwork),
            (presence(&life.cgroup), Action::RemoveCgroup),
            (presence(&life.root), Action::RemoveRoot),
            (presence(&life.bundle), Action::RemoveBundle),
        ];
        let mut stages = Vec::new();
        for (fact, action) in parts {
            match fact {
                Fact::Known(()) => stages.push(Stage::of(self.step(NOBODY, action))),
                Fact::Absent => {}
                Fact::Unknown(gap) => return (stages, Some(gap)),
            }
        }
        (stages, None)
    }
}

fn presence<T>(fact: &Fact<T>) -> Fact<()> {
    match fact {
        Fact::Known(_) => Fact::Known(()),
        Fact::Absent => Fact::Absent,
        Fact::Unknown(gap) => Fact::Unknown(gap.clone()),
    }
}

/// Whether anything of it is left on the network.
fn connection(network: &NetworkObserved) -> Fact<()> {
    match (presence(&network.rules), presence(&network.link)) {
        (Fact::Known(()), _) | (_, Fact::Known(())) => Fact::Known(()),
        (Fact::Unknown(gap), _) | (_, Fact::Unknown(gap)) => Fact::Unknown(gap),
        (Fact::Absent, Fact::Absent) => Fact::Absent,
    }
}

/// Plans the graceful end of one process.
pub(crate) fn stop_process(
    subject: &Subject<'_>,
    (incarnation, life): (Incarnation, &Life),
    (name, starts): (&ProcessName, u64),
    reason: Reason,
) -> Planned {
    let stop = subject.stop_of(name);
    let precondition = Precondition {
        starts: Expect::Is(starts),
        ..against(life)
    };
    let (name, signal, grace) = (name.clone(), stop.signal, stop.grace);
    subject.step(
        incarnation,
        precondition,
        Action::StopProcess {
            name,
            signal,
            grace,
        },
        reason,
    )
}
