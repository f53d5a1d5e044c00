//! What a container may do, with nothing left to decide.

use std::collections::BTreeSet;

use super::capability;
use crate::desired::{Device, Seccomp, Security, UserNamespace};
use crate::spec;

/// Paths made read-only in every container that is not privileged.
pub const READ_ONLY_PATHS: [&str; 5] = [
    "/proc/bus",
    "/proc/fs",
    "/proc/irq",
    "/proc/sys",
    "/proc/sysrq-trigger",
];

/// Paths hidden in every container that is not privileged.
pub const MASKED_PATHS: [&str; 13] = [
    "/proc/acpi",
    "/proc/asound",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/sys/devices/virtual/powercap",
    "/sys/firmware",
    "/sys/fs/selinux",
];

/// Returns what it may do.
pub(super) fn security(
    given: Option<&spec::Security>,
    user_namespace: UserNamespace,
    seccomp: Seccomp,
) -> Security {
    let absent = spec::Security::default();
    let given = given.unwrap_or(&absent);
    let privileged = given.privileged.unwrap_or(false);
    let mut devices: Vec<Device> = given.devices.iter().map(device).collect();
    devices.sort_by(|a, b| a.path.cmp(&b.path));
    let paths = |built_in: &[&str], added: &[String]| {
        let built_in = if privileged { &[] } else { built_in };
        let built_in = built_in.iter().map(|path| (*path).to_owned());
        let all: BTreeSet<String> = built_in.chain(added.iter().cloned()).collect();
        all.into_iter().collect::<Vec<String>>()
    };
    Security {
        user_namespace,
        capabilities: capabilities(given, privileged),
        seccomp,
        no_new_privileges: given.no_new_privileges.unwrap_or(!privileged),
        privileged,
        devices,
        sysctls: given.sysctls.clone(),
        read_only_paths: paths(&READ_ONLY_PATHS, &given.read_only_paths),
        masked_paths: paths(&MASKED_PATHS, &given.masked_paths),
    }
}

fn capabilities(given: &spec::Security, privileged: bool) -> BTreeSet<String> {
    let owned = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
    if privileged {
        return owned(&capability::NAMES);
    }
    let absent = spec::Capabilities::default();
    let change = given.capabilities.as_ref().unwrap_or(&absent);
    let mut set: BTreeSet<String> = owned(&capability::BASE);
    for name in &change.drop {
        match capability::canonical(name) {
            Some(name) => _ = set.remove(name),
            None => set.clear(),
        }
    }
    set.extend(
        change
            .add
            .iter()
            .filter_map(|name| capability::canonical(name))
            .map(String::from),
    );
    set
}

fn device(device: &spec::Device) -> Device {
    let access = device.access.as_deref().unwrap_or("rw");
    Device {
        path: device.path.clone(),
        read: access.contains('r'),
        write: access.contains('w'),
        mknod: access.contains('m'),
    }
}
