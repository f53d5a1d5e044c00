//! System call filters: the built-in profile and OCI ones, as classic BPF.

mod compile;
mod oci;
mod profile;
mod table;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use driver_api::StepError;
use specs::desired::{Seccomp, Security};
use specs::id::Digest;

use crate::error::terminal;

/// What becomes of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    /// It is made.
    Allow,
    /// It is made and logged.
    Log,
    /// It fails with this `errno`.
    Errno(u16),
    /// A tracer decides; without one it fails with `ENOSYS`.
    Trace(u16),
    /// The thread gets `SIGSYS`.
    Trap,
    /// The thread is killed.
    KillThread,
    /// The process is killed.
    KillProcess,
}

impl Action {
    /// Returns the value that a filter returns (`seccomp(2)`).
    fn value(self) -> u32 {
        match self {
            Self::Allow => 0x7fff_0000,
            Self::Log => 0x7ffc_0000,
            Self::Trace(with) => 0x7ff0_0000 | u32::from(with),
            Self::Errno(errno) => 0x0005_0000 | u32::from(errno),
            Self::Trap => 0x0003_0000,
            Self::KillThread => 0,
            Self::KillProcess => 0x8000_0000,
        }
    }
}

/// How an argument is compared, as unsigned 64-bit numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Test {
    /// Equal.
    Is(u64),
    /// Not equal.
    IsNot(u64),
    /// Less.
    Below(u64),
    /// Less or equal.
    AtMost(u64),
    /// Greater.
    Above(u64),
    /// Greater or equal.
    AtLeast(u64),
    /// Equal after masking.
    Masked {
        /// The bits that count.
        mask: u64,
        /// What they shall be.
        is: u64,
    },
}

/// One condition on one argument.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Condition {
    /// Which argument, 0 to 5.
    pub(crate) argument: u8,
    /// What it must be.
    pub(crate) test: Test,
}

/// What becomes of a call when all conditions hold. The first that holds decides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Arm {
    /// All of these.
    pub(crate) conditions: Vec<Condition>,
    /// What then.
    pub(crate) action: Action,
}

/// A whole filter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Filter {
    /// What becomes of calls that no arm takes, and of calls of a foreign architecture.
    pub(crate) default: Action,
    /// Arms by number of the call.
    pub(crate) calls: BTreeMap<u32, Vec<Arm>>,
}

/// Compiled filters by profile and capabilities: pure functions of both.
#[derive(Debug, Default)]
pub(crate) struct Filters {
    compiled: Mutex<BTreeMap<(Digest, u64), Program>>,
}

/// A compiled filter, as bytes.
type Program = Arc<Vec<u8>>;

/// Most compiled filters that are kept.
const FILTERS_MAX: usize = 256;

impl Filters {
    /// Returns the programs to install, in order; none for an unconfined container.
    ///
    /// # Errors
    /// When a profile cannot be used as written.
    pub(crate) fn programs(
        &self,
        security: &Security,
        capabilities: u64,
    ) -> Result<Vec<Vec<u8>>, StepError> {
        let (text, path) = match &security.seccomp {
            _ if security.privileged => return Ok(Vec::new()),
            Seccomp::Unconfined => return Ok(Vec::new()),
            Seccomp::Default => ("", "default"),
            Seccomp::Profile { path, json } => (json.as_str(), path.as_str()),
        };
        let key = (Digest::of(text.as_bytes()), capabilities);
        let kept = self
            .compiled
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get(&key)
            .cloned();
        if let Some(kept) = kept {
            return Ok(vec![kept.to_vec()]);
        }
        let refuse = |cause: String| {
            terminal(
                format!("compile the seccomp profile {path}"),
                cause,
                "correct the profile, or use `default`",
            )
        };
        let filter = match &security.seccomp {
            Seccomp::Profile { json, .. } => {
                oci::parse(json, capabilities).map_err(|err| refuse(crate::error::words(&err)))?
            }
            Seccomp::Default | Seccomp::Unconfined => profile::default(capabilities),
        };
        let program = compile::compile(&filter).map_err(|err| refuse(err.to_string()))?;
        let bytes = Arc::new(compile::bytes(&program));
        let mut compiled = self.compiled.lock().unwrap_or_else(PoisonError::into_inner);
        if compiled.len() >= FILTERS_MAX {
            compiled.clear();
        }
        compiled.insert(key, Arc::clone(&bytes));
        Ok(vec![bytes.to_vec()])
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::compile::compile;
    use super::compile::tests::{ARCH, decide};
    use super::*;
    use crate::sys;

    /// Does something in a thread whose calls are filtered, and ends the thread.
    pub(crate) fn under<T: Send + 'static>(
        filter: &Filter,
        act: impl FnOnce() -> T + Send + 'static,
    ) -> T {
        let program = compile(filter).unwrap();
        let thread = std::thread::spawn(move || {
            rustix::thread::set_no_new_privs(true).unwrap();
            sys::seccomp::install(&program).unwrap();
            act()
        });
        thread.join().unwrap()
    }

