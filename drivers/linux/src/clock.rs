//! The two clocks and the name of the present boot.

use std::io;
use std::time::Duration;

use driver_api::Deadline;
use rustix::time::{ClockId, Timespec, clock_gettime};

/// Shortest and longest single sleep while a condition is polled.
const NAP_MIN: Duration = Duration::from_micros(200);
const NAP_MAX: Duration = Duration::from_millis(20);

fn millis(at: Timespec) -> u64 {
    let seconds = u64::try_from(at.tv_sec).unwrap_or(0);
    let nanos = u64::try_from(at.tv_nsec).unwrap_or(0);
    seconds
        .saturating_mul(1000)
        .saturating_add(nanos / 1_000_000)
}

/// Returns milliseconds since boot, sleep included (`CLOCK_BOOTTIME`, `clock_gettime(2)`).
#[must_use]
pub fn boot_ms() -> u64 {
    millis(clock_gettime(ClockId::Boottime))
}

/// Returns milliseconds since the epoch, for display only.
pub(crate) fn wall_ms() -> u64 {
    millis(clock_gettime(ClockId::Realtime))
}

/// Returns the name that the kernel drew for this boot (`random(4)`).
pub(crate) fn boot_id() -> io::Result<String> {
    Ok(std::fs::read_to_string("/proc/sys/kernel/random/boot_id")?
        .trim()
        .to_owned())
}

/// Returns how many milliseconds are left.
pub(crate) fn left_ms(deadline: Deadline) -> u64 {
    deadline.at_ms.saturating_sub(boot_ms())
}

/// Asks until the answer is yes or the deadline has passed; says which.
///
/// *Guarantees:* asks at least once, and naps in between for a quarter of the time that it has
/// waited so far: what took long is noticed a little later than what was there at once.
pub(crate) fn wait_until<E>(
    deadline: Deadline,
    mut done: impl FnMut() -> Result<bool, E>,
) -> Result<bool, E> {
    let mut waited = Duration::ZERO;
    loop {
        if done()? {
            return Ok(true);
        }
        let left = Duration::from_millis(left_ms(deadline));
        if left.is_zero() {
            return Ok(false);
        }
        let nap = (waited / 4).clamp(NAP_MIN, NAP_MAX).min(left);
        std::thread::sleep(nap);
        waited += nap;
    }
}
