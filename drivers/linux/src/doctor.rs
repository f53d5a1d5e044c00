//! What this host can do, asked one thing at a time.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::fs::{CWD, Mode};
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MoveMountFlags, OpenTreeFlags, fsconfig_create,
    fsmount, fsopen, move_mount, open_tree,
};

use crate::caps;
use crate::cgroup::devices;
use crate::cgroup::layout::{Kind, Layout};
use crate::error::words;
use crate::nft::Firewall;
use crate::places::Places;
use crate::sys::{probe, seccomp};

mod disk;
mod network;
mod room;

/// How a check came out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum CheckResult {
    /// It is there.
    Ok,
    /// It is not, and something that costs more or does less is used in its place.
    Fallback,
    /// It is not, and what needs it is refused.
    Missing,
}

/// One thing that was asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    /// What was asked for, for example `cgroup controller memory`.
    pub name: String,
    /// How it came out.
    pub result: CheckResult,
    /// What was found.
    pub detail: String,
    /// What a person can do about it; none if nothing needs doing.
    pub remedy: Option<String>,
}

fn check(
    name: impl Into<String>,
    result: CheckResult,
    detail: impl Into<String>,
    remedy: &str,
) -> Check {
    let is_bad = result != CheckResult::Ok && !remedy.is_empty();
    let remedy = is_bad.then(|| remedy.to_owned());
    Check {
        name: name.into(),
        result,
        detail: detail.into(),
        remedy,
    }
}

/// Returns a check for something that works or fails with an error.
fn tried<T>(name: &str, outcome: io::Result<T>, otherwise: CheckResult, remedy: &str) -> Check {
    match outcome {
        Ok(_) => check(name, CheckResult::Ok, "works", ""),
        Err(err) => check(name, otherwise, words(&err), remedy),
    }
}

/// Asks everything.
pub(crate) fn checks(
    layout: &Layout,
    state_dir: &Path,
    places: &Places,
    firewall: &Firewall,
) -> Vec<Check> {
    let mut found = cgroups(layout);
    found.push(outlive(layout));
    found.push(tried(
        "overlay",
        fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC).map_err(io::Error::from),
        CheckResult::Missing,
        "load the overlay module: `modprobe overlay`",
    ));
    found.push(tried(
        "detached assembly",
        assemble(),
        CheckResult::Fallback,
        "roots are put together in the container's mount namespace; Linux 6.15 can do without",
    ));
    found.extend(namespaces(state_dir));
    found.push(tried(
        "pidfd",
        rustix::process::pidfd_open(
            rustix::process::getpid(),
            rustix::process::PidfdFlags::empty(),
        )
        .map_err(io::Error::from),
        CheckResult::Missing,
        "Linux 5.3 or newer is needed",
    ));
    found.push(kill_and_clone(layout));
    found.push(match probe::can_clone_into_cgroup() {
        true => check("clone3 into cgroup", CheckResult::Ok, "works", ""),
        false => check(
            "clone3 into cgroup",
            CheckResult::Fallback,
            "clone3 does not take CLONE_INTO_CGROUP",
            "processes join their group after they start; Linux 5.7 can start them in it",
        ),
    });
    found.push(devices_check(layout));
    found.push(filters());
    found.push(resource());
    found.push(inotify());
    found.push(disk::limit(places));
    found.extend(network::checks(firewall));
    found.extend(room::rooms(places));
    found
}

