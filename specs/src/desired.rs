//! A container with nothing left to decide: every default filled, every choice made.
//!
//! The split into parts follows what a change costs: [`Container`] is made anew
//! (*recreate*), a [`Process`] alone is restarted (*process*), [`Limits`] and the rest
//! change under the same pids (*live*). Each part that a running thing cannot report field
//! by field has a `digest`, which the host carries as part of its mark.
//!
//! Not `Serialize` on purpose: what crosses a boundary has its own wire type there.

mod depends;
mod digest;
mod names;
mod network;
pub(crate) mod view;

use std::collections::{BTreeMap, BTreeSet};

pub use depends::{Condition, cycle};
pub use names::Names;
pub use network::{Egress, Flow, Isolated, Network, Port, Range, Traffic, Transport};

use crate::id::{Generation, Key, ProcessName, VolumeName};
use crate::units::{Bytes, Inodes, MilliCpu, Millis, Secret, Signal};

/// One container as it shall be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Desired {
    /// Identity.
    pub key: Key,
    /// Version of the intent this was resolved from.
    pub generation: Generation,
    /// Free text for selection. *Live.*
    pub labels: BTreeMap<String, String>,
    /// Free text for people and tools. *Live.*
    pub annotations: BTreeMap<String, String>,
    /// Whether its processes shall run, after overrides. *Live.*
    pub run: Run,
    /// Leave it exactly as it is, after overrides. *Live.*
    pub suspend: bool,
    /// Delete after this age, counted from the first acceptance of the key. *Live.*
    pub ttl: Option<Millis>,
    /// Containers that the starts of its processes wait for. *Live.*
    pub depends_on: BTreeMap<Key, Condition>,
    /// A person's `restart` counts up; a process started under a lower one is restarted once.
    pub restart_epoch: u64,
    /// What is made anew when it changes. *Recreate.*
    pub container: Container,
    /// What the kernel enforces. *Live.*
    pub limits: Limits,
    /// Most bytes written into the root; given exactly when [`Rootfs::bound`] is. *Live.*
    pub disk: Option<Bytes>,
    /// Ports of the host that lead to it, sorted; empty unless its network is isolated. *Live.*
    pub ports: Vec<Port>,
    /// Where it may speak to; says nothing unless its network is isolated. *Live.*
    pub egress: Egress,
    /// How it finds others by name; none unless its network is isolated. *Live.*
    pub names: Option<Names>,
    /// Files placed in the root before the first process starts, those that `names` makes
    /// included. *By `on_change`.*
    pub files: Vec<File>,
    /// What runs, by name. Adding or removing one is *live*, changing one *process*.
    pub processes: BTreeMap<ProcessName, Process>,
}

/// Whether processes shall run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Run {
    /// They run, each under its restart policy.
    Running,
    /// They are ended; root, address and statistics stay.
    Stopped,
}

/// The part of a container that cannot change under living processes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Container {
    /// Root file system.
    pub rootfs: Rootfs,
    /// Host name in its own UTS namespace.
    pub hostname: String,
    /// Network namespace.
    pub network: Network,
    /// Mounts, in the order they are made (parents before children).
    pub mounts: Vec<Mount>,
    /// What it may do.
    pub security: Security,
}

/// Root file system.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rootfs {
    /// Absolute path of the shared, never written lower layer.
    pub directory: String,
    /// What becomes of writes.
    pub writable: Writable,
    /// Writes are limited; how many bytes is [`Desired::disk`], which can change in a life.
    pub bound: Option<Bound>,
}

/// What of a limit of writes cannot change in a life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bound {
    /// Most files, directories and links; none: as many as the file system has.
    pub inodes: Option<Inodes>,
}

/// What becomes of writes to the root.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Writable {
    /// The upper layer goes with the container.
    Ephemeral,
    /// The upper layer is kept by name.
    Persistent,
    /// There are none: the root is read-only.
    None,
}

/// One mount below the root.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mount {
    /// Absolute, normalised path inside the root.
    pub path: String,
    /// No writes through this mount.
    pub read_only: bool,
    /// Where it comes from.
    pub source: MountSource,
}

/// Where a mount comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MountSource {
    /// A host path.
    Bind {
        /// Absolute path on the host.
        source: String,
        /// With the mounts below it.
        recursive: bool,
        /// Whether later mounts on the host side appear inside.
        propagation: Propagation,
        /// Root that the source may not leave, by a link or otherwise: the policy's. `None`
        /// while nothing was granted.
        beneath: Option<String>,
    },
    /// Memory, charged to the container.
    Tmpfs {
        /// Size limit.
        bytes: Bytes,
        /// Permission bits of its root, for example `0o1777`.
        mode: u32,
    },
    /// A named directory that outlives the container.
    Volume(VolumeName),
}

/// Mount propagation from the host into the container; never the other way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Propagation {
    /// None.
    Private,
    /// Host to container.
    Slave,
}

