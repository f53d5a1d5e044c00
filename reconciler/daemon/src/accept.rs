//! From what all sources say to what is written: who holds which name, what is new, what is
//! refused. Pure; the keeper commits and then applies.

mod given;
mod loss;

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use specs::config::Config;
use specs::desired::{Desired, IdRange};
use specs::id::{Digest, Generation, Key};
use specs::spec::Spec;
use store::model::{Accepted, Override, Source};

use given::Given;
use loss::{loser, names, refuse_thing};

use crate::circles;
use crate::claims;
use crate::contest::{self, Claim, Holder};
use crate::ledger::{self, Basis, Ledger};
use crate::overrides;
use crate::reading::{Contents, Document, Reading, Readout, Refusal};
use crate::recover::Found;

/// What each source said last; `Err` while nothing can be said.
pub(crate) type Said = BTreeMap<PathBuf, Result<Contents, String>>;

/// How texts come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    /// They lie in watched directories.
    Directory,
    /// Somebody applies them over the socket.
    Socket,
}

/// What accepting rests on.
pub(crate) struct Desk<'a> {
    /// How the texts come.
    pub(crate) origin: Origin,
    /// Intent so far.
    pub(crate) ledger: &'a Ledger,
    /// Pools and defaults.
    pub(crate) config: &'a Config,
    /// Last generation of a key in history, or on the host.
    pub(crate) last_generation: &'a dyn Fn(&Key) -> Generation,
    /// What running containers have that the store may not know.
    pub(crate) found: &'a Found,
    /// Wall clock.
    pub(crate) now_ms: u64,
}

/// One key to be written.
#[derive(Clone, Debug)]
pub(crate) struct Acceptance {
    /// Which.
    pub(crate) key: Key,
    /// What is stored.
    pub(crate) accepted: Accepted,
    /// When the age begins, milliseconds since the epoch.
    pub(crate) first_accepted_ms: u64,
    /// The spec.
    pub(crate) spec: Spec,
    /// The profile it names.
    pub(crate) seccomp: Option<String>,
    /// Resolved.
    pub(crate) desired: Arc<Desired>,
    /// A range to be given out with it.
    pub(crate) range: Option<IdRange>,
    /// Who has which address with it.
    pub(crate) addresses: Vec<(Key, Option<Ipv4Addr>)>,
    /// An order that ends or changes with it.
    pub(crate) order: Option<Option<Override>>,
    /// Only its place changed: no new generation, and nothing to write.
    pub(crate) moved_only: bool,
}

/// One round's outcome.
#[derive(Debug, Default)]
pub(crate) struct Round {
    /// By file: written together or not at all.
    pub(crate) files: BTreeMap<String, Vec<Acceptance>>,
    /// Refused files.
    pub(crate) refused: BTreeMap<String, Refusal>,
    /// What other files tried to claim of a container: for the holder to be told.
    pub(crate) contested: BTreeMap<Key, Contested>,
}

/// A claim on what another container holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Contested {
    /// The file that was refused for it.
    pub(crate) by: String,
    /// The event's reason.
    pub(crate) reason: &'static str,
    /// What it claims, in words.
    pub(crate) what: String,
}

