//! The cgroups that a failed test leaves.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Kills what lives in a cgroup of this test and removes it, children first.
pub(crate) fn clear_cgroup(directory: &Path) {
    let Ok(entries) = fs::read_dir(directory) else {
        return;
    };
    for entry in entries
        .flatten()
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
    {
        clear_cgroup(&entry.path());
    }
    drop(fs::write(directory.join("cgroup.kill"), "1"));
    for _ in 0..200 {
        for pid in fs::read_to_string(directory.join("cgroup.procs"))
            .unwrap_or_default()
            .lines()
        {
            if let Ok(pid) = pid.parse() {
                // A process that is gone already is what is wanted here.
                nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::SIGKILL)
                    .ok();
            }
        }
        if fs::remove_dir(directory).is_ok() || !directory.exists() {
            return;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Adds every directory of that name below another.
pub(crate) fn find_directories(directory: &Path, wanted: &str, found: &mut Vec<PathBuf>) {
    let Ok(entries) = fs::read_dir(directory) else {
        return;
    };
    for entry in entries
        .flatten()
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
    {
        if entry.file_name().to_str() == Some(wanted) {
            found.push(entry.path());
        } else {
            find_directories(&entry.path(), wanted, found);
        }
    }
}
