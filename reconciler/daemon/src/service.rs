//! What the service manager is told (`sd_notify(3)`): where there is none, nothing is sent.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use reconciler_core::machine::BootReport;
use sd_notify::NotifyState;
use tokio::sync::{mpsc, oneshot, watch};

use crate::keeper::{Desk, Note};
use crate::options::{RunOptions, Settings};
use crate::shell::Message;

/// How many signs of life fit into the time after which none is taken for death.
const SIGNS: u32 = 3;
/// Time in which everything has to have been read again; it is said to be over then.
const READ_AGAIN: Duration = Duration::from_secs(30);

/// Says that the start is over.
pub(crate) fn ready(report: &BootReport) {
    let status = format!("adopted {}, restarted {}", report.adopted, report.restarted);
    tell(&[NotifyState::Ready, NotifyState::Status(&status)]);
}

/// Says that the end has begun.
pub(crate) fn stopping() {
    tell(&[NotifyState::Stopping]);
}

/// Gives signs of life for as long as the loop does: each is the answer to a question that
/// went through the loop's own inbox. A loop that hangs, or a runtime that does, gives none,
/// and the manager starts the daemon anew (`WatchdogSec=`). A disk that holds the store up is
/// no reason: a new daemon would wait for it as well.
pub(crate) async fn watchdog(inbox: mpsc::Sender<Message>, stop: watch::Receiver<bool>) {
    let Some(limit) = sd_notify::watchdog_enabled() else {
        return;
    };
    let sign = || tell(&[NotifyState::Watchdog]);
    signs_of_life(&inbox, limit / SIGNS, stop, sign).await;
}

async fn signs_of_life(
    inbox: &mpsc::Sender<Message>,
    pause: Duration,
    mut stop: watch::Receiver<bool>,
    sign: fn(),
) {
    loop {
        let (reply, answer) = oneshot::channel();
        let question = Message::Ask(Box::new(move |_| {
            reply.send(()).ok();
        }));
        let asked = async {
            inbox.send(question).await.ok()?;
            answer.await.ok()
        };
        tokio::select! {
            lives = asked => if lives.is_none() { return },
            _ = stop.changed() => return,
        }
        // A manager that reads nothing must not hold up the runtime.
        drop(tokio::task::spawn_blocking(sign).await);
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            _ = stop.changed() => return,
        }
    }
}

/// Reads the configuration and the directories again when it is told to.
pub(crate) struct Reload {
    options: RunOptions,
    running: Settings,
    desk: Desk,
    /// Whether the start is over: before that, `READY=1` would say so.
    started: watch::Receiver<Option<BootReport>>,
    /// How many are under way: only the last one's end is the end.
    under_way: Arc<AtomicUsize>,
}

impl Reload {
    pub(crate) fn new(
        options: RunOptions,
        running: Settings,
        desk: Desk,
        started: watch::Receiver<Option<BootReport>>,
    ) -> Self {
        let under_way = Arc::new(AtomicUsize::new(0));
        Self {
            options,
            running,
            desk,
            started,
            under_way,
        }
    }

    /// Begins, beside the loop; the manager is told of the beginning before this returns.
    pub(crate) fn begin(&self) {
        tracing::info!("reading the config and every directory again");
        if self.started.borrow().is_some() {
            match NotifyState::monotonic_usec_now() {
                Ok(now) => tell(&[NotifyState::Reloading, now]),
                Err(err) => tracing::warn!(err = %err, "read the clock for the service manager"),
            }
        }
        self.under_way.fetch_add(1, Ordering::SeqCst);
        let under_way = Arc::clone(&self.under_way);
        let started = self.started.clone();
        let (options, running) = (self.options.clone(), self.running.clone());
        let desk = self.desk.clone();
        tokio::spawn(async move {
            let status = read_again(options, running, desk).await;
            let is_last = under_way.fetch_sub(1, Ordering::SeqCst) == 1;
            if is_last && started.borrow().is_some() {
                tell(&[NotifyState::Ready, NotifyState::Status(&status)]);
            }
        });
    }
}

/// Returns what came of it, on one line.
async fn read_again(options: RunOptions, running: Settings, desk: Desk) -> String {
    let read = tokio::task::spawn_blocking(move || options.settle_again(&running)).await;
    let read = read.unwrap_or_else(|err| Err(err.to_string()));
    let status = match &read {
        Ok(_) => "configuration and specs were read again".to_owned(),
        Err(line) => {
            let line = line.replace('\n', " ");
            format!("the configuration was refused, the former one holds: {line}")
        }
    };
    let (reply, listed) = oneshot::channel();
    for note in [Note::Config(read), Note::Sync(None, reply)] {
        if let Err(why) = desk.leave(note) {
            tracing::warn!(err = why, "read again");
        }
    }
    match tokio::time::timeout(READ_AGAIN, listed).await {
        Ok(_) => status,
        Err(_) => format!("{status}; not every directory could be listed yet"),
    }
}

fn tell(said: &[NotifyState<'_>]) {
    if let Err(err) = sd_notify::notify(said) {
        tracing::warn!(err = %err, "tell the service manager");
    }
}

#[cfg(test)]
mod tests {
    use reconciler_core::machine::{Machine, MachineConfig};
    use specs::units::Millis;

    use super::*;

    static SIGNS_SEEN: AtomicUsize = AtomicUsize::new(0);

    fn sign() {
        SIGNS_SEEN.fetch_add(1, Ordering::SeqCst);
    }

    #[tokio::test]
    async fn a_loop_that_hangs_gives_no_sign_of_life() {
        let machine = machine();
        let (inbox, mut taken) = mpsc::channel(4);
        let (stop, stopped) = watch::channel(false);
        let signs = async move { signs_of_life(&inbox, Duration::ZERO, stopped, sign).await };
        let signs = tokio::spawn(signs);
        for round in 0..3 {
            let Some(Message::Ask(question)) = taken.recv().await else {
                panic!("not asked")
            };
            // The loop has it and does not get to it.
            for _ in 0..1000 {
                tokio::task::yield_now().await;
            }
            assert_eq!(SIGNS_SEEN.load(Ordering::SeqCst), round);
            assert!(taken.try_recv().is_err(), "asked twice without an answer");
            question(&machine);
        }
        drop(taken.recv().await);
        assert_eq!(SIGNS_SEEN.load(Ordering::SeqCst), 3);
        stop.send_replace(true);
        signs.await.unwrap();
    }

    fn machine() -> Machine {
        Machine::new(MachineConfig {
            concurrency: 1,
            resync: Millis(1000),
            retry_initial: Millis(1),
            retry_max: Millis(1),
            next_incarnation: specs::id::Incarnation(1),
            lives: Vec::new(),
            kills_told: std::collections::BTreeMap::new(),
            mode: crate::keeper::NOTHING,
        })
    }
}
