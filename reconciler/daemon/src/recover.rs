//! What a start finds on the host, before anything is decided.
//!
//! Usually it is of no use: the store holds intent, and the core looks for itself. When the
//! store was lost or is in doubt, it is what keeps running containers as they are: the range
//! of ids they run under, and numbers that must not be given out again.

use std::collections::BTreeMap;
use std::fs;
use std::net::Ipv4Addr;

use driver_api::{Deadline, Driver, Observed, ProcessId, Scope};
use specs::desired::IdRange;
use specs::id::{Generation, Incarnation, Key};

use crate::clock;

/// Time for the first look at the host.
const LOOK_MS: u64 = 30_000;

/// Looks until everything could be listed: what ends meanwhile may spoil one.
const LOOKS_MAX: usize = 3;

/// What a start found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Found {
    /// Everything could be listed.
    pub(crate) complete: bool,
    /// Highest generation by name.
    pub(crate) generations: BTreeMap<Key, Generation>,
    /// Highest incarnation.
    pub(crate) incarnation: Incarnation,
    /// Ranges of ids of living containers.
    pub(crate) ranges: BTreeMap<Key, IdRange>,
    /// Addresses of living containers.
    pub(crate) addresses: BTreeMap<Key, Ipv4Addr>,
}

/// Looks at the host. Blocks.
pub(crate) fn look(driver: &dyn Driver) -> Found {
    let deadline = Deadline {
        at_ms: clock::boot_ms().saturating_add(LOOK_MS),
    };
    let mut seen = found(&driver.observe(&Scope::Host, deadline));
    for _ in 1..LOOKS_MAX {
        if seen.complete {
            break;
        }
        seen = found(&driver.observe(&Scope::Host, deadline));
    }
    seen
}

fn found(observed: &Observed) -> Found {
    let mut found = Found {
        complete: observed.complete,
        ..Found::default()
    };
    for (key, container) in &observed.containers {
        let generation = found.generations.entry(key.clone()).or_default();
        for (incarnation, life) in &container.lives {
            found.incarnation = found.incarnation.max(*incarnation);
            if let Some(bundle) = life.bundle.known() {
                *generation = (*generation).max(bundle.generation);
            }
            if let Some(range) = life.init.known().and_then(|init| range_of(init.id)) {
                found.ranges.insert(key.clone(), range);
            }
            // What the host lets it speak as: what its own end says it may have said itself.
            let rules = life.network.rules.known();
            if let Some(address) = rules.and_then(|rules| rules.address) {
                found.addresses.insert(key.clone(), address);
            }
        }
    }
    found
}

/// Returns the range that a process' user namespace maps (`user_namespaces(7)`, `uid_map`);
/// nothing for the host's own, or when the process is not the one that was meant.
fn range_of(id: ProcessId) -> Option<IdRange> {
    let map = fs::read_to_string(format!("/proc/{}/uid_map", id.pid)).ok()?;
    let stat = fs::read_to_string(format!("/proc/{}/stat", id.pid)).ok()?;
    // Read after the map: had the pid another owner by then, the times would differ.
    (start_time(&stat)? == id.start).then(|| first_range(&map))?
}

/// Field 22 of `proc_pid_stat(5)`; the name before it may hold anything, brackets included.
fn start_time(stat: &str) -> Option<u64> {
    let (_, rest) = stat.rsplit_once(')')?;
    rest.split_ascii_whitespace().nth(19)?.parse().ok()
}

fn first_range(map: &str) -> Option<IdRange> {
    let mut lines = map.lines();
    let mut numbers = lines
        .next()?
        .split_ascii_whitespace()
        .map(str::parse::<u32>);
    let (inside, base, count) = (numbers.next()?, numbers.next()?, numbers.next()?);
    let range = IdRange {
        base: base.ok()?,
        count: count.ok()?,
    };
    let is_ours = inside == Ok(0) && range.base != 0 && lines.next().is_none();
    is_ours.then_some(range)
}

/// Returns why nothing may be destroyed for now, if so: the store says that it may lack
/// something, or it is new while the host is not.
pub(crate) fn doubt(store: Option<String>, is_fresh: bool, found: &Found) -> Option<String> {
    if store.is_some() || !is_fresh {
        return store;
    }
    match (found.generations.len(), found.complete) {
        (0, true) => None,
        (0, false) => Some("the store is new, and the host could not be listed".into()),
        (count, _) => Some(format!(
            "the store is new, and {count} containers of this instance are on the host"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_range_of_a_running_container_is_read_back() {
        let range = IdRange {
            base: 100_000,
            count: 65_536,
        };
        assert_eq!(
            first_range("         0     100000      65536\n"),
            Some(range)
        );
        for other in [
            "         0          0 4294967295\n",
            "",
            "x",
            "0 1 2\n5 6 7\n",
            "1 5 5\n",
        ] {
            assert_eq!(first_range(other), None, "{other:?}");
        }
    }

    #[test]
    fn a_process_is_not_taken_for_one_that_had_its_pid() {
        let pid = std::process::id();
        let stat = fs::read_to_string("/proc/self/stat").unwrap();
        let start = start_time(&stat).unwrap();
        assert_eq!(
            range_of(ProcessId {
                pid,
                start: start + 1
            }),
            None
        );
        assert_eq!(
            start_time("1 (a) b) S 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 77 1"),
            Some(77)
        );
    }

    #[test]
    fn a_new_store_beside_old_containers_is_in_doubt() {
        let none = Found {
            complete: true,
            ..Found::default()
        };
        assert_eq!(doubt(None, true, &none), None);
        assert_eq!(doubt(None, false, &none), None);
        assert!(doubt(None, true, &Found::default()).is_some());
        let mut some = none.clone();
        some.generations
            .insert(Key::new("web").unwrap(), Generation(3));
        assert!(doubt(None, true, &some).is_some_and(|why| why.contains("1 containers")));
        assert_eq!(doubt(None, false, &some), None);
        assert_eq!(
            doubt(Some("lost".into()), false, &none),
            Some("lost".into())
        );
    }
}
