//! The daemon as a value: inputs in, effects out.
//!
//! The shell reads the clocks, calls [`Machine::input`], then drains
//! [`Machine::poll_effect`] until it is empty, and sends [`Input::Tick`] when
//! [`Machine::poll_timeout`] has come.
//!
//! Order at a start: [`Machine::new`] with what the store holds, [`Input::Mode`],
//! [`Input::Intents`] with every head, [`Input::Woke`] with [`Cause::Boot`]. Before that
//! last one nothing is looked at.
//!
//! ```text
//!            ┌─────────── due ◀── hint, edit, retry, resync ───────────┐
//!            ▼                                                         │
//!  queue ─▶ observe ─▶ records ─▶ plan ─▶ first stage, step by step ─▶ again
//!                                   └─▶ nothing to do: status, sleep ──┘
//! ```
//!
//! *Laws.* One round at a time for a key; rounds of different keys do not wait for each
//! other beyond the bound on how many are in hand. No step on a life before its
//! [`crate::io::Record::LifeBegins`] is durable; no [`crate::io::Record::LifeEnded`] before
//! a complete look, asked for after the last step on it, found nothing. What is remembered
//! of the host between looks serves events and delays, never a decision about what to do.
//!
//! A container's `ttl` counts from the first acceptance of its key, which the store knows:
//! the shell asks [`crate::policy::expires_ms`] and hands in [`Intent::Deleted`] when that
//! time has come.

use alloc::collections::{BTreeMap, BTreeSet, VecDeque};
use alloc::vec::Vec;

use driver_api::{ContainerObserved, Observed};
use specs::id::{Incarnation, Key};
use specs::status::Status;

use crate::io::{Cause, Effect, Input, Intent, Mode, Now, Ticket};
use crate::queue::Queue;

mod config;
mod host;
mod kills;
mod preview;
mod report;
mod round;
mod shun;
mod slot;
mod stands;
mod tell;
mod tries;

pub use config::{BootReport, MachineConfig};
use slot::Slot;
use stands::Stands;

/// The daemon as a value.
#[derive(Debug)]
pub struct Machine {
    desk: Desk,
    slots: BTreeMap<Key, Slot>,
}

/// What all keys share.
#[derive(Debug)]
struct Desk {
    config: MachineConfig,
    mode: Mode,
    now: Now,
    /// Wall clock minus `CLOCK_BOOTTIME`, for display.
    boot_at_wall_ms: u64,
    queue: Queue,
    stands: Stands,
    effects: VecDeque<Effect>,
    /// Unanswered, with the key that asked; none for the host.
    tickets: BTreeMap<Ticket, Option<Key>>,
    last_ticket: Ticket,
    next_incarnation: Incarnation,
    /// Keys in a round.
    in_hand: usize,
    /// The one key that is dealt with now; none while an input is about several.
    at: Option<Key>,
    /// Keys of which nothing is left, to be dropped.
    forgotten: Vec<Key>,
    /// Keys dropped since the look at the host that is under way was asked for: it may still
    /// show them as they were.
    dropped: BTreeSet<Key>,
    boot: Boot,
    /// When the host is looked at next, or the look that is under way.
    host: HostLook,
}

#[derive(Debug)]
struct Boot {
    begun: bool,
    /// Keys without a first plan; none until the host was looked at.
    left: Option<BTreeSet<Key>>,
    report: BootReport,
}

#[derive(Clone, Copy, Debug)]
enum HostLook {
    Never,
    Asked { ticket: Ticket, again: bool },
    Due(u64),
}

