//! The limits as they were last asked for, kept in the runtime directory.
//!
//! The kernel rounds (whole pages) and has no word for some differences ("weight 100" and
//! "no weight" read back alike). The record only chooses between names for a value that was
//! read: a value that the recorded limits would not have produced is reported as read.

use std::fmt::Write as _;
use std::io;
use std::path::Path;

use specs::desired::Limits;
use specs::units::{Bytes, MilliCpu};

use super::numbers::{list_of, ranges_of};
use crate::{files, text};

/// Name of the file in the runtime directory.
pub(crate) const FILE: &str = "limits";

/// Returns the text form.
pub(crate) fn print(limits: &Limits) -> String {
    let mut out = String::new();
    let mut line = |name: &str, value: Option<String>| {
        if let Some(value) = value {
            // Writing to a string cannot fail.
            let _infallible = writeln!(out, "{name} {value}");
        }
    };
    line("memory", limits.memory.map(|bytes| bytes.0.to_string()));
    line("swap", Some(limits.swap.0.to_string()));
    line(
        "memory_low",
        limits.memory_low.map(|bytes| bytes.0.to_string()),
    );
    line("cpu", limits.cpu.map(|milli| milli.0.to_string()));
    line(
        "cpu_weight",
        limits.cpu_weight.map(|weight| weight.to_string()),
    );
    line("cpu_set", limits.cpu_set.as_deref().map(list_of));
    line("pids", limits.pids.map(|most| most.to_string()));
    out
}

/// Parses the text form; `None` if it is not whole.
pub(crate) fn parse(text: &str) -> Option<Limits> {
    let mut limits = Limits::default();
    for line in text.lines() {
        let (name, value) = line.split_once(' ')?;
        match name {
            "memory" => limits.memory = Some(Bytes(value.parse().ok()?)),
            "swap" => limits.swap = Bytes(value.parse().ok()?),
            "memory_low" => limits.memory_low = Some(Bytes(value.parse().ok()?)),
            "cpu" => limits.cpu = Some(MilliCpu(value.parse().ok()?)),
            "cpu_weight" => limits.cpu_weight = Some(value.parse().ok()?),
            "cpu_set" => limits.cpu_set = Some(ranges_of(value)?),
            "pids" => limits.pids = Some(value.parse().ok()?),
            _ => return None,
        }
    }
    Some(limits)
}

/// Keeps the limits; a missing runtime directory is no error, since the record only names.
pub(crate) fn keep(directory: &Path, limits: &Limits) -> io::Result<()> {
    match files::replace(directory, FILE, print(limits).as_bytes()) {
        Err(err) if err.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

/// Returns the kept limits, `None` when there are none or they can't be used.
pub(crate) fn read(directory: &Path) -> Option<Limits> {
    parse(&text::read(&directory.join(FILE)).ok()??)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_survive_their_record() {
        let full = Limits {
            memory: Some(Bytes(1_000_000)),
            swap: Bytes(5),
            memory_low: Some(Bytes(7)),
            cpu: Some(MilliCpu(1500)),
            cpu_weight: Some(100),
            cpu_set: Some(vec![(0, 1), (3, 3)]),
            pids: Some(9),
        };
        for limits in [full, Limits::default()] {
            assert_eq!(parse(&print(&limits)), Some(limits));
        }
        assert_eq!(parse("memory x\n"), None);
        assert_eq!(parse("memor"), None);
    }
}
