//! Intent in memory: what the store holds, resolved. Owned by the keeper.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use reconciler_core::io::{Intent, Wanted};
use specs::config::Config;
use specs::desired::{Desired, IdRange, MountSource, Run, Writable};
use specs::diagnostic::Diagnostic;
use specs::id::{Generation, Key};
use specs::policy::Grant;
use specs::resolve::{self, Choices};
use specs::spec::{Spec, State};
use store::model::{Accepted, Contents, Head, Override, Source};

use crate::overrides::{self, Own};
use crate::profiles::Profiles;
use crate::reading::Refusal;
use crate::recover::Found;

/// One key's intent.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    /// As the store has it.
    pub(crate) head: Head,
    /// Its spec.
    pub(crate) spec: Spec,
    /// The seccomp profile it names.
    pub(crate) seccomp: Option<String>,
    /// Resolved, orders applied.
    pub(crate) desired: Arc<Desired>,
    /// Why the newest text is not what runs.
    pub(crate) refusal: Option<Refusal>,
    /// The host holds nothing of it any more, but its expired text is still there.
    pub(crate) expired: bool,
    /// What of it the policy grants no more.
    pub(crate) withdrawn: Option<String>,
}

/// Everything that is wanted.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    /// By name.
    pub(crate) entries: BTreeMap<Key, Entry>,
    /// Id ranges given out, those of names that are gone but still own files included.
    pub(crate) ranges: BTreeMap<Key, IdRange>,
    /// Addresses given out.
    pub(crate) addresses: BTreeMap<Key, Ipv4Addr>,
    /// The one given out last: the next is another.
    pub(crate) last_address: Option<Ipv4Addr>,
    /// Standing orders.
    pub(crate) orders: BTreeMap<Key, Override>,
    /// Heads that could not be resolved again, and why: nothing of them may be touched.
    pub(crate) unresolved: BTreeMap<Key, String>,
}

/// What resolving rests on beside the spec.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Basis<'a> {
    /// Where the spec came from: its policy confines the paths that are bound.
    pub(crate) source: &'a Source,
    /// The newest order.
    pub(crate) order: Option<&'a Override>,
    /// The id range, if one is needed.
    pub(crate) range: Option<IdRange>,
    /// The address, if one is needed and the spec names none.
    pub(crate) address: Option<Ipv4Addr>,
    /// Text of the profile that the spec names.
    pub(crate) seccomp: Option<&'a str>,
    /// Version of the intent.
    pub(crate) generation: Generation,
}

impl Ledger {
    /// Reads what the store holds. What policy grants no more of a head is noted: it stays
    /// accepted, what runs of it runs on, and it is not made again.
    ///
    /// `found` is what running containers have, for those whose record was lost.
    pub(crate) fn load(
        contents: Contents,
        config: &Config,
        profiles: &Profiles,
        found: &Found,
    ) -> Self {
        let mut ledger = Self {
            ranges: contents.id_ranges.into_iter().collect(),
            last_address: contents.addresses.iter().map(|(_, address)| *address).max(),
            addresses: contents.addresses.into_iter().collect(),
            orders: contents.overrides.into_iter().collect(),
            ..Self::default()
        };
        for head in contents.heads {
            let key = head.key.clone();
            match ledger.entry(head, config, profiles, found) {
                Ok(entry) => {
                    ledger.entries.insert(key, entry);
                }
                Err(why) => {
                    tracing::error!(%key, err = why, "its accepted spec cannot be resolved");
                    ledger.unresolved.insert(key, why);
                }
            }
        }
        ledger
    }

