//! The OCI runtimes that a user would pick instead, with the same root, namespaces, limits,
//! capabilities and system call filter.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};
use serde_json::{Value, json};

use super::clock::{now, stamp, wait};
use super::ours::SOON;

/// Where Podman's package keeps the filter that all of them use by default.
const FILTER: &str = "/usr/share/containers/seccomp.json";
const CAPABILITIES: [&str; 11] = [
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_NET_BIND_SERVICE",
    "CAP_SETFCAP",
    "CAP_SETGID",
    "CAP_SETPCAP",
    "CAP_SETUID",
    "CAP_SYS_CHROOT",
];

/// Moves the calling thread, and what it starts, into a mount namespace of its own. There the
/// hierarchy of version 2 is out of sight if it is one of two: crun refuses such hosts.
pub(crate) fn enter_own_mounts() {
    let none: Option<&str> = None;
    unshare(CloneFlags::CLONE_NEWNS).expect("a mount namespace");
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).expect("private mounts");
    let second = Path::new("/sys/fs/cgroup/unified");
    if second.exists() {
        umount2(second, MntFlags::MNT_DETACH).expect("hide a hierarchy");
    }
}

/// One runtime.
pub(crate) struct Peer {
    pub(crate) name: &'static str,
    program: PathBuf,
    dir: PathBuf,
    lower: PathBuf,
    cgroup: String,
    filter: Value,
}

/// A container of a runtime.
pub(crate) struct Made {
    pub(crate) asked: Duration,
    pub(crate) first: Duration,
    id: String,
    bundle: PathBuf,
}

impl Peer {
    /// Returns the runtime if it is installed and makes a container on this host; else why not.
    pub(crate) fn find(name: &'static str, dir: &Path, lower: &Path) -> Result<Self, String> {
        let places = ["/usr/bin", "/usr/sbin"];
        let program = places
            .iter()
            .map(|place| Path::new(place).join(name))
            .find(|path| path.exists())
            .ok_or_else(|| format!("{name} is not installed"))?;
        let filter = fs::read_to_string(FILTER).map_err(|err| format!("{FILTER}: {err}"))?;
        let filter = serde_json::from_str(&filter).map_err(|err| format!("{FILTER}: {err}"))?;
        let peer = Self {
            name,
            program,
            dir: dir.join(name),
            lower: lower.to_owned(),
            cgroup: format!("reconciler-bench-{}-{name}", std::process::id()),
            filter: for_runtime(&filter),
        };
        let made = peer.make("first", &["/bin/bare", "stamp", "stay"])?;
        peer.remove(&made)?;
        Ok(peer)
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command.arg("--root").arg(self.dir.join("state"));
        command.args(words).stdin(Stdio::null());
        command
    }

    /// Makes a container and waits for its first instruction. Its files are written before the
    /// clock runs; its root is assembled after.
    pub(crate) fn make(&self, id: &str, program: &[&str]) -> Result<Made, String> {
        let bundle = self.dir.join(id);
        for name in ["upper", "work", "rootfs"] {
            fs::create_dir_all(bundle.join(name)).map_err(|err| err.to_string())?;
        }
        let config = self.config(id, program).to_string();
        fs::write(bundle.join("config.json"), config).map_err(|err| err.to_string())?;
        let out = bundle.join("out");
        let file = fs::File::create(&out).map_err(|err| err.to_string())?;
        let said = fs::File::create(bundle.join("said")).map_err(|err| err.to_string())?;
        let options = format!(
            "lowerdir={},upperdir={1}/upper,workdir={1}/work",
            self.lower.display(),
            bundle.display()
        );
        let asked = now();
        mount(
            Some("bench"),
            &bundle.join("rootfs"),
            Some("overlay"),
            MsFlags::empty(),
            Some(options.as_str()),
        )
        .map_err(|err| format!("overlay: {err}"))?;
        let path = bundle.display().to_string();
        let status = self
            .command(&["run", "--detach", "--bundle", &path, id])
            .stdout(file)
            .stderr(said)
            .status()
            .map_err(|err| err.to_string())?;
        let made = |first| Made {
            asked,
            first,
            id: id.to_owned(),
            bundle: bundle.clone(),
        };
        if !status.success() {
            self.remove(&made(asked)).ok();
            let said = fs::read_to_string(bundle.join("said")).unwrap_or_default();
            return Err(format!("{}: {}", self.name, said.trim()));
        }
        let first = wait("the first instruction", SOON, || {
            stamp(&fs::read_to_string(&out).ok()?)
        });
        Ok(made(first))
    }

    /// Ends a container at once; returns how long that took, unmounting included.
    pub(crate) fn remove(&self, made: &Made) -> Result<Duration, String> {
        let asked = now();
        let output = self
            .command(&["delete", "--force", &made.id])
            .output()
            .map_err(|err| err.to_string())?;
        umount2(&made.bundle.join("rootfs"), MntFlags::empty())
            .or_else(|_busy| umount2(&made.bundle.join("rootfs"), MntFlags::MNT_DETACH))
            .map_err(|err| format!("unmount: {err}"))?;
        let took = now() - asked;
        if output.status.success() {
            Ok(took)
        } else {
            Err(String::from_utf8_lossy(&output.stderr).trim().to_owned())
        }
    }