/// Decides one round.
pub(crate) fn decide(desk: &Desk<'_>, said: &Said) -> Round {
    let mut round = Round::default();
    let readings = readings(said);
    let mut claims: BTreeMap<Key, BTreeSet<Claim>> = BTreeMap::new();
    for reading in readings.values() {
        match &reading.outcome {
            // Policy that changed is for new texts only.
            Err(refusal) if desk.origin == Origin::Directory && stands(desk.ledger, refusal) => {}
            Err(refusal) => {
                round.refused.insert(reading.path.clone(), refusal.clone());
            }
            Ok(documents) => {
                for document in documents {
                    let claim = Claim {
                        path: reading.path.clone(),
                        line: document.line,
                    };
                    let name = document.spec.metadata.name.clone();
                    claims.entry(name).or_default().insert(claim);
                }
            }
        }
    }
    let outcome = contest::decide(&claims, &|key| holder(desk, said, key));
    for (path, lost) in outcome.losers {
        let contested = Contested {
            by: path.clone(),
            reason: "NameContested",
            what: "this name".to_owned(),
        };
        round.contested.insert(lost.key.clone(), contested);
        let names = readings
            .get(path.as_str())
            .map(|reading| names(reading))
            .unwrap_or_default();
        round
            .refused
            .insert(path.clone(), loser(desk.origin, &path, &lost, names));
    }
    // A file that is refused keeps what its containers have, which others may have been given:
    // they are judged again, at most once a file.
    loop {
        for (path, taken) in claims::losers(desk.ledger, &readings, &round.refused) {
            if let Some(reading) = readings.get(path.as_str()) {
                refuse_thing(reading, &taken, &mut round);
            }
        }
        for (path, closes) in circles::losers(desk.ledger, &readings, &round.refused) {
            if let Some(reading) = readings.get(path.as_str()) {
                let place = format!("{path}:{}", closes.line);
                let refusal = Refusal::plain(&place, &closes.why, names(reading));
                round.refused.insert(path, refusal);
            }
        }
        let refused = round.refused.len();
        let mut given = Given::of(desk);
        round.files.clear();
        for (path, reading) in &readings {
            if let Ok(documents) = &reading.outcome
                && !round.refused.contains_key(*path)
            {
                take_file(desk, reading, documents, &mut given, &mut round);
            }
        }
        if round.refused.len() == refused {
            break;
        }
    }
    round
}

/// Returns every text that stands, also the earlier one of a file that settles.
fn readings(said: &Said) -> BTreeMap<&str, &Reading> {
    let files = said.values().filter_map(|contents| contents.as_ref().ok());
    files
        .flat_map(|contents| &contents.files)
        .filter_map(|(path, readout)| match readout {
            Readout::Says(reading) | Readout::Settling(Some(reading)) => {
                Some((path.as_str(), &**reading))
            }
            Readout::Settling(None) => None,
        })
        .collect()
}

fn stands(ledger: &Ledger, refusal: &Refusal) -> bool {
    let accepted = |(key, digest): &(Key, Digest)| {
        let entry = ledger.entries.get(key).filter(|entry| !entry.head.deleted);
        entry.is_some_and(|entry| entry.head.accepted.digest == *digest)
    };
    !refusal.sound.is_empty() && refusal.sound.iter().all(accepted)
}

/// Returns who holds a name: only a holder that is known to have let go lets another in.
fn holder(desk: &Desk<'_>, said: &Said, key: &Key) -> Holder {
    let ledger = desk.ledger;
    if let Some(why) = ledger.unresolved.get(key) {
        return Holder::Elsewhere(format!("an accepted spec that cannot be resolved ({why})"));
    }
    let Some(entry) = ledger.entries.get(key).filter(|entry| !entry.head.deleted) else {
        return Holder::Nobody;
    };
    let path = match (desk.origin, &entry.head.accepted.source) {
        (Origin::Directory, Source::File { path, .. }) => path,
        (Origin::Directory, Source::Api { .. }) => {
            return Holder::Elsewhere("a spec applied over the socket".into());
        }
        (Origin::Socket, Source::File { .. }) => {
            return Holder::Elsewhere(ledger::place(&entry.head.accepted));
        }
        (Origin::Socket, Source::Api { .. }) => return Holder::Nobody,
    };
    let Some(contents) = Path::new(path).parent().and_then(|source| said.get(source)) else {
        // Its directory is no source any more.
        return Holder::Nobody;
    };
    match contents {
        Err(_) => Holder::Elsewhere(format!("{path}, in a directory that says nothing now")),
        Ok(contents) => match contents.files.get(path) {
            None if contents.complete => Holder::Nobody,
            None => Holder::File(path.clone()),
            Some(readout) if may_hold(readout, key) => Holder::File(path.clone()),
            Some(_) => Holder::Nobody,
        },
    }
}

/// Returns whether a file may hold a name: it does, or nobody can tell.
pub(crate) fn may_hold(readout: &Readout, key: &Key) -> bool {
    match readout {
        Readout::Settling(None) => true,
        Readout::Settling(Some(reading)) | Readout::Says(reading) => match &reading.outcome {
            Err(_) => true,
            Ok(documents) => documents.iter().any(|one| one.spec.metadata.name == *key),
        },
    }
}

