//! Texts that come over the socket: what they would mean, and what they mean once applied.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use specs::desired::Desired;
use specs::id::{Generation, Key};
use store::model::{Change, Source};
use tokio::sync::oneshot;

use super::write::changes;
use super::{Denied, Keeper};
use crate::accept::{self, Acceptance, Desk, Origin, Round, Said};
use crate::api::wire::PlanFile;
use crate::clock;
use crate::ledger;
use crate::reading::{self, Contents, Readout, Refusal};
use crate::source::directory::Identity;

/// Texts and who gives them.
#[derive(Debug)]
pub(crate) struct Texts {
    /// The texts.
    pub(crate) files: Vec<PlanFile>,
    /// The peer's user.
    pub(crate) uid: u32,
    /// Whether they are meant for a directory or applied.
    pub(crate) origin: Origin,
}

/// What texts would mean if they were taken now.
#[derive(Debug, Default)]
pub(crate) struct Preview {
    /// Each container: as it stands, and as it would be.
    pub(crate) containers: BTreeMap<Key, (Option<Arc<Desired>>, Arc<Desired>)>,
    /// Refused texts.
    pub(crate) refused: BTreeMap<String, Refusal>,
}

/// What became of applied texts: all of them were taken, or, if one is refused, none.
#[derive(Debug, Default)]
pub(crate) struct Applied {
    /// Each container with its newest generation.
    pub(crate) containers: BTreeMap<Key, (Generation, Effect)>,
    /// Refused texts.
    pub(crate) refused: BTreeMap<String, Refusal>,
}

/// What an applied text changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Effect {
    /// There was none of this name.
    Created,
    /// It is another one than before.
    Configured,
    /// It was accepted just so before.
    Unchanged,
}

impl Keeper {
    /// Says what texts would mean, or what is accepted. Writes nothing.
    pub(super) fn preview(&self, texts: Texts, reply: oneshot::Sender<Preview>) {
        let mut preview = Preview::default();
        if texts.files.is_empty() {
            for (key, entry) in self.standing() {
                let standing = Arc::clone(&entry.desired);
                preview
                    .containers
                    .insert(key.clone(), (Some(Arc::clone(&standing)), standing));
            }
        } else {
            let (_, round) = self.decide_texts(texts);
            for acceptance in round.files.into_values().flatten() {
                let standing = self.ledger.entries.get(&acceptance.key);
                let standing = standing.filter(|entry| !entry.head.deleted);
                let standing = standing.map(|entry| Arc::clone(&entry.desired));
                preview
                    .containers
                    .insert(acceptance.key, (standing, acceptance.desired));
            }
            preview.refused = round.refused;
        }
        reply.send(preview).ok();
    }

    /// Takes texts, all of them or none.
    pub(super) fn apply_texts(&mut self, texts: Texts) -> Result<Applied, Denied> {
        if !self.is_compared() {
            self.not_in_doubt("taken")?;
        }
        let (said, round) = self.decide_texts(texts);
        let mut applied = Applied {
            refused: round.refused,
            ..Applied::default()
        };
        if !applied.refused.is_empty() {
            return Ok(applied);
        }
        let acceptances: Vec<Acceptance> = round.files.into_values().flatten().collect();
        self.keep_profiles(&acceptances)
            .map_err(Denied::Unavailable)?;
        let all: Vec<Change> = acceptances.iter().flat_map(changes).collect();
        self.commit(&all)
            .map_err(|why| Denied::Unavailable(format!("nothing was applied: {why}")))?;
        let mut changed = Vec::new();
        for acceptance in acceptances {
            let key = acceptance.key.clone();
            let effect = match self.standing().find(|(of, _)| **of == key) {
                None => Effect::Created,
                Some(_) if acceptance.moved_only => Effect::Unchanged,
                Some(_) => Effect::Configured,
            };
            let generation = acceptance.accepted.generation;
            applied.containers.insert(key.clone(), (generation, effect));
            changed.push(key);
            self.apply(acceptance);
        }
        for key in names(&said) {
            let generation = self.ledger.entries.get(&key);
            let generation =
                generation.map_or_else(Generation::default, |entry| entry.head.accepted.generation);
            let unchanged = (generation, Effect::Unchanged);
            applied.containers.entry(key).or_insert(unchanged);
        }
        self.leave_doubt();
        self.publish_intents(changed);
        self.publish_mode();
        self.publish_view();
        Ok(applied)
    }

