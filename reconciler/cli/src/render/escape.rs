//! Makes text from outside harmless to a terminal, and visible.
//!
//! What a spec or a container wrote may hold escape sequences that move the cursor, set the
//! window's title or answer back into the keyboard, and characters that turn the direction of
//! reading. All of them are printed as what they are: `\x1b`, `\u{202e}`.

use std::borrow::Cow;
use std::fmt::Write as _;

/// Whether a terminal, or an eye, would take the character for something else than text.
fn is_deceptive(c: char) -> bool {
    c.is_control()
        || matches!(c,
            // Direction of reading (UAX #9), both marks and overrides.
            '\u{061c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}'
            | '\u{2066}'..='\u{206f}'
            // Line and paragraph separators, which some terminals obey.
            | '\u{2028}' | '\u{2029}'
            // Invisible: zero width space, word joiner and its kin, byte order mark.
            | '\u{180e}' | '\u{200b}' | '\u{2060}'..='\u{2065}' | '\u{feff}'
            // Interlinear annotation and tag characters.
            | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

fn push_visible(out: &mut String, c: char) {
    let written = match c {
        '\n' => out.write_str("\\n"),
        '\r' => out.write_str("\\r"),
        '\t' => out.write_str("\\t"),
        c if u32::from(c) < 0x100 => write!(out, "\\x{:02x}", u32::from(c)),
        c => write!(out, "\\u{{{:x}}}", u32::from(c)),
    };
    written.expect("a String takes every write");
}

fn replaced(text: &str, keep: impl Fn(char) -> bool) -> Cow<'_, str> {
    let bad = |c: char| is_deceptive(c) && !keep(c);
    if !text.contains(bad) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        if bad(c) {
            push_visible(&mut out, c);
        } else {
            out.push(c);
        }
    }
    Cow::Owned(out)
}

/// Returns the text as one harmless line; line breaks and tabs are made visible too.
pub(crate) fn line(text: &str) -> Cow<'_, str> {
    replaced(text, |_| false)
}

/// Returns the text as harmless lines; line breaks and tabs stay.
pub(crate) fn lines(text: &str) -> Cow<'_, str> {
    replaced(text, |c| matches!(c, '\n' | '\t'))
}

/// Returns JSON text that means the same and holds no deceptive character: inside strings,
/// the only place JSON allows one, it becomes `\uXXXX`.
pub(crate) fn json(text: &str) -> Cow<'_, str> {
    quoted(text, |out, c| {
        let mut units = [0; 2];
        let mut units = c.encode_utf16(&mut units).iter();
        units.try_for_each(|unit| write!(out, "\\u{unit:04x}"))
    })
}

/// Returns JSON text in the form that YAML reads, which knows no surrogate pairs (YAML 1.2,
/// section 5.7): a deceptive character becomes `\UXXXXXXXX`.
pub(crate) fn yaml_of_json(text: &str) -> Cow<'_, str> {
    quoted(text, |out, c| write!(out, "\\U{:08x}", u32::from(c)))
}

fn quoted(text: &str, put: impl Fn(&mut String, char) -> std::fmt::Result) -> Cow<'_, str> {
    let bad = |c: char| is_deceptive(c) && !matches!(c, '\n' | '\t');
    if !text.contains(bad) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        if bad(c) {
            put(&mut out, c).expect("a String takes every write");
        } else {
            out.push(c);
        }
    }
    Cow::Owned(out)
}

/// Returns the text as it may go to a terminal: harmless lines, and with `color` the colour
/// sequences (`ESC [ digits m`) that our own renderers wrote. The last line of defence;
/// renderers escape what they embed themselves.
pub(crate) fn screen(text: &str, color: bool) -> Cow<'_, str> {
    if !color || !text.contains('\u{1b}') {
        return lines(text);
    }
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('\u{1b}') {
        let (before, from) = rest.split_at(at);
        out.push_str(&lines(before));
        let length = color_sequence(from);
        if length == 0 {
            push_visible(&mut out, '\u{1b}');
            rest = from.get(1..).unwrap_or_default();
        } else {
            let (sequence, after) = from.split_at(length);
            out.push_str(sequence);
            rest = after;
        }
    }
    out.push_str(&lines(rest));
    Cow::Owned(out)
}