impl Machine {
    /// Returns a machine that has seen nothing yet.
    #[must_use]
    pub fn new(config: MachineConfig) -> Self {
        let mut slots: BTreeMap<Key, Slot> = BTreeMap::new();
        for (key, incarnation, generation) in &config.lives {
            let slot = slots
                .entry(key.clone())
                .or_insert_with(|| Slot::new(Intent::Gone));
            slot.recorded.insert(*incarnation, *generation);
            let told = config.kills_told.get(&(key.clone(), *incarnation));
            slot.kills.extend(told.map(|told| (*incarnation, *told)));
        }
        let lives = config.lives.iter();
        let highest = lives.map(|(_, incarnation, _)| incarnation.next()).max();
        let desk = Desk {
            mode: config.mode,
            now: Now::default(),
            boot_at_wall_ms: 0,
            queue: Queue::default(),
            stands: Stands::default(),
            effects: VecDeque::new(),
            tickets: BTreeMap::new(),
            last_ticket: Ticket(0),
            next_incarnation: config.next_incarnation.max(highest.unwrap_or_default()),
            in_hand: 0,
            at: None,
            forgotten: Vec::new(),
            dropped: BTreeSet::new(),
            boot: Boot {
                begun: false,
                left: None,
                report: BootReport::default(),
            },
            host: HostLook::Never,
            config,
        };
        Self { desk, slots }
    }

    /// Takes one input.
    pub fn input(&mut self, input: Input, now: Now) {
        self.desk.tell_time(now);
        match input {
            Input::Intents(changed) => {
                for (key, intent) in changed {
                    self.intend(key, intent);
                }
            }
            Input::Mode(mode) => self.set_mode(mode),
            Input::Woke {
                key: Some(key),
                cause,
            } => self.wake(&key, cause),
            Input::Woke { key: None, cause } => self.wake_all(cause),
            Input::Observed(ticket, observed) => self.observed_by(ticket, *observed),
            Input::Executed(ticket, result) => {
                let Some(key) = self.desk.tickets.remove(&ticket).flatten() else {
                    return;
                };
                self.desk.at = Some(key.clone());
                if let Some(slot) = self.slots.get_mut(&key) {
                    slot.last_ticket = self.desk.last_ticket;
                    self.desk.executed(&key, slot, ticket, result);
                }
            }
            Input::Appended(ticket, result) => {
                let Some(key) = self.desk.tickets.remove(&ticket).flatten() else {
                    return;
                };
                self.desk.at = Some(key.clone());
                if let Some(slot) = self.slots.get_mut(&key) {
                    slot.last_ticket = self.desk.last_ticket;
                    self.desk.appended(&key, slot, ticket, result);
                }
            }
            Input::RetryAt {
                key,
                process,
                delay,
            } => {
                self.desk.at = Some(key.clone());
                if let Some(slot) = self.slots.get_mut(&key) {
                    self.desk.retry_at(&key, slot, process.as_ref(), delay);
                }
            }
            Input::Tick => {}
        }
        self.wake_dependents();
        self.pump();
        self.wake_dependents();
        self.desk.at = None;
    }

    /// Returns the next effect, if there is any.
    pub fn poll_effect(&mut self) -> Option<Effect> {
        self.desk.effects.pop_front()
    }

