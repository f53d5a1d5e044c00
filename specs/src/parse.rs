//! From bytes to specs, or to a list of faults with their places. Total and bounded:
//! whatever the bytes are, the answer comes soon and without a panic.
//!
//! ```text
//!   bytes ─▶ guard ─▶ documents ─▶ walk ─▶ laws ─▶ serde_yaml ─▶ Spec
//!            caps,     places      fields,   fields    the second
//!            one pass              values    together  reader
//!                 └────────┴──────────┴─────────┴──────────┴────▶ diagnostics
//! ```

mod agree;
pub(crate) mod decode;
pub(crate) mod faults;
pub(crate) mod guard;
mod meter;
mod names;
pub(crate) mod tree;
mod walk;

use serde::Deserialize;
use serde::de::{DeserializeOwned, DeserializeSeed};

pub use decode::BYTES_MAX;
pub use guard::{DEPTH_MAX, DOCUMENTS_MAX, NODES_MAX};
pub use tree::{Place, Places};

use crate::diagnostic::{Code, Diagnostic, plain};
use crate::fields::{Field, SPEC};
use crate::id::Key;
use crate::spec::Spec;
use crate::validate;
use faults::{Fault, Faults};
use tree::Node;

/// What became of a file. It is taken whole or not at all.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Parsed {
    /// The specs in the order of the file; empty if any diagnostic is an error.
    pub specs: Vec<Located>,
    /// Everything that is wrong, in the order of the file.
    pub diagnostics: Vec<Diagnostic>,
    /// Every name that could be made out, also in a refused file.
    pub names: Vec<Key>,
}

/// A spec and where it stands.
#[derive(Clone, Debug, PartialEq)]
pub struct Located {
    /// The spec.
    pub spec: Spec,
    /// Line its document begins on, from 1.
    pub line: u32,
    /// Where each of its fields stands.
    pub places: Places,
}

/// Reads a file of specs. `file` is its name for messages.
#[must_use]
pub fn parse(file: &str, bytes: &[u8]) -> Parsed {
    let mut faults = Faults::new(file);
    let Some(text) = decode::decode(bytes, &mut faults) else {
        let text = String::from_utf8_lossy(bytes.get(..BYTES_MAX).unwrap_or(bytes));
        return Parsed {
            specs: Vec::new(),
            diagnostics: faults.finish(),
            names: names::names(&[], &text, Some(1)),
        };
    };
    let mut read = read::<Spec>(&text, SPEC, validate::laws, &mut faults);
    let mut specs = Vec::new();
    let values = std::mem::take(&mut read.values);
    for (spec, root) in values.into_iter().zip(read.roots()) {
        specs.push(Located {
            spec,
            line: root.place.line,
            places: Places::of(root),
        });
    }
    Parsed {
        specs,
        diagnostics: faults.finish(),
        names: names::names(&read.guarded.documents, &text, read.guarded.stopped),
    }
}

/// Reads the documents of a text into a type; no values if anything is wrong.
pub(crate) fn read<'a, T: DeserializeOwned>(
    text: &'a str,
    fields: &'static [Field],
    laws: fn(&[&Node<'_>], &mut Faults<'_>),
    faults: &mut Faults<'_>,
) -> Read<'a, T> {
    let guarded = guard::read(text, faults);
    let mut read = Read {
        values: Vec::new(),
        guarded,
    };
    let stopped = read.guarded.stopped.is_some();
    let roots: Vec<&Node<'_>> = read.roots().collect();
    // What was cut off is not there to be judged.
    let whole = if stopped {
        roots.len().saturating_sub(1)
    } else {
        roots.len()
    };
    let whole = roots.get(..whole).unwrap_or_default();
    if roots.is_empty() && !stopped {
        faults.push(Place::first(), nothing());
    }
    // Beyond a cap the rest is not worth judging, and nobody could read it.
    if !read.guarded.capped {
        for root in whole {
            match root.value {
                tree::Value::Map(_) => walk::walk(root, fields, faults),
                tree::Value::List(_) | tree::Value::Scalar(_) => {
                    faults.push(root.place, no_mapping());
                }
            }
        }
        laws(whole, faults);
    }
    if faults.len() == 0 {
        read.values = deserialize(text, &roots, faults);
    }
    read
}

/// What [`read`] made of a text.
#[derive(Debug)]
pub(crate) struct Read<'a, T> {
    pub(crate) values: Vec<T>,
    pub(crate) guarded: guard::Guarded<'a>,
}

impl<'a, T> Read<'a, T> {
    /// Returns the documents that are not empty (as after a `---` at the end).
    pub(crate) fn roots(&self) -> impl Iterator<Item = &Node<'a>> {
        self.guarded.documents.iter().filter(|node| !node.is_null())
    }
}

impl Place {
    fn first() -> Self {
        Self {
            line: 1,
            column: 1,
            end_column: 1,
        }
    }
}

fn nothing() -> Fault {
    let help = "to remove containers, remove the file; a document begins with `apiVersion:`";
    Fault::new(Code::NoDocument, "the file holds no document").help(help)
}

fn no_mapping() -> Fault {
    let help = "a document begins with `apiVersion:`";
    Fault::new(Code::NoDocument, "a document is a mapping (`key: value`)").help(help)
}

/// The second reader: it has to see what the first one saw, and nothing else.
fn deserialize<T: DeserializeOwned>(
    text: &str,
    roots: &[&Node<'_>],
    faults: &mut Faults<'_>,
) -> Vec<T> {
    let mut values = Vec::new();
    let mut agreed = 0;
    let documents = serde_yaml::Deserializer::from_str(text);
    for (document, again) in documents.zip(serde_yaml::Deserializer::from_str(text)) {
        let root = roots.get(values.len()).copied();
        let same = agree::Document(root).deserialize(document).map(usize::from);
        let value = same.and_then(|same| {
            agreed += same;
            Option::<T>::deserialize(again)
        });
        match value {
            Ok(value) => values.extend(value),
            Err(err) => {
                let words = err.to_string();
                let cause = words.split(" at line").next().unwrap_or_default();
                faults.push(place_of(&err, root), disagreement(&plain(cause)));
                return Vec::new();
            }
        }
    }
    if values.len() != roots.len() || agreed != roots.len() {
        let message = format!("{} documents or {}", roots.len(), values.len());
        faults.push(Place::first(), disagreement(&message));
        return Vec::new();
    }
    values
}

fn place_of(err: &serde_yaml::Error, root: Option<&Node<'_>>) -> Place {
    let number = |value: usize| u32::try_from(value).unwrap_or(u32::MAX);
    match err.location() {
        Some(location) => Place {
            line: number(location.line()),
            column: number(location.column()),
            end_column: number(location.column()).saturating_add(1),
        },
        None => root.map_or(Place::first(), |root| root.place),
    }
}

fn disagreement(cause: &str) -> Fault {
    let message = format!("the text can be read in more than one way: {cause}");
    Fault::new(Code::ReadersDisagree, message).help("write the line in a simpler form")
}

#[cfg(test)]
mod tests;
