//! Writes limits, each only when it differs, through `cgroups-rs`.

use std::path::{Path, PathBuf};

use cgroups_rs::fs::cpu::CpuController;
use cgroups_rs::fs::cpuset::CpuSetController;
use cgroups_rs::fs::memory::MemController;
use cgroups_rs::fs::pid::PidController;
use cgroups_rs::fs::{Controller as _, MaxValue};
use driver_api::{StepError, StepFailure};
use specs::desired::Limits;

use super::numbers::{self, WEIGHT_DEFAULT};
use super::observe::{self, Cpu, Memory};
use super::{Dir, Group};
use crate::error::{During as _, failed, terminal};
use crate::text;

/// What `memory.limit_in_bytes` and its like take for "not limited".
const NO_LIMIT: i64 = -1;

/// Brings a group's limits to these values.
///
/// # Errors
/// `Terminal` when a limit is asked for that this host has no controller for, or that the
/// kernel refuses; `Retry` with the figures when a memory limit would fall below what is in
/// use: it is never forced through by killing.
pub(crate) fn apply(group: &Group, leaf: &str, limits: &Limits) -> Result<(), StepError> {
    check_controllers(group, leaf, limits)?;
    if let Some(dir) = group.site("memory") {
        apply_memory(dir, leaf, limits)?;
    }
    if let Some(dir) = group.site("cpu") {
        apply_cpu(dir, leaf, limits)?;
    }
    if let Some(dir) = group.site("cpuset") {
        apply_cpu_set(dir, leaf, limits)?;
    }
    if let Some(dir) = group.site("pids") {
        apply_pids(dir, leaf, limits)?;
    }
    Ok(())
}

/// Refuses what cannot be enforced here.
pub(crate) fn check_controllers(
    group: &Group,
    leaf: &str,
    limits: &Limits,
) -> Result<(), StepError> {
    let asked = [
        ("memory", "memory", limits.memory.is_some()),
        ("memoryLow", "memory", limits.memory_low.is_some()),
        ("cpu", "cpu", limits.cpu.is_some()),
        ("cpuWeight", "cpu", limits.cpu_weight.is_some()),
        ("cpuSet", "cpuset", limits.cpu_set.is_some()),
        ("pids", "pids", limits.pids.is_some()),
    ];
    for (limit, controller, is_asked) in asked {
        if is_asked && group.site(controller).is_none() {
            return Err(terminal(
                format!("enforce limits.{limit} of {leaf}"),
                format!("this host has no {controller} cgroup controller"),
                format!(
                    "mount or delegate the {controller} controller (on version 2, `+{controller}` \
                     in cgroup.subtree_control of every parent), or drop limits.{limit}"
                ),
            ));
        }
    }
    if limits.memory_low.is_some() && group.site("memory").is_some_and(|dir| !dir.unified) {
        return Err(terminal(
            format!("enforce limits.memoryLow of {leaf}"),
            "the memory controller is of cgroup version 1, which cannot protect memory",
            "boot the host with cgroup version 2, or drop limits.memoryLow",
        ));
    }
    Ok(())
}

fn signed(bytes: Option<u64>) -> i64 {
    bytes.map_or(NO_LIMIT, |bytes| i64::try_from(bytes).unwrap_or(i64::MAX))
}

fn apply_memory(dir: &Dir, leaf: &str, limits: &Limits) -> Result<(), StepError> {
    let now = observe::memory(dir).during(|| format!("read the memory limits of {leaf}"))?;
    let want = limits.memory.map(|bytes| numbers::whole_pages(bytes.0));
    let controller = MemController::new(dir.path.clone(), dir.mount.clone(), dir.unified);
    if dir.unified {
        return apply_memory_v2(&controller, dir, leaf, limits, &now);
    }
    let sum = limits
        .memory
        .map(|bytes| bytes.0.saturating_add(limits.swap.0));
    let sum = sum.map(numbers::whole_pages);
    check_swap(leaf, limits, now.has_swap)?;
    let has_swap = now.has_swap;
    let set_memory = || {
        if now.max == want {
            Ok(())
        } else {
            controller.set_limit(signed(want))
        }
    };
    let set_sum = || {
        if !has_swap || now.sum == sum {
            Ok(())
        } else {
            controller.set_memswap_limit(signed(sum))
        }
    };
    // The kernel refuses a memory limit above that of memory and swap together, so the order
    // follows from where memory goes (`memory-v1.rst`).
    let sum_first = match (want, now.sum) {
        (_, None) => false,
        (None, Some(_)) => true,
        (Some(want), Some(sum_now)) => want > sum_now,
    };
    let outcome = if sum_first {
        set_sum().and_then(|()| set_memory())
    } else {
        set_memory().and_then(|()| set_sum())
    };
    outcome.map_err(|err| match crate::error::errno_of(&err) {
        Some(libc::EBUSY) => in_use(leaf, want.unwrap_or(0), now.use_bytes),
        _ => failed(format!("set limits.memory of {leaf}"), &err),
    })
}

