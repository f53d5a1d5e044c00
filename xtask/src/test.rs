//! Runs every test, with the host compared before and after.

use std::collections::BTreeSet;
use std::path::Path;
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
        packages::IPROUTE2,
        packages::CONNTRACK,
        packages::ZSH,
        packages::FISH,
        packages::MANDOC,
    ])?;
    let bin = build::run(false)?;
    let before = inventory()?;
    let started = Instant::now();
    let mut counts = Counts::default();
    let mut passed = true;
    if has_nextest() {
        // Tests that compare the whole host run by themselves, after all others.
        let lanes: &[&str] = match filters {
            [] => &["not test(/^e2e/)", "test(/^e2e/)"],
            _ => &[""],
        };
        for lane in lanes {
            let mut command = Command::new(env!("CARGO"));
            command.args(["nextest", "run", "--workspace"]);
            match filters {
                [] => command.args(["-E", lane]),
                _ => command.args(filters),
            };
            passed &= succeeds(command, &bin)?;
            counts.read()?;
        }
        counts.tell(started.elapsed());
    } else {
        say("cargo-nextest is not installed: running `cargo test`, one test at a time");
        let mut command = Command::new(env!("CARGO"));
        command.args([
            "test",
            "--workspace",
            "--no-fail-fast",
            "--",
            "--test-threads=1",
        ]);
        command.args(filters);
        passed = succeeds(command, &bin)?;
    }
    check_host(&before)?;
    ensure!(passed, "tests failed");
    Ok(())
}

fn succeeds(mut command: Command, bin: &Path) -> Result<bool> {
    let status = command
        .current_dir(workspace())
        .env("RECONCILER_BIN_DIR", bin)
        .status()
        .context("run the tests")?;
    Ok(status.success())
}

fn has_nextest() -> bool {
    Command::new(env!("CARGO"))
        .args(["nextest", "--version"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

/// How many tests ran, and what was skipped within them.
#[derive(Default)]
struct Counts {
    ran: usize,
    failed: usize,
    skips: BTreeSet<String>,
}

impl Counts {
    /// Adds what the last run reported.
    fn read(&mut self) -> Result<()> {
        let path = target_directory().join("nextest/default/junit.xml");
        let report =
            std::fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
        let skips = report
            .lines()
            .filter_map(|line| line.get(line.find("skipped: ")?..))
            .map(|skip| skip.trim_end_matches("</system-out>").to_owned());
        self.skips.extend(skips);
        self.failed += report.matches("<failure").count();
        self.ran += report.matches("<testcase").count();
        Ok(())
    }

    /// Says what ran, what was skipped and why. The counts stand alone on a line.
    fn tell(&self, elapsed: Duration) {
        for skip in &self.skips {
            say(&format!("inside a test: {skip}"));
        }
        say(&format!("tests took {} s", elapsed.as_secs()));
        let passed = self.ran - self.failed;
        say(&format!(
            "{passed} passed, {} failed, {} skipped",
            self.failed,
            self.skips.len()
        ));
    }
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
