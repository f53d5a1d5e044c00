//! One round over all sources: what is believed, and in which order it is acted on.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use specs::id::{Generation, Key};

use super::{Keeper, SILENT_MS};
use crate::accept::{self, Desk, Origin, Said};
use crate::clock;
use crate::profiles::write_durable;
use crate::reading::{Readout, Survey};
use crate::removal;
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
        let last = |key: &Key| self.last_generation(key);
        let desk = Desk {
            origin: Origin::Directory,
            ledger: &self.ledger,
            config: &self.config,
            last_generation: &last,
            found: &self.found,
            now_ms: now.wall_ms,
        };
        let mut outcome = accept::decide(&desk, &said);
        let mut changed: BTreeSet<Key> = BTreeSet::new();
        self.write_files(
            std::mem::take(&mut outcome.files),
            &mut outcome.refused,
            &mut changed,
        );
        self.sweep_tombstones(&mut changed);
        self.refuse(outcome.refused, &outcome.contested, &mut changed);
        self.remove(&said, now.boot_ms, &mut changed);
        self.expire(now.wall_ms, &mut changed);
        self.leave_doubt();
        self.ask_for_looks();
        self.publish_intents(changed.into_iter().collect());
        self.publish_mode();
        self.publish_view();
    }

    /// The last generation of a key in history, or on the host.
    pub(super) fn last_generation(&self, key: &Key) -> Generation {
        let stored = self.store.newest_generation(key).unwrap_or_default();
        stored.max(self.found_generations.get(key).copied().unwrap_or_default())
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

    pub(super) fn again_in(&mut self, ms: u64) {
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
