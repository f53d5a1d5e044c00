//! Why a step is planned.

use alloc::string::String;
use alloc::vec::Vec;

use driver_api::ExitStatus;

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
    /// Its supervisor has not answered for long.
    ShimHangs,
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
    /// A path that was hidden or read-only stands open.
    Exposed(String),
    /// The loopback link is down.
    LoopbackDown,
    /// What the packet filter says of its policy differs, in words.
    Rules(Vec<String>),
    /// Ports that lead to it differ, in words.
    Ports(Vec<String>),
    /// Its connection to the host differs, in words.
    Link(Vec<String>),
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

impl Drift {
    /// Returns whether a life ended for this is followed by a new one.
    pub(crate) fn is_made_anew(&self) -> bool {
        matches!(self, Self::Changed | Self::InitDead | Self::Rebooted)
    }

    /// Returns what ending a life for this costs.
    pub(crate) fn end_class(&self) -> Class {
        match self {
            Self::Deleted => Class::Delete,
            drift if drift.is_made_anew() => Class::Recreate,
            _ => Class::Prune,
        }
    }
}
