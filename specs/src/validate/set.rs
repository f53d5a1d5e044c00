//! Laws between containers, wherever their specs come from.

use std::collections::BTreeMap;

use crate::diagnostic::{Code, Diagnostic};
use crate::id::{Key, VolumeName};
use crate::parse::Located;
use crate::parse::faults::Fault;

/// What only one container can have.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Claim {
    /// The name.
    Name(Key),
    /// A named volume.
    Volume(VolumeName),
}

/// One claim of several specs. Who keeps it is not decided here: that takes knowledge of
/// who runs already.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Duplicate {
    /// What is claimed.
    pub claim: Claim,
    /// Positions in the list given, ascending; at least two.
    pub by: Vec<usize>,
}

/// Returns every claim that more than one of the specs makes, in the order of claims.
#[must_use]
pub fn duplicates(set: &[(String, Located)]) -> Vec<Duplicate> {
    let mut claims: BTreeMap<Claim, Vec<usize>> = BTreeMap::new();
    for (at, (_, located)) in set.iter().enumerate() {
        let name = Claim::Name(located.spec.metadata.name.clone());
        claims.entry(name).or_default().push(at);
        let mut volumes: Vec<_> = located
            .spec
            .spec
            .mounts
            .iter()
            .filter_map(|mount| mount.volume.clone())
            .collect();
        volumes.sort();
        volumes.dedup();
        for volume in volumes {
            claims.entry(Claim::Volume(volume)).or_default().push(at);
        }
    }
    let several = claims.into_iter().filter(|(_, by)| by.len() > 1);
    several.map(|(claim, by)| Duplicate { claim, by }).collect()
}

/// Returns a diagnostic for every claim after the first one; the first stands, as nobody is
/// known to run. For checking files before any of them is in use.
#[must_use]
pub fn validate_set(set: &[(String, Located)]) -> Vec<Diagnostic> {
    let mut out = Vec::new();
    for duplicate in duplicates(set) {
        let first = duplicate.by.first().and_then(|at| set.get(*at));
        let Some((first_file, first)) = first else {
            continue;
        };
        let later = duplicate.by.iter().skip(1).filter_map(|at| set.get(*at));
        for (file, located) in later {
            out.push(refusal(
                &duplicate.claim,
                (file, located),
                (first_file, first),
            ));
        }
    }
    out
}

/// Returns what a newcomer is told whose claim another holds; both as (file, spec).
#[must_use]
pub fn refusal(claim: &Claim, newcomer: (&str, &Located), holder: (&str, &Located)) -> Diagnostic {
    let (path, message, code) = match claim {
        Claim::Name(name) => (
            "metadata.name".to_owned(),
            format!("the name `{name}` is taken"),
            Code::DuplicateName,
        ),
        Claim::Volume(volume) => (
            volume_path(newcomer.1, volume),
            format!("the volume `{volume}` belongs to another container"),
            Code::DuplicateVolume,
        ),
    };
    let holder_name = &holder.1.spec.metadata.name;
    let note = format!("held by `{holder_name}`, {}:{}", holder.0, holder.1.line);
    let fault = Fault::new(code, message)
        .note(note)
        .help("choose another name here");
    fault.at(newcomer.0, newcomer.1.places.value(&path))
}

fn volume_path(located: &Located, volume: &VolumeName) -> String {
    let mounts = &located.spec.spec.mounts;
    let at = mounts
        .iter()
        .position(|mount| mount.volume.as_ref() == Some(volume));
    format!("spec.mounts[{}].volume", at.unwrap_or_default())
}