    fn entry(
        &self,
        head: Head,
        config: &Config,
        profiles: &Profiles,
        found: &Found,
    ) -> Result<Entry, String> {
        let spec: Spec = serde_json::from_str(&head.accepted.spec_json)
            .map_err(|err| format!("read the stored spec: {err}"))?;
        let generation = head.accepted.generation;
        let seccomp = resolve::seccomp_path(&spec)
            .map(|_| profiles.get(&head.key, generation))
            .transpose()
            .map_err(|err| format!("read the kept seccomp profile: {err}"))?;
        let basis = Basis {
            source: &head.accepted.source,
            order: self.orders.get(&head.key),
            range: self
                .ranges
                .get(&head.key)
                .or_else(|| found.ranges.get(&head.key))
                .copied(),
            address: self
                .addresses
                .get(&head.key)
                .or_else(|| found.addresses.get(&head.key))
                .copied(),
            seccomp: seccomp.as_deref(),
            generation,
        };
        let desired = resolved(&spec, basis, config).map_err(|found| words(&found))?;
        Ok(Entry {
            withdrawn: withdrawn(&spec, &head.accepted.source, config),
            head,
            spec,
            seccomp,
            desired: Arc::new(desired),
            refusal: None,
            expired: false,
        })
    }

    /// Returns what the core is to be told of a key.
    pub(crate) fn intent(&self, key: &Key) -> Intent {
        let Some(entry) = self.entries.get(key).filter(|entry| !entry.expired) else {
            return Intent::Gone;
        };
        let desired = Arc::clone(&entry.desired);
        if entry.head.deleted {
            return Intent::Deleted {
                last: Some(desired),
            };
        }
        Intent::Present(Box::new(Wanted {
            desired,
            refusal: entry.refusal.as_ref().map(|refusal| refusal.line.clone()),
            override_note: self.orders.get(key).and_then(overrides::note),
            withdrawn: entry.withdrawn.clone(),
        }))
    }

    /// Resolves an entry again, after its order or the config changed.
    ///
    /// # Errors
    /// When a choice is missing.
    pub(crate) fn resolve_again(&mut self, key: &Key, config: &Config) -> Result<(), String> {
        let Some(entry) = self.entries.get_mut(key) else {
            return Ok(());
        };
        let basis = Basis {
            source: &entry.head.accepted.source,
            order: self.orders.get(key),
            range: self.ranges.get(key).copied(),
            address: self.addresses.get(key).copied(),
            seccomp: entry.seccomp.as_deref(),
            generation: entry.head.accepted.generation,
        };
        let desired = resolved(&entry.spec, basis, config).map_err(|found| words(&found))?;
        entry.desired = Arc::new(desired);
        entry.withdrawn = withdrawn(&entry.spec, &entry.head.accepted.source, config);
        Ok(())
    }

    /// Returns the entries that came from a directory and are wanted.
    pub(crate) fn owned_by<'a>(
        &'a self,
        directory: &'a Path,
    ) -> impl Iterator<Item = (&'a Key, &'a Entry, &'a str)> {
        self.filed()
            .filter(move |(_, _, path)| Path::new(path).parent() == Some(directory))
    }

    /// Returns the entries that came from files and are wanted.
    pub(crate) fn filed(&self) -> impl Iterator<Item = (&Key, &Entry, &str)> {
        self.entries
            .iter()
            .filter(|(_, entry)| !entry.head.deleted)
            .filter_map(|(key, entry)| match &entry.head.accepted.source {
                Source::File { path, .. } => Some((key, entry, path.as_str())),
                Source::Api { .. } => None,
            })
    }
}

/// Resolves a spec under a standing order.
///
/// # Errors
/// When a choice is missing.
pub(crate) fn resolved(
    spec: &Spec,
    basis: Basis<'_>,
    config: &Config,
) -> Result<Desired, Vec<Diagnostic>> {
    let order = basis.order;
    let choices = Choices {
        generation: basis.generation,
        id_range: basis.range,
        address: basis.address,
        seccomp_json: basis.seccomp.map(str::to_owned),
        run_override: order.filter(|order| order.stopped).map(|_| Run::Stopped),
        suspend_override: order.filter(|order| order.suspended).map(|_| true),
        restart_epoch: order.map_or(0, |order| order.restart_epoch),
        defaults: &config.defaults,
    };
    let mut desired = resolve::resolve(spec, &choices)?;
    grant_of(basis.source, config).confine(&mut desired);
    Ok(desired)
}

/// Returns what of a spec the policy grants no more to where it came from.
fn withdrawn(spec: &Spec, source: &Source, config: &Config) -> Option<String> {
    specs::policy::withdrawn(spec, &grant_of(source, config))
}