    /// Returns when [`Input::Tick`] is due, in milliseconds of `CLOCK_BOOTTIME`.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<u64> {
        let host = match self.desk.host {
            HostLook::Due(at_ms) => Some(at_ms),
            HostLook::Never | HostLook::Asked { .. } => None,
        };
        let free = self.desk.boot.left.is_some() && self.desk.in_hand < self.desk.bound();
        let key = free.then(|| self.desk.queue.next_due()).flatten();
        [host, key].into_iter().flatten().min()
    }

    /// Returns the status of one key.
    #[must_use]
    pub fn status(&self, key: &Key) -> Option<&Status> {
        self.slots.get(key)?.status.as_ref()
    }

    /// Returns every status, sorted by key.
    pub fn statuses(&self) -> impl Iterator<Item = &Status> {
        self.slots.values().filter_map(|slot| slot.status.as_ref())
    }

    /// Returns what the host last said of one key.
    #[must_use]
    pub fn observed(&self, key: &Key) -> Option<&ContainerObserved> {
        self.slots
            .get(key)?
            .view
            .as_ref()
            .map(|view| &view.observed)
    }

    /// Returns what the start found, once every key was looked at and had its first round.
    #[must_use]
    pub fn boot_report(&self) -> Option<BootReport> {
        let over = self.desk.boot.left.as_ref().is_some_and(BTreeSet::is_empty);
        over.then_some(self.desk.boot.report)
    }

    fn intend(&mut self, key: Key, intent: Intent) {
        let now = self.desk.now.boot_ms;
        let slot = self
            .slots
            .entry(key.clone())
            .or_insert_with(|| Slot::new(Intent::Gone));
        if slot.intent == intent {
            return;
        }
        let before = slot.desired().cloned();
        self.desk.stands.intend(&key, before.as_deref(), &intent);
        let edited =
            before.as_ref() != intent_desired(&intent) || !same_kind(&slot.intent, &intent);
        slot.intent = intent;
        if edited {
            slot.cleaned = false;
            slot.outdated = true;
            slot.edited = true;
            slot.former = before.or(slot.former.take());
            slot.forgive(now);
        }
        if slot.boot
            && let Some(left) = &mut self.desk.boot.left
        {
            left.insert(key.clone());
        }
        self.desk.tell_status_only(slot);
        self.desk.wake_slot(&key, slot, now, Cause::Intent);
    }

    fn set_mode(&mut self, mode: Mode) {
        if core::mem::replace(&mut self.desk.mode, mode) == mode {
            return;
        }
        let now = self.desk.now.boot_ms;
        for (key, slot) in &mut self.slots {
            slot.outdated = true;
            self.desk.wake_slot(key, slot, now, Cause::Intent);
        }
    }

    fn wake(&mut self, key: &Key, cause: Cause) {
        let now = self.desk.now.boot_ms;
        let slot = self
            .slots
            .entry(key.clone())
            .or_insert_with(|| Slot::new(Intent::Gone));
        let at = match cause {
            Cause::Person => {
                slot.forgive(now);
                now
            }
            Cause::Wake => slot.looks.take(now),
            _ => now,
        };
        self.desk.wake_slot(key, slot, at, cause);
    }

    fn wake_all(&mut self, cause: Cause) {
        self.desk.boot.begun |= cause == Cause::Boot;
        if cause == Cause::Person {
            for slot in self.slots.values_mut() {
                slot.forgive(self.desk.now.boot_ms);
            }
        }
        if self.desk.boot.begun {
            self.desk.look_at_host();
        }
    }

    fn observed_by(&mut self, ticket: Ticket, observed: Observed) {
        match self.desk.tickets.remove(&ticket) {
            Some(Some(key)) => {
                self.desk.at = Some(key.clone());
                if let Some(slot) = self.slots.get_mut(&key) {
                    slot.last_ticket = self.desk.last_ticket;
                    self.desk.observed(&key, slot, ticket, observed);
                }
            }
            Some(None) => self.host_observed(ticket, observed),
            None => {}
        }
    }

    /// Drops keys of which nothing is left, before anything can begin for them.
    fn drop_forgotten(&mut self) {
        for key in core::mem::take(&mut self.desk.forgotten) {
            self.slots.remove(&key);
            self.desk.queue.remove(&key);
            if matches!(self.desk.host, HostLook::Asked { .. }) {
                self.desk.dropped.insert(key);
            }
        }
    }

    /// Begins rounds while keys are due and hands are free.
    fn pump(&mut self) {
        let now = self.desk.now.boot_ms;
        if matches!(self.desk.host, HostLook::Due(at_ms) if at_ms <= now) {
            self.desk.look_at_host();
        }
        if self.desk.boot.left.is_none() {
            return;
        }
        while self.desk.in_hand < self.desk.bound() {
            self.drop_forgotten();
            let Some((key, cause)) = self.desk.queue.pop(now) else {
                break;
            };
            let Some(slot) = self.slots.get_mut(&key) else {
                continue;
            };
            self.desk.at = Some(key.clone());
            self.desk.begin(&key, slot, cause);
        }
        self.drop_forgotten();
    }
}

fn intent_desired(intent: &Intent) -> Option<&alloc::sync::Arc<specs::desired::Desired>> {
    match intent {
        Intent::Present(wanted) => Some(&wanted.desired),
        Intent::Deleted { last } => last.as_ref(),
        Intent::Gone => None,
    }
}

fn same_kind(one: &Intent, other: &Intent) -> bool {
    core::mem::discriminant(one) == core::mem::discriminant(other)
}
