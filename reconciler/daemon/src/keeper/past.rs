//! Generations that were accepted: shown, and gone back to.

use std::sync::Arc;

use specs::desired::Desired;
use specs::id::{Generation, Key};
use specs::spec::Spec;
use store::model::{Accepted, Source};

use super::{Applied, Denied, Effect, Keeper, Texts};
use crate::accept::Origin;
use crate::api::wire::PlanFile;
use crate::ledger::{self, Basis};

/// One generation of a container's history.
#[derive(Debug)]
pub(crate) struct Past {
    /// As it was accepted.
    pub(crate) accepted: Accepted,
    /// As it would be resolved today, without orders; none if it cannot be.
    pub(crate) desired: Option<Arc<Desired>>,
    /// It is what is wanted now.
    pub(crate) is_current: bool,
}

impl Keeper {
    /// Returns a container's generations, oldest first. There are some of one that is gone too.
    pub(super) fn past(&self, key: &Key) -> Result<Vec<Past>, Denied> {
        let history = self.history(key)?;
        let standing = self.ledger.entries.get(key);
        let current = standing
            .filter(|entry| !entry.head.deleted)
            .map(|entry| entry.head.accepted.generation);
        let past = |accepted: Accepted| Past {
            desired: self.resolved_today(key, &accepted).map(Arc::new),
            is_current: current == Some(accepted.generation),
            accepted,
        };
        Ok(history.into_iter().map(past).collect())
    }

    /// Applies an earlier generation anew; without a number the newest that differs from what
    /// stands.
    pub(super) fn roll_back(
        &mut self,
        key: &Key,
        to: Option<Generation>,
        uid: u32,
    ) -> Result<String, Denied> {
        let history = self.history(key)?;
        let standing = self.ledger.entries.get(key);
        let standing = standing.filter(|entry| !entry.head.deleted);
        if let Some(entry) = standing
            && let Source::File { .. } = &entry.head.accepted.source
        {
            let place = ledger::place(&entry.head.accepted);
            return Err(Denied::Conflict(format!(
                "{key} comes from {place}, and stays; change it there"
            )));
        }
        let now = standing.map(|entry| entry.head.accepted.digest);
        let is_it = |one: &&Accepted| match to {
            Some(generation) => one.generation == generation,
            None => Some(one.digest) != now,
        };
        let Some(target) = history.iter().rev().find(is_it) else {
            let (first, last) = (history.first(), history.last());
            let number = |one: Option<&Accepted>| one.map_or(0, |one| one.generation.0);
            let kept = format!("{} to {} are kept", number(first), number(last));
            return Err(Denied::Unknown(match to {
                Some(to) => format!("{key} has no generation {to}; {kept}"),
                None => format!("{key} has no generation that differs; {kept}"),
            }));
        };
        let generation = target.generation;
        // JSON is YAML, so it is judged as a text that somebody applies.
        let file = PlanFile {
            path: format!("{key}@{generation}"),
            text: target.spec_json.clone(),
        };
        let applied = self.apply_texts(Texts {
            files: vec![file],
            uid,
            origin: Origin::Socket,
        })?;
        back_to(key, generation, applied)
    }

    fn history(&self, key: &Key) -> Result<Vec<Accepted>, Denied> {
        let read = self.store.history(key);
        let history = read.map_err(|err| Denied::Unavailable(crate::errors::chain(&err)))?;
        if history.is_empty() {
            return Err(Denied::Unknown(format!("there is no container {key}")));
        }
        Ok(history)
    }

    fn resolved_today(&self, key: &Key, accepted: &Accepted) -> Option<Desired> {
        let spec: Spec = serde_json::from_str(&accepted.spec_json).ok()?;
        let seccomp = self.profiles.get(key, accepted.generation).ok();
        let basis = Basis {
            source: &accepted.source,
            order: None,
            range: self.ledger.ranges.get(key).copied(),
            address: self.ledger.addresses.get(key).copied(),
            seccomp: seccomp.as_deref(),
            generation: accepted.generation,
        };
        ledger::resolved(&spec, basis, &self.config).ok()
    }
}

fn back_to(key: &Key, generation: Generation, applied: Applied) -> Result<String, Denied> {
    if let Some(refusal) = applied.refused.into_values().next() {
        return Err(Denied::Conflict(format!(
            "generation {generation} is not accepted any more: {}",
            refusal.line
        )));
    }
    Ok(match applied.containers.get(key) {
        Some((now, Effect::Created | Effect::Configured)) => {
            format!("{key}: generation {now} is as generation {generation} was")
        }
        _ => format!("{key}: it is as generation {generation} was already"),
    })
}
