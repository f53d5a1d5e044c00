//! From a list of changes to one batch: what each change writes, and which may not be.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::ops::ControlFlow;

use specs::desired::IdRange;
use specs::id::{Generation, Key};

use crate::copy;
use crate::engine::{Engine, EngineError, Op, Tree};
use crate::frame;
use crate::image::Tally;
use crate::model::{Accepted, Change, EventDraft, Override};
use crate::outcome::RefusedError;
use crate::seal::{seal, wired};
use crate::wire::{self, Head, Meta};

mod lives;

/// Most bytes in one batch, frames included.
const BATCH_BYTES_MAX: usize = 16 << 20;
/// Generations of one container that are kept; the commit that accepts one more drops the
/// oldest.
pub const GENERATIONS_MAX: usize = 100;

/// Why no batch came of a list of changes.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DraftError {
    #[error(transparent)]
    Refused(#[from] RefusedError),
    #[error(transparent)]
    Engine(#[from] EngineError),
}

/// A batch that is ready, and the state it leads to.
#[derive(Debug)]
pub(crate) struct Batch {
    pub(crate) ops: Vec<Op>,
    pub(crate) meta: Meta,
    pub(crate) bytes: u64,
}

/// Returns the batch of `changes` over what the engine holds.
pub(crate) fn batch(
    engine: &dyn Engine,
    meta: &Meta,
    events_max: u64,
    changes: &[Change],
) -> Result<Batch, DraftError> {
    let mut draft = Draft {
        engine,
        pending: BTreeMap::new(),
        meta: meta.clone(),
    };
    for change in changes {
        draft.change(change)?;
    }
    draft.drop_oldest_events(events_max.max(1))?;
    draft.finish()
}

/// Returns the batch that clears the doubt and drops the records at `damaged`.
pub(crate) fn confirmation(
    engine: &dyn Engine,
    meta: &Meta,
    damaged: Vec<(Tree, Vec<u8>)>,
) -> Result<Batch, DraftError> {
    let mut draft = Draft {
        engine,
        pending: damaged.into_iter().map(|at| (at, None)).collect(),
        meta: meta.clone(),
    };
    draft.meta.doubt = None;
    draft.finish()
}

/// What the engine would hold, as far as the list has been gone through.
struct Draft<'a> {
    engine: &'a dyn Engine,
    pending: BTreeMap<(Tree, Vec<u8>), Option<Vec<u8>>>,
    meta: Meta,
}