/// Length of the colour sequence that the text begins with; 0 if it begins with none.
fn color_sequence(text: &str) -> usize {
    let Some(body) = text.strip_prefix("\u{1b}[") else {
        return 0;
    };
    let digits = body
        .find(|c: char| !(c.is_ascii_digit() || c == ';'))
        .unwrap_or(body.len());
    if body.get(digits..).is_some_and(|end| end.starts_with('m')) {
        2 + digits + 1
    } else {
        0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Texts that attack a terminal or a reader.
    pub(crate) const CORPUS: &[&str] = &[
        "\u{1b}[2J\u{1b}[H clear the screen",
        "\u{1b}]0;owned\u{7} set the title",
        "\u{1b}]8;;http://evil/\u{1b}\\link\u{1b}]8;;\u{1b}\\",
        "\u{1b}]52;c;cm0gLXJmIC8=\u{7} write the clipboard",
        "\u{1b}[6n answer into the keyboard",
        "\u{9b}31m eight-bit control sequence",
        "over\rwritten",
        "back\u{8}\u{8}space and bell \u{7} and nul \0 and delete \u{7f}",
        "user\u{202e}txt.exe",
        "a\u{2066}b\u{2069}c\u{200f}d\u{061c}",
        "zero\u{200b}width\u{feff}\u{2060}",
        "tags \u{e0041}\u{e007f} and \u{2028}separators\u{2029}",
        "\u{1b}[31mred\u{1b}[0m",
        "\u{1b}P+q544e\u{1b}\\ device control",
    ];

    #[test]
    fn nothing_deceptive_survives_any_form() {
        for text in CORPUS {
            assert!(!line(text).contains(is_deceptive), "{text:?}");
            let keeps = |c: char| is_deceptive(c) && !matches!(c, '\n' | '\t');
            assert!(!lines(text).contains(keeps), "{text:?}");
            assert!(!screen(text, false).contains(keeps), "{text:?}");
            let quoted = serde_json::to_string(text).unwrap();
            assert!(!json(&quoted).contains(keeps), "{text:?}");
        }
    }

    #[test]
    fn json_means_the_same_after_escaping() {
        for text in CORPUS {
            let quoted = serde_json::to_string(text).unwrap();
            let back: String = serde_json::from_str(&json(&quoted)).unwrap();
            assert_eq!(&back, text);
        }
    }

    #[test]
    fn what_was_there_can_be_read() {
        assert_eq!(line("\u{1b}[2J"), "\\x1b[2J");
        assert_eq!(line("a\nb\tc\r"), "a\\nb\\tc\\r");
        assert_eq!(line("user\u{202e}txt"), "user\\u{202e}txt");
        assert_eq!(lines("a\nb\tc\u{7f}"), "a\nb\tc\\x7f");
    }

    #[test]
    fn ordinary_text_of_every_script_is_left_alone() {
        for text in ["plain", "Grüße", "日本語", "שלום", "👩\u{200d}🚀", "a\\b"] {
            assert!(
                matches!(line(text), Cow::Borrowed(same) if same == text),
                "{text}"
            );
        }
    }

    #[test]
    fn the_screen_lets_only_colours_through_and_only_when_asked() {
        assert_eq!(
            screen("\u{1b}[1;31mx\u{1b}[0m", true),
            "\u{1b}[1;31mx\u{1b}[0m"
        );
        assert_eq!(screen("\u{1b}[1mx", false), "\\x1b[1mx");
        assert_eq!(
            screen("\u{1b}[2J\u{1b}]0;t\u{7}", true),
            "\\x1b[2J\\x1b]0;t\\x07"
        );
        assert_eq!(screen("\u{1b}", true), "\\x1b");
        assert_eq!(screen("\u{1b}[12", true), "\\x1b[12");
    }
}
