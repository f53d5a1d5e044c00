//! From what a person wrote to what shall be: every default filled, every choice made.
//!
//! Total on specs that [`crate::parse`] took; what remains to fail is a choice that is
//! missing. Lists whose order means nothing come out sorted, so that an edit that only moves
//! lines resolves to the same.

pub mod capability;
mod network;
mod security;

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

pub use security::{MASKED_PATHS, READ_ONLY_PATHS};

use crate::config::Defaults;
use crate::desired::{
    Bound, Condition, Container, Desired, File, IdRange, Limits, LogMode, Logs, Mount, MountSource,
    NameOrId, Names, Network, OnChange, Process, Propagation, Restart, RestartPolicy, Rootfs, Run,
    Seccomp, Stop, User, UserNamespace, Writable,
};
use crate::diagnostic::{Code, Diagnostic};
use crate::fields::is_below;
use crate::id::Generation;
use crate::parse::Place;
use crate::parse::faults::Fault;
use crate::spec::{self, Spec};
use crate::units::{Bytes, Millis, Mode, Signal};

/// Most tasks when neither the spec nor the config says.
pub const PIDS_DEFAULT: u32 = 1024;

/// What a spec leaves open and the daemon decides.
#[derive(Clone, Debug)]
pub struct Choices<'a> {
    /// Version of the intent.
    pub generation: Generation,
    /// The container's range of ids; needed with a user namespace of its own.
    pub id_range: Option<IdRange>,
    /// The container's address; needed with an isolated network whose spec names none.
    pub address: Option<Ipv4Addr>,
    /// Text of the file that `security.seccomp` names, read when the spec was accepted.
    pub seccomp_json: Option<String>,
    /// A person's standing order about running.
    pub run_override: Option<Run>,
    /// A person's standing order about suspending.
    pub suspend_override: Option<bool>,
    /// How often a person ordered a restart.
    pub restart_epoch: u64,
    /// The host's defaults.
    pub defaults: &'a Defaults,
}

/// Says whether the spec needs a range of ids.
#[must_use]
pub fn needs_id_range(spec: &Spec) -> bool {
    !is_host_user(&spec.spec)
}

/// Says whether the spec needs an address.
#[must_use]
pub fn needs_address(spec: &Spec) -> bool {
    let network = spec.spec.network.as_ref();
    network.and_then(|network| network.mode) == Some(spec::NetworkMode::Isolated)
}

/// Returns the path of the seccomp profile that the spec names, to be read for [`Choices`].
#[must_use]
pub fn seccomp_path(spec: &Spec) -> Option<&str> {
    let seccomp = spec.spec.security.as_ref()?.seccomp.as_deref()?;
    seccomp.starts_with('/').then_some(seccomp)
}

/// Returns the container with nothing left to decide.
///
/// # Errors
/// When a range of ids, an address or a seccomp profile is needed and was not given.
pub fn resolve(spec: &Spec, choices: &Choices<'_>) -> Result<Desired, Vec<Diagnostic>> {
    let body = &spec.spec;
    let mut missing = Vec::new();
    let user_namespace = match (is_host_user(body), choices.id_range) {
        (true, _) => UserNamespace::Host,
        (false, Some(range)) => UserNamespace::Own(range),
        (false, None) => {
            let fault = Fault::new(
                Code::NoIdRange,
                "no range of ids is free for this container",
            );
            missing.push(fault.help("add a pool to `pools.ids` in config.yaml"));
            UserNamespace::Own(IdRange { base: 0, count: 0 })
        }
    };
    let network = network::network(spec, choices).unwrap_or_else(|fault| {
        missing.push(fault);
        Network::None
    });
    let seccomp = seccomp(spec, choices).unwrap_or_else(|fault| {
        missing.push(fault);
        Seccomp::Default
    });
    if !missing.is_empty() {
        let file = format!("container {}", spec.metadata.name);
        return Err(missing
            .into_iter()
            .map(|fault| fault.at(&file, Place::default()))
            .collect());
    }
    let spec_run = match body.state {
        None | Some(spec::State::Running) => Run::Running,
        Some(spec::State::Stopped) => Run::Stopped,
    };
    let container = container(spec, network, user_namespace, seccomp);
    let names = network::names(spec, choices);
    let process = |process: &spec::Process| {
        let resolved = resolve_process(process, body, choices.defaults);
        (process.name.clone(), resolved)
    };
    Ok(Desired {
        key: spec.metadata.name.clone(),
        generation: choices.generation,
        labels: spec.metadata.labels.clone(),
        annotations: spec.metadata.annotations.clone(),
        run: choices.run_override.unwrap_or(spec_run),
        suspend: choices.suspend_override.or(body.suspend).unwrap_or(false),
        ttl: body.ttl,
        depends_on: body
            .depends_on
            .iter()
            .map(|one| (one.container.clone(), condition(one.condition)))
            .collect(),
        restart_epoch: choices.restart_epoch,
        limits: limits(body.limits.as_ref(), choices.defaults),
        disk: disk(body).map(|disk| disk.bytes),
        ports: network::ports(spec),
        egress: network::egress(spec, names.as_ref(), &choices.defaults.network),
        files: files(&body.files, names.as_ref(), &container),
        names,
        container,
        processes: body.processes.iter().map(process).collect(),
    })
}

