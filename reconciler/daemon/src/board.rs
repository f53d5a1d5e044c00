//! The newest status of every container, for those who ask.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use specs::id::Key;
use specs::status::Status;
use tokio::sync::broadcast;

/// Changes a slow watcher may be behind; one further behind is given everything anew.
const BEHIND_MAX: usize = 1024;

/// Statuses as published by the core. Written by the shell's pump only.
#[derive(Debug)]
pub(crate) struct Board {
    statuses: Mutex<BTreeMap<Key, Status>>,
    changes: broadcast::Sender<Key>,
}

impl Board {
    /// Returns an empty board.
    pub(crate) fn new() -> Self {
        let (changes, _) = broadcast::channel(BEHIND_MAX);
        Self {
            statuses: Mutex::default(),
            changes,
        }
    }

    /// Puts a status up.
    pub(crate) fn put(&self, status: Status) {
        let key = status.key.clone();
        self.lock().insert(key.clone(), status);
        self.tell(key);
    }

    /// Takes a status down: the container is gone.
    pub(crate) fn take_down(&self, key: &Key) {
        self.lock().remove(key);
        self.tell(key.clone());
    }

    /// Says that something beside the status changed, for example a label.
    pub(crate) fn tell(&self, key: Key) {
        // Nobody watching is fine.
        drop(self.changes.send(key));
    }

    /// Returns one status.
    pub(crate) fn one(&self, key: &Key) -> Option<Status> {
        self.lock().get(key).cloned()
    }

    /// Returns all statuses, sorted by name.
    pub(crate) fn all(&self) -> BTreeMap<Key, Status> {
        self.lock().clone()
    }

    /// Returns names whose status changes from now on.
    pub(crate) fn watch(&self) -> broadcast::Receiver<Key> {
        self.changes.subscribe()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Key, Status>> {
        // No code that can panic runs under this lock.
        self.statuses.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
