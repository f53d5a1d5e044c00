//! The store against the simplest thing that does the same.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use specs::desired::IdRange;
use specs::event::{Event, KillsTold, Severity};
use specs::id::{Digest, Generation, Incarnation, Key};

use super::world::{KINDS, open};
use crate::draft::GENERATIONS_MAX;
use crate::model::{Accepted, Change, Contents, EventDraft, Head, LifeRecord, Override, Source};
use crate::outcome::{CommitError, Health};
use crate::read::{EventQuery, ReadError};
use crate::store::Store;

/// Events of every model and test store.
pub(super) const EVENTS_MAX: usize = 4096;

/// Maps and nothing else.
/// What a life was made from, and how far its kills for memory were told.
type Told = (Generation, Option<KillsTold>);

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Model {
    pub(super) revision: u64,
    heads: BTreeMap<Key, (Generation, u64, bool)>,
    history: BTreeMap<(Key, Generation), Accepted>,
    ranges: BTreeMap<Key, IdRange>,
    addresses: BTreeMap<Key, Ipv4Addr>,
    lives: BTreeMap<(Key, Incarnation), Told>,
    overrides: BTreeMap<Key, Override>,
    events: Vec<Event>,
    incarnation: u64,
    next_event: u64,
}

impl Model {
    /// Applies all or nothing; returns whether it may be.
    pub(super) fn commit(&mut self, changes: &[Change]) -> bool {
        let mut next = self.clone();
        if !changes.iter().all(|change| next.apply(change)) {
            return false;
        }
        let surplus = next.events.len().saturating_sub(EVENTS_MAX);
        next.events.drain(..surplus);
        next.revision += 1;
        *self = next;
        true
    }

    fn apply(&mut self, change: &Change) -> bool {
        match change {
            Change::Accept { key, accepted } => {
                let newest = self
                    .history
                    .keys()
                    .filter(|(at, _)| at == key)
                    .map(|(_, g)| *g)
                    .max();
                let at = (key.clone(), accepted.generation);
                let is_again = self.history.get(&at) == Some(accepted);
                let is_ok = match newest {
                    Some(newest) if accepted.generation == newest => is_again,
                    Some(newest) => accepted.generation > newest,
                    None => accepted.generation.0 > 0,
                };
                let first = match self.heads.get(key) {
                    Some((_, first, false)) => *first,
                    _ => accepted.at_ms,
                };
                self.history.insert(at, accepted.clone());
                let of_key = |(at, _): &&(Key, Generation)| at == key;
                let count = self.history.keys().filter(of_key).count();
                if count > GENERATIONS_MAX
                    && let Some(oldest) = self.history.keys().find(of_key).cloned()
                {
                    self.history.remove(&oldest);
                }
                self.heads
                    .insert(key.clone(), (accepted.generation, first, false));
                is_ok
            }
            Change::Delete { key, .. } => {
                if let Some(head) = self.heads.get_mut(key) {
                    head.2 = true;
                }
                true
            }
            Change::Clean { key, keep_range } => {
                let is_ok = self.heads.get(key).is_none_or(|head| head.2);
                self.heads.remove(key);
                self.overrides.remove(key);
                self.addresses.remove(key);
                if !keep_range {
                    self.ranges.remove(key);
                }
                is_ok
            }
            Change::HoldRange { key, range } => {
                let end = |range: &IdRange| u64::from(range.base) + u64::from(range.count);
                let is_free = self.ranges.iter().all(|(other, held)| {
                    other == key
                        || end(held) <= u64::from(range.base)
                        || end(range) <= u64::from(held.base)
                });
                self.ranges.insert(key.clone(), *range);
                is_free && range.count > 0 && end(range) <= 1 << 32
            }
            Change::HoldAddress { key, address } => {
                self.addresses.remove(key);
                let is_free = !self.addresses.values().any(|held| Some(*held) == *address);
                self.addresses
                    .extend(address.map(|address| (key.clone(), address)));
                is_free
            }
            Change::LifeBegins(life) => {
                let at = (life.key.clone(), life.incarnation);
                let is_free = self.lives.iter().all(|(other, (generation, _))| {
                    other.1 != life.incarnation || (*other == at && *generation == life.generation)
                });
                self.incarnation = self.incarnation.max(life.incarnation.0);
                self.lives.entry(at).or_insert((life.generation, None));
                is_free
            }
            Change::LifeEnded { key, incarnation } => {
                self.lives.remove(&(key.clone(), *incarnation));
                true
            }
            Change::KillsTold {
                key,
                incarnation,
                told,
            } => {
                if let Some(life) = self.lives.get_mut(&(key.clone(), *incarnation)) {
                    life.1 = Some(*told);
                }
                true
            }
            Change::Override { key, order } => {
                match order {
                    Some(order) => self.overrides.insert(key.clone(), order.clone()),
                    None => self.overrides.remove(key),
                };
                true
            }
            Change::Event(draft) => {
                self.next_event += 1;
                self.events.push(Event {
                    seq: self.next_event,
                    at_ms: draft.at_ms,
                    key: draft.key.clone(),
                    generation: draft.generation,
                    severity: draft.severity,
                    reason: draft.reason.clone(),
                    message: draft.message.clone(),
                });
                true
            }
        }
    }

