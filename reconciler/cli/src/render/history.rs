//! What was accepted over time.

use reconciler_daemon::api::wire::{Difference, GenerationView, History};

use super::paint::{Paint, Tone};
use super::table::{Cell, Grid};
use super::{Look, human, plan};

/// Changed fields that are named in a row.
const NAMED_MAX: usize = 3;

/// One row a generation, oldest first.
pub(crate) fn history(history: &History, look: &Look) -> String {
    let mut grid = Grid::new(&["GEN", "AGE", "SOURCE", "CHANGED"]);
    for one in &history.generations {
        let (tone, mark) = if one.current {
            (Tone::Strong, "*")
        } else {
            (Tone::Plain, "")
        };
        grid.push(vec![
            Cell::new(tone, format!("{}{mark}", one.generation)),
            Cell::plain(human::age(Some(one.at_ms), look.now_ms)),
            Cell::plain(&one.source),
            Cell::plain(changed(one)),
        ]);
    }
    grid.take(look.paint)
}

fn changed(one: &GenerationView) -> String {
    let Some(fields) = &one.changed else {
        return "-".to_owned();
    };
    let named = fields
        .iter()
        .take(NAMED_MAX)
        .map(|field| field.path.as_str());
    let mut text = named.collect::<Vec<_>>().join(", ");
    match fields.len() {
        0 => text.push_str("nothing"),
        count if count > NAMED_MAX => text.push_str(&format!(" and {} more", count - NAMED_MAX)),
        _ => {}
    }
    text
}

/// One line a field.
pub(crate) fn difference(found: &Difference, paint: Paint) -> String {
    let head = format!("generation {} -> {}", found.from, found.to);
    let head = paint.put(Tone::Strong, &head);
    if found.fields.is_empty() {
        return format!("{head}: nothing differs\n");
    }
    format!("{head}\n{}", plan::fields(&found.fields, paint))
}
