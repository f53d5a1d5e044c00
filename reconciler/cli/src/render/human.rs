//! Sizes, ages and moments as people say them.

use jiff::Timestamp;
use jiff::tz::TimeZone;

const SECOND: u64 = 1000;
const MINUTE: u64 = 60 * SECOND;
const HOUR: u64 = 60 * MINUTE;
const DAY: u64 = 24 * HOUR;

/// Returns a size in bytes with the unit that a spec would use: `512`, `1.5Ki`, `256Mi`.
pub(crate) fn bytes(count: u64) -> String {
    const UNITS: [&str; 6] = ["Ki", "Mi", "Gi", "Ti", "Pi", "Ei"];
    if count < 1024 {
        return count.to_string();
    }
    // Tenths of the unit, rounded; integers, so that no size is off by a float's error.
    let mut divisor: u128 = 1024;
    for unit in UNITS {
        let tenths = (u128::from(count) * 10 + divisor / 2) / divisor;
        if tenths < 100 && !tenths.is_multiple_of(10) {
            return format!("{}.{}{unit}", tenths / 10, tenths % 10);
        }
        let whole = (u128::from(count) + divisor / 2) / divisor;
        if whole < 1024 {
            return format!("{whole}{unit}");
        }
        divisor *= 1024;
    }
    format!("{}Ei", u128::from(count) * 1024 / divisor)
}

/// Returns a length of time, at most two units of it: `38s`, `5m12s`, `3h4m`, `2d5h`, `45d`.
pub(crate) fn span(ms: u64) -> String {
    let two = |big: u64, big_unit: &str, small: u64, small_unit: &str| {
        let rest = ms % big / small;
        if rest == 0 {
            format!("{}{big_unit}", ms / big)
        } else {
            format!("{}{big_unit}{rest}{small_unit}", ms / big)
        }
    };
    match ms {
        0..MINUTE => format!("{}s", ms / SECOND),
        MINUTE..HOUR => two(MINUTE, "m", SECOND, "s"),
        HOUR..DAY => two(HOUR, "h", MINUTE, "m"),
        _ if ms < 10 * DAY => two(DAY, "d", HOUR, "h"),
        _ => format!("{}d", ms / DAY),
    }
}

/// Returns how long ago a moment was; `-` if there was none. A moment ahead is `0s` ago.
pub(crate) fn age(at_ms: Option<u64>, now_ms: u64) -> String {
    at_ms.map_or_else(|| "-".to_owned(), |at| span(now_ms.saturating_sub(at)))
}

/// Returns how long until a moment, rounded up to a second; `now` if it has come.
pub(crate) fn until(at_ms: u64, now_ms: u64) -> String {
    match at_ms.saturating_sub(now_ms) {
        0 => "now".to_owned(),
        left => span(left.div_ceil(SECOND) * SECOND),
    }
}

/// Returns processor time: `0.38s`, `12.4s`, then as [`span`].
pub(crate) fn cpu(usec: u64) -> String {
    match usec {
        0..10_000_000 => format!("{}.{:02}s", usec / 1_000_000, usec % 1_000_000 / 10_000),
        10_000_000..60_000_000 => format!("{}.{}s", usec / 1_000_000, usec % 1_000_000 / 100_000),
        _ => span(usec / 1000),
    }
}

/// Returns a moment in the reader's time zone, to the second.
pub(crate) fn moment(at_ms: u64, zone: &TimeZone) -> String {
    let stamp = i64::try_from(at_ms)
        .ok()
        .and_then(|ms| Timestamp::from_millisecond(ms).ok());
    stamp.map_or_else(
        || format!("{at_ms}ms"),
        |stamp| {
            stamp
                .to_zoned(zone.clone())
                .strftime("%Y-%m-%d %H:%M:%S")
                .to_string()
        },
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_read_as_a_spec_writes_them() {
        for (count, text) in [
            (0, "0"),
            (1023, "1023"),
            (1024, "1Ki"),
            (1536, "1.5Ki"),
            (10 * 1024 + 512, "11Ki"),
            (1024 * 1024 - 1, "1Mi"),
            (256 << 20, "256Mi"),
            ((1 << 30) + (1 << 29), "1.5Gi"),
            (u64::MAX, "16Ei"),
        ] {
            assert_eq!(bytes(count), text, "{count}");
        }
    }

    #[test]
    fn spans_have_at_most_two_units() {
        for (ms, text) in [
            (0, "0s"),
            (38_999, "38s"),
            (60_000, "1m"),
            (312_000, "5m12s"),
            (3 * HOUR + 4 * MINUTE + 59_000, "3h4m"),
            (2 * DAY + 5 * HOUR, "2d5h"),
            (45 * DAY + HOUR, "45d"),
        ] {
            assert_eq!(span(ms), text, "{ms}");
        }
    }

    #[test]
    fn a_retry_is_never_said_to_be_sooner_than_it_is() {
        assert_eq!(until(38_001, 1), "38s");
        assert_eq!(until(37_002, 1), "38s");
        assert_eq!(until(5, 5), "now");
        assert_eq!(until(4, 5), "now");
    }

    #[test]
    fn processor_time_is_short() {
        assert_eq!(cpu(0), "0.00s");
        assert_eq!(cpu(381_000), "0.38s");
        assert_eq!(cpu(12_480_000), "12.4s");
        assert_eq!(cpu(312_000_000), "5m12s");
    }

    #[test]
    fn a_moment_is_told_in_the_readers_zone() {
        let zone = TimeZone::fixed(jiff::tz::offset(2));
        assert_eq!(moment(0, &zone), "1970-01-01 02:00:00");
        assert_eq!(moment(u64::MAX, &zone), format!("{}ms", u64::MAX));
    }
}
