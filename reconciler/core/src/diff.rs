//! What differs between the wanted and the observed, one kind of thing at a time.

use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use driver_api::{DiskObserved, Fact, Gap, LimitsObserved, MountObserved, files_mark};
use specs::desired::{Desired, File, Limits, MountSource, OnChange, Process};
use specs::id::{Digest, ProcessName};
use specs::units::{Bytes, CpuSet, Inodes, MilliCpu, Signal};

use crate::plan::LimitDrift;

/// Page sizes of the kernels this runs on: a memory limit is rounded down to one
/// (`mm/page_counter.c`).
const PAGE_BYTES: [u64; 3] = [4096, 16384, 65536];

/// The kernel's weight when none was set (`cgroup-v2.rst`).
const CPU_WEIGHT_DEFAULT: u16 = 100;

/// How the limits of a cgroup compare with the wanted ones.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct LimitsDiff {
    /// Read back and different.
    pub(crate) differ: Vec<LimitDrift>,
    /// Wanted, and this host has no such control.
    pub(crate) impossible: Vec<&'static str>,
    /// Not limited on this host although the default would be; told, not fought.
    pub(crate) unenforced: Vec<&'static str>,
    /// Not readable.
    pub(crate) gaps: Vec<Gap>,
}

impl LimitsDiff {
    fn field<T: PartialEq>(
        &mut self,
        field: &'static str,
        seen: &Fact<Option<T>>,
        wanted: &Option<T>,
        same: impl Fn(&Option<T>, &Option<T>) -> bool,
        words: impl Fn(&T) -> String,
    ) {
        let say = |value: &Option<T>| value.as_ref().map_or_else(|| "none".into(), &words);
        match seen {
            Fact::Known(value) if same(value, wanted) => {}
            Fact::Known(value) => {
                self.differ.push(LimitDrift {
                    field,
                    from: say(value),
                    to: say(wanted),
                });
            }
            Fact::Absent if wanted.is_some() => self.impossible.push(field),
            Fact::Absent => {}
            Fact::Unknown(gap) => self.gaps.push(gap.clone()),
        }
    }
}

/// Compares what is enforced with what is wanted.
pub(crate) fn limits(wanted: &Limits, seen: &LimitsObserved) -> LimitsDiff {
    let mut diff = LimitsDiff::default();
    let plain = |value: &u64| Bytes(*value).to_string();
    let memory = wanted.memory.map(|bytes| bytes.0);
    diff.field("memory", &seen.memory, &memory, same_bytes, plain);
    if memory.is_some() {
        let swap = Some(wanted.swap.0);
        match &seen.swap {
            Fact::Absent if wanted.swap.0 == 0 => diff.unenforced.push("swap"),
            seen => diff.field("swap", seen, &swap, same_bytes, plain),
        }
    }
    let low = wanted
        .memory_low
        .map(|bytes| bytes.0)
        .filter(|bytes| *bytes > 0);
    let same_low = |a: &Option<u64>, b: &Option<u64>| same_bytes(&a.filter(|v| *v > 0), b);
    diff.field("memoryLow", &seen.memory_low, &low, same_low, plain);
    let cpu = wanted.cpu.map(|cpu| cpu.0);
    diff.field("cpu", &seen.cpu, &cpu, Option::eq, |value| {
        MilliCpu(*value).to_string()
    });
    let same_weight = |a: &Option<u16>, b: &Option<u16>| {
        a.unwrap_or(CPU_WEIGHT_DEFAULT) == b.unwrap_or(CPU_WEIGHT_DEFAULT)
    };
    let weight = wanted.cpu_weight;
    diff.field(
        "cpuWeight",
        &seen.cpu_weight,
        &weight,
        same_weight,
        u16::to_string,
    );
    let cpu_set = &wanted.cpu_set;
    diff.field("cpuSet", &seen.cpu_set, cpu_set, Option::eq, |set| {
        CpuSet(set.clone()).to_string()
    });
    diff.field("pids", &seen.pids, &wanted.pids, Option::eq, u32::to_string);
    diff
}

