//! Columns.

use comfy_table::{Attribute, Color, ColumnConstraint, ContentArrangement, Table, Width, presets};

use super::escape;
use super::paint::{Paint, Tone};

/// One cell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Cell {
    text: String,
    tone: Tone,
}

/// Rows under a header, with widths that only grow from one printing to the next.
#[derive(Clone, Debug)]
pub(crate) struct Grid {
    header: Vec<&'static str>,
    rows: Vec<Vec<Cell>>,
    widths: Vec<u16>,
    header_due: bool,
}

impl Cell {
    /// Returns a cell of text, made harmless, in a tone.
    pub(crate) fn new(tone: Tone, text: impl AsRef<str>) -> Self {
        let text = escape::line(text.as_ref());
        let text = if text.is_empty() {
            "-".to_owned()
        } else {
            text.into_owned()
        };
        Self { text, tone }
    }

    /// Returns a cell of text, made harmless.
    pub(crate) fn plain(text: impl AsRef<str>) -> Self {
        Self::new(Tone::Plain, text)
    }

    /// Returns a cell of what may be missing; `-` then.
    pub(crate) fn option<T: ToString>(value: Option<T>) -> Self {
        Self::plain(value.map(|value| value.to_string()).unwrap_or_default())
    }
}

impl Grid {
    /// Returns an empty grid; the header is printed with the first rows.
    pub(crate) fn new(header: &[&'static str]) -> Self {
        Self {
            header: header.to_vec(),
            rows: Vec::new(),
            widths: vec![0; header.len()],
            header_due: true,
        }
    }

    /// Adds a row.
    pub(crate) fn push(&mut self, row: Vec<Cell>) {
        self.rows.push(row);
    }

    /// Returns the rows that were added since the last time, as lines.
    pub(crate) fn take(&mut self, paint: Paint) -> String {
        self.take_indented(paint, "")
    }

    /// As [`Self::take`]; nothing at all when there are no rows.
    pub(crate) fn take_rows(&mut self, paint: Paint) -> String {
        if self.rows.is_empty() {
            String::new()
        } else {
            self.take(paint)
        }
    }

    /// As [`Self::take`], each line behind an indent.
    pub(crate) fn take_indented(&mut self, paint: Paint, indent: &str) -> String {
        let mut table = Table::new();
        table.load_style(presets::NOTHING);
        table.set_content_arrangement(ContentArrangement::Disabled);
        table.force_no_tty();
        if paint.color {
            table.enforce_styling();
        }
        if std::mem::take(&mut self.header_due) {
            table.add_row(self.header.iter().map(|text| styled(Tone::Strong, text)));
        }
        for row in self.rows.drain(..) {
            table.add_row(row.iter().map(|cell| styled(cell.tone, &cell.text)));
        }
        let now = table.column_max_content_widths();
        for (width, now) in self.widths.iter_mut().zip(now) {
            *width = (*width).max(now);
        }
        let last = self.widths.len().saturating_sub(1);
        for (at, (column, width)) in table.column_iter_mut().zip(&self.widths).enumerate() {
            let gap = if at == last { 0 } else { 3 };
            column.set_padding((0, gap));
            column.set_constraint(ColumnConstraint::Absolute(Width::Fixed(width + gap)));
        }
        table
            .lines()
            .map(|line| format!("{indent}{}\n", line.trim_end()))
            .collect()
    }
}

fn styled(tone: Tone, text: &str) -> comfy_table::Cell {
    let cell = comfy_table::Cell::new(text);
    match tone {
        Tone::Good => cell.fg(Color::DarkGreen),
        Tone::Warn => cell.fg(Color::DarkYellow),
        Tone::Bad => cell.fg(Color::DarkRed),
        Tone::Busy => cell.fg(Color::DarkCyan),
        Tone::Dim => cell.add_attribute(Attribute::Dim),
        Tone::Strong => cell.add_attribute(Attribute::Bold),
        Tone::Plain => cell,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn later_rows_stand_under_earlier_ones() {
        let paint = Paint { color: false };
        let mut grid = Grid::new(&["NAME", "STATE"]);
        grid.push(vec![Cell::plain("longer-name"), Cell::plain("Running")]);
        let first = grid.take(paint);
        grid.push(vec![Cell::plain("a"), Cell::plain("")]);
        assert_eq!(first, "NAME          STATE\nlonger-name   Running\n");
        assert_eq!(grid.take(paint), "a             -\n");
    }

    #[test]
    fn colour_changes_no_column() {
        let bare = |text: &str| {
            let mut out = String::new();
            let mut inside = false;
            for c in text.chars() {
                match c {
                    '\u{1b}' => inside = true,
                    'm' if inside => inside = false,
                    c if !inside => out.push(c),
                    _ => {}
                }
            }
            out.lines()
                .map(|line| line.trim_end().to_owned() + "\n")
                .collect::<String>()
        };
        let render = |color| {
            let mut grid = Grid::new(&["NAME", "STATE", "X"]);
            grid.push(vec![
                Cell::plain("日本"),
                Cell::new(Tone::Bad, "Failed"),
                Cell::plain("1"),
            ]);
            grid.take(Paint { color })
        };
        assert_ne!(render(true), render(false));
        assert_eq!(bare(&render(true)), render(false));
    }
}
