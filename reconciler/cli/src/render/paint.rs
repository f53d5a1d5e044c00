//! Colour, or none.

/// Whether to paint; decided once, from the terminal and the environment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Paint {
    /// Colour sequences are written.
    pub(crate) color: bool,
}

/// What a piece of text means; each has one look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tone {
    /// As it should be.
    Good,
    /// Worth a look.
    Warn,
    /// Wrong.
    Bad,
    /// On its way.
    Busy,
    /// Of less weight.
    Dim,
    /// A heading.
    Strong,
    /// Nothing special.
    Plain,
}

impl Paint {
    /// Returns the text in the look of its tone.
    pub(crate) fn put(self, tone: Tone, text: &str) -> String {
        let code = match tone {
            Tone::Good => "32",
            Tone::Warn => "33",
            Tone::Bad => "31",
            Tone::Busy => "36",
            Tone::Dim => "2",
            Tone::Strong => "1",
            Tone::Plain => "",
        };
        if !self.color || code.is_empty() || text.is_empty() {
            return text.to_owned();
        }
        format!("\u{1b}[{code}m{text}\u{1b}[0m")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_colour_the_text_is_untouched() {
        assert_eq!(Paint { color: false }.put(Tone::Bad, "x"), "x");
        assert_eq!(Paint { color: true }.put(Tone::Plain, "x"), "x");
        assert_eq!(
            Paint { color: true }.put(Tone::Bad, "x"),
            "\u{1b}[31mx\u{1b}[0m"
        );
    }
}
