//! Kernel settings of the container's namespaces.
//!
//! Written only through a descriptor of a procfs that we mounted ourselves, and checked to be
//! one (CVE-2019-16884, CVE-2025-52881); only settings that a namespace of the container's
//! own holds, so that no spelling reaches the host's (CVE-2022-0811).

use std::os::fd::{AsFd, BorrowedFd};

use rustix::fs::{OFlags, ResolveFlags, fstatfs};
use rustix::io::Errno;
use shim_proto::launch::{Launch, Pair};

use super::failure::{Failure, OrFail};
use super::resolve::open;

/// `PROC_SUPER_MAGIC` of `linux/magic.h`.
const PROC: rustix::fs::FsWord = 0x9fa0;
/// Settings of the ipc namespace; `namespaces(7)` and `ipc/ipc_sysctl.c`.
const IPC: [&str; 3] = ["kernel.msg", "kernel.shm", "kernel.sem"];

/// Writes every setting of `launch` through `proc`, the root of our own procfs.
///
/// # Errors
///
/// When a setting is not a namespace's, does not exist, or its value is refused.
pub(super) fn write_all(proc: BorrowedFd<'_>, launch: &Launch) -> Result<(), Failure> {
    if launch.sysctls.is_empty() {
        return Ok(());
    }
    let what = "cannot write kernel settings";
    let kind = fstatfs(proc).or_fail(|| what.to_owned())?.f_type;
    if kind != PROC {
        return Err(Failure::terminal(what, "/proc is not a proc file system"));
    }
    launch
        .sysctls
        .iter()
        .try_for_each(|pair| write(proc, pair, launch))
}

fn write(proc: BorrowedFd<'_>, pair: &Pair, launch: &Launch) -> Result<(), Failure> {
    let what = format!("cannot set {}", pair.name);
    let path = path(pair, launch).map_err(|cause| Failure::terminal(what.clone(), cause))?;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_XDEV | ResolveFlags::NO_SYMLINKS;
    let file = open(proc, &path, OFlags::WRONLY | OFlags::NOCTTY, resolve).map_err(|errno| {
        let failure = Failure::kernel(errno, what.clone());
        match errno {
            Errno::NOENT => failure.because("this kernel has no such setting"),
            Errno::ACCESS | Errno::PERM => {
                failure.because("this kernel does not let a container's root set it")
            }
            _ => failure,
        }
    })?;
    let kind = fstatfs(&file).or_fail(|| what.clone())?.f_type;
    if kind != PROC {
        return Err(Failure::terminal(what, "it is not in a proc file system"));
    }
    let value = pair.value.as_bytes();
    // One write: the kernel takes a setting from the first one alone.
    match rustix::io::write(file.as_fd(), value) {
        Ok(count) if count == value.len() => Ok(()),
        Ok(_) => Err(Failure::terminal(
            what,
            format!("{:?} was taken in part", pair.value),
        )),
        Err(errno) => {
            Err(Failure::kernel(errno, what)
                .because(format!("the value {:?} was refused", pair.value)))
        }
    }
}

/// Where a dotted name is below `/proc`; a slash in a part stands for a dot (`sysctl(8)`).
fn path(pair: &Pair, launch: &Launch) -> Result<String, String> {
    let name = pair.name.as_str();
    if pair.value.is_empty() || pair.value.contains(['\n', '\0']) {
        return Err("its value is empty or has a line break in it".to_owned());
    }
    let is_plain = |part: &str| {
        !part.is_empty()
            && !matches!(part, "/" | "//")
            && part
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'/'))
    };
    if !name.split('.').all(is_plain) {
        return Err("it is not a dotted name".to_owned());
    }
    let has_prefix = |prefix: &str| name.starts_with(prefix);
    let is_ours = has_prefix("fs.mqueue.")
        || IPC.iter().any(|prefix| has_prefix(prefix))
        || (has_prefix("net.") && !launch.host_network)
        || (has_prefix("user.max_") && launch.user_namespace.is_some());
    if !is_ours {
        let why = if has_prefix("net.") {
            "the network is the host's"
        } else {
            "it is global"
        };
        return Err(format!(
            "it is not of the container's own namespaces: {why}"
        ));
    }
    let path: String = name
        .chars()
        .map(|letter| match letter {
            '.' => '/',
            '/' => '.',
            letter => letter,
        })
        .collect();
    Ok(format!("sys/{path}"))
}

#[cfg(test)]
mod tests {
    use shim_proto::launch::{IdRange, Launch, Pair};

    use super::path;

    #[track_caller]
    fn check(name: &str, value: &str, launch: &Launch, want: Option<&str>) {
        let pair = Pair {
            name: name.to_owned(),
            value: value.to_owned(),
        };
        assert_eq!(path(&pair, launch).ok().as_deref(), want, "{name}={value}");
    }

    #[test]
    fn only_settings_of_own_namespaces_have_a_path() {
        let own = Launch::default();
        let host = Launch {
            host_network: true,
            ..Launch::default()
        };
        let ids = Some(IdRange { base: 1, count: 1 });
        let mapped = Launch {
            user_namespace: ids,
            ..Launch::default()
        };
        check(
            "net.core.somaxconn",
            "1",
            &own,
            Some("sys/net/core/somaxconn"),
        );
        check(
            "net.ipv4.conf.eth0/1.forwarding",
            "1",
            &own,
            Some("sys/net/ipv4/conf/eth0.1/forwarding"),
        );
        check("kernel.shmmax", "1", &own, Some("sys/kernel/shmmax"));
        check(
            "fs.mqueue.msg_max",
            "1",
            &own,
            Some("sys/fs/mqueue/msg_max"),
        );
        check(
            "user.max_user_namespaces",
            "0",
            &mapped,
            Some("sys/user/max_user_namespaces"),
        );
        check("user.max_user_namespaces", "0", &own, None);
        check("net.core.somaxconn", "1", &host, None);
        for name in [
            "kernel.core_pattern",
            "vm.swappiness",
            "kernel.modprobe",
            "fs.file-max",
            "",
            ".",
            "net",
            "net.",
            "net..core",
            "net.core+x=1",
            "net.core somaxconn",
            "net.//.//.kernel",
            "net./.x",
            "../kernel.shmmax",
            "kernel/core_pattern",
        ] {
            check(name, "1", &own, None);
        }
        check("net.core.somaxconn", "1\nkernel.core_pattern=x", &own, None);
        check("net.core.somaxconn", "", &own, None);
    }
}
