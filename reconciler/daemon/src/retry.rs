//! Draws retry delays. The only file that names the `backoff` crate.
//!
//! The crate is no longer kept up; `docs/adr/backoff.md` says how it is contained. Of it we
//! use one generator per container or process, `next_backoff` only, never its own waiting,
//! and never its giving up: `max_elapsed_time` is `None`.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use backoff::ExponentialBackoff;
use backoff::backoff::Backoff as _;
use backoff::exponential::ExponentialBackoff as Generator;
use specs::id::{Key, ProcessName};
use specs::units::Millis;

/// How far a delay may lie from its centre, as a fraction of it.
const JITTER: f64 = 0.5;
/// Each delay is about this many times the one before.
const MULTIPLIER: f64 = 2.0;
/// After so many steps every delay has long reached its maximum.
const CATCH_UP_MAX: u32 = 64;

/// What is retried: a container, or one of its processes.
pub(crate) type Who = (Key, Option<ProcessName>);

/// What a delay is drawn from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Curve {
    /// Delay after the first failure.
    pub(crate) initial: Millis,
    /// Longest delay.
    pub(crate) max: Millis,
}

/// A clock that was read by the caller.
#[derive(Clone, Copy, Debug)]
struct Read(Instant);

impl backoff::Clock for Read {
    fn now(&self) -> Instant {
        self.0
    }
}

#[derive(Debug)]
struct One {
    generator: Generator<Read>,
    curve: Curve,
    attempt: u32,
}

/// Keeps one generator per container or process that is failing.
#[derive(Debug)]
pub(crate) struct Retries {
    origin: Instant,
    ones: BTreeMap<Who, One>,
}

impl Retries {
    /// Returns an empty set whose generators count from `origin`.
    pub(crate) fn new(origin: Instant) -> Self {
        Self {
            origin,
            ones: BTreeMap::new(),
        }
    }

    /// Draws the delay before try `attempt + 1`, where `attempt` failures in a row are known.
    ///
    /// *Guarantees:* between half and one and a half times `initial * 2^(attempt - 1)`, and
    /// never more than `max`.
    pub(crate) fn delay(&mut self, who: Who, attempt: u32, curve: Curve) -> Millis {
        let origin = self.origin;
        let one = self
            .ones
            .entry(who)
            .or_insert_with(|| One::new(origin, curve));
        if one.curve != curve || attempt <= one.attempt {
            *one = One::new(origin, curve);
        }
        let mut delay = curve.max;
        let behind = attempt.max(1).saturating_sub(one.attempt);
        for _ in 0..behind.min(CATCH_UP_MAX) {
            if let Some(next) = one.generator.next_backoff() {
                delay = Millis(u64::try_from(next.as_millis()).unwrap_or(u64::MAX));
            }
        }
        one.attempt = attempt.max(1);
        Millis(delay.0.min(curve.max.0))
    }

    /// Drops every generator of a container that is gone.
    pub(crate) fn forget(&mut self, key: &Key) {
        self.ones.retain(|(of, _), _| of != key);
    }
}

impl One {
    fn new(origin: Instant, curve: Curve) -> Self {
        Self {
            generator: generator(origin, curve, MULTIPLIER),
            curve,
            attempt: 0,
        }
    }
}

/// Returns a delay that is anything between half and one and a half times `centre`.
pub(crate) fn jittered(centre: Duration, origin: Instant) -> Duration {
    let centre = Millis(u64::try_from(centre.as_millis()).unwrap_or(u64::MAX));
    let curve = Curve {
        initial: centre,
        max: centre,
    };
    let drawn = generator(origin, curve, 1.0).next_backoff();
    drawn.unwrap_or(Duration::from_millis(centre.0))
}

fn generator(origin: Instant, curve: Curve, multiplier: f64) -> Generator<Read> {
    let template = ExponentialBackoff::default();
    let initial = Duration::from_millis(curve.initial.0.min(curve.max.0).max(1));
    Generator {
        current_interval: initial,
        initial_interval: initial,
        randomization_factor: JITTER,
        multiplier,
        max_interval: Duration::from_millis(curve.max.0.max(1)),
        start_time: template.start_time,
        max_elapsed_time: None,
        clock: Read(origin),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn who(name: &str) -> Who {
        (Key::new(name).unwrap(), None)
    }

    const CURVE: Curve = Curve {
        initial: Millis(100),
        max: Millis(10_000),
    };

    fn retries() -> Retries {
        Retries::new(crate::clock::instant())
    }

    #[test]
    fn delays_double_with_jitter_and_stay_below_the_maximum() {
        let mut retries = retries();
        for attempt in 1..=200u32 {
            let delay = retries.delay(who("a"), attempt, CURVE).0;
            let centre = 100u64.saturating_mul(1 << (attempt - 1).min(20));
            assert!(delay <= 10_000, "attempt {attempt}: {delay}");
            assert!(
                delay >= centre.min(10_000) / 2,
                "attempt {attempt}: {delay}"
            );
            assert!(delay <= centre * 3 / 2 + 1, "attempt {attempt}: {delay}");
        }
    }

    #[test]
    fn a_retry_never_ends_however_long_it_fails() {
        // The crate's own default gives up after fifteen minutes.
        let long_ago = crate::clock::instant()
            .checked_sub(Duration::from_secs(3600))
            .unwrap_or_else(crate::clock::instant);
        let mut generator = generator(long_ago, CURVE, MULTIPLIER);
        generator.start_time = long_ago;
        generator.clock = Read(crate::clock::instant());
        assert!((0..1000).all(|_| generator.next_backoff().is_some()));
    }

    #[test]
    fn delays_of_two_containers_are_not_in_step() {
        let mut retries = retries();
        let drawn: std::collections::BTreeSet<u64> = (0..20)
            .map(|n| retries.delay(who(&format!("c{n}")), 7, CURVE).0)
            .collect();
        assert!(drawn.len() > 5, "{drawn:?}");
    }

    #[test]
    fn success_or_an_edit_begins_at_the_first_delay_again() {
        let mut retries = retries();
        for attempt in 1..=8 {
            retries.delay(who("a"), attempt, CURVE);
        }
        assert!(retries.delay(who("a"), 1, CURVE).0 <= 150);
        let other = Curve {
            initial: Millis(10),
            ..CURVE
        };
        assert!(retries.delay(who("a"), 2, other).0 <= 30);
    }

    #[test]
    fn a_failure_seen_for_the_first_time_late_waits_as_long_as_its_count_says() {
        assert!(retries().delay(who("a"), 6, CURVE).0 >= 1600);
    }

    #[test]
    fn a_forgotten_container_leaves_nothing_behind() {
        let mut retries = retries();
        retries.delay(who("a"), 3, CURVE);
        retries.delay(
            (Key::new("a").unwrap(), Some(ProcessName::new("p").unwrap())),
            3,
            CURVE,
        );
        retries.delay(who("b"), 3, CURVE);
        retries.forget(&Key::new("a").unwrap());
        assert_eq!(retries.ones.len(), 1);
    }
}
