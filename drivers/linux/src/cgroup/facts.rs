//! Limits as facts: what was read, named as it was asked for.

use std::io;

use driver_api::{Fact, LimitsObserved};
use specs::desired::Limits;

use super::Group;
use super::numbers::{self, WEIGHT_DEFAULT};
use super::observe::{CpuSet, Memory, cpu, cpu_set, pids_max};
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
pub(super) fn limits(
    group: &Group,
    leaf: &str,
    memory_read: Option<io::Result<Memory>>,
    recorded: Option<&Limits>,
) -> LimitsObserved {
    let asked = |name: fn(&Limits) -> Option<u64>, read: Option<u64>| {
        // The recorded number, if the kernel would have stored it as what was read.
        let kept = recorded.and_then(name);
        if kept.map(numbers::whole_pages) == read {
            kept
        } else {
            read
        }
    };
    let is_unified = group.site("memory").is_some_and(|dir| dir.unified);
    let memory = fact(
        leaf,
        "the memory limits",
        memory_read.map(|read| read.map(Some)),
    );
    let max = memory
        .clone()
        .map(|memory| asked(|at| at.memory.map(|b| b.0), memory.max));
    let swap = match &memory {
        Fact::Known(memory) if !memory.has_swap => Fact::Absent,
        _ => memory.clone().map(|memory| {
            let read = if is_unified {
                memory.swap
            } else {
                memory
                    .sum
                    .map(|sum| sum.saturating_sub(memory.max.unwrap_or(0)))
            };
            swap_asked(recorded, &memory, read)
        }),
    };
    let memory_low = match &memory {
        Fact::Known(memory) if memory.low.is_none() => Fact::Absent,
        _ => memory.map(|memory| {
            asked(
                |at| at.memory_low.map(|b| b.0),
                memory.low.filter(|low| *low > 0),
            )
        }),
    };
    let cpu = fact(
        leaf,
        "the cpu limits",
        group.site("cpu").map(|dir| cpu(dir).map(Some)),
    );
    let cpu_weight = match &cpu {
        Fact::Known(cpu) if cpu.weight.is_none() => Fact::Absent,
        _ => cpu.clone().map(|cpu| {
            // "No weight" and the default read back alike; the record tells which was meant.
            let kept = recorded.and_then(|at| at.cpu_weight);
            cpu.weight
                .filter(|weight| *weight != WEIGHT_DEFAULT || kept == Some(WEIGHT_DEFAULT))
        }),
    };
    let cpu_set = group.site("cpuset").map(cpu_set);
    // A version 1 group that is not in the cpuset hierarchy is not limited by it.
    let cpu_set = cpu_set.map(|read| read.map(|set| Some(cpu_set_asked(set, recorded))));
    LimitsObserved {
        memory: max,
        swap,
        memory_low,
        cpu: cpu.map(|cpu| {
            cpu.quota
                .map(|(quota, period)| numbers::milli_of(quota, period))
        }),
        cpu_weight,
        cpu_set: fact(leaf, "the processors", cpu_set),
        pids: fact(leaf, "the task limit", group.site("pids").map(pids_max)),
    }
}

fn swap_asked(recorded: Option<&Limits>, memory: &Memory, read: Option<u64>) -> Option<u64> {
    let kept = recorded.filter(|at| at.memory.is_some())?;
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
