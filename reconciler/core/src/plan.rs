//! What would be done to one container, and why.
//!
//! A [`Plan`] is ordered: a stage begins when the one before it is over. People are shown
//! the whole of it; the machine executes the first stage only and then looks again.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;

use driver_api::{Action, ExitStatus, Step};
use specs::desired::Desired;
use specs::id::{Generation, Incarnation, ProcessName};

use crate::io::Mode;

/// What to do to one key, over all its lives.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// In order; steps of one stage do not depend on each other.
    pub stages: Vec<Stage>,
    /// What cannot be decided or done now.
    pub blocked: Vec<Blocked>,
    /// Differences that are left alone, and why: for people only.
    pub notes: Vec<Note>,
    /// The life that is kept or being made, if one is wanted.
    pub life: Option<Incarnation>,
}

/// Steps that may be done in any order, and what is waited for beside them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stage {
    /// What to do.
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

/// Why a step is planned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reason {
    /// What it costs the container.
    pub class: Class,
    /// The difference that it removes.
    pub drift: Drift,
}

/// What a step costs the container.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Class {
    /// Processes stay.
    Live,
    /// One process is started, stopped or restarted.
    Process,
    /// The container is made anew.
    Recreate,
    /// The container is made.
    Create,
    /// The host drifted from what stood already; processes stay.
    Repair,
    /// The container goes.
    Delete,
    /// Nobody wants it, and its mark says that it is ours.
    Prune,
}

/// One difference between what is wanted and what is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Drift {
    /// The container is not there.
    Missing,
    /// It is being made, and this is the next part.
    Unfinished,
    /// Its init has ended.
    InitDead,
    /// It was made from another specification of what cannot change in a life.
    Changed,
    /// It was made under an earlier boot of the host.
    Rebooted,
    /// A newer life takes its place.
    Superseded,
    /// It is not complete and no longer fits.
    Leftover,
    /// Its specification was removed.
    Deleted,
    /// Nobody wants it.
    Orphan,
    /// Its supervisor is gone while its init lives.
    ShimGone,
    /// Its cgroup is gone.
    CgroupGone,
    /// Its cgroup is missing in some hierarchy.
    CgroupPartial,
    /// Its init is outside its cgroup.
    InitMoved,
    /// Limits differ.
    Limits(Vec<LimitDrift>),
    /// A mount is gone.
    MountLost(String),
    /// A mount's read-only flag differs.
    MountMode {
        /// Path inside the root.
        path: String,
        /// The wanted flag.
        read_only: bool,
    },
    /// The loopback link is down.
    LoopbackDown,
    /// Files differ from what they shall hold.
    Files(Vec<String>),
    /// A process was never started in this life.
    ProcessMissing,
    /// A process has ended and its policy starts it again.
    ProcessEnded(ExitStatus),
    /// A process was ended on our word and is wanted again.
    ProcessWanted,
    /// A process was started from another specification.
    ProcessChanged,
    /// A person asked for a restart.
    RestartAsked,
    /// Files that a process must be restarted for differ from those it was started with.
    ProcessFiles,
    /// Files that a process is told of by a signal have changed.
    SignalFiles,
    /// A process is wanted no more.
    ProcessExtra,
    /// The container shall be stopped.
    Stopped,
}

/// One limit that differs, in words.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct LimitDrift {
    /// Name as in the specification.
    pub field: &'static str,
    /// As read back.
    pub from: String,
    /// As wanted.
    pub to: String,
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
    /// The intent before this one, for the stop policy of what it no longer names.
    pub former: Option<Arc<Desired>>,
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

impl Plan {
    /// Returns whether nothing is to do, awaited or blocked.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        self.stages.is_empty() && self.blocked.is_empty()
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
            Action::RestoreMount { path, .. } => path,
            _ => "",
        };
        Self {
            incarnation: step.incarnation,
            verb: step.action.verb(),
            subject: String::from(subject),
        }
    }
}
