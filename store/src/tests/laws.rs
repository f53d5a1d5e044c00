//! What each change does and which are refused, on both engines.

use std::path::Path;

use specs::desired::IdRange;
use specs::event::Severity;
use specs::id::{Generation, Incarnation, Key};

use super::model::{accepted, key};
use super::world::{KINDS, open_sound, options};
use crate::draft::GENERATIONS_MAX;
use crate::engine::EngineKind;
use crate::model::{Accepted, Change, EventDraft, LifeRecord, Override};
use crate::outcome::CommitError;
use crate::outcome::RefusedError;
use crate::read::EventQuery;
use crate::store::{Options, Store};

/// Runs a law on a new store of each engine.
fn check(law: impl Fn(Store, &Path, EngineKind)) {
    for kind in KINDS {
        let room = tempfile::tempdir().unwrap();
        law(open_sound(room.path(), kind), room.path(), kind);
    }
}

fn accept(number: u64, generation: u64) -> Change {
    Change::Accept {
        key: key(number),
        accepted: accepted(generation, "{}"),
    }
}

fn range(base: u32, count: u32) -> IdRange {
    IdRange { base, count }
}

fn hold(number: u64, range: IdRange) -> Change {
    Change::HoldRange {
        key: key(number),
        range,
    }
}

fn begins(number: u64, incarnation: u64) -> Change {
    Change::LifeBegins(LifeRecord {
        key: key(number),
        incarnation: Incarnation(incarnation),
        generation: Generation(1),
        kills_told: None,
    })
}

fn event(number: u64, message: &str) -> Change {
    Change::Event(EventDraft {
        at_ms: 1,
        key: Some(key(number)),
        generation: Generation(1),
        severity: Severity::Normal,
        reason: "Said".to_owned(),
        message: message.to_owned(),
    })
}

#[track_caller]
fn commit(store: &Store, changes: &[Change]) -> u64 {
    store.commit_durable(changes).unwrap().revision
}

#[track_caller]
fn refusal(store: &Store, changes: &[Change]) -> RefusedError {
    match store.commit_durable(changes) {
        Err(CommitError::Refused(refused)) => refused,
        other => panic!("not refused: {other:?}"),
    }
}

#[test]
fn one_change_that_may_not_be_refuses_all_of_its_list() {
    check(|store, _, _| {
        let refused = refusal(&store, &[accept(1, 1), event(1, "x"), hold(1, range(5, 0))]);
        assert!(matches!(
            refused,
            RefusedError::NoRange { base: 5, count: 0 }
        ));
        assert_eq!(store.contents().unwrap().heads, []);
        assert_eq!(commit(&store, &[accept(1, 1)]), 1);
    });
}

#[test]
fn a_store_that_is_removed_under_us_is_made_again_and_nothing_acknowledged_is_lost() {
    let room = tempfile::tempdir().unwrap();
    let directory = room.path().join("store");
    let store = open_sound(&directory, EngineKind::Sled);
    commit(&store, &[accept(1, 1)]);
    std::fs::remove_dir_all(&directory).unwrap();
    let failed = store.commit_durable(&[accept(2, 1)]);
    assert!(matches!(failed, Err(CommitError::Engine(_))), "{failed:?}");
    assert_eq!(store.contents().unwrap().heads.len(), 1);
    commit(&store, &[accept(3, 1)]);
    let second = Store::open(&options(&directory));
    assert!(second.is_err(), "the lock is ours again");
    drop(store);
    let store = open_sound(&directory, EngineKind::Sled);
    let heads = store.contents().unwrap().heads;
    let keys: Vec<Key> = heads.into_iter().map(|head| head.key).collect();
    assert_eq!(keys, [key(1), key(3)]);
}