fn take_file(
    desk: &Desk<'_>,
    reading: &Reading,
    documents: &[Document],
    given: &mut Given,
    round: &mut Round,
) {
    let before = given.clone();
    let mut acceptances = Vec::new();
    for document in documents {
        let key = &document.spec.metadata.name;
        if desk.origin == Origin::Directory && is_expired(desk, key, document.digest) {
            continue;
        }
        match acceptance(desk, reading, document, given) {
            Ok(Some(acceptance)) => acceptances.push(acceptance),
            Ok(None) => {}
            Err(refusal) => {
                // Whole or not at all: what it was to be given goes back.
                *given = before;
                round.refused.insert(reading.path.clone(), refusal);
                return;
            }
        }
    }
    if !acceptances.is_empty() {
        round.files.insert(reading.path.clone(), acceptances);
    }
}

/// A container that was deleted for its age is not made again from the same text.
fn is_expired(desk: &Desk<'_>, key: &Key, digest: Digest) -> bool {
    desk.ledger.entries.get(key).is_some_and(|entry| {
        let expires =
            reconciler_core::policy::expires_ms(&entry.desired, entry.head.first_accepted_ms);
        entry.head.deleted
            && entry.head.accepted.digest == digest
            && expires.is_some_and(|at| at <= desk.now_ms)
    })
}

fn source(origin: Origin, reading: &Reading, document: &Document) -> Source {
    let uid = reading.owner;
    match origin {
        Origin::Socket => Source::Api { uid },
        Origin::Directory => Source::File {
            path: reading.path.clone(),
            line: document.line,
            uid,
        },
    }
}

fn acceptance(
    desk: &Desk<'_>,
    reading: &Reading,
    document: &Document,
    given: &mut Given,
) -> Result<Option<Acceptance>, Refusal> {
    let key = &document.spec.metadata.name;
    let standing = desk
        .ledger
        .entries
        .get(key)
        .filter(|entry| !entry.head.deleted);
    let source = source(desk.origin, reading, document);
    let equal = standing.is_some_and(|entry| entry.head.accepted.digest == document.digest);
    let same_place = standing.is_some_and(|entry| match &entry.head.accepted.source {
        Source::Api { .. } => desk.origin == Origin::Socket,
        file @ Source::File { .. } => *file == source,
    });
    let share = given
        .share(desk, &document.spec)
        .map_err(|why| Refusal::plain(&reading.path, &why, names(reading)))?;
    let is_held = share.new_range.is_none() && share.new_addresses.is_empty();
    if equal && same_place && is_held {
        return Ok(None);
    }
    let generation = match standing {
        Some(entry) if equal => entry.head.accepted.generation,
        _ => (desk.last_generation)(key).next(),
    };
    let own = ledger::own(&document.spec);
    let standing_order = desk.ledger.orders.get(key);
    let ended = standing_order
        .filter(|_| !equal)
        .and_then(|order| overrides::after_edit(order, own));
    let order = ended.as_ref().map_or(standing_order, Option::as_ref);
    let seccomp = match standing {
        // An equal text keeps the profile it was accepted with.
        Some(entry) if equal => entry.seccomp.clone(),
        _ => document.seccomp.clone(),
    };
    let basis = Basis {
        source: &source,
        order,
        range: share.range,
        address: share.address,
        seccomp: seccomp.as_deref(),
        generation,
    };
    let desired = ledger::resolved(&document.spec, basis, desk.config)
        .map_err(|found| Refusal::of(&found, "", names(reading)))?;
    let at_ms = standing
        .filter(|_| equal)
        .map_or(desk.now_ms, |old| old.head.accepted.at_ms);
    Ok(Some(Acceptance {
        key: key.clone(),
        accepted: Accepted {
            generation,
            spec_json: document.json.clone(),
            digest: document.digest,
            source,
            at_ms,
        },
        first_accepted_ms: standing.map_or(desk.now_ms, |entry| entry.head.first_accepted_ms),
        spec: document.spec.clone(),
        seccomp,
        desired: Arc::new(desired),
        range: share.new_range,
        addresses: share.new_addresses,
        order: ended,
        moved_only: equal,
    }))
}
