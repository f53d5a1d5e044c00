//! What the core wants remembered, written ahead of what it does.

use reconciler_core::io::{NewEvent, Record, Ticket};
use specs::id::Key;
use store::model::{Change, EventDraft, LifeRecord};

use super::Keeper;
use crate::clock;
use crate::shell::Message;

impl Keeper {
    pub(super) fn write_records(&mut self, records: Vec<(Ticket, Record)>, events: Vec<NewEvent>) {
        if records.is_empty() && events.is_empty() {
            return;
        }
        let at_ms = clock::wall_ms();
        let mut changes: Vec<Change> = events
            .into_iter()
            .flat_map(|new| draft(new, at_ms))
            .collect();
        let mut tickets = Vec::new();
        for (ticket, record) in records {
            match self.change(&record) {
                Ok(change) => {
                    changes.extend(change);
                    tickets.push((ticket, record));
                }
                Err(why) => self.send(Message::Appended(ticket, Err(why))),
            }
        }
        let result = self.commit(&changes);
        for (ticket, record) in tickets {
            if result.is_ok() {
                self.applied(&record);
            }
            self.send(Message::Appended(ticket, result.clone()));
        }
    }

    /// Returns what a record means for the store; nothing for one that it knows already.
    fn change(&self, record: &Record) -> Result<Option<Change>, String> {
        match record {
            Record::LifeBegins {
                key,
                incarnation,
                generation,
            } => Ok(Some(Change::LifeBegins(LifeRecord {
                key: key.clone(),
                incarnation: *incarnation,
                generation: *generation,
                kills_told: None,
            }))),
            Record::LifeEnded { key, incarnation } => Ok(Some(Change::LifeEnded {
                key: key.clone(),
                incarnation: *incarnation,
            })),
            Record::Cleaned { key } => self.cleaning(key),
        }
    }

    fn cleaning(&self, key: &Key) -> Result<Option<Change>, String> {
        let Some(entry) = self.ledger.entries.get(key) else {
            return Ok(None);
        };
        if !entry.head.deleted {
            return Err("it is wanted again".into());
        }
        if self.is_text_still_there(key) {
            // The tombstone of an expired container stays as long as its text does: it is
            // what keeps the text from being taken for a new one.
            return Ok(None);
        }
        Ok(Some(Change::Clean {
            key: key.clone(),
            keep_range: crate::ledger::keeps_range(&entry.desired),
        }))
    }

    fn applied(&mut self, record: &Record) {
        match record {
            Record::LifeBegins { incarnation, .. } => {
                self.incarnation = self.incarnation.max(*incarnation);
            }
            Record::LifeEnded { .. } => {}
            Record::Cleaned { key } => self.cleaned(key),
        }
    }

    fn cleaned(&mut self, key: &Key) {
        if self.is_text_still_there(key) {
            if let Some(entry) = self.ledger.entries.get_mut(key) {
                entry.expired = true;
            }
        } else if let Some(entry) = self.ledger.entries.remove(key) {
            self.ledger.orders.remove(key);
            self.ledger.addresses.remove(key);
            self.found.addresses.remove(key);
            if !crate::ledger::keeps_range(&entry.desired) {
                self.ledger.ranges.remove(key);
            }
        }
        self.publish_intents(vec![key.clone()]);
        self.publish_view();
        // Another file may have waited for the name.
        self.again_at_ms = Some(clock::boot_ms());
    }
}

/// What an event means for the store: with a kill for memory goes that it was told, so that no
/// start tells it again.
fn draft(new: NewEvent, at_ms: u64) -> impl Iterator<Item = Change> {
    let told = new.key.clone().zip(new.kills_told);
    let told = told.map(|(key, (incarnation, told))| Change::KillsTold {
        key,
        incarnation,
        told,
    });
    let event = Change::Event(EventDraft {
        at_ms,
        key: new.key,
        generation: new.generation,
        severity: new.severity,
        reason: new.reason.to_owned(),
        message: new.message,
    });
    [event].into_iter().chain(told)
}
