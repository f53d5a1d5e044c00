//! The built-in profile.
//!
//! What a program of today needs is allowed. What is known and dangerous answers `EPERM`,
//! unless the container has the capability that the kernel asks for anyway. What is unknown
//! answers `ENOSYS`, so that a C library falls back to an older call; `EPERM` would break it.

use std::collections::BTreeMap;

use super::{Action, Arm, Condition, Filter, Test, table};
use crate::caps;

const EPERM: Action = Action::Errno(1);
const EINVAL: Action = Action::Errno(22);
const ENOSYS: Action = Action::Errno(38);
const EAFNOSUPPORT: Action = Action::Errno(97);

/// Denied whatever the capabilities: they reach what no namespace separates, or have been
/// the way out of containers too often for what they give.
const DENIED: [&str; 20] = [
    "_sysctl",
    "add_key",
    "io_uring_enter",
    "io_uring_register",
    "io_uring_setup",
    "kexec_file_load",
    "kexec_load",
    "keyctl",
    "lsm_set_self_attr",
    "map_shadow_stack",
    "nfsservctl",
    "pivot_root",
    "request_key",
    "swapoff",
    "swapon",
    "sysfs",
    "uselib",
    "userfaultfd",
    "ustat",
    "modify_ldt",
];

/// Denied unless the container has one of the capabilities.
const BY_CAPABILITY: [(&str, &[&str]); 54] = [
    ("acct", &["SYS_PACCT"]),
    ("bpf", &["SYS_ADMIN", "BPF"]),
    ("chroot", &["SYS_CHROOT"]),
    ("clock_settime", &["SYS_TIME"]),
    ("delete_module", &["SYS_MODULE"]),
    ("fanotify_init", &["SYS_ADMIN"]),
    ("file_setattr", &["SYS_ADMIN"]),
    ("finit_module", &["SYS_MODULE"]),
    ("fsconfig", &["SYS_ADMIN"]),
    ("fsmount", &["SYS_ADMIN"]),
    ("fsopen", &["SYS_ADMIN"]),
    ("fspick", &["SYS_ADMIN"]),
    ("get_mempolicy", &["SYS_NICE"]),
    ("init_module", &["SYS_MODULE"]),
    ("ioperm", &["SYS_RAWIO"]),
    ("iopl", &["SYS_RAWIO"]),
    ("kcmp", &["SYS_PTRACE"]),
    ("listmount", &["SYS_ADMIN"]),
    ("lookup_dcookie", &["SYS_ADMIN"]),
    ("mbind", &["SYS_NICE"]),
    ("migrate_pages", &["SYS_NICE"]),
    ("mount", &["SYS_ADMIN"]),
    ("mount_setattr", &["SYS_ADMIN"]),
    ("move_mount", &["SYS_ADMIN"]),
    ("move_pages", &["SYS_NICE"]),
    ("open_by_handle_at", &["DAC_READ_SEARCH"]),
    ("open_tree", &["SYS_ADMIN"]),
    ("open_tree_attr", &["SYS_ADMIN"]),
    ("perf_event_open", &["SYS_ADMIN", "PERFMON"]),
    ("pidfd_getfd", &["SYS_PTRACE"]),
    ("process_madvise", &["SYS_PTRACE"]),
    ("process_mrelease", &["SYS_PTRACE"]),
    ("process_vm_readv", &["SYS_PTRACE"]),
    ("process_vm_writev", &["SYS_PTRACE"]),
    ("quotactl", &["SYS_ADMIN"]),
    ("quotactl_fd", &["SYS_ADMIN"]),
    ("reboot", &["SYS_BOOT"]),
    ("set_mempolicy", &["SYS_NICE"]),
    ("set_mempolicy_home_node", &["SYS_NICE"]),
    ("setdomainname", &["SYS_ADMIN"]),
    ("sethostname", &["SYS_ADMIN"]),
    ("setns", &["SYS_ADMIN"]),
    ("settimeofday", &["SYS_TIME"]),
    ("statmount", &["SYS_ADMIN"]),
    ("syslog", &["SYS_ADMIN", "SYSLOG"]),
    ("umount2", &["SYS_ADMIN"]),
    ("unshare", &["SYS_ADMIN"]),
    ("vhangup", &["SYS_TTY_CONFIG"]),
    // By argument, below.
    ("clone", &["SYS_ADMIN"]),
    ("clone3", &["SYS_ADMIN"]),
    ("ioctl", &["SYS_ADMIN"]),
    ("personality", &["SYS_ADMIN"]),
    ("socket", &[]),
    ("remap_file_pages", &[]),
];

