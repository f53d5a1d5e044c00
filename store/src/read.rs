//! From framed records to the model; what is damaged is named, and hides nothing else.

use std::ops::ControlFlow;

use specs::event::Event;
use specs::id::{Generation, Incarnation, Key};

use crate::engine::{Engine, EngineError, Tree};
use crate::frame;
use crate::model::{Accepted, Contents, Head};
use crate::seal::place;
use crate::wire::{self, Meta, WireError};

/// Why something was not read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The engine could not be read.
    #[error("reading the store")]
    Engine(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The record that was asked for is there and damaged.
    #[error("{record} is damaged: {how}")]
    Damaged {
        /// Which record.
        record: String,
        /// What is wrong with it.
        how: String,
    },
}

impl From<EngineError> for ReadError {
    fn from(error: EngineError) -> Self {
        Self::Engine(error.into())
    }
}

/// Which events are wanted; all conditions together, oldest first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventQuery {
    /// Only those after this sequence number.
    pub after: Option<u64>,
    /// Only those of this container.
    pub key: Option<Key>,
    /// Of those, only this many of the newest.
    pub last: Option<usize>,
    /// Of those, at most this many, the oldest first; ask again with `after` for the rest.
    pub limit: usize,
}

/// Returns a content that is whole and says something, or the words for what is wrong.
fn content<T>(
    tree: Tree,
    key: &[u8],
    framed: &[u8],
    decode: impl FnOnce(&[u8]) -> Result<T, WireError>,
) -> Result<T, String> {
    let content = frame::open(tree, key, framed).map_err(|error| error.to_string())?;
    decode(content).map_err(|error| error.to_string())
}

/// Decodes every record of a tree below `prefix`; the bad ones are named in `damaged`.
fn collect<T>(
    engine: &dyn Engine,
    tree: Tree,
    prefix: &[u8],
    damaged: &mut Vec<String>,
    decode: impl Fn(&[u8], &[u8]) -> Result<T, WireError>,
) -> Result<Vec<T>, EngineError> {
    let mut found = Vec::new();
    engine.scan(tree, prefix, &mut |key, framed| {
        match content(tree, key, framed, |content| decode(key, content)) {
            Ok(value) => found.push(value),
            Err(how) => damaged.push(format!("{}: {how}", place(tree, key))),
        }
        ControlFlow::Continue(())
    })?;
    Ok(found)
}

/// Returns everything a daemon needs to go on.
pub(crate) fn contents(engine: &dyn Engine, meta: &Meta) -> Result<Contents, EngineError> {
    let mut damaged = Vec::new();
    let named = |key: &[u8]| wire::container(key);
    let found = collect(engine, Tree::Desired, b"", &mut damaged, |key, content| {
        Ok((named(key)?, wire::from_json::<wire::Head>(content)?))
    })?;
    let mut heads = Vec::new();
    for (key, head) in found {
        match accepted(engine, &key, head.generation) {
            Ok(Some(accepted)) => heads.push(Head {
                key,
                accepted,
                deleted: head.deleted_at_ms.is_some(),
                first_accepted_ms: head.first_accepted_ms,
            }),
            Ok(None) => {
                let generation = head.generation;
                damaged.push(format!(
                    "desired {key}: its generation {generation} is missing"
                ));
            }
            Err(ReadError::Damaged { record, how }) => {
                damaged.push(format!("desired {key}: {record} is damaged: {how}"));
            }
            Err(ReadError::Engine(error)) => damaged.push(format!("desired {key}: {error}")),
        }
    }
    let id_ranges = collect(
        engine,
        Tree::Allocations,
        b"",
        &mut damaged,
        |key, content| Ok((named(key)?, wire::range(content)?)),
    )?;
    let addresses = collect(
        engine,
        Tree::Addresses,
        b"",
        &mut damaged,
        |key, content| Ok((named(key)?, wire::address(content)?)),
    )?;
    let lives = collect(engine, Tree::Lives, b"", &mut damaged, wire::life)?;
    let overrides = collect(
        engine,
        Tree::Overrides,
        b"",
        &mut damaged,
        |key, content| Ok((named(key)?, wire::override_order(content)?)),
    )?;
    collect(engine, Tree::Events, b"", &mut damaged, wire::event)?;
    collect(engine, Tree::History, b"", &mut damaged, |_, content| {
        wire::accepted(content)
    })?;
    Ok(Contents {
        heads,
        id_ranges,
        addresses,
        lives,
        overrides,
        incarnation: Incarnation(meta.incarnation),
        damaged,
    })
}