    /// Returns what the store must hold.
    pub(super) fn dump(&self) -> Dump {
        let head = |(key, (generation, first, deleted)): (&Key, &(Generation, u64, bool))| Head {
            key: key.clone(),
            accepted: self.history[&(key.clone(), *generation)].clone(),
            deleted: *deleted,
            first_accepted_ms: *first,
        };
        let life =
            |((key, incarnation), (generation, told)): (&(Key, Incarnation), &Told)| LifeRecord {
                key: key.clone(),
                incarnation: *incarnation,
                generation: *generation,
                kills_told: *told,
            };
        Dump {
            contents: Contents {
                heads: self.heads.iter().map(head).collect(),
                id_ranges: self
                    .ranges
                    .iter()
                    .map(|(key, range)| (key.clone(), *range))
                    .collect(),
                addresses: self.addresses.clone().into_iter().collect(),
                lives: self.lives.iter().map(life).collect(),
                overrides: self.overrides.clone().into_iter().collect(),
                incarnation: Incarnation(self.incarnation),
                damaged: Vec::new(),
            },
            history: self
                .history
                .iter()
                .map(|((key, _), accepted)| (key.clone(), accepted.clone()))
                .collect(),
            events: self.events.clone(),
        }
    }
}

/// Everything that can be read out of a store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Dump {
    pub(super) contents: Contents,
    pub(super) history: Vec<(Key, Accepted)>,
    pub(super) events: Vec<Event>,
}

/// Returns everything, in the order of the model; keys are `k0` to `k15`.
pub(super) fn dump(store: &Store) -> Dump {
    try_dump(store).unwrap()
}

/// Returns the same, or that it cannot be read.
pub(super) fn try_dump(store: &Store) -> Result<Dump, ReadError> {
    let mut contents = store.contents()?;
    contents
        .lives
        .sort_by_key(|life| (life.key.clone(), life.incarnation));
    let mut keys: Vec<Key> = (0..16).map(key).collect();
    keys.sort();
    let mut history = Vec::new();
    for key in keys {
        let all = store.history(&key)?.into_iter();
        history.extend(all.map(|accepted| (key.clone(), accepted)));
    }
    let everything = EventQuery {
        after: None,
        key: None,
        last: None,
        limit: usize::MAX,
    };
    Ok(Dump {
        contents,
        history,
        events: store.events(&everything)?,
    })
}

impl Dump {
    /// Returns the first thing that differs, in few words.
    pub(super) fn difference(&self, other: &Self) -> Option<String> {
        fn first<T: PartialEq + std::fmt::Debug>(what: &str, a: &[T], b: &[T]) -> Option<String> {
            let at = (0..a.len().max(b.len())).find(|at| a.get(*at) != b.get(*at))?;
            let mut words = format!("{what} {at}: {:?} and {:?}", a.get(at), b.get(at));
            words.truncate(400);
            Some(words)
        }
        let (a, b) = (&self.contents, &other.contents);
        first("head", &a.heads, &b.heads)
            .or_else(|| first("range", &a.id_ranges, &b.id_ranges))
            .or_else(|| first("address", &a.addresses, &b.addresses))
            .or_else(|| first("life", &a.lives, &b.lives))
            .or_else(|| first("override", &a.overrides, &b.overrides))
            .or_else(|| first("damage", &a.damaged, &b.damaged))
            .or_else(|| first("incarnation", &[a.incarnation], &[b.incarnation]))
            .or_else(|| first("history", &self.history, &other.history))
            .or_else(|| first("event", &self.events, &other.events))
    }
}

/// Fails unless the store holds exactly what the model does.
#[track_caller]
pub(super) fn assert_same(store: &Store, model: &Model, why: &str) {
    let difference = dump(store).difference(&model.dump());
    assert_eq!(difference, None, "{why}");
}

/// Returns the key `kN`.
pub(super) fn key(number: u64) -> Key {
    Key::new(format!("k{number}")).unwrap()
}

