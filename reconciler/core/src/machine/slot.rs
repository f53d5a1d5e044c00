//! What the machine knows of one key.

use alloc::boxed::Box;
use alloc::collections::{BTreeMap, BTreeSet, VecDeque};
use alloc::string::{String, ToString};
use alloc::sync::Arc;
use alloc::vec::Vec;

use driver_api::{ContainerObserved, Life, ProcessId, ProcessObserved};
use specs::desired::{Desired, Run};
use specs::event::KillsTold;
use specs::id::{Generation, Incarnation, ProcessName};
use specs::status::{Failure, Phase, Status};

use crate::backoff::{Held, Looks, Repeats, Respawns, Timer};
use crate::io::{Cause, Intent, Mode, NewEvent, Record, Ticket, Wanted};
use crate::plan::shim::is_silent;
use crate::plan::{Hold, PlanPolicy, Planned, StepKey};

/// A supervisor that has not answered for so long hangs: it answers within milliseconds, and
/// to be replaced costs its container nothing.
pub(super) const HUNG_MS: u64 = 15_000;

/// One key. Written by the machine only.
#[derive(Debug)]
pub(super) struct Slot {
    pub(super) intent: Intent,
    /// The intent before this one.
    pub(super) former: Option<Arc<Desired>>,
    /// Newest generation that was seen settled.
    pub(super) settled: Generation,
    /// What is wanted changed since it was last seen settled, perhaps under one generation:
    /// an order, or what fills the gaps of a spec.
    pub(super) edited: bool,
    /// The deletion is done and told to the store.
    pub(super) cleaned: bool,
    /// Lives with a durable record.
    pub(super) recorded: BTreeMap<Incarnation, Generation>,
    /// A life that was recorded and of which nothing was seen yet.
    pub(super) begun: Option<Incarnation>,
    pub(super) view: Option<View>,
    pub(super) activity: Activity,
    /// Woken while in hand.
    pub(super) again: Option<Cause>,
    /// Intent or mode changed since the stage under way was planned: no more of it.
    pub(super) outdated: bool,
    /// The newest ticket given out, to whomever, when this key last asked or was answered: a
    /// look at the whole host that was asked for before says nothing new of it.
    pub(super) last_ticket: Ticket,
    /// Supervisors that do not answer, and since when that was seen, milliseconds since boot.
    pub(super) silent: BTreeMap<Incarnation, (ProcessId, u64)>,
    pub(super) tries: Tries,
    pub(super) looks: Looks,
    pub(super) status: Option<Status>,
    pub(super) memory: Memory,
    /// How far kills for memory were told, by life.
    pub(super) kills: BTreeMap<Incarnation, KillsTold>,
    /// To be published with the next status.
    pub(super) events: Vec<NewEvent>,
    /// A start of it waits for another container.
    pub(super) waits: bool,
    /// It counts for the boot report until the first plan of what somebody wants is made.
    pub(super) boot: bool,
}

/// The last look.
#[derive(Clone, Debug, Default)]
pub(super) struct View {
    pub(super) observed: ContainerObserved,
    pub(super) complete: bool,
    /// When it was asked for, milliseconds since boot.
    pub(super) at_ms: u64,
    /// No plan was made from it yet.
    pub(super) fresh: bool,
}

/// Where a round stands.
///
/// ```text
///  Idle ─▶ Observing ─▶ Recording ─▶ Executing ─▶ Idle
///               └───────────┴─▶ Idle
/// ```
#[derive(Debug, Default)]
pub(super) enum Activity {
    /// In no round.
    #[default]
    Idle,
    /// The driver was asked.
    Observing(Ticket),
    /// The store was asked.
    Recording {
        ticket: Ticket,
        record: Record,
        rest: VecDeque<Record>,
    },
    /// The driver does a step.
    Executing {
        ticket: Ticket,
        planned: Box<Planned>,
        rest: VecDeque<Planned>,
        /// Lives with a failed step that others wait for.
        shut: BTreeSet<Incarnation>,
    },
}

/// Failures and delays.
#[derive(Debug, Default)]
pub(super) struct Tries {
    /// Failures in a row, over all steps.
    pub(super) attempt: u32,
    /// Ends of inits in a row.
    pub(super) deaths: u32,
    pub(super) retry: Option<Timer>,
    pub(super) held: BTreeMap<StepKey, Held>,
    /// No new life until the timer is over.
    pub(super) new_life: bool,
    /// A record could not be written; tried again when the timer is over.
    pub(super) unrecorded: bool,
    /// No new life until then: what failed for the last one only a person can mend.
    pub(super) terminal_until_ms: Option<u64>,
    /// The core itself broke at this key: nothing is begun until then.
    pub(super) shunned_until_ms: Option<u64>,
    pub(super) last_error: Option<Failure>,
    pub(super) respawns: Respawns,
    pub(super) repeats: Repeats,
    /// Stale answers in a row.
    pub(super) stale: u32,
}

/// What was told already and what was last seen: for events only, never for a decision.
#[derive(Debug, Default)]
pub(super) struct Memory {
    pub(super) looked: bool,
    pub(super) processes: BTreeMap<(Incarnation, ProcessName), ProcessObserved>,
    pub(super) inits: BTreeMap<Incarnation, ProcessId>,
    /// Lives with a kill for memory that fits no process, and since when that was seen,
    /// milliseconds since boot.
    pub(super) nobodys: BTreeMap<Incarnation, u64>,
    /// Lives whose loopback link was seen up.
    pub(super) loopback: BTreeSet<Incarnation>,
    /// When each life was first seen to live, milliseconds since boot.
    pub(super) alive_ms: BTreeMap<Incarnation, u64>,
    /// Lives whose init was killed on our word.
    pub(super) killed: BTreeSet<Incarnation>,
    /// Lives whose init ended by itself.
    pub(super) died: BTreeSet<Incarnation>,
    /// Why the next life follows another.
    pub(super) anew: Option<String>,
    pub(super) blocked: BTreeMap<String, u32>,
    pub(super) phase: Option<Phase>,
    pub(super) settled: Generation,
    pub(super) pruned: bool,
    pub(super) contended: BTreeSet<String>,
}