impl Draft<'_> {
    fn change(&mut self, change: &Change) -> Result<(), DraftError> {
        match change {
            Change::Accept { key, accepted } => self.accept(key, accepted),
            Change::Delete { key, at_ms } => self.delete(key, *at_ms),
            Change::Clean { key, keep_range } => self.clean(key, *keep_range),
            Change::HoldRange { key, range } => self.hold_range(key, *range),
            Change::HoldAddress { key, address } => self.hold_address(key, *address),
            Change::LifeBegins(life) => self.life_begins(life),
            Change::LifeEnded { key, incarnation } => {
                self.remove(Tree::Lives, wire::numbered_key(key, incarnation.0));
                Ok(())
            }
            Change::KillsTold {
                key,
                incarnation,
                told,
            } => self.kills_told(key, *incarnation, *told),
            Change::Override { key, order } => self.set_override(key, order.as_ref()),
            Change::Event(draft) => self.event(draft),
        }
    }

    fn accept(&mut self, key: &Key, accepted: &Accepted) -> Result<(), DraftError> {
        let at = wire::numbered_key(key, accepted.generation.0);
        let content = wired(Tree::History, &at, wire::accepted_content(accepted))?;
        let sealed = seal(Tree::History, &at, &content)?;
        let newest = self.newest_generation(key)?;
        let is_known = self.get(Tree::History, &at)?.as_ref() == Some(&sealed);
        if accepted.generation <= newest && !(is_known && accepted.generation == newest) {
            return Err(RefusedError::StaleGeneration {
                key: key.clone(),
                given: accepted.generation,
                newest,
            }
            .into());
        }
        // A damaged head is replaced: what it said of the past cannot be told any more.
        let first_accepted_ms = match self.head(key) {
            Ok(Some(head)) if head.deleted_at_ms.is_none() => head.first_accepted_ms,
            Ok(_) | Err(DraftError::Refused(_)) => accepted.at_ms,
            Err(error) => return Err(error),
        };
        self.pending.insert((Tree::History, at), Some(sealed));
        self.drop_oldest_generations(key)?;
        self.put_head(
            key,
            &Head {
                generation: accepted.generation,
                first_accepted_ms,
                deleted_at_ms: None,
            },
        )
    }

    fn drop_oldest_generations(&mut self, key: &Key) -> Result<(), DraftError> {
        let kept = self.all(Tree::History, &wire::numbered_prefix(key))?;
        let surplus = kept.len().saturating_sub(GENERATIONS_MAX);
        for at in kept.into_keys().take(surplus) {
            self.remove(Tree::History, at);
        }
        Ok(())
    }

    fn delete(&mut self, key: &Key, at_ms: u64) -> Result<(), DraftError> {
        match self.head(key)? {
            Some(head) if head.deleted_at_ms.is_none() => self.put_head(
                key,
                &Head {
                    deleted_at_ms: Some(at_ms),
                    ..head
                },
            ),
            // Already a tombstone, or cleaned since.
            Some(_) | None => Ok(()),
        }
    }

    fn clean(&mut self, key: &Key, keep_range: bool) -> Result<(), DraftError> {
        if self
            .head(key)?
            .is_some_and(|head| head.deleted_at_ms.is_none())
        {
            return Err(RefusedError::NotDeleted(key.clone()).into());
        }
        let at = || key.as_str().as_bytes().to_vec();
        self.remove(Tree::Desired, at());
        self.remove(Tree::Overrides, at());
        self.remove(Tree::Addresses, at());
        if !keep_range {
            self.remove(Tree::Allocations, at());
        }
        Ok(())
    }

    fn hold_range(&mut self, key: &Key, range: IdRange) -> Result<(), DraftError> {
        let IdRange { base, count } = range;
        let last = count.checked_sub(1).and_then(|more| base.checked_add(more));
        let Some(last) = last else {
            return Err(RefusedError::NoRange { base, count }.into());
        };
        for (at, framed) in self.all(Tree::Allocations, b"")? {
            // A damaged one cannot be compared; that is what makes the store suspect.
            let Ok(holder) = wire::container(&at) else {
                continue;
            };
            let Ok(Ok(held)) = frame::open(Tree::Allocations, &at, &framed).map(wire::range) else {
                continue;
            };
            let held_last = held.base.saturating_add(held.count.saturating_sub(1));
            if holder != *key && base <= held_last && held.base <= last {
                return Err(RefusedError::RangeHeld { base, last, holder }.into());
            }
        }
        let at = key.as_str().as_bytes();
        let content = wired(Tree::Allocations, at, wire::range_content(range))?;
        self.put(Tree::Allocations, at, &content)
    }

    fn hold_address(&mut self, key: &Key, address: Option<Ipv4Addr>) -> Result<(), DraftError> {
        let Some(address) = address else {
            self.remove(Tree::Addresses, key.as_str().as_bytes().to_vec());
            return Ok(());
        };
        for (at, framed) in self.all(Tree::Addresses, b"")? {
            // As with ranges: a damaged one cannot be compared.
            let Ok(holder) = wire::container(&at) else {
                continue;
            };
            let held = frame::open(Tree::Addresses, &at, &framed).map(wire::address);
            if holder != *key && matches!(held, Ok(Ok(held)) if held == address) {
                return Err(RefusedError::AddressHeld { address, holder }.into());
            }
        }
        let at = key.as_str().as_bytes();
        let content = wired(Tree::Addresses, at, wire::address_content(address))?;
        self.put(Tree::Addresses, at, &content)
    }

    fn set_override(&mut self, key: &Key, order: Option<&Override>) -> Result<(), DraftError> {
        let at = key.as_str().as_bytes();
        match order {
            Some(order) => {
                let content = wired(Tree::Overrides, at, wire::override_content(order))?;
                self.put(Tree::Overrides, at, &content)
            }
            None => {
                self.remove(Tree::Overrides, at.to_vec());
                Ok(())
            }
        }
    }

    fn event(&mut self, draft: &EventDraft) -> Result<(), DraftError> {
        let at = wire::number_key(self.meta.next_event);
        let content = wired(Tree::Events, &at, wire::event_content(draft))?;
        self.put(Tree::Events, &at, &content)?;
        self.meta.next_event = self.meta.next_event.saturating_add(1);
        Ok(())
    }

    fn drop_oldest_events(&mut self, events_max: u64) -> Result<(), DraftError> {
        let oldest = wire::number_key(self.meta.next_event.saturating_sub(events_max));
        let mut surplus = Vec::new();
        self.engine.scan(Tree::Events, b"", &mut |at, _| {
            if at >= oldest.as_slice() {
                return ControlFlow::Break(());
            }
            surplus.push(at.to_vec());
            ControlFlow::Continue(())
        })?;
        for at in surplus {
            self.remove(Tree::Events, at);
        }
        // More in one list than may be kept at all.
        self.pending
            .retain(|(tree, at), value| *tree != Tree::Events || value.is_none() || *at >= oldest);
        Ok(())
    }

    /// Returns the highest generation in a key's history, damaged records included.
    fn newest_generation(&self, key: &Key) -> Result<Generation, DraftError> {
        let prefix = wire::numbered_prefix(key);
        let mut newest = newest_generation(self.engine, key)?;
        for (tree, at) in self.pending.keys() {
            if *tree == Tree::History && at.starts_with(&prefix) {
                let number = wire::numbered(at).map_or(0, |(_, number)| number);
                newest = newest.max(Generation(number));
            }
        }
        Ok(newest)
    }

    fn head(&self, key: &Key) -> Result<Option<Head>, DraftError> {
        let at = key.as_str().as_bytes();
        let Some(framed) = self.get(Tree::Desired, at)? else {
            return Ok(None);
        };
        let damaged = |how: String| RefusedError::Damaged {
            record: format!("desired {key}"),
            how,
        };
        let content =
            frame::open(Tree::Desired, at, &framed).map_err(|error| damaged(error.to_string()))?;
        let head = wire::from_json(content).map_err(|error| damaged(error.to_string()))?;
        Ok(Some(head))
    }

    fn put_head(&mut self, key: &Key, head: &Head) -> Result<(), DraftError> {
        let at = key.as_str().as_bytes();
        let content = wired(Tree::Desired, at, wire::json(head))?;
        self.put(Tree::Desired, at, &content)
    }

    fn get(&self, tree: Tree, at: &[u8]) -> Result<Option<Vec<u8>>, DraftError> {
        match self.pending.get(&(tree, at.to_vec())) {
            Some(value) => Ok(value.clone()),
            None => Ok(self.engine.get(tree, at)?),
        }
    }

    /// Returns the records whose key begins with `prefix`, what is pending included.
    fn all(&self, tree: Tree, prefix: &[u8]) -> Result<BTreeMap<Vec<u8>, Vec<u8>>, DraftError> {
        let mut records = BTreeMap::new();
        self.engine.scan(tree, prefix, &mut |key, value| {
            records.insert(key.to_vec(), value.to_vec());
            ControlFlow::Continue(())
        })?;
        for ((_, key), value) in self
            .pending
            .range((tree, prefix.to_vec())..)
            .take_while(|((at, key), _)| *at == tree && key.starts_with(prefix))
        {
            match value {
                Some(value) => records.insert(key.clone(), value.clone()),
                None => records.remove(key),
            };
        }
        Ok(records)
    }

    fn put(&mut self, tree: Tree, at: &[u8], content: &[u8]) -> Result<(), DraftError> {
        let sealed = seal(tree, at, content)?;
        self.pending.insert((tree, at.to_vec()), Some(sealed));
        Ok(())
    }

    fn remove(&mut self, tree: Tree, at: Vec<u8>) {
        self.pending.insert((tree, at), None);
    }

    fn finish(self) -> Result<Batch, DraftError> {
        let mut ops: Vec<Op> = self
            .pending
            .into_iter()
            .map(|((tree, key), value)| Op { tree, key, value })
            .collect();
        let size = |op: &Op| op.key.len() + op.value.as_ref().map_or(0, Vec::len);
        let bytes: usize = ops.iter().map(size).sum();
        if bytes > BATCH_BYTES_MAX {
            return Err(RefusedError::BatchTooLarge {
                bytes,
                max: BATCH_BYTES_MAX,
            }
            .into());
        }
        let before = Tally {
            count: self.meta.count,
            sum: self.meta.sum,
        };
        let Tally { count, sum } = before.after(self.engine, &ops)?;
        let meta = Meta {
            revision: self.meta.revision.saturating_add(1),
            count,
            sum,
            ..self.meta
        };
        ops.push(copy::meta_op(&meta).expect("BUG: the state record does not fit its frame"));
        Ok(Batch {
            ops,
            meta,
            bytes: u64::try_from(bytes).unwrap_or(u64::MAX),
        })
    }
}

/// Returns the highest generation in a key's history, damaged records included; 0 is none.
pub(crate) fn newest_generation(engine: &dyn Engine, key: &Key) -> Result<Generation, EngineError> {
    let mut newest = Generation(0);
    engine.scan(Tree::History, &wire::numbered_prefix(key), &mut |at, _| {
        let number = wire::numbered(at).map_or(0, |(_, number)| number);
        newest = newest.max(Generation(number));
        ControlFlow::Continue(())
    })?;
    Ok(newest)
}
