//! Which address a container gets, and keeps.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

use specs::desired::Range;
use specs::id::Key;
use specs::units::Subnet;

/// Most holders that a refusal names.
const NAMED_MAX: usize = 5;

/// Returns whether an address may be given out: in a pool, and not its first or last one,
/// which mean the network itself to many programs.
pub(crate) fn is_usable(pools: &[Range], address: Ipv4Addr) -> bool {
    let inside = |pool: &Range| pool.first < address && address < pool.last;
    pools.iter().any(inside)
}

/// Returns the free address that follows `after`, round and round through the pools, so that
/// one that was let go is given out again as late as can be.
pub(crate) fn free(
    pools: &[Range],
    taken: &BTreeMap<Key, Ipv4Addr>,
    after: Option<Ipv4Addr>,
) -> Option<Ipv4Addr> {
    let taken: BTreeSet<u32> = taken.values().map(|address| address.to_bits()).collect();
    let usable = |pool: &Range| pool.first.to_bits() + 1..pool.last.to_bits();
    let after = after.map(Ipv4Addr::to_bits);
    let at = pools
        .iter()
        .position(|pool| after.is_some_and(|after| pool.contains(Ipv4Addr::from_bits(after))))
        .unwrap_or(0);
    let (before, from) = pools.split_at_checked(at)?;
    let first = from.first()?;
    let rest = after.map_or(first.first.to_bits() + 1, |after| after.saturating_add(1));
    let rest = rest.max(first.first.to_bits() + 1)..first.last.to_bits();
    let later = from.iter().skip(1).chain(before).chain([first]);
    let mut candidates = rest.chain(later.flat_map(usable));
    let found = candidates.find(|address| !taken.contains(address))?;
    Some(Ipv4Addr::from_bits(found))
}

/// Returns why no address is free, with the pools and who holds them.
pub(crate) fn exhausted(key: &Key, pools: &[Range], taken: &BTreeMap<Key, Ipv4Addr>) -> String {
    let pools: Vec<String> = pools.iter().map(|pool| Subnet(*pool).to_string()).collect();
    let named: Vec<&str> = taken.keys().take(NAMED_MAX).map(Key::as_str).collect();
    let more = taken.len().saturating_sub(named.len());
    let more = if more > 0 {
        format!(" and {more} more")
    } else {
        String::new()
    };
    format!(
        "no address is free for {key}: all of `pools.addresses` ({}) is held by {}{more}; add a \
         network in the config, or remove containers",
        pools.join(", "),
        named.join(", ")
    )
}

/// Returns why an address that a spec names may not be had.
pub(crate) fn outside(key: &Key, address: Ipv4Addr, pools: &[Range]) -> String {
    let pools: Vec<String> = pools.iter().map(|pool| Subnet(*pool).to_string()).collect();
    format!(
        "the address {address} of {key} is not one that may be given out; name one inside of \
         {} (`pools.addresses` in the config), or none",
        pools.join(", ")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pool(text: &str) -> Range {
        text.parse::<Subnet>().unwrap().0
    }

    fn key(number: u32) -> Key {
        Key::new(format!("k{number}")).unwrap()
    }

    #[test]
    fn every_usable_address_is_given_once_and_a_freed_one_last() {
        let pools = [pool("10.0.0.0/29"), pool("10.9.0.0/30")];
        let mut taken = BTreeMap::new();
        let mut last = None;
        let mut given = Vec::new();
        while let Some(next) = free(&pools, &taken, last) {
            assert!(is_usable(&pools, next) && !given.contains(&next), "{next}");
            taken.insert(key(u32::try_from(taken.len()).unwrap()), next);
            given.push(next);
            last = Some(next);
        }
        assert_eq!(given.len(), 6 + 2);
        assert_eq!(taken.values().collect::<BTreeSet<_>>().len(), 8);
        let freed = taken.remove(&key(3)).unwrap();
        assert_eq!(free(&pools, &taken, last), Some(freed));
        assert!(exhausted(&key(9), &pools, &taken).contains("10.0.0.0/29, 10.9.0.0/30"));
    }

    #[test]
    fn an_address_that_was_let_go_is_not_the_next_one() {
        let pools = [pool("10.0.0.0/24")];
        let first = free(&pools, &BTreeMap::new(), None).unwrap();
        assert_eq!(first, Ipv4Addr::new(10, 0, 0, 1));
        let second = free(&pools, &BTreeMap::new(), Some(first)).unwrap();
        assert_eq!(second, Ipv4Addr::new(10, 0, 0, 2));
        // Round and round.
        let last = Some(Ipv4Addr::new(10, 0, 0, 254));
        assert_eq!(free(&pools, &BTreeMap::new(), last), Some(first));
    }

    #[test]
    fn a_pool_that_went_is_no_place_to_go_on_from() {
        let pools = [pool("10.0.0.0/30")];
        let elsewhere = Some(Ipv4Addr::new(192, 168, 0, 9));
        assert_eq!(
            free(&pools, &BTreeMap::new(), elsewhere),
            Some(Ipv4Addr::new(10, 0, 0, 1))
        );
        assert_eq!(free(&[], &BTreeMap::new(), elsewhere), None);
    }
}