fn apply_memory_v2(
    controller: &MemController,
    dir: &Dir,
    leaf: &str,
    limits: &Limits,
    now: &Memory,
) -> Result<(), StepError> {
    check_swap(leaf, limits, now.has_swap)?;
    let swap = limits.memory.map(|_| numbers::whole_pages(limits.swap.0));
    if now.has_swap && now.swap != swap {
        controller
            .set_memswap_limit(signed(swap))
            .during(|| format!("set limits.swap of {leaf}"))?;
    }
    let want = limits.memory.map(|bytes| numbers::whole_pages(bytes.0));
    if now.max != want {
        if let Some(want) = want {
            make_room(dir, leaf, want, now.use_bytes)?;
        }
        controller
            .set_limit(signed(want))
            .during(|| format!("set limits.memory of {leaf}"))?;
    }
    let low = limits
        .memory_low
        .map_or(0, |bytes| numbers::whole_pages(bytes.0));
    if now.low != Some(low) && now.low.is_some() {
        controller
            .set_soft_limit(signed(Some(low)))
            .during(|| format!("set limits.memoryLow of {leaf}"))?;
    }
    Ok(())
}

/// Version 2 kills at once when `memory.max` is set below use, so room is made first by
/// `memory.reclaim` (Linux 5.19), and the limit is refused while there is none.
fn make_room(dir: &Dir, leaf: &str, want: u64, in_use_bytes: Option<u64>) -> Result<(), StepError> {
    let over = in_use_bytes.unwrap_or(0).saturating_sub(want);
    if over == 0 {
        return Ok(());
    }
    // EAGAIN: not all of it could be reclaimed; what counts is what is in use afterwards.
    let _tried = std::fs::write(dir.path.join("memory.reclaim"), over.to_string());
    let now = observe::memory(dir).during(|| format!("read the memory use of {leaf}"))?;
    match now.use_bytes {
        Some(bytes) if bytes > want => Err(in_use(leaf, want, Some(bytes))),
        _ => Ok(()),
    }
}

fn in_use(leaf: &str, want: u64, in_use_bytes: Option<u64>) -> StepError {
    let used = in_use_bytes.map_or_else(|| "more".to_owned(), |bytes| format!("{bytes} bytes"));
    StepError::Retry(StepFailure {
        what: format!("set limits.memory of {leaf} to {want} bytes"),
        cause: format!("{used} are in use and cannot be reclaimed"),
        errno: Some(libc::EBUSY),
        hint: Some("let the container use less, restart it, or choose a higher limit".to_owned()),
    })
}

/// A host that swaps but does not count swap per group would let a container use memory
/// beyond its limit.
fn check_swap(leaf: &str, limits: &Limits, has_control: bool) -> Result<(), StepError> {
    if has_control || limits.memory.is_none() {
        return Ok(());
    }
    let table = text::read(Path::new("/proc/swaps")).during(|| "read /proc/swaps".to_owned())?;
    let host_swaps = table.is_some_and(|table| table.lines().count() > 1);
    if !host_swaps {
        return Ok(());
    }
    Err(terminal(
        format!("enforce limits.swap of {leaf}"),
        "the host swaps, and its kernel does not count swap per cgroup",
        "boot with swapaccount=1, or turn swap off",
    ))
}

