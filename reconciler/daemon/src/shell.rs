//! The pump: inputs into the core, effects out of it. One task owns the [`Machine`]; it
//! never blocks and decides nothing.
//!
//! ```text
//!   workers ──answers──▶┐                    ┌──Observe, Execute──▶ workers
//!   keeper  ──intents──▶│  inbox ▶ Machine ▶ │──Append, events────▶ keeper
//!   driver  ──wakes────▶│                    │──Publish───────────▶ board
//!   socket  ──questions▶┘                    └──ScheduleRetry─────▶ retries ──▶ inbox
//! ```

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use driver_api::{
    Driver, Gap, Observed, Outcome, Scope, Step, StepError, StepFailure, Wake, WakeReason,
};
use reconciler_core::io::{Cause, Effect, Input, Intent, Mode, NewEvent, Record, Ticket};
use reconciler_core::machine::Machine;
use specs::id::Key;
use tokio::sync::{mpsc, watch};

use crate::board::Board;
use crate::clock;
use crate::retry::{Curve, Retries};
use crate::workers::{Call, Ended, Slot, Workers, panic_text};

/// What the pump takes in at once; a full inbox makes the giver wait, which is a worker
/// thread or a connection, never the pump.
pub(crate) const INBOX: usize = 4096;
/// Time one look at the whole host may take.
const OBSERVE_HOST_MS: u64 = 30_000;
/// Time one look at a container may take.
const OBSERVE_MS: u64 = 10_000;
/// Time one step may take; longer work is only started by a step.
const EXECUTE_MS: u64 = 30_000;
/// How often overdue calls are looked for.
const REAP: Duration = Duration::from_secs(1);

/// What goes into the pump.
pub(crate) enum Message {
    /// The driver answered.
    Answer(Ticket, Ended<Done>),
    /// The store answered.
    Appended(Ticket, Result<(), String>),
    /// Intent changed, durably.
    Intents(Vec<(Key, Intent)>),
    /// What may be destroyed changed.
    Mode(Mode),
    /// The driver hints.
    Wake(Wake),
    /// A person wants a look now.
    Look(Option<Key>),
    /// Everything that was in the store has been handed in.
    Begin,
    /// Somebody asks the core something.
    Ask(Box<dyn FnOnce(&Machine) + Send>),
}

/// What a driver call gave.
#[derive(Debug)]
pub(crate) enum Done {
    /// Of `observe`.
    Observed(Observed),
    /// Of `execute`.
    Executed(Result<Outcome, StepError>),
}

/// Where durable things go.
pub(crate) trait Durable: Send {
    /// Makes a record durable, and answers with [`Message::Appended`].
    ///
    /// # Errors
    /// When it could not even be queued.
    fn append(&self, ticket: Ticket, record: Record) -> Result<(), String>;

    /// Keeps events, as far as possible.
    fn events(&self, events: Vec<NewEvent>);
}

enum Kind {
    Observe(Scope),
    Execute(String),
}

/// The core broke one of its own laws; containers run on.
#[derive(Debug, thiserror::Error)]
#[error("the core stopped: {0}")]
pub(crate) struct PumpError(String);

/// The pump.
pub(crate) struct Pump<D: Durable> {
    machine: Machine,
    driver: Arc<dyn Driver>,
    workers: Workers<Done>,
    durable: D,
    board: Arc<Board>,
    retries: Retries,
    pending: BTreeMap<Ticket, Kind>,
}

impl<D: Durable> Pump<D> {
    /// Returns a pump whose driver answers go to `inbox`.
    pub(crate) fn new(
        machine: Machine,
        driver: Arc<dyn Driver>,
        durable: D,
        board: Arc<Board>,
        inbox: mpsc::Sender<Message>,
    ) -> Self {
        let answer = move |ticket, ended| {
            // Called from worker threads, or from `submit` and `reap` inside the pump: the
            // latter must not wait for the inbox that only the pump empties.
            let message = Message::Answer(ticket, ended);
            match inbox.try_send(message) {
                Ok(()) | Err(mpsc::error::TrySendError::Closed(_)) => {}
                Err(mpsc::error::TrySendError::Full(message)) => {
                    let inbox = inbox.clone();
                    let waits = move || drop(inbox.blocking_send(message));
                    if let Err(err) = std::thread::Builder::new().spawn(waits) {
                        tracing::error!(err = %err, "an answer of the driver was lost");
                    }
                }
            }
        };
        Self {
            machine,
            driver,
            workers: Workers::new(clock::boot_ms, Arc::new(answer)),
            durable,
            board,
            retries: Retries::new(clock::instant()),
            pending: BTreeMap::new(),
        }
    }

