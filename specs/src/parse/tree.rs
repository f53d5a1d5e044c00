//! A document as the guard saw it: values with their places, and nothing interpreted.

use std::borrow::Cow;
use std::collections::BTreeMap;

/// Part of one line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Place {
    /// Line, from 1.
    pub line: u32,
    /// First column, in characters from 1.
    pub column: u32,
    /// Column after the last one.
    pub end_column: u32,
}

/// Where each field of a document stands, by path such as `spec.mounts[0].path`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Places {
    values: BTreeMap<String, Place>,
}

impl Places {
    /// Returns the place of the value at the path, or of the nearest value around it.
    #[must_use]
    pub fn value(&self, path: &str) -> Place {
        let mut path = path;
        loop {
            if let Some(place) = self.values.get(path) {
                return *place;
            }
            match path.rfind(['.', '[']) {
                Some(cut) => path = path.get(..cut).unwrap_or_default(),
                None => return self.values.get("").copied().unwrap_or_default(),
            }
        }
    }

    /// Says whether the path was written in the document.
    #[must_use]
    pub fn is_given(&self, path: &str) -> bool {
        self.values.contains_key(path)
    }

    pub(crate) fn of(root: &Node<'_>) -> Self {
        let mut places = Self::default();
        places.add(&mut String::new(), root);
        places
    }

    fn add(&mut self, path: &mut String, node: &Node<'_>) {
        self.values.insert(path.clone(), node.place);
        let length = path.len();
        match &node.value {
            Value::Scalar(_) => {}
            Value::List(items) => {
                for (at, item) in items.iter().enumerate() {
                    path.push_str(&format!("[{at}]"));
                    self.add(path, item);
                    path.truncate(length);
                }
            }
            Value::Map(entries) => {
                for entry in entries {
                    if !path.is_empty() {
                        path.push('.');
                    }
                    path.push_str(&entry.key.text);
                    self.add(path, &entry.node);
                    path.truncate(length);
                }
            }
        }
    }
}

#[derive(Debug)]
pub(crate) struct Node<'a> {
    pub(crate) place: Place,
    pub(crate) value: Value<'a>,
}

#[derive(Debug)]
pub(crate) enum Value<'a> {
    Scalar(Scalar<'a>),
    List(Vec<Node<'a>>),
    Map(Vec<Entry<'a>>),
}

#[derive(Debug)]
pub(crate) struct Entry<'a> {
    pub(crate) key: Scalar<'a>,
    pub(crate) key_place: Place,
    pub(crate) node: Node<'a>,
}

#[derive(Debug)]
pub(crate) struct Scalar<'a> {
    pub(crate) text: Cow<'a, str>,
    /// Written without quotes, so that it may be something else than text.
    pub(crate) plain: bool,
}

impl Scalar<'_> {
    /// Says whether it is what YAML 1.2 reads as null.
    pub(crate) fn is_null(&self) -> bool {
        self.plain && matches!(&*self.text, "" | "~" | "null" | "Null" | "NULL")
    }
}

impl<'a> Node<'a> {
    /// Returns the value of a key, if this is a mapping that has it.
    pub(crate) fn get(&self, key: &str) -> Option<&Node<'a>> {
        self.entry(key).map(|entry| &entry.node)
    }

    pub(crate) fn entry(&self, key: &str) -> Option<&Entry<'a>> {
        match &self.value {
            Value::Map(entries) => entries.iter().find(|entry| entry.key.text == key),
            Value::Scalar(_) | Value::List(_) => None,
        }
    }

    pub(crate) fn text(&self) -> Option<&str> {
        match &self.value {
            Value::Scalar(scalar) if !scalar.is_null() => Some(&scalar.text),
            _ => None,
        }
    }

    pub(crate) fn items(&self) -> &[Node<'a>] {
        match &self.value {
            Value::List(items) => items,
            Value::Scalar(_) | Value::Map(_) => &[],
        }
    }

    pub(crate) fn entries(&self) -> &[Entry<'a>] {
        match &self.value {
            Value::Map(entries) => entries,
            Value::Scalar(_) | Value::List(_) => &[],
        }
    }

    pub(crate) fn is_null(&self) -> bool {
        matches!(&self.value, Value::Scalar(scalar) if scalar.is_null())
    }
}