/// `CLONE_NEW*` as `clone(2)` takes them; the time namespace only goes by `clone3`.
const NAMESPACES: u64 = 0x7e02_0000;
const TIOCSTI: u64 = 0x5412;
const TIOCLINUX: u64 = 0x541c;
/// Plain, `UNAME26`, and the three that ask or combine with Linux32.
const PERSONALITIES: [u64; 5] = [0, 0x8, 0x2_0000, 0x2_0008, 0xffff_ffff];

fn always(action: Action) -> Vec<Arm> {
    vec![Arm {
        conditions: Vec::new(),
        action,
    }]
}

fn when(conditions: &[(u8, Test)], action: Action) -> Arm {
    let conditions = conditions.iter().map(|(argument, test)| Condition {
        argument: *argument,
        test: *test,
    });
    Arm {
        conditions: conditions.collect(),
        action,
    }
}

/// Returns the profile for a container with these capabilities.
pub(crate) fn default(capabilities: u64) -> Filter {
    let has = |names: &[&str]| {
        names
            .iter()
            .filter_map(|name| caps::bit(name))
            .any(|bit| capabilities & bit != 0)
    };
    let mut calls = BTreeMap::new();
    for (name, number) in table::all() {
        let by_capability = BY_CAPABILITY.iter().find(|(known, _)| *known == name);
        let arms = match by_capability {
            _ if DENIED.contains(&name) => always(EPERM),
            Some((_, names)) if has(names) => always(Action::Allow),
            Some((_, names)) => by_argument(name, has(&["AUDIT_WRITE"]), names),
            None => always(Action::Allow),
        };
        calls.insert(number, arms);
    }
    Filter {
        default: ENOSYS,
        calls,
    }
}

fn by_argument(name: &str, can_audit: bool, names: &[&str]) -> Vec<Arm> {
    let low = |is| Test::Masked {
        mask: 0xffff_ffff,
        is,
    };
    match name {
        "clone" => vec![
            when(
                &[(
                    0,
                    Test::Masked {
                        mask: NAMESPACES,
                        is: 0,
                    },
                )],
                Action::Allow,
            ),
            when(&[], EPERM),
        ],
        // Its flags lie in memory, where a filter can't look: the C library falls back.
        "clone3" => always(ENOSYS),
        "ioctl" => vec![
            when(&[(1, low(TIOCSTI))], EPERM),
            when(&[(1, low(TIOCLINUX))], EPERM),
            when(&[], Action::Allow),
        ],
        "personality" => {
            let mut arms: Vec<Arm> = PERSONALITIES
                .iter()
                .map(|is| when(&[(0, low(*is))], Action::Allow))
                .collect();
            arms.push(when(&[], EPERM));
            arms
        }
        "socket" => {
            // AF_ALG (38) and AF_VSOCK (40): kernel attack surface, and a way to the host
            // that no network namespace closes.
            let mut arms = vec![
                when(&[(0, low(38))], EAFNOSUPPORT),
                when(&[(0, low(40))], EAFNOSUPPORT),
            ];
            if !can_audit {
                arms.push(when(&[(0, low(16)), (2, low(9))], EINVAL));
            }
            arms.push(when(&[], Action::Allow));
            arms
        }
        _ if names.is_empty() => always(Action::Allow),
        _ => always(EPERM),
    }
}

