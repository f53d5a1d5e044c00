//! Conversions between our units and the kernel's files, each with its inverse.

/// The period that quotas are counted in, microseconds; the kernel's default.
pub(crate) const PERIOD_USEC: u64 = 100_000;
/// The period for quotas that would fall below the kernel's shortest, 1 ms.
const PERIOD_LONG_USEC: u64 = 1_000_000;
/// The kernel's default weight, version 2.
pub(crate) const WEIGHT_DEFAULT: u16 = 100;

/// Returns quota and period, microseconds, of a share in thousandths of a processor.
pub(crate) fn quota_of(milli: u32) -> (u64, u64) {
    let period = if milli < 10 {
        PERIOD_LONG_USEC
    } else {
        PERIOD_USEC
    };
    (u64::from(milli) * period / 1000, period)
}

/// Returns the share, thousandths of a processor, that a quota and period give.
pub(crate) fn milli_of(quota: u64, period: u64) -> u32 {
    let period = u128::from(period.max(1));
    let milli = (u128::from(quota) * 1000 + period / 2) / period;
    u32::try_from(milli).unwrap_or(u32::MAX)
}

/// Returns version 1 shares of a weight: in proportion, the defaults 100 and 1024 meeting.
pub(crate) fn shares_of(weight: u16) -> u64 {
    ((u64::from(weight) * 1024 + 50) / 100).max(2)
}

/// Returns the weight, 1 to 10000, of version 1 shares.
pub(crate) fn weight_of(shares: u64) -> u16 {
    let weight = (shares.saturating_mul(100).saturating_add(512) / 1024).clamp(1, 10_000);
    u16::try_from(weight).unwrap_or(10_000)
}

/// Returns a size as the kernel stores it, whole pages.
pub(crate) fn whole_pages(bytes: u64) -> u64 {
    let page = u64::try_from(rustix::param::page_size()).unwrap_or(4096);
    bytes / page * page
}

/// Returns the version 1 spelling of "not limited": the most pages that a counter holds.
pub(crate) fn is_unlimited(bytes: u64) -> bool {
    bytes >= whole_pages(u64::try_from(i64::MAX).unwrap_or(u64::MAX))
}

/// Returns ranges as `cpuset.cpus` takes them.
pub(crate) fn list_of(ranges: &[(u32, u32)]) -> String {
    let words: Vec<String> = ranges
        .iter()
        .map(|(first, last)| {
            if first == last {
                first.to_string()
            } else {
                format!("{first}-{last}")
            }
        })
        .collect();
    words.join(",")
}

/// Parses a processor list (`cpuset(7)`, list format); ranges come out sorted and merged.
pub(crate) fn ranges_of(list: &str) -> Option<Vec<(u32, u32)>> {
    let mut ranges = Vec::new();
    for word in list.trim().split(',').filter(|word| !word.is_empty()) {
        let (first, last) = match word.split_once('-') {
            Some((first, last)) => (first.parse().ok()?, last.parse().ok()?),
            None => {
                let only: u32 = word.parse().ok()?;
                (only, only)
            }
        };
        if last < first {
            return None;
        }
        ranges.push((first, last));
    }
    ranges.sort_unstable();
    let mut merged: Vec<(u32, u32)> = Vec::new();
    for (first, last) in ranges {
        match merged.last_mut() {
            Some(before) if first <= before.1.saturating_add(1) => before.1 = before.1.max(last),
            _ => merged.push((first, last)),
        }
    }
    Some(merged)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_weight_survives_version_1() {
        for weight in 1..=10_000 {
            let shares = shares_of(weight);
            assert_eq!(weight_of(shares), weight);
            assert!((2..=262_144).contains(&shares));
        }
        assert_eq!(shares_of(WEIGHT_DEFAULT), 1024);
    }

    #[test]
    fn every_share_of_a_processor_survives_its_quota() {
        for milli in (1..5000).chain([100_000, 1_000_000]) {
            let (quota, period) = quota_of(milli);
            assert_eq!(milli_of(quota, period), milli);
            assert!(quota >= 1000, "the kernel refuses less than 1 ms");
        }
        assert_eq!(milli_of(33_333, 100_000), 333);
        assert_eq!(milli_of(1, 0), 1000, "a period of 0 does not divide");
    }

    #[test]
    fn processor_lists_come_out_sorted_and_merged() {
        for (text, want) in [
            ("0-1\n", Some(vec![(0, 1)])),
            ("3,0,1", Some(vec![(0, 1), (3, 3)])),
            ("", Some(vec![])),
            ("2-1", None),
            ("x", None),
        ] {
            assert_eq!(ranges_of(text), want, "{text:?}");
        }
        let ranges = [(0, 0), (2, 5)];
        assert_eq!(ranges_of(&list_of(&ranges)), Some(ranges.to_vec()));
    }

    #[test]
    fn unlimited_is_told_from_large() {
        assert!(is_unlimited(9_223_372_036_854_771_712));
        assert!(!is_unlimited(1 << 50));
    }
}
