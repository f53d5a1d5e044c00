//! Findings for people: the line, a caret, a note and a help.

use std::ops::Range;

use annotate_snippets::renderer::DecorStyle;
use annotate_snippets::{AnnotationKind, Level, Origin, Renderer, Snippet};

use super::plain::{plain, push_plain};
use super::{Diagnostic, Severity};

/// Longest part of a line that is shown, in characters.
const WIDTH_MAX: usize = 160;

/// Returns the findings as text for people; `source` is the text of their file.
///
/// *Guarantees*: no control character of the source or of a message is in the result but
/// line ends; with `color`, the renderer's own colours are.
#[must_use]
pub fn render(diagnostics: &[Diagnostic], source: &str, color: bool) -> String {
    let renderer = if color {
        Renderer::styled()
    } else {
        Renderer::plain()
    };
    let renderer = renderer.decor_style(DecorStyle::Ascii);
    let lines: Vec<&str> = source.split('\n').collect();
    let mut out = String::new();
    for diagnostic in diagnostics {
        let line = usize::try_from(diagnostic.line).unwrap_or_default();
        let text = line.checked_sub(1).and_then(|at| lines.get(at));
        out.push_str(&one(&renderer, diagnostic, text.copied(), line));
        out.push_str("\n\n");
    }
    out
}

fn one(renderer: &Renderer, diagnostic: &Diagnostic, text: Option<&str>, line: usize) -> String {
    let level = match diagnostic.severity {
        Severity::Error => Level::ERROR,
        Severity::Warning => Level::WARNING,
    };
    let path = plain(&diagnostic.file);
    let title = level
        .primary_title(diagnostic.message.as_str())
        .id(diagnostic.code.as_str());
    let mut group = match text {
        Some(text) => {
            let (shown, span) = excerpt(text, diagnostic.column, diagnostic.end_column);
            let mark = AnnotationKind::Primary.span(span);
            title.element(
                Snippet::source(shown)
                    .line_start(line)
                    .path(path)
                    .annotation(mark),
            )
        }
        None => title.element(Origin::path(path).line(line)),
    };
    if let Some(note) = &diagnostic.note {
        group = group.element(Level::NOTE.message(note.as_str()));
    }
    if let Some(help) = &diagnostic.help {
        group = group.element(Level::HELP.message(help.as_str()));
    }
    renderer.render(&[group])
}

/// Returns the line made plain and cut, and the bytes of it to underline.
fn excerpt(text: &str, column: u32, end_column: u32) -> (String, Range<usize>) {
    let text = text.strip_suffix('\r').unwrap_or(text);
    let index = |column: u32| {
        usize::try_from(column)
            .unwrap_or_default()
            .saturating_sub(1)
    };
    let (first, last) = (index(column), index(end_column));
    let skipped = first.saturating_sub(WIDTH_MAX / 2);
    let mut shown = String::new();
    let mut span = None;
    let mut end = None;
    for (at, character) in text.chars().enumerate().skip(skipped).take(WIDTH_MAX) {
        if at == first {
            span = Some(shown.len());
        }
        if at == last {
            end = Some(shown.len());
        }
        if character == '\t' {
            shown.push(' ');
        } else {
            push_plain(&mut shown, character);
        }
    }
    let start = span.unwrap_or(shown.len());
    let end = end.unwrap_or(shown.len()).max(start);
    (shown, start..end)
}

#[cfg(test)]
mod tests {
    use super::super::Code;
    use super::*;

    fn at(column: u32, end_column: u32) -> Diagnostic {
        Diagnostic {
            code: Code::UnknownField,
            severity: Severity::Error,
            message: "a message".to_owned(),
            file: "a.yaml".to_owned(),
            line: 2,
            column,
            end_column,
            note: None,
            help: Some("a help".to_owned()),
        }
    }

    #[test]
    fn the_caret_stands_under_the_place() {
        let text = render(&[at(3, 6)], "one\n  two: 2\n", false);
        assert!(text.contains("2 |   two: 2\n  |   ^^^"), "{text}");
        assert!(text.contains("error[E0201]: a message"), "{text}");
        assert!(text.contains("a.yaml:2:3"), "{text}");
    }

    #[test]
    fn any_place_can_be_rendered() {
        let sources = [
            "",
            "x",
            "x\n",
            "a\nb\u{1b}[0m\u{202e}é\r\n",
            &format!("\n{}", "ü".repeat(5000)),
        ];
        for source in sources {
            for column in [0, 1, 2, 4, 2500, u32::MAX] {
                for end in [0, 1, 3, 2501, u32::MAX] {
                    let text = render(&[at(column, end)], source, false);
                    assert!(
                        !text.contains(['\u{1b}', '\u{202e}', '\r', '\t']),
                        "{text:?}"
                    );
                    assert!(text.len() < 2000, "{}", text.len());
                }
            }
        }
    }
}
