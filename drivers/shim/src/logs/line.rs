//! Output as lines of a log file: `TIME STREAM TAG TEXT`, the form that container runtimes
//! share. The tag is `F` for a line that ends, `P` for a piece of one that goes on.

use rustix::time::{ClockId, clock_gettime};

/// Longest text of one line; longer ones are cut into pieces.
const TEXT_BYTES_MAX: usize = 16 << 10;
/// A piece of output is not made longer than about this.
pub(crate) const OUT_BYTES: usize = 64 << 10;

/// Appends output as lines, until all of it is used or the lines are long enough. Returns
/// how many bytes were used.
pub(crate) fn write_lines(stream: u32, time: &str, input: &[u8], out: &mut Vec<u8>) -> usize {
    let name: &[u8] = if stream == 2 {
        b" stderr "
    } else {
        b" stdout "
    };
    let mut rest = input;
    while !rest.is_empty() && out.len() < OUT_BYTES {
        let window = rest.get(..=TEXT_BYTES_MAX).unwrap_or(rest);
        let (text, used, tag) = match window.iter().position(|byte| *byte == b'\n') {
            Some(end) => (window.get(..end), end + 1, b"F "),
            None => {
                let cut = window.len().min(TEXT_BYTES_MAX);
                (window.get(..cut), cut, b"P ")
            }
        };
        for part in [time.as_bytes(), name, tag, text.unwrap_or_default(), b"\n"] {
            out.extend_from_slice(part);
        }
        rest = rest.get(used..).unwrap_or_default();
    }
    input.len() - rest.len()
}

/// Returns the time as RFC 3339 has it, in UTC, with nanoseconds.
pub(crate) fn now() -> String {
    let now = clock_gettime(ClockId::Realtime);
    format_time(now.tv_sec, now.tv_nsec)
}

/// Years, months and days from days since 1970, by counting in years that begin in March, so
/// that the leap day is the last of its year.
fn format_time(seconds: i64, nanoseconds: i64) -> String {
    let (days, second) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    let from_march_0 = days + 719_468;
    let (era, day_of_era) = (
        from_march_0.div_euclid(146_097),
        from_march_0.rem_euclid(146_097),
    );
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 {
        month_from_march + 3
    } else {
        month_from_march - 9
    };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{nanoseconds:09}Z")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn check(input: &[u8]) -> String {
        let mut out = Vec::new();
        assert_eq!(write_lines(1, "T", input, &mut out), input.len());
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_line_is_full_or_a_piece() {
        assert_eq!(check(b"a\nb\n"), "T stdout F a\nT stdout F b\n");
        assert_eq!(check(b"a"), "T stdout P a\n");
        assert_eq!(check(b"\n"), "T stdout F \n");
        assert_eq!(check(b""), "");
    }

    #[test]
    fn a_long_line_is_cut_and_one_that_just_fits_is_not() {
        let fits = [&vec![b'x'; TEXT_BYTES_MAX][..], b"\n"].concat();
        assert_eq!(check(&fits).matches('\n').count(), 1);
        let longer = [&vec![b'x'; TEXT_BYTES_MAX + 1][..], b"\n"].concat();
        let text = check(&longer);
        assert_eq!(text.matches(" P ").count(), 1);
        assert!(text.ends_with("T stdout F x\n"));
    }

    #[test]
    fn time_is_written_as_people_read_it() {
        assert_eq!(format_time(0, 0), "1970-01-01T00:00:00.000000000Z");
        assert_eq!(
            format_time(951_782_400, 7),
            "2000-02-29T00:00:00.000000007Z"
        );
        assert_eq!(
            format_time(1_709_251_199, 999_999_999),
            "2024-02-29T23:59:59.999999999Z"
        );
        assert_eq!(
            format_time(1_735_689_600, 0),
            "2025-01-01T00:00:00.000000000Z"
        );
        assert_eq!(format_time(-1, 0), "1969-12-31T23:59:59.000000000Z");
    }

    proptest! {
        #[test]
        fn no_byte_is_lost_or_made_up(
            input in prop::collection::vec(prop_oneof![Just(b'\n'), any::<u8>()], 0..4000),
        ) {
            let mut out = Vec::new();
            let used = write_lines(2, "T", &input, &mut out);
            prop_assert_eq!(used, input.len());
            let mut back = Vec::new();
            for line in out.split_inclusive(|byte| *byte == b'\n') {
                let body = line.strip_suffix(b"\n").unwrap();
                if let Some(text) = body.strip_prefix(b"T stderr F ") {
                    back.extend_from_slice(text);
                    back.push(b'\n');
                } else {
                    back.extend_from_slice(body.strip_prefix(b"T stderr P ").unwrap());
                }
            }
            prop_assert_eq!(back, input);
        }
    }
}
