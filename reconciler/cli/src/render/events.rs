//! History.

use specs::event::{Event, Severity};

use super::paint::Tone;
use super::table::{Cell, Grid};
use super::{Look, human};

/// Returns an empty history.
pub(crate) fn grid() -> Grid {
    Grid::new(&["TIME", "NAME", "GEN", "REASON", "MESSAGE"])
}

/// Returns an event's row.
pub(crate) fn row(event: &Event, look: &Look) -> Vec<Cell> {
    let tone = match event.severity {
        Severity::Normal => Tone::Plain,
        Severity::Warning => Tone::Warn,
    };
    vec![
        Cell::new(Tone::Dim, human::moment(event.at_ms, &look.zone)),
        Cell::option(event.key.as_ref()),
        // Generation 0 is "none": the event concerns the daemon or a source.
        Cell::option((event.generation.0 > 0).then_some(event.generation)),
        Cell::new(tone, &event.reason),
        Cell::plain(&event.message),
    ]
}
