//! The leak oracle: everything on a host that this project could leave behind.
//!
//! A snapshot before and one after must be equal. It is taken with nothing but reads of
//! `/proc` and `/sys` (and `nft` where it is installed), so that it cannot share a mistake
//! with the code it judges.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// One section of a snapshot: its name and what it lists.
type Sections = BTreeMap<&'static str, BTreeSet<String>>;

/// What is on the host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inventory {
    sections: Sections,
}

impl Inventory {
    /// Returns what is on the host now.
    #[must_use]
    pub fn take() -> Self {
        let sections = BTreeMap::from([
            ("mount", mounts_of_every_namespace()),
            ("link", names_in("/sys/class/net")),
            ("route", lines_of("/proc/net/route")),
            ("forwarding", lines_of("/proc/sys/net/ipv4/ip_forward")),
            ("cgroup", cgroup_directories()),
            ("process", processes_of_ours()),
            ("loop", loop_devices()),
            ("socket", sockets_of_ours()),
            ("ipc", ipc_objects()),
            ("nft", nft_rules()),
            ("file", leftover_files()),
        ]);
        Self { sections }
    }

    /// Returns one line for each thing that is in one of the two only; `+` is what came.
    #[must_use]
    pub fn difference(&self, later: &Self) -> Vec<String> {
        let none = BTreeSet::new();
        let mut lines = Vec::new();
        for (name, before) in &self.sections {
            let after = later.sections.get(name).unwrap_or(&none);
            lines.extend(
                after
                    .difference(before)
                    .map(|entry| format!("+ {name} {entry}")),
            );
            lines.extend(
                before
                    .difference(after)
                    .map(|entry| format!("- {name} {entry}")),
            );
        }
        lines
    }

    /// Waits until the host is again as it was.
    ///
    /// # Panics
    /// With the difference, when it is not after `bound`.
    pub fn check_unchanged(&self, bound: Duration) {
        crate::eventually::eventually("the host to be as it was", bound, || {
            let difference = self.difference(&Self::take());
            if difference.is_empty() {
                Ok(())
            } else {
                Err(difference.join("\n"))
            }
        });
    }

    /// Returns the snapshot as text, a line an entry.
    #[must_use]
    pub fn text(&self) -> String {
        let mut text = String::new();
        for (name, entries) in &self.sections {
            for entry in entries {
                writeln!(text, "{name} {entry}").expect("writing to a string cannot fail");
            }
        }
        text
    }
}

fn pids() -> Vec<u32> {
    let Ok(entries) = fs::read_dir("/proc") else {
        return Vec::new();
    };
    entries
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .collect()
}

/// Mount tables of all namespaces that a process is in, without the ids that change.
fn mounts_of_every_namespace() -> BTreeSet<String> {
    let own = fs::read_link("/proc/self/ns/mnt").ok();
    let mut seen = BTreeSet::new();
    let mut mounts = BTreeSet::new();
    for pid in pids() {
        let Ok(namespace) = fs::read_link(format!("/proc/{pid}/ns/mnt")) else {
            continue;
        };
        if !seen.insert(namespace.clone()) {
            continue;
        }
        let whose = if Some(&namespace) == own.as_ref() {
            "host"
        } else {
            "other"
        };
        let table = fs::read_to_string(format!("/proc/{pid}/mountinfo")).unwrap_or_default();
        for line in table.lines() {
            let fields: Vec<&str> = line.split(' ').collect();
            let (Some(root), Some(point)) = (fields.get(3), fields.get(4)) else {
                continue;
            };
            let tail = line.split_once(" - ").map_or("", |(_, tail)| tail);
            let kind = tail.split(' ').next().unwrap_or_default();
            mounts.insert(format!("{whose} {point} {kind} {root}"));
        }
    }
    mounts
}

fn names_in(directory: &str) -> BTreeSet<String> {
    let Ok(entries) = fs::read_dir(directory) else {
        return BTreeSet::new();
    };
    entries
        .flatten()
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect()
}

fn lines_of(path: &str) -> BTreeSet<String> {
    fs::read_to_string(path)
        .unwrap_or_default()
        .lines()
        .map(str::to_owned)
        .collect()
}

