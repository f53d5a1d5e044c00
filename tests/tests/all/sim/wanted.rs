//! Specifications to want.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::sync::Arc;

use driver_sim::Rng;
use reconciler_core::io::{Intent, Wanted};
use specs::desired::{
    Bound, Condition, Container, Desired, Egress, File, IdRange, Isolated, Limits, LogMode, Logs,
    Mount, MountSource, NameOrId, Network, OnChange, Port, Process, Propagation, Restart,
    RestartPolicy, Rootfs, Run, Seccomp, Security, Stop, Transport, User, UserNamespace, Writable,
};
use specs::id::{Generation, Key, ProcessName, VolumeName};
use specs::units::{Bytes, Inodes, MilliCpu, Millis, Secret, Signal};

/// The containers there may be.
pub(crate) const KEYS: [&str; 4] = ["web", "db", "job", "old"];

pub(crate) fn key(name: &str) -> Key {
    Key::new(name).expect("a label")
}

pub(crate) fn name(name: &str) -> ProcessName {
    ProcessName::new(name).expect("a label")
}

pub(crate) fn intent(desired: Desired) -> Intent {
    let desired = Arc::new(desired);
    Intent::Present(Box::new(Wanted {
        desired,
        refusal: None,
        override_note: None,
        withdrawn: None,
    }))
}

fn user() -> User {
    User {
        user: NameOrId::Id(0),
        group: None,
    }
}

pub(crate) fn process(command: &str, policy: RestartPolicy) -> Process {
    Process {
        command: vec![command.to_owned()],
        user: user(),
        work_dir: "/".into(),
        env: BTreeMap::new(),
        rlimits: BTreeMap::new(),
        restart: Restart {
            policy,
            initial: Millis(100),
            max: Millis(5_000),
            reset_after: Millis(60_000),
        },
        stop: Stop {
            signal: Signal(15),
            grace: Millis(700),
        },
        depends_on: BTreeMap::new(),
        has_open_stdin: false,
        logs: Logs {
            max_bytes: Bytes(1 << 20),
            max_files: 2,
            mode: LogMode::Block,
            discard: false,
        },
    }
}

pub(crate) fn file(path: &str, content: &str, on_change: OnChange) -> File {
    let content = Secret(content.to_owned());
    File {
        path: path.into(),
        content,
        mode: 0o644,
        user: user(),
        on_change,
    }
}

/// A small container with one process.
pub(crate) fn plain(key: &Key, generation: u64) -> Desired {
    let server = (name("server"), process("serve", RestartPolicy::Always));
    Desired {
        key: key.clone(),
        generation: Generation(generation),
        labels: BTreeMap::new(),
        annotations: BTreeMap::new(),
        run: Run::Running,
        suspend: false,
        ttl: None,
        depends_on: BTreeMap::new(),
        restart_epoch: 0,
        container: Container {
            rootfs: Rootfs {
                directory: "/srv/root".into(),
                writable: Writable::Ephemeral,
                bound: None,
            },
            hostname: key.to_string(),
            network: Network::None,
            mounts: vec![Mount {
                path: "/tmp".into(),
                read_only: false,
                source: MountSource::Tmpfs {
                    bytes: Bytes(1 << 20),
                    mode: 0o1777,
                },
            }],
            security: Security {
                user_namespace: UserNamespace::Own(IdRange {
                    base: 100_000,
                    count: 65_536,
                }),
                capabilities: ["CHOWN".to_owned()].into(),
                seccomp: Seccomp::Default,
                no_new_privileges: true,
                privileged: false,
                devices: Vec::new(),
                sysctls: BTreeMap::new(),
                read_only_paths: vec!["/proc/sys".into()],
                masked_paths: vec!["/proc/keys".into(), "/sys/firmware".into()],
            },
        },
        limits: Limits {
            memory: Some(Bytes(64 << 20)),
            swap: Bytes(0),
            memory_low: None,
            cpu: Some(MilliCpu(500)),
            cpu_weight: None,
            cpu_set: None,
            pids: Some(64),
        },
        disk: None,
        ports: Vec::new(),
        egress: Egress::default(),
        names: None,
        files: Vec::new(),
        processes: [server].into(),
    }
}

/// Any container: every part that the planner looks at is drawn.
pub(crate) fn any(rng: &mut Rng, key: &Key, generation: u64) -> Desired {
    let mut desired = plain(key, generation);
    desired.run = if rng.below(6) == 0 {
        Run::Stopped
    } else {
        Run::Running
    };
    desired.suspend = rng.below(10) == 0;
    desired.restart_epoch = rng.below(3);
    // Few values, so that edits often go back to what was there before.
    desired.container.hostname = format!("h{}", rng.below(2));
    let writables = [
        Writable::Ephemeral,
        Writable::Ephemeral,
        Writable::Persistent,
        Writable::None,
    ];
    desired.container.rootfs.writable = writables[rng.index(4)];
    network(rng, &mut desired);
    if rng.below(2) == 0 {
        desired.container.mounts.push(Mount {
            path: "/data".into(),
            read_only: rng.below(2) == 0,
            source: if rng.below(2) == 0 {
                MountSource::Volume(VolumeName::new("db").expect("a label"))
            } else {
                let (source, propagation) = ("/srv/data".into(), Propagation::Private);
                MountSource::Bind {
                    source,
                    recursive: false,
                    propagation,
                    beneath: None,
                }
            },
        });
    }
    limits(rng, &mut desired.limits);
    disk(rng, &mut desired, generation);
    files(rng, &mut desired.files);
    processes(rng, &mut desired.processes);
    for other in KEYS {
        // Only on those that sort later: there is no circle.
        if other > key.as_str() && rng.below(4) == 0 {
            let conditions = [Condition::Started, Condition::Healthy, Condition::Completed];
            let condition = conditions[rng.index(3)];
            desired.depends_on.insert(self::key(other), condition);
        }
    }
    desired
}

