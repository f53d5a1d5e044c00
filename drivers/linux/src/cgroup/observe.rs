//! Reads a group: limits, use and events. A file that is not there is told apart from one
//! that cannot be read.

use std::io;
use std::path::Path;

use driver_api::{Cgroup, Fact, Gap, UsageObserved};
use specs::desired::Limits;

use super::{Dir, Group, facts, numbers};
use crate::error::gap;
use crate::text;

/// What the memory controller says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Memory {
    /// Whether memory can be limited at all.
    pub(crate) has_max: bool,
    /// Hard limit.
    pub(crate) max: Option<u64>,
    /// Swap limit, version 2.
    pub(crate) swap: Option<u64>,
    /// Limit of memory and swap together, version 1.
    pub(crate) sum: Option<u64>,
    /// Whether swap is counted at all.
    pub(crate) has_swap: bool,
    /// Protected, version 2.
    pub(crate) low: Option<u64>,
    /// Bytes charged.
    pub(crate) use_bytes: Option<u64>,
    /// Kills for memory.
    pub(crate) oom_kills: Option<u64>,
}

/// What the cpu controller says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Cpu {
    /// Quota and period, microseconds, when there is a quota.
    pub(crate) quota: Option<(u64, u64)>,
    /// Period, microseconds.
    pub(crate) period: Option<u64>,
    /// Weight, 1 to 10000.
    pub(crate) weight: Option<u16>,
}

/// What the cpuset controller says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct CpuSet {
    /// Written here; empty on version 2 when nothing was.
    pub(crate) own: Vec<(u32, u32)>,
    /// What the parent could give.
    pub(crate) parent: Vec<(u32, u32)>,
}

fn bad(file: &str, text: &str) -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidData,
        format!("{file} reads {:?}", text.trim()),
    )
}

/// Reads a file that holds one number or `max`: not there, no limit, or a limit.
pub(super) fn number(dir: &Path, file: &str) -> io::Result<Option<Option<u64>>> {
    let Some(found) = text::read(&dir.join(file))? else {
        return Ok(None);
    };
    match found.trim() {
        "max" | "-1" => Ok(Some(None)),
        digits => digits
            .parse()
            .map(|value| Some(Some(value)))
            .map_err(|_| bad(file, &found)),
    }
}

/// Reads one line of a flat keyed file.
pub(super) fn keyed(dir: &Path, file: &str, key: &str) -> io::Result<Option<u64>> {
    let Some(found) = text::read(&dir.join(file))? else {
        return Ok(None);
    };
    let line = found
        .lines()
        .find_map(|line| line.strip_prefix(key)?.strip_prefix(' '));
    line.map(|value| value.trim().parse().map_err(|_| bad(file, &found)))
        .transpose()
}

/// Reads the memory controller.
pub(crate) fn memory(dir: &Dir) -> io::Result<Memory> {
    let path = dir.path.as_path();
    if dir.unified {
        let swap = number(path, "memory.swap.max")?;
        let max = number(path, "memory.max")?;
        return Ok(Memory {
            has_max: max.is_some(),
            max: max.flatten(),
            has_swap: swap.is_some(),
            swap: swap.flatten(),
            sum: None,
            low: number(path, "memory.low")?.flatten(),
            use_bytes: number(path, "memory.current")?.flatten(),
            oom_kills: keyed(path, "memory.events", "oom_kill")?,
        });
    }
    let limited = |value: Option<Option<u64>>| {
        value
            .flatten()
            .filter(|bytes| !numbers::is_unlimited(*bytes))
    };
    let sum = number(path, "memory.memsw.limit_in_bytes")?;
    let max = number(path, "memory.limit_in_bytes")?;
    Ok(Memory {
        has_max: max.is_some(),
        max: limited(max),
        has_swap: sum.is_some(),
        swap: None,
        sum: limited(sum),
        low: None,
        use_bytes: number(path, "memory.usage_in_bytes")?.flatten(),
        oom_kills: keyed(path, "memory.oom_control", "oom_kill")?,
    })
}

/// Reads the cpu controller.
pub(crate) fn cpu(dir: &Dir) -> io::Result<Cpu> {
    let path = dir.path.as_path();
    if dir.unified {
        let weight = number(path, "cpu.weight")?.flatten();
        let weight = weight.and_then(|weight| u16::try_from(weight).ok());
        let Some(found) = text::read(&path.join("cpu.max"))? else {
            return Ok(Cpu {
                weight,
                ..Cpu::default()
            });
        };
        let (quota, period) = found
            .trim()
            .split_once(' ')
            .ok_or_else(|| bad("cpu.max", &found))?;
        let period: u64 = period.parse().map_err(|_| bad("cpu.max", &found))?;
        let quota = match quota {
            "max" => None,
            digits => Some(digits.parse().map_err(|_| bad("cpu.max", &found))?),
        };
        let quota = quota.map(|quota| (quota, period));
        return Ok(Cpu {
            quota,
            period: Some(period),
            weight,
        });
    }
    let period = number(path, "cpu.cfs_period_us")?.flatten();
    let quota = number(path, "cpu.cfs_quota_us")?.flatten();
    let shares = number(path, "cpu.shares")?.flatten();
    Ok(Cpu {
        quota: quota.zip(period),
        period,
        weight: shares.map(numbers::weight_of),
    })
}

