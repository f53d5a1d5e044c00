//! Foreign text made fit for terminals and logs.

/// Longest foreign text inside a message, in characters.
const SHOWN_MAX: usize = 80;

/// Returns the text with control, formatting and bidirectional characters written out, and
/// cut to a length that fits a message.
#[must_use]
pub fn plain(text: &str) -> String {
    let mut out = String::new();
    let mut characters = text.chars();
    for character in characters.by_ref().take(SHOWN_MAX) {
        push_plain(&mut out, character);
    }
    if characters.next().is_some() {
        out.push('…');
    }
    out
}

pub(super) fn push_plain(out: &mut String, character: char) {
    if is_hidden(character) {
        out.extend(character.escape_default());
    } else {
        out.push(character);
    }
}

/// Characters that move the cursor, change the order of others, or are not seen at all.
fn is_hidden(character: char) -> bool {
    character.is_control()
        || matches!(character,
            '\u{ad}' | '\u{61c}' | '\u{115f}' | '\u{1160}' | '\u{180e}' | '\u{3164}'
            | '\u{feff}' | '\u{ffa0}'
            | '\u{200b}'..='\u{200f}'
            | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}'
            | '\u{fff9}'..='\u{fffb}'
            | '\u{e0000}'..='\u{e0fff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_steers_a_terminal_gets_through() {
        assert_eq!(
            plain("a\u{1b}[2Jb\u{202e}\r\n\u{9b}"),
            "a\\u{1b}[2Jb\\u{202e}\\r\\n\\u{9b}"
        );
        assert_eq!(plain("größe ✓"), "größe ✓");
        assert_eq!(plain(&"x".repeat(1000)).chars().count(), SHOWN_MAX + 1);
    }
}
