//! Waits for a condition with a bound; never for a length of time.

use std::time::{Duration, Instant};

/// Pause between two looks.
const PAUSE: Duration = Duration::from_millis(10);

/// Returns the first `Some` that `look` gives within `bound`.
///
/// # Panics
/// When the bound has passed; `what` says what was waited for, and the last look what was
/// seen instead.
pub fn eventually<T>(
    what: &str,
    bound: Duration,
    mut look: impl FnMut() -> Result<T, String>,
) -> T {
    let end = Instant::now() + bound;
    loop {
        match look() {
            Ok(value) => return value,
            Err(seen) => assert!(
                Instant::now() < end,
                "waited {bound:?} for {what}; saw {seen}"
            ),
        }
        std::thread::sleep(PAUSE);
    }
}

/// Waits until `holds` does.
///
/// # Panics
/// When the bound has passed.
pub fn until(what: &str, bound: Duration, mut holds: impl FnMut() -> bool) {
    eventually(what, bound, || {
        if holds() {
            Ok(())
        } else {
            Err("it does not hold".to_owned())
        }
    });
}

/// Checks that `holds` goes on holding over `span`.
///
/// # Panics
/// At the first look at which it does not.
pub fn throughout(what: &str, span: Duration, mut holds: impl FnMut() -> bool) {
    let end = Instant::now() + span;
    while Instant::now() < end {
        assert!(holds(), "{what} stopped holding");
        std::thread::sleep(PAUSE);
    }
}
