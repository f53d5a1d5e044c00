//! The JSON Schema and the parser know the same fields and take the same values.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use regex::Regex;
use serde_json::Value;
use specs::explain::{FieldDoc, config_fields, fields};
use specs::parse::parse;
use specs::schema::{config_json_schema, json_schema};

use super::{document, file_name, fixtures};

/// Paths of all properties, in the form of `explain`.
fn paths(schema: &Value, at: &str, out: &mut BTreeSet<String>) {
    if let Some(Value::Object(properties)) = schema.get("properties") {
        for (name, schema) in properties {
            let path = if at.is_empty() {
                name.clone()
            } else {
                format!("{at}.{name}")
            };
            out.insert(path.clone());
            paths(schema, &path, out);
        }
    }
    if let Some(items) = schema.get("items") {
        paths(items, &format!("{at}[]"), out);
    }
}

fn check_paths(schema: &Value, docs: &[FieldDoc]) {
    let mut known = BTreeSet::new();
    paths(schema, "", &mut known);
    let told: BTreeSet<String> = docs.iter().map(|doc| doc.path.clone()).collect();
    assert_eq!(known, told);
}

#[test]
fn schema_and_parser_know_the_same_fields() {
    check_paths(&json_schema(), fields());
    check_paths(&config_json_schema(), config_fields());
}

/// What of JSON Schema the schemas use; anything else is an error of the test.
fn faults(schema: &Value, value: &Value, at: &str, out: &mut Vec<String>) {
    for (word, rule) in schema.as_object().unwrap() {
        let holds = match word.as_str() {
            "$schema" | "title" | "description" => true,
            "type" => {
                let types = rule
                    .as_array()
                    .cloned()
                    .unwrap_or_else(|| vec![rule.clone()]);
                types
                    .iter()
                    .any(|name| is_type(name.as_str().unwrap(), value))
            }
            "const" => rule == value,
            "enum" => rule.as_array().unwrap().contains(value),
            "anyOf" | "oneOf" => rule.as_array().unwrap().iter().any(|choice| {
                let mut inner = Vec::new();
                faults(choice, value, at, &mut inner);
                inner.is_empty()
            }),
            "pattern" => value
                .as_str()
                .is_none_or(|text| Regex::new(rule.as_str().unwrap()).unwrap().is_match(text)),
            "minimum" => value
                .as_f64()
                .is_none_or(|number| number >= rule.as_f64().unwrap()),
            "maximum" => value
                .as_f64()
                .is_none_or(|number| number <= rule.as_f64().unwrap()),
            "minLength" => value
                .as_str()
                .is_none_or(|text| text.len() as u64 >= rule.as_u64().unwrap()),
            "minItems" => value
                .as_array()
                .is_none_or(|list| list.len() as u64 >= rule.as_u64().unwrap()),
            "required" => value.as_object().is_none_or(|map| {
                rule.as_array()
                    .unwrap()
                    .iter()
                    .all(|name| map.contains_key(name.as_str().unwrap()))
            }),
            "items" => {
                for (index, item) in value.as_array().into_iter().flatten().enumerate() {
                    faults(rule, item, &format!("{at}[{index}]"), out);
                }
                true
            }
            "properties" | "additionalProperties" => {
                let known = schema.get("properties");
                for (name, inner) in value.as_object().into_iter().flatten() {
                    let own = known.and_then(|known| known.get(name));
                    let at = format!("{at}.{name}");
                    match (word.as_str(), own) {
                        ("properties", Some(own)) => faults(own, inner, &at, out),
                        ("additionalProperties", None) if rule == &Value::Bool(false) => {
                            out.push(at)
                        }
                        ("additionalProperties", None) => faults(rule, inner, &at, out),
                        _ => {}
                    }
                }
                true
            }
            other => panic!("{at}: the schema uses `{other}`"),
        };
        if !holds {
            out.push(format!("{at}: {word} {rule}"));
        }
    }
}

fn is_type(name: &str, value: &Value) -> bool {
    match name {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "boolean" => value.is_boolean(),
        "integer" => value.is_u64() || value.is_i64(),
        "number" => value.is_number(),
        other => panic!("the schema uses the type `{other}`"),
    }
}

/// A text as an editor sees it: plain YAML, its numbers and booleans being such.
fn values(text: &str) -> Vec<Value> {
    use serde::Deserialize as _;
    // No number of JSON is that wide, and editors do not care which it is.
    let text = text
        .replace("99999999999999999999", "1e30")
        .replace(".nan", "1e30");
    let documents = serde_yaml::Deserializer::from_str(&text);
    let values = documents.map(|document| Value::deserialize(document).unwrap());
    values.filter(|value| !value.is_null()).collect()
}

fn told(schema: &Value, text: &str) -> Vec<String> {
    let mut out = Vec::new();
    for value in values(text) {
        faults(schema, &value, "", &mut out);
    }
    out
}

#[test]
fn what_the_parser_takes_the_schema_takes() {
    let schema = json_schema();
    for path in fixtures("valid", "yaml") {
        let text = fs::read_to_string(&path).unwrap();
        assert_eq!(
            told(&schema, &text),
            Vec::<String>::new(),
            "{}",
            path.display()
        );
    }
    let schema = config_json_schema();
    for path in fixtures("config/valid", "yaml") {
        let text = fs::read_to_string(&path).unwrap();
        assert_eq!(
            told(&schema, &text),
            Vec::<String>::new(),
            "{}",
            path.display()
        );
    }
}

