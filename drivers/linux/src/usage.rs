//! What containers use, read when somebody asks: no round, no status and no event rests on it.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use driver_api::{Mark, ProcessId};
use specs::id::Key;
use specs::usage::{ContainerUsage, NetworkUsage};

use crate::bundle::Record;
use crate::cgroup::{self, Group};
use crate::host::LinuxHost;
use crate::{bundle, disk, process, text};

/// Devices of the network namespace that the calling thread is in (`proc_pid_net(5)`).
const DEVICES: &str = "/proc/thread-self/net/dev";

impl LinuxHost {
    /// Returns what containers use: one, or all, each by its newest life.
    ///
    /// # Errors
    /// When it cannot be listed which there are.
    pub fn usage(&self, only: Option<&Key>) -> io::Result<Vec<ContainerUsage>> {
        let listed = self.places.runtime.list(&self.places.instance)?;
        let mut newest: BTreeMap<Key, Mark> = BTreeMap::new();
        for mark in listed.marks {
            let is_asked = only.is_none_or(|key| *key == mark.key);
            let older = newest.get(&mark.key);
            if is_asked && older.is_none_or(|older| older.incarnation < mark.incarnation) {
                newest.insert(mark.key.clone(), mark);
            }
        }
        let devices = text::read(Path::new(DEVICES)).ok().flatten();
        let devices = devices.as_deref().unwrap_or_default();
        Ok(newest
            .values()
            .filter_map(|mark| self.usage_of(mark, devices))
            .collect())
    }

    fn usage_of(&self, mark: &Mark, devices: &str) -> Option<ContainerUsage> {
        let directory = self.places.bundle(mark);
        let Record::Known(launch) = bundle::read(&directory, &mark.leaf()) else {
            return None;
        };
        let group = Group::of(&self.layout, mark, &launch.cgroups);
        let mut usage = ContainerUsage::of(&mark.key, mark.incarnation);
        cgroup::usage::read(&group, &mut usage);
        usage.network = network(devices, &mark.device());
        let layers = launch.root.as_ref().map(crate::launch::layers_of);
        usage.disk = layers.and_then(|layers| disk::usage(&layers, init(&directory)));
        Some(usage)
    }
}

/// Returns the init of a life, while it lives.
fn init(directory: &Path) -> Option<ProcessId> {
    let id = process::read_id(&directory.join("init.id"))
        .ok()
        .flatten()?;
    process::is_alive(id).is_ok_and(|alive| alive).then_some(id)
}

/// Returns what the host's end of a pair counts, the other way round: what it sends the
/// container receives.
fn network(devices: &str, device: &str) -> Option<NetworkUsage> {
    let (_, counters) = devices
        .lines()
        .filter_map(|line| line.split_once(':'))
        .find(|(name, _)| name.trim() == device)?;
    let mut counters = counters
        .split_ascii_whitespace()
        .map(|word| word.parse().ok());
    let mut next = |skipped: usize| counters.nth(skipped).flatten();
    // Eight columns of what the host received, then what it sent: bytes, packets, ...
    let (sent_bytes, sent_packets) = (next(0)?, next(0)?);
    let (received_bytes, received_packets) = (next(6)?, next(0)?);
    Some(NetworkUsage {
        received_bytes,
        received_packets,
        sent_bytes,
        sent_packets,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_host_receives_the_container_sent() {
        let table = "Inter-|   Receive                            |  Transmit\n \
            face |bytes    packets errs drop fifo frame compressed multicast|bytes packets\n\
            \x20   lo:   9 9 0 0 0 0 0 0 9 9 0 0 0 0 0 0\n\
            rcabc1:  100 2 0 0 0 0 0 0 300 4 0 0 0 0 0 0\n";
        let seen = NetworkUsage {
            received_bytes: 300,
            received_packets: 4,
            sent_bytes: 100,
            sent_packets: 2,
        };
        assert_eq!(network(table, "rcabc1"), Some(seen));
        assert_eq!(network(table, "rcabc"), None);
    }
}
