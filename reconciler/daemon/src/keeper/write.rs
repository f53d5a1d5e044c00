//! What a round accepts and refuses, written and told.

use std::collections::{BTreeMap, BTreeSet};

use specs::diagnostic::plain;
use specs::event::Severity;
use specs::id::{Generation, Key};
use store::model::{Change, Head, Source};

use super::{Keeper, event};
use crate::accept::{Acceptance, Contested};
use crate::ledger::{self, Entry};
use crate::reading::Refusal;

impl Keeper {
    /// Commits all files together, or, if that fails, each for itself: what the store cannot
    /// take of one file keeps no other back.
    pub(super) fn write_files(
        &mut self,
        files: BTreeMap<String, Vec<Acceptance>>,
        refused: &mut BTreeMap<String, Refusal>,
        changed: &mut BTreeSet<Key>,
    ) {
        if files.is_empty() {
            return;
        }
        let mut kept: BTreeMap<String, Vec<Acceptance>> = BTreeMap::new();
        for (path, acceptances) in files {
            match self.keep_profiles(&acceptances) {
                Ok(()) => {
                    kept.insert(path, acceptances);
                }
                Err(why) => {
                    refused.insert(path.clone(), Refusal::plain(&path, &why, Vec::new()));
                }
            }
        }
        let all: Vec<Change> = kept.values().flatten().flat_map(changes).collect();
        let together = self.commit(&all);
        for (path, acceptances) in kept {
            let written = match &together {
                Ok(()) => Ok(()),
                Err(_) => {
                    let own: Vec<Change> = acceptances.iter().flat_map(changes).collect();
                    self.commit(&own)
                }
            };
            match written {
                Ok(()) => {
                    for acceptance in acceptances {
                        changed.insert(acceptance.key.clone());
                        self.apply(acceptance);
                    }
                }
                Err(why) => {
                    let why = format!("it could not be stored, and is tried again: {why}");
                    refused.insert(path.clone(), Refusal::plain(&path, &why, Vec::new()));
                }
            }
        }
    }

    pub(super) fn keep_profiles(&self, acceptances: &[Acceptance]) -> Result<(), String> {
        for one in acceptances.iter().filter(|one| !one.moved_only) {
            if let Some(text) = &one.seccomp {
                self.profiles
                    .keep(&one.key, one.accepted.generation, text)
                    .map_err(|err| format!("keep the seccomp profile of {}: {err}", one.key))?;
            }
        }
        Ok(())
    }

    /// Takes over what was committed.
    pub(super) fn apply(&mut self, acceptance: Acceptance) {
        let key = acceptance.key;
        let generation = acceptance.accepted.generation;
        if !acceptance.moved_only {
            tracing::info!(%key, %generation, source = ledger::place(&acceptance.accepted),
                "accepted");
        }
        if let Some(range) = acceptance.range {
            self.ledger.ranges.insert(key.clone(), range);
        }
        for (of, address) in acceptance.addresses {
            match address {
                Some(address) => {
                    self.ledger.last_address = Some(address);
                    self.ledger.addresses.insert(of, address);
                }
                None => _ = self.ledger.addresses.remove(&of),
            }
        }
        match acceptance.order {
            Some(Some(order)) => {
                self.ledger.orders.insert(key.clone(), order);
            }
            Some(None) => {
                self.ledger.orders.remove(&key);
            }
            None => {}
        }
        let entry = Entry {
            head: Head {
                key: key.clone(),
                accepted: acceptance.accepted,
                deleted: false,
                first_accepted_ms: acceptance.first_accepted_ms,
            },
            spec: acceptance.spec,
            seccomp: acceptance.seccomp,
            desired: acceptance.desired,
            refusal: None,
            expired: false,
            // It was judged a moment ago.
            withdrawn: None,
        };
        self.ledger.entries.insert(key, entry);
    }

    /// Notes refusals at the containers they are about, and tells each once.
    pub(super) fn refuse(
        &mut self,
        refused: BTreeMap<String, Refusal>,
        contested: &BTreeMap<Key, Contested>,
        changed: &mut BTreeSet<Key>,
    ) {
        let mut events = Vec::new();
        for (key, entry) in &mut self.ledger.entries {
            let path = match &entry.head.accepted.source {
                Source::File { path, .. } => path.as_str(),
                Source::Api { .. } => continue,
            };
            let refusal = refused.get(path).filter(|_| !entry.head.deleted).cloned();
            if entry.refusal != refusal {
                entry.refusal = refusal;
                changed.insert(key.clone());
            }
        }
        for (path, refusal) in &refused {
            if self.told.get(path) != Some(&refusal.line) {
                tracing::warn!(file = path, err = refusal.line, "refused");
                self.told.insert(path.clone(), refusal.line.clone());
                let key = self.ledger.filed().find(|(_, _, of)| of == path);
                let (key, generation) = key.map_or((None, Generation(0)), |(key, entry, _)| {
                    (Some(key.clone()), entry.head.accepted.generation)
                });
                let said = ("SpecRefused", refusal.line.clone());
                events.push(event(key.as_ref(), generation, Severity::Warning, said));
                for (key, claim) in contested.iter().filter(|(_, claim)| claim.by == *path) {
                    let file = plain(path);
                    let message = format!("{file} claims {} too and was refused", claim.what);
                    let said = (claim.reason, message);
                    events.push(event(Some(key), Generation(0), Severity::Warning, said));
                }
            }
        }
        self.told
            .retain(|path, _| refused.contains_key(path) || path.starts_with('@'));
        self.refused = refused;
        for event in events {
            self.tell(event);
        }
    }
}

/// Returns what is written for one key.
pub(super) fn changes(acceptance: &Acceptance) -> Vec<Change> {
    let key = &acceptance.key;
    let generation = acceptance.accepted.generation;
    let mut changes = Vec::new();
    if let Some(range) = acceptance.range {
        changes.push(Change::HoldRange {
            key: key.clone(),
            range,
        });
    }
    let hold = |(key, address): &(Key, Option<_>)| Change::HoldAddress {
        key: key.clone(),
        address: *address,
    };
    changes.extend(acceptance.addresses.iter().map(hold));
    if acceptance.moved_only {
        return changes;
    }
    changes.push(Change::Accept {
        key: key.clone(),
        accepted: acceptance.accepted.clone(),
    });
    if let Some(order) = &acceptance.order {
        changes.push(Change::Override {
            key: key.clone(),
            order: order.clone(),
        });
    }
    let message = format!(
        "generation {generation} from {}",
        ledger::place(&acceptance.accepted)
    );
    changes.push(event(
        Some(key),
        generation,
        Severity::Normal,
        ("SpecAccepted", message),
    ));
    changes
}
