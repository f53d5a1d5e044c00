//! When something that is no longer in its source may go.
//!
//! A key is removed when its document was missing from a complete listing of a healthy
//! source, and still is in another one at least [`SETTLE_MS`] later. Many at once are held
//! back until a person says so, and a directory that is not the one we know is no evidence.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use specs::config::Deletions;
use specs::id::Key;

use crate::source::SETTLE_MS;
use crate::source::directory::Identity;

/// Removals this long ago still count into one mass deletion: a slow `rm -r` is one.
const WINDOW_MS: u64 = 60_000;

/// What a complete listing of a healthy source says of the keys that came from it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Census {
    /// Keys whose newest accepted spec came from the source.
    pub(crate) owned: BTreeSet<Key>,
    /// Those of them that may still be there: their document is, or their file could not be
    /// understood.
    pub(crate) present: BTreeSet<Key>,
}

/// Removals of one source over time.
#[derive(Debug, Default)]
pub(crate) struct Removals {
    missing: BTreeMap<Key, u64>,
    gone: VecDeque<u64>,
}

/// What may go now.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Verdict {
    /// To be deleted.
    pub(crate) go: Vec<Key>,
    /// Held back as a mass deletion.
    pub(crate) held: Vec<Key>,
    /// Missing, but not yet for long enough: look again after so long.
    pub(crate) again_ms: Option<u64>,
}

impl Removals {
    /// Rules after a complete listing. `allowed` is how many held-back ones a person let go.
    pub(crate) fn rule(
        &mut self,
        census: &Census,
        guard: Deletions,
        allowed: Option<u64>,
        at_ms: u64,
    ) -> Verdict {
        let absent: BTreeSet<&Key> = census.owned.difference(&census.present).collect();
        self.missing.retain(|key, _| absent.contains(key));
        for key in &absent {
            self.missing.entry((*key).clone()).or_insert(at_ms);
        }
        while self
            .gone
            .front()
            .is_some_and(|at| at_ms.saturating_sub(*at) > WINDOW_MS)
        {
            self.gone.pop_front();
        }
        let recent = self.gone.len();
        let is_mass = guard.is_held(self.missing.len() + recent, census.owned.len() + recent);
        let is_allowed = allowed.is_some_and(|most| as_u64(self.missing.len()) <= most);
        let settled = |since: u64| at_ms.saturating_sub(since) >= SETTLE_MS;
        let (old, young): (Vec<_>, Vec<_>) =
            self.missing.iter().partition(|(_, since)| settled(**since));
        let old: Vec<Key> = old.into_iter().map(|(key, _)| key.clone()).collect();
        let again_ms = (!young.is_empty()).then_some(SETTLE_MS);
        if is_mass && !is_allowed {
            return Verdict {
                go: Vec::new(),
                held: old,
                again_ms,
            };
        }
        Verdict {
            go: old,
            held: Vec::new(),
            again_ms,
        }
    }

    /// Notes that a removal was made durable. A person's own decision does not count against
    /// the next ones.
    pub(crate) fn done(&mut self, key: &Key, was_allowed: bool, at_ms: u64) {
        self.missing.remove(key);
        if !was_allowed {
            self.gone.push_back(at_ms);
        }
    }

    /// Forgets what was missing: the source says nothing at present.
    pub(crate) fn forget(&mut self) {
        self.missing.clear();
    }
}

/// Says whether a listing is of the directory we know.
///
/// Another directory on the same path (a release switched by rename, a file system mounted
/// again) is believed when it holds at least half of what came from the one before. An
/// unmounted one holds nothing, and a first look after a start that finds nothing of what
/// the store knows proves nothing either.
///
/// # Errors
/// Why it is not believed.
pub(crate) fn believe(
    known: Option<&Identity>,
    now: &Identity,
    census: &Census,
) -> Result<(), String> {
    if known.is_some_and(|known| known.is_same(now)) || census.owned.is_empty() {
        return Ok(());
    }
    let owned = census.owned.len();
    let missing = owned - census.owned.intersection(&census.present).count();
    let verdict = if known.is_some() {
        missing * 2 <= owned
    } else {
        missing < owned
    };
    if verdict {
        return Ok(());
    }
    Err(format!(
        "it is not the directory it was, and holds {} of the {owned} containers that came from \
         it; is its file system mounted? nothing is deleted; if it is right, say \
         `sync --allow-deletes {missing}`",
        owned - missing
    ))
}

/// Returns how many keys of a source are not there.
pub(crate) fn absent(census: &Census) -> u64 {
    as_u64(census.owned.difference(&census.present).count())
}