/// Reads the cpuset controller, `None` when the group is not in it.
pub(crate) fn cpu_set(dir: &Dir) -> io::Result<Option<CpuSet>> {
    let list = |path: &Path, file: &str| -> io::Result<Option<Vec<(u32, u32)>>> {
        let Some(found) = text::read(&path.join(file))? else {
            return Ok(None);
        };
        numbers::ranges_of(&found)
            .map(Some)
            .ok_or_else(|| bad(file, &found))
    };
    let Some(own) = list(&dir.path, "cpuset.cpus")? else {
        return Ok(None);
    };
    let up = dir.path.parent().unwrap_or(&dir.mount);
    let file = if dir.unified {
        "cpuset.cpus.effective"
    } else {
        "cpuset.cpus"
    };
    Ok(Some(CpuSet {
        own,
        parent: list(up, file)?.unwrap_or_default(),
    }))
}

/// Reads the task limit: not there, no limit, or a limit.
pub(crate) fn pids_max(dir: &Dir) -> io::Result<Option<Option<u32>>> {
    let most = number(&dir.path, "pids.max")?;
    Ok(most.map(|most| most.map(|most| u32::try_from(most).unwrap_or(u32::MAX))))
}

/// Returns whether a process is in the group or below it, in any hierarchy.
pub(crate) fn is_populated(group: &Group) -> io::Result<bool> {
    for dir in &group.dirs {
        if dir.unified
            && let Some(1) = keyed(&dir.path, "cgroup.events", "populated")?
        {
            return Ok(true);
        }
        if dir.unified || !dir.exists()? {
            continue;
        }
        for below in super::subtree(&dir.path)? {
            if super::pids(&below)?.is_some_and(|pids| !pids.is_empty()) {
                return Ok(true);
            }
        }
    }
    Ok(false)
}

/// Returns whether a process is in the group's directory, in every hierarchy that has one.
pub(crate) fn holds(group: &Group, proc_cgroup: &str) -> io::Result<bool> {
    let paths: Vec<&str> = proc_cgroup
        .lines()
        .filter_map(|line| line.splitn(3, ':').nth(2))
        .collect();
    for dir in &group.dirs {
        if dir.exists()? {
            let below = format!("{}/", dir.proc_path);
            let is_in = proc_cgroup.lines().zip(&paths).any(|(line, path)| {
                line_is_of(line, dir) && (*path == dir.proc_path || path.starts_with(&below))
            });
            if !is_in {
                return Ok(false);
            }
        }
    }
    Ok(true)
}

fn line_is_of(line: &str, dir: &Dir) -> bool {
    let mut fields = line.splitn(3, ':');
    let (number, names) = (
        fields.next().unwrap_or_default(),
        fields.next().unwrap_or_default(),
    );
    if dir.unified {
        number == "0" && names.is_empty()
    } else {
        names.split(',').any(|name| dir.controllers.contains(name))
    }
}

/// Reads the whole group.
///
/// `recorded` are the limits as last asked for, `is_filtered` whether the device filter is
/// in place, where there is to be one.
pub(crate) fn observe(
    group: &Group,
    leaf: &str,
    recorded: Option<&Limits>,
    is_filtered: Result<bool, Gap>,
) -> Fact<Cgroup> {
    let mut any = false;
    let mut whole = true;
    for dir in &group.dirs {
        match dir.exists() {
            Ok(true) => any = true,
            Ok(false) => whole &= !dir.required,
            Err(err) => {
                return Fact::Unknown(gap(format!("look at {}", dir.path.display()), &err));
            }
        }
    }
    if !any {
        return Fact::Absent;
    }
    let populated = match is_populated(group) {
        Ok(populated) => populated,
        Err(err) => return Fact::Unknown(gap(format!("read who is in {leaf}"), &err)),
    };
    match is_filtered {
        Ok(is_filtered) => whole &= is_filtered,
        Err(gap) => return Fact::Unknown(gap),
    }
    let memory = group.site("memory").map(memory);
    let usage = usage(group, memory.as_ref().and_then(|read| read.as_ref().ok()));
    let oom_kills = memory
        .as_ref()
        .and_then(|read| read.as_ref().ok()?.oom_kills);
    let memory_peak = match oom_kills {
        Some(1..) => group.site("memory").and_then(memory_peak),
        Some(0) | None => None,
    };
    let limits = facts::limits(group, leaf, memory, recorded);
    Fact::Known(Cgroup {
        populated,
        whole,
        limits,
        usage,
        oom_kills,
        memory_peak,
    })
}

