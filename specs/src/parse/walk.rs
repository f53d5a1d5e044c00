//! The walk over a document beside the table of fields: every unknown field, missing field
//! and wrong value is told, not only the first.

use std::fmt::Write as _;

use super::faults::{Fault, Faults};
use super::tree::{Entry, Node, Place, Scalar, Value};
use crate::diagnostic::{Code, closest, plain};
use crate::fields::{Field, Shape, Type, foreign, later, later_value};

/// Checks a document against its fields.
pub(crate) fn walk(root: &Node<'_>, fields: &'static [Field], faults: &mut Faults<'_>) {
    let mut walk = Walk {
        path: Vec::new(),
        faults,
    };
    walk.object(root, root.place, fields);
}

struct Walk<'w, 'f> {
    /// Where the walk is: names of fields, and `[]` for items.
    path: Vec<&'static str>,
    faults: &'w mut Faults<'f>,
}

impl Walk<'_, '_> {
    /// Checks a mapping; `at` is where a missing field is told, usually its key.
    fn object(&mut self, node: &Node<'_>, at: Place, fields: &'static [Field]) {
        let Value::Map(entries) = &node.value else {
            self.wrong_kind(node, "a mapping (`key: value`)");
            return;
        };
        for entry in entries {
            if self.faults.is_full() {
                return;
            }
            match fields.iter().find(|field| field.name == entry.key.text) {
                None => self.unknown(entry, fields),
                Some(field) => self.field(entry, field),
            }
        }
        for field in fields.iter().filter(|field| field.needed) {
            if node.get(field.name).is_none() {
                self.missing(at, field);
            }
        }
    }

    fn field(&mut self, entry: &Entry<'_>, field: &'static Field) {
        self.path.push(field.name);
        let node = &entry.node;
        if node.is_null() {
            self.no_value(entry.key_place, field.name);
        } else {
            match &field.shape {
                Shape::Object(fields) => self.object(node, entry.key_place, fields),
                Shape::One(kind) => self.one(node, kind),
                Shape::Objects(fields, most) => {
                    self.list(node, *most, |walk, item| {
                        walk.object(item, item.place, fields)
                    });
                }
                Shape::List(kind, most) => {
                    self.list(node, *most, |walk, item| walk.item(item, kind));
                }
                Shape::Map(key, value) => self.map(node, key, value),
            }
        }
        self.path.pop();
    }

    fn one(&mut self, node: &Node<'_>, kind: &Type) {
        let Value::Scalar(scalar) = &node.value else {
            self.wrong_kind(node, &format!("a single value ({})", kind.name()));
            return;
        };
        if later_value(&self.path(), &scalar.text) {
            let message = format!("`{}` is not supported yet", plain(&scalar.text));
            let fault = Fault::new(Code::NotSupportedYet, message);
            self.faults
                .push(node.place, fault.help("write `none` or `host`"));
            return;
        }
        self.check(node.place, scalar, kind);
    }

    fn check(&mut self, place: Place, scalar: &Scalar<'_>, kind: &Type) {
        if let Err(fault) = kind.check(scalar) {
            self.faults.push(place, fault);
        }
    }

    fn item(&mut self, item: &Node<'_>, kind: &Type) {
        if item.is_null() {
            let fault = Fault::new(Code::NoValue, "an item of the list has no value");
            let help = "remove the line, or write `\"\"` for an empty text";
            self.faults.push(item.place, fault.help(help));
        } else {
            self.one(item, kind);
        }
    }

    fn list(&mut self, node: &Node<'_>, most: usize, mut each: impl FnMut(&mut Self, &Node<'_>)) {
        let Value::List(items) = &node.value else {
            self.wrong_kind(node, "a list (`- item`)");
            return;
        };
        if items.len() > most {
            let message = format!("{} items, at most {most} are taken", items.len());
            self.faults
                .push(node.place, Fault::new(Code::TextShape, message));
        }
        self.path.push("[]");
        for item in items {
            if self.faults.is_full() {
                break;
            }
            each(self, item);
        }
        self.path.pop();
    }

    fn map(&mut self, node: &Node<'_>, key: &Type, value: &Type) {
        let Value::Map(entries) = &node.value else {
            self.wrong_kind(node, "a mapping (`key: value`)");
            return;
        };
        self.path.push("*");
        for entry in entries {
            if self.faults.is_full() {
                break;
            }
            self.check(entry.key_place, &entry.key, key);
            if entry.node.is_null() {
                self.no_value(entry.key_place, &entry.key.text);
            } else {
                self.one(&entry.node, value);
            }
        }
        self.path.pop();
    }

    fn unknown(&mut self, entry: &Entry<'_>, fields: &'static [Field]) {
        let parent = self.path();
        let name = plain(&entry.key.text);
        let full = if parent.is_empty() {
            name.clone()
        } else {
            format!("{parent}.{name}")
        };
        if later(&full) {
            let fault = Fault::new(
                Code::NotSupportedYet,
                format!("`{name}` is not supported yet"),
            );
            let note = "the field belongs to the format, this release does not have it";
            self.faults
                .push(entry.key_place, fault.note(note).help("remove it for now"));
            return;
        }
        let place = if parent.is_empty() {
            "in a document".to_owned()
        } else {
            format!("in `{parent}`")
        };
        let fault = Fault::new(
            Code::UnknownField,
            format!("unknown field `{name}` {place}"),
        );
        let known = || fields.iter().map(|field| field.name);
        let help = match (
            foreign(&parent, &entry.key.text),
            closest(&entry.key.text, known()),
        ) {
            (Some(ours), _) => format!("here this is {ours}"),
            (None, Some(near)) => format!("did you mean `{near}`?"),
            (None, None) => format!("known here: {}", known().collect::<Vec<_>>().join(", ")),
        };
        self.faults.push(entry.key_place, fault.help(help));
    }

    fn missing(&mut self, at: Place, field: &Field) {
        let parent = self.path();
        let message = if parent.is_empty() {
            format!("the document has no `{}`", field.name)
        } else {
            format!("`{parent}` has no `{}`", field.name)
        };
        let help = match &field.shape {
            Shape::One(Type::Words([only])) => format!("add `{}: {only}`", field.name),
            Shape::One(kind) => format!("add `{}:` with a value ({})", field.name, kind.name()),
            Shape::Object(_) | Shape::Map(..) => format!("add `{}:` with its fields", field.name),
            Shape::Objects(..) | Shape::List(..) => format!("add `{}:` with a list", field.name),
        };
        self.faults
            .push(at, Fault::new(Code::MissingField, message).help(help));
    }

    fn no_value(&mut self, place: Place, name: &str) {
        let fault = Fault::new(Code::NoValue, format!("`{}` has no value", plain(name)));
        let help = "give it a value, or remove the key to get the default";
        self.faults.push(place, fault.help(help));
    }

    fn wrong_kind(&mut self, node: &Node<'_>, expected: &str) {
        let found = match &node.value {
            Value::Scalar(_) => "a single value",
            Value::List(_) => "a list",
            Value::Map(_) => "a mapping",
        };
        let message = format!("{expected} is expected here, not {found}");
        self.faults
            .push(node.place, Fault::new(Code::WrongKind, message));
    }

    /// Returns the path for people, items being `[]`.
    fn path(&self) -> String {
        let mut out = String::new();
        for part in &self.path {
            if *part != "[]" && !out.is_empty() {
                out.push('.');
            }
            // Writing to a string cannot fail.
            let _written = write!(out, "{part}");
        }
        out
    }
}