fn apply_cpu(dir: &Dir, leaf: &str, limits: &Limits) -> Result<(), StepError> {
    let now = observe::cpu(dir).during(|| format!("read the cpu limits of {leaf}"))?;
    let controller = CpuController::new(dir.path.clone(), dir.mount.clone(), dir.unified);
    apply_quota(&controller, dir, leaf, limits, &now)?;
    let weight = limits.cpu_weight.unwrap_or(WEIGHT_DEFAULT);
    if now.weight != Some(weight) {
        let raw = if dir.unified {
            u64::from(weight)
        } else {
            numbers::shares_of(weight)
        };
        controller
            .set_shares(raw)
            .during(|| format!("set limits.cpuWeight of {leaf}"))?;
    }
    Ok(())
}

fn apply_quota(
    controller: &CpuController,
    dir: &Dir,
    leaf: &str,
    limits: &Limits,
    now: &Cpu,
) -> Result<(), StepError> {
    let want = limits.cpu.map(|milli| numbers::quota_of(milli.0));
    if now.quota == want {
        return Ok(());
    }
    let quota = signed(want.map(|(quota, _)| quota));
    let period = want.map_or(numbers::PERIOD_USEC, |(_, period)| period);
    let outcome = if dir.unified {
        controller.set_cfs_quota_and_period(Some(quota), Some(period))
    } else if now.period == Some(period) {
        controller.set_cfs_quota(quota)
    } else {
        // Two files: without a quota any period is allowed, so no mix of old and new is.
        controller
            .set_cfs_quota(NO_LIMIT)
            .and_then(|()| controller.set_cfs_period(period))
            .and_then(|()| controller.set_cfs_quota(quota))
    };
    outcome.during(|| format!("set limits.cpu of {leaf}"))
}

fn apply_cpu_set(dir: &Dir, leaf: &str, limits: &Limits) -> Result<(), StepError> {
    let what = || format!("set limits.cpuSet of {leaf}");
    let now = observe::cpu_set(dir).during(|| format!("read the processors of {leaf}"))?;
    let Some(now) = now else {
        // Not joined: there is nothing to set back, and whoever asks makes it first.
        return match limits.cpu_set {
            None => Ok(()),
            Some(_) => Err(crate::error::retry(what(), "the cpuset group is not there")),
        };
    };
    let controller = CpuSetController::new(dir.path.clone(), dir.mount.clone(), dir.unified);
    match &limits.cpu_set {
        Some(ranges) if *ranges == now.own => Ok(()),
        Some(ranges) => {
            let list = numbers::list_of(ranges);
            controller.set_cpus(&list).map_err(|err| {
                terminal(
                    what(),
                    format!("{}: {}", list, crate::error::words(&err)),
                    format!(
                        "choose among the processors {}",
                        numbers::list_of(&now.parent)
                    ),
                )
            })
        }
        None if dir.unified && now.own.is_empty() => Ok(()),
        None if dir.unified => std::fs::write(dir.path.join("cpuset.cpus"), "\n").during(what),
        None if now.own == now.parent => Ok(()),
        None => controller
            .set_cpus(&numbers::list_of(&now.parent))
            .during(what),
    }
}

fn apply_pids(dir: &Dir, leaf: &str, limits: &Limits) -> Result<(), StepError> {
    let now = observe::pids_max(dir).during(|| format!("read the task limit of {leaf}"))?;
    if now == Some(limits.pids) {
        return Ok(());
    }
    let most = limits
        .pids
        .map_or(MaxValue::Max, |most| MaxValue::Value(i64::from(most)));
    PidController::new(dir.path.clone(), dir.mount.clone(), dir.unified)
        .set_pid_max(most)
        .during(|| format!("set limits.pids of {leaf}"))
}

/// Makes one directory with its parents, and on a version 1 cpuset copies processors and
/// memory nodes down, without which no task may join.
pub(crate) fn make_directory(dir: &Dir, path: PathBuf) -> Result<(), StepError> {
    let what = || format!("make the cgroup {}", path.display());
    if dir.controllers.contains("cpuset") && !dir.unified {
        CpuSetController::new(path.clone(), dir.mount.clone(), false)
            .create()
            .during(what)?;
        // The crate only logs when copying fails, so the result is looked at.
        for file in ["cpuset.cpus", "cpuset.mems"] {
            let copied = text::read(&path.join(file)).during(what)?;
            if copied.is_none_or(|list| list.trim().is_empty()) {
                return Err(crate::error::retry(what(), format!("{file} stayed empty")));
            }
        }
        return Ok(());
    }
    MemController::new(path.clone(), dir.mount.clone(), dir.unified)
        .create()
        .during(what)
}
