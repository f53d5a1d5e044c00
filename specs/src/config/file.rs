//! The configuration as written. The comments on the fields are their documentation for
//! users.

use schemars::JsonSchema;
use serde::Deserialize;

use super::network::NetworkFile;
use super::{Api, Config, DefaultLimits, Defaults, Deletions, Paths, Pools, Reconcile};
use crate::desired::{IdRange, NameOrId};
use crate::id::Instance;
use crate::parse::Places;
use crate::policy::Policy;
use crate::spec::{ApiVersion, Rlimits};
use crate::units::{Bytes, MilliCpu, Millis, Ports, Subnet};

/// The configuration of a host.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct ConfigFile {
    /// Version of the format.
    #[serde(rename = "apiVersion")]
    _api_version: ApiVersion,
    /// What kind of thing the document describes.
    #[serde(rename = "kind")]
    _kind: ConfigKind,
    /// Where things are.
    #[serde(default)]
    paths: PathsFile,
    /// Name of the daemon, part of every mark on the host, so that several can live side by
    /// side. The flag `--instance` goes before.
    #[serde(default)]
    #[schemars(schema_with = "label")]
    instance: Option<Instance>,
    /// Cgroup below which containers live, a path below the hierarchy's root.
    #[serde(default)]
    #[schemars(schema_with = "path")]
    cgroup_parent: Option<String>,
    /// What is given out to containers.
    #[serde(default)]
    pools: PoolsFile,
    /// What holds when a spec says nothing. A change is a change of every spec concerned.
    #[serde(default)]
    defaults: DefaultsFile,
    /// What holds for every isolated network.
    #[serde(default)]
    network: NetworkFile,
    /// How the loop runs.
    #[serde(default)]
    reconcile: ReconcileFile,
    /// When the removal of many containers at once waits for `sync --allow-deletes`.
    #[serde(default)]
    deletions: DeletionsFile,
    /// Who may use the socket, beside root.
    #[serde(default)]
    api: ApiFile,
    /// Who may ask for what. The first rule that matches directory and owner of a spec decides;
    /// where none does, the built-in policy holds: no binds, no devices, nothing privileged.
    #[serde(default)]
    policy: Vec<RuleFile>,
}

/// What a document describes.
#[derive(Debug, Deserialize, JsonSchema)]
pub(crate) enum ConfigKind {
    /// A configuration.
    Config,
}

/// Where things are.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct PathsFile {
    /// Directories watched for specs.
    #[serde(default)]
    #[schemars(schema_with = "path_list")]
    specs: Option<Vec<String>>,
    /// Directory of the store; survives a reboot.
    #[serde(default)]
    #[schemars(schema_with = "path")]
    state: Option<String>,
    /// Directory of sockets and adoption handles; emptied by a reboot.
    #[serde(default)]
    #[schemars(schema_with = "path")]
    runtime: Option<String>,
    /// Directory of the output of processes.
    #[serde(default)]
    #[schemars(schema_with = "path")]
    logs: Option<String>,
    /// The daemon's socket.
    #[serde(default)]
    #[schemars(schema_with = "path")]
    socket: Option<String>,
}

/// What is given out to containers.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct PoolsFile {
    /// Ranges of user and group ids that no one else on the host uses.
    #[serde(default)]
    ids: Vec<PoolFile>,
    /// How many ids each container gets.
    #[schemars(range(min = 1, max = 16_777_216))]
    ids_per_container: Option<u32>,
    /// IPv4 networks that no one else on the host or beside it uses. A container keeps its
    /// address when the pools change.
    #[serde(default)]
    addresses: Vec<Subnet>,
}

/// A range of ids.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct PoolFile {
    /// First id.
    #[schemars(range(min = 65_536, max = 2_147_483_647))]
    pub(crate) first: u32,
    /// How many.
    #[schemars(range(min = 1, max = 2_147_483_647))]
    pub(crate) count: u32,
}

/// What holds when a spec says nothing.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct DefaultsFile {
    /// Limits of a container.
    #[serde(default)]
    limits: DefaultLimitsFile,
    /// Resource limits of each process.
    #[serde(default)]
    rlimits: Rlimits,
}

