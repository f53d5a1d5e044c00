//! Sizes, processor shares, durations and permission bits.

use std::fmt;
use std::str::FromStr;

use super::{Bytes, Inodes, MilliCpu, Millis, Mode, UnitError};

const SIZE_UNITS: [(&str, u64); 11] = [
    ("Pi", 1 << 50),
    ("Ti", 1 << 40),
    ("Gi", 1 << 30),
    ("Mi", 1 << 20),
    ("Ki", 1 << 10),
    ("P", 1_000_000_000_000_000),
    ("T", 1_000_000_000_000),
    ("G", 1_000_000_000),
    ("M", 1_000_000),
    ("k", 1_000),
    ("B", 1),
];

/// Largest size: the kernel's counters are signed.
const BYTES_MAX: u64 = i64::MAX.unsigned_abs();

/// Splits `12.5Mi` into its whole digits, its digits after the point, and its unit.
fn split(text: &str) -> Option<(&str, &str, &str)> {
    let digits = |text: &str| text.bytes().take_while(u8::is_ascii_digit).count();
    let (whole, rest) = text.split_at(digits(text));
    if whole.is_empty() {
        return None;
    }
    let Some(after) = rest.strip_prefix('.') else {
        return Some((whole, "", rest));
    };
    let (fraction, unit) = after.split_at(digits(after));
    if fraction.is_empty() {
        return None;
    }
    Some((whole, fraction, unit))
}

/// Returns `whole.fraction * scale` if that is a whole number that fits.
fn scaled(whole: &str, fraction: &str, scale: u64) -> Option<u64> {
    let fraction = fraction.trim_end_matches('0');
    let places = u32::try_from(fraction.len()).ok()?;
    let divisor = 10_u128.checked_pow(places)?;
    let whole: u64 = whole.parse().ok()?;
    let fraction: u128 = if fraction.is_empty() {
        0
    } else {
        fraction.parse().ok()?
    };
    let numerator = fraction.checked_mul(u128::from(scale))?;
    if numerator % divisor != 0 {
        return None;
    }
    let rest = u64::try_from(numerator / divisor).ok()?;
    whole.checked_mul(scale)?.checked_add(rest)
}

impl FromStr for Bytes {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Self, UnitError> {
        const EXAMPLE: &str = "write a size with a unit, for example `256Mi` or `1Gi`";
        if text == "0" {
            return Ok(Self(0));
        }
        let Some((whole, fraction, unit)) = split(text) else {
            return Err(UnitError::new("not a size", EXAMPLE));
        };
        if unit.is_empty() {
            let help = format!(
                "write `{text}Mi` for mebibytes, `{text}Ki` for kibibytes or `{text}B` for bytes"
            );
            return Err(UnitError::new("a size needs a unit", help));
        }
        let Some((_, scale)) = SIZE_UNITS.iter().find(|(name, _)| *name == unit) else {
            let number = text.strip_suffix(unit).unwrap_or(text);
            let help = match unit.to_ascii_lowercase().as_str() {
                "k" | "kb" | "kib" | "ki" => {
                    format!("write `{number}Ki` (1024) or `{number}k` (1000)")
                }
                "m" | "mb" | "mib" | "mi" => {
                    format!("write `{number}Mi` (1024²) or `{number}M` (1000²)")
                }
                "g" | "gb" | "gib" | "gi" => {
                    format!("write `{number}Gi` (1024³) or `{number}G` (1000³)")
                }
                "t" | "tb" | "tib" | "ti" => format!("write `{number}Ti` or `{number}T`"),
                "b" => format!("write `{number}B`"),
                _ => "the units of a size are B, Ki, Mi, Gi, Ti, Pi, k, M, G, T, P".to_owned(),
            };
            return Err(UnitError::new("unknown unit of size", help));
        };
        match scaled(whole, fraction, *scale) {
            Some(bytes) if bytes <= BYTES_MAX => Ok(Self(bytes)),
            _ => Err(UnitError::new(
                "not a whole number of bytes below 8Ei",
                EXAMPLE,
            )),
        }
    }
}

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 == 0 {
            return f.write_str("0");
        }
        for (unit, scale) in SIZE_UNITS {
            if self.0.is_multiple_of(scale) {
                return write!(f, "{}{unit}", self.0 / scale);
            }
        }
        Ok(())
    }
}