/// *Law:* unlimited and a limit of 0 are different things.
fn same_bytes(seen: &Option<u64>, wanted: &Option<u64>) -> bool {
    match (seen, wanted) {
        (None, None) => true,
        (Some(seen), Some(wanted)) => {
            seen == wanted || PAGE_BYTES.iter().any(|page| *seen == wanted / page * page)
        }
        (None, Some(_)) | (Some(_), None) => false,
    }
}

/// Compares what limits the writes to a root with what shall.
pub(crate) fn disk(desired: &Desired, seen: &Fact<DiskObserved>) -> LimitsDiff {
    let mut diff = LimitsDiff::default();
    let Some((bytes, bound)) = desired.disk.zip(desired.container.rootfs.bound) else {
        // What a persistent root was made with stays.
        return diff;
    };
    let plain = |value: &u64| Bytes(*value).to_string();
    let seen_bytes = seen.clone().map(|seen| Some(seen.bytes));
    diff.field("disk.bytes", &seen_bytes, &Some(bytes.0), same_bytes, plain);
    let Fact::Known(seen) = seen else {
        return diff;
    };
    let wanted = bound.inodes.map(|inodes| inodes.0);
    let holds = |seen_count: &Option<u64>, wanted: &Option<u64>| match (seen_count, wanted) {
        (_, None) => true,
        (None, Some(_)) => false,
        (Some(count), Some(wanted)) => {
            (*wanted..=wanted.saturating_add(seen.inodes_grain)).contains(count)
        }
    };
    let count = |value: &u64| Inodes(*value).to_string();
    let seen_inodes = Fact::Known(seen.inodes);
    diff.field("disk.inodes", &seen_inodes, &wanted, holds, count);
    diff
}

/// How the mounts of a container compare with the wanted ones.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct MountsDiff {
    /// Paths with nothing mounted.
    pub(crate) lost: Vec<String>,
    /// Paths whose read-only flag differs, with the wanted one.
    pub(crate) mode: Vec<(String, bool)>,
    /// Differences that are told and left alone.
    pub(crate) notes: Vec<String>,
}

/// Compares a container's mount table with the wanted mounts.
pub(crate) fn mounts(desired: &Desired, seen: &BTreeMap<String, MountObserved>) -> MountsDiff {
    let mut diff = MountsDiff::default();
    let wanted = &desired.container.mounts;
    for mount in wanted {
        let path = &mount.path;
        let expected = wanted.iter().filter(|other| other.path == *path).count();
        let Some(found) = seen.get(path) else {
            diff.lost.push(path.clone());
            continue;
        };
        if usize::try_from(found.stacked).is_ok_and(|stacked| stacked > expected) {
            // What lies on top is not ours to unmount, and its flags say nothing of ours.
            diff.notes
                .push(format!("something was mounted over {path}"));
            continue;
        }
        if matches!(mount.source, MountSource::Tmpfs { .. }) && found.fs_type != "tmpfs" {
            diff.notes
                .push(format!("{path} is {} instead of tmpfs", found.fs_type));
            continue;
        }
        if found.read_only != mount.read_only {
            diff.mode.push((path.clone(), mount.read_only));
        }
    }
    diff
}

/// Returns the paths of files that do not hold what they shall, by whether they are of a
/// kind that processes restart for.
pub(crate) fn files(desired: &Desired, seen: &BTreeMap<String, Digest>) -> FilesDiff {
    let differs = |file: &&File| seen.get(&file.path) != Some(&file.digest());
    let paths: Vec<&File> = desired.files.iter().filter(differs).collect();
    FilesDiff {
        restart: paths.iter().any(|file| file.on_change == OnChange::Restart),
        paths: paths.iter().map(|file| file.path.clone()).collect(),
    }
}

