//! The fields of a container's spec.

use super::types::*;
use super::{Field, Shape, Type};

pub(super) const fn one(name: &'static str, kind: Type) -> Field {
    Field::new(name, Shape::One(kind))
}

pub(super) const fn object(name: &'static str, fields: &'static [Field]) -> Field {
    Field::new(name, Shape::Object(fields))
}

pub(super) const fn objects(name: &'static str, fields: &'static [Field], most: usize) -> Field {
    Field::new(name, Shape::Objects(fields, most))
}

pub(super) const fn list(name: &'static str, kind: Type) -> Field {
    Field::new(name, Shape::List(kind, 1024)).default("[]")
}

const fn map(name: &'static str, key: Type, value: Type) -> Field {
    Field::new(name, Shape::Map(key, value)).default("{}")
}

/// The whole document.
pub(crate) static SPEC: &[Field] = &[
    one("apiVersion", Type::Words(&["reconciler/v1"])).needed(),
    one("kind", Type::Words(&["Container"])).needed(),
    object("metadata", METADATA).needed(),
    object("spec", BODY).needed(),
];

static METADATA: &[Field] = &[
    one("name", NAME).needed().recreate(),
    map("labels", LABEL_KEY, LABEL_VALUE).live(),
    map("annotations", LABEL_KEY, TEXT).live(),
];

static BODY: &[Field] = &[
    one("state", Type::Words(&["running", "stopped"]))
        .default("running")
        .live(),
    one("suspend", Type::Boolean).default("false").live(),
    one("ttl", SOME_TIME).default("none").live(),
    objects("dependsOn", CONTAINER_DEPENDENCY, 64)
        .default("[]")
        .live(),
    object("rootfs", ROOTFS).needed(),
    one("hostname", HOSTNAME)
        .default("metadata.name")
        .recreate(),
    object("limits", LIMITS),
    object("network", NETWORK),
    objects("mounts", MOUNT, 256).default("[]").recreate(),
    objects("files", FILE, 256).default("[]").live(),
    map("env", ENV_NAME, ENV_VALUE).process(),
    objects("processes", PROCESS, 64).default("[]").live(),
    object("security", SECURITY),
];

static ROOTFS: &[Field] = &[
    one("directory", PATH).needed().recreate(),
    one(
        "writable",
        Type::Words(&["ephemeral", "persistent", "none"]),
    )
    .default("ephemeral")
    .recreate(),
];

static LIMITS: &[Field] = &[
    one("memory", MEMORY)
        .default("config: defaults.limits.memory")
        .live(),
    one("swap", SIZE)
        .default("config: defaults.limits.swap, else 0")
        .live(),
    one("memoryLow", SIZE).default("none").live(),
    one("cpu", CPU)
        .default("config: defaults.limits.cpu")
        .live(),
    one("cpuWeight", Type::Integer(1, 10_000))
        .default("config: defaults.limits.cpuWeight")
        .live(),
    one("cpuSet", CPU_SET).default("all processors").live(),
    one("pids", Type::Integer(2, 4_194_304))
        .default("config: defaults.limits.pids, else 1024")
        .live(),
    object("disk", DISK).default("none"),
];

static DISK: &[Field] = &[
    one("bytes", DISK_SIZE).needed().live(),
    one("inodes", INODES)
        .default("as many as the file system has")
        .recreate(),
];

static NETWORK: &[Field] = &[
    one("mode", Type::Words(&["none", "host", "isolated"]))
        .default("none")
        .recreate(),
    one("address", HOST_ADDRESS)
        .default("one of config: pools.addresses")
        .recreate(),
    one("mtu", Type::Integer(576, 65_535))
        .default("config: network.mtu, else 1500")
        .recreate(),
    objects("ports", PORT, 1024).default("[]").live(),
    object("egress", EGRESS),
    object("dns", DNS),
    map("hosts", HOSTNAME, ANY_ADDRESS).live(),
];

static PORT: &[Field] = &[
    one("host", Type::Integer(1, 65_535)).needed().live(),
    one("container", Type::Integer(1, 65_535))
        .default("as `host`")
        .live(),
    one("protocol", Type::Words(&["tcp", "udp"]))
        .default("tcp")
        .live(),
    one("address", BIND_ADDRESS).needed().live(),
];

static EGRESS: &[Field] = &[
    one("default", Type::Words(&["deny", "allow"]))
        .default("deny")
        .live(),
    one("dns", Type::Boolean).default("false").live(),
    objects("allow", ALLOW, 256).default("[]").live(),
];

static ALLOW: &[Field] = &[
    one("to", TARGET).needed().live(),
    Field::new("ports", Shape::List(PORTS, 64))
        .default("must be given with tcp and udp")
        .live(),
    one("protocol", Type::Words(&["tcp", "udp", "icmp", "all"]))
        .default("tcp")
        .live(),
    one("icmpType", ICMP)
        .default("must be given with icmp")
        .live(),
    one("icmpCode", ICMP)
        .default("must be given with icmp")
        .live(),
    one("log", Type::Boolean).default("false").live(),
];

