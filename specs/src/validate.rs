//! Laws between fields of one container, between the documents of one file, and between
//! containers. Laws of a single field stand with its type.

mod circles;
mod container;
mod depends;
mod network;
mod set;

pub use circles::{circle_of, circle_words, needs_of};
pub use set::{
    Claim, Duplicate, PortClaim, address_of, duplicates, ports_of, refusal, validate_set,
};

use crate::diagnostic::{Code, plain};
use crate::parse::faults::{Fault, Faults};
use crate::parse::tree::{Node, Place};

/// Checks the documents of one file. A field that is missing or not well-formed is passed
/// over: it has been told already.
pub(crate) fn laws(documents: &[&Node<'_>], faults: &mut Faults<'_>) {
    let mut names = Vec::new();
    for document in documents {
        let name = document
            .get("metadata")
            .and_then(|metadata| metadata.get("name"));
        if let Some(spec) = document.get("spec") {
            container::laws(spec, faults);
            network::laws(spec, faults);
            depends::laws(spec, faults);
            depends::container(name.and_then(Node::text), spec, faults);
        }
        if let Some((name, text)) = name.and_then(|name| Some((name, name.text()?))) {
            names.push((text, name.place));
        }
    }
    distinct(&names, faults, |text, first| {
        let message = format!("a second container `{}` in one file", plain(text));
        let help = "give one of the two another name";
        Fault::new(Code::DuplicateName, message)
            .note(first)
            .help(help)
    });
}

/// Tells of every text that stands in the list twice, at its later places.
fn distinct(
    list: &[(&str, Place)],
    faults: &mut Faults<'_>,
    fault: impl Fn(&str, String) -> Fault,
) {
    let mut sorted = list.to_vec();
    sorted.sort_by_key(|(text, place)| (*text, place.line, place.column));
    for pair in sorted.windows(2) {
        let [first, second] = pair else { continue };
        if first.0 == second.0 {
            let note = format!("first given on line {}", first.1.line);
            faults.push(second.1, fault(second.0, note));
        }
    }
}
