//! Inputs and effects of the machine.
//!
//! ```text
//!   Input  ──▶  Machine  ──▶  Effect
//!     ▲                          │
//!     └──────────  shell  ◀──────┘     reads clocks, blocks, writes, draws jitter
//! ```

use alloc::boxed::Box;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;

use driver_api::{Observed, Outcome, Scope, Step, StepError};
use specs::desired::Desired;
use specs::event::{KillsTold, Severity};
use specs::id::{Generation, Incarnation, Key, ProcessName};
use specs::status::Status;
use specs::units::Millis;

/// Both clocks, read by the shell at the moment of an input.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Now {
    /// `CLOCK_BOOTTIME`, milliseconds. Decisions rest on this one.
    pub boot_ms: u64,
    /// Wall clock, milliseconds since the epoch. For display only.
    pub wall_ms: u64,
}

/// Pairs an effect with the input that answers it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ticket(pub u64);

/// What goes in.
#[derive(Clone, Debug)]
pub enum Input {
    /// Intent as the store has it, durable: only keys that changed.
    Intents(Vec<(Key, Intent)>),
    /// What may be destroyed; see [`Mode`].
    Mode(Mode),
    /// Look again: one key, or all.
    Woke {
        /// Which; none for all.
        key: Option<Key>,
        /// Why; for events and logs, never for a decision.
        cause: Cause,
    },
    /// Answer to [`Effect::Observe`].
    Observed(Ticket, Box<Observed>),
    /// Answer to [`Effect::Execute`].
    Executed(Ticket, Result<Outcome, StepError>),
    /// Answer to [`Effect::Append`]: the record is durable, or why not.
    Appended(Ticket, Result<(), String>),
    /// Answer to [`Effect::ScheduleRetry`]: the delay that was drawn.
    RetryAt {
        /// Which container.
        key: Key,
        /// Which of its processes; none for the container itself.
        process: Option<ProcessName>,
        /// How long from now.
        delay: Millis,
    },
    /// Time has passed; see `Machine::poll_timeout`.
    Tick,
}

/// What the store wants for one key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Intent {
    /// It shall be like this.
    Present(Box<Wanted>),
    /// It was wanted and is not any more: clean up, then say [`Record::Cleaned`].
    Deleted {
        /// The last intent, for graceful stopping; none if it was lost.
        last: Option<Arc<Desired>>,
    },
    /// The store holds nothing of it (any more).
    Gone,
}

/// A present intent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// The resolved spec, overrides applied.
    pub desired: Arc<Desired>,
    /// The newest text was refused while this, older one stands: the diagnostic in one line.
    pub refusal: Option<String>,
    /// A person's standing order in words.
    pub override_note: Option<String>,
    /// What of it the policy grants no more, in one line: what runs is left as it is, and is
    /// not made again.
    pub withdrawn: Option<String>,
}

/// What may be destroyed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mode {
    /// Lives may be ended and objects removed at all. False while the store is suspect.
    pub destroy: bool,
    /// Objects that nobody wants may be pruned. True only once every source was listed whole.
    pub prune: bool,
}

/// Why a key was queued.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Cause {
    /// The daemon began.
    Boot,
    /// Its intent changed.
    Intent,
    /// The driver hinted.
    Wake,
    /// A round ended and the next may have work.
    Progress,
    /// A retry is due.
    Retry,
    /// Nothing happened for long.
    Resync,
    /// A person asked.
    Person,
    /// A container that it waits for has changed.
    Dependency,
}

/// What comes out.
#[derive(Clone, Debug, PartialEq)]
pub enum Effect {
    /// Ask the driver. Answer: [`Input::Observed`].
    Observe {
        /// To be given back.
        ticket: Ticket,
        /// What to look at.
        scope: Scope,
    },
    /// Let the driver do a step. Answer: [`Input::Executed`].
    Execute {
        /// To be given back.
        ticket: Ticket,
        /// What to do.
        step: Box<Step>,
    },
    /// Write a record and make it durable. Answer: [`Input::Appended`].
    Append {
        /// To be given back.
        ticket: Ticket,
        /// What to write.
        record: Record,
    },
    /// Draw a delay with jitter. Answer: [`Input::RetryAt`].
    ScheduleRetry {
        /// Which container.
        key: Key,
        /// Which of its processes; none for the container itself.
        process: Option<ProcessName>,
        /// Failures in a row, the first is 1.
        attempt: u32,
        /// Delay after the first failure.
        initial: Millis,
        /// Longest delay.
        max: Millis,
    },
    /// Tell people.
    Publish {
        /// The status, if it differs from the last one published.
        status: Option<Box<Status>>,
        /// What happened, in order.
        events: Vec<NewEvent>,
    },
    /// The key is gone from host and intent: its status can be dropped.
    Forget(Key),
}

/// What the store remembers of our doing, written ahead.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Record {
    /// Objects of this life may exist from now on.
    LifeBegins {
        /// Whose.
        key: Key,
        /// Which life.
        incarnation: Incarnation,
        /// Made from.
        generation: Generation,
    },
    /// Every object of this life was seen to be absent. Also said of a life whose
    /// [`Record::LifeBegins`] failed, since it may be durable all the same.
    LifeEnded {
        /// Whose.
        key: Key,
        /// Which life.
        incarnation: Incarnation,
    },
    /// A deleted key has nothing left on the host. The shell drops it when the key was
    /// accepted anew meanwhile.
    Cleaned {
        /// Which.
        key: Key,
    },
}

/// An event before the store has given it a number and a time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewEvent {
    /// Which container.
    pub key: Option<Key>,
    /// Version of the intent it speaks of.
    pub generation: Generation,
    /// Whether a person should look.
    pub severity: Severity,
    /// Stable CamelCase word.
    pub reason: &'static str,
    /// A sentence.
    pub message: String,
    /// How far it tells the kills for memory in a life: made durable with it, so that each is
    /// told once.
    pub kills_told: Option<(Incarnation, KillsTold)>,
}
