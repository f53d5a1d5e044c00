//! The only place that reads clocks.

use std::time::Instant;

use reconciler_core::io::Now;
use rustix::time::{ClockId, Timespec, clock_gettime};

/// Returns both clocks.
///
/// `CLOCK_BOOTTIME` counts through suspend and is never set; `CLOCK_REALTIME` is for display
/// and for the age that `ttl` speaks of (`clock_gettime(2)`).
pub(crate) fn now() -> Now {
    Now {
        boot_ms: boot_ms(),
        wall_ms: wall_ms(),
    }
}

/// Returns milliseconds since boot.
pub(crate) fn boot_ms() -> u64 {
    millis(clock_gettime(ClockId::Boottime))
}

/// Returns milliseconds since the epoch.
pub(crate) fn wall_ms() -> u64 {
    millis(clock_gettime(ClockId::Realtime))
}

/// Returns the monotonic clock in the form that the `backoff` crate wants.
pub(crate) fn instant() -> Instant {
    Instant::now()
}

fn millis(time: Timespec) -> u64 {
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    let nanos = u64::try_from(time.tv_nsec).unwrap_or(0);
    seconds
        .saturating_mul(1000)
        .saturating_add(nanos / 1_000_000)
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_boot_clock_never_goes_back() {
        let first = super::boot_ms();
        assert!(first > 0);
        assert!(super::boot_ms() >= first);
    }
}
