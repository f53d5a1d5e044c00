//! What the host has for containers, and how much of it is given away.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use specs::capacity::{Capacity, Stock};
use specs::config::Pools;
use specs::desired::IdRange;

use super::problem::Refused;
use super::routes::{Answer, Shared, blocking};
use crate::addresses;
use crate::host::Room;
use crate::keeper::View;

/// Answers with all of it.
pub(super) async fn capacity(State(app): Shared) -> Answer<Capacity> {
    let view = app.seen();
    let asked = Arc::clone(&app);
    let (room, held) = blocking(move || ((asked.room)(), asked.store.contents())).await?;
    let held = held.map_err(|err| Refused::unavailable(&crate::errors::chain(&err)))?;
    let ranges: Vec<IdRange> = held.id_ranges.iter().map(|(_, range)| *range).collect();
    let taken: Vec<Ipv4Addr> = held.addresses.iter().map(|(_, address)| *address).collect();
    Ok(Json(tell(&view, room, (&ranges, &taken))))
}

fn tell(view: &View, room: Room, (ranges, taken): (&[IdRange], &[Ipv4Addr])) -> Capacity {
    let pools = &view.config.pools;
    let mut told = Capacity {
        disk: room.disk,
        id_ranges: ranges_left(pools, ranges),
        addresses: addresses_left(pools, taken),
        ..Capacity::default()
    };
    told.memory.total = room.memory_bytes;
    told.cpu.total = room.cpu_milli;
    told.pids.total = room.pids;
    for entry in view.entries.values().filter(|entry| !entry.deleted) {
        let limits = &entry.desired.limits;
        told.containers += 1;
        told.memory.grant(limits.memory.map(|bytes| bytes.0));
        told.cpu.grant(limits.cpu.map(|milli| u64::from(milli.0)));
        told.pids.grant(limits.pids.map(u64::from));
    }
    told.concluded()
}

/// Counts places on each pool's grid, as they are given out; one that anybody touches is gone.
fn ranges_left(pools: &Pools, held: &[IdRange]) -> Stock {
    let size = u64::from(pools.ids_per_container.max(1));
    let mut stock = Stock::default();
    for pool in &pools.ids {
        let (base, places) = (u64::from(pool.base), u64::from(pool.count) / size);
        let mut gone = BTreeSet::new();
        for range in held.iter().filter(|range| range.count > 0) {
            let (first, end) = (
                u64::from(range.base),
                u64::from(range.base) + u64::from(range.count),
            );
            if end <= base || first >= base + places * size {
                continue;
            }
            let last = (end - 1 - base) / size;
            gone.extend(first.saturating_sub(base) / size..=last.min(places.saturating_sub(1)));
        }
        stock.total += places;
        stock.left += places - gone.len() as u64;
    }
    stock
}

fn addresses_left(pools: &Pools, taken: &[Ipv4Addr]) -> Stock {
    let usable = |pool: &specs::desired::Range| {
        let (first, last) = (pool.first.to_bits(), pool.last.to_bits());
        u64::from(last.saturating_sub(first).saturating_sub(1))
    };
    let total = pools.addresses.iter().map(usable).sum();
    let taken = taken
        .iter()
        .filter(|at| addresses::is_usable(&pools.addresses, **at));
    let taken = taken.count() as u64;
    Stock {
        total,
        left: u64::saturating_sub(total, taken),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::free_range;

    fn range(base: u32, count: u32) -> IdRange {
        IdRange { base, count }
    }

    #[test]
    fn what_is_left_is_what_can_still_be_given_out() {
        let pools = Pools {
            ids: vec![range(1000, 105), range(5000, 30)],
            ids_per_container: 10,
            addresses: Vec::new(),
        };
        // One on the grid, one of an earlier pool across two places, one elsewhere.
        let mut held = vec![range(1010, 10), range(1035, 10), range(1, 5)];
        let stock = ranges_left(&pools, &held);
        assert_eq!(stock.total, 13);
        let mut given = 0;
        while let Some(next) = free_range(&pools.ids, 10, held.clone().iter()) {
            held.push(next);
            given += 1;
        }
        assert_eq!(stock.left, given);
        assert_eq!(ranges_left(&pools, &held).left, 0);
    }

    #[test]
    fn addresses_that_are_given_out_are_gone() {
        let network = specs::desired::Range {
            first: Ipv4Addr::new(10, 0, 0, 0),
            last: Ipv4Addr::new(10, 0, 0, 7),
        };
        let pools = Pools {
            addresses: vec![network],
            ..Pools::default()
        };
        let taken = [Ipv4Addr::new(10, 0, 0, 3), Ipv4Addr::new(10, 9, 9, 9)];
        let stock = addresses_left(&pools, &taken);
        assert_eq!((stock.total, stock.left), (6, 5));
    }
}
