//! A spec as a person wrote it: nothing filled in, nothing chosen.
//!
//! The comments on the fields are their documentation for users: `explain` and the JSON
//! Schema show them. What each field does when absent and what a change of it costs stands
//! in the `fields` module.

mod network;
mod process;
mod security;

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use network::{
    Allow, Dns, Egress, EgressDefault, Network, NetworkMode, Port, PortProtocol, Protocol,
};
pub use process::{
    Backoff, Condition, ContainerDependency, LogMode, Logs, Process, ProcessDependency, Restart,
    RestartPolicy, Rlimits, SetRlimit, Stdin, Stop,
};
pub use security::{Capabilities, Device, Security, UserNamespace, UserSecurity};

use crate::desired::{OnChange, User};
use crate::id::{Key, VolumeName};
use crate::units::{Bytes, CpuSet, Inodes, MilliCpu, Millis, Mode, Secret};

/// One document: what one container shall be.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Spec {
    /// Version of the format.
    pub api_version: ApiVersion,
    /// What kind of thing the document describes.
    pub kind: Kind,
    /// Who it is.
    pub metadata: Metadata,
    /// What it shall be.
    pub spec: Body,
}

/// Version of the format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ApiVersion {
    /// The present one.
    #[serde(rename = "reconciler/v1")]
    V1,
}

/// What a document describes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Kind {
    /// A container.
    Container,
}

/// Who a container is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Metadata {
    /// Name of the container: a DNS label, unique over all files and sources. Another name is
    /// another container.
    #[schemars(schema_with = "label_schema")]
    pub name: Key,
    /// Short texts to select containers by, for example with `status -l app=shop`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "text_map_schema")]
    pub labels: BTreeMap<String, String>,
    /// Free texts for people and tools; nothing here reads them.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "text_map_schema")]
    pub annotations: BTreeMap<String, String>,
}

/// What a container shall be.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Body {
    /// Whether its processes shall run. `stopped` ends them and keeps root, files and
    /// statistics.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<State>,
    /// Leave the container exactly as it is: nothing is started, repaired or ended while true.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub suspend: Option<bool>,
    /// Delete the container at this age, counted from the first time its name was accepted.
    /// Without it the container stays until its document goes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ttl: Option<Millis>,
    /// What the starts of all its processes wait for: other containers. What runs is not ended
    /// because a container that it depends on went away.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub depends_on: Vec<ContainerDependency>,
    /// The root file system.
    pub rootfs: Rootfs,
    /// Host name inside the container.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "text_schema")]
    pub hostname: Option<String>,
    /// What the kernel enforces on all processes of the container together.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limits: Option<Limits>,
    /// The container's network.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network: Option<Network>,
    /// Directories put into the root, each from exactly one of `source`, `tmpfs` and `volume`.
    /// Their order does not matter.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub mounts: Vec<Mount>,
    /// Files written into the root before the first process starts, and again when they change.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub files: Vec<File>,
    /// Environment variables of every process. A text is taken letter for letter as written.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub env: BTreeMap<String, Hidden>,
    /// What runs in the container. All start together, but for those that wait for others
    /// (`dependsOn`), and each restarts on its own; a container may hold none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub processes: Vec<Process>,
    /// What the container may do. Everything left out has its safe value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub security: Option<Security>,
}

/// Whether processes shall run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum State {
    /// They run.
    Running,
    /// They are ended.
    Stopped,
}

/// The root file system.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Rootfs {
    /// Host directory that holds the root. It is never written, so many containers can share
    /// it; with a user namespace its files keep the owners they have there.
    #[schemars(schema_with = "path_schema")]
    pub directory: String,
    /// What becomes of writes to the root: `ephemeral` keeps them as long as the container,
    /// `persistent` keeps them by the container's name until removed by hand, `none` makes the
    /// root read-only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub writable: Option<Writable>,
}

/// What becomes of writes to the root.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Writable {
    /// Gone with the container.
    Ephemeral,
    /// Kept by name.
    Persistent,
    /// Refused.
    None,
}