/// Every cgroup but those beside the one this process runs in: whoever started it starts and
/// ends other jobs there as it likes. One with our name counts wherever it is.
fn cgroup_directories() -> BTreeSet<String> {
    let own = own_cgroups();
    let mut found = BTreeSet::new();
    walk(Path::new("/sys/fs/cgroup"), &mut |path, is_directory| {
        let named = path.to_string_lossy().contains("reconciler");
        let runners = |own: &PathBuf| {
            let beside = own.parent().is_some_and(|place| path.starts_with(place));
            beside && path != own.parent().unwrap_or(own) && !path.starts_with(own)
        };
        if is_directory && (named || !own.iter().any(runners)) {
            found.insert(path.display().to_string());
        }
    });
    found
}

/// Where this process is, in each hierarchy in which it is not at the top.
fn own_cgroups() -> Vec<PathBuf> {
    let table = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let place = |line: &str| {
        let (controllers, path) = line.split_once(':')?.1.split_once(':')?;
        let below = path.strip_prefix('/').filter(|below| !below.is_empty())?;
        let name = controllers.strip_prefix("name=").unwrap_or(controllers);
        let top = Path::new("/sys/fs/cgroup");
        let hierarchy = if name.is_empty() && top.join("unified").is_dir() {
            "unified"
        } else {
            name
        };
        Some(top.join(hierarchy).join(below))
    };
    table.lines().filter_map(place).collect()
}

fn walk(directory: &Path, visit: &mut impl FnMut(&Path, bool)) {
    let Ok(entries) = fs::read_dir(directory) else {
        return;
    };
    for entry in entries.flatten() {
        let is_directory = entry.file_type().is_ok_and(|kind| kind.is_dir());
        visit(&entry.path(), is_directory);
        if is_directory {
            walk(&entry.path(), visit);
        }
    }
}

/// Processes that this project could have started: by name, executable or cgroup. A process
/// between exit and reaping counts.
fn processes_of_ours() -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for pid in pids() {
        let read = |name: &str| fs::read(format!("/proc/{pid}/{name}")).unwrap_or_default();
        let command = String::from_utf8_lossy(&read("cmdline")).replace('\0', " ");
        let cgroup = String::from_utf8_lossy(&read("cgroup")).into_owned();
        let exe = fs::read_link(format!("/proc/{pid}/exe")).unwrap_or_default();
        let exe = exe.to_string_lossy();
        let first = command.split(' ').next().unwrap_or_default();
        let ours = cgroup.contains("reconciler-")
            || exe.contains("reconciler-shim")
            || first.ends_with("reconciler-shim")
            || first.ends_with("/reconciler");
        let stat = String::from_utf8_lossy(&read("stat")).into_owned();
        let start = stat
            .rsplit(')')
            .next()
            .and_then(|tail| tail.split(' ').nth(20).map(str::to_owned));
        if ours {
            found.insert(format!("{pid} {} {command}", start.unwrap_or_default()));
        }
    }
    found
}

fn loop_devices() -> BTreeSet<String> {
    let with_file = |name: &String| {
        let file = fs::read_to_string(format!("/sys/block/{name}/loop/backing_file")).ok()?;
        Some(format!("{name} {}", file.trim()))
    };
    names_in("/sys/block")
        .iter()
        .filter_map(with_file)
        .collect()
}

fn sockets_of_ours() -> BTreeSet<String> {
    let table = fs::read_to_string("/proc/net/unix").unwrap_or_default();
    let path = |line: &str| line.split_whitespace().nth(7).map(str::to_owned);
    table
        .lines()
        .filter_map(path)
        .filter(|path| {
            path.contains("shim.sock") || path.contains("init.sock") || path.contains("reconciler")
        })
        .collect()
}

fn ipc_objects() -> BTreeSet<String> {
    ["msg", "sem", "shm"]
        .iter()
        .flat_map(|kind| {
            let table = fs::read_to_string(format!("/proc/sysvipc/{kind}")).unwrap_or_default();
            table
                .lines()
                .skip(1)
                .map(|line| format!("{kind} {line}"))
                .collect::<Vec<_>>()
        })
        .collect()
}

/// The whole rule set without counters and handles; empty where `nft` is not installed.
fn nft_rules() -> BTreeSet<String> {
    let Ok(output) = Command::new("nft")
        .args(["--stateless", "list", "ruleset"])
        .output()
    else {
        return BTreeSet::new();
    };
    String::from_utf8_lossy(&output.stdout)
        .lines()
        .map(str::to_owned)
        .collect()
}

/// What stands at the default places, where no test has any business.
fn leftover_files() -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for place in [
        "/run/reconciler",
        "/var/lib/reconciler",
        "/var/log/reconciler",
    ] {
        walk(Path::new(place), &mut |path, _| {
            found.insert(path.display().to_string());
        });
    }
    found
}