const COUNT_UNITS: [(&str, u64); 2] = [("M", 1_000_000), ("k", 1_000)];

impl FromStr for Inodes {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Self, UnitError> {
        let bad = || {
            UnitError::new(
                "not a number of files",
                "write for example `100k` or `5000`",
            )
        };
        let unit = COUNT_UNITS.iter().find(|(name, _)| text.ends_with(name));
        let (name, scale) = unit.copied().unwrap_or(("", 1));
        let digits = text.strip_suffix(name).unwrap_or(text);
        if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(bad());
        }
        // The kernel's numbers of inodes have 32 bits on ext4.
        let count = digits.parse::<u64>().ok();
        let count = count.and_then(|count| count.checked_mul(scale));
        let fits = count.filter(|count| u32::try_from(*count).is_ok());
        fits.map(Self).ok_or_else(bad)
    }
}

impl fmt::Display for Inodes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let fits = |(_, scale): &&(&str, u64)| self.0 > 0 && self.0.is_multiple_of(*scale);
        match COUNT_UNITS.iter().find(fits) {
            Some((unit, scale)) => write!(f, "{}{unit}", self.0 / scale),
            None => self.0.fmt(f),
        }
    }
}

impl FromStr for MilliCpu {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Self, UnitError> {
        const EXAMPLE: &str = "write `500m` or `0.5` for half a processor";
        let bad = || UnitError::new("not a share of processor time", EXAMPLE);
        let (whole, fraction, unit) = split(text).ok_or_else(bad)?;
        let milli = match (fraction, unit) {
            ("", "m") => whole.parse().ok(),
            ("", "") => {
                let help = format!(
                    "write `{text}.0` for {text} whole processors, `{text}m` for {text} thousandths"
                );
                return Err(UnitError::new(
                    "a bare number of processors can be misread",
                    help,
                ));
            }
            (fraction, "") if fraction.len() <= 3 => scaled(whole, fraction, 1000),
            _ => None,
        };
        let milli = milli.ok_or_else(bad)?;
        u32::try_from(milli).map(Self).map_err(|_| bad())
    }
}

impl fmt::Display for MilliCpu {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}m", self.0)
    }
}

const TIME_UNITS: [(&str, u64); 5] = [
    ("d", 86_400_000),
    ("h", 3_600_000),
    ("m", 60_000),
    ("s", 1_000),
    ("ms", 1),
];

impl FromStr for Millis {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Self, UnitError> {
        const EXAMPLE: &str = "write a time with a unit: `100ms`, `30s`, `10m`, `24h`, `7d`";
        if text == "0" {
            return Ok(Self(0));
        }
        let bad = || UnitError::new("not a length of time", EXAMPLE);
        let mut rest = text;
        let mut sum: u64 = 0;
        let mut units = TIME_UNITS.iter();
        while !rest.is_empty() {
            let (number, after) =
                rest.split_at(rest.bytes().take_while(u8::is_ascii_digit).count());
            let name = after
                .split(|c: char| c.is_ascii_digit())
                .next()
                .unwrap_or_default();
            if name.is_empty() && !number.is_empty() && rest.len() == text.len() {
                let help = format!("write `{text}s` for seconds or `{text}ms` for milliseconds");
                return Err(UnitError::new("a length of time needs a unit", help));
            }
            // Units go from large to small, each at most once.
            let (_, scale) = units.find(|(unit, _)| *unit == name).ok_or_else(bad)?;
            let number: u64 = number.parse().map_err(|_| bad())?;
            let part = number.checked_mul(*scale).ok_or_else(bad)?;
            sum = sum.checked_add(part).ok_or_else(bad)?;
            rest = after.get(name.len()..).unwrap_or_default();
        }
        if text.is_empty() {
            Err(bad())
        } else {
            Ok(Self(sum))
        }
    }
}