fn is_host_user(body: &spec::Body) -> bool {
    let user = body
        .security
        .as_ref()
        .and_then(|security| security.user.as_ref());
    user.and_then(|user| user.namespace) == Some(spec::UserNamespace::Host)
}

fn seccomp(spec: &Spec, choices: &Choices<'_>) -> Result<Seccomp, Fault> {
    let security = spec.spec.security.as_ref();
    if security.and_then(|security| security.privileged) == Some(true) {
        return Ok(Seccomp::Unconfined);
    }
    match security.and_then(|security| security.seccomp.as_deref()) {
        None | Some("default") => Ok(Seccomp::Default),
        Some("unconfined") => Ok(Seccomp::Unconfined),
        Some(path) => match &choices.seccomp_json {
            Some(json) => Ok(Seccomp::Profile {
                path: path.to_owned(),
                json: json.clone(),
            }),
            None => {
                let fault = Fault::new(Code::SeccompProfile, "the seccomp profile was not read");
                Err(fault.help("check that the file exists and is readable"))
            }
        },
    }
}

fn container(
    spec: &Spec,
    network: Network,
    user_namespace: UserNamespace,
    seccomp: Seccomp,
) -> Container {
    let body = &spec.spec;
    Container {
        rootfs: Rootfs {
            directory: body.rootfs.directory.clone(),
            writable: match body.rootfs.writable {
                None | Some(spec::Writable::Ephemeral) => Writable::Ephemeral,
                Some(spec::Writable::Persistent) => Writable::Persistent,
                Some(spec::Writable::None) => Writable::None,
            },
            bound: disk(body).map(|disk| Bound {
                inodes: disk.inodes,
            }),
        },
        hostname: body
            .hostname
            .clone()
            .unwrap_or_else(|| spec.metadata.name.to_string()),
        network,
        mounts: mounts(&body.mounts),
        security: security::security(body.security.as_ref(), user_namespace, seccomp),
    }
}

/// Parents before children: `/a` sorts before `/a/b`, part by part.
fn mounts(mounts: &[spec::Mount]) -> Vec<Mount> {
    let mut out: Vec<Mount> = mounts.iter().filter_map(mount).collect();
    out.sort_by(|a, b| a.path.split('/').cmp(b.path.split('/')));
    out
}

/// A mount without a source does not pass validation.
fn mount(mount: &spec::Mount) -> Option<Mount> {
    let source = match (&mount.source, mount.tmpfs, &mount.volume) {
        (Some(source), _, _) => MountSource::Bind {
            source: source.clone(),
            recursive: mount.recursive.unwrap_or(false),
            propagation: match mount.propagation {
                None | Some(spec::Propagation::Private) => Propagation::Private,
                Some(spec::Propagation::Slave) => Propagation::Slave,
            },
            beneath: None,
        },
        (None, Some(bytes), _) => MountSource::Tmpfs {
            bytes,
            mode: mount.mode.map_or(0o1777, |mode| mode.0),
        },
        (None, None, Some(volume)) => MountSource::Volume(volume.clone()),
        (None, None, None) => return None,
    };
    // A bind opens a part of the host: writing needs an explicit word.
    let read_only_default = matches!(source, MountSource::Bind { .. });
    Some(Mount {
        path: mount.path.clone(),
        read_only: mount.read_only.unwrap_or(read_only_default),
        source,
    })
}

fn disk(body: &spec::Body) -> Option<spec::Disk> {
    body.limits.as_ref().and_then(|limits| limits.disk)
}

fn limits(given: Option<&spec::Limits>, defaults: &Defaults) -> Limits {
    let absent = spec::Limits::default();
    let given = given.unwrap_or(&absent);
    let fallback = &defaults.limits;
    let memory = given.memory.or(fallback.memory);
    let swap = given.swap.or(fallback.swap).filter(|_| memory.is_some());
    Limits {
        memory,
        swap: swap.unwrap_or(Bytes(0)),
        memory_low: given.memory_low,
        cpu: given.cpu.or(fallback.cpu),
        cpu_weight: given.cpu_weight.or(fallback.cpu_weight),
        cpu_set: given.cpu_set.clone().map(|set| set.0),
        pids: Some(given.pids.or(fallback.pids).unwrap_or(PIDS_DEFAULT)),
    }
}

