//! Which key is looked at next: one place a key, the earliest time wins.

use alloc::collections::{BTreeMap, BTreeSet};

use specs::id::Key;

use crate::io::Cause;

/// Keys by the time at which they are due; those due at once in the order they came.
#[derive(Clone, Debug, Default)]
pub(crate) struct Queue {
    by_time: BTreeSet<(u64, u64, Key)>,
    by_key: BTreeMap<Key, Place>,
    arrivals: u64,
}

#[derive(Clone, Copy, Debug)]
struct Place {
    due_ms: u64,
    arrival: u64,
    cause: Cause,
}

impl Queue {
    /// Puts a key in, unless it is already due earlier.
    pub(crate) fn push(&mut self, key: &Key, due_ms: u64, cause: Cause) {
        if let Some(place) = self.by_key.get(key) {
            if place.due_ms <= due_ms {
                return;
            }
            self.by_time
                .remove(&(place.due_ms, place.arrival, key.clone()));
        }
        self.arrivals += 1;
        let place = Place {
            due_ms,
            arrival: self.arrivals,
            cause,
        };
        self.by_time.insert((due_ms, place.arrival, key.clone()));
        self.by_key.insert(key.clone(), place);
    }

    /// Takes the first key that is due.
    pub(crate) fn pop(&mut self, now_ms: u64) -> Option<(Key, Cause)> {
        if self.next_due()? > now_ms {
            return None;
        }
        let (_, _, key) = self.by_time.pop_first()?;
        let place = self.by_key.remove(&key)?;
        Some((key, place.cause))
    }

    /// Takes a key out.
    pub(crate) fn remove(&mut self, key: &Key) {
        if let Some(place) = self.by_key.remove(key) {
            self.by_time
                .remove(&(place.due_ms, place.arrival, key.clone()));
        }
    }

    /// Returns when the first key is due.
    pub(crate) fn next_due(&self) -> Option<u64> {
        self.by_time.first().map(|(due_ms, _, _)| *due_ms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::vec::Vec;

    fn key(at: u8) -> Key {
        Key::new(std::format!("k{at}")).expect("a label")
    }

    #[test]
    fn the_earliest_time_wins_and_a_key_has_one_place() {
        let mut queue = Queue::default();
        queue.push(&key(1), 50, Cause::Resync);
        queue.push(&key(1), 10, Cause::Wake);
        queue.push(&key(1), 90, Cause::Retry);
        assert_eq!(queue.pop(9), None);
        assert_eq!(queue.pop(10), Some((key(1), Cause::Wake)));
        assert_eq!(queue.pop(1_000), None);
    }

    proptest! {
        /// Against a plain list that is searched from the front.
        #[test]
        fn it_behaves_like_a_list(ops in prop::collection::vec((0u8..6, 0u64..20, 0u8..4), 0..60)) {
            let mut queue = Queue::default();
            let mut list: Vec<(u64, usize, u8)> = Vec::new();
            for (at, (name, time, op)) in ops.into_iter().enumerate() {
                match op {
                    0 => {
                        list.sort_unstable();
                        let due = list.first().filter(|(due, _, _)| *due <= time).copied();
                        list.retain(|entry| Some(*entry) != due);
                        let popped = queue.pop(time).map(|(key, _)| key);
                        prop_assert_eq!(popped, due.map(|(_, _, name)| key(name)));
                    }
                    1 => {
                        list.retain(|entry| entry.2 != name);
                        queue.remove(&key(name));
                    }
                    _ => {
                        queue.push(&key(name), time, Cause::Wake);
                        match list.iter_mut().find(|entry| entry.2 == name) {
                            Some(entry) if entry.0 > time => *entry = (time, at, name),
                            Some(_) => {}
                            None => list.push((time, at, name)),
                        }
                    }
                }
                list.sort_unstable();
                prop_assert_eq!(queue.next_due(), list.first().map(|entry| entry.0));
            }
        }
    }
}
