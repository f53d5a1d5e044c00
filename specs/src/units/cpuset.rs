//! Lists of processors, in the kernel's own notation (`cpuset(7)`, "List format").

use std::fmt;
use std::str::FromStr;

use schemars::json_schema;

use super::{UnitError, as_text};

/// Highest processor number: kernels are built for at most 8192.
const CPU_MAX: u32 = 8191;

/// Processors: sorted, disjoint, non-adjacent inclusive ranges.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CpuSet(pub Vec<(u32, u32)>);

impl FromStr for CpuSet {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Self, UnitError> {
        let bad = |message: &str| UnitError::new(message, "write a list such as `\"0-3,8\"`");
        let number = |text: &str| {
            let plain = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
            let number = text.parse::<u32>().ok().filter(|n| plain && *n <= CPU_MAX);
            number.ok_or_else(|| bad("not a list of processors"))
        };
        let mut ranges = Vec::new();
        for part in text.split(',') {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            let range = (number(first)?, number(last)?);
            if range.0 > range.1 {
                return Err(bad("a range of processors goes from low to high"));
            }
            ranges.push(range);
        }
        ranges.sort_unstable();
        let mut merged: Vec<(u32, u32)> = Vec::new();
        for (first, last) in ranges {
            match merged.last_mut() {
                Some(before) if first <= before.1 + 1 => before.1 = before.1.max(last),
                _ => merged.push((first, last)),
            }
        }
        Ok(Self(merged))
    }
}

impl fmt::Display for CpuSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, (first, last)) in self.0.iter().enumerate() {
            let comma = if at == 0 { "" } else { "," };
            if first == last {
                write!(f, "{comma}{first}")?;
            } else {
                write!(f, "{comma}{first}-{last}")?;
            }
        }
        Ok(())
    }
}

as_text!(
    CpuSet,
    "Processor list",
    json_schema!({"type": "string", "pattern": "^[0-9]+(-[0-9]+)?(,[0-9]+(-[0-9]+)?)*$"})
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_sets_have_one_form() {
        for (text, canonical) in [
            ("0-1", "0-1"),
            ("3,1,0", "0-1,3"),
            ("0-3,2-5", "0-5"),
            ("7", "7"),
            ("0,1,2", "0-2"),
        ] {
            assert_eq!(text.parse::<CpuSet>().unwrap().to_string(), canonical);
        }
        for bad in [
            "", "1-", "-1", "3-1", "a", "0,", "8192", "0-99999", "+1", "0--1", " 1",
        ] {
            assert!(bad.parse::<CpuSet>().is_err(), "{bad}");
        }
    }
}
