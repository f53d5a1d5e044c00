//! What the store holds, in its own words.

use std::net::Ipv4Addr;

use specs::desired::IdRange;
use specs::event::{Event, KillsTold, Severity};
use specs::id::{Digest, Generation, Incarnation, Key};

/// Everything a daemon needs to go on after a start, read at once.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Contents {
    /// Newest accepted generation of every key that is wanted or still being cleaned.
    pub heads: Vec<Head>,
    /// Id ranges held.
    pub id_ranges: Vec<(Key, IdRange)>,
    /// Addresses held.
    pub addresses: Vec<(Key, Ipv4Addr)>,
    /// Lives that may have left objects on the host.
    pub lives: Vec<LifeRecord>,
    /// Standing orders of people.
    pub overrides: Vec<(Key, Override)>,
    /// Highest incarnation ever given out.
    pub incarnation: Incarnation,
    /// Records that failed their checksum: what they would have been, if that can be told.
    pub damaged: Vec<String>,
}

/// Newest intent of one key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    /// Which.
    pub key: Key,
    /// The accepted spec.
    pub accepted: Accepted,
    /// It was removed and waits for its cleanup to be seen.
    pub deleted: bool,
    /// When the key was first accepted, milliseconds since the epoch; `ttl` counts from it.
    pub first_accepted_ms: u64,
}

/// One accepted generation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Accepted {
    /// Which version.
    pub generation: Generation,
    /// The spec as written, as canonical JSON of `specs::spec::Spec`.
    pub spec_json: String,
    /// Digest of `spec_json`: equal texts make no new generation.
    pub digest: Digest,
    /// Where it came from.
    pub source: Source,
    /// When it was accepted, milliseconds since the epoch.
    pub at_ms: u64,
}

/// Where a spec came from.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Source {
    /// A document in a file of a watched directory.
    File {
        /// The file's path.
        path: String,
        /// Line its document begins on, from 1.
        line: u32,
        /// Owner of the file.
        uid: u32,
    },
    /// Applied over the socket.
    Api {
        /// The peer's user.
        uid: u32,
    },
}

/// A life that may have left objects on the host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LifeRecord {
    /// Whose.
    pub key: Key,
    /// Which.
    pub incarnation: Incarnation,
    /// Made from.
    pub generation: Generation,
    /// How far the kills for memory in it were told, if any was.
    pub kills_told: Option<KillsTold>,
}

/// A person's standing order; ends with its opposite, or with an edit of the spec's own field.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Override {
    /// `stop`: processes stay ended although the spec says running.
    pub stopped: bool,
    /// `suspend`: nothing is touched.
    pub suspended: bool,
    /// Counts `restart` orders.
    pub restart_epoch: u64,
    /// The spec's own `state` and `suspend` when the order was given; an edit of either ends it.
    pub given_over: (bool, bool),
    /// When, milliseconds since the epoch.
    pub at_ms: u64,
}

/// One change; a list of them is committed whole or not at all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// A new generation is wanted; also kept in history.
    Accept {
        /// Which key.
        key: Key,
        /// The generation.
        accepted: Accepted,
    },
    /// The spec is gone; the head stays as a tombstone.
    Delete {
        /// Which key.
        key: Key,
        /// When, milliseconds since the epoch.
        at_ms: u64,
    },
    /// Cleanup was seen: head, override, address and (unless `keep_range`) id range go; history
    /// stays.
    Clean {
        /// Which key.
        key: Key,
        /// A persistent root or volume still carries the range.
        keep_range: bool,
    },
    /// An id range is given to a key.
    HoldRange {
        /// Which key.
        key: Key,
        /// The range.
        range: IdRange,
    },
    /// A key is given an address instead of the one it had, or has none any more.
    HoldAddress {
        /// Which key.
        key: Key,
        /// The address.
        address: Option<Ipv4Addr>,
    },
    /// Objects of this life may exist from now on.
    LifeBegins(LifeRecord),
    /// Every object of this life was seen to be absent.
    LifeEnded {
        /// Whose.
        key: Key,
        /// Which.
        incarnation: Incarnation,
    },
    /// Kills for memory in a life were told so far; nothing if there is no such life.
    KillsTold {
        /// Whose.
        key: Key,
        /// Which.
        incarnation: Incarnation,
        /// How far.
        told: KillsTold,
    },
    /// A standing order, or none any more.
    Override {
        /// Which key.
        key: Key,
        /// The order.
        order: Option<Override>,
    },
    /// A line of history.
    Event(EventDraft),
}

/// An event before the store has given it a number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventDraft {
    /// Milliseconds since the epoch.
    pub at_ms: u64,
    /// Which container.
    pub key: Option<Key>,
    /// Version of the intent it speaks of.
    pub generation: Generation,
    /// Whether a person should look.
    pub severity: Severity,
    /// Stable CamelCase word.
    pub reason: String,
    /// A sentence.
    pub message: String,
}

/// A page of history.
pub type Events = Vec<Event>;
