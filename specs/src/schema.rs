//! JSON Schema of the formats, for editors.

use schemars::generate::SchemaSettings;
use serde_json::Value;

use crate::config::ConfigFile;
use crate::spec::Spec;

/// Returns the JSON Schema (draft 2020-12) of a spec. It takes what [`crate::parse`] takes, but
/// for the laws between fields.
#[must_use]
pub fn json_schema() -> Value {
    let mut schema = of::<Spec>();
    if let Value::Object(root) = &mut schema {
        let title = "A container for reconciler (reconciler/v1)";
        root.insert("title".to_owned(), Value::from(title));
    }
    schema
}

/// Returns the JSON Schema of `config.yaml`.
#[must_use]
pub fn config_json_schema() -> Value {
    let mut schema = of::<ConfigFile>();
    if let Value::Object(root) = &mut schema {
        root.insert(
            "title".to_owned(),
            Value::from("Configuration of reconciler"),
        );
    }
    schema
}

fn of<T: schemars::JsonSchema>() -> Value {
    let settings =
        SchemaSettings::draft2020_12().with(|settings| settings.inline_subschemas = true);
    let mut schema = settings
        .into_generator()
        .into_root_schema_for::<T>()
        .to_value();
    strip(&mut schema);
    schema
}

/// Removes what the derives say and the parser does not: a key without a value is refused,
/// defaults are told by `explain`, number formats mean nothing to editors.
fn strip(value: &mut Value) {
    match value {
        Value::Object(map) => {
            if let Some(Value::Array(types)) = map.get_mut("type") {
                types.retain(|name| name != "null");
                if let [only] = types.as_slice() {
                    let only = only.clone();
                    map.insert("type".to_owned(), only);
                }
            }
            if let Some(Value::Array(choices)) = map.get_mut("anyOf") {
                choices.retain(|choice| choice.get("type") != Some(&Value::from("null")));
                if let [only] = choices.as_slice() {
                    let only = only.clone();
                    map.remove("anyOf");
                    merge(map, only);
                }
            }
            for key in ["default", "format"] {
                // Also a field could have such a name: then it holds a schema.
                if map.get(key).is_some_and(|value| !is_schema(value)) {
                    map.remove(key);
                }
            }
            if let Some(Value::String(text)) = map.get_mut("description") {
                *text = text.split_whitespace().collect::<Vec<_>>().join(" ");
            }
            map.values_mut().for_each(strip);
        }
        Value::Array(items) => items.iter_mut().for_each(strip),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

fn is_schema(value: &Value) -> bool {
    value.get("type").is_some() || value.get("anyOf").is_some() || value.get("oneOf").is_some()
}

/// Keys that are there already go before: a field's own description before its type's.
fn merge(map: &mut serde_json::Map<String, Value>, other: Value) {
    if let Value::Object(other) = other {
        for (key, value) in other {
            map.entry(key).or_insert(value);
        }
    }
}
