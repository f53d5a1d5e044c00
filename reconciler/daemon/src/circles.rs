//! Containers that would wait for each other: what stands keeps standing, the text that closes
//! the circle is refused.

use std::collections::BTreeMap;

use specs::id::Key;
use specs::validate::{circle_of, circle_words, needs_of};

use crate::ledger::Ledger;
use crate::reading::{Document, Reading, Refusal};

/// A text that closes a circle.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Closes {
    /// Why it is refused, in words.
    pub(crate) why: String,
    /// Line of the document.
    pub(crate) line: u32,
}

type Needs = BTreeMap<Key, Vec<Key>>;

/// Returns the files that close a circle. Between newcomers the path that sorts first stays.
pub(crate) fn losers(
    ledger: &Ledger,
    readings: &BTreeMap<&str, &Reading>,
    refused: &BTreeMap<String, Refusal>,
) -> BTreeMap<String, Closes> {
    let stand: Needs = ledger
        .entries
        .iter()
        .filter(|(_, entry)| !entry.expired && !entry.head.deleted)
        .map(|(key, entry)| (key.clone(), needs_of(&entry.spec)))
        .collect();
    let mut losers: BTreeMap<String, Closes> = BTreeMap::new();
    // A file that goes leaves its containers as they stood: look again, at most once a file.
    'again: loop {
        let stands = |path: &str| !refused.contains_key(path) && !losers.contains_key(path);
        let mut needs = stand.clone();
        let mut newcomers: Vec<(&str, &Document)> = Vec::new();
        for (path, reading) in readings.iter().filter(|(path, _)| stands(path)) {
            for document in reading.outcome.iter().flatten() {
                let own = needs_of(&document.spec);
                let name = &document.spec.metadata.name;
                if stand.get(name) != Some(&own) {
                    newcomers.push((*path, document));
                }
                needs.insert(name.clone(), own);
            }
        }
        for (path, document) in newcomers.iter().rev() {
            if let Some(way) = circle_of(&document.spec.metadata.name, &needs) {
                losers.insert((*path).to_owned(), closes(&way, document));
                continue 'again;
            }
        }
        return losers;
    }
}

fn closes(way: &[Key], document: &Document) -> Closes {
    let why = format!(
        "`dependsOn` closes a circle of containers that wait for each other: {}; what stands \
         stays as it is; remove `dependsOn` here, or from another of them first",
        circle_words(way)
    );
    Closes {
        why,
        line: document.line,
    }
}
