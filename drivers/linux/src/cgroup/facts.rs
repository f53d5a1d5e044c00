//! Limits as facts: what was read, named as it was asked for.

use std::io;

use driver_api::{Fact, LimitsObserved};
use specs::desired::Limits;
use specs::units::Bytes;

use super::numbers::{self, WEIGHT_DEFAULT};
use super::observe::{Cpu, CpuSet, Memory, cpu, cpu_set, pids_max};
use super::{Dir, Group};
use crate::error::gap;

/// One read, as a fact: a missing controller or file is [`Fact::Absent`].
fn fact<T>(leaf: &str, name: &str, read: Option<io::Result<Option<T>>>) -> Fact<T> {
    match read {
        None | Some(Ok(None)) => Fact::Absent,
        Some(Ok(Some(value))) => Fact::Known(value),
        Some(Err(err)) => Fact::Unknown(gap(format!("read {name} of {leaf}"), &err)),
    }
}

/// Returns the limits of a group as facts, in the words they were asked for in.
///
/// A directory that is not there limits nobody, which is known; a file that is not in one
/// that is there means that this host has no such control.
pub(super) fn limits(
    group: &Group,
    leaf: &str,
    memory_read: Option<io::Result<Memory>>,
    recorded: Option<&Limits>,
) -> LimitsObserved {
    let memory = fact(
        leaf,
        "the memory limits",
        memory_read.map(|read| read.map(Some)),
    );
    let memory = memory.map(|memory| match group.site("memory") {
        Some(dir) if is_missing(dir) => Memory {
            has_max: true,
            has_swap: true,
            low: dir.unified.then_some(0),
            ..Memory::default()
        },
        _ => memory,
    });
    let cpu_read = group.site("cpu").map(|dir| {
        if is_missing(dir) {
            let (period, weight) = (Some(numbers::PERIOD_USEC), Some(WEIGHT_DEFAULT));
            return Ok(Some(Cpu {
                quota: None,
                period,
                weight,
            }));
        }
        cpu(dir).map(Some)
    });
    let cpu = fact(leaf, "the cpu limits", cpu_read);
    // A version 1 group that is not in the cpuset hierarchy is not limited by it.
    let cpu_set = group.site("cpuset").map(cpu_set);
    let cpu_set = cpu_set.map(|read| read.map(|set| Some(cpu_set_asked(set, recorded))));
    let pids = group.site("pids").map(|dir| {
        if is_missing(dir) {
            Ok(Some(None))
        } else {
            pids_max(dir)
        }
    });
    LimitsObserved {
        memory: if_there(&memory, |memory| {
            let read = asked(recorded.and_then(|at| at.memory), memory.max);
            memory.has_max.then_some(read)
        }),
        swap: if_there(&memory, |memory| {
            memory.has_swap.then(|| swap_asked(recorded, memory))
        }),
        memory_low: if_there(&memory, |memory| {
            let low = memory.low?;
            Some(asked(
                recorded.and_then(|at| at.memory_low),
                Some(low).filter(|low| *low > 0),
            ))
        }),
        cpu: if_there(&cpu, |cpu| {
            cpu.period?;
            Some(
                cpu.quota
                    .map(|(quota, period)| numbers::milli_of(quota, period)),
            )
        }),
        cpu_weight: if_there(&cpu, |cpu| {
            let weight = cpu.weight?;
            // "No weight" and the default read back alike; the record tells which was meant.
            let is_meant = recorded.and_then(|at| at.cpu_weight) == Some(WEIGHT_DEFAULT);
            Some((weight != WEIGHT_DEFAULT || is_meant).then_some(weight))
        }),
        cpu_set: fact(leaf, "the processors", cpu_set),
        pids: fact(leaf, "the task limit", pids),
    }
}

fn is_missing(dir: &Dir) -> bool {
    matches!(dir.exists(), Ok(false))
}

/// Takes one control out of a controller's fact; `None` is "no such control".
fn if_there<T, U>(read: &Fact<T>, take: impl FnOnce(&T) -> Option<U>) -> Fact<U> {
    match read {
        Fact::Known(value) => take(value).map_or(Fact::Absent, Fact::Known),
        Fact::Absent => Fact::Absent,
        Fact::Unknown(gap) => Fact::Unknown(gap.clone()),
    }
}

/// The recorded size, if the kernel would have stored it as what was read.
fn asked(recorded: Option<Bytes>, read: Option<u64>) -> Option<u64> {
    let kept = recorded.map(|bytes| bytes.0);
    if kept.map(numbers::whole_pages) == read {
        kept
    } else {
        read
    }
}

fn swap_asked(recorded: Option<&Limits>, memory: &Memory) -> Option<u64> {
    let sum_read = memory
        .sum
        .map(|sum| sum.saturating_sub(memory.max.unwrap_or(0)));
    let read = memory.swap.or(sum_read);
    let Some(kept) = recorded.filter(|at| at.memory.is_some()) else {
        return read;
    };
    let sum = kept.memory.map(|bytes| bytes.0.saturating_add(kept.swap.0));
    let is_kept = match memory.sum {
        Some(_) => {
            memory.sum == sum.map(numbers::whole_pages)
                && memory.max == kept.memory.map(|bytes| numbers::whole_pages(bytes.0))
        }
        None => read == Some(numbers::whole_pages(kept.swap.0)),
    };
    if is_kept { Some(kept.swap.0) } else { read }
}

fn cpu_set_asked(set: Option<CpuSet>, recorded: Option<&Limits>) -> Option<Vec<(u32, u32)>> {
    let set = set?;
    let kept = recorded.and_then(|at| at.cpu_set.as_ref());
    if kept == Some(&set.own) {
        return Some(set.own);
    }
    (!set.own.is_empty() && set.own != set.parent).then_some(set.own)
}