/// Returns the places of all records that cannot be read, for them to be dropped.
pub(crate) fn damaged_places(engine: &dyn Engine) -> Result<Vec<(Tree, Vec<u8>)>, EngineError> {
    let mut places = Vec::new();
    for tree in Tree::ALL.into_iter().filter(|tree| *tree != Tree::Meta) {
        engine.scan(tree, b"", &mut |key, framed| {
            let is_well = content(tree, key, framed, |content| match tree {
                Tree::Desired => {
                    wire::container(key)?;
                    wire::from_json::<wire::Head>(content).map(|_| ())
                }
                Tree::History => {
                    wire::numbered(key)?;
                    wire::accepted(content).map(|_| ())
                }
                Tree::Allocations => {
                    wire::container(key)?;
                    wire::range(content).map(|_| ())
                }
                Tree::Addresses => {
                    wire::container(key)?;
                    wire::address(content).map(|_| ())
                }
                Tree::Lives => wire::life(key, content).map(|_| ()),
                Tree::Overrides => {
                    wire::container(key)?;
                    wire::override_order(content).map(|_| ())
                }
                Tree::Events => wire::event(key, content).map(|_| ()),
                Tree::Meta => Ok(()),
            });
            if is_well.is_err() {
                places.push((tree, key.to_vec()));
            }
            ControlFlow::Continue(())
        })?;
    }
    // A head without its generation says nothing either.
    let mut heads = Vec::new();
    engine.scan(Tree::Desired, b"", &mut |key, framed| {
        if let Ok(head) = content(Tree::Desired, key, framed, wire::from_json::<wire::Head>) {
            heads.push((key.to_vec(), head.generation));
        }
        ControlFlow::Continue(())
    })?;
    for (at, generation) in heads {
        let Ok(key) = wire::container(&at) else {
            continue;
        };
        let is_there = matches!(accepted(engine, &key, generation), Ok(Some(_)));
        if !is_there {
            places.push((Tree::Desired, at));
        }
    }
    Ok(places)
}

/// Returns one generation of a key.
pub(crate) fn accepted(
    engine: &dyn Engine,
    key: &Key,
    generation: Generation,
) -> Result<Option<Accepted>, ReadError> {
    let at = wire::numbered_key(key, generation.0);
    let Some(framed) = engine.get(Tree::History, &at)? else {
        return Ok(None);
    };
    content(Tree::History, &at, &framed, wire::accepted)
        .map(Some)
        .map_err(|how| ReadError::Damaged {
            record: place(Tree::History, &at),
            how,
        })
}

/// Returns the good records of a key's history, oldest first.
pub(crate) fn history(engine: &dyn Engine, key: &Key) -> Result<Vec<Accepted>, EngineError> {
    let prefix = wire::numbered_prefix(key);
    // What is damaged is in `contents`.
    collect(
        engine,
        Tree::History,
        &prefix,
        &mut Vec::new(),
        |_, content| wire::accepted(content),
    )
}

/// Returns the events that are asked for, oldest first.
pub(crate) fn events(engine: &dyn Engine, query: &EventQuery) -> Result<Vec<Event>, EngineError> {
    // What is damaged is in `contents`.
    let mut events = collect(engine, Tree::Events, b"", &mut Vec::new(), wire::event)?;
    events.retain(|event| {
        query.after.is_none_or(|after| event.seq > after)
            && (query.key.is_none() || event.key == query.key)
    });
    if let Some(last) = query.last {
        events.drain(..events.len().saturating_sub(last));
    }
    events.truncate(query.limit);
    Ok(events)
}
