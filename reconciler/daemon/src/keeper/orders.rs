//! What people ask of the keeper: orders, a new look.

use std::path::Path;

use specs::event::Severity;
use specs::id::Key;
use store::model::Change;

use super::{ALLOWED_MS, Denied, Keeper, READ_MS, Reply, Waiting, event};
use crate::clock;
use crate::ledger;
use crate::overrides::{self, Order, Ruling};
use crate::shell::Message;

impl Keeper {
    /// Rules on an order, makes it durable and tells the core.
    pub(super) fn order(&mut self, key: &Key, order: Order, reply: Reply<String>) {
        let result = self.ordered(key, order);
        // Who asked may have gone.
        reply.send(result).ok();
    }

    fn ordered(&mut self, key: &Key, order: Order) -> Result<String, Denied> {
        let standing = self
            .ledger
            .entries
            .get(key)
            .filter(|entry| !entry.head.deleted);
        let Some(entry) = standing else {
            return Err(Denied::Unknown(format!("there is no container {key}")));
        };
        let own = ledger::own(&entry.spec);
        let generation = entry.head.accepted.generation;
        let place = ledger::place(&entry.head.accepted);
        let now = self.ledger.orders.get(key);
        let (next, message) = match overrides::rule(order, own, now, clock::wall_ms()) {
            Ruling::Stood(message) => return Ok(format!("{key}: {message}")),
            Ruling::Refused(why) => {
                return Err(Denied::Conflict(format!("{key}: {why} ({place})")));
            }
            Ruling::Changed { next, message } => (next, message),
        };
        let said = ("OrderGiven", format!("{order:?}: {message}"));
        let changes = [
            Change::Override {
                key: key.clone(),
                order: next.clone(),
            },
            event(Some(key), generation, Severity::Normal, said),
        ];
        self.commit(&changes).map_err(|why| {
            Denied::Unavailable(format!(
                "the order could not be stored, and was not given: {why}"
            ))
        })?;
        match next {
            Some(order) => self.ledger.orders.insert(key.clone(), order),
            None => self.ledger.orders.remove(key),
        };
        if let Err(why) = self.ledger.resolve_again(key, &self.config) {
            tracing::error!(%key, err = why, "its spec cannot be resolved again");
        }
        self.publish_intents(vec![key.clone()]);
        self.publish_view();
        Ok(format!("{key}: {message}"))
    }

    /// Has every directory looked at now, and lets held-back removals go on if so many are
    /// allowed. The answer comes when what was there at the time of asking has been taken.
    pub(super) fn sync(&mut self, allow: Option<u64>, reply: Reply<String>) {
        let since_ms = clock::boot_ms();
        for known in self.sources.values() {
            known.hint.give();
        }
        self.send(Message::Look(None));
        let result = match allow {
            None => Ok(match self.sources.len() {
                1 => "read the directory again".to_owned(),
                count => format!("read {count} directories again"),
            }),
            Some(most) => self.allow(most),
        };
        match result {
            Ok(message) => self.waiting.push(Waiting {
                since_ms,
                message,
                reply,
            }),
            Err(denied) => drop(reply.send(Err(denied))),
        }
    }

    /// Answers those whose time has come.
    pub(super) fn answer_waiting(&mut self) {
        let now_ms = clock::boot_ms();
        for waiting in std::mem::take(&mut self.waiting) {
            let late = now_ms.saturating_sub(waiting.since_ms) >= READ_MS;
            let unread = self
                .sources
                .values()
                .filter(|known| !known.was_read_since(waiting.since_ms));
            let mut all_read = true;
            for known in unread {
                all_read = false;
                // A listing that began in the same millisecond may have begun before.
                if known.at_ms == waiting.since_ms {
                    known.hint.give();
                }
            }
            if all_read || late {
                waiting.reply.send(Ok(waiting.message)).ok();
            } else {
                self.waiting.push(waiting);
            }
        }
    }

    fn allow(&mut self, most: u64) -> Result<String, Denied> {
        if let Some(why) = &self.doubt {
            let count = u64::try_from(self.unclaimed().len()).unwrap_or(u64::MAX);
            if self.is_compared() && count <= most {
                self.lets_go = true;
                return Ok(format!("{count} containers without a known spec go"));
            }
            let why = format!("nothing is deleted while the store is in doubt: {why}");
            return Err(Denied::Conflict(why));
        }
        let held = self.held();
        let count = u64::try_from(held.len()).unwrap_or(u64::MAX);
        if count > most {
            return Err(Denied::Conflict(format!(
                "{count} removals are held back, more than the {most} allowed; nothing was deleted"
            )));
        }
        let until = clock::boot_ms().saturating_add(ALLOWED_MS);
        for known in self.sources.values_mut() {
            // A word about nothing must not let a later mass deletion pass.
            if !known.held.is_empty() || known.said.is_err() {
                known.allowed = Some((most, until));
                known.hint.give();
            }
        }
        let mut gone = Vec::new();
        for key in self.stray() {
            let said = (
                "SpecRemoved",
                "its directory is no source any more".to_owned(),
            );
            if self.delete(&key, said) {
                gone.push(key);
            }
        }
        self.publish_intents(gone);
        Ok(match count {
            0 => "nothing was held back".into(),
            count => format!("{count} held-back removals go on"),
        })
    }

    /// Returns every name whose removal is held back.
    pub(super) fn held(&self) -> Vec<Key> {
        let mut held: Vec<Key> = self
            .sources
            .values()
            .flat_map(|known| known.held.iter().cloned())
            .collect();
        held.extend(self.stray());
        held.sort();
        held.dedup();
        held
    }

    /// Returns names that came from a directory that is no source any more and are claimed
    /// nowhere else.
    pub(super) fn stray(&self) -> Vec<Key> {
        let all_said = self
            .sources
            .values()
            .all(|known| known.said.is_ok() && known.was_whole);
        if !all_said {
            return Vec::new();
        }
        let is_stray = |path: &str| {
            Path::new(path)
                .parent()
                .is_none_or(|source| !self.sources.contains_key(source))
        };
        self.ledger
            .filed()
            .filter(|(_, _, path)| is_stray(path))
            .map(|(key, _, _)| key.clone())
            .collect()
    }
}