fn network(rng: &mut Rng, desired: &mut Desired) {
    match rng.below(5) {
        0 => desired.container.network = Network::Host,
        1 | 2 => {
            // One address for each name, as the ledger gives them out.
            let last = desired.key.as_str().bytes().fold(0, u8::wrapping_add);
            desired.container.network = Network::Isolated(Isolated {
                address: Ipv4Addr::new(10, 254, 0, last),
                mtu: [1400, 1500][rng.index(2)],
            });
            desired.egress.otherwise_allow = rng.below(2) == 0;
            if rng.below(2) == 0 {
                desired.ports.push(Port {
                    transport: Transport::Tcp,
                    address: None,
                    host: 8000 + u16::from(last),
                    container: [80, 81][rng.index(2)],
                });
            }
        }
        _ => {}
    }
}

/// An image is never made smaller, so a later limit is never lower.
fn disk(rng: &mut Rng, desired: &mut Desired, generation: u64) {
    let rootfs = &mut desired.container.rootfs;
    if rootfs.writable != Writable::None && rng.below(3) == 0 {
        let inodes = [None, Some(Inodes(1000))][rng.index(2)];
        rootfs.bound = Some(Bound { inodes });
        desired.disk = Some(Bytes(((16 + generation) << 20) + 100));
    }
}

fn limits(rng: &mut Rng, limits: &mut Limits) {
    limits.memory = [None, Some(Bytes(32 << 20)), Some(Bytes((64 << 20) + 100))][rng.index(3)];
    limits.swap = Bytes(rng.below(2) << 20);
    limits.memory_low = [None, Some(Bytes(1 << 20))][rng.index(2)];
    limits.cpu = [None, Some(MilliCpu(250)), Some(MilliCpu(1500))][rng.index(3)];
    limits.cpu_weight = [None, Some(100), Some(500)][rng.index(3)];
    limits.cpu_set = [None, Some(vec![(0, 1)]), Some(vec![(0, 0), (3, 3)])][rng.index(3)].clone();
    limits.pids = [None, Some(32)][rng.index(2)];
}

fn files(rng: &mut Rng, files: &mut Vec<File>) {
    let kinds = [
        ("/etc/a", OnChange::Restart),
        ("/etc/b", OnChange::Signal(Signal(1))),
        ("/etc/c", OnChange::Signal(Signal(10))),
        ("/etc/d", OnChange::Nothing),
    ];
    for (path, on_change) in kinds {
        if rng.below(3) == 0 {
            files.push(file(path, &format!("v{}", rng.below(2)), on_change));
        }
    }
}

fn processes(rng: &mut Rng, processes: &mut BTreeMap<ProcessName, Process>) {
    processes.clear();
    let policies = [
        RestartPolicy::Always,
        RestartPolicy::OnFailure,
        RestartPolicy::Never,
    ];
    for which in ["server", "worker", "migrate"] {
        if rng.below(3) == 0 {
            continue;
        }
        let (command, policy) = match rng.below(6) {
            0 => (
                "once",
                [RestartPolicy::OnFailure, RestartPolicy::Never][rng.index(2)],
            ),
            1 => ("fail", RestartPolicy::Never),
            2 => ("flaky", policies[rng.index(2)]),
            _ => ("serve", policies[rng.index(3)]),
        };
        let mut process = process(command, policy);
        process.work_dir = format!("/{}", rng.below(2));
        processes.insert(name(which), process);
    }
    depends_on(rng, processes);
}

/// Of two that are there, the one whose name sorts first may wait for the other: there is no
/// circle.
fn depends_on(rng: &mut Rng, processes: &mut BTreeMap<ProcessName, Process>) {
    let names: Vec<ProcessName> = processes.keys().cloned().collect();
    for (at, later) in names.iter().enumerate() {
        for earlier in names.iter().take(at) {
            let completes = processes
                .get(later)
                .is_some_and(|process| process.restart.policy != RestartPolicy::Always);
            let conditions = [Condition::Started, Condition::Healthy, Condition::Completed];
            let condition = conditions[rng.index(if completes { 3 } else { 2 })];
            if rng.below(3) == 0
                && let Some(process) = processes.get_mut(earlier)
            {
                process.depends_on.insert(later.clone(), condition);
            }
        }
    }
}
