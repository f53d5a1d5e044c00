//! What people are told about one container. Derived, never edited.

use std::net::Ipv4Addr;

use serde::{Deserialize, Serialize};

use crate::id::{Generation, Key, ProcessName};

/// What is known and thought about one container.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Status {
    /// Which container.
    pub key: Key,
    /// Newest accepted generation.
    pub generation: Generation,
    /// Generation the rest of this speaks of.
    pub observed_generation: Generation,
    /// One word for a table.
    pub phase: Phase,
    /// Conditions in the order of [`ConditionKind`].
    pub conditions: Vec<Condition>,
    /// Processes by name.
    pub processes: Vec<ProcessStatus>,
    /// Starts beyond the first, over all processes of this incarnation.
    pub restarts: u64,
    /// Host pid of the container's init.
    pub pid: Option<u32>,
    /// When the present incarnation was made, milliseconds since the epoch.
    pub created_ms: Option<u64>,
    /// When the next try is due, milliseconds since the epoch.
    pub next_retry_ms: Option<u64>,
    /// Live use against limits.
    pub usage: Option<Usage>,
    /// What limits the writes to its root, if anything does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disk: Option<DiskStatus>,
    /// What connects it to the network, if anything does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network: Option<NetworkStatus>,
    /// Newest failure that still stands: what failed, on what, why, and the remedy.
    pub last_error: Option<Failure>,
    /// A person's standing order, if any: `stopped`, `suspended`.
    pub override_note: Option<String>,
    /// Drift seen and not yet repaired, or differences that are left alone; one line each.
    pub drift: Vec<String>,
}

/// What limits the writes to a container's root, as read back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DiskStatus {
    /// What does it: `image`.
    pub backend: String,
    /// Most bytes.
    pub limit_bytes: u64,
    /// Most inodes, where they are counted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit_inodes: Option<u64>,
}

/// What connects a container to the network, as observed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NetworkStatus {
    /// Its address.
    pub address: Ipv4Addr,
    /// Ports of the host that lead to it: `[ADDRESS:]PORT->PORT/PROTOCOL`.
    pub ports: Vec<String>,
}

/// One word for a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Phase {
    /// Accepted, nothing made yet.
    Pending,
    /// Being made.
    Starting,
    /// All processes that should run do.
    Running,
    /// Some processes that should run do not.
    Degraded,
    /// Processes that should run wait for others, or for other containers.
    Waiting,
    /// A changed spec is being brought about.
    Updating,
    /// Being ended.
    Stopping,
    /// Ended on purpose, kept.
    Stopped,
    /// Every process has ended well and shall not start again.
    Completed,
    /// Waiting before another try.
    Backoff,
    /// A person must act.
    Failed,
    /// Left as it is.
    Suspended,
    /// Its spec was refused and no earlier one stands.
    Invalid,
    /// The host could not be read.
    Unknown,
}

/// A statement with a reason.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Condition {
    /// What it is about.
    pub kind: ConditionKind,
    /// Whether it holds.
    pub status: Truth,
    /// Stable CamelCase word.
    pub reason: String,
    /// A sentence for people.
    pub message: String,
    /// Generation it speaks of.
    pub generation: Generation,
    /// When `status` last changed, milliseconds since the epoch.
    pub since_ms: u64,
}

/// What a condition is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum ConditionKind {
    /// The newest text of the spec was taken.
    Accepted,
    /// The host could be read and a plan made.
    Planned,
    /// The container's init lives.
    Running,
    /// Every process that should run does.
    Healthy,
    /// Nothing is left to do for the newest generation.
    Settled,
}

/// Whether a condition holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Truth {
    /// It does.
    True,
    /// It does not.
    False,
    /// Nobody can tell.
    Unknown,
}

/// One process as people see it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ProcessStatus {
    /// Which.
    pub name: ProcessName,
    /// `running`, `waiting`, `exited`, `stopping`, `unknown`.
    pub state: String,
    /// Host pid while it runs.
    pub pid: Option<u32>,
    /// When the present run began, milliseconds since the epoch.
    pub started_ms: Option<u64>,
    /// Starts beyond the first.
    pub restarts: u64,
    /// How the last run ended: `exited 0`, `killed by KILL`, `unknown`.
    pub last_exit: Option<String>,
    /// When the next start is due, milliseconds since the epoch.
    pub next_start_ms: Option<u64>,
    /// What its next start waits for, one line each: `process db to be healthy`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub waits_for: Vec<String>,
}

/// Live use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Usage {
    /// Bytes charged now.
    pub memory_bytes: Option<u64>,
    /// Hard limit, bytes.
    pub memory_limit_bytes: Option<u64>,
    /// Processor time since creation, microseconds.
    pub cpu_usec: Option<u64>,
    /// Tasks now.
    pub pids: Option<u64>,
}

/// Why something does not go on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Failure {
    /// The step that failed, for example `CreateCgroup`.
    pub step: String,
    /// What was attempted, on what.
    pub what: String,
    /// The cause: a system call's error in words, or the layer below's message.
    pub cause: String,
    /// `errno`, where there was one.
    pub errno: Option<i32>,
    /// What to do about it.
    pub hint: Option<String>,
    /// Tries so far.
    pub attempts: u32,
}