static DNS: &[Field] = &[
    Field::new("servers", Shape::List(HOST_ADDRESS, 16))
        .default("config: network.dns, else the host's")
        .live(),
    Field::new("search", Shape::List(HOSTNAME, 32))
        .default("[]")
        .live(),
    Field::new("options", Shape::List(RESOLVER_OPTION, 16))
        .default("[]")
        .live(),
];

static MOUNT: &[Field] = &[
    one("path", MOUNT_PATH).needed().recreate(),
    one("source", PATH).default("none").recreate(),
    one("tmpfs", TMPFS_SIZE).default("none").recreate(),
    one("volume", NAME).default("none").recreate(),
    one("readOnly", Type::Boolean)
        .default("true with `source`, else false")
        .recreate(),
    one("recursive", Type::Boolean).default("false").recreate(),
    one("propagation", Type::Words(&["private", "slave"]))
        .default("private")
        .recreate(),
    one("mode", MODE).default("\"1777\"").recreate(),
];

static FILE: &[Field] = &[
    one("path", FILE_PATH).needed().process(),
    one("content", CONTENT).needed().process(),
    one("mode", MODE).default("\"0644\"").process(),
    one("user", USER).default("0:0").process(),
    one("onChange", ON_CHANGE).default("restart").live(),
];

static PROCESS: &[Field] = &[
    one("name", NAME).needed().live(),
    Field::new("command", Shape::List(TEXT, 4096))
        .needed()
        .process(),
    one("user", USER).default("0:0").process(),
    one("workDir", PATH_OR_ROOT).default("/").process(),
    map("env", ENV_NAME, ENV_VALUE).process(),
    object("rlimits", RLIMITS),
    object("restart", RESTART),
    object("stop", STOP),
    objects("dependsOn", PROCESS_DEPENDENCY, 64)
        .default("[]")
        .live(),
    one("stdin", Type::Words(&["none", "open"]))
        .default("none")
        .process(),
    object("logs", LOGS),
];

static CONTAINER_DEPENDENCY: &[Field] = &[
    one("container", NAME).needed().live(),
    one("condition", CONDITION).default("started").live(),
];

static PROCESS_DEPENDENCY: &[Field] = &[
    one("process", NAME).needed().live(),
    one("condition", CONDITION).default("started").live(),
];

const CONDITION: Type = Type::Words(&["started", "healthy", "completed"]);

macro_rules! rlimits {
    ($($name:literal $kind:ident,)*) => {
        /// The sixteen resource limits.
        pub(super) static RLIMITS: &[Field] = &[
            $(one($name, $kind).default(concat!("config: defaults.rlimits.", $name)).process(),)*
        ];
    };
}

rlimits! {
    "as" SIZE_LIMIT, "core" SIZE_LIMIT, "cpu" SECONDS_LIMIT, "data" SIZE_LIMIT,
    "fsize" SIZE_LIMIT, "locks" COUNT_LIMIT, "memlock" SIZE_LIMIT, "msgqueue" SIZE_LIMIT,
    "nice" NICE_LIMIT, "nofile" COUNT_LIMIT, "nproc" COUNT_LIMIT, "rss" SIZE_LIMIT,
    "rtprio" PRIORITY_LIMIT, "rttime" MICROS_LIMIT, "sigpending" COUNT_LIMIT, "stack" SIZE_LIMIT,
}

static RESTART: &[Field] = &[
    one("policy", Type::Words(&["always", "onFailure", "never"]))
        .default("always")
        .live(),
    object("backoff", BACKOFF),
];

static BACKOFF: &[Field] = &[
    one("initial", BACKOFF_TIME).default("100ms").live(),
    one("max", BACKOFF_TIME).default("60s").live(),
    one("resetAfter", SOME_TIME).default("10m").live(),
];

static STOP: &[Field] = &[
    one("signal", SIGNAL).default("TERM").live(),
    one("grace", GRACE).default("10s").live(),
];

static LOGS: &[Field] = &[
    one("maxBytes", LOG_SIZE).default("10Mi").process(),
    one("maxFiles", Type::Integer(1, 100))
        .default("5")
        .process(),
    one("mode", Type::Words(&["block", "drop"]))
        .default("block")
        .process(),
    one("discard", Type::Boolean).default("false").process(),
];

static SECURITY: &[Field] = &[
    object(
        "user",
        &[one("namespace", Type::Words(&["auto", "host"]))
            .default("auto")
            .recreate()],
    ),
    object("capabilities", CAPABILITIES),
    one("seccomp", SECCOMP).default("default").recreate(),
    one("noNewPrivileges", Type::Boolean)
        .default("true; false with `privileged`")
        .recreate(),
    one("privileged", Type::Boolean).default("false").recreate(),
    objects("devices", DEVICE, 64).default("[]").recreate(),
    map("sysctls", SYSCTL_NAME, SYSCTL_VALUE).recreate(),
    list("readOnlyPaths", PATH).recreate(),
    list("maskedPaths", PATH).recreate(),
];

static CAPABILITIES: &[Field] = &[
    list("add", CAPABILITY).recreate(),
    list("drop", CAPABILITY_OR_ALL).recreate(),
];

static DEVICE: &[Field] = &[
    one("path", DEVICE_PATH).needed().recreate(),
    one("access", ACCESS).default("rw").recreate(),
];
