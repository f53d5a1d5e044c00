//! Bytes to text: size, encoding and characters, before any parser runs.

use std::borrow::Cow;

use super::faults::{Fault, Faults};
use super::tree::Place;
use crate::diagnostic::Code;

/// Largest file, in bytes.
pub const BYTES_MAX: usize = 1 << 20;

/// Returns the text as a string if its size and its characters are in order.
///
/// A line end that is missing at the end of the text is added: readers differ in whether a
/// block text that ends there has one, and whether the file has one shall mean nothing.
pub(crate) fn decode<'a>(bytes: &'a [u8], faults: &mut Faults<'_>) -> Option<Cow<'a, str>> {
    let start = Place {
        line: 1,
        column: 1,
        end_column: 1,
    };
    if bytes.len() > BYTES_MAX {
        let message = format!(
            "the file has {} bytes; at most {BYTES_MAX} are read",
            bytes.len()
        );
        let help = "put containers into files of their own, large contents into a volume";
        faults.push(start, Fault::new(Code::TooLarge, message).help(help));
        return None;
    }
    let text = match std::str::from_utf8(bytes) {
        Ok(text) => text,
        Err(err) => {
            let good = bytes.get(..err.valid_up_to()).unwrap_or_default();
            let place = end_of(std::str::from_utf8(good).unwrap_or_default());
            let message = "this byte is not UTF-8";
            let help = "save the file as UTF-8 text";
            faults.push(place, Fault::new(Code::NotUtf8, message).help(help));
            return None;
        }
    };
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let (mut line, mut column) = (1, 1);
    let before = faults.len();
    let mut characters = text.chars().peekable();
    while let Some(character) = characters.next() {
        let lone_return = character == '\r' && characters.peek() != Some(&'\n');
        if lone_return || is_refused(character) {
            let place = Place {
                line,
                column,
                end_column: column + 1,
            };
            faults.push(place, refused(character));
        }
        if character == '\n' {
            (line, column) = (line + 1, 1);
        } else {
            column += 1;
        }
        if faults.is_full() {
            return None;
        }
    }
    if faults.len() > before {
        return None;
    }
    Some(match text.ends_with('\n') || text.is_empty() {
        true => Cow::Borrowed(text),
        false => Cow::Owned(format!("{text}\n")),
    })
}

fn is_refused(character: char) -> bool {
    match character {
        '\n' | '\r' | '\t' => false,
        '\u{2028}' | '\u{2029}' | '\u{feff}' | '\u{fffe}' | '\u{ffff}' => true,
        _ => character.is_control(),
    }
}

fn refused(character: char) -> Fault {
    let message = format!(
        "the character {} may not be in a file",
        character.escape_unicode()
    );
    let help = match character {
        '\u{feff}' => "a byte order mark belongs at the very beginning; remove it here".to_owned(),
        '\r' => "end lines with a line feed".to_owned(),
        '\0' => "remove it".to_owned(),
        _ => format!(
            "remove it, or write \"\\u{:04x}\" in double quotes",
            u32::from(character)
        ),
    };
    Fault::new(Code::Character, message).help(help)
}

/// Returns the place just after the text.
fn end_of(text: &str) -> Place {
    let line = text.bytes().filter(|byte| *byte == b'\n').count() + 1;
    let column = text
        .rsplit('\n')
        .next()
        .map_or(0, |last| last.chars().count())
        + 1;
    let column = number(column);
    Place {
        line: number(line),
        column,
        end_column: column.saturating_add(1),
    }
}

pub(super) fn number(value: usize) -> u32 {
    u32::try_from(value).unwrap_or(u32::MAX)
}