#[test]
fn every_accepted_generation_stays_in_history_after_the_key_is_cleaned() {
    check(|store, room, kind| {
        for generation in 1..=3 {
            commit(&store, &[accept(1, generation)]);
        }
        let gone = [
            Change::Delete {
                key: key(1),
                at_ms: 7,
            },
            Change::Clean {
                key: key(1),
                keep_range: false,
            },
        ];
        commit(&store, &gone);
        drop(store);
        let store = open_sound(room, kind);
        assert_eq!(store.contents().unwrap().heads, []);
        let numbers: Vec<u64> = store
            .history(&key(1))
            .unwrap()
            .iter()
            .map(|a| a.generation.0)
            .collect();
        assert_eq!(numbers, [1, 2, 3]);
        assert_eq!(
            store.accepted(&key(1), Generation(2)).unwrap(),
            Some(accepted(2, "{}"))
        );
        assert_eq!(store.accepted(&key(1), Generation(4)).unwrap(), None);
        assert_eq!(store.newest_generation(&key(1)).unwrap(), Generation(3));
        assert_eq!(store.newest_generation(&key(2)).unwrap(), Generation(0));
    });
}

#[test]
fn of_each_container_the_newest_generations_are_kept_and_no_others() {
    check(|store, room, kind| {
        let most = u64::try_from(GENERATIONS_MAX).unwrap();
        commit(&store, &[accept(2, 1)]);
        let many: Vec<Change> = (1..=most + 2)
            .map(|generation| accept(1, generation))
            .collect();
        let (first, last) = many.split_at(50);
        commit(&store, first);
        commit(&store, last);
        commit(&store, &[accept(1, most + 3)]);
        drop(store);
        let store = open_sound(room, kind);
        let kept = store.history(&key(1)).unwrap();
        let numbers: Vec<u64> = kept.iter().map(|a| a.generation.0).collect();
        let expected: Vec<u64> = (4..=most + 3).collect();
        assert_eq!(numbers, expected);
        assert_eq!(store.history(&key(2)).unwrap().len(), 1);
        assert_eq!(store.contents().unwrap().heads.len(), 2);
    });
}

#[test]
fn a_generation_never_means_two_texts() {
    check(|store, _, _| {
        commit(&store, &[accept(1, 1), accept(1, 2)]);
        commit(&store, &[accept(1, 2)]);
        let other = Change::Accept {
            key: key(1),
            accepted: accepted(2, "{ }"),
        };
        let newest_is_2 = |refused: RefusedError| {
            matches!(
                refused,
                RefusedError::StaleGeneration {
                    newest: Generation(2),
                    ..
                }
            )
        };
        assert!(newest_is_2(refusal(&store, &[other])));
        assert!(newest_is_2(refusal(&store, &[accept(1, 1)])));
        let gone = [
            Change::Delete {
                key: key(1),
                at_ms: 7,
            },
            Change::Clean {
                key: key(1),
                keep_range: false,
            },
        ];
        commit(&store, &gone);
        assert!(
            newest_is_2(refusal(&store, &[accept(1, 1)])),
            "nor after it was cleaned"
        );
        commit(&store, &[accept(1, 3)]);
    });
}

#[test]
fn the_time_of_first_acceptance_outlives_edits_and_ends_with_a_deletion() {
    check(|store, _, _| {
        let first = |store: &Store| store.contents().unwrap().heads[0].first_accepted_ms;
        commit(&store, &[accept(1, 1)]);
        commit(&store, &[accept(1, 2)]);
        assert_eq!(first(&store), accepted(1, "").at_ms);
        commit(
            &store,
            &[Change::Delete {
                key: key(1),
                at_ms: 7,
            }],
        );
        assert!(store.contents().unwrap().heads[0].deleted);
        assert_eq!(first(&store), accepted(1, "").at_ms);
        commit(&store, &[accept(1, 3)]);
        assert!(!store.contents().unwrap().heads[0].deleted);
        assert_eq!(first(&store), accepted(3, "").at_ms);
    });
}

#[test]
fn what_is_wanted_again_is_not_cleaned_away() {
    check(|store, _, _| {
        let clean = Change::Clean {
            key: key(1),
            keep_range: false,
        };
        commit(
            &store,
            &[
                accept(1, 1),
                Change::Delete {
                    key: key(1),
                    at_ms: 7,
                },
            ],
        );
        commit(&store, &[accept(1, 2)]);
        let refused = refusal(&store, &[clean]);
        assert!(matches!(refused, RefusedError::NotDeleted(at) if at == key(1)));
        assert_eq!(
            store.contents().unwrap().heads[0].accepted.generation,
            Generation(2)
        );
    });
}

