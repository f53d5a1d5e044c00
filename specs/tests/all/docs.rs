//! The format documents list every field as it is. `BLESS=1` writes the lists anew.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use specs::explain::{FieldDoc, config_fields, fields};

const BEGIN: &str = "<!-- fields: written by the tests of `specs` -->\n";
const END: &str = "<!-- end of fields -->";

fn table(docs: &[FieldDoc], has_class: bool) -> String {
    let mut out = String::new();
    let head = if has_class { " Change |" } else { "" };
    let rule = if has_class { " --- |" } else { "" };
    writeln!(out, "| Field | Type | Default |{head} Meaning |").unwrap();
    writeln!(out, "| --- | --- | --- |{rule} --- |").unwrap();
    for doc in docs {
        let cell = |text: &str| text.replace('|', "\\|");
        let default = doc.default.as_deref().unwrap_or("must be given");
        write!(
            out,
            "| `{}` | {} | {} |",
            doc.path,
            cell(&doc.type_name),
            cell(default)
        )
        .unwrap();
        if has_class {
            write!(out, " {} |", doc.class.map_or("", |class| class.as_str())).unwrap();
        }
        writeln!(out, " {} |", cell(&doc.text)).unwrap();
    }
    out
}

fn check(name: &str, wanted: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../docs/formats")
        .join(name);
    let text = fs::read_to_string(&path).unwrap();
    let (before, rest) = text.split_once(BEGIN).unwrap();
    let (found, after) = rest.split_once(END).unwrap();
    if option_env!("BLESS").is_some() {
        fs::write(&path, format!("{before}{BEGIN}{wanted}{END}{after}")).unwrap();
    } else {
        assert_eq!(found, wanted, "{name}: bless with BLESS=1");
    }
}

#[test]
fn the_format_documents_list_every_field() {
    check("spec.md", &table(fields(), true));
    check("config.md", &table(config_fields(), false));
}

#[test]
fn the_examples_of_the_format_documents_are_taken() {
    let example = |name: &str| {
        let path = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("../docs/formats")
            .join(name);
        let text = fs::read_to_string(path).unwrap();
        let (_, rest) = text.split_once("```yaml\n").unwrap();
        rest.split_once("```").unwrap().0.to_owned()
    };
    assert_eq!(super::taken(&example("spec.md")).len(), 1);
    specs::config::parse_config("config.yaml", example("config.md").as_bytes()).unwrap();
}