/// Returns the most that was ever charged to a group; version 2 has it since Linux 5.19.
pub(super) fn memory_peak(dir: &Dir) -> Option<u64> {
    let file = if dir.unified {
        "memory.peak"
    } else {
        "memory.max_usage_in_bytes"
    };
    number(&dir.path, file).ok().flatten().flatten()
}

fn usage(group: &Group, memory: Option<&Memory>) -> UsageObserved {
    let unified = group
        .unified()
        .map(|dir| keyed(&dir.path, "cpu.stat", "usage_usec"));
    let pids = group
        .site("pids")
        .map(|dir| number(&dir.path, "pids.current"));
    UsageObserved {
        memory_bytes: memory.and_then(|memory| memory.use_bytes),
        cpu_usec: unified.and_then(|read| read.ok().flatten()),
        pids: pids.and_then(|read| read.ok().flatten().flatten()),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use driver_api::StepError;
    use specs::units::{Bytes, MilliCpu};

    use super::super::limits;
    use super::*;

    /// A version 2 group made of plain files: what this machine cannot show.
    fn group(root: &Path, files: &[(&str, &str)]) -> Group {
        let path = root.join("up/web.1");
        std::fs::create_dir_all(&path).unwrap();
        for (name, content) in files {
            std::fs::write(path.join(name), content).unwrap();
        }
        std::fs::write(root.join("up/cpuset.cpus.effective"), "0-3\n").unwrap();
        let controllers = ["memory", "cpu", "cpuset", "pids"].map(str::to_owned);
        let dir = Dir {
            path,
            unified: true,
            controllers: BTreeSet::from(controllers),
            proc_path: "/up/web.1".to_owned(),
            mount: root.to_path_buf(),
            required: true,
        };
        Group { dirs: vec![dir] }
    }

    const FRESH: [(&str, &str); 11] = [
        ("cgroup.events", "populated 1\nfrozen 0\n"),
        ("memory.max", "max\n"),
        ("memory.swap.max", "max\n"),
        ("memory.low", "0\n"),
        ("memory.current", "8192\n"),
        ("memory.events", "low 0\noom 3\noom_kill 2\n"),
        ("cpu.max", "max 100000\n"),
        ("cpu.weight", "100\n"),
        ("cpuset.cpus", "\n"),
        ("pids.max", "max\n"),
        ("cpu.stat", "usage_usec 77\nuser_usec 1\n"),
    ];

    fn seen(group: &Group, recorded: Option<&Limits>) -> Cgroup {
        match observe(group, "web.1", recorded, Ok(true)) {
            Fact::Known(cgroup) => cgroup,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_fresh_version_2_group_is_not_limited() {
        let dir = tempfile::tempdir().unwrap();
        let seen = seen(&group(dir.path(), &FRESH), None);
        assert!(seen.populated && seen.whole);
        assert_eq!(seen.oom_kills, Some(2));
        assert_eq!(seen.usage.cpu_usec, Some(77));
        assert_eq!(seen.usage.memory_bytes, Some(8192));
        let limits = seen.limits;
        assert_eq!(limits.memory, Fact::Known(None));
        assert_eq!(limits.swap, Fact::Known(None));
        assert_eq!(limits.memory_low, Fact::Known(None));
        assert_eq!(limits.cpu, Fact::Known(None));
        assert_eq!(limits.cpu_weight, Fact::Known(None));
        assert_eq!(limits.cpu_set, Fact::Known(None));
        assert_eq!(limits.pids, Fact::Known(None));
    }

    #[test]
    fn version_2_limits_are_written_and_read_back_as_asked() {
        let dir = tempfile::tempdir().unwrap();
        let group = group(dir.path(), &FRESH);
        let wanted = Limits {
            memory: Some(Bytes(1_000_000)),
            swap: Bytes(5000),
            memory_low: Some(Bytes(100_000)),
            cpu: Some(MilliCpu(1500)),
            cpu_weight: Some(100),
            cpu_set: Some(vec![(0, 3)]),
            pids: Some(9),
        };
        limits::apply(&group, "web.1", &wanted).unwrap();
        let file = |name: &str| std::fs::read_to_string(group.dirs[0].path.join(name)).unwrap();
        assert_eq!(file("memory.max"), "999424");
        assert_eq!(file("memory.swap.max"), "4096");
        assert_eq!(file("cpu.max"), "150000 100000");
        assert_eq!(file("cpuset.cpus"), "0-3");
        let limits = seen(&group, Some(&wanted)).limits;
        assert_eq!(limits.memory, Fact::Known(Some(1_000_000)));
        assert_eq!(limits.swap, Fact::Known(Some(5000)));
        assert_eq!(limits.memory_low, Fact::Known(Some(100_000)));
        assert_eq!(limits.cpu, Fact::Known(Some(1500)));
        assert_eq!(limits.cpu_weight, Fact::Known(Some(100)));
        assert_eq!(limits.cpu_set, Fact::Known(Some(vec![(0, 3)])));
        // A record never hides a value that it would not have produced.
        std::fs::write(group.dirs[0].path.join("memory.max"), "4096").unwrap();
        assert_eq!(
            seen(&group, Some(&wanted)).limits.memory,
            Fact::Known(Some(4096))
        );
        limits::apply(&group, "web.1", &Limits::default()).unwrap();
        assert_eq!(file("memory.max"), "max");
        assert_eq!(file("cpu.max"), "max 100000");
        assert_eq!(file("cpuset.cpus"), "\n");
        assert_eq!(file("pids.max"), "max");
    }

    #[test]
    fn version_2_memory_is_not_limited_below_use() {
        let dir = tempfile::tempdir().unwrap();
        let group = group(dir.path(), &FRESH);
        std::fs::write(group.dirs[0].path.join("memory.current"), "10000000").unwrap();
        let wanted = Limits {
            memory: Some(Bytes(1 << 20)),
            ..Limits::default()
        };
        let refusal = limits::apply(&group, "web.1", &wanted).unwrap_err();
        let StepError::Retry(failure) = refusal else {
            panic!("{refusal:?}")
        };
        assert!(failure.cause.contains("10000000"), "{failure:?}");
        let max = std::fs::read_to_string(group.dirs[0].path.join("memory.max")).unwrap();
        assert_eq!(max, "max\n", "the kernel would have killed at once");
        let asked = std::fs::read_to_string(group.dirs[0].path.join("memory.reclaim")).unwrap();
        assert_eq!(asked, (10_000_000 - (1 << 20)).to_string());
    }

    #[test]
    fn a_file_that_is_missing_and_one_that_is_broken_differ() {
        let dir = tempfile::tempdir().unwrap();
        let group = group(dir.path(), &FRESH);
        let path = |name: &str| group.dirs[0].path.join(name);
        std::fs::remove_file(path("memory.swap.max")).unwrap();
        std::fs::write(path("pids.max"), "many").unwrap();
        std::fs::remove_file(path("cpu.max")).unwrap();
        std::fs::create_dir(path("cpu.max")).unwrap();
        let limits = seen(&group, None).limits;
        assert_eq!(limits.swap, Fact::Absent, "no such control");
        assert_eq!(limits.memory, Fact::Known(None));
        assert!(
            limits
                .pids
                .gap()
                .is_some_and(|gap| gap.why.contains("many"))
        );
        assert!(limits.cpu.gap().is_some());
        std::fs::remove_file(path("memory.max")).unwrap();
        assert_eq!(seen(&group, None).limits.memory, Fact::Absent);
        std::os::unix::fs::symlink("memory.max", path("memory.max")).unwrap();
        assert!(seen(&group, None).limits.memory.gap().is_some(), "a loop");
    }

    #[test]
    fn a_controller_that_is_not_there_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let mut group = group(dir.path(), &FRESH);
        group.dirs[0].controllers.remove("memory");
        assert_eq!(seen(&group, None).limits.memory, Fact::Absent);
        let wanted = Limits {
            memory: Some(Bytes(1 << 20)),
            ..Limits::default()
        };
        let refusal = limits::apply(&group, "web.1", &wanted).unwrap_err();
        let StepError::Terminal(failure) = refusal else {
            panic!("{refusal:?}")
        };
        assert!(failure.cause.contains("no memory cgroup controller"));
        assert!(failure.hint.is_some_and(|hint| hint.contains("+memory")));
    }

    #[test]
    fn membership_is_by_whole_names() {
        let dir = tempfile::tempdir().unwrap();
        let group = group(dir.path(), &FRESH);
        for (text, is_in) in [
            ("0::/up/web.1\n", true),
            ("1:pids:/x\n0::/up/web.1/nested\n", true),
            ("0::/up/web.10\n", false),
            ("1:pids:/up/web.1\n0::/\n", false),
            ("", false),
        ] {
            assert_eq!(holds(&group, text).unwrap(), is_in, "{text:?}");
        }
    }
}