#[test]
fn a_clean_frees_the_range_unless_something_still_carries_it() {
    check(|store, _, _| {
        let order = Change::Override {
            key: key(1),
            order: Some(Override::default()),
        };
        let held = hold(1, range(100_000, 65_536));
        commit(
            &store,
            &[
                accept(1, 1),
                held,
                order,
                Change::Delete {
                    key: key(1),
                    at_ms: 7,
                },
            ],
        );
        commit(
            &store,
            &[Change::Clean {
                key: key(1),
                keep_range: true,
            }],
        );
        let contents = store.contents().unwrap();
        assert_eq!(contents.id_ranges, [(key(1), range(100_000, 65_536))]);
        assert_eq!(contents.overrides, []);
        commit(
            &store,
            &[Change::Clean {
                key: key(1),
                keep_range: false,
            }],
        );
        assert_eq!(store.contents().unwrap().id_ranges, []);
    });
}

#[test]
fn no_id_is_held_by_two() {
    check(|store, _, _| {
        commit(&store, &[hold(1, range(100, 50))]);
        for touching in [range(100, 50), range(149, 1), range(0, 101), range(120, 5)] {
            let refused = refusal(&store, &[hold(2, touching)]);
            assert!(matches!(refused, RefusedError::RangeHeld { holder, .. } if holder == key(1)));
        }
        commit(&store, &[hold(2, range(150, 50)), hold(3, range(0, 100))]);
        commit(&store, &[hold(1, range(100, 40))]);
        assert!(matches!(
            refusal(&store, &[hold(4, range(u32::MAX, 2))]),
            RefusedError::NoRange { .. }
        ));
        commit(&store, &[hold(4, range(u32::MAX, 1))]);
        // Within one list, too.
        let both = [hold(5, range(1000, 5)), hold(6, range(1004, 5))];
        assert!(matches!(
            refusal(&store, &both),
            RefusedError::RangeHeld { .. }
        ));
    });
}

#[test]
fn no_address_is_held_by_two() {
    let hold = |number, last: Option<u8>| Change::HoldAddress {
        key: key(number),
        address: last.map(|last| [10, 254, 0, last].into()),
    };
    check(|store, room, kind| {
        commit(&store, &[hold(1, Some(6))]);
        let refused = refusal(&store, &[hold(2, Some(6))]);
        assert!(matches!(refused, RefusedError::AddressHeld { holder, .. } if holder == key(1)));
        // Two change places in one list: each lets go first.
        commit(&store, &[hold(2, Some(7))]);
        let swap = [
            hold(1, None),
            hold(2, None),
            hold(1, Some(7)),
            hold(2, Some(6)),
        ];
        commit(&store, &swap);
        drop(store);
        let held = open_sound(room, kind).contents().unwrap().addresses;
        let address = |last: u8| [10, 254, 0, last].into();
        assert_eq!(held, [(key(1), address(7)), (key(2), address(6))]);
    });
}

#[test]
fn an_incarnation_is_given_once_and_never_falls_back() {
    check(|store, room, kind| {
        commit(&store, &[begins(1, 41)]);
        assert!(matches!(
            refusal(&store, &[begins(2, 41)]),
            RefusedError::LifeTaken {
                incarnation: Incarnation(41),
                ..
            }
        ));
        let ended = Change::LifeEnded {
            key: key(1),
            incarnation: Incarnation(41),
        };
        commit(&store, &[ended]);
        drop(store);
        let contents = open_sound(room, kind).contents().unwrap();
        assert_eq!(
            (contents.lives, contents.incarnation),
            (vec![], Incarnation(41))
        );
    });
}

