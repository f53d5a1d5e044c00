use crate::{Observed, Outcome, Step, StepError};
use specs::id::Key;

/// What to look at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Every container of this instance, wanted or not.
    Host,
    /// One container, all its lives.
    Container(Key),
}

/// A point on the kernel's `CLOCK_BOOTTIME`, in milliseconds, after which a call gives up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Deadline {
    /// Milliseconds since boot.
    pub at_ms: u64,
}

/// The host, or a world that behaves like one.
pub trait Driver: Send + Sync {
    /// Returns what the host says is there.
    ///
    /// *Guarantees:* infallible; what could not be read within the deadline is a gap. A key
    /// is left out of the result only when the listing was complete and the host holds
    /// nothing with our mark for it.
    fn observe(&self, scope: &Scope, deadline: Deadline) -> Observed;

    /// Does one step.
    ///
    /// *Guarantees:* doing a step twice equals doing it once; the step's precondition is
    /// checked again before anything is touched; nothing without our mark is touched; on
    /// error the half-done state is one that `observe` can describe.
    ///
    /// # Errors
    /// [`StepError`] says whether to try later, to plan anew, to wait for a named thing, or
    /// that a person must act.
    fn execute(&self, step: &Step, deadline: Deadline) -> Result<Outcome, StepError>;
}

/// A hint to look again; never a fact.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wake {
    /// Which container; none for all.
    pub key: Option<Key>,
    /// For the log only; no decision may rest on it.
    pub reason: WakeReason,
}

/// Why a driver thinks that somebody should look.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum WakeReason {
    /// A container's shim ended.
    ShimGone,
    /// A container's init ended.
    InitGone,
    /// A shim reported a change among its processes.
    Process,
    /// Something was written to a watched cgroup file, or the cgroup emptied.
    Cgroup,
    /// A mount table changed.
    Mount,
    /// A device, an address or a route of the host changed, or its packet filter.
    Network,
    /// Events were lost.
    Overflow,
}
