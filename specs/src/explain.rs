//! Every field in words: type, default, what a change costs, what it means.

use std::sync::OnceLock;

use serde::Serialize;
use serde_json::Value;

use crate::change::Class;
use crate::fields::{CONFIG, Field, SPEC, Shape};
use crate::schema;

/// One field.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct FieldDoc {
    /// Dotted path, `[]` for the items of a list, `*` for free keys.
    pub path: String,
    /// What it holds.
    pub type_name: String,
    /// What holds when it is left out; none if it must be given.
    pub default: Option<String>,
    /// What a change of it costs; none where its parts differ.
    pub class: Option<Class>,
    /// What it means.
    pub text: String,
}

/// Returns a field of a spec by its path. Items may be given as `mounts[]`, `mounts[0]` or
/// `mounts`, and the leading `spec.` may be left out.
#[must_use]
pub fn field(path: &str) -> Option<FieldDoc> {
    let wanted = bare(path);
    let all = fields();
    let is = |doc: &&FieldDoc| {
        let own = bare(&doc.path);
        own == wanted || own.strip_prefix("spec.") == Some(wanted.as_str())
    };
    all.iter().find(is).cloned()
}

/// Returns every field of a spec, parents before their parts.
#[must_use]
pub fn fields() -> &'static [FieldDoc] {
    static DOCS: OnceLock<Vec<FieldDoc>> = OnceLock::new();
    DOCS.get_or_init(|| collect(SPEC, &schema::json_schema()))
}

/// Returns every field of `config.yaml`, parents before their parts.
#[must_use]
pub fn config_fields() -> &'static [FieldDoc] {
    static DOCS: OnceLock<Vec<FieldDoc>> = OnceLock::new();
    DOCS.get_or_init(|| collect(CONFIG, &schema::config_json_schema()))
}

fn bare(path: &str) -> String {
    let mut out = String::new();
    let mut inside = false;
    for character in path.trim_matches('.').chars() {
        match character {
            '[' => inside = true,
            ']' => inside = false,
            _ if inside => {}
            _ => out.push(character),
        }
    }
    out
}

fn collect(fields: &'static [Field], schema: &Value) -> Vec<FieldDoc> {
    let mut out = Vec::new();
    add(&mut out, "", fields, schema);
    out
}

fn add(out: &mut Vec<FieldDoc>, parent: &str, fields: &'static [Field], schema: &Value) {
    for field in fields {
        let own = schema
            .get("properties")
            .and_then(|properties| properties.get(field.name));
        let own = own.unwrap_or(&Value::Null);
        let dot = if parent.is_empty() { "" } else { "." };
        let path = format!("{parent}{dot}{}", field.name);
        let text = own
            .get("description")
            .and_then(Value::as_str)
            .unwrap_or_default();
        out.push(FieldDoc {
            path: path.clone(),
            type_name: type_name(&field.shape),
            default: (!field.needed).then(|| default(field).to_owned()),
            class: field.class,
            text: text.to_owned(),
        });
        match &field.shape {
            Shape::Object(fields) => add(out, &path, fields, own),
            Shape::Objects(fields, _) => {
                let item = own.get("items").unwrap_or(&Value::Null);
                add(out, &format!("{path}[]"), fields, item);
            }
            Shape::One(_) | Shape::List(..) | Shape::Map(..) => {}
        }
    }
}

fn default(field: &Field) -> &'static str {
    match field.shape {
        Shape::Object(_) if field.default.is_empty() => "every part its own",
        _ => field.default,
    }
}

fn type_name(shape: &Shape) -> String {
    match shape {
        Shape::Object(_) => "mapping".to_owned(),
        Shape::Objects(..) => "list of mappings".to_owned(),
        Shape::One(kind) => kind.name(),
        Shape::List(kind, _) => format!("list of {}", kind.name()),
        Shape::Map(key, value) => format!("mapping of {} to {}", key.name(), value.name()),
    }
}