#[test]
fn more_than_a_record_holds_is_refused_with_both_numbers() {
    check(|store, _, _| {
        let text = "x".repeat(65_536);
        let large = Change::Accept {
            key: key(1),
            accepted: accepted(1, &text),
        };
        let refused = refusal(&store, &[large]).to_string();
        assert!(
            refused.contains("history k1/00000000000000000001"),
            "{refused}"
        );
        assert!(refused.contains("at most 65536"), "{refused}");
        // A spec of 60 kB has room for its head line, quotes or not.
        let text = "\"".repeat(60_000);
        let most = Accepted {
            ..accepted(1, &text)
        };
        commit(
            &store,
            &[Change::Accept {
                key: key(1),
                accepted: most.clone(),
            }],
        );
        assert_eq!(store.contents().unwrap().heads[0].accepted, most);
        let many: Vec<Change> = (1..400)
            .map(|at| Change::Accept {
                key: Key::new(format!("many-{at}")).unwrap(),
                accepted: accepted(1, &text),
            })
            .collect();
        assert!(matches!(
            refusal(&store, &many),
            RefusedError::BatchTooLarge { .. }
        ));
        commit(&store, &many[..200]);
    });
}

#[test]
fn events_are_numbered_on_and_the_oldest_go_first() {
    for kind in KINDS {
        let room = tempfile::tempdir().unwrap();
        let few = Options {
            events_max: 10,
            ..options(room.path())
        };
        let (store, _) = Store::open_with(&few, kind, 0).unwrap();
        let all = EventQuery {
            after: None,
            key: None,
            last: None,
            limit: usize::MAX,
        };
        let seqs = |store: &Store, query: &EventQuery| -> Vec<u64> {
            store
                .events(query)
                .unwrap()
                .iter()
                .map(|event| event.seq)
                .collect()
        };
        for at in 0..13 {
            commit(&store, &[event(at % 2, "one"), event(at % 2, "two")]);
        }
        assert_eq!(seqs(&store, &all), (17..=26).collect::<Vec<_>>());
        let query = EventQuery {
            after: Some(20),
            ..all.clone()
        };
        assert_eq!(seqs(&store, &query), [21, 22, 23, 24, 25, 26]);
        let query = EventQuery { limit: 2, ..query };
        assert_eq!(seqs(&store, &query), [21, 22]);
        let query = EventQuery {
            key: Some(key(1)),
            ..all.clone()
        };
        assert_eq!(seqs(&store, &query), [19, 20, 23, 24]);
        let query = EventQuery {
            last: Some(3),
            ..query
        };
        assert_eq!(seqs(&store, &query), [20, 23, 24]);
        let more: Vec<Change> = (0..25).map(|_| event(1, "many")).collect();
        commit(&store, &more);
        drop(store);
        let (store, opened) = Store::open_with(&few, kind, 0).unwrap();
        assert_eq!(opened.health, crate::outcome::Health::Sound);
        assert_eq!(seqs(&store, &all), (42..=51).collect::<Vec<_>>());
    }
}

#[test]
fn a_copy_that_is_due_replaces_copy_and_tail_and_keeps_two() {
    for kind in KINDS {
        let room = tempfile::tempdir().unwrap();
        let often = Options {
            export_every: 5,
            events_max: 3,
            ..options(room.path())
        };
        let (store, _) = Store::open_with(&often, kind, 0).unwrap();
        for at in 1..=60 {
            commit(&store, &[event(1, "x"), accept(1, at)]);
        }
        let mut names = crate::disk::names(room.path()).unwrap();
        names.retain(|name| name.starts_with("copy-") || name.starts_with("tail-"));
        assert_eq!(names.len(), 4, "{names:?}");
        assert!(names[1].as_str() > "copy-00000000000000000030", "{names:?}");
        let found = crate::copy::recover(room.path()).unwrap().unwrap();
        assert_eq!(found.meta.revision, 60);
    }
}

/// Several tasks of a daemon share one store.
#[test]
fn commits_from_several_threads_are_each_whole_and_numbered_once() {
    check(|store, _, _| {
        let mut revisions: Vec<u64> = std::thread::scope(|scope| {
            let one = |thread: u64| {
                let store = &store;
                move || {
                    (0..10)
                        .map(|_| commit(store, &[event(thread, "x")]))
                        .collect::<Vec<_>>()
                }
            };
            let threads: Vec<_> = (0..4).map(|thread| scope.spawn(one(thread))).collect();
            threads
                .into_iter()
                .flat_map(|thread| thread.join().unwrap())
                .collect()
        });
        revisions.sort_unstable();
        assert_eq!(revisions, (1..=40).collect::<Vec<_>>());
    });
}
