//! Everything about one container.

use std::collections::BTreeMap;

use reconciler_daemon::api::wire::Detail;
use specs::status::{Condition, ConditionKind, Failure, ProcessStatus, Status, Truth};
use specs::usage::ContainerUsage;

use super::paint::Tone;
use super::status::{next_try, state};
use super::table::{Cell, Grid};
use super::{Look, escape, events, human, usage};

/// Returns the whole page.
pub(crate) fn describe(detail: &Detail, look: &Look) -> String {
    let status = &detail.view.status;
    let mut page = Page {
        out: String::new(),
        look,
    };
    page.head(detail);
    if let Some(refusal) = &detail.refusal {
        page.section(super::status::refusal_title(status));
        page.out
            .push_str(&format!("{}\n", escape::lines(refusal).trim_end()));
    }
    if let Some(failure) = &status.last_error {
        page.failure(failure);
    }
    page.lines("Drift", &status.drift);
    page.conditions(&status.conditions);
    page.processes(&status.processes);
    page.limits(status, &detail.limits);
    if let Some(usage) = &detail.usage {
        page.usage(usage);
    }
    page.mounts(&detail.mounts);
    page.events(detail);
    page.out
}

struct Page<'a> {
    out: String,
    look: &'a Look,
}

impl Page<'_> {
    fn head(&mut self, detail: &Detail) {
        let status = &detail.view.status;
        let (tone, words) = state(status, self.look.now_ms);
        self.pair("Name", status.key.as_str(), Tone::Strong);
        self.pair("State", &words, tone);
        if let Some(note) = &status.override_note {
            self.pair(
                "Order",
                &format!("{note} by hand, until start, resume or an edit"),
                Tone::Warn,
            );
        }
        if let Some(at) = next_try(status) {
            self.pair("Next try", &self.ahead(at), Tone::Warn);
        }
        self.pair("Source", &detail.view.source, Tone::Plain);
        let generations = format!(
            "{} (observed {})",
            status.generation, status.observed_generation
        );
        self.pair("Generation", &generations, Tone::Plain);
        if let Some(at) = status.created_ms {
            self.pair("Made", &self.past(at), Tone::Plain);
        }
        if let Some(pid) = status.pid {
            self.pair("Pid", &pid.to_string(), Tone::Plain);
        }
        if let Some(network) = &status.network {
            self.pair("Address", &network.address.to_string(), Tone::Plain);
            if !network.ports.is_empty() {
                self.pair("Ports", &network.ports.join(","), Tone::Plain);
            }
        }
        self.pair("Restarts", &status.restarts.to_string(), Tone::Plain);
        let labels: Vec<String> = detail
            .view
            .labels
            .iter()
            .map(|(key, value)| format!("{key}={value}"))
            .collect();
        if !labels.is_empty() {
            self.pair("Labels", &labels.join(","), Tone::Plain);
        }
    }

    fn failure(&mut self, failure: &Failure) {
        self.section("Last error");
        let errno = failure
            .errno
            .map(|errno| format!(" (errno {errno})"))
            .unwrap_or_default();
        let tries = if failure.attempts == 1 {
            "try"
        } else {
            "tries"
        };
        self.pair("  Step", &failure.step, Tone::Plain);
        self.pair("  What", &failure.what, Tone::Plain);
        self.pair("  Cause", &format!("{}{errno}", failure.cause), Tone::Bad);
        self.pair(
            "  After",
            &format!("{} {tries}", failure.attempts),
            Tone::Plain,
        );
        if let Some(hint) = &failure.hint {
            self.pair("  Help", hint, Tone::Good);
        }
    }

    fn conditions(&mut self, conditions: &[Condition]) {
        let mut grid = Grid::new(&["CONDITION", "HOLDS", "SINCE", "REASON", "MESSAGE"]);
        for condition in conditions {
            let (tone, holds) = match condition.status {
                Truth::True => (Tone::Good, "yes"),
                Truth::False => (Tone::Bad, "no"),
                Truth::Unknown => (Tone::Warn, "unknown"),
            };
            let kind = match condition.kind {
                ConditionKind::Accepted => "Accepted",
                ConditionKind::Planned => "Planned",
                ConditionKind::Running => "Running",
                ConditionKind::Healthy => "Healthy",
                ConditionKind::Settled => "Settled",
            };
            // 0 is "nobody wrote it down".
            let since = (condition.since_ms > 0).then_some(condition.since_ms);
            grid.push(vec![
                Cell::plain(kind),
                Cell::new(tone, holds),
                Cell::plain(human::age(since, self.look.now_ms)),
                Cell::plain(&condition.reason),
                Cell::plain(&condition.message),
            ]);
        }
        self.grid("Conditions", grid, conditions.is_empty());
    }

    fn processes(&mut self, processes: &[ProcessStatus]) {
        let mut grid = Grid::new(&[
            "PROCESS",
            "STATE",
            "PID",
            "AGE",
            "RESTARTS",
            "LAST-EXIT",
            "NEXT-START",
        ]);
        for process in processes {
            let tone = match process.state.as_str() {
                "running" => Tone::Good,
                "waiting" | "unknown" => Tone::Warn,
                _ => Tone::Plain,
            };
            let next = process
                .next_start_ms
                .map(|at| human::until(at, self.look.now_ms));
            grid.push(vec![
                Cell::plain(process.name.as_str()),
                Cell::new(tone, &process.state),
                Cell::option(process.pid),
                Cell::plain(human::age(process.started_ms, self.look.now_ms)),
                Cell::plain(process.restarts.to_string()),
                Cell::option(process.last_exit.as_ref()),
                Cell::option(next),
            ]);
        }
        self.grid("Processes", grid, processes.is_empty());
        let waits = processes.iter().flat_map(|process| {
            let wait = |what: &String| format!("{}: {what}", process.name);
            process.waits_for.iter().map(wait)
        });
        self.lines("Waits for", &waits.collect::<Vec<_>>());
    }

    fn limits(&mut self, status: &Status, limits: &BTreeMap<String, String>) {
        let usage = status.usage.unwrap_or_default();
        let mut used: BTreeMap<&str, String> = BTreeMap::new();
        used.extend(
            usage
                .memory_bytes
                .map(|bytes| ("memory", human::bytes(bytes))),
        );
        used.extend(
            usage
                .cpu_usec
                .map(|usec| ("cpu", format!("{} since it was made", human::cpu(usec)))),
        );
        used.extend(usage.pids.map(|pids| ("pids", pids.to_string())));
        let mut grid = Grid::new(&["RESOURCE", "LIMIT", "USED"]);
        let names = limits
            .keys()
            .map(String::as_str)
            .chain(used.keys().copied());
        let names: std::collections::BTreeSet<&str> = names.collect();
        for name in &names {
            grid.push(vec![
                Cell::plain(name),
                Cell::option(limits.get(*name)),
                Cell::option(used.get(name)),
            ]);
        }
        self.grid("Limits, as read back", grid, names.is_empty());
    }

    fn mounts(&mut self, mounts: &BTreeMap<String, String>) {
        let mut grid = Grid::new(&["PATH", "MOUNT"]);
        for (path, mount) in mounts {
            grid.push(vec![Cell::plain(path), Cell::plain(mount)]);
        }
        self.grid("Mounts, as observed", grid, mounts.is_empty());
    }

    fn events(&mut self, detail: &Detail) {
        let mut grid = events::grid();
        for event in &detail.events {
            grid.push(events::row(event, self.look));
        }
        self.grid("Events", grid, detail.events.is_empty());
    }

    fn grid(&mut self, title: &str, mut grid: Grid, empty: bool) {
        if !empty {
            self.section(title);
            self.out
                .push_str(&grid.take_indented(self.look.paint, "  "));
        }
    }

    fn lines(&mut self, title: &str, lines: &[String]) {
        if !lines.is_empty() {
            self.section(title);
            for line in lines {
                self.out.push_str(&format!("  {}\n", escape::line(line)));
            }
        }
    }

    fn section(&mut self, title: &str) {
        let title = self.look.paint.put(Tone::Strong, &format!("{title}:"));
        self.out.push_str(&format!("\n{title}\n"));
    }

    fn usage(&mut self, usage: &ContainerUsage) {
        let mut grid = Grid::new(&["COUNTED", "SO FAR"]);
        let pairs = usage::pairs(usage);
        let is_empty = pairs.is_empty();
        for (label, value) in pairs {
            grid.push(vec![Cell::plain(label), Cell::plain(value)]);
        }
        self.grid("Usage, read now", grid, is_empty);
    }

    fn pair(&mut self, name: &str, value: &str, tone: Tone) {
        let value = self.look.paint.put(tone, &escape::line(value));
        self.out
            .push_str(&format!("{:<12} {value}\n", format!("{name}:")));
    }

    fn past(&self, at_ms: u64) -> String {
        let moment = human::moment(at_ms, &self.look.zone);
        format!(
            "{moment} ({} ago)",
            human::age(Some(at_ms), self.look.now_ms)
        )
    }

    fn ahead(&self, at_ms: u64) -> String {
        let moment = human::moment(at_ms, &self.look.zone);
        match human::until(at_ms, self.look.now_ms).as_str() {
            "now" => "now".to_owned(),
            span => format!("{moment} (in {span})"),
        }
    }
}
