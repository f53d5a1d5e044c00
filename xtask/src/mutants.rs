//! Plants each bug of `tests/mutants` in a copy of the sources and checks that its test fails.
//!
//! A patch begins with `Law:` (what it breaks) and `Killed-by:` (package and test filter). A
//! patch that no longer applies fails, and so does a test that passes on unchanged sources
//! only by not being there. For an end-to-end test both programs are built from the copy.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail, ensure};

use crate::build::{target_directory, workspace};
use crate::say;

/// One planted bug.
struct Mutant {
    name: String,
    patch: PathBuf,
    package: String,
    filter: String,
}

/// Runs the mutants whose name holds `only`, or all.
pub(crate) fn run(only: Option<&str>) -> Result<()> {
    let mutants = list(only)?;
    ensure!(!mutants.is_empty(), "no mutant matches");
    let copy = target_directory().join("mutants/tree");
    let mut survived = Vec::new();
    for mutant in &mutants {
        fresh_copy(&copy)?;
        if !passes(&copy, mutant)? {
            bail!("{}: its test fails on the sources as they are", mutant.name);
        }
        apply(&copy, &mutant.patch)?;
        let killed = !passes(&copy, mutant)?;
        say(&format!(
            "{} {} by {}",
            if killed { "killed  " } else { "SURVIVED" },
            mutant.name,
            mutant.filter
        ));
        if !killed {
            survived.push(mutant.name.clone());
        }
    }
    say(&format!(
        "{} passed, {} failed",
        mutants.len() - survived.len(),
        survived.len()
    ));
    ensure!(survived.is_empty(), "survived: {}", survived.join(", "));
    Ok(())
}

fn list(only: Option<&str>) -> Result<Vec<Mutant>> {
    let folder = workspace().join("tests/mutants");
    let mut found = Vec::new();
    for entry in std::fs::read_dir(&folder).with_context(|| format!("list {}", folder.display()))? {
        let path = entry.context("list the mutants")?.path();
        let name = path
            .file_stem()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        let is_patch = path
            .extension()
            .is_some_and(|extension| extension == "patch");
        if !is_patch || only.is_some_and(|only| !name.contains(only)) {
            continue;
        }
        let text = std::fs::read_to_string(&path).with_context(|| format!("read {name}"))?;
        let line = text
            .lines()
            .find_map(|line| line.strip_prefix("Killed-by: "))
            .with_context(|| format!("{name} has no line `Killed-by: PACKAGE TEST`"))?;
        let (package, filter) = line
            .split_once(' ')
            .with_context(|| format!("{name}: `{line}` names no test"))?;
        found.push(Mutant {
            name,
            patch: path.clone(),
            package: package.to_owned(),
            filter: filter.trim().to_owned(),
        });
    }
    found.sort_by(|left, right| left.name.cmp(&right.name));
    Ok(found)
}

/// Brings the copy to the state of the work tree, touching only files that differ, so that
/// little is built again.
fn fresh_copy(copy: &Path) -> Result<()> {
    let output = Command::new("git")
        .args([
            "ls-files",
            "-z",
            "--cached",
            "--others",
            "--exclude-standard",
        ])
        .current_dir(workspace())
        .output()
        .context("list the sources")?;
    for name in output
        .stdout
        .split(|byte| *byte == 0)
        .filter(|name| !name.is_empty())
    {
        let name = String::from_utf8_lossy(name).into_owned();
        let (from, to) = (workspace().join(&name), copy.join(&name));
        let Ok(bytes) = std::fs::read(&from) else {
            continue;
        };
        if std::fs::read(&to).is_ok_and(|have| have == bytes) {
            continue;
        }
        if let Some(parent) = to.parent() {
            std::fs::create_dir_all(parent)
                .with_context(|| format!("make {}", parent.display()))?;
        }
        std::fs::write(&to, bytes).with_context(|| format!("copy {name}"))?;
    }
    Ok(())
}

fn apply(copy: &Path, patch: &Path) -> Result<()> {
    let patch = patch.canonicalize().context("find the patch")?;
    // `--directory`-free: the copy is no repository of its own, so git must not look above it.
    let status = Command::new("git")
        .args(["apply", "--unsafe-paths", "--whitespace=nowarn"])
        .arg(&patch)
        .env("GIT_CEILING_DIRECTORIES", copy.parent().unwrap_or(copy))
        .current_dir(copy)
        .status()
        .context("apply a patch")?;
    ensure!(status.success(), "{} no longer applies", patch.display());
    Ok(())
}

/// Whether the mutant's test passes in the copy; false too when it does not compile.
fn passes(copy: &Path, mutant: &Mutant) -> Result<bool> {
    let target = target_directory().join("mutants/target");
    let cargo = |arguments: &[&str]| {
        Command::new(env!("CARGO"))
            .args(arguments)
            .env("CARGO_TARGET_DIR", &target)
            .env("RECONCILER_BIN_DIR", target.join("xtask/debug"))
            .current_dir(copy)
            .output()
            .with_context(|| format!("run cargo {}", arguments.join(" ")))
    };
    if mutant.filter.starts_with("e2e_") {
        let built = cargo(&["xtask", "build"])?;
        let errors = String::from_utf8_lossy(&built.stderr);
        ensure!(
            built.status.success(),
            "{} does not compile:\n{errors}",
            mutant.name
        );
    }
    let output = cargo(&[
        "test",
        "--quiet",
        "--package",
        &mutant.package,
        &mutant.filter,
    ])?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(
        !errors.contains("could not compile"),
        "{} does not compile:\n{errors}",
        mutant.name
    );
    let ran = text
        .lines()
        .any(|line| line.starts_with("running ") && !line.starts_with("running 0"));
    ensure!(ran, "{}: no test matches {}", mutant.name, mutant.filter);
    Ok(output.status.success())
}
