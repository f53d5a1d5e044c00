//! What an edit costs, field by field.

use std::collections::BTreeSet;

use serde::Serialize;
use serde_json::Value;

use crate::desired::view::Show;
use crate::desired::{Desired, IdRange, UserNamespace};
use crate::fields::{Field, SPEC, Shape};

/// What a change of a field costs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Class {
    /// The same processes keep running.
    Live,
    /// Only the process concerned is restarted.
    Process,
    /// The container is made anew.
    Recreate,
}

impl Class {
    /// Returns its word: `live`, `process` or `recreate`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Live => "live",
            Self::Process => "process",
            Self::Recreate => "recreate",
        }
    }
}

impl std::fmt::Display for Class {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// One field that differs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct FieldChange {
    /// Path in the spec; items by their name or path: `spec.processes[web].command`.
    pub path: String,
    /// What it costs.
    pub class: Class,
    /// Old value in words; secrets as their length.
    pub from: String,
    /// New value in words; secrets as their length.
    pub to: String,
}

/// Returns every field that differs, in the order of the format. Empty means that an edit was
/// of no consequence.
#[must_use]
pub fn changes(old: &Desired, new: &Desired) -> Vec<FieldChange> {
    let mut diff = Diff { out: Vec::new() };
    if old.restart_epoch != new.restart_epoch {
        let (from, to) = (old.restart_epoch.to_string(), new.restart_epoch.to_string());
        diff.push("restart order", Class::Process, from, to);
    }
    let views = |desired: &Desired| (desired.view(Show::Mark), desired.view(Show::Length));
    let (old_views, new_views) = (views(old), views(new));
    diff.object("", Side::of(&old_views), Side::of(&new_views), SPEC, None);
    let namespaces = (
        old.container.security.user_namespace,
        new.container.security.user_namespace,
    );
    if let (UserNamespace::Own(from), UserNamespace::Own(to)) = namespaces
        && from != to
    {
        let words = |range: IdRange| format!("auto, ids from {}, {}", range.base, range.count);
        diff.push(
            "spec.security.user.namespace",
            Class::Recreate,
            words(from),
            words(to),
        );
    }
    diff.out
}

/// A part of a container, with secrets to be compared and with secrets to be shown.
#[derive(Clone, Copy)]
struct Side<'a> {
    marked: &'a Value,
    shown: &'a Value,
}

impl<'a> Side<'a> {
    fn of((marked, shown): &'a (Value, Value)) -> Self {
        Self { marked, shown }
    }

    fn get(self, key: &str) -> Option<Self> {
        Some(Self {
            marked: self.marked.get(key)?,
            shown: self.shown.get(key)?,
        })
    }

    /// Returns the item of a list that has this name or path.
    fn item(self, id: &str) -> Option<Self> {
        let at = self
            .items()
            .iter()
            .position(|item| identity(item) == Some(id))?;
        Some(Self {
            marked: self.marked.get(at)?,
            shown: self.shown.get(at)?,
        })
    }

    fn items(self) -> &'a [Value] {
        self.shown.as_array().map_or(&[], Vec::as_slice)
    }

    fn keys(self) -> Vec<&'a str> {
        match self.shown {
            Value::Object(map) => map.keys().map(String::as_str).collect(),
            _ => self.items().iter().filter_map(identity).collect(),
        }
    }

    fn is_restart(self) -> bool {
        self.shown.get("onChange").and_then(Value::as_str) == Some("restart")
    }
}

/// Names of processes, paths of mounts, files and devices.
fn identity(item: &Value) -> Option<&str> {
    item.get("name").or_else(|| item.get("path"))?.as_str()
}

/// Returns the keys of both, each once, in order.
fn keys<'a>(old: Option<Side<'a>>, new: Option<Side<'a>>) -> BTreeSet<&'a str> {
    old.into_iter().chain(new).flat_map(Side::keys).collect()
}

struct Diff {
    out: Vec<FieldChange>,
}

impl Diff {
    /// `class` goes before the fields' own classes: inside a file it depends on `onChange`.
    fn object(
        &mut self,
        at: &str,
        old: Side<'_>,
        new: Side<'_>,
        fields: &[Field],
        class: Option<Class>,
    ) {
        for field in fields {
            let dot = if at.is_empty() { "" } else { "." };
            let path = format!("{at}{dot}{}", field.name);
            let (old, new) = (old.get(field.name), new.get(field.name));
            let class = class.or(field.class).unwrap_or(Class::Recreate);
            match (&field.shape, old, new) {
                (Shape::Object(fields), Some(old), Some(new)) if new.shown.is_object() => {
                    self.object(&path, old, new, fields, None);
                }
                (Shape::Objects(fields, _), ..) => self.items(&path, old, new, field, fields),
                (Shape::Map(..), ..) => {
                    for key in keys(old, new) {
                        let old = old.and_then(|old| old.get(key));
                        let new = new.and_then(|new| new.get(key));
                        self.leaf(&format!("{path}.{key}"), class, old, new);
                    }
                }
                _ => self.leaf(&path, class, old, new),
            }
        }
    }

    fn items(
        &mut self,
        path: &str,
        old: Option<Side<'_>>,
        new: Option<Side<'_>>,
        list: &Field,
        fields: &[Field],
    ) {
        let nameless = |side: Side<'_>| side.items().iter().any(|item| identity(item).is_none());
        if old.into_iter().chain(new).any(nameless) {
            let class = list.class.unwrap_or(Class::Recreate);
            return self.nameless(path, class, old, new);
        }
        for id in keys(old, new) {
            let path = format!("{path}[{id}]");
            let (old, new) = (
                old.and_then(|old| old.item(id)),
                new.and_then(|new| new.item(id)),
            );
            let class = (list.name == "files").then(|| {
                let restarts = old.into_iter().chain(new).any(Side::is_restart);
                if restarts {
                    Class::Process
                } else {
                    Class::Live
                }
            });
            match (old, new) {
                (Some(old), Some(new)) => self.object(&path, old, new, fields, class),
                _ => self.leaf(
                    &path,
                    class.or(list.class).unwrap_or(Class::Recreate),
                    old,
                    new,
                ),
            }
        }
    }

    /// Tells of a list whose items have no names by those that only one of the two has.
    fn nameless(&mut self, path: &str, class: Class, old: Option<Side<'_>>, new: Option<Side<'_>>) {
        let (old, new) = (
            old.map_or(&[][..], Side::items),
            new.map_or(&[][..], Side::items),
        );
        let words = |these: &[Value], others: &[Value]| {
            let own = these.iter().filter(|item| !others.contains(item));
            let own: Vec<String> = own.map(|item| item.to_string().replace('"', "")).collect();
            if own.is_empty() {
                "none".to_owned()
            } else {
                own.join(", ")
            }
        };
        let (from, to) = (words(old, new), words(new, old));
        if from != to {
            self.push(path, class, from, to);
        }
    }

    fn leaf(&mut self, path: &str, class: Class, old: Option<Side<'_>>, new: Option<Side<'_>>) {
        if old.map(|old| old.marked) != new.map(|new| new.marked) {
            let words = |side: Option<Side<'_>>| match side.map(|side| side.shown) {
                None | Some(Value::Null) => "none".to_owned(),
                Some(Value::String(text)) => text.clone(),
                Some(value) => value.to_string(),
            };
            let (from, to) = (words(old), words(new));
            self.push(path, class, from, to);
        }
    }

    fn push(&mut self, path: &str, class: Class, from: String, to: String) {
        self.out.push(FieldChange {
            path: path.to_owned(),
            class,
            from,
            to,
        });
    }
}
