//! `reconciler explain` and `reconciler schema`: documentation that the program itself holds.

use specs::change::Class;
use specs::diagnostic::{closest, explain as explain_code};
use specs::explain::{FieldDoc, config_fields, field, fields};
use specs::schema::{config_json_schema, json_schema};

use super::{Exit, Failure, Session};
use crate::args::{ExplainArgs, Format, SchemaArgs};
use crate::render::table::{Cell, Grid};
use crate::render::{Look, escape, paint::Tone};

/// Prints the JSON Schema of a spec, or of the configuration.
///
/// # Errors
/// When standard output takes nothing.
pub(crate) fn schema(session: &mut Session, args: &SchemaArgs) -> Result<Exit, Failure> {
    let schema = if args.config {
        config_json_schema()
    } else {
        json_schema()
    };
    session.out.json(&schema)?;
    Ok(Exit::Done)
}

/// Explains a field or a code, or lists all fields.
///
/// # Errors
/// When there is no such field or code, or standard output takes nothing.
pub(crate) fn explain(session: &mut Session, args: &ExplainArgs) -> Result<Exit, Failure> {
    let all = || {
        if args.config {
            config_fields()
        } else {
            fields()
        }
    };
    let Some(what) = &args.what else {
        session.print(args.output, &all(), |docs, look| list(docs, look))?;
        return Ok(Exit::Done);
    };
    if let Some(text) = explain_code(&what.to_ascii_uppercase()) {
        code(session, args.output, text)?;
        return Ok(Exit::Done);
    }
    let found = if args.config {
        all().iter().find(|doc| doc.path == *what).cloned()
    } else {
        field(what)
    };
    let doc = found.ok_or_else(|| unknown(what, all()))?;
    session.print(args.output, &doc, |doc, look| {
        let parts: Vec<&FieldDoc> = all().iter().filter(|one| is_part(doc, one)).collect();
        page(doc, &parts, look)
    })?;
    Ok(Exit::Done)
}

fn code(session: &mut Session, format: Format, text: &'static str) -> Result<(), Failure> {
    let value = serde_json::json!({ "text": text });
    session.print(format, &value, |_, _| format!("{}\n", text.trim_end()))
}

fn unknown(what: &str, all: &[FieldDoc]) -> Failure {
    let paths = all
        .iter()
        .map(|doc| doc.path.strip_prefix("spec.").unwrap_or(&doc.path));
    let help = match closest(what, paths) {
        Some(path) => format!("did you mean `{path}`?"),
        None => "`reconciler explain` lists all fields".to_owned(),
    };
    Failure::NothingToExplain(what.to_owned(), help)
}

/// Whether a field stands directly inside another.
fn is_part(parent: &FieldDoc, child: &FieldDoc) -> bool {
    let rest = child.path.strip_prefix(parent.path.as_str());
    let inner = rest.map(|rest| rest.strip_prefix("[]").unwrap_or(rest));
    inner
        .and_then(|inner| inner.strip_prefix('.'))
        .is_some_and(|name| !name.contains('.'))
}

fn list(docs: &[FieldDoc], look: &Look) -> String {
    let mut grid = Grid::new(&["FIELD", "TYPE", "DEFAULT", "CLASS"]);
    for doc in docs {
        grid.push(row(doc));
    }
    grid.take(look.paint)
}

fn row(doc: &FieldDoc) -> Vec<Cell> {
    let default = doc.default.as_deref().unwrap_or("must be given");
    let class = doc.class.map_or("", Class::as_str);
    vec![
        Cell::plain(&doc.path),
        Cell::plain(&doc.type_name),
        Cell::plain(default),
        Cell::plain(class),
    ]
}

fn page(doc: &FieldDoc, parts: &[&FieldDoc], look: &Look) -> String {
    let path = look.paint.put(Tone::Strong, &escape::line(&doc.path));
    let mut out = format!("{path}\n\n{}\n\n", escape::lines(&doc.text).trim_end());
    let default = doc.default.as_deref().unwrap_or("none: it must be given");
    let change = doc.class.map_or("as its parts say", class_sentence);
    for (name, value) in [
        ("Type", doc.type_name.as_str()),
        ("Default", default),
        ("Change", change),
    ] {
        out.push_str(&format!(
            "{:<9} {}\n",
            format!("{name}:"),
            escape::line(value)
        ));
    }
    if !parts.is_empty() {
        let mut grid = Grid::new(&["FIELD", "TYPE", "DEFAULT", "CLASS"]);
        parts.iter().for_each(|part| grid.push(row(part)));
        out.push_str(&format!("\n{}", grid.take(look.paint)));
    }
    out
}

fn class_sentence(class: Class) -> &'static str {
    match class {
        Class::Live => "live: the same processes keep running",
        Class::Process => "process: that process restarts, the container stays",
        Class::Recreate => "recreate: the container is made anew",
    }
}
