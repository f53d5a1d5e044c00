//! What waits for what.

use std::collections::BTreeMap;

/// What of another is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Condition {
    /// It runs, or has ended well.
    Started,
    /// It runs and is ready.
    Healthy,
    /// It has ended well.
    Completed,
}

impl Condition {
    /// Returns its word in a spec.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Started => "started",
            Self::Healthy => "healthy",
            Self::Completed => "completed",
        }
    }
}

/// Returns a way that leads from a name back to it, the name itself first and not again at the
/// end; nothing if there is none. `needs` says what each name depends on.
#[must_use]
pub fn cycle<'a, K: Ord>(from: &'a K, needs: impl Fn(&'a K) -> Vec<&'a K>) -> Option<Vec<&'a K>> {
    let mut came: BTreeMap<&K, &K> = BTreeMap::new();
    let mut left = vec![from];
    while let Some(at) = left.pop() {
        for next in needs(at) {
            if next == from {
                return Some(way(&came, from, at));
            }
            if !came.contains_key(next) {
                came.insert(next, at);
                left.push(next);
            }
        }
    }
    None
}

fn way<'a, K: Ord>(came: &BTreeMap<&'a K, &'a K>, from: &'a K, to: &'a K) -> Vec<&'a K> {
    let mut way = vec![to];
    let mut at = to;
    // Each name was come to once, so the way is no longer than the map.
    while at != from
        && let Some(before) = came.get(at)
    {
        at = before;
        way.push(at);
    }
    way.reverse();
    way
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[track_caller]
    fn check(edges: &[(&str, &str)], from: &str, expected: Option<&str>) {
        let names: BTreeSet<&str> = edges.iter().flat_map(|(a, b)| [*a, *b]).collect();
        let from = names.get(from).expect("a name");
        let needs = |at: &&str| {
            let next = edges.iter().filter(|(a, _)| a == at);
            next.filter_map(|(_, b)| names.get(b)).collect()
        };
        let way = cycle(from, needs).map(|way| {
            let way: Vec<&str> = way.into_iter().copied().collect();
            way.join(" ")
        });
        assert_eq!(way.as_deref(), expected);
    }

    #[test]
    fn a_cycle_is_told_from_the_name_asked_about() {
        check(&[("a", "b"), ("b", "c"), ("c", "a")], "b", Some("b c a"));
        check(&[("a", "a")], "a", Some("a"));
        check(&[("a", "b"), ("b", "c")], "a", None);
        check(&[("a", "b"), ("b", "c"), ("c", "b")], "a", None);
    }
}
