//! Values of resource limits: one for both, or `SOFT:HARD`; `unlimited` is none.

use std::fmt;
use std::str::FromStr;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::{Bytes, Millis, UnitError};

/// What the kernel takes for "no limit" (`getrlimit(2)`, `RLIM_INFINITY`).
const NO_LIMIT: u64 = u64::MAX;

/// A plain number of things.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Count(pub u64);

/// Processor time in seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Seconds(pub u64);

/// Processor time in microseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Micros(pub u64);

/// A soft and a hard limit; `None` is no limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SoftHard<T> {
    /// What is enforced; a process may raise it up to `hard`.
    pub soft: Option<T>,
    /// The ceiling.
    pub hard: Option<T>,
}

/// A quantity that a resource limit counts.
pub trait Quantity: Copy + FromStr<Err = UnitError> + fmt::Display {
    /// Name of the schema.
    const NAME: &'static str;
    /// One value, as a regular expression.
    const PATTERN: &'static str;
    /// A bare number can be meant in one way only.
    const BARE: bool = false;
    /// In the kernel's unit.
    fn raw(self) -> u64;
}

impl<T: Quantity> SoftHard<T> {
    /// Returns both in the kernel's unit, `u64::MAX` being no limit.
    #[must_use]
    pub fn raw(self) -> (u64, u64) {
        let raw = |value: Option<T>| value.map_or(NO_LIMIT, Quantity::raw);
        (raw(self.soft), raw(self.hard))
    }
}

impl Quantity for Count {
    const NAME: &'static str = "Count limit";
    const PATTERN: &'static str = "[0-9]+";
    const BARE: bool = true;
    fn raw(self) -> u64 {
        self.0
    }
}

impl Quantity for Bytes {
    const NAME: &'static str = "Size limit";
    const PATTERN: &'static str = r"0|[0-9]+(\.[0-9]+)?(B|Ki|Mi|Gi|Ti|Pi|k|M|G|T|P)";
    fn raw(self) -> u64 {
        self.0
    }
}

impl Quantity for Seconds {
    const NAME: &'static str = "Seconds limit";
    const PATTERN: &'static str = "0|([0-9]+d)?([0-9]+h)?([0-9]+m)?([0-9]+s)?([0-9]+ms)?";
    fn raw(self) -> u64 {
        self.0
    }
}

impl Quantity for Micros {
    const NAME: &'static str = "Microseconds limit";
    const PATTERN: &'static str = "0|[0-9]+us|([0-9]+d)?([0-9]+h)?([0-9]+m)?([0-9]+s)?([0-9]+ms)?";
    fn raw(self) -> u64 {
        self.0
    }
}

impl FromStr for Count {
    type Err = UnitError;
    fn from_str(text: &str) -> Result<Self, UnitError> {
        let plain = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        let count = text.parse().ok().filter(|count| plain && *count < NO_LIMIT);
        let bad = || UnitError::new("not a count", "write a whole number, or `unlimited`");
        count.map(Self).ok_or_else(bad)
    }
}

impl FromStr for Seconds {
    type Err = UnitError;
    fn from_str(text: &str) -> Result<Self, UnitError> {
        let millis: Millis = text.parse()?;
        if !millis.0.is_multiple_of(1000) {
            return Err(UnitError::new(
                "this limit counts whole seconds",
                "write for example `30s`",
            ));
        }
        Ok(Self(millis.0 / 1000))
    }
}

impl FromStr for Micros {
    type Err = UnitError;
    fn from_str(text: &str) -> Result<Self, UnitError> {
        let bad = || {
            UnitError::new(
                "not a length of time",
                "write for example `200us` or `50ms`",
            )
        };
        if let Some(digits) = text.strip_suffix("us") {
            return digits
                .parse::<Count>()
                .map(|count| Self(count.0))
                .map_err(|_| bad());
        }
        let millis: Millis = text.parse()?;
        millis.0.checked_mul(1000).map(Self).ok_or_else(bad)
    }
}

impl fmt::Display for Count {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for Seconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.checked_mul(1000) {
            Some(millis) => Millis(millis).fmt(f),
            None => write!(f, "{}s", self.0),
        }
    }
}

impl fmt::Display for Micros {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_multiple_of(1000) {
            Millis(self.0 / 1000).fmt(f)
        } else {
            write!(f, "{}us", self.0)
        }
    }
}

impl<T: Quantity> FromStr for SoftHard<T> {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Self, UnitError> {
        let one = |text: &str| match text {
            "unlimited" => Ok(None),
            _ => text.parse::<T>().map(Some),
        };
        let (soft, hard) = match text.split_once(':') {
            Some((soft, hard)) => (one(soft)?, one(hard)?),
            None => (one(text)?, one(text)?),
        };
        let limit = Self { soft, hard };
        let (soft, hard) = limit.raw();
        if soft > hard {
            let help = "write SOFT:HARD with the lower one first".to_owned();
            return Err(UnitError::new(
                "the soft limit is above the hard limit",
                help,
            ));
        }
        Ok(limit)
    }
}

impl<T: Quantity> fmt::Display for SoftHard<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let one =
            |value: Option<T>| value.map_or("unlimited".to_owned(), |value| value.to_string());
        let (soft, hard) = (one(self.soft), one(self.hard));
        if soft == hard {
            f.write_str(&soft)
        } else {
            write!(f, "{soft}:{hard}")
        }
    }
}

impl<T: Quantity> Serialize for SoftHard<T> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

impl<'de, T: Quantity> Deserialize<'de> for SoftHard<T> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = String::deserialize(from)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

impl<T: Quantity> JsonSchema for SoftHard<T> {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        T::NAME.into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let one = format!("({}|unlimited)", T::PATTERN);
        let bare = if T::BARE {
            json_schema!({"type": "integer", "minimum": 0})
        } else {
            json_schema!({"const": 0})
        };
        let pattern = format!("^{one}(:{one})?$");
        json_schema!({"anyOf": [{"type": "string", "minLength": 1, "pattern": pattern}, bare]})
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_value_is_both_limits_and_unlimited_is_none() {
        let limit: SoftHard<Count> = "1024:4096".parse().unwrap();
        assert_eq!(limit.raw(), (1024, 4096));
        assert_eq!("7".parse::<SoftHard<Count>>().unwrap().raw(), (7, 7));
        let limit: SoftHard<Bytes> = "64Ki:unlimited".parse().unwrap();
        assert_eq!(limit.raw(), (65536, u64::MAX));
        assert_eq!(limit.to_string(), "64Ki:unlimited");
        assert_eq!("1m".parse::<SoftHard<Seconds>>().unwrap().raw(), (60, 60));
        assert_eq!(
            "50ms:1s".parse::<SoftHard<Micros>>().unwrap().raw(),
            (50_000, 1_000_000)
        );
    }

    #[test]
    fn a_limit_that_could_be_misread_is_refused() {
        for bad in [
            "",
            "4096:1024",
            "unlimited:1",
            "-1",
            "1:2:3",
            "18446744073709551615",
            "1e3",
        ] {
            assert!(bad.parse::<SoftHard<Count>>().is_err(), "{bad}");
        }
        assert!("64".parse::<SoftHard<Bytes>>().is_err());
        assert!("30".parse::<SoftHard<Seconds>>().is_err());
        assert!("1500ms".parse::<SoftHard<Seconds>>().is_err());
    }
}
