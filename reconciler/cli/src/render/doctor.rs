//! What this host can do.

use reconciler_daemon::api::wire::Doctor;

use super::escape;
use super::paint::{Paint, Tone};
use super::table::{Cell, Grid};

/// Returns one row a feature, then what to do about those that miss something.
pub(crate) fn doctor(doctor: &Doctor, paint: Paint) -> String {
    let mut grid = Grid::new(&["RESULT", "FEATURE", "FOUND"]);
    for check in &doctor.checks {
        let tone = match check.result.as_str() {
            "ok" => Tone::Good,
            "fallback" => Tone::Warn,
            "missing" => Tone::Bad,
            _ => Tone::Plain,
        };
        grid.push(vec![
            Cell::new(tone, &check.result),
            Cell::plain(&check.name),
            Cell::plain(&check.detail),
        ]);
    }
    let mut out = grid.take(paint);
    let remedies = doctor
        .checks
        .iter()
        .filter_map(|check| Some((check, check.remedy.as_ref()?)));
    for (at, (check, remedy)) in remedies.enumerate() {
        if at == 0 {
            out.push_str(&format!("\n{}\n", paint.put(Tone::Strong, "What to do:")));
        }
        let remedy = escape::line(remedy);
        out.push_str(&format!("  {}: {remedy}\n", escape::line(&check.name)));
    }
    let count = |result: &str| {
        doctor
            .checks
            .iter()
            .filter(|check| check.result == result)
            .count()
    };
    let (ok, fallback, missing) = (count("ok"), count("fallback"), count("missing"));
    out.push_str(&format!(
        "\n{ok} ok, {fallback} by fallback, {missing} missing\n"
    ));
    out
}
