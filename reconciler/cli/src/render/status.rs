//! The list of containers.

use reconciler_daemon::api::wire::{ContainerView, List, RefusedFile};
use specs::status::{Phase, ProcessStatus, Status};

use super::paint::{Paint, Tone};
use super::table::{Cell, Grid};
use super::{Look, escape, human};

const COLUMNS: &[&str] = &[
    "NAME",
    "READY",
    "STATE",
    "RESTARTS",
    "AGE",
    "CPU",
    "MEM/LIMIT",
    "PORTS",
];
const WIDE_COLUMNS: &[&str] = &[
    "NAME",
    "READY",
    "STATE",
    "RESTARTS",
    "AGE",
    "CPU",
    "MEM/LIMIT",
    "PORTS",
    "GEN",
    "PID",
    "IP",
    "SOURCE",
    "LAST-ERROR",
];

/// Returns an empty list.
pub(crate) fn grid(wide: bool) -> Grid {
    Grid::new(if wide { WIDE_COLUMNS } else { COLUMNS })
}

/// Returns a container's row.
pub(crate) fn row(view: &ContainerView, wide: bool, look: &Look) -> Vec<Cell> {
    let status = &view.status;
    let (tone, state) = if view.gone {
        (Tone::Dim, "Gone".to_owned())
    } else {
        state(status, look.now_ms)
    };
    let usage = status.usage.unwrap_or_default();
    let network = status.network.as_ref();
    let mut row = vec![
        Cell::plain(status.key.as_str()),
        Cell::plain(ready(&status.processes)),
        Cell::new(tone, state),
        Cell::plain(status.restarts.to_string()),
        Cell::plain(human::age(status.created_ms, look.now_ms)),
        Cell::option(usage.cpu_usec.map(human::cpu)),
        Cell::plain(memory(usage.memory_bytes, usage.memory_limit_bytes)),
        Cell::option(network.map(|network| network.ports.join(","))),
    ];
    if wide {
        let error = status.last_error.as_ref();
        row.extend([
            Cell::plain(format!(
                "{}/{}",
                status.observed_generation, status.generation
            )),
            Cell::option(status.pid),
            Cell::option(network.map(|network| network.address)),
            Cell::plain(&view.source),
            Cell::option(
                error.map(|error| format!("{}: {}: {}", error.step, error.what, error.cause)),
            ),
        ]);
    }
    row
}

/// Returns what a person should know beside the list; empty if there is nothing.
pub(crate) fn remarks(list: &List, paint: Paint) -> String {
    let mut out = String::new();
    for notice in &list.notices {
        let mark = paint.put(Tone::Warn, "notice:");
        out.push_str(&format!("\n{mark} {}\n", escape::lines(notice).trim_end()));
    }
    out.push_str(&refused(&list.refused, paint));
    out
}

/// Returns refused files with their diagnostics; empty if there are none.
pub(crate) fn refused(files: &[RefusedFile], paint: Paint) -> String {
    files
        .iter()
        .map(|file| {
            let mark = paint.put(Tone::Bad, "refused:");
            let body = escape::lines(&file.rendered);
            format!(
                "\n{mark} {}\n{}\n",
                escape::line(&file.path),
                body.trim_end()
            )
        })
        .collect()
}

/// Returns the state in words, with the next retry and a person's order.
pub(crate) fn state(status: &Status, now_ms: u64) -> (Tone, String) {
    let (tone, mut text) = match status.phase {
        Phase::Running => (Tone::Good, "Running".to_owned()),
        Phase::Completed => (Tone::Good, "Completed".to_owned()),
        Phase::Pending => (Tone::Busy, "Pending".to_owned()),
        Phase::Starting => (Tone::Busy, "Starting".to_owned()),
        Phase::Waiting => (Tone::Busy, "Waiting".to_owned()),
        Phase::Updating => (Tone::Busy, "Updating".to_owned()),
        Phase::Stopping => (Tone::Busy, "Stopping".to_owned()),
        Phase::Stopped => (Tone::Dim, "Stopped".to_owned()),
        Phase::Suspended => (Tone::Dim, "Suspended".to_owned()),
        Phase::Degraded => (Tone::Warn, "Degraded".to_owned()),
        Phase::Unknown => (Tone::Warn, "Unknown".to_owned()),
        Phase::Backoff => (Tone::Warn, "Backoff".to_owned()),
        Phase::Failed => (Tone::Bad, "Failed".to_owned()),
        Phase::Invalid => (Tone::Bad, "Invalid".to_owned()),
    };
    if matches!(status.phase, Phase::Backoff | Phase::Degraded)
        && let Some(at) = next_try(status)
    {
        text = format!("{text} {}", human::until(at, now_ms));
    }
    if status.override_note.is_some() {
        text.push_str(" (by hand)");
    }
    (tone, text)
}

/// Returns what a refusal means for a container.
pub(crate) fn refusal_title(status: &Status) -> &'static str {
    match status.phase {
        Phase::Invalid => "Its text is refused, and no earlier one stands",
        _ => "Newest text refused, an earlier one stands",
    }
}

/// Returns the moment of the next try, of the container or of one of its processes.
pub(crate) fn next_try(status: &Status) -> Option<u64> {
    let processes = status
        .processes
        .iter()
        .filter_map(|process| process.next_start_ms);
    status.next_retry_ms.into_iter().chain(processes).min()
}

fn ready(processes: &[ProcessStatus]) -> String {
    let running = processes
        .iter()
        .filter(|process| process.state == "running")
        .count();
    format!("{running}/{}", processes.len())
}

fn memory(used: Option<u64>, limit: Option<u64>) -> String {
    let word = |count: Option<u64>| count.map_or_else(|| "-".to_owned(), human::bytes);
    match (used, limit) {
        (None, None) => String::new(),
        (used, limit) => format!("{}/{}", word(used), word(limit)),
    }
}
