//! Hints that a directory changed. `notify` is never more than that: `docs/adr/notify.md`.
//!
//! The directory itself is watched (a watch on a file dies with the first atomic save), and
//! its parent for the moment it is replaced. The callback only leaves a mark: everything
//! that is known comes from listing the directory, and that happens anyway every 10 to 30
//! seconds.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use notify::event::{EventKind, ModifyKind, RenameMode};
use notify::{Event, RecommendedWatcher, RecursiveMode, Watcher as _};

use crate::source::directory::{self, Identity};

/// Quiet time after which a burst counts as over.
pub(crate) const QUIET: Duration = Duration::from_millis(100);
/// A burst that does not end is looked into anyway.
pub(crate) const BURST_MAX: Duration = Duration::from_secs(1);
/// Centre of the time between listings that nobody asked for; drawn from half to one and a
/// half of it.
pub(crate) const RELIST: Duration = Duration::from_secs(20);
/// Most names remembered as renamed; more only means that files settle in their time.
const RENAMED_MAX: usize = 4096;

/// Wakes one listing thread. Capacity one: a hint that waits says all a second one would.
#[derive(Clone, Debug)]
pub(crate) struct Hint(SyncSender<()>);

impl Hint {
    /// Returns a hint and where it arrives.
    pub(crate) fn channel() -> (Self, Receiver<()>) {
        let (send, receive) = sync_channel(1);
        (Self(send), receive)
    }

    /// Says "look again"; never blocks.
    pub(crate) fn give(&self) {
        // Full means that a hint is waiting, closed that nobody looks any more: both fine.
        self.0.try_send(()).ok();
    }
}

/// Watches over one directory, as far as the kernel lets us.
#[derive(Debug)]
pub(crate) struct Watch {
    path: PathBuf,
    hint: Hint,
    renamed: Arc<Mutex<BTreeSet<String>>>,
    watcher: Option<RecommendedWatcher>,
    watched: Option<Identity>,
}

impl Watch {
    /// Returns a watch that is not yet established.
    pub(crate) fn new(path: PathBuf, hint: Hint) -> Self {
        Self {
            path,
            hint,
            renamed: Arc::default(),
            watcher: None,
            watched: None,
        }
    }

    /// Establishes the watches, again if the directory is another one than before.
    ///
    /// Returns why hints cannot be had, if so; the listing goes on without them.
    pub(crate) fn refresh(&mut self) -> Option<String> {
        let now = directory::identify(&self.path).ok();
        if self.watcher.is_some() && now.is_some() && now == self.watched {
            return None;
        }
        self.watcher = None;
        self.watched = now;
        self.forget_renames(None);
        match self.establish() {
            Ok(watcher) => {
                self.watcher = Some(watcher);
                // Something may have changed before the watch stood.
                self.hint.give();
                None
            }
            Err(err) => Some(err.to_string()),
        }
    }

    /// Returns names that arrived by rename and were not written to since.
    pub(crate) fn renamed(&self) -> BTreeSet<String> {
        self.renamed
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Returns whether a file that may be a spec arrived by rename: it is whole, so there is
    /// nothing to wait for.
    pub(crate) fn has_arrived(&self) -> bool {
        let renamed = self.renamed.lock().unwrap_or_else(PoisonError::into_inner);
        renamed.iter().any(|name| directory::is_candidate(name))
    }

    /// Forgets these renames, or all: a hint is good for one look.
    pub(crate) fn forget_renames(&self, names: Option<&BTreeSet<String>>) {
        let mut renamed = self.renamed.lock().unwrap_or_else(PoisonError::into_inner);
        match names {
            Some(names) => renamed.retain(|name| !names.contains(name)),
            None => renamed.clear(),
        }
    }

    fn establish(&self) -> notify::Result<RecommendedWatcher> {
        let hint = self.hint.clone();
        let path = self.path.clone();
        let renamed = Arc::clone(&self.renamed);
        let mut watcher = notify::recommended_watcher(move |event: notify::Result<Event>| {
            if concerns(&event, &path) {
                note(&event, &path, &renamed);
                hint.give();
            }
        })?;
        let mut watched = watcher.watch(&self.path, RecursiveMode::NonRecursive);
        if let Some(parent) = self
            .path
            .parent()
            .filter(|parent| directory::exists(parent))
        {
            let above = watcher.watch(parent, RecursiveMode::NonRecursive);
            // A directory that is not there yet is told of by its parent.
            watched = watched.or(above);
        }
        watched.map(|()| watcher)
    }
}

/// Returns whether an event may concern the directory. Reading the directory must not count,
/// or every listing would ask for the next one.
fn concerns(event: &notify::Result<Event>, path: &Path) -> bool {
    let Ok(event) = event else {
        return true;
    };
    if event.need_rescan() || event.paths.is_empty() {
        return true;
    }
    if event.kind.is_access() {
        return false;
    }
    event
        .paths
        .iter()
        .any(|touched| touched == path || touched.parent() == Some(path))
}

fn note(event: &notify::Result<Event>, path: &Path, renamed: &Mutex<BTreeSet<String>>) {
    let mut renamed = renamed.lock().unwrap_or_else(PoisonError::into_inner);
    let Ok(event) = event else {
        renamed.clear();
        return;
    };
    if event.need_rescan() {
        renamed.clear();
        return;
    }
    let arrived = match event.kind {
        EventKind::Modify(ModifyKind::Name(RenameMode::To)) => event.paths.first(),
        EventKind::Modify(ModifyKind::Name(RenameMode::Both)) => event.paths.get(1),
        _ => None,
    };
    for touched in &event.paths {
        if let Some(name) = name_below(touched, path) {
            renamed.remove(name);
        }
    }
    if let Some(name) = arrived.and_then(|arrived| name_below(arrived, path))
        && renamed.len() < RENAMED_MAX
    {
        renamed.insert(name.to_owned());
    }
}

fn name_below<'a>(touched: &'a Path, path: &Path) -> Option<&'a str> {
    (touched.parent() == Some(path)).then(|| touched.file_name().and_then(OsStr::to_str))?
}

/// Why a wait ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Woken {
    /// Somebody said so, and it has been quiet since.
    Hint,
    /// The time came.
    Time,
    /// Nobody wants listings any more.
    Closed,
}

/// Waits for a hint or for `at_most`, then for the burst to be over; for one that brought
/// something whole only until `rest` has passed since the call.
pub(crate) fn wait(
    hints: &Receiver<()>,
    at_most: Duration,
    rest: Duration,
    has_arrived: &dyn Fn() -> bool,
) -> Woken {
    let began = crate::clock::instant();
    match hints.recv_timeout(at_most) {
        Ok(()) => {}
        Err(RecvTimeoutError::Timeout) => return Woken::Time,
        Err(RecvTimeoutError::Disconnected) => return Woken::Closed,
    }
    let mut left = BURST_MAX;
    loop {
        let before = crate::clock::instant();
        let quiet = if has_arrived() {
            rest.saturating_sub(began.elapsed()).min(QUIET)
        } else {
            QUIET
        };
        match hints.recv_timeout(quiet.min(left)) {
            Err(RecvTimeoutError::Timeout) => return Woken::Hint,
            Err(RecvTimeoutError::Disconnected) => return Woken::Closed,
            Ok(()) => {}
        }
        left = left.saturating_sub(before.elapsed());
        if left.is_zero() {
            return Woken::Hint;
        }
    }
}

#[cfg(test)]
#[path = "watch/tests.rs"]
mod tests;
