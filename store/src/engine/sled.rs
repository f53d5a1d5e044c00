//! sled 0.34.7 with what it needs to keep its word.
//!
//! Its own flush ends in `sync_file_range(2)`, which writes neither file size nor extents nor
//! the drive's cache, and pages above a quarter of a segment go to files that are never
//! synced. So: segments of 8 MiB, which keep a leaf of sixteen values of 64 KiB in the one
//! file, and an own fsync of that file after each flush. See `docs/adr/sled.md`.

use std::fmt;
use std::fs::{self, File};
use std::io;
use std::ops::{Bound, ControlFlow};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use ::sled::Transactional;
use ::sled::transaction::{ConflictableTransactionError, TransactionError};

use super::worker::Worker;
use super::{Engine, EngineError, Op, Tree, Visit, guarded};
use crate::disk;

/// A leaf above a quarter of this leaves the one file that is synced. Fixed at creation.
const SEGMENT_BYTES: usize = 8 << 20;
/// The default is 1 GiB.
const CACHE_BYTES: u64 = 32 << 20;
const BACKGROUND_FLUSH_MS: u64 = 500;
/// An earlier handle of this process gives its lock back a little after it was dropped.
const LOCK_TRIES: u32 = 1000;
const LOCK_PAUSE: Duration = Duration::from_millis(5);
/// Records read in one go.
const PAGE_RECORDS: usize = 256;

/// Who makes a flush durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sync {
    /// We, by fsync.
    Own,
    /// Nobody: sled as shipped.
    #[cfg(test)]
    Shipped,
}

/// A key and its value.
type Pair = (Vec<u8>, Vec<u8>);

/// An open sled, on a thread of its own.
///
/// A write that fails in sled's background sets its error and wakes nobody
/// (`exit_reservation`), so a flush that already waits would wait for ever, and with it, by a
/// lock over all sleds of a process, every other. A second flush finds the error and wakes
/// the first: that is the nudge.
struct Sled {
    thread: Worker<Open>,
    /// For the second flush; dropped on the engine's thread.
    db: Option<::sled::Db>,
    is_nudging: Arc<AtomicBool>,
    /// sled's data file, opened once more, to be synced.
    log: File,
    sync: Sync,
}

impl fmt::Debug for Sled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sled")
            .field("thread", &self.thread)
            .field("log", &self.log)
            .finish_non_exhaustive()
    }
}

struct Open {
    db: ::sled::Db,
    /// In the order of [`Tree::ALL`].
    trees: Vec<::sled::Tree>,
}

impl Open {
    fn tree(&self, tree: Tree) -> &::sled::Tree {
        let at = tree as usize;
        self.trees
            .get(at)
            .expect("BUG: a tree of Tree::ALL is not open")
    }
}

/// Opens or makes a sled in `directory`.
pub(super) fn open(
    directory: &Path,
    deadline_seconds: u64,
    sync: Sync,
) -> Result<Box<dyn Engine>, EngineError> {
    const WHAT: &str = "sled's open";
    remove_half_snapshots(directory)?;
    let path = directory.to_owned();
    let deadline = Duration::from_secs(deadline_seconds);
    let thread = Worker::start(WHAT, deadline, move || open_here(&path))?;
    let db = thread.ask(WHAT, || {}, |open| Ok(open.db.clone()))?;
    let log = synced_log(directory).map_err(|source| EngineError::from_io(WHAT, source))?;
    Ok(Box::new(Sled {
        thread,
        db: Some(db),
        is_nudging: Arc::new(AtomicBool::new(false)),
        log,
        sync,
    }))
}

/// A snapshot that a crash left half-written is taken for the newest and read as corruption,
/// at this open and at every later one. A missing one costs a scan of the log.
fn remove_half_snapshots(directory: &Path) -> Result<(), EngineError> {
    const WHAT: &str = "removing half-written snapshots";
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(source) if source.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(source) => return Err(EngineError::from_io(WHAT, source)),
    };
    for entry in entries {
        let entry = entry.map_err(|source| EngineError::from_io(WHAT, source))?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if name.starts_with("snap.") && name.ends_with(".generating") {
            fs::remove_file(entry.path()).map_err(|source| EngineError::from_io(WHAT, source))?;
        }
    }
    Ok(())
}

fn open_here(directory: &Path) -> Result<Open, EngineError> {
    const WHAT: &str = "sled's open";
    let mut tries = LOCK_TRIES;
    let db = loop {
        let config = ::sled::Config::new()
            .path(directory)
            .segment_size(SEGMENT_BYTES)
            .cache_capacity(CACHE_BYTES)
            .flush_every_ms(Some(BACKGROUND_FLUSH_MS));
        match config.open() {
            Ok(db) => break db,
            Err(::sled::Error::Io(error)) if tries > 0 && is_own_lock(&error) => {
                tries -= 1;
                thread::sleep(LOCK_PAUSE);
            }
            Err(error) => return Err(named(WHAT, error)),
        }
    };
    let trees = Tree::ALL
        .into_iter()
        .map(|tree| {
            db.open_tree(tree.name())
                .map_err(|error| named(WHAT, error))
        })
        .collect::<Result<_, _>>()?;
    Ok(Open { db, trees })
}

/// The store's own lock is held by now, so whoever has sled's is an earlier handle of ours.
fn is_own_lock(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::Other && error.to_string().contains("could not acquire lock")
}

/// Syncs what the open has written, and the names on the way to it.
fn synced_log(directory: &Path) -> io::Result<File> {
    let log = File::options()
        .read(true)
        .write(true)
        .open(log_path(directory))?;
    log.sync_all()?;
    let conf = directory.join("conf");
    if conf.exists() {
        File::open(conf)?.sync_all()?;
    }
    File::open(directory)?.sync_all()?;
    if let Some(parent) = directory.parent() {
        File::open(parent)?.sync_all()?;
    }
    Ok(log)
}

