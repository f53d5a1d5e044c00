//! All records in memory: what a rebuild is filled from, and what is read while the engine
//! cannot be opened.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use crate::engine::{Engine, EngineError, Op, Tree, Visit};
use crate::frame;
use crate::wire::{self, META_KEY, Meta};

/// How many records there are, and the order-free sum of their terms; `meta` is left out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    pub(crate) count: u64,
    pub(crate) sum: u128,
}

impl Tally {
    pub(crate) fn add(&mut self, tree: Tree, key: &[u8], framed: &[u8]) {
        self.count = self.count.wrapping_add(1);
        self.sum = self.sum.wrapping_add(frame::term(tree, key, framed));
    }

    fn take(&mut self, tree: Tree, key: &[u8], framed: &[u8]) {
        self.count = self.count.wrapping_sub(1);
        self.sum = self.sum.wrapping_sub(frame::term(tree, key, framed));
    }

    /// Returns what it is once `batch`, which names no key twice, is written over `before`.
    pub(crate) fn after(mut self, before: &dyn Engine, batch: &[Op]) -> Result<Self, EngineError> {
        for op in batch.iter().filter(|op| op.tree != Tree::Meta) {
            if let Some(old) = before.get(op.tree, &op.key)? {
                self.take(op.tree, &op.key, &old);
            }
            if let Some(new) = &op.value {
                self.add(op.tree, &op.key, new);
            }
        }
        Ok(self)
    }
}

/// Framed records by tree and key.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Image {
    records: BTreeMap<(Tree, Vec<u8>), Vec<u8>>,
}

impl Image {
    /// Returns everything the engine holds.
    pub(crate) fn of(engine: &dyn Engine) -> Result<Self, EngineError> {
        let mut records = BTreeMap::new();
        for tree in Tree::ALL {
            engine.scan(tree, b"", &mut |key, value| {
                records.insert((tree, key.to_vec()), value.to_vec());
                ControlFlow::Continue(())
            })?;
        }
        Ok(Self { records })
    }

    /// Writes one batch.
    pub(crate) fn write(&mut self, batch: &[Op]) {
        for op in batch {
            let at = (op.tree, op.key.clone());
            match &op.value {
                Some(value) => self.records.insert(at, value.clone()),
                None => self.records.remove(&at),
            };
        }
    }

    /// Returns count and sum of what is here.
    pub(crate) fn tally(&self) -> Tally {
        let mut tally = Tally::default();
        for ((tree, key), value) in &self.records {
            if *tree != Tree::Meta {
                tally.add(*tree, key, value);
            }
        }
        tally
    }

    /// Returns the state record, if it is whole.
    pub(crate) fn meta(&self) -> Option<Meta> {
        let framed = self.records.get(&(Tree::Meta, META_KEY.to_vec()))?;
        let content = frame::open(Tree::Meta, META_KEY, framed).ok()?;
        wire::from_json(content).ok()
    }

    /// Returns whether it is exactly what `meta` says.
    pub(crate) fn is(&self, meta: &Meta) -> bool {
        let tally = self.tally();
        self.meta().as_ref() == Some(meta) && tally.count == meta.count && tally.sum == meta.sum
    }

    /// Returns the writes that turn `from` into this.
    pub(crate) fn ops_from(&self, from: &Self) -> Vec<Op> {
        let gone = from
            .records
            .keys()
            .filter(|at| !self.records.contains_key(*at))
            .map(|(tree, key)| Op {
                tree: *tree,
                key: key.clone(),
                value: None,
            });
        let new = self
            .records
            .iter()
            .filter(|(at, value)| from.records.get(*at) != Some(*value))
            .map(|((tree, key), value)| Op {
                tree: *tree,
                key: key.clone(),
                value: Some(value.clone()),
            });
        gone.chain(new).collect()
    }
}

impl Engine for Image {
    fn get(&self, tree: Tree, key: &[u8]) -> Result<Option<Vec<u8>>, EngineError> {
        Ok(self.records.get(&(tree, key.to_vec())).cloned())
    }

    fn scan(&self, tree: Tree, prefix: &[u8], visit: &mut Visit<'_>) -> Result<(), EngineError> {
        for ((at, key), value) in self.records.range((tree, prefix.to_vec())..) {
            if *at != tree
                || !key.starts_with(prefix)
                || visit(key, value) == ControlFlow::Break(())
            {
                break;
            }
        }
        Ok(())
    }

    fn apply(&self, _batch: &[Op]) -> Result<(), EngineError> {
        Err(EngineError::ReadOnly)
    }

    fn make_durable(&self) -> Result<(), EngineError> {
        Err(EngineError::ReadOnly)
    }
}
