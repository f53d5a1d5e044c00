//! One causal chain.

use reconciler_daemon::api::wire::Why;

use super::escape;
use super::paint::{Paint, Tone};

/// Returns the answer and the chain that leads to it, outermost first.
pub(crate) fn why(why: &Why, paint: Paint) -> String {
    let mut out = format!("{}\n", paint.put(Tone::Strong, &escape::line(&why.summary)));
    let width = why
        .chain
        .iter()
        .map(|link| link.kind.chars().count())
        .max()
        .unwrap_or(0);
    for link in &why.chain {
        let kind = escape::line(&link.kind);
        let tone = match link.kind.as_str() {
            "cause" => Tone::Bad,
            "hint" => Tone::Good,
            "retry" | "override" => Tone::Warn,
            _ => Tone::Dim,
        };
        let mut lines = link.text.lines();
        let first = escape::line(lines.next().unwrap_or_default());
        out.push_str(&format!(
            "  {}  {first}\n",
            paint.put(tone, &format!("{kind:<width$}"))
        ));
        for more in lines {
            out.push_str(&format!("  {:width$}  {}\n", "", escape::line(more)));
        }
    }
    out
}
