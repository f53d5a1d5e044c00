//! One clock for what is here and in containers, and what processes have used.

use std::time::Duration;

use nix::time::{ClockId, clock_getcpuclockid, clock_gettime};
use nix::unistd::Pid;

fn read(clock: ClockId) -> Duration {
    let now = clock_gettime(clock).expect("the clock is read");
    Duration::new(
        u64::try_from(now.tv_sec()).expect("no time before the boot"),
        u32::try_from(now.tv_nsec()).expect("less than a second"),
    )
}

/// Time since the boot, as programs in containers read it too.
pub(crate) fn now() -> Duration {
    read(ClockId::CLOCK_MONOTONIC)
}

/// What a process has used of the processors, all its threads, those that ended too.
pub(crate) fn used_by(pid: u32) -> Duration {
    let pid = Pid::from_raw(i32::try_from(pid).expect("a pid fits"));
    read(clock_getcpuclockid(pid).expect("a clock of the process"))
}

/// A length of time in milliseconds.
pub(crate) fn ms(span: Duration) -> f64 {
    span.as_secs_f64() * 1000.0
}

/// Looks every 100 microseconds until there is an answer.
///
/// # Panics
/// When there is none within the bound.
pub(crate) fn wait<T>(what: &str, bound: Duration, mut look: impl FnMut() -> Option<T>) -> T {
    let until = now() + bound;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(now() < until, "waited {bound:?} for {what}");
        std::thread::sleep(Duration::from_micros(100));
    }
}

/// Finds what `bare stamp` said.
pub(crate) fn stamp(text: &str) -> Option<Duration> {
    let (_, rest) = text.split_once("stamp=")?;
    let (digits, _) = rest.split_once('\n')?;
    Some(Duration::from_nanos(digits.parse().ok()?))
}