/// Limits of a container whose spec does not set them.
#[derive(Clone, Copy, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct DefaultLimitsFile {
    /// Most memory.
    memory: Option<Bytes>,
    /// Swap on top of memory.
    swap: Option<Bytes>,
    /// Most processor time.
    cpu: Option<MilliCpu>,
    /// Share of processor time when there is too little for all.
    #[schemars(range(min = 1, max = 10000))]
    cpu_weight: Option<u16>,
    /// Most tasks at once.
    #[schemars(range(min = 2, max = 4_194_304))]
    pids: Option<u32>,
}

/// How the loop runs.
#[derive(Clone, Copy, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct ReconcileFile {
    /// Longest time until every container has been looked at, events or not.
    resync: Option<Millis>,
    /// Containers worked on at once.
    #[schemars(range(min = 1, max = 256))]
    workers: Option<u32>,
}

/// When the removal of many containers at once waits.
#[derive(Clone, Copy, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct DeletionsFile {
    /// Fewer containers than this are removed without asking.
    #[schemars(range(min = 1, max = 1_000_000))]
    hold_from: Option<u32>,
    /// So is a smaller part of the containers of one source than this, in percent.
    #[schemars(range(min = 0, max = 100))]
    hold_percent: Option<u32>,
}

/// Who may use the socket.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct ApiFile {
    /// Groups that may read status and events; secrets are never shown.
    #[serde(default)]
    #[schemars(schema_with = "groups")]
    read_groups: Vec<String>,
    /// Groups that may also stop, start, apply and sync.
    #[serde(default)]
    #[schemars(schema_with = "groups")]
    write_groups: Vec<String>,
}

/// A rule of the policy. What it leaves out is as in the built-in policy.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct RuleFile {
    /// Name of the rule, shown in refusals.
    #[schemars(schema_with = "label")]
    pub(crate) name: String,
    /// Specs from this source directory, or one below it; any if left out.
    #[serde(default)]
    #[schemars(schema_with = "path")]
    pub(crate) directory: Option<String>,
    /// Specs whose file belongs to this user id; any if left out.
    #[schemars(range(min = 0, max = 2_147_483_647))]
    pub(crate) owner: Option<u32>,
    /// Host directories that may be bound, with all below them.
    #[serde(default)]
    pub(crate) bind_roots: Vec<BindRootFile>,
    /// Host directories below which a root file system may lie.
    #[serde(default)]
    #[schemars(schema_with = "path_list")]
    pub(crate) rootfs_roots: Option<Vec<String>>,
    /// Privileged containers are allowed.
    pub(crate) privileged: Option<bool>,
    /// The host's user namespace is allowed.
    pub(crate) host_user_namespace: Option<bool>,
    /// The host's network is allowed.
    pub(crate) host_network: Option<bool>,
    /// Ports of the host that may be published.
    pub(crate) ports: Option<Vec<Ports>>,
    /// Devices that may be used.
    #[serde(default)]
    pub(crate) devices: Vec<DeviceRuleFile>,
    /// Capabilities that may be added to the base set.
    pub(crate) capabilities: Option<Vec<String>>,
    /// Running without a system call filter is allowed.
    pub(crate) seccomp_unconfined: Option<bool>,
    /// Host directories with seccomp profiles that may be used.
    #[serde(default)]
    #[schemars(schema_with = "path_list")]
    pub(crate) seccomp_roots: Vec<String>,
    /// Kernel settings that may be set; `*` at the end stands for any rest.
    pub(crate) sysctls: Option<Vec<String>>,
    /// Ceilings: a spec may ask for this much at most, and not for "unlimited".
    #[serde(default)]
    pub(crate) limits: CeilingsFile,
}

/// A host directory that may be bound.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct BindRootFile {
    /// The directory.
    #[schemars(schema_with = "path")]
    pub(crate) path: String,
    /// Binds with `readOnly: false` are allowed too.
    #[serde(default)]
    pub(crate) writable: bool,
}

/// A device that may be used.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct DeviceRuleFile {
    /// The device; `*` at the end stands for any rest.
    #[schemars(schema_with = "path")]
    pub(crate) path: String,
    /// What may be done with it: any of `r`, `w`, `m`.
    #[schemars(regex(pattern = "^[rwm]{1,3}$"))]
    pub(crate) access: Option<String>,
}