/// Returns what the policy grants to specs from there.
fn grant_of(source: &Source, config: &Config) -> Grant {
    let (directory, owner) = match source {
        Source::File { path, uid, .. } => (Path::new(path).parent(), *uid),
        Source::Api { uid } => (None, *uid),
    };
    let directory = directory.unwrap_or(Path::new("")).to_string_lossy();
    config.policy.grant(&directory, owner)
}

/// Returns what the spec's own fields say about running.
pub(crate) fn own(spec: &Spec) -> Own {
    Own {
        stopped: spec.spec.state == Some(State::Stopped),
        suspended: spec.spec.suspend == Some(true),
    }
}

/// Returns whether files on disk outlive the container and carry its ids.
pub(crate) fn keeps_range(desired: &Desired) -> bool {
    let container = &desired.container;
    container.rootfs.writable == Writable::Persistent
        || container
            .mounts
            .iter()
            .any(|mount| matches!(mount.source, MountSource::Volume(_)))
}

/// Returns `FILE:LINE`, or `api`.
pub(crate) fn place(accepted: &Accepted) -> String {
    match &accepted.source {
        Source::File { path, line, .. } => format!("{path}:{line}"),
        Source::Api { .. } => "api".into(),
    }
}

/// Returns the file that it came from.
pub(crate) fn file(accepted: &Accepted) -> Option<PathBuf> {
    match &accepted.source {
        Source::File { path, .. } => Some(PathBuf::from(path)),
        Source::Api { .. } => None,
    }
}

/// Returns diagnostics on one line.
pub(crate) fn words(found: &[Diagnostic]) -> String {
    let lines: Vec<String> = found.iter().map(Diagnostic::one_line).collect();
    lines.join("; ")
}

/// Returns the lowest free range of the pools.
///
/// `taken` are ranges given out, whoever holds them; a range that merely overlaps is taken.
pub(crate) fn free_range<'a>(
    pools: &[IdRange],
    size: u32,
    taken: impl Iterator<Item = &'a IdRange> + Clone,
) -> Option<IdRange> {
    let size = size.max(1);
    for pool in pools {
        let end = u64::from(pool.base) + u64::from(pool.count);
        let mut base = u64::from(pool.base);
        while base + u64::from(size) <= end {
            let overlap = taken.clone().find(|held| {
                let held_end = u64::from(held.base) + u64::from(held.count);
                u64::from(held.base) < base + u64::from(size) && base < held_end
            });
            match overlap {
                None => {
                    let base = u32::try_from(base).ok()?;
                    return Some(IdRange { base, count: size });
                }
                // Stays on the pool's own grid, so that gaps are found again.
                Some(_) => base += u64::from(size),
            }
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(base: u32, count: u32) -> IdRange {
        IdRange { base, count }
    }

    #[test]
    fn ranges_never_overlap_and_the_lowest_free_one_is_given() {
        let pool = [range(100_000, 4 * 65_536)];
        let mut held: Vec<IdRange> = Vec::new();
        while let Some(next) = free_range(&pool, 65_536, held.iter()) {
            assert!(held.iter().all(|held| next.base >= held.base + held.count));
            held.push(next);
        }
        assert_eq!(held.len(), 4);
        held.remove(1);
        assert_eq!(
            free_range(&pool, 65_536, held.iter()),
            Some(range(165_536, 65_536))
        );
    }

    #[test]
    fn a_pool_that_ends_at_the_last_id_does_not_wrap() {
        let pool = [range(u32::MAX - 10, 10)];
        assert_eq!(free_range(&pool, 11, [].iter()), None);
        assert_eq!(
            free_range(&pool, 10, [].iter()),
            Some(range(u32::MAX - 10, 10))
        );
    }

    #[test]
    fn a_range_held_from_an_earlier_pool_is_kept_clear_of() {
        let pool = [range(1_000, 300)];
        let held = [range(1_050, 100)];
        assert_eq!(free_range(&pool, 100, held.iter()), Some(range(1_200, 100)));
    }
}