    /// Writes a tombstone for what was applied.
    pub(super) fn delete_applied(&mut self, key: &Key, uid: u32) -> Result<String, Denied> {
        if let Some(why) = self.ledger.unresolved.get(key) {
            return Err(Denied::Conflict(format!(
                "the accepted spec of {key} cannot be resolved, so it stays as it is: {why}"
            )));
        }
        let Some(entry) = self.ledger.entries.get(key) else {
            return Err(Denied::Unknown(format!("there is no container {key}")));
        };
        if entry.head.deleted {
            return Ok(format!("{key}: it is being removed already"));
        }
        if let Source::File { .. } = &entry.head.accepted.source {
            let place = ledger::place(&entry.head.accepted);
            return Err(Denied::Conflict(format!(
                "{key} comes from {place}, and stays; remove it there"
            )));
        }
        self.not_in_doubt("deleted")?;
        let said = ("SpecRemoved", format!("deleted by user {uid}"));
        if !self.delete(key, said) {
            let why = self.store_error.clone().unwrap_or_default();
            return Err(Denied::Unavailable(format!("nothing was deleted: {why}")));
        }
        self.publish_intents(vec![key.clone()]);
        self.publish_view();
        Ok(format!("{key}: it is being removed"))
    }

    /// Which names are held elsewhere is not known before all was compared, and nothing is
    /// destroyed before the doubt is over.
    fn not_in_doubt(&self, done: &str) -> Result<(), Denied> {
        let Some(why) = &self.doubt else {
            return Ok(());
        };
        Err(Denied::Unavailable(format!(
            "nothing is {done} while the store is in doubt: {why}"
        )))
    }

    fn decide_texts(&self, texts: Texts) -> (Said, Round) {
        // For a directory: what the names stand for now does not compete with these texts.
        let mut contents = Contents {
            identity: Identity {
                device: 0,
                file_system: 0,
                inode: 0,
            },
            complete: true,
            files: BTreeMap::new(),
            ignored: Vec::new(),
        };
        let (uid, origin) = (texts.uid, texts.origin);
        let mut given: BTreeMap<String, String> = BTreeMap::new();
        for file in texts.files {
            let source = match origin {
                Origin::Directory => Path::new(&file.path).parent().unwrap_or(Path::new("")),
                // No rule of the policy is about a directory of such a name.
                Origin::Socket => Path::new(""),
            };
            let bytes = file.text.as_bytes();
            let mut reading = reading::read(&self.config, source, &file.path, uid, bytes);
            let earlier = given.insert(file.path.clone(), file.text);
            if earlier.is_some_and(|earlier| given.get(&file.path) != Some(&earlier)) {
                let why = "two texts have this name; give each its own";
                reading.outcome = Err(Refusal::plain(&file.path, why, Vec::new()));
            }
            contents
                .files
                .insert(file.path, Readout::Says(Arc::new(reading)));
        }
        let said: Said = [(Path::new("").to_owned(), Ok(contents))].into();
        let last = |key: &Key| self.last_generation(key);
        let desk = Desk {
            origin,
            ledger: &self.ledger,
            config: &self.config,
            last_generation: &last,
            found: &self.found,
            now_ms: clock::wall_ms(),
        };
        let round = accept::decide(&desk, &said);
        (said, round)
    }

    fn standing(&self) -> impl Iterator<Item = (&Key, &ledger::Entry)> {
        let entries = self.ledger.entries.iter();
        entries.filter(|(_, entry)| !entry.head.deleted)
    }
}

fn names(said: &Said) -> Vec<Key> {
    let readouts = said
        .values()
        .flatten()
        .flat_map(|contents| contents.files.values());
    let readings = readouts.filter_map(|readout| match readout {
        Readout::Says(reading) => Some(reading),
        Readout::Settling(_) => None,
    });
    let documents = readings.filter_map(|reading| reading.outcome.as_ref().ok());
    let names = documents.flatten().map(|one| &one.spec.metadata.name);
    names.cloned().collect()
}
