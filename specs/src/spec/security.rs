//! What a container may do, as a person wrote it.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{path_list_schema, path_schema, text_map_schema};

/// What a container may do.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Security {
    /// Whose ids the container uses.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<UserSecurity>,
    /// Changes to the base set of capabilities: CHOWN, DAC_OVERRIDE, FOWNER, FSETID, KILL,
    /// NET_BIND_SERVICE, SETFCAP, SETGID, SETPCAP, SETUID, SYS_CHROOT.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub capabilities: Option<Capabilities>,
    /// System call filter: `default` is the built-in allow list, `unconfined` is none, anything
    /// else is the absolute path of a profile in the OCI runtime-spec's JSON form.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "seccomp_schema")]
    pub seccomp: Option<String>,
    /// No process can gain rights by executing a program, for example a setuid one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub no_new_privileges: Option<bool>,
    /// Everything off that keeps the container apart: all capabilities, all devices, no system
    /// call filter, no masked or read-only paths.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub privileged: Option<bool>,
    /// Devices of the host made available beside the standard ones.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub devices: Vec<Device>,
    /// Kernel settings of the container's own namespaces, by dotted name: kernel.shm*,
    /// kernel.msg*, kernel.sem, fs.mqueue.* and, with a network of its own, net.*.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "text_map_schema")]
    pub sysctls: BTreeMap<String, String>,
    /// Paths made read-only, beside the built-in ones below /proc.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "path_list_schema")]
    pub read_only_paths: Vec<String>,
    /// Paths hidden, beside the built-in ones below /proc and /sys.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "path_list_schema")]
    pub masked_paths: Vec<String>,
}

/// Whose ids a container uses.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct UserSecurity {
    /// `auto` gives the container a range of ids that no one else on the host has; its root is
    /// nobody outside. `host` shares the host's ids: root inside is root on the host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<UserNamespace>,
}

/// Which user namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum UserNamespace {
    /// Its own.
    Auto,
    /// The host's.
    Host,
}

/// Changes to the base set of capabilities.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Capabilities {
    /// Added, for example NET_ADMIN. The host's policy says which may be.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub add: Vec<String>,
    /// Taken away; ALL takes the whole base set away.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub drop: Vec<String>,
}

/// A device of the host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Device {
    /// Path on the host and inside, below /dev.
    #[schemars(schema_with = "path_schema")]
    pub path: String,
    /// What is allowed: any of `r` (read), `w` (write), `m` (make the node).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = "^[rwm]{1,3}$"))]
    pub access: Option<String>,
}

fn seccomp_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    schemars::json_schema!({"type": "string", "pattern": "^(default|unconfined|/.+)$"})
}
