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