#[test]
fn what_the_schema_refuses_the_parser_refuses() {
    for name in [
        "unknown-fields",
        "missing-fields",
        "no-values",
        "kinds",
        "words",
        "quantities",
    ] {
        let path = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join(format!("tests/fixtures/faults/{name}.yaml"));
        let text = fs::read_to_string(path).unwrap();
        assert!(told(&json_schema(), &text).len() >= 4, "{name}");
    }
    let config = fixtures("config/faults", "yaml").pop().unwrap();
    assert_eq!(file_name(&config), "values.yaml");
    let text = fs::read_to_string(config).unwrap();
    assert!(told(&config_json_schema(), &text).len() >= 4);
}

/// Single values on which schema and parser must agree.
#[test]
fn schema_and_parser_agree_on_values() {
    let schema = json_schema();
    let fields = [
        (
            "limits: {memory: @}",
            vec![
                "1Gi", "1.5Gi", "2000000B", "512", "1GB", "true", "[1]", "{}", "-1Mi",
            ],
        ),
        (
            "limits: {memory: 1Gi, swap: @}",
            vec!["0", "'0'", "1Mi", "1"],
        ),
        (
            "limits: {cpu: @}",
            vec!["500m", "1.5", "'1.5'", "0.25", "x", "true", "1.5m"],
        ),
        (
            "limits: {pids: @}",
            vec!["2", "1", "'2'", "2.5", "4194304", "4194305", "-3", "true"],
        ),
        (
            "limits: {cpuWeight: @}",
            vec!["1", "10000", "10001", "0", "x"],
        ),
        (
            "limits: {cpuSet: @}",
            vec!["'0-1,3'", "'1'", "0-1", "x", "'0-'", "[0]"],
        ),
        (
            "ttl: @",
            vec!["1h", "1h30m", "10", "1m1h", "1w", "true", "''"],
        ),
        ("state: @", vec!["running", "stopped", "Running", "true"]),
        ("suspend: @", vec!["true", "false", "'true'", "yes", "1"]),
        (
            "env: {A: @}",
            vec!["x", "1", "1.5", "true", "''", "[a]", "{}"],
        ),
        ("env: @", vec!["{}", "[]", "x"]),
        (
            "processes: @",
            vec![
                "[]",
                "{}",
                "x",
                "[x]",
                "[{name: a}]",
                "[{name: a, command: [x, 1]}]",
                "[{name: a, command: []}]",
                "[{name: A, command: [x]}]",
                "[{name: 1, command: [x]}]",
            ],
        ),
        (
            "processes: [{name: a, command: [x], rlimits: {nofile: @}}]",
            vec![
                "1",
                "'1'",
                "1:2",
                "unlimited",
                "1:unlimited",
                "x",
                "-1",
                "true",
            ],
        ),
        (
            "processes: [{name: a, command: [x], rlimits: {core: @}}]",
            vec!["0", "1Ki", "1Ki:1Mi", "unlimited", "5"],
        ),
        (
            "processes: [{name: a, command: [x], rlimits: {cpu: @}}]",
            vec!["0", "30s", "1m:1h", "unlimited", "5", "x"],
        ),
        (
            "processes: [{name: a, command: [x], rlimits: {rttime: @}}]",
            vec!["200us", "1ms", "unlimited", "5", "x"],
        ),
        (
            "processes: [{name: a, command: [x], user: @}]",
            vec!["app", "0", "1000:1000", "a:b", "-1", "a b"],
        ),
        (
            "processes: [{name: a, command: [x], workDir: @}]",
            vec!["/", "/a", "a"],
        ),
        (
            "processes: [{name: a, command: [x], stop: {signal: @}}]",
            vec!["TERM", "SIGTERM", "RTMIN+1", "15", "term"],
        ),
        ("files: [{path: /a, content: @}]", vec!["x", "1", "[]"]),
        (
            "files: [{path: /a, content: x, onChange: @}]",
            vec!["restart", "none", "signal:HUP", "signal:hup", "x"],
        ),
        (
            "files: [{path: /a, content: x, mode: @}]",
            vec!["'0644'", "'644'", "'0888'", "420"],
        ),
        ("mounts: [{path: /a, source: @}]", vec!["/b", "b", "1"]),
        ("mounts: [{path: /a, volume: @}]", vec!["b", "B", "1"]),
        (
            "security: {seccomp: @}",
            vec!["default", "unconfined", "/a/b", "strict"],
        ),
        (
            "security: {devices: [{path: /dev/fuse, access: @}]}",
            vec!["r", "rwm", "x", "''", "rwmr"],
        ),
        (
            "security: {sysctls: {kernel.sem: @}}",
            vec!["1", "'1 2'", "[]"],
        ),
        (
            "security: {readOnlyPaths: @}",
            vec!["[]", "[/a]", "[a]", "/a"],
        ),
    ];
    let mut agreed = (0, 0);
    let mut disagreed = Vec::new();
    for (form, values) in fields {
        for value in values {
            let text = document(&form.replace('@', value));
            let parser = parse("a.yaml", text.as_bytes()).diagnostics.is_empty();
            let faults = told(&schema, &text);
            if parser != faults.is_empty() {
                disagreed.push(format!("{form} {value}: {faults:?}"));
            }
            if parser { agreed.0 += 1 } else { agreed.1 += 1 }
        }
    }
    assert_eq!(disagreed, Vec::<String>::new());
    assert!(agreed.0 > 50 && agreed.1 > 60, "{agreed:?}");
}
