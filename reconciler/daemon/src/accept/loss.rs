//! What a file is told that may not have what it claims.

use specs::diagnostic::plain;
use specs::id::Key;

use super::{Contested, Origin, Round};
use crate::claims::Taken;
use crate::contest::Lost;
use crate::reading::{Reading, Refusal};

/// Returns every name that could be made out.
pub(super) fn names(reading: &Reading) -> Vec<Key> {
    match &reading.outcome {
        Ok(documents) => documents
            .iter()
            .map(|one| one.spec.metadata.name.clone())
            .collect(),
        Err(refusal) => refusal.names.clone(),
    }
}

/// Refuses a file that claims a name another one holds.
pub(super) fn loser(origin: Origin, path: &str, lost: &Lost, names: Vec<Key>) -> Refusal {
    let place = format!("{path}:{}", lost.line);
    let other = match origin {
        Origin::Directory => "or remove one of the two",
        Origin::Socket => "or edit that one",
    };
    let why = format!(
        "the name {} is held by {}, which stays as it is; give this container another name, \
         {other}",
        lost.key,
        plain(&lost.to)
    );
    Refusal::plain(&place, &why, names)
}

/// Refuses a file that names what another container holds, and notes it for that one.
pub(super) fn refuse_thing(reading: &Reading, taken: &Taken, round: &mut Round) {
    let contested = Contested {
        by: reading.path.clone(),
        reason: taken.thing.contested(),
        what: taken.thing.to_string(),
    };
    round.contested.insert(taken.holder.clone(), contested);
    let place = format!("{}:{}", reading.path, taken.line);
    let refusal = Refusal::plain(&place, &taken.why, names(reading));
    round.refused.insert(reading.path.clone(), refusal);
}
