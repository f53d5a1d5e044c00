//! Fields that are not in the schema but that people write: those still to be built, and
//! those that other programs call differently.

/// Fields of the format that this release does not have.
const LATER: [&str; 9] = [
    "spec.update",
    "spec.rootfs.archive",
    "spec.rootfs.image",
    "spec.limits.io",
    "spec.limits.bandwidth",
    "spec.limits.hugepages",
    "spec.processes[].tty",
    "spec.processes[].probes",
    "spec.processes[].hooks",
];

/// What others call a field: the mapping it stands in, its name there, what to use here.
const FOREIGN: [(&str, &str, &str); 29] = [
    (
        "spec",
        "containers",
        "`processes`: one document is one container with several processes",
    ),
    ("spec", "image", "`rootfs.directory`"),
    ("spec", "resources", "`limits`"),
    ("spec", "volumes", "`mounts`"),
    ("spec", "environment", "`env`"),
    ("spec", "securityContext", "`security`"),
    ("spec", "restartPolicy", "`processes[].restart.policy`"),
    ("spec", "command", "`processes[].command`"),
    ("spec", "hostNetwork", "`network.mode: host`"),
    ("spec", "ports", "`network.ports`"),
    ("spec", "dns", "`network.dns`"),
    ("spec.network.ports[]", "hostPort", "`host`"),
    ("spec.network.ports[]", "containerPort", "`container`"),
    ("spec.network.ports[]", "hostIP", "`address`"),
    (
        "spec",
        "terminationGracePeriodSeconds",
        "`processes[].stop.grace`",
    ),
    ("spec", "replicas", "one document for each container"),
    ("spec.limits", "mem", "`memory`"),
    ("spec.limits", "cpus", "`cpu`"),
    (
        "spec.processes[]",
        "args",
        "`command`, which holds program and arguments",
    ),
    ("spec.processes[]", "workingDir", "`workDir`"),
    ("spec.processes[]", "cwd", "`workDir`"),
    ("spec.processes[]", "environment", "`env`"),
    (
        "spec.processes[]",
        "resources",
        "`spec.limits`, for the whole container",
    ),
    ("spec.processes[]", "ulimits", "`rlimits`"),
    ("spec.mounts[]", "mountPath", "`path`"),
    ("spec.mounts[]", "target", "`path`"),
    ("spec.mounts[]", "hostPath", "`source`"),
    ("spec.security", "capAdd", "`capabilities.add`"),
    (
        "spec.security",
        "readOnlyRootFilesystem",
        "`rootfs.writable: none`",
    ),
];

/// Says whether the field, by its path with `[]` for each item, is still to be built.
pub(crate) fn later(path: &str) -> bool {
    LATER.contains(&path)
}

/// Says whether the value is one that the field is still to learn.
pub(crate) fn later_value(path: &str, value: &str) -> bool {
    path == "spec.network.mode" && value.starts_with("container:")
}

/// Returns what to use instead of a field that other programs know.
pub(crate) fn foreign(parent: &str, name: &str) -> Option<&'static str> {
    let found = FOREIGN
        .iter()
        .find(|(at, theirs, _)| *at == parent && *theirs == name);
    found.map(|(_, _, ours)| *ours)
}
