//! The figures as a page, as data and as a picture.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use super::scale::Growth;
use super::stats::{Figure, Series};

/// Everything that was measured.
pub(crate) struct Report {
    pub(crate) figures: Vec<Figure>,
    pub(crate) growth: Vec<Growth>,
    pub(crate) remarks: Vec<String>,
}

/// What the numbers were taken on.
fn host() -> Vec<(&'static str, String)> {
    let read = |path: &str| {
        fs::read_to_string(path)
            .unwrap_or_default()
            .trim()
            .to_owned()
    };
    let version = |program: &str, option: &str| {
        let output = Command::new(program).arg(option).output().ok()?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        Some(text.lines().next()?.to_owned())
    };
    let unified = Path::new("/sys/fs/cgroup/cgroup.controllers").exists();
    let hybrid = Path::new("/sys/fs/cgroup/unified").exists();
    let cgroups = match (unified, hybrid) {
        (true, _) => "version 2",
        (false, true) => "version 1 with a tree of version 2",
        (false, false) => "version 1",
    };
    // Without what its builder calls it.
    let kernel = read("/proc/sys/kernel/osrelease");
    let kernel = kernel.split('-').next().unwrap_or_default().to_owned();
    let mut host = vec![
        ("kernel", kernel),
        (
            "processors",
            std::thread::available_parallelism().map_or_else(|_| "?".into(), |n| n.to_string()),
        ),
        ("cgroups", cgroups.to_owned()),
        ("load before", read("/proc/loadavg")),
    ];
    for (name, option) in [("crun", "--version"), ("runc", "--version")] {
        if let Some(version) = version(name, option) {
            host.push((name, version));
        }
    }
    host
}

impl Report {
    pub(crate) fn json(&self) -> Value {
        let growth = self.growth.iter().map(|one| {
            json!({"beside": one.beside, "median": one.first.median(), "p99": one.first.percentile(99)})
        });
        json!({
            "host": host().into_iter().map(|(name, value)| json!({"name": name, "value": value})).collect::<Vec<_>>(),
            "figures": self.figures.iter().map(Figure::json).collect::<Vec<_>>(),
            "growth": growth.collect::<Vec<_>>(),
            "remarks": self.remarks,
        })
    }

    /// The page for people.
    pub(crate) fn page(&self) -> String {
        let mut page = String::from(HEAD);
        for (name, value) in host() {
            line(&mut page, &format!("- {name}: {value}"));
        }
        page.push_str("\n| What | reconciler | beside it | ratio | target | reached |\n");
        page.push_str("| --- | --- | --- | --- | --- | --- |\n");
        for figure in &self.figures {
            line(&mut page, &row(figure));
        }
        page.push('\n');
        let noted = self.figures.iter().filter(|figure| !figure.note.is_empty());
        for figure in noted {
            line(&mut page, &format!("- {}: {}.", figure.what, figure.note));
        }
        for remark in &self.remarks {
            line(&mut page, &format!("- {remark}"));
        }
        if !self.growth.is_empty() {
            page.push_str("\n![cost of one more container](benchmarks.svg)\n");
        }
        page
    }

    /// Cost of one more container against how many there are.
    pub(crate) fn picture(&self) -> String {
        let (width, height, edge) = (640.0, 320.0, 48.0);
        let most = |of: &dyn Fn(&Growth) -> f64| self.growth.iter().map(of).fold(1.0, f64::max);
        let right = most(&|one| count(one.beside));
        let top = most(&|one| one.first.percentile(99));
        let at = |one: &Growth, value: f64| {
            let x = edge + count(one.beside) / right * (width - 2.0 * edge);
            let y = height - edge - value / top * (height - 2.0 * edge);
            format!("{x:.1},{y:.1}")
        };
        let path = |value: &dyn Fn(&Series) -> f64| {
            let points = self.growth.iter().map(|one| at(one, value(&one.first)));
            points.collect::<Vec<_>>().join(" ")
        };
        let (low, far) = (height - edge, width - edge);
        format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" \
             font-family=\"sans-serif\" font-size=\"12\">\n\
             <rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n\
             <path d=\"M{edge},{edge} V{low} H{far}\" stroke=\"black\" fill=\"none\"/>\n\
             <text x=\"{edge}\" y=\"24\">file renamed to first instruction, ms (to {top:.0}): \
             median dark, p99 light</text>\n\
             <text x=\"{far}\" y=\"{}\" text-anchor=\"end\">containers there already (to \
             {right})</text>\n\
             <polyline points=\"{}\" stroke=\"#9bd\" stroke-width=\"2\" fill=\"none\"/>\n\
             <polyline points=\"{}\" stroke=\"#036\" stroke-width=\"2\" fill=\"none\"/>\n</svg>\n",
            height - 16.0,
            path(&|series| series.percentile(99)),
            path(&|series| series.median()),
        )
    }
}

const HEAD: &str = "\
# Benchmarks

Written by `cargo xtask bench`, in one run on one machine; `benchmarks.json` has the same as data.
Absolute times are the machine's; the ratios are what counts. Who is compared takes turns round by
round. The floor is one program that makes the same namespaces, changes its root and runs the same
program: no limits, no filter, nobody who waits. Medians, with the 99th percentile in brackets.

";

fn line(page: &mut String, text: &str) {
    writeln!(page, "{text}").expect("a string takes all");
}

fn count(number: usize) -> f64 {
    f64::from(u32::try_from(number).expect("a count"))
}

fn number(value: f64) -> String {
    match value.abs() {
        100.0.. => format!("{value:.0}"),
        10.0.. => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

fn said(series: &Series, unit: &str) -> String {
    let median = number(series.median());
    if series.count() == 1 {
        return format!("{median} {unit}").trim().to_owned();
    }
    let high = number(series.percentile(99));
    format!("{median} {unit} ({high})")
}

fn row(figure: &Figure) -> String {
    let beside = figure.beside.iter();
    let others = beside
        .clone()
        .map(|series| format!("{} {}", series.who, said(series, figure.unit)));
    let ratios = beside.filter_map(|series| {
        let ratio = figure.ratio(&series.who)?;
        Some(format!("{} {ratio:.2}x", series.who))
    });
    let verdicts = figure.verdicts();
    let targets = verdicts.iter().map(|verdict| verdict.text.clone());
    let reached = verdicts.iter().map(|verdict| match verdict.reached {
        Some(true) => "yes",
        Some(false) => "**no**",
        None => "not compared",
    });
    format!(
        "| {} | {} | {} | {} | {} | {} |",
        figure.what,
        said(&figure.ours, figure.unit),
        others.collect::<Vec<_>>().join("<br>"),
        ratios.collect::<Vec<_>>().join("<br>"),
        targets.collect::<Vec<_>>().join("<br>"),
        reached.collect::<Vec<_>>().join("<br>"),
    )
}
