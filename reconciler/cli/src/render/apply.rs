//! What became of applied texts.

use reconciler_daemon::api::wire::Applied;

use super::paint::{Paint, Tone};
use super::status::refused;

/// One line a container, or why nothing was taken.
pub(crate) fn applied(applied: &Applied, paint: Paint) -> String {
    if !applied.refused.is_empty() {
        let files = refused(&applied.refused, paint);
        return format!("{}\nnothing was applied\n", files.trim_start_matches('\n'));
    }
    let lines = applied.containers.iter().map(|one| {
        let tone = match one.effect.as_str() {
            "created" => Tone::Good,
            "configured" => Tone::Warn,
            _ => Tone::Dim,
        };
        let effect = paint.put(tone, &one.effect);
        format!("{} {effect} (generation {})\n", one.name, one.generation)
    });
    lines.collect()
}
