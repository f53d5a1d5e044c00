//! Measures what containers cost here, beside what a user would pick instead.

use std::process::Command;

use anyhow::{Context as _, Result, ensure};

use crate::build::{self, target_directory, workspace};
use crate::packages::{self, BUSYBOX, CRUN, FILTER, RUNC};

/// Runs the benchmark. With `--quick` or names of groups the figures are only shown; else they
/// become `docs/benchmarks.*`. With `--dev` unoptimised programs are measured, for a try.
pub(crate) fn run(words: &[String]) -> Result<()> {
    packages::install(&[BUSYBOX, CRUN, RUNC, FILTER])?;
    let is_dev = words.iter().any(|word| word == "--dev");
    let bin = build::run(!is_dev)?;
    // Runs in empty roots.
    build::cargo(&[
        "rustc",
        "--package",
        "reconciler-tests",
        "--bin",
        "bare",
        "--",
        "-C",
        "target-feature=+crt-static",
    ])?;
    build::cargo(&["build", "--package", "reconciler-tests", "--bin", "figures"])?;
    let debug = target_directory().join("debug");
    std::fs::copy(debug.join("bare"), bin.join("bare")).context("copy bare")?;
    let out = if words.is_empty() {
        workspace().join("docs")
    } else {
        target_directory().join("figures")
    };
    let status = Command::new(debug.join("figures"))
        .arg(&out)
        .args(words.iter().filter(|word| *word != "--dev"))
        .env("RECONCILER_BIN_DIR", &bin)
        .status()
        .context("run the benchmark")?;
    ensure!(status.success(), "the benchmark failed: {status}");
    crate::say(&format!("written to {}", out.display()));
    Ok(())
}
