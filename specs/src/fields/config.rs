//! The fields of a configuration.

use super::spec::{RLIMITS, list, object, objects, one};
use super::types::*;
use super::{Field, Shape, Type};

/// The whole document.
pub(crate) static CONFIG: &[Field] = &[
    one("apiVersion", Type::Words(&["reconciler/v1"])).needed(),
    one("kind", Type::Words(&["Config"])).needed(),
    object("paths", PATHS),
    one("instance", NAME).default("the flag --instance, else default"),
    one("cgroupParent", PATH).default("chosen by the driver"),
    object("pools", POOLS),
    object("defaults", DEFAULTS),
    object("network", NETWORK),
    object("reconcile", RECONCILE),
    object("deletions", DELETIONS),
    object("api", API),
    objects("policy", RULE, 256).default("[]"),
];

static PATHS: &[Field] = &[
    Field::new("specs", Shape::List(PATH, 64)).default("[/etc/reconciler/specs.d]"),
    one("state", PATH).default("/var/lib/reconciler"),
    one("runtime", PATH).default("/run/reconciler"),
    one("logs", PATH).default("/var/log/reconciler"),
    one("socket", PATH).default("reconciler.sock in paths.runtime"),
];

static POOLS: &[Field] = &[
    objects("ids", POOL, 64).default("[{first: 1879048192, count: 262144000}]"),
    one("idsPerContainer", Type::Integer(1, 16_777_216)).default("65536"),
    Field::new("addresses", Shape::List(SUBNET, 64)).default("[10.254.0.0/16]"),
];

static NETWORK: &[Field] = &[
    one("hostAccess", Type::Boolean).default("false"),
    list("allow", TARGET),
    Field::new("deny", Shape::List(TARGET, 1024)).default("[169.254.169.254]"),
    Field::new("dns", Shape::List(HOST_ADDRESS, 16)).default("those of the host's resolv.conf"),
    one("mtu", Type::Integer(576, 65_535)).default("1500"),
];

static POOL: &[Field] = &[
    one("first", Type::Integer(65_536, 2_147_483_647)).needed(),
    one("count", Type::Integer(1, 2_147_483_647)).needed(),
];

static DEFAULTS: &[Field] = &[object("limits", DEFAULT_LIMITS), object("rlimits", RLIMITS)];

static DEFAULT_LIMITS: &[Field] = &[
    one("memory", MEMORY).default("none"),
    one("swap", SIZE).default("0"),
    one("cpu", CPU).default("none"),
    one("cpuWeight", Type::Integer(1, 10_000)).default("the kernel's, 100"),
    one("pids", Type::Integer(2, 4_194_304)).default("1024"),
];

static RECONCILE: &[Field] = &[
    one("resync", RESYNC).default("30s"),
    one("workers", Type::Integer(1, 256)).default("4"),
];

static DELETIONS: &[Field] = &[
    one("holdFrom", Type::Integer(1, 1_000_000)).default("3"),
    one("holdPercent", Type::Integer(0, 100)).default("50"),
];

static API: &[Field] = &[list("readGroups", GROUP), list("writeGroups", GROUP)];

static RULE: &[Field] = &[
    one("name", NAME).needed(),
    one("directory", PATH).default("any"),
    one("owner", Type::Integer(0, 2_147_483_647)).default("any"),
    objects("bindRoots", BIND_ROOT, 1024).default("[]"),
    Field::new("rootfsRoots", Shape::List(PATH_OR_ROOT, 1024))
        .default("all but /, /boot, /dev, /etc, /proc, /root itself, /run, /sys"),
    one("privileged", Type::Boolean).default("false"),
    one("hostUserNamespace", Type::Boolean).default("false"),
    one("hostNetwork", Type::Boolean).default("true"),
    Field::new("ports", Shape::List(PORTS, 1024)).default("[1-65535]"),
    objects("devices", DEVICE_RULE, 1024).default("[]"),
    Field::new("capabilities", Shape::List(CAPABILITY, 64))
        .default("[AUDIT_WRITE, MKNOD, NET_RAW]"),
    one("seccompUnconfined", Type::Boolean).default("false"),
    list("seccompRoots", PATH),
    Field::new("sysctls", Shape::List(SYSCTL_PATTERN, 1024)).default("[\"*\"]"),
    object("limits", CEILINGS),
];

static BIND_ROOT: &[Field] = &[
    one("path", PATH_OR_ROOT).needed(),
    one("writable", Type::Boolean).default("false"),
];

static DEVICE_RULE: &[Field] = &[
    one("path", DEVICE_PATH).needed(),
    one("access", ACCESS).default("rw"),
];

static CEILINGS: &[Field] = &[
    one("memory", MEMORY).default("none"),
    one("swap", SIZE).default("none"),
    one("memoryLow", SIZE).default("none"),
    one("cpu", CPU).default("none"),
    one("pids", Type::Integer(2, 4_194_304)).default("none"),
    one("disk", DISK_SIZE).default("none"),
];
