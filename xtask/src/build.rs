//! Builds the two programs into one folder.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};

/// Builds `reconciler` and the static `reconciler-shim`; returns the folder that holds both.
pub(crate) fn run(release: bool) -> Result<PathBuf> {
    let profile = if release { "release" } else { "dev" };
    cargo(&["build", "--package", "reconciler-cli", "--profile", profile])?;
    // Static and not position-independent: resident once per container, it shall neither map
    // the host's libraries nor dirty pages with relocations.
    cargo(&[
        "rustc",
        "--package",
        "reconciler-shim",
        "--bin",
        "reconciler-shim",
        "--profile",
        "shim",
        "--",
        "-C",
        "target-feature=+crt-static",
        "-C",
        "relocation-model=static",
    ])?;
    let target = target_directory();
    let from = target.join(if release { "release" } else { "debug" });
    let bin = target
        .join("xtask")
        .join(if release { "release" } else { "debug" });
    std::fs::create_dir_all(&bin).with_context(|| format!("make {}", bin.display()))?;
    for (file, directory) in [
        ("reconciler", from),
        ("reconciler-shim", target.join("shim")),
    ] {
        let fresh = bin.join(format!(".{file}.new"));
        std::fs::copy(directory.join(file), &fresh).with_context(|| format!("copy {file}"))?;
        // By rename: a running program's file cannot be written over.
        std::fs::rename(&fresh, bin.join(file)).with_context(|| format!("place {file}"))?;
    }
    Ok(bin)
}

/// Root of the workspace.
pub(crate) fn workspace() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Where cargo builds.
pub(crate) fn target_directory() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| workspace().join("target"), PathBuf::from)
}

/// Runs cargo in the workspace.
pub(crate) fn cargo(arguments: &[&str]) -> Result<()> {
    let status = Command::new(env!("CARGO"))
        .args(arguments)
        .env("CARGO_TERM_QUIET", "true")
        .current_dir(workspace())
        .status()
        .context("run cargo")?;
    ensure!(status.success(), "cargo {} failed", arguments.join(" "));
    Ok(())
}
