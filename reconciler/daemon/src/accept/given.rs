//! What a container is given for itself: a range of ids, an address.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use specs::desired::IdRange;
use specs::id::Key;
use specs::resolve;
use specs::spec::Spec;
use specs::validate::address_of;

use super::Desk;
use crate::{addresses, ledger};

/// What nobody else is given, by name.
#[derive(Clone, Debug)]
pub(super) struct Given {
    ranges: BTreeMap<Key, IdRange>,
    addresses: BTreeMap<Key, Ipv4Addr>,
    last_address: Option<Ipv4Addr>,
}

/// What one container is given.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Share {
    /// Its range of ids, if it needs one.
    pub(super) range: Option<IdRange>,
    /// The same, if it has to be written down.
    pub(super) new_range: Option<IdRange>,
    /// Its address, if it needs one.
    pub(super) address: Option<Ipv4Addr>,
    /// Who has which address from now on, if that has to be written down.
    pub(super) new_addresses: Vec<(Key, Option<Ipv4Addr>)>,
}

impl Given {
    /// Returns what is given out, and what running containers have that the store does not
    /// know.
    pub(super) fn of(desk: &Desk<'_>) -> Self {
        let mut given = Self {
            ranges: desk.ledger.ranges.clone(),
            addresses: desk.ledger.addresses.clone(),
            last_address: desk.ledger.last_address,
        };
        for (key, range) in &desk.found.ranges {
            given.ranges.entry(key.clone()).or_insert(*range);
        }
        // Of what the ledger knows it knows the address, or that there is none; a record that
        // was lost moves nobody.
        for (key, entry) in &desk.ledger.entries {
            let isolated = entry.desired.container.network.isolated();
            let lost = isolated.map(|isolated| isolated.address).filter(|address| {
                !given.addresses.contains_key(key)
                    && !given.addresses.values().any(|held| held == address)
            });
            given
                .addresses
                .extend(lost.map(|address| (key.clone(), address)));
        }
        let unknown = |key: &Key| !desk.ledger.entries.contains_key(key);
        for (key, address) in desk.found.addresses.iter().filter(|(key, _)| unknown(key)) {
            given.addresses.entry(key.clone()).or_insert(*address);
        }
        given
    }

    /// Gives a container what it needs.
    ///
    /// # Errors
    /// In words, when there is none.
    pub(super) fn share(&mut self, desk: &Desk<'_>, spec: &Spec) -> Result<Share, String> {
        let mut share = Share::default();
        self.range(desk, spec, &mut share)?;
        self.address(desk, spec, &mut share)?;
        Ok(share)
    }

    fn range(&mut self, desk: &Desk<'_>, spec: &Spec, share: &mut Share) -> Result<(), String> {
        let key = &spec.metadata.name;
        if !resolve::needs_id_range(spec) {
            return Ok(());
        }
        let held = self.ranges.get(key).copied();
        let pools = &desk.config.pools;
        let free = || ledger::free_range(&pools.ids, pools.ids_per_container, self.ranges.values());
        let Some(range) = held.or_else(free) else {
            return Err(format!(
                "no range of ids is free for {key}: all of `pools.ids` is held by {} names; \
                 enlarge the pool in the config, or remove containers with persistent roots or \
                 volumes",
                self.ranges.len()
            ));
        };
        self.ranges.insert(key.clone(), range);
        share.range = Some(range);
        share.new_range = (desk.ledger.ranges.get(key) != Some(&range)).then_some(range);
        Ok(())
    }

    fn address(&mut self, desk: &Desk<'_>, spec: &Spec, share: &mut Share) -> Result<(), String> {
        let key = &spec.metadata.name;
        let held = self.addresses.get(key).copied();
        if !resolve::needs_address(spec) {
            self.addresses.remove(key);
            if desk.ledger.addresses.contains_key(key) {
                share.new_addresses = vec![(key.clone(), None)];
            }
            return Ok(());
        }
        let pools = &desk.config.pools.addresses;
        let address = match (address_of(spec), held) {
            // What it has stays, whatever became of the pools.
            (Some(own), Some(held)) if own == held => own,
            (Some(own), _) if addresses::is_usable(pools, own) => own,
            (Some(own), _) => return Err(addresses::outside(key, own, pools)),
            (None, Some(held)) => held,
            (None, None) => addresses::free(pools, &self.addresses, self.last_address)
                .ok_or_else(|| addresses::exhausted(key, pools, &self.addresses))?,
        };
        share.address = Some(address);
        if desk.ledger.addresses.get(key) != Some(&address) {
            // Whoever still has it has let go of it with a text of this round.
            let former = self.addresses.iter();
            let former: Vec<Key> = former
                .filter(|(other, held)| *other != key && **held == address)
                .map(|(other, _)| other.clone())
                .collect();
            for other in former {
                self.addresses.remove(&other);
                share.new_addresses.push((other, None));
            }
            self.last_address = Some(address);
            share.new_addresses.push((key.clone(), Some(address)));
        }
        self.addresses.insert(key.clone(), address);
        Ok(())
    }
}
