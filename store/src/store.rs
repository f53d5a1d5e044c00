//! The one door.

use std::error::Error;
use std::fs::File;
use std::io;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};

use specs::event::Event;
use specs::id::{Generation, Key};

use crate::copy::{self, Copy};
use crate::disk::{self, LockError};
use crate::draft::{self, Batch, DraftError, RefusedError};
use crate::engine::{Engine, EngineError, EngineKind, Op};
use crate::home::{Home, state_op};
use crate::image::Image;
use crate::model::{Accepted, Change, Contents};
use crate::open::{self, Standing, words};
use crate::read::{self, EventQuery, ReadError};
use crate::wire::Meta;

/// Two of sled's segments: what one commit or one open may take at worst.
const RESERVE_BYTES: u64 = 16 << 20;

/// Where the store is and how much it may hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// The state directory; made if it is not there.
    pub directory: PathBuf,
    /// Where the witness is; none for the state directory. On another file system it tells a
    /// state directory that was put back from a backup.
    pub witness_directory: Option<PathBuf>,
    /// Disk held back for opening on a full disk; 0 for none, 32 MiB is enough.
    pub ballast_bytes: u64,
    /// Most events kept, at least 1.
    pub events_max: u64,
    /// Commits after which a new copy of everything may be due, at least 1.
    pub export_every: u64,
    /// Longest one act of the engine may take, its opening included, seconds.
    pub deadline_seconds: u64,
}

impl Options {
    /// Returns the options that suit most hosts.
    #[must_use]
    pub fn new(directory: impl Into<PathBuf>) -> Self {
        Self {
            directory: directory.into(),
            witness_directory: None,
            ballast_bytes: 32 << 20,
            events_max: 4096,
            export_every: 512,
            deadline_seconds: 60,
        }
    }
}

/// What an open found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Opened {
    /// Whether what is held is what was committed.
    pub health: Health,
    /// Nothing was ever committed here.
    pub fresh: bool,
}

/// Whether what is held is what was committed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Health {
    /// It is.
    Sound,
    /// Nobody can tell, or some of it is known to be lost: destroy nothing because of what is
    /// not here. Lasts over restarts until [`Store::confirm`].
    Suspect(String),
    /// The engine was damaged or gone, and was filled anew from the copy. `why` says whether
    /// anything is lost; if so, the next open says [`Health::Suspect`].
    Rebuilt {
        /// What was wrong, and up to where the copy reached.
        why: String,
        /// Where the damaged engine lies now; empty if there was none.
        moved_to: PathBuf,
    },
}

/// Why a store was not opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another daemon has it. Nothing was touched.
    #[error("{} is in use by {}", .directory.display(), named(*.pid))]
    Locked {
        /// The state directory.
        directory: PathBuf,
        /// Who holds it, by its own word.
        pid: Option<u32>,
    },
    /// A newer version of this program wrote it. Nothing was written.
    #[error("its format is version {found}, and this program knows up to {known}")]
    Newer {
        /// The version on disk.
        found: u32,
        /// The newest version known here.
        known: u32,
    },
    /// A file or directory could not be made, read or written.
    #[error("reaching the files of the store in {}", .0.display())]
    Files(PathBuf, #[source] io::Error),
    /// The engine could not be opened for a reason outside its files.
    #[error("opening the store's engine")]
    Engine(#[source] Box<dyn Error + Send + Sync>),
}

fn named(pid: Option<u32>) -> String {
    pid.map_or_else(
        || "another process".to_owned(),
        |pid| format!("process {pid}"),
    )
}

/// Why a commit did not happen. None of it is there, now or later, unless it says otherwise.
#[derive(Debug, thiserror::Error)]
pub enum CommitError {
    /// It may not be.
    #[error(transparent)]
    Refused(#[from] RefusedError),
    /// The disk is full; commits go on by themselves when it is not.
    #[error("no space: {free_bytes} bytes are free, and {needed_bytes} are needed")]
    Full {
        /// Free bytes.
        free_bytes: u64,
        /// Bytes that a commit must find free.
        needed_bytes: u64,
    },
    /// The engine failed; the next commit tries to bring it back first.
    #[error("writing the store")]
    Engine(#[source] Box<dyn Error + Send + Sync>),
    /// The engine could be opened at last and holds more than could be read before: read
    /// [`Store::contents`] again.
    #[error("the store holds more than could be read so far")]
    ReadAgain,
}

/// A commit that outlives a power cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Committed {
    /// Its number.
    pub revision: u64,
}

/// How the store itself is, for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Condition {
    /// Number of the newest commit.
    pub revision: u64,
    /// Commits are possible as far as is known; without, reads come from memory.
    pub is_writable: bool,
    /// Disk is held back for opening on a full disk.
    pub has_ballast: bool,
    /// Why the witness is behind, if it is; the commits themselves are safe.
    pub witness_behind: Option<String>,
    /// Why the copy is behind, if it is; the commits themselves are safe.
    pub copy_behind: Option<String>,
    /// Why something acknowledged may be missing, until [`Store::confirm`].
    pub doubt: Option<String>,
}

/// What the engine field is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Access {
    /// The engine.
    Open,
    /// An image of all that was acknowledged; the engine failed.
    Lost {
        /// Its files cannot be believed any more.
        is_to_be_replaced: bool,
    },
    /// An image from the copy; the engine never opened and may hold more.
    Unopened,
}