fn as_u64(count: usize) -> u64 {
    u64::try_from(count).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const GUARD: Deletions = Deletions {
        hold_from: 4,
        hold_percent: 51,
    };
    const HERE: Identity = Identity {
        device: 1,
        file_system: 10,
        inode: 100,
    };

    fn keys(names: std::ops::Range<usize>) -> BTreeSet<Key> {
        names.map(|n| Key::new(format!("c{n}")).unwrap()).collect()
    }

    fn census(owned: usize, present: usize) -> Census {
        Census {
            owned: keys(0..owned),
            present: keys(0..present),
        }
    }

    fn settled(removals: &mut Removals, census: &Census, allowed: Option<u64>) -> Verdict {
        assert!(removals.rule(census, GUARD, None, 1_000).go.is_empty());
        removals.rule(census, GUARD, allowed, 1_000 + SETTLE_MS)
    }

    #[test]
    fn one_listing_removes_nothing_and_two_that_agree_do() {
        let mut removals = Removals::default();
        let first = removals.rule(&census(2, 1), GUARD, None, 1_000);
        assert_eq!(
            first,
            Verdict {
                again_ms: Some(SETTLE_MS),
                ..Verdict::default()
            }
        );
        assert!(
            removals
                .rule(&census(2, 1), GUARD, None, 1_499)
                .go
                .is_empty()
        );
        let second = removals.rule(&census(2, 1), GUARD, None, 1_500);
        assert_eq!(second.go, [Key::new("c1").unwrap()]);
    }

    #[test]
    fn a_file_that_came_back_between_two_listings_was_never_gone() {
        let mut removals = Removals::default();
        removals.rule(&census(2, 1), GUARD, None, 1_000);
        removals.rule(&census(2, 2), GUARD, None, 1_200);
        assert!(
            removals
                .rule(&census(2, 1), GUARD, None, 1_600)
                .go
                .is_empty()
        );
    }

    #[test]
    fn many_at_once_are_held_back_until_a_person_lets_them_go() {
        let mut removals = Removals::default();
        let verdict = settled(&mut removals, &census(10, 4), None);
        assert_eq!((verdict.go.len(), verdict.held.len()), (0, 6));
        let verdict = removals.rule(&census(10, 4), GUARD, Some(5), 2_000);
        assert_eq!(verdict.held.len(), 6, "more than were allowed");
        let verdict = removals.rule(&census(10, 4), GUARD, Some(6), 2_000);
        assert_eq!((verdict.go.len(), verdict.held.len()), (6, 0));
    }

    #[test]
    fn few_of_many_and_all_of_few_go_unasked() {
        assert_eq!(
            settled(&mut Removals::default(), &census(10, 5), None)
                .go
                .len(),
            5
        );
        assert_eq!(
            settled(&mut Removals::default(), &census(3, 0), None)
                .go
                .len(),
            3
        );
        assert_eq!(
            settled(&mut Removals::default(), &census(4, 0), None)
                .held
                .len(),
            4
        );
    }

    #[test]
    fn a_slow_mass_deletion_is_one_too() {
        let mut removals = Removals::default();
        let mut deleted = 0;
        for left in (0..10).rev() {
            let at = 1_000 + (10 - left as u64) * 2 * SETTLE_MS;
            let now = census(10 - deleted, left);
            removals.rule(&now, GUARD, None, at);
            for key in removals.rule(&now, GUARD, None, at + SETTLE_MS).go {
                removals.done(&key, false, at + SETTLE_MS);
                deleted += 1;
            }
        }
        assert!(deleted <= 5, "{deleted} went one by one");
    }

    #[test]
    fn removals_long_ago_do_not_count() {
        let mut removals = Removals::default();
        for n in 0..3 {
            removals.done(&Key::new(format!("x{n}")).unwrap(), false, 1_000);
        }
        removals.rule(&census(2, 0), GUARD, None, 2_000);
        assert_eq!(
            removals.rule(&census(2, 0), GUARD, None, 3_000).held.len(),
            2
        );
        assert_eq!(
            removals.rule(&census(2, 0), GUARD, None, 70_000).go.len(),
            2
        );
    }

    #[test]
    fn an_unmounted_directory_is_not_believed() {
        let empty_mount_point = Identity {
            device: 2,
            file_system: 20,
            inode: 2,
        };
        assert!(believe(Some(&HERE), &empty_mount_point, &census(1, 0)).is_err());
        assert!(believe(Some(&HERE), &HERE, &census(1, 0)).is_ok());
        let why = believe(None, &empty_mount_point, &census(2, 0)).unwrap_err();
        assert!(
            why.contains("mounted?") && why.contains("--allow-deletes 2"),
            "{why}"
        );
    }

    #[test]
    fn a_release_switched_under_the_path_is_believed_when_it_holds_what_there_was() {
        let other = Identity { inode: 101, ..HERE };
        assert!(believe(Some(&HERE), &other, &census(10, 9)).is_ok());
        assert!(believe(Some(&HERE), &other, &census(10, 5)).is_ok());
        assert!(believe(Some(&HERE), &other, &census(10, 4)).is_err());
    }

    #[test]
    fn a_file_system_mounted_again_is_the_same_directory() {
        let again = Identity { device: 77, ..HERE };
        assert!(believe(Some(&HERE), &again, &census(4, 0)).is_ok());
    }
}