    /// Pumps until told to stop.
    ///
    /// # Errors
    /// When the core panicked and not at one key, which alone would pay: it may no longer be
    /// believed, and the caller starts anew from the store and the host.
    pub(crate) async fn run(
        mut self,
        mut inbox: mpsc::Receiver<Message>,
        mut stop: watch::Receiver<bool>,
        drain: Duration,
    ) -> Result<(), PumpError> {
        let mut reap = tokio::time::interval(REAP);
        reap.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        while !*stop.borrow_and_update() {
            let due = self.until_due();
            let message = tokio::select! {
                message = inbox.recv() => message,
                () = tokio::time::sleep(due) => None,
                _ = reap.tick() => {
                    self.workers.reap();
                    None
                }
                _ = stop.changed() => break,
            };
            let turn = catch_unwind(AssertUnwindSafe(|| {
                if let Some(message) = message {
                    self.take(message);
                }
                if self
                    .machine
                    .poll_timeout()
                    .is_some_and(|at| at <= clock::boot_ms())
                {
                    self.machine.input(Input::Tick, clock::now());
                }
                self.drain();
            }));
            if let Err(panic) = turn {
                self.go_on_without(&panic_text(&*panic))?;
            }
        }
        self.let_steps_end(drain).await;
        Ok(())
    }

    /// Goes on after a panic of the core, without the key that it came from.
    fn go_on_without(&mut self, why: &str) -> Result<(), PumpError> {
        let shunned = catch_unwind(AssertUnwindSafe(|| self.machine.shun(why, clock::now())));
        let Ok(Some(key)) = shunned else {
            return Err(PumpError(why.to_owned()));
        };
        tracing::error!(%key, err = why, "BUG: the core broke at a container");
        Ok(())
    }