/// The container's root user, whether or not the root has an `/etc/passwd`.
fn root() -> User {
    User {
        user: NameOrId::Id(0),
        group: Some(NameOrId::Id(0)),
    }
}

/// The files of the spec, and those that say how others are found by name: where the spec
/// puts a file or a mount itself, its own word holds.
fn files(files: &[spec::File], names: Option<&Names>, container: &Container) -> Vec<File> {
    let file = |file: &spec::File| File {
        path: file.path.clone(),
        content: file.content.0.clone(),
        mode: file.mode.unwrap_or(Mode(0o644)).0,
        user: file.user.clone().unwrap_or_else(root),
        on_change: file.on_change.unwrap_or(OnChange::Restart),
    };
    let mut out: Vec<File> = files.iter().map(file).collect();
    let address = container
        .network
        .isolated()
        .map(|isolated| isolated.address);
    for made in names
        .zip(address)
        .iter()
        .flat_map(|(names, address)| names.files(&container.hostname, *address))
    {
        let is_below = |path: &str| path == made.path || is_below(&made.path, &[path]);
        let is_placed = files.iter().any(|file| file.path == made.path);
        if !is_placed && !container.mounts.iter().any(|mount| is_below(&mount.path)) {
            out.push(made);
        }
    }
    out.sort_by(|a, b| a.path.cmp(&b.path));
    out
}

fn resolve_process(process: &spec::Process, body: &spec::Body, defaults: &Defaults) -> Process {
    let mut env = BTreeMap::new();
    for (name, value) in body.env.iter().chain(&process.env) {
        env.insert(name.clone(), value.0.clone());
    }
    let mut rlimits = BTreeMap::new();
    let own = process.rlimits.iter().flat_map(spec::Rlimits::given);
    for (name, value) in defaults.rlimits.given().into_iter().chain(own) {
        rlimits.insert(name.to_owned(), value);
    }
    Process {
        command: process.command.clone(),
        user: process.user.clone().unwrap_or_else(root),
        work_dir: process.work_dir.clone().unwrap_or_else(|| "/".to_owned()),
        env,
        rlimits,
        restart: restart(process.restart.as_ref()),
        stop: stop(process.stop.as_ref()),
        depends_on: process
            .depends_on
            .iter()
            .map(|one| (one.process.clone(), condition(one.condition)))
            .collect(),
        has_open_stdin: process.stdin == Some(spec::Stdin::Open),
        logs: logs(process.logs.as_ref()),
    }
}

fn restart(given: Option<&spec::Restart>) -> Restart {
    let backoff = given
        .and_then(|given| given.backoff.clone())
        .unwrap_or_default();
    Restart {
        policy: match given.and_then(|given| given.policy) {
            None | Some(spec::RestartPolicy::Always) => RestartPolicy::Always,
            Some(spec::RestartPolicy::OnFailure) => RestartPolicy::OnFailure,
            Some(spec::RestartPolicy::Never) => RestartPolicy::Never,
        },
        initial: backoff.initial.unwrap_or(Millis(100)),
        max: backoff.max.unwrap_or(Millis(60_000)),
        reset_after: backoff.reset_after.unwrap_or(Millis(600_000)),
    }
}

fn stop(given: Option<&spec::Stop>) -> Stop {
    Stop {
        signal: given.and_then(|given| given.signal).unwrap_or(Signal(15)),
        grace: given
            .and_then(|given| given.grace)
            .unwrap_or(Millis(10_000)),
    }
}

fn condition(given: Option<spec::Condition>) -> Condition {
    match given {
        None | Some(spec::Condition::Started) => Condition::Started,
        Some(spec::Condition::Healthy) => Condition::Healthy,
        Some(spec::Condition::Completed) => Condition::Completed,
    }
}

fn logs(given: Option<&spec::Logs>) -> Logs {
    let given = given.cloned().unwrap_or_default();
    Logs {
        max_bytes: given.max_bytes.unwrap_or(Bytes(10 << 20)),
        max_files: given.max_files.unwrap_or(5),
        mode: match given.mode {
            None | Some(spec::LogMode::Block) => LogMode::Block,
            Some(spec::LogMode::Drop) => LogMode::Drop,
        },
        discard: given.discard.unwrap_or(false),
    }
}
