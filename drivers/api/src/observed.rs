use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::String;
use alloc::vec::Vec;

use specs::id::{Digest, Generation, Incarnation, Key, ProcessName};

use crate::{Fact, Gap, NetworkObserved};

/// What the host said when asked, for one scope.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Observed {
    /// Whether every place that could hold something of ours in this scope was listed to the
    /// end. *Law: a key or life that is not listed is absent only if this is true.*
    pub complete: bool,
    /// What could not be listed, when `complete` is false.
    pub gaps: Vec<Gap>,
    /// Everything with our mark, by key.
    pub containers: BTreeMap<Key, ContainerObserved>,
}

/// One key: every life of it that has left a trace.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ContainerObserved {
    /// Usually one; more while an old one is being cleaned away.
    pub lives: BTreeMap<Incarnation, Life>,
}

/// One life of one container. All of it absent is the same as not being listed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Life {
    /// The runtime directory's own record.
    pub bundle: Fact<Bundle>,
    /// The cgroup, in every hierarchy that is used.
    pub cgroup: Fact<Cgroup>,
    /// The directory of the ephemeral upper layer; `Known(true)` when it is prepared.
    pub root: Fact<bool>,
    /// What limits the writes to its root; absent while nothing does.
    pub disk: Fact<DiskObserved>,
    /// The supervisor.
    pub shim: Fact<Shim>,
    /// Pid 1 of the container.
    pub init: Fact<Init>,
    /// Mounts in the container's mount namespace, by path; only with a live init.
    pub mounts: Fact<BTreeMap<String, MountObserved>>,
    /// Paths that were to be hidden or read-only and stand open; only with a live init.
    pub exposed: Fact<BTreeSet<String>>,
    /// Whether the loopback link in its network namespace is up; only with a live init of
    /// its own network namespace.
    pub loopback_up: Fact<bool>,
    /// What connects it to the network.
    pub network: NetworkObserved,
    /// Processes by name. Kept by init, told by the shim: [`Fact::Unknown`] while nobody can
    /// be asked.
    pub processes: Fact<BTreeMap<ProcessName, ProcessObserved>>,
    /// Digest of each placed file as it was last written, by path.
    pub files: Fact<BTreeMap<String, Digest>>,
}

impl Life {
    /// Nothing of it is there.
    pub const ABSENT: Self = Self {
        bundle: Fact::Absent,
        cgroup: Fact::Absent,
        root: Fact::Absent,
        disk: Fact::Absent,
        shim: Fact::Absent,
        init: Fact::Absent,
        mounts: Fact::Absent,
        exposed: Fact::Absent,
        loopback_up: Fact::Absent,
        network: NetworkObserved::ABSENT,
        processes: Fact::Absent,
        files: Fact::Absent,
    };
}

/// What the runtime directory says of the life it belongs to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bundle {
    /// Digest of the [`specs::desired::Container`] it was made from.
    pub container: Digest,
    /// Generation it was made from.
    pub generation: Generation,
    /// When it was made, milliseconds since the epoch, for display.
    pub created_ms: u64,
    /// It was made under this boot of the host. False for what a reboot left behind.
    pub this_boot: bool,
    /// An init was made in this life at some time. *Law: a life has one init; when that is
    /// gone the life is over.* Without this, a life whose init ended and one whose init is
    /// still to be made look the same once their supervisor is gone.
    pub launched: bool,
}

/// The cgroup of one life.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cgroup {
    /// Whether a process is in it or below it.
    pub populated: bool,
    /// Whether all wanted hierarchies hold it.
    pub whole: bool,
    /// What is enforced, as read back.
    pub limits: LimitsObserved,
    /// Live use.
    pub usage: UsageObserved,
    /// Processes the kernel killed for memory here.
    pub oom_kills: Option<u64>,
    /// Most bytes ever charged; read only where something was killed for memory.
    pub memory_peak: Option<u64>,
}

/// Limits as read back, in the units of [`specs::desired::Limits`]. `Known(None)` is "not
/// limited"; `Absent` is "this host has no such control".
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LimitsObserved {
    /// Hard memory limit, bytes.
    pub memory: Fact<Option<u64>>,
    /// Swap on top of memory, bytes; `None` is unlimited.
    pub swap: Fact<Option<u64>>,
    /// Protected memory, bytes.
    pub memory_low: Fact<Option<u64>>,
    /// Quota, thousandths of a processor.
    pub cpu: Fact<Option<u32>>,
    /// Weight, 1 to 10000.
    pub cpu_weight: Fact<Option<u16>>,
    /// Processors, as sorted inclusive ranges.
    pub cpu_set: Fact<Option<Vec<(u32, u32)>>>,
    /// Most tasks.
    pub pids: Fact<Option<u32>>,
}

