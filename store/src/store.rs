//! The one door.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use specs::event::Event;
use specs::id::{Generation, Key};

use crate::commit::{Access, Inner};
use crate::disk::{self, LockError};
use crate::draft::{self, DraftError};
use crate::engine::EngineKind;
use crate::home::Home;
use crate::model::{Accepted, Change, Contents};
use crate::open;
use crate::outcome::{CommitError, Committed, Condition, Health, OpenError, Opened};
use crate::read::{self, EventQuery, ReadError};

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

/// A state directory that nobody opens for as long as this is held.
#[derive(Debug)]
pub struct Held {
    _lock: std::fs::File,
}

impl Held {
    /// Takes the directory, which is made if it is not there; nothing in it is looked at.
    ///
    /// # Errors
    /// When another process has it, and when the system refuses.
    pub fn take(directory: &Path) -> Result<Self, OpenError> {
        let failed = |source| OpenError::Files(directory.to_owned(), source);
        disk::make_directory(directory).map_err(failed)?;
        let lock = disk::lock(directory).map_err(|error| match error {
            LockError::Held(pid) => OpenError::Locked {
                directory: directory.to_owned(),
                pid,
            },
            LockError::Io(source) => failed(source),
        })?;
        Ok(Self { _lock: lock })
    }
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
            lock,
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
