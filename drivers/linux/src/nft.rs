//! The packet filter: one table for each instance, spoken of over netlink.
//!
//! The table stands in family `inet`. Chains, sets and rules that all lives share are made by
//! whoever needs them first; each life has elements in the sets and a chain of its own, all of
//! which carry its mark as a comment. A packet from one of our devices passes only where an
//! element says so.

mod batch;
mod expr;
mod life;
mod model;
mod observe;
mod plan;
mod read;
mod shared;
pub(crate) mod socket;
#[cfg(test)]
mod tests;
pub(crate) mod wire;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io;
use std::net::Ipv4Addr;
use std::os::unix::fs::MetadataExt as _;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use driver_api::Mark;
use specs::desired::{Egress, Port};
use specs::id::Instance;

pub(crate) use life::protocol;
use model::{Act, Model, after};
use plan::Care;
use shared::Named;
use socket::Conversation;

/// Tries to have one table whole, while others commit in between.
const READS_MAX: usize = 10;
/// Tries to have one transaction accepted, while others commit in between.
const COMMITS_MAX: usize = 5;
/// Refusals after which the table is made anew: what stands can't be mended in its place.
const REFUSALS_MAX: usize = 2;
/// Longest name of a device in bytes (`IFNAMSIZ` less the zero).
const DEVICE_BYTES_MAX: usize = 15;
/// Longest mark in bytes; a prefix of the log takes 127 (`NF_LOG_PREFIXLEN`).
const LEAF_BYTES_MAX: usize = 120;

/// What one life asks of the packet filter.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LifeRules<'a> {
    /// The mark.
    pub(crate) leaf: &'a str,
    /// Host's end of its pair of devices.
    pub(crate) device: &'a str,
    /// The one address that may speak from there.
    pub(crate) address: Ipv4Addr,
    /// Ports of the host that lead to it.
    pub(crate) ports: &'a [Port],
    /// Where it may speak to.
    pub(crate) egress: &'a Egress,
}

/// The table of one instance, as the kernel has it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct TableObserved {
    /// What all lives share is as it shall be, and nothing foreign stands in the table.
    pub(crate) shared: bool,
    /// By their marks; anything of a life counts.
    pub(crate) lives: BTreeMap<String, LifeObserved>,
}

/// What the table holds of one life.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct LifeObserved {
    /// Its device; none unless all sets agree on device and address.
    pub(crate) device: Option<String>,
    /// Its address; none unless all sets agree on device and address.
    pub(crate) address: Option<Ipv4Addr>,
    /// Ports that lead to it.
    pub(crate) ports: BTreeSet<Port>,
    /// Where it may speak to; none while its chain is missing or is none that we wrote.
    pub(crate) egress: Option<Egress>,
}

/// The packet filter as one instance uses it.
#[derive(Debug)]
pub(crate) struct Firewall {
    table: String,
    shared: Vec<Named>,
    /// Written by whoever reads or commits, which happens one at a time.
    cache: Mutex<Option<Cached>>,
}

/// A table as it was after one transaction.
#[derive(Debug)]
struct Cached {
    /// Held open, so that no other namespace gets its number.
    namespace: File,
    generation: u32,
    model: Option<Model>,
    /// What the model says; none until somebody asks.
    observed: Option<Arc<TableObserved>>,
}

impl Firewall {
    /// Returns the packet filter of an instance; nothing is asked or changed yet.
    pub(crate) fn new(instance: &Instance) -> Self {
        Self {
            table: Mark::table(instance),
            shared: shared::chains(&Mark::device_prefix(instance)),
            cache: Mutex::new(None),
        }
    }