impl fmt::Display for Millis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 == 0 {
            return f.write_str("0");
        }
        for (unit, scale) in TIME_UNITS {
            if self.0.is_multiple_of(scale) {
                return write!(f, "{}{unit}", self.0 / scale);
            }
        }
        Ok(())
    }
}

impl FromStr for Mode {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Self, UnitError> {
        let octal =
            |text: &str| !text.is_empty() && text.bytes().all(|b| (b'0'..=b'7').contains(&b));
        let digits = text
            .strip_prefix('0')
            .filter(|rest| rest.len() == 4)
            .unwrap_or(text);
        if digits.len() == 4 && octal(digits) {
            let bits = u32::from_str_radix(digits, 8);
            return bits
                .map(Self)
                .map_err(|_| UnitError::new("not a mode", "write `\"0644\"`"));
        }
        let bare = text.strip_prefix("0o").unwrap_or(text);
        let help = if bare.len() == 3 && octal(bare) {
            format!("write `\"0{bare}\"`")
        } else {
            "write four octal digits in quotes, for example `\"0644\"`".to_owned()
        };
        Err(UnitError::new("not permission bits", help))
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04o}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check<T: FromStr<Err = UnitError> + fmt::Display>(good: &[(&str, &str)], bad: &[&str]) {
        for (text, canonical) in good {
            let value = text
                .parse::<T>()
                .map_err(|err| format!("{text}: {err}"))
                .unwrap();
            assert_eq!(value.to_string(), *canonical, "{text}");
            assert_eq!(canonical.parse::<T>().unwrap().to_string(), *canonical);
        }
        for text in bad {
            let err = text
                .parse::<T>()
                .map(|value| value.to_string())
                .unwrap_err();
            assert!(err.help().is_some(), "{text}");
        }
    }

    #[test]
    fn a_size_needs_a_unit_and_prints_in_the_largest_that_fits() {
        check::<Bytes>(
            &[
                ("256Mi", "256Mi"),
                ("1024Mi", "1Gi"),
                ("1.5Gi", "1536Mi"),
                ("1000B", "1k"),
                ("0", "0"),
                ("0Mi", "0"),
                ("1M", "1M"),
                ("1023B", "1023B"),
            ],
            &[
                "256",
                "1mb",
                "128m",
                "",
                "-1Mi",
                "1 Mi",
                "1e3",
                "0.0001Ki",
                "9999999Pi",
                ".5Gi",
                "5.Gi",
                "99999999999999999999Mi",
                "Mi",
                "0x10",
                "NaN",
                "1.00000000000000000000000000000000000000001Gi",
            ],
        );
        let err = "128m".parse::<Bytes>().unwrap_err();
        assert!(err.help().unwrap().contains("128Mi"));
    }

    #[test]
    fn a_bare_number_of_processors_is_refused() {
        check::<MilliCpu>(
            &[
                ("1500m", "1500m"),
                ("0.5", "500m"),
                ("1.25", "1250m"),
                ("2.0", "2000m"),
            ],
            &[
                "2",
                "500",
                "0.0001",
                "1.5m",
                "",
                "-1m",
                "1e3",
                "4294967296m",
            ],
        );
    }

    #[test]
    fn a_time_needs_a_unit() {
        check::<Millis>(
            &[
                ("100ms", "100ms"),
                ("90s", "90s"),
                ("60s", "1m"),
                ("1h30m", "90m"),
                ("24h", "1d"),
                ("0", "0"),
                ("0s", "0"),
                ("1m500ms", "60500ms"),
            ],
            &[
                "10",
                "1m1h",
                "1s1s",
                "s",
                "1 s",
                "-1s",
                "1.5s",
                "",
                "1w",
                "99999999999999999999d",
            ],
        );
    }

    #[test]
    fn a_mode_is_octal_with_its_leading_zero() {
        check::<Mode>(
            &[
                ("0644", "0644"),
                ("1777", "1777"),
                ("01777", "1777"),
                ("0000", "0000"),
            ],
            &["644", "0o644", "0888", "", "10644", "0x1f", "-0644", "+644"],
        );
    }
}
