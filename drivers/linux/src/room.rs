//! How much this host has of what containers share.

use std::path::Path;

use rustix::fs::statvfs;
use specs::capacity::Stock;

use crate::host::LinuxHost;
use crate::text;

/// What a host has in all; what cannot be read is none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Room {
    /// Bytes of memory, swap not included.
    pub memory_bytes: Option<u64>,
    /// Thousandths of a processor that this daemon may use.
    pub cpu_milli: Option<u64>,
    /// Most tasks of the whole host.
    pub pids: Option<u64>,
    /// Bytes of the state directory's file system.
    pub disk: Option<Stock>,
}

impl LinuxHost {
    /// Returns how much this host has.
    pub fn room(&self) -> Room {
        let processors = std::thread::available_parallelism().ok();
        let tasks =
            ["pid_max", "threads-max"].map(|name| number(&format!("/proc/sys/kernel/{name}")));
        Room {
            memory_bytes: memory(),
            cpu_milli: processors.and_then(|count| u64::try_from(count.get() * 1000).ok()),
            pids: tasks.into_iter().flatten().min(),
            disk: statvfs(&self.places.ephemeral.path)
                .map(|found| Stock {
                    total: found.f_blocks.saturating_mul(found.f_frsize),
                    left: found.f_bavail.saturating_mul(found.f_frsize),
                })
                .ok(),
        }
    }
}

fn memory() -> Option<u64> {
    let found = text::read(Path::new("/proc/meminfo")).ok().flatten()?;
    let line = found
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kib: u64 = line.trim().strip_suffix(" kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}

fn number(path: &str) -> Option<u64> {
    let found = text::read(Path::new(path)).ok().flatten()?;
    found.trim().parse().ok()
}