/// Files that differ.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct FilesDiff {
    /// Their paths.
    pub(crate) paths: Vec<String>,
    /// Whether one of them is of a kind that processes restart for.
    pub(crate) restart: bool,
}

/// The digests of a desired container, computed once for a plan.
#[derive(Clone, Debug)]
pub(crate) struct Digests {
    pub(crate) container: Digest,
    pub(crate) files: Digest,
    pub(crate) processes: BTreeMap<ProcessName, Digest>,
    /// Signals that announce files; empty if there are no such files.
    pub(crate) signals: Vec<Signal>,
}

impl Digests {
    pub(crate) fn of(desired: &Desired) -> Self {
        let digest = |(name, process): (&ProcessName, &Process)| (name.clone(), process.digest());
        let mut signals: Vec<Signal> = desired
            .files
            .iter()
            .filter_map(|file| match file.on_change {
                OnChange::Signal(signal) => Some(signal),
                OnChange::Restart | OnChange::Nothing => None,
            })
            .collect();
        signals.sort_unstable();
        signals.dedup();
        Self {
            container: desired.container.digest(),
            files: files_mark(desired),
            processes: desired.processes.iter().map(digest).collect(),
            signals,
        }
    }

    /// Returns whether a process must be restarted for its files.
    pub(crate) fn restart_due(&self, mark: &Digest) -> bool {
        half(mark, 0) != half(&self.files, 0)
    }

    /// Returns whether a process must be told of its files by a signal.
    pub(crate) fn signal_due(&self, mark: &Digest) -> bool {
        !self.signals.is_empty() && half(mark, 8) != half(&self.files, 8)
    }
}