    /// Runs a program in a container; returns how long that took.
    pub(crate) fn exec(&self, made: &Made, program: &[&str]) -> Duration {
        let asked = now();
        let status = self
            .command(&[&["exec", made.id.as_str()], program].concat())
            .status()
            .expect("start the runtime");
        let took = now() - asked;
        assert!(status.success(), "{} exec: {status}", self.name);
        took
    }

    fn config(&self, id: &str, program: &[&str]) -> Value {
        let namespaces = ["pid", "network", "ipc", "uts", "mount", "user", "cgroup"];
        let namespaces = namespaces.map(|kind| json!({"type": kind}));
        let ids = json!([{"containerID": 0, "hostID": 1_000_000, "size": 65_536}]);
        let mounted = |path: &str, kind: &str, options: &[&str]| json!({"destination": path, "type": kind, "source": kind, "options": options});
        json!({
            "ociVersion": "1.0.2",
            "process": {
                "terminal": false,
                "user": {"uid": 0, "gid": 0},
                "args": program,
                "env": ["PATH=/bin"],
                "cwd": "/",
                "capabilities": {
                    "bounding": CAPABILITIES,
                    "effective": CAPABILITIES,
                    "permitted": CAPABILITIES,
                },
                "noNewPrivileges": true,
            },
            "root": {"path": "rootfs"},
            "hostname": id,
            "mounts": [
                mounted("/proc", "proc", &["nosuid", "noexec", "nodev"]),
                mounted("/dev", "tmpfs", &["nosuid", "mode=755", "size=65536k"]),
                mounted("/dev/pts", "devpts", &["nosuid", "noexec", "newinstance", "ptmxmode=0666"]),
                mounted("/dev/shm", "tmpfs", &["nosuid", "noexec", "nodev", "mode=1777"]),
                mounted("/dev/mqueue", "mqueue", &["nosuid", "noexec", "nodev"]),
                mounted("/sys", "sysfs", &["nosuid", "noexec", "nodev", "ro"]),
            ],
            "linux": {
                "uidMappings": ids,
                "gidMappings": ids,
                "namespaces": namespaces,
                "cgroupsPath": format!("/{}/{id}", self.cgroup),
                "resources": {
                    "devices": [{"allow": false, "access": "rwm"}],
                    "memory": {"limit": 256 << 20},
                    "cpu": {"quota": 100_000, "period": 100_000},
                    "pids": {"limit": 128},
                },
                "seccomp": self.filter,
                "maskedPaths": ["/proc/acpi", "/proc/kcore", "/proc/keys", "/proc/timer_list",
                    "/proc/scsi", "/sys/firmware"],
                "readonlyPaths": ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys",
                    "/proc/sysrq-trigger"],
            },
        })
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        // What the runtimes leave: the parents of their containers' groups.
        for hierarchy in fs::read_dir("/sys/fs/cgroup")
            .into_iter()
            .flatten()
            .flatten()
        {
            fs::remove_dir(hierarchy.path().join(&self.cgroup)).ok();
        }
        fs::remove_dir(Path::new("/sys/fs/cgroup").join(&self.cgroup)).ok();
    }
}

/// Makes a runtime's filter of a profile that depends on capabilities and the machine.
fn for_runtime(profile: &Value) -> Value {
    let has = |rule: &Value, of: &str, what: &str, known: &[&str]| -> Option<bool> {
        let names = rule.get(of)?.get(what)?.as_array()?;
        let mut names = names.iter().filter_map(Value::as_str);
        Some(names.any(|name| known.contains(&name)))
    };
    let applies = |rule: &&Value| {
        has(rule, "includes", "caps", &CAPABILITIES) != Some(false)
            && has(rule, "includes", "arches", &["amd64", "x86"]) != Some(false)
            && has(rule, "excludes", "caps", &CAPABILITIES) != Some(true)
            && has(rule, "excludes", "arches", &["amd64", "x86"]) != Some(true)
    };
    let mut rules = Vec::new();
    let all = profile.get("syscalls").and_then(Value::as_array);
    for rule in all.into_iter().flatten().filter(applies) {
        let mut kept = serde_json::Map::new();
        for key in ["names", "action", "args", "errnoRet"] {
            match rule.get(key) {
                None | Some(Value::Null) => {}
                Some(Value::Array(list)) if list.is_empty() => {}
                Some(value) => drop(kept.insert(key.to_owned(), value.clone())),
            }
        }
        rules.push(Value::Object(kept));
    }
    json!({
        "defaultAction": "SCMP_ACT_ERRNO",
        "defaultErrnoRet": 38,
        "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"],
        "syscalls": rules,
    })
}