#[cfg(test)]
mod tests {
    use super::super::compile::tests::decide;
    use super::super::compile::{compile, tests};
    use super::*;

    fn check(capabilities: &[&str], call: &str, args: [u64; 6], want: Action) {
        let bits = capabilities
            .iter()
            .filter_map(|name| caps::bit(name))
            .fold(0, |a, b| a | b);
        let program = compile(&default(bits)).unwrap();
        let number = table::number(call).unwrap();
        let got = decide(&program, tests::ARCH, number, args);
        assert_eq!(got, want.value(), "{call} {args:x?} with {capabilities:?}");
    }

    #[test]
    fn a_container_cannot_make_namespaces() {
        check(&[], "clone", [0x11, 0, 0, 0, 0, 0], Action::Allow);
        for bit in [
            0x2_0000,
            0x200_0000,
            0x400_0000,
            0x800_0000,
            0x1000_0000,
            0x2000_0000,
        ] {
            check(&[], "clone", [bit | 0x11, 0, 0, 0, 0, 0], EPERM);
            check(&["SYS_ADMIN"], "clone", [bit, 0, 0, 0, 0, 0], Action::Allow);
        }
        check(&[], "clone", [0x4000_0000, 0, 0, 0, 0, 0], EPERM);
        check(&[], "clone3", [0; 6], ENOSYS);
        check(&[], "unshare", [0; 6], EPERM);
        check(&[], "setns", [0; 6], EPERM);
    }

    #[test]
    fn some_socket_families_are_not_there() {
        for family in [1, 2, 10, 16, 17, 39, 41] {
            check(&[], "socket", [family, 1, 0, 0, 0, 0], Action::Allow);
        }
        check(&[], "socket", [38, 1, 0, 0, 0, 0], EAFNOSUPPORT);
        check(&["SYS_ADMIN"], "socket", [40, 1, 0, 0, 0, 0], EAFNOSUPPORT);
        // The upper half of a register is no way around an int argument.
        check(&[], "socket", [1 << 32 | 38, 1, 0, 0, 0, 0], EAFNOSUPPORT);
        check(&[], "socket", [16, 3, 9, 0, 0, 0], EINVAL);
        check(
            &["AUDIT_WRITE"],
            "socket",
            [16, 3, 9, 0, 0, 0],
            Action::Allow,
        );
    }

    #[test]
    fn a_terminal_cannot_be_typed_into() {
        check(&[], "ioctl", [0, TIOCSTI, 0, 0, 0, 0], EPERM);
        check(&[], "ioctl", [0, 1 << 32 | TIOCSTI, 0, 0, 0, 0], EPERM);
        check(&[], "ioctl", [0, 0x5401, 0, 0, 0, 0], Action::Allow);
    }

    #[test]
    fn capabilities_open_their_calls_and_no_others() {
        for (name, names) in BY_CAPABILITY {
            let is_plain = !matches!(name, "clone" | "clone3" | "ioctl" | "personality");
            if let Some(first) = names.first()
                && is_plain
                && table::number(name).is_some()
            {
                check(&[], name, [0; 6], EPERM);
                check(&[first], name, [0; 6], Action::Allow);
                check(&["NET_RAW"], name, [0; 6], EPERM);
            }
        }
        for name in DENIED.iter().filter(|name| table::number(name).is_some()) {
            check(
                &["SYS_ADMIN", "SYS_MODULE", "SYS_BOOT"],
                name,
                [0; 6],
                EPERM,
            );
        }
    }

    #[test]
    fn every_name_of_the_profile_is_a_call() {
        for name in BY_CAPABILITY.iter().map(|(name, _)| name).chain(&DENIED) {
            if cfg!(target_arch = "x86_64") {
                assert!(table::number(name).is_some(), "{name}");
            }
        }
    }

    #[test]
    fn what_programs_need_is_allowed() {
        for name in [
            "read", "openat", "execve", "futex", "mmap", "ptrace", "rseq", "prctl",
        ] {
            check(&[], name, [0; 6], Action::Allow);
        }
    }
}
