//! A [`Desired`] in the shape of a spec, for people and tools.

mod network;

use serde_json::{Map, Value, json};

use super::{
    Desired, Device, File, LogMode, Mount, MountSource, Process, Propagation, RestartPolicy, Run,
    Seccomp, Security, UserNamespace, Writable,
};
use crate::id::Digest;
use crate::units::{Bytes, CpuSet, Micros, Mode, Seconds, Secret};

/// What is shown of a secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Show {
    /// Its length.
    Length,
    /// Its length and digest, to compare two of them; never shown to anyone.
    Mark,
}

impl Desired {
    /// Returns the container with every default filled, in the shape of its spec; of secrets
    /// (`env`, the content of `files`, seccomp profiles) the length only.
    #[must_use]
    pub fn effective_json(&self) -> Value {
        self.view(Show::Length)
    }

    /// The files of the spec: those that `names` makes are shown as what they are made from.
    fn own_files(&self) -> impl Iterator<Item = &File> {
        let address = self.container.network.isolated();
        let made = self
            .names
            .as_ref()
            .zip(address)
            .map(|(names, isolated)| names.files(&self.container.hostname, isolated.address));
        let is_made = move |file: &&File| made.iter().flatten().any(|made| made == *file);
        self.files.iter().filter(move |file| !is_made(file))
    }

    pub(crate) fn view(&self, show: Show) -> Value {
        let processes = self.processes.iter().map(|(name, process)| {
            let mut out = view_process(process, show);
            out.insert("name".to_owned(), json!(name.as_str()));
            Value::Object(out)
        });
        let depends_on = self.depends_on.iter().map(|(other, condition)| {
            json!({"container": other.as_str(), "condition": condition.as_str()})
        });
        let container = &self.container;
        json!({
            "apiVersion": "reconciler/v1",
            "kind": "Container",
            "metadata": {
                "name": self.key.as_str(),
                "labels": self.labels,
                "annotations": self.annotations,
            },
            "spec": {
                "state": match self.run { Run::Running => "running", Run::Stopped => "stopped" },
                "suspend": self.suspend,
                "ttl": self.ttl.map(|ttl| ttl.to_string()),
                "dependsOn": depends_on.collect::<Vec<_>>(),
                "rootfs": {
                    "directory": container.rootfs.directory,
                    "writable": match container.rootfs.writable {
                        Writable::Ephemeral => "ephemeral",
                        Writable::Persistent => "persistent",
                        Writable::None => "none",
                    },
                },
                "hostname": container.hostname,
                "limits": view_limits(self),
                "network": network::view(self),
                "mounts": container.mounts.iter().map(view_mount).collect::<Vec<_>>(),
                "files": self.own_files().map(|file| view_file(file, show)).collect::<Vec<_>>(),
                "processes": processes.collect::<Vec<_>>(),
                "security": view_security(&container.security, show),
            },
        })
    }
}

fn hidden(secret: &Secret, show: Show) -> Value {
    let length = secret.0.len();
    match show {
        Show::Length => json!(format!("({length} bytes)")),
        Show::Mark => json!(format!(
            "({length} bytes) {}",
            Digest::of(secret.0.as_bytes())
        )),
    }
}

fn view_limits(desired: &Desired) -> Value {
    let limits = &desired.limits;
    let mut out = json!({
        "memory": limits.memory.map(|bytes| bytes.to_string()),
        "swap": limits.swap.to_string(),
        "memoryLow": limits.memory_low.map(|bytes| bytes.to_string()),
        "cpu": limits.cpu.map(|cpu| cpu.to_string()),
        "cpuWeight": limits.cpu_weight,
        "cpuSet": limits.cpu_set.clone().map(|set| CpuSet(set).to_string()),
        "pids": limits.pids,
    });
    let bound = desired.container.rootfs.bound;
    // Left out where there is none: to begin with it costs more than to change it.
    if let (Some(bytes), Some(bound), Value::Object(out)) = (desired.disk, bound, &mut out) {
        let inodes = bound.inodes.map(|inodes| inodes.to_string());
        let disk = json!({"bytes": bytes.to_string(), "inodes": inodes});
        out.insert("disk".to_owned(), disk);
    }
    out
}

