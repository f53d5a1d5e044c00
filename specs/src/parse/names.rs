//! Names that can still be made out in a text that was refused.
//!
//! A refused file must not look like one that names nothing: whoever holds these names has
//! to know that the file was about them.

use super::tree::Node;
use crate::id::Key;

/// Returns the names in documents that were read, and those in the rest of the text that
/// look like names, in order and without repetition.
pub(crate) fn names(documents: &[Node<'_>], text: &str, stopped: Option<u32>) -> Vec<Key> {
    let mut found = Vec::new();
    for document in documents {
        let name = document
            .get("metadata")
            .and_then(|metadata| metadata.get("name"));
        if let Some(key) = name
            .and_then(Node::text)
            .and_then(|text| Key::new(text).ok())
        {
            push(&mut found, key);
        }
    }
    if stopped.is_some() {
        for key in scan(text) {
            push(&mut found, key);
        }
    }
    found
}

fn push(found: &mut Vec<Key>, key: Key) {
    if found.len() < super::guard::DOCUMENTS_MAX && !found.contains(&key) {
        found.push(key);
    }
}

/// Looks for `metadata:` at the beginning of a line and an indented `name:` below it.
fn scan(text: &str) -> impl Iterator<Item = Key> {
    let mut inside = false;
    text.lines().filter_map(move |line| {
        let indented = line.starts_with(' ');
        let word = line.trim();
        if !indented && !word.is_empty() && !word.starts_with('#') {
            inside = word.starts_with("metadata:");
        }
        let inline = word
            .strip_prefix("metadata:")
            .and_then(|rest| rest.trim().strip_prefix('{'));
        let rest = match inline {
            Some(inline) => inline
                .split(',')
                .find_map(|part| part.trim().strip_prefix("name:")),
            None if inside && indented => word.strip_prefix("name:"),
            None => None,
        };
        let value = rest?.split(" #").next().unwrap_or_default();
        let value = value.trim().trim_end_matches('}').trim();
        Key::new(value.trim_matches(['"', '\''])).ok()
    })
}
