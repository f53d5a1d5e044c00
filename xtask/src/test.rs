//! Runs every test, with the host compared before and after.

use std::collections::BTreeSet;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};

use crate::build::{target_directory, workspace};
use crate::{build, packages, say};

/// How long the host may take to settle after the last test.
const SETTLE: Duration = Duration::from_secs(20);

/// Runs the tests; with filters, those of `cargo nextest` that match.
pub(crate) fn run(filters: &[String]) -> Result<()> {
    packages::install(&[
        packages::BUSYBOX,
        packages::E2FSPROGS,
        packages::GIT,
        packages::NFTABLES,
    ])?;
    let bin = build::run(false)?;
    let before = inventory()?;
    let started = Instant::now();
    let nextest = has_nextest();
    let mut command = Command::new(env!("CARGO"));
    if nextest {
        command
            .args(["nextest", "run", "--workspace"])
            .args(filters);
    } else {
        say("cargo-nextest is not installed: running `cargo test`, one test at a time");
        command.args([
            "test",
            "--workspace",
            "--no-fail-fast",
            "--",
            "--test-threads=1",
        ]);
        command.args(filters);
    }
    let status = command
        .current_dir(workspace())
        .env("RECONCILER_BIN_DIR", &bin)
        .status()
        .context("run the tests")?;
    if nextest {
        tell_counts(started.elapsed())?;
    }
    check_host(&before)?;
    ensure!(status.success(), "tests failed");
    Ok(())
}

fn has_nextest() -> bool {
    Command::new(env!("CARGO"))
        .args(["nextest", "--version"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

/// Says how many tests ran and what was skipped within them, and why.
fn tell_counts(elapsed: Duration) -> Result<()> {
    let path = target_directory().join("nextest/default/junit.xml");
    let report =
        std::fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
    let skips: BTreeSet<&str> = report
        .lines()
        .filter_map(|line| {
            line.find("SKIP")
                .map(|at| line.get(at..).unwrap_or_default())
        })
        .collect();
    for skip in &skips {
        say(&format!(
            "skipped inside a test: {}",
            skip.trim_end_matches("</system-out>")
        ));
    }
    let failed = report.matches("<failure").count();
    let all = report.matches("<testcase").count();
    say(&format!(
        "{} passed, {failed} failed, {} skipped",
        all - failed,
        skips.len()
    ));
    say(&format!("in {} s", elapsed.as_secs()));
    Ok(())
}

fn inventory() -> Result<BTreeSet<String>> {
    let output = Command::new(env!("CARGO"))
        .args([
            "run",
            "--quiet",
            "--package",
            "reconciler-tests",
            "--bin",
            "inventory",
        ])
        .current_dir(workspace())
        .output()
        .context("take the host's inventory")?;
    ensure!(
        output.status.success(),
        "inventory: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(String::from_utf8_lossy(&output.stdout)
        .lines()
        .map(str::to_owned)
        .collect())
}

/// Fails with the difference when the tests left anything on the host, or took anything.
fn check_host(before: &BTreeSet<String>) -> Result<()> {
    let end = Instant::now() + SETTLE;
    loop {
        let after = inventory()?;
        if after == *before {
            say("the host is as it was before the tests");
            return Ok(());
        }
        if Instant::now() > end {
            for line in after.difference(before) {
                say(&format!("+ {line}"));
            }
            for line in before.difference(&after) {
                say(&format!("- {line}"));
            }
            bail!("the tests changed the host");
        }
    }
}