/// Returns a generation whose text is `text`.
pub(super) fn accepted(generation: u64, text: &str) -> Accepted {
    Accepted {
        generation: Generation(generation),
        spec_json: text.to_owned(),
        digest: Digest::of(text.as_bytes()),
        source: Source::File {
            path: "/etc/reconciler/k \"1\"\n.yaml".to_owned(),
            line: 7,
            uid: 1000,
        },
        at_ms: 1000 + generation,
    }
}

fn any_change() -> impl Strategy<Value = Change> {
    let keys = || (0..4u64).prop_map(key);
    prop_oneof![
        (keys(), 1..9u64, "\\PC{0,40}", any::<bool>()).prop_map(|(key, generation, text, api)| {
            let mut accepted = accepted(generation, &text);
            if api {
                accepted.source = Source::Api { uid: 5 };
            }
            Change::Accept { key, accepted }
        }),
        (keys(), any::<u64>()).prop_map(|(key, at_ms)| Change::Delete { key, at_ms }),
        (keys(), any::<bool>()).prop_map(|(key, keep_range)| Change::Clean { key, keep_range }),
        (keys(), 0..8u32, 0..3u32).prop_map(|(key, slot, count)| {
            let base = slot * 0x2000_0000;
            let count = count * 0x1800_0000;
            Change::HoldRange {
                key,
                range: IdRange { base, count },
            }
        }),
        (keys(), any::<bool>(), 0..4u32).prop_map(|(key, holds, last)| {
            let address = holds.then(|| Ipv4Addr::from_bits(0x0afe_0000 + last));
            Change::HoldAddress { key, address }
        }),
        (keys(), 1..9u64, 1..4u64).prop_map(|(key, life, generation)| {
            Change::LifeBegins(LifeRecord {
                key,
                incarnation: Incarnation(life),
                generation: Generation(generation),
                kills_told: None,
            })
        }),
        (keys(), 1..9u64, 1..9u64).prop_map(|(key, life, kills)| Change::KillsTold {
            key,
            incarnation: Incarnation(life),
            told: KillsTold {
                kills,
                ended_ms: kills * 10,
            },
        }),
        (keys(), 1..9u64).prop_map(|(key, life)| Change::LifeEnded {
            key,
            incarnation: Incarnation(life),
        }),
        (keys(), any::<Option<(bool, bool, u64)>>()).prop_map(|(key, order)| Change::Override {
            key,
            order: order.map(|(stopped, suspended, restart_epoch)| Override {
                stopped,
                suspended,
                restart_epoch,
                given_over: (suspended, stopped),
                at_ms: 9,
            }),
        }),
        (proptest::option::of(keys()), "\\PC{0,60}", any::<bool>()).prop_map(
            |(key, message, is_bad)| Change::Event(EventDraft {
                at_ms: 11,
                key,
                generation: Generation(3),
                severity: if is_bad {
                    Severity::Warning
                } else {
                    Severity::Normal
                },
                reason: "Tried".to_owned(),
                message,
            })
        ),
    ]
}

#[test]
fn any_changes_leave_what_the_naive_model_holds_whenever_it_is_opened_again() {
    for kind in KINDS {
        let commits = proptest::collection::vec(any_change(), 0..6);
        let sessions = proptest::collection::vec(proptest::collection::vec(commits, 0..12), 1..5);
        let mut runner = TestRunner::new(Config {
            cases: 12,
            failure_persistence: None,
            ..Config::default()
        });
        let result = runner.run(&sessions, |sessions| {
            let directory = tempfile::tempdir().unwrap();
            let mut model = Model::default();
            for (at, session) in sessions.into_iter().enumerate() {
                let (store, opened) = open(directory.path(), kind);
                prop_assert_eq!(&opened.health, &Health::Sound);
                prop_assert_eq!(opened.fresh, model.revision == 0, "session {}", at);
                prop_assert_eq!(dump(&store), model.dump());
                for changes in session {
                    let may = model.commit(&changes);
                    match store.commit_durable(&changes) {
                        Ok(committed) => {
                            prop_assert!(may, "{changes:?} was taken");
                            prop_assert_eq!(committed.revision, model.revision);
                        }
                        Err(CommitError::Refused(why)) => {
                            prop_assert!(!may, "{changes:?} was refused: {why}");
                        }
                        Err(other) => prop_assert!(false, "{other}"),
                    }
                    prop_assert_eq!(dump(&store), model.dump());
                }
            }
            Ok(())
        });
        if let Err(error) = result {
            panic!("{kind:?}: {error}");
        }
    }
}