    /// Waits a while for steps that were begun: one that ends whole is better than one that
    /// the next start has to find half done.
    async fn let_steps_end(&self, drain: Duration) {
        let until = clock::boot_ms().saturating_add(as_ms(drain));
        while self.workers.in_flight() > 0 && clock::boot_ms() < until {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    fn until_due(&self) -> Duration {
        // The sleep's clock stands still while the host is suspended; a second at most is
        // lost, because the reaper's tick comes in between.
        let now = clock::boot_ms();
        let at = self.machine.poll_timeout();
        at.map_or(REAP, |at| {
            Duration::from_millis(at.saturating_sub(now)).min(REAP)
        })
    }

    fn take(&mut self, message: Message) {
        let input = match message {
            Message::Answer(ticket, ended) => match self.pending.remove(&ticket) {
                Some(kind) => answer(ticket, kind, ended),
                None => return,
            },
            Message::Appended(ticket, result) => Input::Appended(ticket, result),
            Message::Intents(changed) => Input::Intents(changed),
            Message::Mode(mode) => Input::Mode(mode),
            Message::Wake(wake) => woke(wake),
            Message::Look(key) => Input::Woke {
                key,
                cause: Cause::Person,
            },
            Message::Begin => Input::Woke {
                key: None,
                cause: Cause::Boot,
            },
            Message::Ask(question) => return question(&self.machine),
        };
        self.machine.input(input, clock::now());
    }

    fn drain(&mut self) {
        while let Some(effect) = self.machine.poll_effect() {
            self.bring_about(effect);
        }
    }

    fn bring_about(&mut self, effect: Effect) {
        match effect {
            Effect::Observe { ticket, scope } => self.observe(ticket, scope),
            Effect::Execute { ticket, step } => self.execute(ticket, *step),
            Effect::Append { ticket, record } => {
                if let Err(why) = self.durable.append(ticket, record) {
                    self.machine
                        .input(Input::Appended(ticket, Err(why)), clock::now());
                }
            }
            Effect::ScheduleRetry {
                key,
                process,
                attempt,
                initial,
                max,
            } => {
                let who = (key.clone(), process.clone());
                let delay = self.retries.delay(who, attempt, Curve { initial, max });
                tracing::debug!(%key, attempt, delay_ms = delay.0, "retry");
                let at = Input::RetryAt {
                    key,
                    process,
                    delay,
                };
                self.machine.input(at, clock::now());
            }
            Effect::Publish { status, events } => {
                if let Some(status) = status {
                    self.board.put(*status);
                }
                if !events.is_empty() {
                    self.durable.events(events);
                }
            }
            Effect::Forget(key) => {
                self.retries.forget(&key);
                self.board.take_down(&key);
            }
        }
    }

    fn observe(&mut self, ticket: Ticket, scope: Scope) {
        let (slot, allowance_ms) = match &scope {
            Scope::Host => (Slot::Host, OBSERVE_HOST_MS),
            Scope::Container(key) => (Slot::Container(key.clone()), OBSERVE_MS),
        };
        let driver = Arc::clone(&self.driver);
        let asked = scope.clone();
        self.pending.insert(ticket, Kind::Observe(scope));
        self.workers.submit(Call {
            ticket,
            slot,
            allowance_ms,
            work: Box::new(move |deadline| Done::Observed(driver.observe(&asked, deadline))),
        });
    }

    fn execute(&mut self, ticket: Ticket, step: Step) {
        let what = format!(
            "{} of {}.{}",
            step.action.verb(),
            step.key,
            step.incarnation
        );
        let slot = Slot::Container(step.key.clone());
        let driver = Arc::clone(&self.driver);
        let kind = Kind::Execute(what.clone());
        self.pending.insert(ticket, kind);
        self.workers.submit(Call {
            ticket,
            slot,
            allowance_ms: EXECUTE_MS,
            work: Box::new(move |deadline| {
                let began = clock::boot_ms();
                let result = driver.execute(&step, deadline);
                let elapsed_ms = clock::boot_ms().saturating_sub(began);
                let err = result.as_ref().err().map(failure_words);
                let verb = step.action.verb();
                tracing::debug!(key = %step.key, step = verb, elapsed_ms, err, "step");
                Done::Executed(result)
            }),
        });
    }
}

fn as_ms(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

fn failure_words(err: &StepError) -> String {
    match err {
        StepError::Stale(why) => format!("stale: {why}"),
        StepError::Retry(failure)
        | StepError::Terminal(failure)
        | StepError::Blocked { failure, .. } => format!("{}: {}", failure.what, failure.cause),
    }
}

fn woke(wake: Wake) -> Input {
    tracing::trace!(key = wake.key.as_ref().map(Key::as_str), reason = ?wake.reason, "wake");
    let key = match wake.reason {
        WakeReason::Overflow => None,
        _ => wake.key,
    };
    Input::Woke {
        key,
        cause: Cause::Wake,
    }
}

/// Turns what a worker brought into the core's words. A call that could not be made or did
/// not return is a gap or a failure that may pass: *unknown is not absent*.
fn answer(ticket: Ticket, kind: Kind, ended: Ended<Done>) -> Input {
    match (kind, ended) {
        (Kind::Observe(_), Ok(Done::Observed(observed))) => {
            Input::Observed(ticket, Box::new(observed))
        }
        (Kind::Execute(_), Ok(Done::Executed(result))) => Input::Executed(ticket, result),
        (Kind::Observe(scope), ended) => {
            let what = match scope {
                Scope::Host => "look at the host".to_owned(),
                Scope::Container(key) => format!("look at {key}"),
            };
            let gap = Gap {
                what,
                why: why(ended),
            };
            let observed = Observed {
                complete: false,
                gaps: vec![gap],
                containers: BTreeMap::new(),
            };
            Input::Observed(ticket, Box::new(observed))
        }
        (Kind::Execute(what), ended) => {
            let failure = StepFailure {
                what,
                cause: why(ended),
                errno: None,
                hint: None,
            };
            Input::Executed(ticket, Err(StepError::Retry(failure)))
        }
    }
}

fn why(ended: Ended<Done>) -> String {
    match ended {
        Err(why) => why,
        Ok(_) => "BUG: the answer does not fit the question".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_look_that_failed_is_a_gap_and_never_an_empty_host() {
        let kind = Kind::Observe(Scope::Container(Key::new("web").unwrap()));
        match answer(Ticket(1), kind, Err("no answer".into())) {
            Input::Observed(Ticket(1), observed) => {
                assert!(!observed.complete);
                assert_eq!(observed.gaps[0].why, "no answer");
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_step_that_did_not_return_may_be_tried_again() {
        let kind = Kind::Execute("StartShim of web.1".into());
        match answer(Ticket(1), kind, Err("no answer".into())) {
            Input::Executed(_, Err(StepError::Retry(failure))) => {
                assert_eq!(failure.what, "StartShim of web.1");
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn lost_events_wake_everything() {
        let wake = Wake {
            key: Some(Key::new("web").unwrap()),
            reason: WakeReason::Overflow,
        };
        assert!(matches!(woke(wake), Input::Woke { key: None, .. }));
    }
}