    /// Returns the table in the network namespace of this thread.
    ///
    /// *Guarantees:* what is returned stood there at one moment after the call began.
    ///
    /// # Errors
    /// When the kernel says no, does not answer within `patience`, or others commit so often
    /// that no moment can be seen (`EAGAIN`).
    pub(crate) fn read(&self, patience: Duration) -> io::Result<Arc<TableObserved>> {
        let mut kernel = Conversation::open(patience)?;
        let mut cache = self.lock();
        let cached = self.current(&mut kernel, &mut cache)?;
        let observe = || Arc::new(observe::observe(cached.model.as_ref(), &self.shared));
        Ok(cached.observed.get_or_insert_with(observe).clone())
    }

    /// Asks the kernel's packet filter the least that can be asked.
    ///
    /// # Errors
    /// When there is none, it says no, or does not answer within `patience`.
    pub(crate) fn answers(&self, patience: Duration) -> io::Result<()> {
        let mut kernel = Conversation::open(patience)?;
        read::generation(&mut kernel).map(|_| ())
    }

    /// Returns the chains of others that drop by default what the host passes on.
    ///
    /// # Errors
    /// When the kernel says no, or does not answer within `patience`.
    pub(crate) fn closed_by_others(&self, patience: Duration) -> io::Result<Vec<String>> {
        read::closed_by_others(&mut Conversation::open(patience)?, &self.table)
    }

    /// Gives a life its rules, and the table what all share, in one transaction.
    ///
    /// *Guarantees:* the rules of other lives stay, but for ports that this one takes from
    /// them; nothing is sent where nothing differs. Says whether anything was sent.
    ///
    /// # Errors
    /// As for [`Firewall::read`], and when a name is too long.
    pub(crate) fn set(&self, rules: &LifeRules<'_>, patience: Duration) -> io::Result<bool> {
        let is_named = (1..=DEVICE_BYTES_MAX).contains(&rules.device.len())
            && (1..=LEAF_BYTES_MAX).contains(&rules.leaf.len());
        if !is_named {
            return Err(io::Error::from_raw_os_error(libc::ENAMETOOLONG));
        }
        self.transact(rules.leaf, patience, |model, care| {
            plan::set(model, &self.shared, rules, care)
        })
    }

    /// Takes all that is a life's out of the table, in one transaction; the table goes with
    /// the last life. Says whether anything was there.
    ///
    /// # Errors
    /// As for [`Firewall::read`].
    pub(crate) fn remove(&self, leaf: &str, patience: Duration) -> io::Result<bool> {
        self.transact(leaf, patience, |model, care| {
            plan::remove(model, &self.shared, leaf, care)
        })
    }

    /// Does what is planned on the table as it stands; says whether that was anything.
    fn transact(
        &self,
        leaf: &str,
        patience: Duration,
        plan: impl Fn(Option<&Model>, Care) -> Vec<Act>,
    ) -> io::Result<bool> {
        let mut kernel = Conversation::open(patience)?;
        let mut cache = self.lock();
        let mut attempt = 0;
        let mut refusals = 0;
        loop {
            attempt += 1;
            let cached = self.current(&mut kernel, &mut cache)?;
            let care = if refusals < REFUSALS_MAX {
                Care::Mend
            } else {
                Care::Rebuild
            };
            let mended = plan(cached.model.as_ref(), Care::Mend);
            if mended.is_empty() {
                return Ok(false);
            }
            let acts = match care {
                Care::Mend => mended,
                Care::Rebuild => plan(cached.model.as_ref(), care),
            };
            // The last try does not mind what others do to tables of theirs.
            let generation = (attempt < COMMITS_MAX).then_some(cached.generation);
            match batch::commit(&mut kernel, &self.table, &acts, generation) {
                Ok(()) => {
                    self.advance(&mut kernel, &mut cache, leaf, acts, generation);
                    return Ok(true);
                }
                Err(err) if attempt < COMMITS_MAX && may_pass(&err) => {
                    *cache = None;
                    refusals += usize::from(is_refusal(&err));
                }
                Err(err) => {
                    *cache = None;
                    return Err(err);
                }
            }
        }
    }