fn cgroups(layout: &Layout) -> Vec<Check> {
    let (name, result, remedy) = match layout.kind {
        Kind::V2 => ("version 2", CheckResult::Ok, ""),
        Kind::Hybrid => (
            "hybrid: version 1 controllers beside a version 2 tree",
            CheckResult::Fallback,
            "boot with systemd.unified_cgroup_hierarchy=1 for limits.memoryLow",
        ),
        Kind::V1 => (
            "version 1",
            CheckResult::Fallback,
            "mount cgroup2 too: killing is then one atomic write",
        ),
    };
    let places: Vec<String> = layout
        .used()
        .map(|at| at.instance.display().to_string())
        .collect();
    let detail = format!("{name}; ours are below {}", places.join(", "));
    let mut found = vec![check("cgroup layout", result, detail, remedy)];
    for controller in ["memory", "cpu", "cpuset", "pids"] {
        let name = format!("cgroup controller {controller}");
        found.push(match layout.controller(controller) {
            Some(at) => {
                let version = if at.unified { "version 2" } else { "version 1" };
                check(
                    name,
                    CheckResult::Ok,
                    format!("{version}, {}", at.mount.display()),
                    "",
                )
            }
            None => check(
                name,
                CheckResult::Missing,
                format!("limits that need {controller} are refused"),
                "mount it, or delegate it to the daemon's cgroup (systemd: Delegate=yes)",
            ),
        });
    }
    found
}

/// A supervisor that stops the daemon by its cgroup would end the shims inside it as well.
fn outlive(layout: &Layout) -> Check {
    let name = "containers outlive the daemon";
    let is_unit = |path: &Path| {
        path.ancestors()
            .any(|up| up.extension().is_some_and(|kind| kind == "service"))
    };
    match layout.unified().filter(|at| is_unit(&at.parent)) {
        None => check(
            name,
            CheckResult::Ok,
            "shims are in no service's cgroup",
            "",
        ),
        Some(at) => check(
            name,
            CheckResult::Fallback,
            format!(
                "shims live below the service's cgroup {}",
                at.parent.display()
            ),
            "have the unit say KillMode=process and Delegate=yes, or set cgroupParent",
        ),
    }
}

/// Mounts one detached memory file system on a directory of another.
fn assemble() -> io::Result<()> {
    let outer = memory()?;
    rustix::fs::mkdirat(&outer, "a", Mode::RWXU)?;
    let inner = memory()?;
    move_mount(
        &inner,
        "",
        &outer,
        "a",
        MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH,
    )?;
    Ok(())
}

fn memory() -> io::Result<OwnedFd> {
    let context = fsopen("tmpfs", FsOpenFlags::FSOPEN_CLOEXEC)?;
    fsconfig_create(context.as_fd())?;
    let flags = FsMountFlags::FSMOUNT_CLOEXEC;
    Ok(fsmount(context.as_fd(), flags, MountAttrFlags::empty())?)
}

/// A process in a user namespace, ended and collected when dropped.
struct Idle {
    pid: u32,
    fd: OwnedFd,
}

impl Drop for Idle {
    fn drop(&mut self) {
        use rustix::process::{Signal, WaitId, WaitIdOptions, pidfd_send_signal, waitid};
        // Ours and unreaped, so both can only succeed.
        let _killed = pidfd_send_signal(&self.fd, Signal::KILL);
        let _reaped = waitid(WaitId::PidFd(self.fd.as_fd()), WaitIdOptions::EXITED);
    }
}

fn namespaces(state_dir: &Path) -> Vec<Check> {
    let remedy = "allow them: sysctl user.max_user_namespaces and kernel.unprivileged_userns_clone";
    let idle = match probe::start_idle_in_user_namespace() {
        Ok((pid, fd)) => Idle { pid, fd },
        Err(err) => {
            let missing = CheckResult::Missing;
            return vec![
                check("user namespaces", missing, words(&err), remedy),
                check(
                    "idmapped mounts",
                    missing,
                    "not asked: no user namespace",
                    "",
                ),
            ];
        }
    };
    let name = format!("idmapped mounts on {}", state_dir.display());
    vec![
        check("user namespaces", CheckResult::Ok, "works", ""),
        tried(
            &name,
            map_ids(&idle, state_dir),
            CheckResult::Missing,
            "keep the state directory on a file system that can: ext4, xfs, btrfs, tmpfs",
        ),
    ]
}

