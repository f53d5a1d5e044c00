//! Processes as a person wrote them.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Hidden, label_schema, path_schema};
use crate::desired::User;
use crate::id::{Key, ProcessName};
use crate::units::{Bytes, Count, Micros, Millis, Seconds, Signal, SoftHard};

/// One process.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Process {
    /// Name of the process, a DNS label, unique in the container.
    #[schemars(schema_with = "label_schema")]
    pub name: ProcessName,
    /// Program and arguments, executed as given; there is no shell unless one is asked for.
    #[schemars(schema_with = "command_schema")]
    pub command: Vec<String>,
    /// Whom it runs as, and perhaps a group after a colon: names are looked up in the
    /// container's root, numbers are taken as they are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<User>,
    /// Working directory inside the container.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "path_schema")]
    pub work_dir: Option<String>,
    /// Environment variables of this process, on top of the container's.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub env: BTreeMap<String, Hidden>,
    /// Resource limits of this process (`getrlimit(2)`): one value for both limits, or
    /// `SOFT:HARD`; `unlimited` is none. A hard limit that the daemon may not raise is an error.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rlimits: Option<Rlimits>,
    /// What follows when the process ends by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restart: Option<Restart>,
    /// How the process is ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stop: Option<Stop>,
    /// What its starts wait for: other processes of the container. One that runs is not ended
    /// because what it depends on went away; the container is stopped in the reverse order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub depends_on: Vec<ProcessDependency>,
    /// What it reads from: nothing, or what people write who `attach` to it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stdin: Option<Stdin>,
    /// What becomes of its output.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub logs: Option<Logs>,
}

/// What a process reads from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Stdin {
    /// `/dev/null`.
    None,
    /// A pipe that stays open for as long as the process runs.
    Open,
}

/// One process that the starts of another wait for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ProcessDependency {
    /// Name of the other process.
    #[schemars(schema_with = "label_schema")]
    pub process: ProcessName,
    /// What of it is waited for: `started` (it runs, or ended with code 0), `healthy` (it
    /// runs) or `completed` (it ended with code 0).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub condition: Option<Condition>,
}

/// One container that the starts of another wait for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ContainerDependency {
    /// Name of the other container. No spec has to want it yet.
    #[schemars(schema_with = "label_schema")]
    pub container: Key,
    /// What of it is waited for: `started` (all its processes run, or ended with code 0),
    /// `healthy` (the same, and ready) or `completed` (all ended with code 0).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub condition: Option<Condition>,
}

/// What of another is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Condition {
    /// It runs, or has ended well.
    Started,
    /// It runs and is ready.
    Healthy,
    /// It has ended well.
    Completed,
}

macro_rules! rlimits {
    ($($(#[doc = $doc:literal])+ $field:ident $name:literal $type:ty,)*) => {
        /// Resource limits of one process.
        #[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
        #[serde(deny_unknown_fields)]
        pub struct Rlimits {
            $(
                $(#[doc = $doc])+
                #[serde(rename = $name, default, skip_serializing_if = "Option::is_none")]
                pub $field: Option<SoftHard<$type>>,
            )*
        }

        impl Rlimits {
            /// Returns the limits given, by the kernel's lower-case name, in the kernel's units.
            #[must_use]
            pub fn given(&self) -> Vec<SetRlimit> {
                let all = [$(($name, self.$field.map(SoftHard::raw)),)*];
                let set = |(name, value): (_, Option<_>)| value.map(|value| (name, value));
                all.into_iter().filter_map(set).collect()
            }
        }
    };
}

/// One resource limit: its name, and its soft and hard value, `u64::MAX` being none.
pub type SetRlimit = (&'static str, (u64, u64));

rlimits! {
    /// Address space.
    address_space "as" Bytes,
    /// Size of a core file.
    core "core" Bytes,
    /// Processor time, in whole seconds.
    cpu "cpu" Seconds,
    /// Data segment.
    data "data" Bytes,
    /// Size of a file it writes.
    fsize "fsize" Bytes,
    /// File locks; kernels since 2.4.25 do not enforce it.
    locks "locks" Count,
    /// Locked memory.
    memlock "memlock" Bytes,
    /// Bytes in POSIX message queues of its user.
    msgqueue "msgqueue" Bytes,
    /// Ceiling of the nice value: 20 minus the lowest nice allowed.
    nice "nice" Count,
    /// Open files.
    nofile "nofile" Count,
    /// Tasks of its user in the user namespace.
    nproc "nproc" Count,
    /// Resident memory; kernels since 2.4.30 do not enforce it.
    rss "rss" Bytes,
    /// Real-time priority.
    rtprio "rtprio" Count,
    /// Processor time of a real-time task between two blocking calls.
    rttime "rttime" Micros,
    /// Queued signals of its user.
    sigpending "sigpending" Count,
    /// Stack of the main thread.
    stack "stack" Bytes,
}

/// What follows when a process ends by itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Restart {
    /// When to start it again: `always`, `onFailure` (its status was not 0) or `never`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy: Option<RestartPolicy>,
    /// How long to wait before starting it again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backoff: Option<Backoff>,
}

/// When an ended process starts again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum RestartPolicy {
    /// Whatever its status.
    Always,
    /// When its status was not 0.
    OnFailure,
    /// Not.
    Never,
}

/// How long to wait before starting a process again.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Backoff {
    /// Wait after the first end; it grows with each further one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub initial: Option<Millis>,
    /// Longest wait.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max: Option<Millis>,
    /// A run at least this long forgets earlier ends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reset_after: Option<Millis>,
}

/// How a process is ended.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Stop {
    /// Signal that asks it to end, by name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signal: Option<Signal>,
    /// Time it has until it is killed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grace: Option<Millis>,
}

/// What becomes of a process' output.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Logs {
    /// Size at which a log file is closed and the next one begun.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_bytes: Option<Bytes>,
    /// Log files kept, the present one included.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 100))]
    pub max_files: Option<u32>,
    /// When output comes faster than it can be stored: `block` lets the process wait, `drop`
    /// drops and counts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<LogMode>,
    /// Output is read and thrown away.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub discard: Option<bool>,
}

/// When output comes faster than it can be stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum LogMode {
    /// The process waits.
    Block,
    /// Output is dropped and counted.
    Drop,
}

fn command_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    schemars::json_schema!({
        "type": "array",
        "minItems": 1,
        "items": {"type": ["string", "number", "boolean"]}
    })
}
