//! The guard beside the second reader, and its work.

use proptest::prelude::*;
use serde::Deserialize as _;
use serde::de::DeserializeSeed as _;

use super::agree::Document;
use super::faults::Faults;
use super::guard::{DEPTH_MAX, DOCUMENTS_MAX, NODES_MAX, read};
use super::tree::{Node, Value};
use super::{BYTES_MAX, decode};
use crate::diagnostic::Code;

/// Pieces that readers of YAML stumble over.
const TOKENS: [&str; 48] = [
    "a",
    "b",
    "1",
    "~",
    "null",
    "true",
    "0x1",
    "1.5",
    "-",
    "- ",
    "? ",
    ": ",
    ":",
    ", ",
    ",",
    "[",
    "]",
    "{",
    "}",
    "\n",
    "\n ",
    "\n  ",
    "  ",
    " ",
    "\"",
    "'",
    "\"x\"",
    "'y'",
    "|\n",
    ">\n",
    "|-\n",
    "#",
    " # c",
    "---\n",
    "...\n",
    "é",
    "\t",
    "\r\n",
    "\\",
    "\\n",
    "\"\\x41\"",
    "\"a\n b\"",
    "%",
    "@",
    "=",
    "<",
    "a: b\n",
    "k:\n  - v\n",
];

/// What became of a text that is in order for the guard.
#[derive(Debug, PartialEq)]
enum Seen {
    /// One of the readers, or both, refused it.
    Refused,
    /// Both took it and saw the same.
    Alike,
    /// Both took it and saw something else.
    Otherwise,
}

fn look(text: &str) -> Seen {
    let mut faults = Faults::new("a.yaml");
    let Some(text) = decode::decode(text.as_bytes(), &mut faults) else {
        return Seen::Refused;
    };
    let guarded = read(&text, &mut faults);
    let is_mapping = |node: &&Node<'_>| matches!(node.value, Value::Map(_));
    let roots: Vec<&Node<'_>> = guarded
        .documents
        .iter()
        .filter(|node| !node.is_null())
        .collect();
    // Others are refused before the second reader is asked.
    if faults.len() > 0 || roots.is_empty() || !roots.iter().all(is_mapping) || has_null(&roots) {
        return Seen::Refused;
    }
    compare(&text, &roots)
}

fn compare(text: &str, roots: &[&Node<'_>]) -> Seen {
    let mut documents = serde_yaml::Deserializer::from_str(text);
    if documents.any(|document| serde_yaml::Value::deserialize(document).is_err()) {
        return Seen::Refused;
    }
    let mut seen = 0;
    for document in serde_yaml::Deserializer::from_str(text) {
        match Document(roots.get(seen).copied()).deserialize(document) {
            Ok(is_one) => seen += usize::from(is_one),
            Err(_) => return Seen::Otherwise,
        }
    }
    if seen == roots.len() {
        Seen::Alike
    } else {
        Seen::Otherwise
    }
}

fn has_null(nodes: &[&Node<'_>]) -> bool {
    nodes.iter().any(|node| {
        let entries = node.entries().iter().map(|entry| &entry.node);
        let parts: Vec<&Node<'_>> = node.items().iter().chain(entries).collect();
        node.is_null() || has_null(&parts)
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4000))]

    /// A text that both readers take has one meaning.
    #[test]
    fn what_both_readers_take_they_read_alike(
        picks in prop::collection::vec(0..TOKENS.len(), 0..24)
    ) {
        let text: String = picks.iter().map(|at| TOKENS[*at]).collect();
        assert_ne!(look(&text), Seen::Otherwise, "{text:?}");
        let text = format!("k: {}\n", text.replace('\n', "\n  "));
        assert_ne!(look(&text), Seen::Otherwise, "{text:?}");
    }

    #[test]
    fn a_mapping_that_both_readers_take_they_read_alike(
        lines in prop::collection::vec((0_usize..3, 0..TOKENS.len(), 0..TOKENS.len()), 1..8)
    ) {
        let line = |(at, (deep, key, value)): (usize, &(usize, usize, usize))| {
            let indent = "  ".repeat(*deep);
            format!("{indent}{}{at}: {}\n", TOKENS[*key].trim(), TOKENS[*value])
        };
        let text: String = lines.iter().enumerate().map(line).collect();
        assert_ne!(look(&text), Seen::Otherwise, "{text:?}");
    }
}

#[test]
fn the_comparison_sees_a_difference() {
    let text = "a: b\nc: [1, 'x', \"\\x41\"]\n---\nd: |\n  text\n";
    assert_eq!(look(text), Seen::Alike);
    let mut faults = Faults::new("a.yaml");
    let guarded = read(text, &mut faults);
    let roots: Vec<&Node<'_>> = guarded.documents.iter().collect();
    for other in [
        text.replace("a: b", "a: c"),
        text.replace("a: b", "b: b"),
        text.replace("a: b", "a: [b]"),
        text.replace("[1, 'x'", "[1, 'x', y"),
        text.replace("[1, 'x', \"\\x41\"]", "[1, 'x']"),
        text.replace("a: b", "a: b\nz: z"),
        text.replace("a: b\n", ""),
        text.replace("---\nd: |\n  text\n", ""),
        text.replace("---\n", "---\ne: f\n---\n"),
    ] {
        assert_eq!(compare(&other, &roots), Seen::Otherwise, "{other}");
    }
}

fn events(text: &str) -> (usize, Vec<Code>) {
    let mut faults = Faults::new("a.yaml");
    let guarded = read(text, &mut faults);
    (
        guarded.events,
        faults.finish().iter().map(|one| one.code).collect(),
    )
}

#[test]
fn work_ends_at_the_caps() {
    // Each node is an event, a list or mapping two; a document and the stream two each.
    let most = 2 * NODES_MAX + 2 * DOCUMENTS_MAX + 3;
    for (text, code) in [
        ("[".repeat(100_000), Code::Syntax),
        ("- ".repeat(BYTES_MAX / 2), Code::TooDeep),
        ("- a\n".repeat(BYTES_MAX / 4), Code::TooManyNodes),
        ("k: v\n".repeat(BYTES_MAX / 5), Code::TooManyNodes),
        (
            "[a, b]\n---\n".repeat(BYTES_MAX / 11),
            Code::TooManyDocuments,
        ),
        (
            format!(
                "{}x{}",
                "[".repeat(DEPTH_MAX + 1),
                "]".repeat(DEPTH_MAX + 1)
            ),
            Code::TooDeep,
        ),
    ] {
        let (events, codes) = events(&text);
        assert!(events <= most, "{events}");
        assert!(codes.contains(&code), "{codes:?}");
    }
}

#[test]
fn a_text_at_the_caps_is_read() {
    let deep = format!("{}x{}", "[".repeat(DEPTH_MAX), "]".repeat(DEPTH_MAX));
    let nodes = "- a\n".repeat(NODES_MAX - 1);
    let documents = "--- a\n".repeat(DOCUMENTS_MAX);
    // A block text may hold any number of separators.
    let json = format!(
        "a: |\n{}",
        "  {\"key\": [1, 2, 3], \"other\": {}}\n".repeat(25_000)
    );
    for text in [deep, nodes, documents, json] {
        assert_eq!(
            events(&text).1,
            [],
            "{}",
            text.get(..30).unwrap_or_default()
        );
    }
}
