//! Containers that wait for each other.

use std::collections::BTreeMap;

use crate::desired::cycle;
use crate::diagnostic::{Code, Diagnostic};
use crate::id::Key;
use crate::parse::Located;
use crate::parse::faults::Fault;
use crate::spec::Spec;

/// Returns the containers that a spec depends on.
#[must_use]
pub fn needs_of(spec: &Spec) -> Vec<Key> {
    let needs = spec.spec.depends_on.iter();
    needs.map(|one| one.container.clone()).collect()
}

/// Returns the circle that a container stands in, itself first; nothing if it stands in none.
/// `needs` says what each one depends on.
#[must_use]
pub fn circle_of(key: &Key, needs: &BTreeMap<Key, Vec<Key>>) -> Option<Vec<Key>> {
    let (key, _) = needs.get_key_value(key)?;
    let next = |at: &Key| -> Vec<&Key> {
        let own = needs.get(at).map_or(&[][..], Vec::as_slice);
        own.iter()
            .filter_map(|on| needs.get_key_value(on).map(|(on, _)| on))
            .collect()
    };
    let way = cycle(key, next)?;
    Some(way.into_iter().cloned().collect())
}

/// Returns a circle in words: `web -> db -> web`.
#[must_use]
pub fn circle_words(way: &[Key]) -> String {
    let names: Vec<&str> = way.iter().chain(way.first()).map(Key::as_str).collect();
    names.join(" -> ")
}

/// Tells of each circle once, at the container that comes last: the others stand without it.
pub(super) fn circles(set: &[(String, Located)]) -> Vec<Diagnostic> {
    let mut by_key: BTreeMap<&Key, (usize, &str, &Located)> = BTreeMap::new();
    for (at, (file, located)) in set.iter().enumerate() {
        by_key
            .entry(&located.spec.metadata.name)
            .or_insert((at, file, located));
    }
    let mut needs: BTreeMap<Key, Vec<Key>> = BTreeMap::new();
    for (key, (_, _, located)) in &by_key {
        needs.insert((*key).clone(), needs_of(&located.spec));
    }
    let mut out = Vec::new();
    for key in by_key.keys() {
        let Some(way) = circle_of(key, &needs) else {
            continue;
        };
        let last = way
            .iter()
            .filter_map(|key| Some((key, by_key.get(key)?)))
            .max_by_key(|(_, (at, ..))| *at);
        let Some((last, (_, file, located))) = last else {
            continue;
        };
        out.push(told(&way, last, (file, located), &by_key));
        // Without it there is no such circle any more.
        needs.remove(last);
    }
    out
}

fn told(
    way: &[Key],
    last: &Key,
    (file, located): (&str, &Located),
    by_key: &BTreeMap<&Key, (usize, &str, &Located)>,
) -> Diagnostic {
    let next = way.iter().skip(1).chain(way.first());
    let pairs: Vec<(&Key, &Key)> = way.iter().zip(next).collect();
    let path_of = |located: &Located, on: &Key| {
        let needs = needs_of(&located.spec);
        let at = needs.iter().position(|one| one == on).unwrap_or_default();
        format!("spec.dependsOn[{at}].container")
    };
    let lines = pairs.iter().filter_map(|(from, to)| {
        let (_, file, located) = by_key.get(from)?;
        let line = located.places.value(&path_of(located, to)).line;
        Some(format!("`{from}` waits for `{to}` at {file}:{line}"))
    });
    let note = lines.collect::<Vec<_>>().join(", ");
    let on = pairs.iter().find(|(from, _)| *from == last);
    let path = on.map_or_else(String::new, |(_, on)| path_of(located, on));
    let message = format!("containers wait for each other: {}", circle_words(way));
    let fault = Fault::new(Code::DependencyCycle, message)
        .note(note)
        .help("remove `dependsOn` from one of them");
    fault.at(file, located.places.value(&path))
}
