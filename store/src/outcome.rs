//! What an open, a commit and a question after the store's own state are answered with.

use std::error::Error;
use std::io;
use std::net::Ipv4Addr;
use std::path::PathBuf;

use specs::id::{Generation, Incarnation, Key};

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
    /// not here. Lasts over restarts until [`Store::confirm`](crate::Store::confirm).
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

/// Why a commit did not happen. None of it is there; only if the daemon dies before the store
/// could take a half-done one back may the next start find it, whole.
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
    /// [`Store::contents`](crate::Store::contents) again.
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
    /// Why something acknowledged may be missing, until [`Store::confirm`](crate::Store::confirm).
    pub doubt: Option<String>,
}

/// Why a list of changes may not be committed.
#[derive(Debug, thiserror::Error)]
pub enum RefusedError {
    /// One record is larger than the store keeps; what is larger belongs into a file.
    #[error("{record} has {bytes} bytes, and the store keeps at most {max} in one record")]
    TooLarge {
        /// Which record.
        record: String,
        /// Its size as it would be kept.
        bytes: usize,
        /// The limit.
        max: usize,
    },
    /// All records together are larger than one commit may be; split it.
    #[error("the commit has {bytes} bytes, and at most {max} fit in one")]
    BatchTooLarge {
        /// Their size.
        bytes: usize,
        /// The limit.
        max: usize,
    },
    /// A generation is accepted that is not above the newest one.
    #[error("generation {given} of {key} does not follow on {newest}")]
    StaleGeneration {
        /// Whose.
        key: Key,
        /// The one to be accepted.
        given: Generation,
        /// The newest in the key's history.
        newest: Generation,
    },
    /// A key is cleaned whose spec is wanted.
    #[error("{0} was not deleted, so it cannot be cleaned")]
    NotDeleted(Key),
    /// An id range has no ids, or some past 2^32.
    #[error("{count} ids from {base} are no range")]
    NoRange {
        /// First id.
        base: u32,
        /// How many.
        count: u32,
    },
    /// An id range has ids that another key holds.
    #[error("ids {base} to {last} touch the range of {holder}")]
    RangeHeld {
        /// First id asked for.
        base: u32,
        /// Last id asked for.
        last: u32,
        /// Who holds some of them.
        holder: Key,
    },
    /// An address is another key's.
    #[error("the address {address} belongs to {holder}")]
    AddressHeld {
        /// The address asked for.
        address: Ipv4Addr,
        /// Whose it is.
        holder: Key,
    },
    /// Two lives would have one incarnation.
    #[error("incarnation {incarnation} is a life of {holder}")]
    LifeTaken {
        /// The number.
        incarnation: Incarnation,
        /// Whose it is.
        holder: Key,
    },
    /// A record that this change builds on is damaged.
    #[error("{record} is damaged: {how}")]
    Damaged {
        /// Which record.
        record: String,
        /// What is wrong with it.
        how: String,
    },
}

/// Returns an error with its causes, as one line.
pub(crate) fn words(error: &dyn Error) -> String {
    let mut line = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        line = format!("{line}: {error}");
        cause = error.source();
    }
    line
}
