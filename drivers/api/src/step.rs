use alloc::string::String;
use alloc::sync::Arc;

use specs::desired::{Desired, Limits};
use specs::id::{Digest, Incarnation, Key, ProcessName};
use specs::units::{Millis, Signal};

use crate::ProcessId;

/// The smallest act whose half-done state can be observed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// Whose.
    pub key: Key,
    /// Which life of it.
    pub incarnation: Incarnation,
    /// What the step was planned against; checked by the driver before it acts.
    pub precondition: Precondition,
    /// What to do.
    pub action: Action,
}

/// What a step was planned against. The driver answers `Stale` when it no longer holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Precondition {
    /// The container's init.
    pub init: Expect<ProcessId>,
    /// The container's shim.
    pub shim: Expect<ProcessId>,
    /// Starts so far of the process that the step is about.
    pub starts: Expect<u64>,
}

/// One expectation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Expect<T> {
    /// Whatever it is.
    #[default]
    Any,
    /// It is not there.
    Absent,
    /// It is this one.
    Is(T),
}

/// What to do; verb first. Ordered as a life goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Makes the runtime directory with its record and the launch description.
    PrepareBundle(Arc<Desired>),
    /// Makes the cgroup in every hierarchy that is needed and writes the limits.
    CreateCgroup(Limits),
    /// Makes the upper layer's directories and the volumes.
    PrepareRoot(Arc<Desired>),
    /// Starts the supervisor, which makes the namespaces, the root and the init.
    StartShim(Arc<Desired>),
    /// Kills a supervisor that does not answer; an init that stands lives on.
    KillShim,
    /// Starts a supervisor for an init that lost its own.
    AdoptInit,
    /// Writes the files whose digest differs.
    WriteFiles(Arc<Desired>),
    /// Sets the loopback link of the container's network namespace up.
    RaiseLoopback,
    /// Brings the packet filter to what the container wants: its policy, and what all
    /// containers share; with the ports that can be had. In force before it is connected.
    SetRules(Arc<Desired>),
    /// Lets its ports of the host lead to it, and no others, and holds them on the host.
    PublishPorts(Arc<Desired>),
    /// Makes the devices between container and host, or mends them.
    ConnectNetwork(Arc<Desired>),
    /// Takes the life's rules, ports and devices away.
    RemoveNetwork,
    /// Starts a process, or starts it again.
    StartProcess {
        /// Which.
        name: ProcessName,
        /// The container it belongs to.
        desired: Arc<Desired>,
    },
    /// Begins to end a process: the signal now, `KILL` after the grace time, by the shim.
    StopProcess {
        /// Which.
        name: ProcessName,
        /// First signal.
        signal: Signal,
        /// Time until `KILL`.
        grace: Millis,
    },
    /// Sends a process a signal.
    SignalProcess {
        /// Which.
        name: ProcessName,
        /// The signal.
        signal: Signal,
        /// [`crate::files_mark`] that the process reports from now on.
        files: Digest,
    },
    /// Forgets a process that is no longer wanted and has ended.
    ForgetProcess(ProcessName),
    /// Brings the limits to these values.
    SetLimits(Limits),
    /// Brings what may be written into the root to this.
    SetDisk(Arc<Desired>),
    /// Makes missing cgroups again and puts the container's processes back into them.
    RejoinCgroup(Limits),
    /// Makes a lost mount again.
    RestoreMount {
        /// Path inside the root.
        path: String,
        /// The container it belongs to.
        desired: Arc<Desired>,
    },
    /// Hides a path again, or makes it read-only again.
    CoverPath {
        /// Path inside the root.
        path: String,
        /// The container it belongs to.
        desired: Arc<Desired>,
    },
    /// Kills whatever lives in the cgroup, and the init.
    KillLife,
    /// Ends the supervisor; its records stay in the runtime directory.
    EndShim,
    /// Removes the cgroup from every hierarchy.
    RemoveCgroup,
    /// Removes the ephemeral upper layer.
    RemoveRoot,
    /// Removes the runtime directory.
    RemoveBundle,
}

impl Action {
    /// Returns the verb, for events, logs and `why`.
    #[must_use]
    pub fn verb(&self) -> &'static str {
        match self {
            Self::PrepareBundle(_) => "PrepareBundle",
            Self::CreateCgroup(_) => "CreateCgroup",
            Self::PrepareRoot(_) => "PrepareRoot",
            Self::StartShim(_) => "StartShim",
            Self::KillShim => "KillShim",
            Self::AdoptInit => "AdoptInit",
            Self::WriteFiles(_) => "WriteFiles",
            Self::RaiseLoopback => "RaiseLoopback",
            Self::SetRules(_) => "SetRules",
            Self::PublishPorts(_) => "PublishPorts",
            Self::ConnectNetwork(_) => "ConnectNetwork",
            Self::RemoveNetwork => "RemoveNetwork",
            Self::StartProcess { .. } => "StartProcess",
            Self::StopProcess { .. } => "StopProcess",
            Self::SignalProcess { .. } => "SignalProcess",
            Self::ForgetProcess(_) => "ForgetProcess",
            Self::SetLimits(_) => "SetLimits",
            Self::SetDisk(_) => "SetDisk",
            Self::RejoinCgroup(_) => "RejoinCgroup",
            Self::RestoreMount { .. } => "RestoreMount",
            Self::CoverPath { .. } => "CoverPath",
            Self::KillLife => "KillLife",
            Self::EndShim => "EndShim",
            Self::RemoveCgroup => "RemoveCgroup",
            Self::RemoveRoot => "RemoveRoot",
            Self::RemoveBundle => "RemoveBundle",
        }
    }
}