fn map_ids(idle: &Idle, state_dir: &Path) -> io::Result<()> {
    let map = "0 100000 65536";
    std::fs::write(crate::process::proc_path(idle.pid, "uid_map"), map)?;
    std::fs::write(crate::process::proc_path(idle.pid, "gid_map"), map)?;
    let namespace = File::open(crate::process::proc_path(idle.pid, "ns/user"))?;
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    let tree = open_tree(CWD, state_dir, flags)?;
    probe::map_ids(tree.as_fd(), namespace.as_fd())
}

fn kill_and_clone(layout: &Layout) -> Check {
    let name = "cgroup.kill";
    let Some(at) = layout.unified() else {
        return check(
            name,
            CheckResult::Fallback,
            "no version 2 tree",
            "mount cgroup2",
        );
    };
    // The file is in every group but the topmost, so a group is made to look.
    let up = at
        .parent
        .ancestors()
        .find(|up| up.is_dir())
        .unwrap_or(&at.mount);
    let path = up.join(format!("reconciler-probe-{}", std::process::id()));
    if let Err(err) = std::fs::create_dir(&path) {
        return check(
            name,
            CheckResult::Missing,
            words(&err),
            "let the daemon make cgroups",
        );
    }
    let has = path.join("cgroup.kill").exists();
    let removed = std::fs::remove_dir(&path);
    match (has, removed) {
        (_, Err(err)) => check(
            name,
            CheckResult::Fallback,
            words(&err),
            "remove the probe group",
        ),
        (true, Ok(())) => check(name, CheckResult::Ok, "works", ""),
        (false, Ok(())) => check(
            name,
            CheckResult::Fallback,
            "the kernel has no cgroup.kill",
            "processes are killed one by one; Linux 5.14 kills a group at once",
        ),
    }
}

fn devices_check(layout: &Layout) -> Check {
    let name = "device filter";
    if layout.unified().is_none() {
        return match layout.controller("devices") {
            Some(_) => check(name, CheckResult::Ok, "by the devices controller", ""),
            None => check(
                name,
                CheckResult::Missing,
                "no devices controller",
                "mount cgroup2",
            ),
        };
    }
    let remedy = "the kernel needs CONFIG_CGROUP_BPF, the daemon CAP_BPF and CAP_NET_ADMIN";
    tried(name, devices::can_filter(), CheckResult::Missing, remedy)
}

fn filters() -> Check {
    const ERRNO: u32 = 0x0005_0000;
    if seccomp::has_action(ERRNO) {
        return check("seccomp", CheckResult::Ok, "works", "");
    }
    let remedy = "the kernel needs CONFIG_SECCOMP_FILTER";
    check(
        "seccomp",
        CheckResult::Missing,
        "the kernel filters no calls",
        remedy,
    )
}

fn resource() -> Check {
    let name = "CAP_SYS_RESOURCE";
    let has = caps::own()
        .is_ok_and(|own| caps::bit("SYS_RESOURCE").is_some_and(|bit| own.effective & bit != 0));
    if has {
        return check(name, CheckResult::Ok, "held", "");
    }
    let detail = "hard limits above the daemon's own are refused, and images do not grow";
    check(
        name,
        CheckResult::Fallback,
        detail,
        "start the daemon with CAP_SYS_RESOURCE",
    )
}

fn inotify() -> Check {
    let name = "inotify";
    let most = crate::text::read(Path::new("/proc/sys/fs/inotify/max_user_watches"));
    match most {
        Ok(Some(most)) => check(
            name,
            CheckResult::Ok,
            format!("{} watches", most.trim()),
            "",
        ),
        Ok(None) | Err(_) => check(
            name,
            CheckResult::Fallback,
            "the kernel has none",
            "changed limits are only seen at the next resync; CONFIG_INOTIFY_USER is needed",
        ),
    }
}