/// What a container may do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Security {
    /// Its user namespace.
    pub user_namespace: UserNamespace,
    /// Capability names without `CAP_`, upper case, for example `CHOWN`.
    pub capabilities: BTreeSet<String>,
    /// System call filter.
    pub seccomp: Seccomp,
    /// `PR_SET_NO_NEW_PRIVS`.
    pub no_new_privileges: bool,
    /// Everything off: all capabilities, all devices, no filter, no masks.
    pub privileged: bool,
    /// Devices beside the standard ones.
    pub devices: Vec<Device>,
    /// Namespaced kernel settings, by dotted name.
    pub sysctls: BTreeMap<String, String>,
    /// Paths made read-only, defaults included.
    pub read_only_paths: Vec<String>,
    /// Paths hidden, defaults included.
    pub masked_paths: Vec<String>,
}

/// User namespace of a container.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum UserNamespace {
    /// Ids 0 to `count - 1` inside are `base` to `base + count - 1` on the host.
    Own(IdRange),
    /// The host's.
    Host,
}

/// A range of user and group ids on the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct IdRange {
    /// First id on the host.
    pub base: u32,
    /// How many.
    pub count: u32,
}

/// System call filter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Seccomp {
    /// The built-in allow list.
    Default,
    /// None.
    Unconfined,
    /// A profile in the OCI runtime-spec's JSON form.
    Profile {
        /// Where it was read, for messages.
        path: String,
        /// Its text at the time it was accepted.
        json: String,
    },
}

/// A device node of the host made available inside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Device {
    /// Path on the host and inside.
    pub path: String,
    /// Reading is allowed.
    pub read: bool,
    /// Writing is allowed.
    pub write: bool,
    /// Making the node is allowed.
    pub mknod: bool,
}

/// What the kernel enforces on all processes together. `None` is "not limited".
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// Hard memory limit.
    pub memory: Option<Bytes>,
    /// Swap on top of memory; meaningful only beside `memory`.
    pub swap: Bytes,
    /// Memory protected from reclaim (cgroup v2 `memory.low`).
    pub memory_low: Option<Bytes>,
    /// Processor quota.
    pub cpu: Option<MilliCpu>,
    /// Processor weight, 1 to 10000, the kernel's default being 100.
    pub cpu_weight: Option<u16>,
    /// Processors it may run on: sorted, disjoint, non-adjacent inclusive ranges.
    pub cpu_set: Option<Vec<(u32, u32)>>,
    /// Most tasks at once.
    pub pids: Option<u32>,
}

/// A file placed in the root.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct File {
    /// Absolute, normalised path inside the root.
    pub path: String,
    /// What it holds.
    pub content: Secret,
    /// Permission bits.
    pub mode: u32,
    /// Owner and group, resolved inside the root.
    pub user: User,
    /// What a new content costs.
    pub on_change: OnChange,
}

/// What a changed file does to the processes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum OnChange {
    /// All processes restart.
    Restart,
    /// All processes get the signal.
    Signal(Signal),
    /// Nothing.
    Nothing,
}

/// A user, and perhaps a group, by name or number; names are looked up inside the root.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    /// The user.
    pub user: NameOrId,
    /// The group; absent means the user's primary one.
    pub group: Option<NameOrId>,
}

/// A name or a number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NameOrId {
    /// Looked up in the root's `/etc/passwd` or `/etc/group`.
    Name(String),
    /// Taken as it is.
    Id(u32),
}

/// One process of a container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Process {
    /// Program and arguments, exec'd as given.
    pub command: Vec<String>,
    /// Whom it runs as.
    pub user: User,
    /// Working directory inside the root.
    pub work_dir: String,
    /// Whole environment: the container's, then the process' own.
    pub env: BTreeMap<String, Secret>,
    /// Resource limits by lower-case name without `RLIMIT_`: (soft, hard); `u64::MAX` is none.
    pub rlimits: BTreeMap<String, (u64, u64)>,
    /// What follows an exit. *Live.*
    pub restart: Restart,
    /// How it is ended. *Live.*
    pub stop: Stop,
    /// Processes that its starts wait for, without a cycle. *Live.*
    pub depends_on: BTreeMap<ProcessName, Condition>,
    /// Its standard input is a pipe that stays open; else `/dev/null`.
    pub has_open_stdin: bool,
    /// What becomes of its output.
    pub logs: Logs,
}

/// What follows an exit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Restart {
    /// When to start again.
    pub policy: RestartPolicy,
    /// First delay.
    pub initial: Millis,
    /// Longest delay.
    pub max: Millis,
    /// A run at least this long forgets earlier failures.
    pub reset_after: Millis,
}

/// When an ended process starts again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum RestartPolicy {
    /// Whatever its status.
    Always,
    /// When its status was not 0.
    OnFailure,
    /// Not.
    Never,
}

/// How a process is ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stop {
    /// First signal.
    pub signal: Signal,
    /// Time until `KILL`.
    pub grace: Millis,
}

/// What becomes of a process' output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Logs {
    /// Size at which a file is rotated.
    pub max_bytes: Bytes,
    /// Files kept, the current one included; at least 1.
    pub max_files: u32,
    /// What happens when output comes faster than it can be stored.
    pub mode: LogMode,
    /// Output is read and thrown away.
    pub discard: bool,
}

/// What happens when output comes faster than it can be stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum LogMode {
    /// The process waits.
    Block,
    /// Output is dropped and counted.
    Drop,
}