impl Slot {
    pub(super) fn new(intent: Intent) -> Self {
        Self {
            intent,
            former: None,
            settled: Generation(0),
            edited: false,
            cleaned: false,
            recorded: BTreeMap::new(),
            begun: None,
            view: None,
            activity: Activity::Idle,
            again: None,
            outdated: false,
            last_ticket: Ticket(0),
            silent: BTreeMap::new(),
            tries: Tries::default(),
            looks: Looks::default(),
            status: None,
            memory: Memory::default(),
            kills: BTreeMap::new(),
            events: Vec::new(),
            waits: false,
            boot: false,
        }
    }

    pub(super) fn wanted(&self) -> Option<&Wanted> {
        match &self.intent {
            Intent::Present(wanted) => Some(wanted),
            Intent::Deleted { .. } | Intent::Gone => None,
        }
    }

    pub(super) fn desired(&self) -> Option<&Arc<Desired>> {
        match &self.intent {
            Intent::Present(wanted) => Some(&wanted.desired),
            Intent::Deleted { last } => last.as_ref(),
            Intent::Gone => None,
        }
    }

    /// Returns the generation that is spoken of.
    pub(super) fn generation(&self) -> Generation {
        self.desired().map_or_else(
            || self.recorded.values().max().copied().unwrap_or_default(),
            |desired| desired.generation,
        )
    }

    pub(super) fn is_idle(&self) -> bool {
        matches!(self.activity, Activity::Idle)
    }

    /// Returns whether a new life may be wanted, so that one just begun is kept for it.
    pub(super) fn wants_life(&self) -> bool {
        self.wanted()
            .is_some_and(|wanted| wanted.desired.run == Run::Running && !wanted.desired.suspend)
    }

    /// Returns whether nothing of this key is left anywhere.
    pub(super) fn is_clear(&self) -> bool {
        let seen = |view: &View| view.complete && view.observed.lives.is_empty();
        self.recorded.is_empty() && self.view.as_ref().is_some_and(seen)
    }

    pub(super) fn policy(&self, mode: Mode, next: Incarnation, now_ms: u64) -> PlanPolicy {
        let timer = self.tries.retry.is_some();
        let hold = Hold {
            new_life: self.tries.terminal_until_ms.is_some() || (timer && self.tries.new_life),
            processes: self.held_processes(now_ms),
            steps: self
                .tries
                .held
                .iter()
                .map(|(step, held)| (step.clone(), held.words()))
                .collect(),
        };
        PlanPolicy {
            mode,
            next_incarnation: self.begun.unwrap_or(next),
            settled: self.settled,
            edited: self.edited,
            hung: self.hung(now_ms),
            former: self.former.clone(),
            unmet: Vec::new(),
            hold,
        }
    }

    /// Keeps since when each supervisor has not answered.
    pub(super) fn count_silence(&mut self, now_ms: u64) {
        let lives = self.view.iter().flat_map(|view| &view.observed.lives);
        let silent = lives.filter(|(_, life)| is_silent(life));
        let of = |(incarnation, life): (&Incarnation, &Life)| {
            let id = life.shim.known()?.id;
            let before = self.silent.get(incarnation).filter(|(was, _)| *was == id);
            Some((
                *incarnation,
                (id, before.map_or(now_ms, |(_, since)| *since)),
            ))
        };
        self.silent = silent.filter_map(of).collect();
    }

    fn hung(&self, now_ms: u64) -> BTreeSet<Incarnation> {
        let long = |since: u64| now_ms.saturating_sub(since) >= HUNG_MS;
        let lives = self.silent.iter().filter(|(_, (_, since))| long(*since));
        lives.map(|(incarnation, _)| *incarnation).collect()
    }

    fn held_processes(&self, now_ms: u64) -> BTreeSet<ProcessName> {
        let lives = self
            .view
            .iter()
            .flat_map(|view| view.observed.lives.values());
        let seen = lives.filter_map(|life| life.processes.known()).flatten();
        seen.filter(|(name, seen)| {
            let respawn = self.tries.respawns.get(*name);
            respawn.is_some_and(|respawn| respawn.is_held(seen, now_ms))
        })
        .map(|(name, _)| name.clone())
        .collect()
    }

    /// Forgets failures and delays: an edit, or a person's word.
    pub(super) fn forgive(&mut self, now_ms: u64) {
        let mut respawns = core::mem::take(&mut self.tries.respawns);
        for (incarnation, life) in self.view.iter().flat_map(|view| &view.observed.lives) {
            for (name, seen) in life.processes.known().into_iter().flatten() {
                respawns
                    .entry(name.clone())
                    .or_default()
                    .forgive(*incarnation, seen, now_ms);
            }
        }
        self.tries = Tries {
            respawns,
            ..Tries::default()
        };
    }

    pub(super) fn tell(&mut self, event: NewEvent) {
        self.events.push(event);
    }
}

impl Held {
    fn words(&self) -> String {
        match &self.on {
            Some(on) => alloc::format!("{} (waits on {on})", self.failure.cause),
            None => self.failure.cause.to_string(),
        }
    }
}