/// Durable intent.
///
/// *Guarantees*: what [`Store::commit_durable`] answered with `Ok` is there after a crash of
/// the daemon, of the host and after a power cut; a list of changes is there as a whole or not
/// at all; what is lost or altered on disk is found at the next open and never served as if it
/// were whole. *Assumptions*: a local file system that honours `fsync(2)`.
#[derive(Debug)]
pub struct Store {
    /// Written by commits, one at a time.
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    // First, so that it is closed before the lock is given back.
    engine: Box<dyn Engine>,
    access: Access,
    meta: Meta,
    copy: Option<Copy>,
    witness_behind: Option<String>,
    copy_behind: Option<String>,
    has_ballast: bool,
    home: Home,
    events_max: u64,
    export_every: u64,
    _lock: File,
}

impl Store {
    /// Opens the store, makes it if there is none, and mends it if it is damaged.
    ///
    /// Blocks: up to the deadline, and for as long as reading everything once takes.
    ///
    /// # Errors
    /// When another process has it, when a newer version wrote it, and when the system does
    /// not let it be read or written. Damage is no error: see [`Health`].
    pub fn open(options: &Options) -> Result<(Self, Opened), OpenError> {
        Self::open_with(options, EngineKind::Sled, RESERVE_BYTES)
    }