    /// Brings the cache to the moment of now, if need be.
    fn current<'a>(
        &self,
        kernel: &mut Conversation,
        cache: &'a mut Option<Cached>,
    ) -> io::Result<&'a mut Cached> {
        let namespace = File::open("/proc/thread-self/ns/net")?;
        let mut generation = read::generation(kernel)?;
        let is_current = match cache.as_ref() {
            Some(cached) => {
                cached.generation == generation && is_same_file(&cached.namespace, &namespace)?
            }
            None => false,
        };
        if !is_current {
            *cache = None;
        }
        if let Some(cached) = cache {
            return Ok(cached);
        }
        for _ in 0..READS_MAX {
            let table = read::table(kernel, &self.table)?;
            let now = read::generation(kernel)?;
            if let Some(model) = table.filter(|_| now == generation) {
                return Ok(cache.insert(Cached {
                    namespace,
                    generation,
                    model,
                    observed: None,
                }));
            }
            generation = now;
        }
        Err(io::Error::from_raw_os_error(libc::EAGAIN))
    }

    /// Brings the cache to the moment after our own transaction, where that is known.
    ///
    /// A transaction adds one to the generation (`nft_base_seq_inc` in `nf_tables_api.c`), and
    /// ours was accepted only on the table that was read.
    fn advance(
        &self,
        kernel: &mut Conversation,
        cache: &mut Option<Cached>,
        leaf: &str,
        acts: Vec<Act>,
        generation: Option<u32>,
    ) {
        let next = generation.map(|generation| generation.wrapping_add(1).max(1));
        let now = read::generation(kernel).ok();
        let Some(cached) = cache.take() else {
            return;
        };
        let Some(next) = next.filter(|_| next == now) else {
            return;
        };
        let is_own = plan::is_own(&acts, leaf);
        // A port that this life took is another's no longer.
        let touched = touched(cached.model.as_ref(), leaf, &acts);
        let model = acts.into_iter().fold(cached.model, after);
        // What is wrong with the shared part may be gone now, strays too.
        let is_carried = |observed: &Arc<TableObserved>| is_own && observed.shared;
        let mut observed = cached.observed.filter(is_carried);
        if let (Some(observed), Some(model)) = (&mut observed, &model) {
            let observed = Arc::make_mut(observed);
            observed.lives.retain(|leaf, _| !touched.contains(leaf));
            let is_touched = |leaf: &str| touched.contains(leaf);
            observed.lives.extend(observe::lives(model, is_touched));
        }
        *cache = Some(Cached {
            generation: next,
            model,
            observed,
            ..cached
        });
    }

    fn lock(&self) -> MutexGuard<'_, Option<Cached>> {
        // What a panicked holder left is a table that was read, or none.
        self.cache.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Returns the lives whose elements acts touch.
fn touched(model: Option<&Model>, leaf: &str, acts: &[Act]) -> BTreeSet<String> {
    let mut leaves = BTreeSet::from([leaf.to_owned()]);
    for act in acts {
        if let Act::DropElement(set, key) = act {
            let sets = model.map(|model| &model.sets);
            let element = sets.and_then(|sets| sets.get(set)?.get(key));
            leaves.extend(element.and_then(|element| element.leaf.clone()));
        }
    }
    leaves
}

/// Returns whether an error may be gone at the next try.
fn may_pass(err: &io::Error) -> bool {
    let raced = matches!(
        err.raw_os_error(),
        Some(libc::EAGAIN | libc::EINTR | libc::ERESTART)
    );
    raced || is_refusal(err)
}

/// Returns whether an error says that the table is not as it seemed.
fn is_refusal(err: &io::Error) -> bool {
    matches!(
        err.raw_os_error(),
        Some(libc::EBUSY | libc::ENOENT | libc::EEXIST)
    )
}

fn is_same_file(one: &File, other: &File) -> io::Result<bool> {
    let (one, other) = (one.metadata()?, other.metadata()?);
    Ok((one.dev(), one.ino()) == (other.dev(), other.ino()))
}