/// Ceilings of limits.
#[derive(Clone, Copy, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct CeilingsFile {
    /// Most memory.
    pub(crate) memory: Option<Bytes>,
    /// Most swap.
    pub(crate) swap: Option<Bytes>,
    /// Most protected memory.
    pub(crate) memory_low: Option<Bytes>,
    /// Most processor time.
    pub(crate) cpu: Option<MilliCpu>,
    /// Most tasks.
    #[schemars(range(min = 2, max = 4_194_304))]
    pub(crate) pids: Option<u32>,
    /// Most bytes that may be written into a root; a root that is not written needs no limit.
    pub(crate) disk: Option<Bytes>,
}

impl ConfigFile {
    /// Fills in the defaults.
    pub(super) fn fill(self, file: &str, places: &Places) -> Config {
        let limits = self.defaults.limits;
        let limits = DefaultLimits {
            memory: limits.memory,
            swap: limits.swap,
            cpu: limits.cpu,
            cpu_weight: limits.cpu_weight,
            pids: limits.pids,
        };
        let policy = Policy::new(&self.policy, limits, |at| {
            let place = places.value(&format!("policy[{at}].name"));
            format!("{file}:{}:{}", place.line, place.column)
        });
        Config {
            paths: self.paths.fill(),
            instance: self.instance,
            cgroup_parent: self.cgroup_parent,
            pools: self.pools.fill(),
            defaults: Defaults {
                limits,
                rlimits: self.defaults.rlimits,
                network: self.network.fill(),
            },
            reconcile: self.reconcile.fill(),
            deletions: self.deletions.fill(),
            api: Api {
                read_groups: names(&self.api.read_groups),
                write_groups: names(&self.api.write_groups),
            },
            policy,
        }
    }
}

impl PathsFile {
    /// The socket follows the runtime directory unless it is given.
    fn fill(self) -> Paths {
        let absent = Paths::default();
        let runtime = self.runtime.unwrap_or(absent.runtime);
        Paths {
            specs: self.specs.unwrap_or(absent.specs),
            state: self.state.unwrap_or(absent.state),
            logs: self.logs.unwrap_or(absent.logs),
            socket: self
                .socket
                .unwrap_or_else(|| format!("{runtime}/reconciler.sock")),
            runtime,
        }
    }
}

impl PoolsFile {
    fn fill(self) -> Pools {
        let absent = Pools::default();
        let range = |pool: &PoolFile| IdRange {
            base: pool.first,
            count: pool.count,
        };
        Pools {
            ids: if self.ids.is_empty() {
                absent.ids
            } else {
                self.ids.iter().map(range).collect()
            },
            ids_per_container: self.ids_per_container.unwrap_or(absent.ids_per_container),
            addresses: if self.addresses.is_empty() {
                absent.addresses
            } else {
                self.addresses.iter().map(|subnet| subnet.0).collect()
            },
        }
    }
}

impl ReconcileFile {
    fn fill(self) -> Reconcile {
        let absent = Reconcile::default();
        Reconcile {
            resync: self.resync.unwrap_or(absent.resync),
            workers: self.workers.unwrap_or(absent.workers),
        }
    }
}

impl DeletionsFile {
    fn fill(self) -> Deletions {
        let absent = Deletions::default();
        Deletions {
            hold_from: self.hold_from.unwrap_or(absent.hold_from),
            hold_percent: self.hold_percent.unwrap_or(absent.hold_percent),
        }
    }
}

fn names(groups: &[String]) -> Vec<NameOrId> {
    groups
        .iter()
        .filter_map(|group| group.parse().ok())
        .collect()
}

fn label(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    let pattern = "^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$";
    schemars::json_schema!({"type": ["string", "integer"], "pattern": pattern})
}

fn path(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    schemars::json_schema!({"type": "string", "pattern": "^/"})
}

fn path_list(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    schemars::json_schema!({"type": "array", "items": {"type": "string", "pattern": "^/"}})
}

fn groups(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    schemars::json_schema!({"type": "array", "items": {"type": ["string", "integer"]}})
}
