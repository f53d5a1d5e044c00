//! Who holds a named volume: one container alone, and the one that has it keeps it.

use std::collections::BTreeMap;

use specs::desired::MountSource;
use specs::diagnostic::plain;
use specs::id::{Key, VolumeName};
use specs::spec::Spec;

use crate::ledger::{self, Ledger};
use crate::reading::Document;

/// Volumes with the containers that hold them. Several hold one only where they did before
/// this was a rule: none of them is refused what it has.
#[derive(Debug, Default)]
pub(crate) struct Volumes {
    held: BTreeMap<VolumeName, BTreeMap<Key, String>>,
}

/// A volume that another container holds.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Taken {
    /// The volume.
    pub(crate) volume: VolumeName,
    /// Who holds it.
    pub(crate) holder: Key,
    /// Why the newcomer is refused, in words.
    pub(crate) why: String,
    /// Line of the document that wants it.
    pub(crate) line: u32,
}

impl Volumes {
    /// Returns what is held by what was accepted, until nothing of it is left on the host.
    pub(crate) fn of(ledger: &Ledger) -> Self {
        let mut volumes = Self::default();
        for (key, entry) in &ledger.entries {
            let place = ledger::place(&entry.head.accepted);
            let mounts = entry.desired.container.mounts.iter();
            for mount in mounts.filter(|_| !entry.expired) {
                if let MountSource::Volume(volume) = &mount.source {
                    volumes.hold(volume, key, &place);
                }
            }
        }
        volumes
    }

    /// Gives a file's documents what they name, all of it or nothing.
    ///
    /// # Errors
    /// The first volume that another container holds.
    pub(crate) fn claim(&mut self, path: &str, documents: &[Document]) -> Result<(), Taken> {
        for (at, document) in documents.iter().enumerate() {
            let key = &document.spec.metadata.name;
            for volume in named(&document.spec) {
                let earlier = documents.iter().take(at);
                let beside = earlier.map(|one| &one.spec).find(|one| names(one, volume));
                let holder = match (self.holder(volume, key), beside) {
                    (Some((holder, place)), _) => (holder.clone(), place.to_owned()),
                    (None, Some(beside)) => (beside.metadata.name.clone(), path.to_owned()),
                    (None, None) => continue,
                };
                return Err(taken(volume, holder, document.line));
            }
        }
        for document in documents {
            let place = format!("{path}:{}", document.line);
            for volume in named(&document.spec) {
                self.hold(volume, &document.spec.metadata.name, &place);
            }
        }
        Ok(())
    }

    fn hold(&mut self, volume: &VolumeName, key: &Key, place: &str) {
        let holders = self.held.entry(volume.clone()).or_default();
        holders.insert(key.clone(), place.to_owned());
    }

    /// Returns who holds a volume that this container does not.
    fn holder(&self, volume: &VolumeName, key: &Key) -> Option<(&Key, &str)> {
        let holders = self.held.get(volume)?;
        if holders.contains_key(key) {
            return None;
        }
        let (holder, place) = holders.first_key_value()?;
        Some((holder, place.as_str()))
    }
}

fn named(spec: &Spec) -> impl Iterator<Item = &VolumeName> {
    spec.spec
        .mounts
        .iter()
        .filter_map(|one| one.volume.as_ref())
}

fn names(spec: &Spec, volume: &VolumeName) -> bool {
    named(spec).any(|one| one == volume)
}

fn taken(volume: &VolumeName, (holder, place): (Key, String), line: u32) -> Taken {
    Taken {
        why: format!(
            "the volume {volume} belongs to {holder} ({}), which stays as it is; name another \
             volume here, or remove that container first",
            plain(&place)
        ),
        volume: volume.clone(),
        holder,
        line,
    }
}
