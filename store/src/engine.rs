//! What the store asks of a key-value engine, and the engines there are.
//!
//! No type of an engine's own crosses this line.

use std::any::Any;
use std::fmt;
use std::io;
use std::ops::ControlFlow;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

#[cfg(test)]
mod redb;
mod sled;
mod worker;

/// A named keyspace.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Tree {
    Desired,
    History,
    Allocations,
    Addresses,
    Lives,
    Overrides,
    Events,
    Meta,
}

impl Tree {
    /// All of them, in order.
    pub(crate) const ALL: [Self; 8] = [
        Self::Desired,
        Self::History,
        Self::Allocations,
        Self::Addresses,
        Self::Lives,
        Self::Overrides,
        Self::Events,
        Self::Meta,
    ];

    /// Returns the name on disk.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Desired => "desired",
            Self::History => "history",
            Self::Allocations => "allocations",
            Self::Addresses => "addresses",
            Self::Lives => "lives",
            Self::Overrides => "overrides",
            Self::Events => "events",
            Self::Meta => "meta",
        }
    }

    /// Returns the tree of that name.
    pub(crate) fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|tree| tree.name() == name)
    }
}

/// One write: a value, or none any more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Op {
    pub(crate) tree: Tree,
    pub(crate) key: Vec<u8>,
    pub(crate) value: Option<Vec<u8>>,
}

/// What an engine could not do.
#[derive(Debug, thiserror::Error)]
pub(crate) enum EngineError {
    /// The file system has no room.
    #[error("no space left in {what}")]
    Full {
        what: &'static str,
        #[source]
        source: io::Error,
    },
    /// The system refused; the data may be well.
    #[error("system error in {what}")]
    Io {
        what: &'static str,
        #[source]
        source: io::Error,
    },
    /// What is on disk cannot be right.
    #[error("{what} found damage: {how}")]
    Damaged { what: &'static str, how: String },
    /// A bug or damage ended the engine's own code.
    #[error("{what} panicked: {how}")]
    Panicked { what: &'static str, how: String },
    /// It took longer than it may.
    #[error("{what} did not end within {seconds} s")]
    Late { what: &'static str, seconds: u64 },
    /// The engine is a read-only image in memory.
    #[error("the store is open for reading only")]
    ReadOnly,
}

impl EngineError {
    pub(crate) fn from_io(what: &'static str, source: io::Error) -> Self {
        match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                Self::Full { what, source }
            }
            _ => Self::Io { what, source },
        }
    }

    /// Returns whether what lies on disk is to blame, and not the moment.
    pub(crate) fn is_damage(&self) -> bool {
        match self {
            Self::Damaged { .. } | Self::Panicked { .. } | Self::Late { .. } => true,
            Self::Full { .. } | Self::Io { .. } | Self::ReadOnly => false,
        }
    }
}

/// Visits (key, value) in key order; may break off.
pub(crate) type Visit<'a> = dyn FnMut(&[u8], &[u8]) -> ControlFlow<()> + 'a;

/// A key-value engine with trees.
pub(crate) trait Engine: Send + fmt::Debug {
    /// Returns the value of a key.
    fn get(&self, tree: Tree, key: &[u8]) -> Result<Option<Vec<u8>>, EngineError>;

    /// Visits every record whose key begins with `prefix`, in key order.
    fn scan(&self, tree: Tree, prefix: &[u8], visit: &mut Visit<'_>) -> Result<(), EngineError>;

    /// Applies all of it or nothing; after a crash, too.
    fn apply(&self, batch: &[Op]) -> Result<(), EngineError>;

    /// Returns when everything applied before outlives a power cut.
    fn make_durable(&self) -> Result<(), EngineError>;
}

/// Which engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum EngineKind {
    Sled,
    /// sled as it is shipped: the negative control of the power-cut tests.
    #[cfg(test)]
    SledUnsynced,
    #[cfg(test)]
    Redb,
}

impl EngineKind {
    /// Returns the name of the engine's directory in the state directory.
    pub(crate) fn directory_name(self) -> &'static str {
        match self {
            Self::Sled => "sled",
            #[cfg(test)]
            Self::SledUnsynced => "sled",
            #[cfg(test)]
            Self::Redb => "redb",
        }
    }

    /// Returns the engine in `directory`, made if it is not there.
    pub(crate) fn open(
        self,
        directory: &Path,
        deadline_seconds: u64,
    ) -> Result<Box<dyn Engine>, EngineError> {
        match self {
            Self::Sled => sled::open(directory, deadline_seconds, sled::Sync::Own),
            #[cfg(test)]
            Self::SledUnsynced => sled::open(directory, deadline_seconds, sled::Sync::Shipped),
            #[cfg(test)]
            Self::Redb => redb::open(directory),
        }
    }
}

/// Runs a call of an engine's own code; a panic inside becomes an error.
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
