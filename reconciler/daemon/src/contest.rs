//! Who holds a name that several files claim: the one whose container already runs.
//!
//! A file is taken whole or not at all, so a file that loses one name loses all it claims.

use std::collections::{BTreeMap, BTreeSet};

use specs::id::Key;

/// Who holds a name now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Holder {
    /// Nobody, or nobody any more.
    Nobody,
    /// The file that the newest accepted spec came from; it still may hold the name.
    File(String),
    /// Something that cannot be asked now, in words; nobody takes over from it.
    Elsewhere(String),
}

/// One document's claim.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Claim {
    /// The file.
    pub(crate) path: String,
    /// Line of the document.
    pub(crate) line: u32,
}

/// Why a file lost.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Lost {
    /// The name.
    pub(crate) key: Key,
    /// Line of the losing document.
    pub(crate) line: u32,
    /// Who holds it, in words: `FILE:LINE` where known.
    pub(crate) to: String,
}

/// How the claims came out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Outcome {
    /// Who may speak for each name.
    pub(crate) winners: BTreeMap<Key, Claim>,
    /// Files that may not, with the first name they lost.
    pub(crate) losers: BTreeMap<String, Lost>,
}

/// Decides between claims.
///
/// *Guarantees:* the outcome does not depend on the order in which files were seen. Between
/// newcomers the path that sorts first wins.
pub(crate) fn decide(
    claims: &BTreeMap<Key, BTreeSet<Claim>>,
    holder: &dyn Fn(&Key) -> Holder,
) -> Outcome {
    let mut losers: BTreeMap<String, Lost> = BTreeMap::new();
    loop {
        let mut lost = incumbents_keep(claims, holder, &losers);
        if lost.is_empty() {
            lost = first_path_wins(claims, &losers);
        }
        if lost.is_empty() {
            break;
        }
        losers.extend(lost);
    }
    let mut winners = BTreeMap::new();
    for (key, claims) in claims {
        if let Some(claim) = claims
            .iter()
            .find(|claim| !losers.contains_key(&claim.path))
        {
            winners.insert(key.clone(), claim.clone());
        }
    }
    Outcome { winners, losers }
}

type Losers = BTreeMap<String, Lost>;

fn incumbents_keep(
    claims: &BTreeMap<Key, BTreeSet<Claim>>,
    holder: &dyn Fn(&Key) -> Holder,
    losers: &Losers,
) -> Losers {
    let mut lost = Losers::new();
    for (key, claims) in claims {
        let (path, to) = match holder(key) {
            Holder::Nobody => continue,
            Holder::File(path) => {
                let line = claims
                    .iter()
                    .find(|claim| claim.path == path)
                    .map(|claim| claim.line);
                let to = line.map_or_else(|| path.clone(), |line| format!("{path}:{line}"));
                (Some(path), to)
            }
            Holder::Elsewhere(words) => (None, words),
        };
        for claim in claims {
            if Some(&claim.path) != path.as_ref() && !losers.contains_key(&claim.path) {
                lost.entry(claim.path.clone()).or_insert_with(|| Lost {
                    key: key.clone(),
                    line: claim.line,
                    to: to.clone(),
                });
            }
        }
    }
    lost
}

/// Settles the first open contest only: a file that goes may leave another one unopposed.
fn first_path_wins(claims: &BTreeMap<Key, BTreeSet<Claim>>, losers: &Losers) -> Losers {
    for (key, claims) in claims {
        let mut open = claims
            .iter()
            .filter(|claim| !losers.contains_key(&claim.path));
        let Some(first) = open.next() else { continue };
        let lost: Losers = open
            .map(|claim| {
                let lost = Lost {
                    key: key.clone(),
                    line: claim.line,
                    to: format!("{}:{}", first.path, first.line),
                };
                (claim.path.clone(), lost)
            })
            .collect();
        if !lost.is_empty() {
            return lost;
        }
    }
    Losers::new()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(name: &str) -> Key {
        Key::new(name).unwrap()
    }

    /// `claims` are (file, name); `held` are (name, file).
    fn check(claims: &[(&str, &str)], held: &[(&str, &str)]) -> (Vec<String>, Vec<String>) {
        let mut by_key: BTreeMap<Key, BTreeSet<Claim>> = BTreeMap::new();
        for (at, (path, name)) in claims.iter().enumerate() {
            let claim = Claim {
                path: (*path).into(),
                line: u32::try_from(at).unwrap() + 1,
            };
            by_key.entry(key(name)).or_default().insert(claim);
        }
        let holder = |key: &Key| {
            held.iter()
                .find(|(name, _)| *name == key.as_str())
                .map_or(Holder::Nobody, |(_, path)| Holder::File((*path).into()))
        };
        let outcome = decide(&by_key, &holder);
        let winners = outcome
            .winners
            .iter()
            .map(|(key, won)| format!("{key}={}", won.path));
        (winners.collect(), outcome.losers.into_keys().collect())
    }

    #[test]
    fn the_running_one_keeps_its_name_and_the_newcomer_is_refused() {
        for newcomer in ["a.yaml", "z.yaml"] {
            let (won, lost) = check(
                &[("m.yaml", "web"), (newcomer, "web")],
                &[("web", "m.yaml")],
            );
            assert_eq!(
                (won, lost),
                (vec!["web=m.yaml".into()], vec![newcomer.to_owned()])
            );
        }
    }

    #[test]
    fn between_two_newcomers_the_first_path_wins_whatever_came_first() {
        let forward = check(&[("a.yaml", "web"), ("b.yaml", "web")], &[]);
        let backward = check(&[("b.yaml", "web"), ("a.yaml", "web")], &[]);
        assert_eq!(forward, backward);
        assert_eq!(forward.0, ["web=a.yaml"]);
    }

    #[test]
    fn a_file_that_loses_one_name_speaks_for_none() {
        let claims = [("a.yaml", "web"), ("a.yaml", "db"), ("b.yaml", "db")];
        let (won, lost) = check(&claims, &[("db", "b.yaml")]);
        assert_eq!(won, ["db=b.yaml"]);
        assert_eq!(lost, ["a.yaml"]);
    }

    #[test]
    fn a_loser_does_not_keep_a_third_file_from_its_name() {
        let claims = [
            ("1.yaml", "a"),
            ("1.yaml", "b"),
            ("2.yaml", "a"),
            ("3.yaml", "b"),
        ];
        let (won, lost) = check(&claims, &[("a", "2.yaml")]);
        assert_eq!(won, ["a=2.yaml", "b=3.yaml"]);
        assert_eq!(lost, ["1.yaml"]);
    }

    #[test]
    fn a_name_twice_in_one_file_refuses_that_file() {
        let (won, lost) = check(&[("a.yaml", "web"), ("a.yaml", "web")], &[]);
        assert_eq!((won.len(), lost), (0, vec!["a.yaml".to_owned()]));
    }

    #[test]
    fn nobody_takes_over_from_a_holder_that_cannot_be_asked() {
        let claims = BTreeMap::from([(
            key("web"),
            BTreeSet::from([Claim {
                path: "a.yaml".into(),
                line: 1,
            }]),
        )]);
        let outcome = decide(&claims, &|_| {
            Holder::Elsewhere("a directory that is away".into())
        });
        assert!(outcome.winners.is_empty());
        assert_eq!(outcome.losers["a.yaml"].to, "a directory that is away");
    }
}
