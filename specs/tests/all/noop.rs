//! Edits that mean nothing resolve to the same.

use proptest::prelude::*;
use serde_json::Value;
use specs::change::changes;
use specs::parse::parse;

use super::{resolved, taken};

const FULL: &str = include_str!("../fixtures/valid/full.yaml");

fn check(text: &str) {
    let parsed = parse("b.yaml", text.as_bytes());
    assert_eq!(parsed.diagnostics, [], "{text}");
    let old = resolved(&taken(FULL).first().unwrap().spec);
    let new = resolved(&parsed.specs.first().unwrap().spec);
    assert_eq!(changes(&old, &new), []);
    assert_eq!(old, new);
    assert_eq!(old.container.digest(), new.container.digest());
}

#[test]
fn other_quoting_spelling_and_layout_mean_the_same() {
    for (from, to) in [
        ("name: web\n", "name: \"web\"   # the shop\n"),
        ("memory: 256Mi", "memory: 262144Ki"),
        ("cpu: 1500m", "cpu: 1.5"),
        ("ttl: 24h", "ttl: 1d"),
        ("swap: 0", "swap: 0Mi"),
        ("cpuSet: \"0-1\"", "cpuSet: '1,0'"),
        ("mode: \"0640\"", "mode: '00640'"),
        ("NET_RAW, CAP_SYS_PTRACE", "CAP_SYS_PTRACE, CAP_NET_RAW"),
        ("signal: INT", "signal: SIGINT"),
        ("PORT: 8080", "PORT: '8080'"),
        ("state: running\n", "\n"),
        ("  suspend: false\n", ""),
        (
            "noNewPrivileges: true",
            "noNewPrivileges: true\n\n    # nothing",
        ),
        ("access: rwm", "access: mwr"),
        (
            "      content: |\n        key = value\n        other = 2\n",
            "      content: \"key = value\\nother = 2\\n\"\n",
        ),
        (
            "apiVersion: reconciler/v1\nkind: Container\n",
            "kind: Container\napiVersion: reconciler/v1\n",
        ),
        ("user: {namespace: auto}", "user:\n      namespace: auto"),
    ] {
        assert!(FULL.contains(from), "{from}");
        check(&FULL.replacen(from, to, 1));
    }
    check(&FULL.replace('\n', "\r\n"));
    check(&format!("---\n{FULL}...\n"));
}

/// Turns round the order of all keys, and of the lists whose order means nothing.
fn turned(value: &Value, key: &str, out: &mut String) {
    match value {
        Value::Object(map) => {
            let parts: Vec<String> = map
                .iter()
                .rev()
                .map(|(key, value)| {
                    let mut part = format!("{}: ", Value::from(key.as_str()));
                    turned(value, key, &mut part);
                    part
                })
                .collect();
            out.push_str(&format!("{{{}}}", parts.join(", ")));
        }
        Value::Array(items) => {
            let mut parts: Vec<String> = items
                .iter()
                .map(|item| {
                    let mut part = String::new();
                    turned(item, "", &mut part);
                    part
                })
                .collect();
            if key != "command" {
                parts.reverse();
            }
            out.push_str(&format!("[{}]", parts.join(", ")));
        }
        scalar => out.push_str(&scalar.to_string()),
    }
}

#[test]
fn the_order_of_keys_and_of_sets_means_nothing() {
    let spec = serde_json::to_value(&taken(FULL).first().unwrap().spec).unwrap();
    let mut text = String::new();
    turned(&spec, "", &mut text);
    check(&text);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    #[test]
    fn comments_and_blank_lines_mean_nothing(
        at in prop::collection::vec((0_usize..97, any::<bool>()), 1..12)
    ) {
        let mut lines: Vec<String> = FULL.lines().map(str::to_owned).collect();
        for (line, comment) in at {
            // Not into the block text, where every line is content.
            let inside = lines.get(line).is_none_or(|text| text.contains("= "))
                || lines.get(line + 1).is_none_or(|text| text.contains("= "));
            if !inside {
                lines.insert(line, if comment { "    # note".to_owned() } else { String::new() });
            }
        }
        check(&format!("{}\n", lines.join("\n")));
    }
}
