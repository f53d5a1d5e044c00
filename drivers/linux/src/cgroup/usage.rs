//! What a group uses, read when somebody asks. What cannot be read is left out.

use std::path::Path;

use specs::usage::ContainerUsage;

use super::observe::{keyed, memory_peak, number};
use super::{Dir, Group, numbers};

/// Fills in what the controllers count.
pub(crate) fn read(group: &Group, usage: &mut ContainerUsage) {
    if let Some(dir) = group.site("memory") {
        memory(dir, usage);
    }
    cpu(group, usage);
    if let Some(dir) = group.site("pids") {
        usage.pids = one(&dir.path, "pids.current");
        usage.pids_peak = one(&dir.path, "pids.peak");
        usage.pids_limit = one(&dir.path, "pids.max");
    }
}

fn memory(dir: &Dir, usage: &mut ContainerUsage) {
    let path = dir.path.as_path();
    let (current, limit, inactive) = if dir.unified {
        ("memory.current", "memory.max", "inactive_file")
    } else {
        let files = ("memory.usage_in_bytes", "memory.limit_in_bytes");
        // Of groups below too (`cgroup-v1/memory.rst`).
        (files.0, files.1, "total_inactive_file")
    };
    usage.memory_bytes = one(path, current);
    let idle = line(path, "memory.stat", inactive);
    usage.working_set_bytes = usage
        .memory_bytes
        .zip(idle)
        .map(|(all, idle)| all.saturating_sub(idle));
    usage.memory_peak_bytes = memory_peak(dir);
    usage.memory_limit_bytes = one(path, limit).filter(|bytes| !numbers::is_unlimited(*bytes));
    usage.swap_bytes = if dir.unified {
        one(path, "memory.swap.current")
    } else {
        line(path, "memory.stat", "total_swap")
    };
}

/// The tree of version 2 counts processor time without a controller; version 1 does where
/// `cpuacct` is mounted with `cpu`.
fn cpu(group: &Group, usage: &mut ContainerUsage) {
    let site = group.site("cpu");
    if let Some(dir) = group.unified() {
        let stat = |key| line(&dir.path, "cpu.stat", key);
        usage.cpu_usec = stat("usage_usec");
        usage.cpu_user_usec = stat("user_usec");
        usage.cpu_system_usec = stat("system_usec");
    } else if let Some(dir) = site {
        let usec = |file| Some(one(&dir.path, file)? / 1000);
        usage.cpu_usec = usec("cpuacct.usage");
        usage.cpu_user_usec = usec("cpuacct.usage_user");
        usage.cpu_system_usec = usec("cpuacct.usage_sys");
    }
    usage.cpu_throttled_usec = site.and_then(|dir| {
        if dir.unified {
            line(&dir.path, "cpu.stat", "throttled_usec")
        } else {
            Some(line(&dir.path, "cpu.stat", "throttled_time")? / 1000)
        }
    });
}

fn one(path: &Path, file: &str) -> Option<u64> {
    number(path, file).ok().flatten().flatten()
}

fn line(path: &Path, file: &str, key: &str) -> Option<u64> {
    keyed(path, file, key).ok().flatten()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn read_files(unified: bool, files: &[(&str, &str)]) -> ContainerUsage {
        let root = tempfile::tempdir().unwrap();
        for (name, content) in files {
            std::fs::write(root.path().join(name), content).unwrap();
        }
        let dir = Dir {
            path: root.path().to_path_buf(),
            unified,
            controllers: BTreeSet::from(["memory", "cpu", "pids"].map(str::to_owned)),
            proc_path: "/".to_owned(),
            mount: root.path().to_path_buf(),
            required: true,
        };
        let mut usage = ContainerUsage::default();
        read(&Group { dirs: vec![dir] }, &mut usage);
        usage
    }

    #[test]
    fn version_2_is_read_in_its_own_words() {
        let usage = read_files(
            true,
            &[
                ("memory.current", "9000\n"),
                ("memory.stat", "anon 5000\ninactive_file 3000\n"),
                ("memory.peak", "12000\n"),
                ("memory.max", "max\n"),
                ("memory.swap.current", "0\n"),
                (
                    "cpu.stat",
                    "usage_usec 7\nuser_usec 4\nsystem_usec 3\nthrottled_usec 2\n",
                ),
                ("pids.current", "3\n"),
                ("pids.peak", "9\n"),
                ("pids.max", "32\n"),
            ],
        );
        let wanted = ContainerUsage {
            memory_bytes: Some(9000),
            working_set_bytes: Some(6000),
            memory_peak_bytes: Some(12000),
            memory_limit_bytes: None,
            swap_bytes: Some(0),
            cpu_usec: Some(7),
            cpu_user_usec: Some(4),
            cpu_system_usec: Some(3),
            cpu_throttled_usec: Some(2),
            pids: Some(3),
            pids_peak: Some(9),
            pids_limit: Some(32),
            ..ContainerUsage::default()
        };
        assert_eq!(usage, wanted);
    }

    #[test]
    fn version_1_is_read_in_nanoseconds_and_with_its_word_for_no_limit() {
        let usage = read_files(
            false,
            &[
                ("memory.usage_in_bytes", "9000\n"),
                (
                    "memory.stat",
                    "inactive_file 1\ntotal_inactive_file 3000\ntotal_swap 5\n",
                ),
                ("memory.max_usage_in_bytes", "12000\n"),
                ("memory.limit_in_bytes", "9223372036854771712\n"),
                ("cpuacct.usage", "7999\n"),
                (
                    "cpu.stat",
                    "nr_periods 1\nnr_throttled 1\nthrottled_time 2500\n",
                ),
            ],
        );
        assert_eq!(usage.working_set_bytes, Some(6000));
        assert_eq!(usage.memory_peak_bytes, Some(12000));
        assert_eq!(usage.memory_limit_bytes, None);
        assert_eq!(usage.swap_bytes, Some(5));
        assert_eq!((usage.cpu_usec, usage.cpu_user_usec), (Some(7), None));
        assert_eq!(usage.cpu_throttled_usec, Some(2));
        assert_eq!(usage.pids, None, "what is not counted is not 0");
    }
}
