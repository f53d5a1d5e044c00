//! One round over all sources: what is believed, what is accepted, what goes.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use specs::diagnostic::plain;
use specs::event::Severity;
use specs::id::{Generation, Key};
use store::model::{Change, Head, Source};

use super::{Keeper, SILENT_MS, event};
use crate::accept::{self, Acceptance, Desk, Said};
use crate::clock;
use crate::ledger::{self, Entry};
use crate::profiles::write_durable;
use crate::reading::{Contents, Readout, Refusal, Survey};
use crate::removal::{self, Census};
use crate::source::SETTLE_MS;
use crate::source::directory::Identity;

/// Which directory each source was, kept over restarts.
const IDENTITIES: &str = "sources.json";

impl Keeper {
    /// Takes a listing in.
    pub(super) fn survey(&mut self, survey: Survey) {
        let census = survey
            .outcome
            .as_ref()
            .ok()
            .map(|said| self.census(&survey.source, said));
        let now = clock::boot_ms();
        let Some(known) = self.sources.get_mut(&survey.source) else {
            return;
        };
        known.at_ms = survey.at_ms;
        known.is_asked = true;
        let mut became = None;
        known.said = survey.outcome.and_then(|said| {
            let census = census.unwrap_or_default();
            let allowed = known
                .allowed
                .is_some_and(|(most, until)| now <= until && removal::absent(&census) <= most);
            if !allowed {
                removal::believe(known.identity.as_ref(), &said.identity, &census)?;
            }
            if known.identity != Some(said.identity) {
                became = Some(said.identity);
            }
            Ok(said)
        });
        match &known.said {
            Ok(said) => {
                let settled = said
                    .files
                    .values()
                    .all(|one| matches!(one, Readout::Says(_)));
                let since = *known.whole_since_ms.get_or_insert(survey.at_ms);
                if !said.complete {
                    known.whole_since_ms = None;
                } else if settled && survey.at_ms.saturating_sub(since) >= SETTLE_MS {
                    known.was_whole = true;
                }
            }
            Err(_) => {
                known.whole_since_ms = None;
                known.removals.forget();
                known.held.clear();
            }
        }
        if let Some(identity) = became {
            known.identity = Some(identity);
            self.keep_identities();
        }
        self.tell_source(&survey.source);
    }

    /// Decides, writes, applies, tells.
    pub(super) fn round(&mut self) {
        let now = clock::now();
        self.again_at_ms = None;
        self.silence(now.boot_ms);
        let said: Said = self
            .sources
            .iter()
            .map(|(path, known)| (path.clone(), known.said.clone()))
            .collect();
        let last = |key: &Key| {
            let stored = self.store.newest_generation(key).unwrap_or_default();
            stored.max(self.found_generations.get(key).copied().unwrap_or_default())
        };
        let desk = Desk {
            ledger: &self.ledger,
            config: &self.config,
            last_generation: &last,
            found_ranges: &self.found_ranges,
            now_ms: now.wall_ms,
        };
        let mut outcome = accept::decide(&desk, &said);
        let mut changed: BTreeSet<Key> = BTreeSet::new();
        self.write_files(
            std::mem::take(&mut outcome.files),
            &mut outcome.refused,
            &mut changed,
        );
        self.sweep_tombstones(&said, &outcome.expired, &mut changed);
        self.refuse(outcome.refused, &outcome.contested, &mut changed);
        self.remove(&said, now.boot_ms, &mut changed);
        self.expire(now.wall_ms, &mut changed);
        self.leave_doubt();
        self.ask_for_looks();
        self.publish_intents(changed.into_iter().collect());
        self.publish_mode();
        self.publish_view();
    }

    /// A source that stopped answering says nothing any more.
    fn silence(&mut self, now_ms: u64) {
        for known in self.sources.values_mut() {
            let for_ms = now_ms.saturating_sub(known.at_ms);
            if known.said.is_ok() && for_ms > SILENT_MS {
                known.said = Err(format!("it could not be listed for {} s", for_ms / 1000));
                known.whole_since_ms = None;
                known.removals.forget();
            }
        }
    }

