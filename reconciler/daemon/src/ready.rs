//! Says that the start is over, once it is.

use std::sync::Arc;
use std::time::Duration;

use reconciler_core::machine::BootReport;
use tokio::sync::{mpsc, oneshot, watch};

use crate::clock;
use crate::keeper::{Desk, Note, View};
use crate::service;
use crate::shell::Message;

/// How often the core is asked.
const ASK: Duration = Duration::from_millis(5);
/// A source that gives no listing for so long is not waited for.
const SOURCES_MS: u64 = 15_000;

/// Waits until every container was adopted or had its first round and every source was
/// listed, then says so: to `systemd`, in the log, in the history, to those who ask.
pub(crate) async fn announce(
    inbox: mpsc::Sender<Message>,
    view: watch::Receiver<Arc<View>>,
    desk: Desk,
    ready: watch::Sender<Option<BootReport>>,
    mut stop: watch::Receiver<bool>,
) {
    let began = clock::boot_ms();
    let report = loop {
        let waited = clock::boot_ms().saturating_sub(began);
        let listed = view.borrow().listed || waited > SOURCES_MS;
        if listed && let Some(report) = ask(&inbox).await {
            break report;
        }
        tokio::select! {
            () = tokio::time::sleep(ASK) => {}
            _ = stop.changed() => return,
        }
    };
    let (adopted, restarted) = (report.adopted, report.restarted);
    tracing::info!(
        adopted,
        restarted,
        unknown = report.unknown,
        elapsed_ms = clock::boot_ms().saturating_sub(began),
        "ready: adopted {adopted}, restarted {restarted}"
    );
    let event = reconciler_core::io::NewEvent {
        kills_told: None,
        key: None,
        generation: specs::id::Generation(0),
        severity: specs::event::Severity::Normal,
        reason: "Started",
        message: format!("adopted {adopted}, restarted {restarted}"),
    };
    if let Err(why) = desk.leave(Note::Events(vec![event])) {
        tracing::warn!(err = why, "an event was dropped");
    }
    ready.send_replace(Some(report));
    service::ready(&report);
}

async fn ask(inbox: &mpsc::Sender<Message>) -> Option<BootReport> {
    let (reply, answer) = oneshot::channel();
    let question = Message::Ask(Box::new(move |machine| {
        reply.send(machine.boot_report()).ok();
    }));
    inbox.send(question).await.ok()?;
    answer.await.ok().flatten()
}