fn log_path(directory: &Path) -> PathBuf {
    directory.join("db")
}

impl Sled {
    fn ask<A: Send + 'static>(
        &self,
        what: &'static str,
        call: impl FnOnce(&Open) -> Result<A, EngineError> + Send + 'static,
    ) -> Result<A, EngineError> {
        self.thread.ask(what, || self.nudge(), call)
    }

    /// Has another thread flush, unless one is still at it.
    fn nudge(&self) {
        const WHAT: &str = "sled's second flush";
        let Some(db) = self.db.clone() else {
            return;
        };
        if self.is_nudging.swap(true, Ordering::AcqRel) {
            return;
        }
        let is_nudging = Arc::clone(&self.is_nudging);
        let flush = move || {
            // What comes of it is what comes of the flush that is waited for.
            drop(guarded(WHAT, || {
                db.flush().map_err(|error| named(WHAT, error))
            }));
            is_nudging.store(false, Ordering::Release);
        };
        if thread::Builder::new()
            .name("store-nudge".to_owned())
            .spawn(flush)
            .is_err()
        {
            self.is_nudging.store(false, Ordering::Release);
        }
    }
}

/// Returns some records whose key begins with `prefix`, from `start` on.
fn page(
    tree: &::sled::Tree,
    prefix: &[u8],
    start: Bound<Vec<u8>>,
) -> Result<Vec<Pair>, EngineError> {
    let mut records = Vec::new();
    for record in tree.range((start, Bound::Unbounded)).take(PAGE_RECORDS) {
        let (key, value) = record.map_err(|error| named("sled's scan", error))?;
        if !key.starts_with(prefix) {
            break;
        }
        records.push((key.to_vec(), value.to_vec()));
    }
    Ok(records)
}

fn transact(open: &Open, batch: &[Op]) -> Result<(), EngineError> {
    const WHAT: &str = "sled's transaction";
    let result = open.trees.as_slice().transaction(|views| {
        for op in batch {
            let view = views
                .get(op.tree as usize)
                .expect("BUG: a tree of Tree::ALL is not in the transaction");
            match &op.value {
                Some(value) => view.insert(op.key.as_slice(), value.as_slice())?,
                None => view.remove(op.key.as_slice())?,
            };
        }
        Ok::<(), ConflictableTransactionError<()>>(())
    });
    match result {
        Ok(()) => Ok(()),
        Err(TransactionError::Storage(error)) => Err(named(WHAT, error)),
        Err(TransactionError::Abort(())) => Err(EngineError::Damaged {
            what: WHAT,
            how: "it aborted by itself".to_owned(),
        }),
    }
}

impl Engine for Sled {
    fn get(&self, tree: Tree, key: &[u8]) -> Result<Option<Vec<u8>>, EngineError> {
        const WHAT: &str = "sled's get";
        let key = key.to_owned();
        self.ask(WHAT, move |open| {
            let value = open
                .tree(tree)
                .get(key)
                .map_err(|error| named(WHAT, error))?;
            Ok(value.map(|value| value.to_vec()))
        })
    }

    fn scan(&self, tree: Tree, prefix: &[u8], visit: &mut Visit<'_>) -> Result<(), EngineError> {
        let mut start = Bound::Included(prefix.to_owned());
        loop {
            let own_prefix = prefix.to_owned();
            let records = self.ask("sled's scan", move |open| {
                page(open.tree(tree), &own_prefix, start)
            })?;
            for (key, value) in &records {
                if visit(key, value) == ControlFlow::Break(()) {
                    return Ok(());
                }
            }
            let is_last = records.len() < PAGE_RECORDS;
            match records.into_iter().next_back() {
                Some((key, _)) if !is_last => start = Bound::Excluded(key),
                _ => return Ok(()),
            }
        }
    }

    fn apply(&self, batch: &[Op]) -> Result<(), EngineError> {
        let batch = batch.to_owned();
        self.ask("sled's transaction", move |open| transact(open, &batch))
    }

    fn make_durable(&self) -> Result<(), EngineError> {
        const WHAT: &str = "sled's flush";
        self.ask(WHAT, |open| {
            open.db.flush().map_err(|error| named(WHAT, error))
        })?;
        match self.sync {
            // The step that makes the flush true.
            Sync::Own => self
                .log
                .sync_all()
                .and_then(|()| disk::check_named(&self.log))
                .map_err(|source| EngineError::from_io("fsync of sled's file", source)),
            #[cfg(test)]
            Sync::Shipped => Ok(()),
        }
    }
}

impl Drop for Sled {
    fn drop(&mut self) {
        // What waits, waits here, where it can be nudged; what fails was never acknowledged.
        let flushed = self.make_durable();
        let db = self.db.take();
        drop(self.ask("sled's close", move |_| {
            drop((db, flushed));
            Ok(())
        }));
    }
}

fn named(what: &'static str, error: ::sled::Error) -> EngineError {
    match error {
        ::sled::Error::Io(source) => from_sled_io(what, source),
        ::sled::Error::Corruption { at, .. } => EngineError::Damaged {
            what,
            how: format!("corruption at {at:?}"),
        },
        other => EngineError::Damaged {
            what,
            how: other.to_string(),
        },
    }
}

fn from_sled_io(what: &'static str, source: io::Error) -> EngineError {
    match source.kind() {
        // Reads past the end and malformed bytes are what is on disk, not the system.
        io::ErrorKind::UnexpectedEof | io::ErrorKind::InvalidData => EngineError::Damaged {
            what,
            how: source.to_string(),
        },
        _ => EngineError::from_io(what, source),
    }
}
