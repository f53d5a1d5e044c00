//! What goes: removed documents, ages that are over, tombstones.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use specs::event::Severity;
use specs::id::Key;
use store::model::{Change, Source};

use super::{Keeper, event};
use crate::accept::{self, Said};
use crate::clock;
use crate::ledger::{self, Entry};
use crate::reading::{Contents, Readout};
use crate::removal::Census;
use crate::source::SETTLE_MS;

impl Keeper {
    /// Drops the tombstones of expired containers whose text has gone.
    pub(super) fn sweep_tombstones(&mut self, changed: &mut BTreeSet<Key>) {
        let gone: Vec<(Key, bool)> = self
            .ledger
            .entries
            .iter()
            .filter(|(key, entry)| entry.expired && !self.is_text_still_there(key))
            .map(|(key, entry)| (key.clone(), ledger::keeps_range(&entry.desired)))
            .collect();
        for (key, keep_range) in gone {
            let clean = Change::Clean {
                key: key.clone(),
                keep_range,
            };
            if self.commit(&[clean]).is_ok() {
                self.ledger.entries.remove(&key);
                self.ledger.orders.remove(&key);
                self.ledger.addresses.remove(&key);
                self.found.addresses.remove(&key);
                if !keep_range {
                    self.ledger.ranges.remove(&key);
                }
                changed.insert(key);
            }
        }
    }

    pub(super) fn remove(&mut self, said: &Said, now_ms: u64, changed: &mut BTreeSet<Key>) {
        let sources: Vec<PathBuf> = self.sources.keys().cloned().collect();
        for source in sources {
            let Some(Ok(contents)) = said.get(&source) else {
                continue;
            };
            if !contents.complete {
                self.again_in(SETTLE_MS);
                continue;
            }
            let mut census = self.census(&source, contents);
            let elsewhere: Vec<Key> = census
                .owned
                .iter()
                .filter(|key| {
                    said.values()
                        .flatten()
                        .any(|contents| claims(contents, key))
                })
                .cloned()
                .collect();
            census.present.extend(elsewhere);
            let in_doubt = self.doubt.is_some();
            let Some(known) = self.sources.get_mut(&source) else {
                continue;
            };
            let allowed = known
                .allowed
                .filter(|(_, until)| now_ms <= *until)
                .map(|(most, _)| most);
            // By the time of the listing, so that only another listing can confirm it.
            let mut verdict =
                known
                    .removals
                    .rule(&census, self.config.deletions, allowed, known.at_ms);
            if in_doubt {
                verdict.held.append(&mut verdict.go);
            }
            known.held.clone_from(&verdict.held);
            if let Some(again) = verdict.again_ms {
                self.again_in(again);
            }
            self.tell_held(&source, &verdict.held);
            for key in verdict.go {
                if self.delete(&key, ("SpecRemoved", "its document was removed".into())) {
                    if let Some(known) = self.sources.get_mut(&source) {
                        known.removals.done(&key, allowed.is_some(), now_ms);
                    }
                    changed.insert(key);
                }
            }
        }
    }

    /// Writes a tombstone.
    pub(super) fn delete(&mut self, key: &Key, said: (&str, String)) -> bool {
        let Some(entry) = self
            .ledger
            .entries
            .get(key)
            .filter(|entry| !entry.head.deleted)
        else {
            return false;
        };
        let generation = entry.head.accepted.generation;
        let written = self.commit(&[
            Change::Delete {
                key: key.clone(),
                at_ms: clock::wall_ms(),
            },
            event(Some(key), generation, Severity::Normal, said),
        ]);
        if let Some(entry) = self.ledger.entries.get_mut(key)
            && written.is_ok()
        {
            tracing::info!(%key, %generation, "removed");
            entry.head.deleted = true;
            entry.refusal = None;
        }
        written.is_ok()
    }

    pub(super) fn has_expired(&self, wall_ms: u64) -> bool {
        self.doubt.is_none()
            && self
                .ledger
                .entries
                .values()
                .any(|entry| is_over(entry, wall_ms))
    }

    pub(super) fn expire(&mut self, wall_ms: u64, changed: &mut BTreeSet<Key>) {
        if self.doubt.is_some() {
            return;
        }
        let over: Vec<Key> = self
            .ledger
            .entries
            .iter()
            .filter(|(_, entry)| is_over(entry, wall_ms))
            .map(|(key, _)| key.clone())
            .collect();
        for key in over {
            if self.delete(&key, ("Expired", "its `ttl` is over".into())) {
                changed.insert(key);
            }
        }
    }

    /// Says whether the text of an expired container is still in its source, or nobody knows.
    pub(super) fn is_text_still_there(&self, key: &Key) -> bool {
        let Some(entry) = self.ledger.entries.get(key) else {
            return false;
        };
        let Source::File { path, .. } = &entry.head.accepted.source else {
            return false;
        };
        let expires =
            reconciler_core::policy::expires_ms(&entry.desired, entry.head.first_accepted_ms);
        let may_be_there = |contents: &Contents| {
            let own = contents.files.get(path);
            !contents.complete
                || own.is_some_and(|readout| accept::may_hold(readout, key))
                || claims(contents, key)
        };
        expires.is_some_and(|at| at <= clock::wall_ms())
            && self
                .sources
                .values()
                .any(|known| known.said.as_ref().map_or(true, may_be_there))
    }

    /// Returns the keys that came from a source, and those of them that may still be there.
    pub(super) fn census(&self, source: &Path, contents: &Contents) -> Census {
        let mut census = Census::default();
        for (key, _, path) in self.ledger.owned_by(source) {
            census.owned.insert(key.clone());
            let own = contents.files.get(path);
            if own.is_some_and(|one| accept::may_hold(one, key)) || claims(contents, key) {
                census.present.insert(key.clone());
            }
        }
        census
    }
}

fn is_over(entry: &Entry, wall_ms: u64) -> bool {
    let expires = reconciler_core::policy::expires_ms(&entry.desired, entry.head.first_accepted_ms);
    // A clock that stands before the acceptance has not been set yet: no age is known.
    !entry.head.deleted
        && wall_ms >= entry.head.first_accepted_ms
        && expires.is_some_and(|at| at <= wall_ms)
}

/// Says whether any text in a directory names the key, understood or not.
fn claims(contents: &Contents, key: &Key) -> bool {
    contents.files.values().any(|readout| match readout {
        Readout::Settling(None) => false,
        Readout::Settling(Some(reading)) | Readout::Says(reading) => match &reading.outcome {
            Ok(documents) => documents.iter().any(|one| one.spec.metadata.name == *key),
            Err(refusal) => refusal.names.contains(key),
        },
    })
}