    /// Returns a filter that lets everything through but these calls.
    pub(crate) fn denying(names: &[&str], errno: u16) -> Filter {
        let arm = Arm {
            conditions: Vec::new(),
            action: Action::Errno(errno),
        };
        let numbers = names.iter().filter_map(|name| table::number(name));
        let calls = numbers.map(|number| (number, vec![arm.clone()])).collect();
        Filter {
            default: Action::Allow,
            calls,
        }
    }

    /// Calls that do no harm when they get through with these arguments: they name no
    /// memory, no descriptor and no process that exists.
    const HARMLESS: [(&str, [u64; 6]); 22] = [
        ("getpid", [0; 6]),
        ("read", [u64::MAX, 0, 0, 0, 0, 0]),
        ("openat", [u64::MAX, 0, 0, 0, 0, 0]),
        ("close", [u64::MAX, 0, 0, 0, 0, 0]),
        ("mount", [0; 6]),
        ("umount2", [0; 6]),
        ("bpf", [u64::MAX, 0, 0, 0, 0, 0]),
        ("setns", [u64::MAX, 0, 0, 0, 0, 0]),
        ("unshare", [u64::MAX, 0, 0, 0, 0, 0]),
        ("clone", [0x1000_0000 | 0x1_0000, 0, 0, 0, 0, 0]),
        ("clone", [0x4000_0000 | 0x1_0000, 0, 0, 0, 0, 0]),
        ("clone3", [0; 6]),
        ("keyctl", [u64::MAX, 0, 0, 0, 0, 0]),
        ("init_module", [0; 6]),
        ("reboot", [0; 6]),
        ("socket", [38, 5, 0, 0, 0, 0]),
        ("socket", [40, 1, 0, 0, 0, 0]),
        ("socket", [16, 3, 9, 0, 0, 0]),
        ("socket", [9999, 3, 9, 0, 0, 0]),
        ("personality", [0xffff_ffff, 0, 0, 0, 0, 0]),
        ("personality", [0x40_0000, 0, 0, 0, 0, 0]),
        ("ioctl", [u64::MAX, 0x5412, 0, 0, 0, 0]),
    ];

    #[test]
    fn the_kernel_decides_as_the_profile_says() {
        let filter = profile::default(0);
        let program = compile(&filter).unwrap();
        let got: Vec<Option<i32>> = under(&filter, || {
            let number = |name: &str| i64::from(table::number(name).unwrap());
            HARMLESS
                .iter()
                .map(|(name, args)| sys::seccomp::try_call(number(name), *args))
                .collect()
        });
        let mut denied = 0;
        for ((name, args), got) in HARMLESS.iter().zip(got) {
            let meant = decide(&program, ARCH, table::number(name).unwrap(), *args);
            if meant == Action::Allow.value() {
                // Whatever the kernel itself says of such arguments, it was not the filter.
                assert!(
                    !matches!(got, Some(libc::EPERM | libc::ENOSYS)),
                    "{name}: {got:?}"
                );
            } else {
                denied += 1;
                let errno = got.and_then(|errno| u16::try_from(errno).ok()).unwrap();
                assert_eq!(Action::Errno(errno).value(), meant, "{name} {args:x?}");
            }
        }
        assert_eq!(denied, 16);
    }

    #[test]
    fn what_is_unknown_is_not_implemented() {
        let got = under(&profile::default(u64::MAX), || {
            sys::seccomp::try_call(2000, [0; 6])
        });
        assert_eq!(got, Some(libc::ENOSYS));
    }

    #[test]
    fn ordinary_programs_run_under_the_profile() {
        let status = under(&profile::default(0), || {
            // Inherited over fork and exec; a shell pipeline forks, execs, reads and waits.
            std::process::Command::new("/bin/busybox")
                .args(["sh", "-c", "echo x | grep -q x && sleep 0 && test -d /proc"])
                .status()
        });
        assert!(status.unwrap().success());
    }

    #[test]
    fn programs_are_made_once_for_each_profile_and_capabilities() {
        let filters = Filters::default();
        let mut security = specs_security();
        let one = filters.programs(&security, 1).unwrap();
        assert_eq!(filters.programs(&security, 1).unwrap(), one);
        assert_ne!(filters.programs(&security, u64::MAX).unwrap(), one);
        assert_eq!(filters.compiled.lock().unwrap().len(), 2);
        security.seccomp = Seccomp::Unconfined;
        assert!(filters.programs(&security, 1).unwrap().is_empty());
    }

    fn specs_security() -> Security {
        Security {
            user_namespace: specs::desired::UserNamespace::Host,
            capabilities: Default::default(),
            seccomp: Seccomp::Default,
            no_new_privileges: true,
            privileged: false,
            devices: Vec::new(),
            sysctls: BTreeMap::new(),
            read_only_paths: Vec::new(),
            masked_paths: Vec::new(),
        }
    }
}
