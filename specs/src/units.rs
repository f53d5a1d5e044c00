//! Quantities with their unit in the type. Parsing and printing with units lives beside
//! each type; a bare number is refused where it could be misread.
//!
//! Every type here reads the text it prints: `text.parse()` and `to_string()` are inverses,
//! and that text is also its form in YAML and JSON.

mod amount;
mod cpuset;
mod net;
mod rlimit;
mod signal;
mod user;

use std::fmt;

pub use cpuset::CpuSet;
pub use net::{Address, AnyAddress, IcmpNumber, Ports, Subnet, Target};
pub use rlimit::{Count, Micros, Quantity, Seconds, SoftHard};
pub(crate) use user::ID_MAX;

/// A size in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Bytes(pub u64);

/// A share of processor time in thousandths of one processor; `1500` is one and a half.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MilliCpu(pub u32);

/// A length of time in milliseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Millis(pub u64);

/// A number of files, directories and links; written plain or in thousands: `100k`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Inodes(pub u64);

/// A signal by number, 1 to 64 (`signal(7)`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Signal(pub u8);

/// Permission bits, at most `0o7777`; written as four octal digits in quotes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Mode(pub u32);

/// A text that is printed as its length only: environment values, file contents.
#[derive(Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Secret(pub String);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Secret({} bytes)", self.0.len())
    }
}

/// A text that is no quantity of the kind asked for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct UnitError {
    message: String,
    help: Option<String>,
}

impl UnitError {
    pub(crate) fn new(message: impl Into<String>, help: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            help: Some(help.into()),
        }
    }

    /// Returns what to write instead, where that can be guessed.
    #[must_use]
    pub fn help(&self) -> Option<&str> {
        self.help.as_deref()
    }
}

/// Reads and writes a type as the text that it parses and prints.
macro_rules! as_text {
    ($type:ty, $name:literal, $schema:expr) => {
        impl serde::Serialize for $type {
            fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
                to.collect_str(self)
            }
        }
        impl<'de> serde::Deserialize<'de> for $type {
            fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
                let text = <String as serde::Deserialize>::deserialize(from)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
        impl schemars::JsonSchema for $type {
            fn schema_name() -> std::borrow::Cow<'static, str> {
                $name.into()
            }
            fn inline_schema() -> bool {
                true
            }
            fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
                $schema
            }
        }
    };
}
pub(crate) use as_text;

use schemars::json_schema;

as_text!(
    Bytes,
    "Size",
    json_schema!({
        "anyOf": [
            {"type": "string", "pattern": r"^(0|[0-9]+(\.[0-9]+)?(B|Ki|Mi|Gi|Ti|Pi|k|M|G|T|P))$"},
            {"const": 0}
        ]
    })
);
as_text!(
    MilliCpu,
    "Processors",
    json_schema!({
        "anyOf": [
            {"type": "string", "pattern": r"^([0-9]+m|[0-9]+\.[0-9]{1,3})$"},
            {"type": "number"}
        ]
    })
);
as_text!(
    Millis,
    "Duration",
    json_schema!({
        "anyOf": [
            {
                "type": "string",
                "minLength": 1,
                "pattern": r"^(0|([0-9]+d)?([0-9]+h)?([0-9]+m)?([0-9]+s)?([0-9]+ms)?)$"
            },
            {"const": 0}
        ]
    })
);
as_text!(
    Inodes,
    "Inodes",
    json_schema!({
        "anyOf": [
            {"type": "string", "pattern": "^[0-9]+[kM]?$"},
            {"type": "integer", "minimum": 128}
        ]
    })
);
as_text!(
    Signal,
    "Signal",
    json_schema!({
        "type": "string",
        "pattern": r"^(SIG)?([A-Z][A-Z0-9]+|RTMIN(\+[0-9]+)?|RTMAX(-[0-9]+)?)$"
    })
);
as_text!(
    Mode,
    "Mode",
    json_schema!({"type": "string", "pattern": "^0?[0-7]{4}$"})
);
