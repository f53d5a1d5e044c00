//! sled 0.34.7 with what it needs to keep its word.
//!
//! Its own flush ends in `sync_file_range(2)`, which writes neither file size nor extents nor
//! the drive's cache, and pages above a quarter of a segment go to files that are never
//! synced. So: segments of 8 MiB, which keep a leaf of sixteen values of 64 KiB in the one
//! file, and an own fsync of that file after each flush. See `docs/adr/sled.md`.

use std::any::Any;
use std::fs::{self, File};
use std::io;
use std::ops::ControlFlow;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use ::sled::Transactional;
use ::sled::transaction::{ConflictableTransactionError, TransactionError};

use super::{Engine, EngineError, Op, Tree, Visit};

/// A leaf above a quarter of this leaves the one file that is synced. Fixed at creation.
const SEGMENT_BYTES: usize = 8 << 20;
/// The default is 1 GiB.
const CACHE_BYTES: u64 = 32 << 20;
const BACKGROUND_FLUSH_MS: u64 = 500;
/// An earlier handle of this process gives its lock back a little after it was dropped.
const LOCK_TRIES: u32 = 1000;
const LOCK_PAUSE: Duration = Duration::from_millis(5);

/// Who makes a flush durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sync {
    /// We, by fsync.
    Own,
    /// Nobody: sled as shipped.
    #[cfg(test)]
    Shipped,
}

/// An open sled.
#[derive(Debug)]
struct Sled {
    /// None only while it is dropped.
    open: Option<Open>,
    /// sled's data file, opened once more, to be synced.
    log: File,
    sync: Sync,
}

#[derive(Debug)]
struct Open {
    db: ::sled::Db,
    /// In the order of [`Tree::ALL`].
    trees: Vec<::sled::Tree>,
}

/// Opens or makes a sled in `directory`, on a thread of its own.
pub(super) fn open(
    directory: &Path,
    deadline_seconds: u64,
    sync: Sync,
) -> Result<Box<dyn Engine>, EngineError> {
    const WHAT: &str = "sled's open";
    remove_half_snapshots(directory)?;
    let (answer, wait) = mpsc::sync_channel(1);
    let path = directory.to_owned();
    thread::Builder::new()
        .name("store-open".to_owned())
        .spawn(move || {
            let opened = guarded(WHAT, || open_here(&path));
            // Nobody listens any more when the deadline has passed; then this drops it.
            drop(answer.send(opened));
        })
        .map_err(|source| EngineError::from_io(WHAT, source))?;
    let open = match wait.recv_timeout(Duration::from_secs(deadline_seconds)) {
        Ok(opened) => opened?,
        Err(mpsc::RecvTimeoutError::Timeout) => {
            return Err(EngineError::Late {
                what: WHAT,
                seconds: deadline_seconds,
            });
        }
        Err(mpsc::RecvTimeoutError::Disconnected) => {
            return Err(EngineError::Panicked {
                what: WHAT,
                how: "its thread ended".to_owned(),
            });
        }
    };
    let log = synced_log(directory).map_err(|source| EngineError::from_io(WHAT, source))?;
    Ok(Box::new(Sled {
        open: Some(open),
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
    fn open(&self) -> &Open {
        self.open
            .as_ref()
            .expect("BUG: sled is used after its drop")
    }

    fn tree(&self, tree: Tree) -> &::sled::Tree {
        let at = tree as usize;
        self.open()
            .trees
            .get(at)
            .expect("BUG: a tree of Tree::ALL is not open")
    }
}

impl Engine for Sled {
    fn get(&self, tree: Tree, key: &[u8]) -> Result<Option<Vec<u8>>, EngineError> {
        const WHAT: &str = "sled's get";
        guarded(WHAT, || {
            let value = self
                .tree(tree)
                .get(key)
                .map_err(|error| named(WHAT, error))?;
            Ok(value.map(|value| value.to_vec()))
        })
    }

    fn scan(&self, tree: Tree, prefix: &[u8], visit: &mut Visit<'_>) -> Result<(), EngineError> {
        const WHAT: &str = "sled's scan";
        guarded(WHAT, || {
            for record in self.tree(tree).scan_prefix(prefix) {
                let (key, value) = record.map_err(|error| named(WHAT, error))?;
                if visit(&key, &value) == ControlFlow::Break(()) {
                    break;
                }
            }
            Ok(())
        })
    }

    fn apply(&self, batch: &[Op]) -> Result<(), EngineError> {
        const WHAT: &str = "sled's transaction";
        guarded(WHAT, || {
            let trees = self.open().trees.as_slice();
            let result = trees.transaction(|views| {
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
        })
    }

    fn make_durable(&self) -> Result<(), EngineError> {
        const WHAT: &str = "sled's flush";
        guarded(WHAT, || {
            self.open().db.flush().map_err(|error| named(WHAT, error))?;
            match self.sync {
                // The step that makes the flush true.
                Sync::Own => self
                    .log
                    .sync_all()
                    .map_err(|source| EngineError::from_io("fsync of sled's file", source)),
                #[cfg(test)]
                Sync::Shipped => Ok(()),
            }
        })
    }
}

impl Drop for Sled {
    fn drop(&mut self) {
        let open = self.open.take();
        // Dropping flushes; a damaged sled panics here, and that may not end the daemon.
        drop(catch_unwind(AssertUnwindSafe(move || drop(open))));
    }
}

/// Runs a call of sled's; a panic inside becomes an error.
fn guarded<T>(
    what: &'static str,
    call: impl FnOnce() -> Result<T, EngineError>,
) -> Result<T, EngineError> {
    catch_unwind(AssertUnwindSafe(call)).unwrap_or_else(|panic| {
        Err(EngineError::Panicked {
            what,
            how: words(panic.as_ref()),
        })
    })
}

fn words(panic: &(dyn Any + Send)) -> String {
    if let Some(text) = panic.downcast_ref::<&str>() {
        (*text).to_owned()
    } else if let Some(text) = panic.downcast_ref::<String>() {
        text.clone()
    } else {
        "no words".to_owned()
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
