//! `cargo xtask bench`: what containers cost here, beside what a user would pick instead.
//!
//! `figures OUT [--quick] [GROUP...]` measures and writes `benchmarks.md`, `.json` and `.svg`
//! into a directory. Groups: `lives`, `living`, `output`, `empty`, `many`.

mod clock;
mod ours;
mod output;
mod peers;
mod report;
mod scale;
mod single;
mod stats;

use std::io::Write as _;
use std::path::Path;

use report::Report;

fn main() -> std::io::Result<()> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let (out, rest) = words
        .split_first()
        .ok_or_else(|| std::io::Error::other("figures OUT [--quick] [GROUP...]"))?;
    let is_quick = rest.iter().any(|word| word == "--quick");
    let groups: Vec<&String> = rest.iter().filter(|word| !word.starts_with('-')).collect();
    let wants = |group: &str| groups.is_empty() || groups.iter().any(|word| *word == group);
    let rounds = if is_quick { 5 } else { 40 };
    let mut report = Report {
        figures: Vec::new(),
        growth: Vec::new(),
        remarks: Vec::new(),
    };
    if wants("lives") {
        let figures = single::lives(rounds, &mut report.remarks);
        report.figures.extend(figures);
    }
    if wants("living") {
        let figures = single::living(rounds, &mut report.remarks);
        report.figures.extend(figures);
    }
    if wants("output") {
        let (rounds, times) = if is_quick { (1, 2) } else { (3, 16) };
        report.figures.extend(output::logs(rounds, times));
    }
    if wants("empty") {
        report.figures.extend(scale::empty(rounds.min(20)));
    }
    if wants("many") {
        let all = if is_quick { 120 } else { 1000 };
        let (figures, growth) = scale::many(all, rounds.min(20));
        report.figures.extend(figures);
        report.growth = growth;
    }
    report.remarks.dedup();
    let page = report.page();
    let out = Path::new(out);
    std::fs::create_dir_all(out)?;
    std::fs::write(out.join("benchmarks.md"), &page)?;
    let data = format!("{:#}\n", report.json());
    std::fs::write(out.join("benchmarks.json"), data)?;
    std::fs::write(out.join("benchmarks.svg"), report.picture())?;
    std::io::stdout().write_all(page.as_bytes())
}