    pub(crate) fn open_with(
        options: &Options,
        kind: EngineKind,
        reserve_bytes: u64,
    ) -> Result<(Self, Opened), OpenError> {
        let directory = &options.directory;
        let failed = |source| OpenError::Files(directory.clone(), source);
        disk::make_directory(directory).map_err(failed)?;
        let home = Home {
            directory: directory.clone(),
            witness_directory: options
                .witness_directory
                .as_ref()
                .unwrap_or(directory)
                .clone(),
            kind,
            deadline_seconds: options.deadline_seconds,
            ballast_bytes: options.ballast_bytes,
            reserve_bytes,
        };
        let lock = home.lock().map_err(|error| match error {
            LockError::Held(pid) => OpenError::Locked {
                directory: directory.clone(),
                pid,
            },
            LockError::Io(source) => failed(source),
        })?;
        disk::make_directory(&home.witness_directory).map_err(failed)?;
        let standing = open::open(&home)?;
        let mut inner = Inner {
            has_ballast: home.hold_ballast(),
            copy_behind: standing
                .copy
                .is_none()
                .then(|| "it could not be written".to_owned()),
            engine: standing.engine,
            access: standing.access,
            meta: standing.meta,
            copy: standing.copy,
            witness_behind: None,
            home,
            events_max: options.events_max,
            export_every: options.export_every.max(1),
            _lock: lock,
        };
        if standing.opened.health == Health::Sound {
            inner.witness();
        }
        let store = Self {
            inner: Mutex::new(inner),
        };
        Ok((store, standing.opened))
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        // A panic under the lock is a bug of ours; what is on disk is judged by its own sums.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns everything a daemon needs to go on after a start.
    ///
    /// # Errors
    /// When the engine cannot be read. Single damaged records are in `damaged` instead.
    pub fn contents(&self) -> Result<Contents, ReadError> {
        let inner = self.inner();
        Ok(read::contents(inner.engine.as_ref(), &inner.meta)?)
    }

    /// Returns every accepted generation of a key, oldest first, whether it is still wanted or
    /// not; damaged ones are left out here and named in [`Store::contents`].
    ///
    /// # Errors
    /// When the engine cannot be read.
    pub fn history(&self, key: &Key) -> Result<Vec<Accepted>, ReadError> {
        Ok(read::history(self.inner().engine.as_ref(), key)?)
    }

    /// Returns one generation of a key.
    ///
    /// # Errors
    /// When the engine cannot be read, or the record is damaged.
    pub fn accepted(
        &self,
        key: &Key,
        generation: Generation,
    ) -> Result<Option<Accepted>, ReadError> {
        read::accepted(self.inner().engine.as_ref(), key, generation)
    }

    /// Returns the highest generation a key ever had, damaged ones included; 0 if none. The
    /// next one to be accepted must be above it, also after the key was cleaned.
    ///
    /// # Errors
    /// When the engine cannot be read.
    pub fn newest_generation(&self, key: &Key) -> Result<Generation, ReadError> {
        Ok(draft::newest_generation(self.inner().engine.as_ref(), key)?)
    }

    /// Returns the events that are asked for, oldest first.
    ///
    /// # Errors
    /// When the engine cannot be read.
    pub fn events(&self, query: &EventQuery) -> Result<Vec<Event>, ReadError> {
        Ok(read::events(self.inner().engine.as_ref(), query)?)
    }

    /// Commits all changes, in their order, or none; returns when they outlive a power cut.
    /// Blocks for some milliseconds; several requests in one list cost one sync.
    ///
    /// # Errors
    /// When a change may not be, when the disk is full, and when the engine fails. Then the
    /// store is as it was before.
    pub fn commit_durable(&self, changes: &[Change]) -> Result<Committed, CommitError> {
        let mut inner = self.inner();
        inner.make_writable()?;
        let batch = draft::batch(
            inner.engine.as_ref(),
            &inner.meta,
            inner.events_max,
            changes,
        );
        inner.commit(batch)
    }

    /// Takes what is here as the whole truth: drops damaged records and ends the doubt. To be
    /// called on a person's word, or when everything was compared with what else is known.
    ///
    /// # Errors
    /// As for [`Store::commit_durable`].
    pub fn confirm(&self) -> Result<Committed, CommitError> {
        let mut inner = self.inner();
        inner.make_writable()?;
        let batch = read::damaged_places(inner.engine.as_ref())
            .map_err(DraftError::from)
            .and_then(|damaged| draft::confirmation(inner.engine.as_ref(), &inner.meta, damaged));
        inner.commit(batch)
    }

    /// Returns how the store itself is.
    #[must_use]
    pub fn condition(&self) -> Condition {
        let inner = self.inner();
        Condition {
            revision: inner.meta.revision,
            is_writable: inner.access == Access::Open,
            has_ballast: inner.has_ballast,
            witness_behind: inner.witness_behind.clone(),
            copy_behind: inner.copy_behind.clone(),
            doubt: inner.meta.doubt.clone(),
        }
    }
}

impl Inner {
    fn commit(&mut self, batch: Result<Batch, DraftError>) -> Result<Committed, CommitError> {
        let batch = batch.map_err(|error| match error {
            DraftError::Refused(refused) => CommitError::Refused(refused),
            DraftError::Engine(error) => CommitError::Engine(error.into()),
        })?;
        self.find_room(batch.bytes)?;
        let before = self.before(&batch);
        let written = self
            .engine
            .apply(&batch.ops)
            .and_then(|()| self.engine.make_durable());
        if let Err(error) = written {
            return Err(self.take_back(before, error));
        }
        // Committed. Nothing below may turn that into an error.
        self.meta = batch.meta;
        self.copy(&batch.ops);
        self.witness();
        if !self.has_ballast {
            self.has_ballast = self.home.hold_ballast();
        }
        Ok(Committed {
            revision: self.meta.revision,
        })
    }

    fn find_room(&self, batch_bytes: u64) -> Result<(), CommitError> {
        let needed_bytes = match self.home.reserve_bytes {
            0 => 0,
            reserve => reserve.saturating_add(batch_bytes.saturating_mul(4)),
        };
        match disk::free_bytes(&self.home.directory) {
            Ok(free_bytes) if free_bytes < needed_bytes => Err(CommitError::Full {
                free_bytes,
                needed_bytes,
            }),
            // If it cannot be told, the engine's own error will.
            Ok(_) | Err(_) => Ok(()),
        }
    }

    /// Returns what the batch is about to overwrite.
    fn before(&self, batch: &Batch) -> Vec<Op> {
        let old = |op: &Op| Op {
            tree: op.tree,
            key: op.key.clone(),
            value: self.engine.get(op.tree, &op.key).ok().flatten(),
        };
        batch.ops.iter().map(old).collect()
    }