/// What the kernel enforces.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Limits {
    /// Most memory; beyond it the kernel ends a process of the container. Lowering it below
    /// what is in use is refused or done in steps, never by killing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory: Option<Bytes>,
    /// Swap on top of `memory`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub swap: Option<Bytes>,
    /// Memory that is not taken from the container while others have some to spare. Needs
    /// cgroup version 2.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_low: Option<Bytes>,
    /// Most processor time: `1500m` or `1.5` is one and a half processors.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu: Option<MilliCpu>,
    /// Share of processor time when there is too little for all, 1 to 10000; the kernel's own
    /// default is 100.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 10000))]
    pub cpu_weight: Option<u16>,
    /// Processors it may run on, as a list in quotes such as `"0-3,8"`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu_set: Option<CpuSet>,
    /// Most tasks (processes and threads) at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 2, max = 4_194_304))]
    pub pids: Option<u32>,
    /// What it may write into its root; mounts have limits of their own. How that is enforced
    /// is the state directory's matter: `doctor` says it. To begin or to cease with it makes
    /// the container anew, and a persistent root stays as it was first made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disk: Option<Disk>,
}

/// What a container may write into its root.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Disk {
    /// Most bytes, with the file system's own records where an image holds the root. Raising
    /// changes a running container. Lowering below what is in use is refused; an image is
    /// never made smaller, which needs a root made anew.
    pub bytes: Bytes,
    /// Most files, directories and links together. An image is made with so many, and has
    /// more of them only when it is made anew.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub inodes: Option<Inodes>,
}

/// A directory put into the root.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Mount {
    /// Where it appears inside the container.
    #[schemars(schema_with = "path_schema")]
    pub path: String,
    /// Host directory or file to show there. The host's policy says which may be used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "path_schema")]
    pub source: Option<String>,
    /// Size of a file system in memory. What it holds counts against `limits.memory` and goes
    /// with the container.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tmpfs: Option<Bytes>,
    /// Name of a directory that outlives the container; removed only by hand. It belongs to
    /// this container alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "label_schema")]
    pub volume: Option<VolumeName>,
    /// No writes through this mount. A host directory is read-only unless this says `false`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub read_only: Option<bool>,
    /// With the mounts below `source`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recursive: Option<bool>,
    /// Whether later mounts below `source` on the host appear inside (`slave`) or not
    /// (`private`). Mounts never travel from the container to the host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub propagation: Option<Propagation>,
    /// Permission bits of a tmpfs, as octal digits in quotes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<Mode>,
}

/// Whether later mounts on the host appear inside.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Propagation {
    /// They do not.
    Private,
    /// They do.
    Slave,
}

/// A file written into the root.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct File {
    /// Where it is written inside the container; missing directories are made.
    #[schemars(schema_with = "path_schema")]
    pub path: String,
    /// What it holds, letter for letter. Shown to nobody but as its length.
    pub content: Hidden,
    /// Permission bits, as octal digits in quotes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<Mode>,
    /// Owner, and perhaps a group after a colon, by name or number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<User>,
    /// What a change of the file does to running processes: `restart` them all, send them all a
    /// signal (`signal:HUP`), or `none`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_change: Option<OnChange>,
}

/// A text that its debug form shows as a length only.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hidden(pub Secret);

impl Serialize for Hidden {
    fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&self.0.0)
    }
}

impl<'de> Deserialize<'de> for Hidden {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        String::deserialize(from).map(|text| Self(Secret(text)))
    }
}

impl JsonSchema for Hidden {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Text".into()
    }
    fn inline_schema() -> bool {
        true
    }
    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        text()
    }
}

// A text may be written without quotes also where it looks like a number or a boolean.
fn text() -> schemars::Schema {
    schemars::json_schema!({"type": ["string", "number", "boolean"]})
}

fn text_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    text()
}

fn text_map_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    schemars::json_schema!({
        "type": "object",
        "additionalProperties": {"type": ["string", "number", "boolean"]}
    })
}

fn label_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    let pattern = "^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$";
    schemars::json_schema!({"type": ["string", "integer"], "pattern": pattern})
}

fn path_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    schemars::json_schema!({"type": "string", "pattern": "^/"})
}

fn path_list_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    schemars::json_schema!({"type": "array", "items": {"type": "string", "pattern": "^/"}})
}