fn half(mark: &Digest, from: usize) -> Vec<u8> {
    mark.0.iter().skip(from).take(8).copied().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::{desired, enforced};

    #[track_caller]
    fn check(wanted: &str, seen: impl Fn(&mut LimitsObserved), differ: &[&str]) {
        let desired = desired(1, &format!("\n  limits: {{{wanted}}}"));
        let mut observed = enforced(&desired.limits);
        seen(&mut observed);
        let diff = limits(&desired.limits, &observed);
        let fields: Vec<String> = diff
            .differ
            .iter()
            .map(|limit| format!("{} {} {}", limit.field, limit.from, limit.to))
            .collect();
        assert_eq!(fields, differ);
    }

    #[test]
    fn unlimited_and_a_limit_of_nothing_are_different() {
        check(
            "memory: 64Mi",
            |seen| seen.memory = Fact::Known(None),
            &["memory none 64Mi"],
        );
        check(
            "memory: 64Mi",
            |seen| seen.memory = Fact::Known(Some(0)),
            &["memory 0 64Mi"],
        );
        check(
            "memory: 64Mi",
            |seen| seen.swap = Fact::Known(None),
            &["swap none 0"],
        );
        check(
            "pids: 5",
            |seen| seen.pids = Fact::Known(None),
            &["pids none 5"],
        );
        check(
            "cpu: 500m",
            |seen| seen.cpu = Fact::Known(None),
            &["cpu none 500m"],
        );
        check(
            "cpu: 500m",
            |seen| seen.memory = Fact::Known(Some(0)),
            &["memory 0 none"],
        );
    }

    #[test]
    fn what_the_kernel_rounds_or_calls_its_default_is_no_difference() {
        let page = |seen: &mut LimitsObserved| seen.memory = Fact::Known(Some(1_998_848));
        check("memory: 2000000B", page, &[]);
        let below = |seen: &mut LimitsObserved| seen.memory = Fact::Known(Some(1_994_752));
        check("memory: 2000000B", below, &["memory 1948Ki 2M"]);
        check(
            "pids: 5",
            |seen| seen.cpu_weight = Fact::Known(Some(100)),
            &[],
        );
        check(
            "pids: 5",
            |seen| seen.memory_low = Fact::Known(Some(0)),
            &[],
        );
        check("pids: 5", |seen| seen.swap = Fact::Known(Some(7)), &[]);
        check("cpuSet: '0-1,3'", |_| (), &[]);
    }

    #[test]
    fn each_limit_that_was_changed_is_named() {
        let all = "memory: 64Mi, swap: 1Mi, memoryLow: 1Mi, cpu: 1500m, cpuWeight: 7, \
                   cpuSet: '0-1', pids: 9";
        let changed = |seen: &mut LimitsObserved| {
            seen.memory = Fact::Known(Some(4096));
            seen.swap = Fact::Known(Some(0));
            seen.memory_low = Fact::Known(None);
            seen.cpu = Fact::Known(Some(10));
            seen.cpu_weight = Fact::Known(None);
            seen.cpu_set = Fact::Known(Some(Vec::from([(0, 0), (2, 3)])));
            seen.pids = Fact::Known(Some(0));
        };
        let differ = [
            "memory 4Ki 64Mi",
            "swap 0 1Mi",
            "memoryLow none 1Mi",
            "cpu 10m 1500m",
            "cpuWeight none 7",
            "cpuSet 0,2-3 0-1",
            "pids 0 9",
        ];
        check(all, changed, &differ);
    }

    #[test]
    fn a_disk_differs_by_bytes_and_by_more_inodes_than_rounding_makes() {
        #[track_caller]
        fn check(wanted: &str, seen: impl Fn(&mut DiskObserved), differ: &[&str]) {
            let body = format!("\n  limits: {{disk: {{{wanted}}}}}");
            let desired = desired(1, &body);
            let fact = crate::fixture::disk(&desired).map(|mut disk| {
                seen(&mut disk);
                disk
            });
            let diff = disk(&desired, &fact);
            let words = |limit: &LimitDrift| format!("{} {} {}", limit.field, limit.from, limit.to);
            let fields: Vec<String> = diff.differ.iter().map(words).collect();
            assert_eq!(fields, differ);
        }
        check("bytes: 32Mi", |_| (), &[]);
        check("bytes: 32Mi, inodes: 500", |_| (), &[]);
        check("bytes: 33554433B", |seen| seen.bytes = 32 << 20, &[]);
        let small = |seen: &mut DiskObserved| seen.bytes = 16 << 20;
        check("bytes: 32Mi", small, &["disk.bytes 16Mi 32Mi"]);
        let many = |seen: &mut DiskObserved| seen.inodes = Some(517);
        check("bytes: 32Mi, inodes: 500", many, &["disk.inodes 517 500"]);
        check("bytes: 32Mi", many, &[]);
        let few = |seen: &mut DiskObserved| seen.inodes = Some(499);
        check("bytes: 32Mi, inodes: 500", few, &["disk.inodes 499 500"]);
    }

    #[test]
    fn a_root_that_was_made_without_a_limit_has_none_to_change() {
        let wanted = desired(1, "\n  limits: {disk: {bytes: 32Mi}}");
        let diff = disk(&wanted, &Fact::Absent);
        assert_eq!((diff.impossible.len(), diff.differ.len()), (1, 0));
        // One that is wanted no more stays what it was made as.
        let seen = crate::fixture::disk(&wanted);
        assert_eq!(disk(&desired(1, ""), &seen), LimitsDiff::default());
    }

    #[test]
    fn a_mark_tells_the_two_kinds_of_files_apart() {
        let with = |restart: &str, signal: &str| {
            let body = format!(
                "\n  files: [{{path: /r, content: {restart}}}, \
                 {{path: /s, content: {signal}, onChange: 'signal:HUP'}}]"
            );
            Digests::of(&desired(1, &body))
        };
        let now = with("a", "a");
        let due = |before: &Digests| {
            (
                now.restart_due(&before.files),
                now.signal_due(&before.files),
            )
        };
        assert_eq!(due(&with("a", "a")), (false, false));
        assert_eq!(due(&with("b", "a")), (true, false));
        assert_eq!(due(&with("a", "b")), (false, true));
        assert_eq!(due(&with("b", "b")), (true, true));
    }
}