    /// Commits all files together, or, if that fails, each for itself: what the store cannot
    /// take of one file keeps no other back.
    fn write_files(
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

    fn keep_profiles(&self, acceptances: &[Acceptance]) -> Result<(), String> {
        for one in acceptances.iter().filter(|one| !one.moved_only) {
            if let Some(text) = &one.seccomp {
                self.profiles
                    .keep(&one.key, one.accepted.generation, text)
                    .map_err(|err| format!("keep the seccomp profile of {}: {err}", one.key))?;
            }
        }
        Ok(())
    }

    fn apply(&mut self, acceptance: Acceptance) {
        let key = acceptance.key;
        let generation = acceptance.accepted.generation;
        if !acceptance.moved_only {
            tracing::info!(%key, %generation, source = ledger::place(&acceptance.accepted),
                "accepted");
        }
        if let Some(range) = acceptance.range {
            self.ledger.ranges.insert(key.clone(), range);
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
        };
        self.ledger.entries.insert(key, entry);
    }

    /// Drops the tombstones of expired containers whose text has gone.
    fn sweep_tombstones(
        &mut self,
        said: &Said,
        still_there: &BTreeSet<Key>,
        changed: &mut BTreeSet<Key>,
    ) {
        if said.values().any(Result::is_err) {
            return;
        }
        let gone: Vec<(Key, bool)> = self
            .ledger
            .entries
            .iter()
            .filter(|(key, entry)| entry.expired && !still_there.contains(*key))
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
                if !keep_range {
                    self.ledger.ranges.remove(&key);
                }
                changed.insert(key);
            }
        }
    }

    /// Notes refusals at the containers they are about, and tells each once.
    fn refuse(
        &mut self,
        refused: BTreeMap<String, Refusal>,
        contested: &BTreeMap<Key, String>,
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
                for (key, _) in contested.iter().filter(|(_, by)| *by == path) {
                    let message = format!("{} claims this name too and was refused", plain(path));
                    let said = ("NameContested", message);
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

    fn remove(&mut self, said: &Said, now_ms: u64, changed: &mut BTreeSet<Key>) {
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
                .filter(|key| self.is_claimed(said, key))
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

    fn expire(&mut self, wall_ms: u64, changed: &mut BTreeSet<Key>) {
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

    /// Returns the keys that came from a source, and those of them that may still be there.
    fn census(&self, source: &Path, contents: &Contents) -> Census {
        let mut census = Census::default();
        for (key, _, path) in self.ledger.owned_by(source) {
            census.owned.insert(key.clone());
            let own = contents
                .files
                .get(path)
                .is_some_and(|one| accept::may_hold(one, key));
            if own || claims(contents, key) {
                census.present.insert(key.clone());
            }
        }
        census
    }

    fn is_claimed(&self, said: &Said, key: &Key) -> bool {
        said.values()
            .flatten()
            .any(|contents| claims(contents, key))
    }

    /// Says whether the text of an expired container is still in its source, or nobody knows.
    pub(super) fn is_text_still_there(&self, key: &Key) -> bool {
        let Some(entry) = self.ledger.entries.get(key) else {
            return false;
        };
        let expires =
            reconciler_core::policy::expires_ms(&entry.desired, entry.head.first_accepted_ms);
        expires.is_some_and(|at| at <= clock::wall_ms())
            && self.sources.values().any(|known| match &known.said {
                Err(_) => true,
                Ok(contents) => claims(contents, key),
            })
    }

    fn again_in(&mut self, ms: u64) {
        let at = clock::boot_ms().saturating_add(ms);
        self.again_at_ms = Some(self.again_at_ms.map_or(at, |sooner| sooner.min(at)));
    }

    /// A removal needs a second listing: the sources are asked for one when it is due.
    fn ask_for_looks(&mut self) {
        let now = clock::boot_ms();
        if self
            .sources
            .values()
            .any(|known| known.said.is_ok() && !known.was_whole)
        {
            self.again_in(SETTLE_MS);
        }
        let due = self
            .again_at_ms
            .is_some_and(|at| at <= now.saturating_add(SETTLE_MS));
        for known in self.sources.values() {
            let stale = now.saturating_sub(known.at_ms) >= SETTLE_MS;
            if due && stale {
                known.hint.give();
            }
        }
    }

    fn keep_identities(&self) {
        let all: BTreeMap<String, [u64; 3]> = self
            .sources
            .iter()
            .filter_map(|(path, known)| {
                let identity = known.identity?;
                let numbers = [identity.device, identity.file_system, identity.inode];
                Some((path.to_string_lossy().into_owned(), numbers))
            })
            .collect();
        let written = serde_json::to_vec(&all)
            .map_err(std::io::Error::from)
            .and_then(|bytes| write_durable(&self.state, IDENTITIES, &bytes));
        if let Err(err) = written {
            // Without it a later start is only more careful.
            tracing::warn!(err = %err, "write {IDENTITIES}");
        }
    }
}

/// Reads which directory each source was; nothing is known of those that cannot be read.
pub(super) fn read_identities(state: &Path) -> BTreeMap<PathBuf, Identity> {
    let read = std::fs::read(state.join(IDENTITIES)).ok();
    let all: BTreeMap<String, [u64; 3]> = read
        .and_then(|bytes| serde_json::from_slice(&bytes).ok())
        .unwrap_or_default();
    all.into_iter()
        .map(|(path, [device, file_system, inode])| {
            let identity = Identity {
                device,
                file_system,
                inode,
            };
            (PathBuf::from(path), identity)
        })
        .collect()
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

/// Returns what is written for one key.
fn changes(acceptance: &Acceptance) -> Vec<Change> {
    if acceptance.moved_only {
        return Vec::new();
    }
    let key = &acceptance.key;
    let generation = acceptance.accepted.generation;
    let mut changes = Vec::new();
    if let Some(range) = acceptance.range {
        changes.push(Change::HoldRange {
            key: key.clone(),
            range,
        });
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