fn view_mount(mount: &Mount) -> Value {
    let mut out = Map::new();
    out.insert("path".to_owned(), json!(mount.path));
    out.insert("readOnly".to_owned(), json!(mount.read_only));
    match &mount.source {
        MountSource::Bind {
            source,
            recursive,
            propagation,
            beneath: _,
        } => {
            out.insert("source".to_owned(), json!(source));
            out.insert("recursive".to_owned(), json!(recursive));
            let propagation = match propagation {
                Propagation::Private => "private",
                Propagation::Slave => "slave",
            };
            out.insert("propagation".to_owned(), json!(propagation));
        }
        MountSource::Tmpfs { bytes, mode } => {
            out.insert("tmpfs".to_owned(), json!(bytes.to_string()));
            out.insert("mode".to_owned(), json!(Mode(*mode).to_string()));
        }
        MountSource::Volume(volume) => {
            out.insert("volume".to_owned(), json!(volume.as_str()));
        }
    }
    Value::Object(out)
}

fn view_file(file: &File, show: Show) -> Value {
    json!({
        "path": file.path,
        "content": hidden(&file.content, show),
        "mode": Mode(file.mode).to_string(),
        "user": file.user.to_string(),
        "onChange": file.on_change.to_string(),
    })
}

fn view_process(process: &Process, show: Show) -> Map<String, Value> {
    let env = process.env.iter();
    let env: Map<String, Value> = env
        .map(|(name, value)| (name.clone(), hidden(value, show)))
        .collect();
    let rlimits = process.rlimits.iter();
    let rlimits: Map<String, Value> = rlimits
        .map(|(name, both)| (name.clone(), json!(rlimit(name, *both))))
        .collect();
    let depends_on = process.depends_on.iter().map(
        |(other, condition)| json!({"process": other.as_str(), "condition": condition.as_str()}),
    );
    let (restart, stop, logs) = (&process.restart, &process.stop, &process.logs);
    let out = json!({
        "command": process.command,
        "user": process.user.to_string(),
        "workDir": process.work_dir,
        "env": env,
        "rlimits": rlimits,
        "restart": {
            "policy": match restart.policy {
                RestartPolicy::Always => "always",
                RestartPolicy::OnFailure => "onFailure",
                RestartPolicy::Never => "never",
            },
            "backoff": {
                "initial": restart.initial.to_string(),
                "max": restart.max.to_string(),
                "resetAfter": restart.reset_after.to_string(),
            },
        },
        "stop": {"signal": stop.signal.to_string(), "grace": stop.grace.to_string()},
        "dependsOn": depends_on.collect::<Vec<_>>(),
        "stdin": if process.has_open_stdin { "open" } else { "none" },
        "logs": {
            "maxBytes": logs.max_bytes.to_string(),
            "maxFiles": logs.max_files,
            "mode": match logs.mode { LogMode::Block => "block", LogMode::Drop => "drop" },
            "discard": logs.discard,
        },
    });
    match out {
        Value::Object(out) => out,
        _ => Map::new(),
    }
}

/// Returns a resource limit as it would be written.
fn rlimit(name: &str, (soft, hard): (u64, u64)) -> String {
    let one = |value: u64| match name {
        _ if value == u64::MAX => "unlimited".to_owned(),
        "cpu" => Seconds(value).to_string(),
        "rttime" => Micros(value).to_string(),
        "locks" | "nice" | "nofile" | "nproc" | "rtprio" | "sigpending" => value.to_string(),
        _ => Bytes(value).to_string(),
    };
    if soft == hard {
        one(soft)
    } else {
        format!("{}:{}", one(soft), one(hard))
    }
}

fn view_security(security: &Security, show: Show) -> Value {
    let seccomp = match (&security.seccomp, show) {
        (Seccomp::Default, _) => "default".to_owned(),
        (Seccomp::Unconfined, _) => "unconfined".to_owned(),
        (Seccomp::Profile { path, .. }, Show::Length) => path.clone(),
        // Where the profile was read from is of no consequence, what it says is.
        (Seccomp::Profile { json, .. }, Show::Mark) => Digest::of(json.as_bytes()).to_string(),
    };
    let user = match security.user_namespace {
        UserNamespace::Own(range) => json!({
            "namespace": "auto",
            "ids": format!("{}+{}", range.base, range.count),
        }),
        UserNamespace::Host => json!({"namespace": "host"}),
    };
    json!({
        "user": user,
        "capabilities": security.capabilities,
        "seccomp": seccomp,
        "noNewPrivileges": security.no_new_privileges,
        "privileged": security.privileged,
        "devices": security.devices.iter().map(view_device).collect::<Vec<_>>(),
        "sysctls": security.sysctls,
        "readOnlyPaths": security.read_only_paths,
        "maskedPaths": security.masked_paths,
    })
}

fn view_device(device: &Device) -> Value {
    let letters = [(device.read, 'r'), (device.write, 'w'), (device.mknod, 'm')];
    let access: String = letters
        .iter()
        .filter(|(is_set, _)| *is_set)
        .map(|(_, c)| *c)
        .collect();
    json!({"path": device.path, "access": access})
}
