//! What is shipped around the programs.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use tests::world::bin;

fn packaging() -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent();
    root.expect("the package is in a folder")
        .join("reconciler/packaging")
}

fn unit() -> String {
    fs::read_to_string(packaging().join("reconciler.service")).expect("read the unit")
}

/// The value of a line of the unit.
fn said(unit: &str, key: &str) -> String {
    let line = unit
        .lines()
        .find_map(|line| line.strip_prefix(&format!("{key}=")));
    line.unwrap_or_else(|| panic!("the unit does not say {key}"))
        .to_owned()
}

#[test]
fn the_unit_starts_the_daemon_with_options_that_it_has() {
    let start = said(&unit(), "ExecStart");
    let mut words = start.split(' ');
    assert_eq!(words.next(), Some("/usr/bin/reconciler"));
    let mut command = Command::new(bin("reconciler"));
    // With an option that is not there, help is an error.
    let answer = command.args(words).arg("--help").output().expect("run it");
    assert!(answer.status.success(), "{answer:?}");
}

#[test]
fn the_unit_is_one_that_systemd_takes_without_a_word() {
    if !Path::new("/usr/bin/systemd-analyze").exists() {
        eprintln!("skipped: systemd is not installed here");
        return;
    }
    let place = std::env::temp_dir().join(format!("rcunit{}", std::process::id()));
    fs::create_dir_all(&place).expect("make a folder");
    // A program that is not installed is the one complaint that would be true here.
    let text = unit().replace(
        "/usr/bin/reconciler",
        &bin("reconciler").display().to_string(),
    );
    fs::write(place.join("reconciler.service"), text).expect("write the unit");
    let slice = "reconciler.slice";
    fs::copy(packaging().join(slice), place.join(slice)).expect("copy the slice");
    let verified = Command::new("/usr/bin/systemd-analyze")
        .args(["verify", "--man=no", "--recursive-errors=yes"])
        .args([place.join("reconciler.service"), place.join(slice)])
        .output()
        .expect("run systemd-analyze");
    fs::remove_dir_all(&place).expect("remove the folder");
    assert!(verified.status.success(), "{verified:?}");
    let said = [verified.stdout, verified.stderr].concat();
    assert!(said.is_empty(), "{}", String::from_utf8_lossy(&said));
}

#[test]
fn the_unit_never_ends_or_forgets_a_container() {
    let unit = unit();
    for (key, value) in [
        ("KillMode", "process"),
        ("RuntimeDirectoryPreserve", "yes"),
        ("Type", "notify"),
        ("Restart", "always"),
        ("Slice", "reconciler.slice"),
    ] {
        assert_eq!(said(&unit, key), value, "{key}");
    }
    // Inherited by every container, or a mount namespace around all of them.
    for taboo in [
        "NoNewPrivileges",
        "SystemCall",
        "Protect",
        "Private",
        "Restrict",
        "ReadOnly",
    ] {
        let found = unit.lines().any(|line| line.starts_with(taboo));
        assert!(!found, "the unit says {taboo}");
    }
}

#[test]
fn maintainer_scripts_are_ones_that_the_shell_takes() {
    for script in ["postinst", "prerm", "postrm"] {
        let path = packaging().join("debian").join(script);
        let parsed = Command::new("/bin/sh").arg("-n").arg(&path).output();
        let parsed = parsed.expect("run sh");
        assert!(parsed.status.success(), "{script}: {parsed:?}");
        let text = fs::read_to_string(&path).expect("read a script");
        assert!(
            text.contains("\nset -e\n"),
            "{script} goes on after a failure"
        );
        // A purge enters no file system of somebody else's.
        for line in text.lines().filter(|line| line.contains("rm -rf")) {
            assert!(line.contains("--one-file-system"), "{script}: {line}");
        }
    }
}
