//! Where notes for the keeper are left.

use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};

use reconciler_core::io::{NewEvent, Record, Ticket};

use super::Note;
use crate::shell::Durable;

/// Notes that may wait; beyond it records are refused (the core tries again) and events are
/// dropped with a line in the log.
const QUEUE: usize = 16 << 10;

/// Tells the keeper things without waiting.
#[derive(Clone, Debug)]
pub(crate) struct Desk(SyncSender<Note>);

impl Desk {
    /// Returns a desk and where its notes arrive.
    pub(crate) fn channel() -> (Self, Receiver<Note>) {
        let (send, receive) = sync_channel(QUEUE);
        (Self(send), receive)
    }

    /// Leaves a note.
    ///
    /// # Errors
    /// When too many wait, or the keeper is gone.
    pub(crate) fn leave(&self, note: Note) -> Result<(), String> {
        self.0.try_send(note).map_err(|err| match err {
            TrySendError::Full(_) => "too much waits to be written".into(),
            TrySendError::Disconnected(_) => "the daemon is ending".into(),
        })
    }

    /// Leaves a note and waits for room; for threads that may wait.
    pub(crate) fn leave_patiently(&self, note: Note) -> bool {
        self.0.send(note).is_ok()
    }
}

impl Durable for Desk {
    fn append(&self, ticket: Ticket, record: Record) -> Result<(), String> {
        self.leave(Note::Append(ticket, record))
    }

    fn events(&self, events: Vec<NewEvent>) {
        let count = events.len();
        if let Err(why) = self.leave(Note::Events(events)) {
            tracing::warn!(err = why, count, "events were dropped");
        }
    }
}
