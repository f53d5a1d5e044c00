//! A commit, and the way back from one that failed.

use std::fs::File;
use std::io;

use crate::copy::{self, Copy};
use crate::disk;
use crate::draft::{Batch, DraftError};
use crate::engine::{Engine, EngineError, Op};
use crate::home::{Home, state_op};
use crate::image::Image;
use crate::open::{self, Standing};
use crate::outcome::{CommitError, Committed, words};
use crate::wire::Meta;

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

/// Everything that is under the store's lock.
#[derive(Debug)]
pub(crate) struct Inner {
    // First, so that it is closed before the lock is given back.
    pub(crate) engine: Box<dyn Engine>,
    pub(crate) access: Access,
    pub(crate) meta: Meta,
    pub(crate) copy: Option<Copy>,
    pub(crate) witness_behind: Option<String>,
    pub(crate) copy_behind: Option<String>,
    pub(crate) has_ballast: bool,
    pub(crate) home: Home,
    pub(crate) events_max: u64,
    pub(crate) export_every: u64,
    pub(crate) lock: File,
}

impl Inner {
    pub(crate) fn commit(
        &mut self,
        batch: Result<Batch, DraftError>,
    ) -> Result<Committed, CommitError> {
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

    pub(crate) fn make_writable(&mut self) -> Result<(), CommitError> {
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
        self.stand_again()?;
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

    /// Takes the directory and its lock again if they were removed under us.
    fn stand_again(&mut self) -> Result<(), CommitError> {
        if disk::check_named(&self.lock).is_ok() {
            return Ok(());
        }
        let failed = |source| {
            CommitError::Engine(EngineError::from_io("making its directory again", source).into())
        };
        disk::make_directory(&self.home.directory).map_err(failed)?;
        self.lock = self.home.lock().map_err(|error| match error {
            disk::LockError::Held(_) => failed(io::ErrorKind::ResourceBusy.into()),
            disk::LockError::Io(source) => failed(source),
        })?;
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

    pub(crate) fn witness(&mut self) {
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
