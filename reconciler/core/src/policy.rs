//! Rules that are neither the plan's order nor the machine's clockwork.

use specs::desired::Desired;

/// Returns when a container's `ttl` is over, in milliseconds since the epoch, given when its
/// key was first accepted; nothing if it has none.
#[must_use]
pub fn expires_ms(desired: &Desired, first_accepted_ms: u64) -> Option<u64> {
    desired
        .ttl
        .map(|ttl| first_accepted_ms.saturating_add(ttl.0))
}