    /// After a failed batch: keeps what was acknowledged in memory, and tries to go on.
    fn take_back(&mut self, before: Vec<Op>, error: EngineError) -> CommitError {
        let is_full = matches!(error, EngineError::Full { .. })
            || self
                .find_room(0)
                .is_err_and(|error| matches!(error, CommitError::Full { .. }));
        match self.acknowledged(&before) {
            Some(image) => {
                self.engine = Box::new(image);
                // A failed fsync leaves pages in memory that the disk does not have.
                self.access = Access::Lost {
                    is_to_be_replaced: !is_full,
                };
            }
            // Neither engine nor copy can be believed: read on from the engine, and let the
            // next open judge.
            None => return CommitError::Engine(error.into()),
        }
        match self.revive() {
            Ok(()) | Err(_) if is_full => full(&self.home),
            Ok(()) | Err(_) => CommitError::Engine(error.into()),
        }
    }

    /// Returns exactly what was acknowledged, or nothing if that cannot be shown.
    fn acknowledged(&self, before: &[Op]) -> Option<Image> {
        let state = state_op(&self.meta);
        let read = Image::of(self.engine.as_ref()).ok().map(|mut image| {
            image.write(before);
            image
        });
        let copied = || {
            let found = copy::recover(&self.home.directory).ok().flatten()?;
            Some(found.image)
        };
        [read, copied()]
            .into_iter()
            .flatten()
            .find_map(|mut image| {
                image.write(std::slice::from_ref(&state));
                image.is(&self.meta).then_some(image)
            })
    }

    fn make_writable(&mut self) -> Result<(), CommitError> {
        if self.access == Access::Open {
            return Ok(());
        }
        self.find_room(0)?;
        self.revive()
    }

    /// Brings the engine back from the image that stands in for it.
    fn revive(&mut self) -> Result<(), CommitError> {
        let home = self.home.clone();
        let failed = |error: EngineError| match error {
            EngineError::Full { .. } => full(&home),
            error => CommitError::Engine(error.into()),
        };
        self.has_ballast = false;
        let image = Image::of(self.engine.as_ref()).map_err(failed)?;
        self.engine = match self.access {
            Access::Open => return Ok(()),
            Access::Lost {
                is_to_be_replaced: true,
            } => {
                let cut = self.home.remove_unfinished();
                let aside = cut.and_then(|_| self.home.move_engine_aside());
                aside.map_err(|error| failed(EngineError::from_io("moving it aside", error)))?;
                self.home.fill(&image, &self.meta).map_err(failed)?
            }
            Access::Lost {
                is_to_be_replaced: false,
            } => {
                let engine = match self.home.open_engine() {
                    Ok(engine) => engine,
                    Err(error) => {
                        // Without a full disk to blame, it is the files, or a handle of ours
                        // that never closed them.
                        let is_to_be_replaced = !matches!(error, EngineError::Full { .. });
                        self.access = Access::Lost { is_to_be_replaced };
                        return Err(failed(error));
                    }
                };
                let found = Image::of(engine.as_ref()).map_err(failed)?;
                let ops = image.ops_from(&found);
                if !ops.is_empty() {
                    engine.apply(&ops).map_err(failed)?;
                }
                engine.make_durable().map_err(failed)?;
                engine
            }
            Access::Unopened => return self.open_late(),
        };
        self.access = Access::Open;
        self.copy = None;
        Ok(())
    }

    /// An engine that could not be opened at the start: its own state counts.
    fn open_late(&mut self) -> Result<(), CommitError> {
        let Standing {
            engine,
            meta,
            copy,
            access,
            opened: _,
        } = open::open(&self.home).map_err(|error| CommitError::Engine(error.into()))?;
        let is_same = meta.revision == self.meta.revision && meta.sum == self.meta.sum;
        self.engine = engine;
        self.meta = meta;
        self.copy = copy;
        self.access = access;
        match access {
            Access::Open if is_same => Ok(()),
            Access::Open => Err(CommitError::ReadAgain),
            Access::Lost { .. } | Access::Unopened => Err(full(&self.home)),
        }
    }

    fn copy(&mut self, ops: &[Op]) {
        let appended = match &mut self.copy {
            Some(copy) if !copy.is_due(self.export_every) => copy.append(&self.meta, ops),
            _ => {
                let directory = &self.home.directory;
                Copy::write(directory, self.engine.as_ref(), &self.meta)
                    .map(|copy| self.copy = Some(copy))
            }
        };
        self.copy_behind = appended.err().map(|error| {
            self.copy = None;
            words(&error)
        });
    }

    fn witness(&mut self) {
        let written = self.home.write_witness(&self.meta);
        self.witness_behind = written.err().map(|error| words(&error));
    }
}

fn full(home: &Home) -> CommitError {
    CommitError::Full {
        free_bytes: disk::free_bytes(&home.directory).unwrap_or(0),
        needed_bytes: home.reserve_bytes,
    }
}