/// What limits the writes to a root, as read back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DiskObserved {
    /// What does it.
    pub backend: DiskBackend,
    /// Most bytes.
    pub bytes: u64,
    /// Most inodes; none: nothing counts them for this root.
    pub inodes: Option<u64>,
    /// How many more inodes than asked for that may be, by rounding.
    pub inodes_grain: u64,
}

/// What limits the writes to a root.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum DiskBackend {
    /// An ext4 image of its own, on a loop device while the container lives.
    Image,
}

impl DiskBackend {
    /// Returns its word.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Image => "image",
        }
    }
}

/// Live use of one cgroup.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct UsageObserved {
    /// Bytes charged.
    pub memory_bytes: Option<u64>,
    /// Processor time, microseconds.
    pub cpu_usec: Option<u64>,
    /// Tasks.
    pub pids: Option<u64>,
}

/// Identity of a process within one boot: a pid alone is never signalled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ProcessId {
    /// Host pid.
    pub pid: u32,
    /// Field 22 of `/proc/PID/stat`, clock ticks since boot.
    pub start: u64,
}

/// A container's supervisor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shim {
    /// Which process.
    pub id: ProcessId,
    /// What it does.
    pub state: ShimState,
}

/// What a supervisor does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ShimState {
    /// It makes or supervises an init.
    Working,
    /// Its init is over, or could not be made: it can go.
    Idle,
    /// It does not answer.
    Silent,
}

/// Pid 1 of a container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Init {
    /// Which process.
    pub id: ProcessId,
    /// It has its root, and has spawned or can spawn processes.
    pub ready: bool,
    /// It is in the cgroup of its life, in every hierarchy that is used.
    pub in_cgroup: bool,
}

/// One mount as `/proc/PID/mountinfo` shows it (`proc_pid_mountinfo(5)`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MountObserved {
    /// File system type.
    pub fs_type: String,
    /// The per-mount read-only flag.
    pub read_only: bool,
    /// Path of the mount's root inside its file system.
    pub root: String,
    /// `major:minor` of the file system.
    pub device: String,
    /// How many inodes its file system may have, where that says so (`tmpfs(5)`, `nr_inodes`).
    pub inodes: Option<u64>,
    /// How many mounts lie on this path; more than one means something was mounted over it.
    pub stacked: u32,
}

/// One process as its init remembers it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProcessObserved {
    /// Digest of the [`specs::desired::Process`] it was last started from.
    pub digest: Digest,
    /// `restart_epoch` it was last started under.
    pub restart_epoch: u64,
    /// Starts so far in this life; the first is 1.
    pub starts: u64,
    /// What it does now.
    pub state: ProcessState,
    /// How the run before the present one, or the last one, ended.
    pub last_exit: Option<Run>,
    /// [`crate::files_mark`] of what it was started with or last signalled about.
    pub files: Digest,
}

/// What a process does now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ProcessState {
    /// It runs.
    Running {
        /// Which process.
        id: ProcessId,
        /// When it began, milliseconds since boot.
        started_ms: u64,
    },
    /// It was asked to end and has not yet.
    Stopping {
        /// Which process.
        id: ProcessId,
        /// When it was asked, milliseconds since boot.
        since_ms: u64,
    },
    /// It does not run.
    Ended,
}

/// One run that is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Run {
    /// When it began, milliseconds since boot.
    pub started_ms: u64,
    /// When it ended, milliseconds since boot.
    pub ended_ms: u64,
    /// How.
    pub status: ExitStatus,
    /// It was ended on our word.
    pub asked: bool,
    /// Kills for memory in its container when its end was seen, if that was read.
    pub oom_kills: Option<u64>,
    /// The kernel killed it for memory.
    pub oom_killed: bool,
}

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExitStatus {
    /// By itself, with this code.
    Code(u8),
    /// By this signal.
    Signal(u8),
    /// It never came to run: `errno` of the call that failed.
    NotStarted(i32),
    /// Nobody saw it; never reported as 0.
    Unseen,
}
