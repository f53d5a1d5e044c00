//! Addresses and ports.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr};
use std::str::FromStr;

use schemars::json_schema;

use super::{UnitError, as_text};
use crate::desired::Range;

/// An IPv4 address of one host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Address(pub Ipv4Addr);

/// An address of either version, for a line of `/etc/hosts`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AnyAddress(pub IpAddr);

/// Destinations: one address, a network (`10.0.0.0/8`) or a range (`10.0.0.1-10.0.0.9`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Target(pub Range);

/// An IPv4 network, with nothing set below its prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Subnet(pub Range);

/// Ports: one, or a range such as `8000-9000`, ends included; 0 is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ports(pub u16, pub u16);

/// An ICMP type or code; none is any of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct IcmpNumber(pub Option<u8>);

const TARGET_HELP: &str = "write for example `10.0.0.7`, `10.0.0.0/8` or `10.0.0.1-10.0.0.9`";

/// Digits without a sign, a leading zero or anything else that readers differ in.
fn digits<T: FromStr>(text: &str) -> Option<T> {
    let plain = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let canonical = plain && (text == "0" || !text.starts_with('0'));
    canonical.then(|| text.parse().ok()).flatten()
}

impl FromStr for Address {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Self, UnitError> {
        let bad = || UnitError::new("not an IPv4 address", "write for example `10.254.0.6`");
        text.parse().map(Self).map_err(|_| bad())
    }
}

impl FromStr for AnyAddress {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Self, UnitError> {
        let bad = || {
            UnitError::new(
                "not an address",
                "write for example `10.254.0.10` or `fd00::1`",
            )
        };
        text.parse().map(Self).map_err(|_| bad())
    }
}

/// Returns the network that a text says, and whether nothing is set below its prefix.
fn network(text: &str) -> Option<(Range, bool)> {
    let (address, prefix) = text.split_once('/')?;
    let address: Ipv4Addr = address.parse().ok()?;
    let prefix: u32 = digits(prefix).filter(|prefix| *prefix <= 32)?;
    let below = u32::MAX.checked_shr(prefix).unwrap_or(0);
    let bits = address.to_bits();
    let range = Range {
        first: Ipv4Addr::from_bits(bits & !below),
        last: Ipv4Addr::from_bits(bits | below),
    };
    Some((range, bits & below == 0))
}

impl FromStr for Subnet {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Self, UnitError> {
        match network(text) {
            Some((range, true)) => Ok(Self(range)),
            Some((range, false)) => Err(UnitError::new(
                "an address inside a network, not the network",
                format!("write `{}`", Subnet(range)),
            )),
            None => Err(UnitError::new(
                "not an IPv4 network",
                "write for example `10.254.0.0/16`",
            )),
        }
    }
}

impl FromStr for Target {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Self, UnitError> {
        let bad = |message: &str| UnitError::new(message, TARGET_HELP);
        if text.contains('/') {
            return text.parse().map(|Subnet(range)| Self(range));
        }
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        let (Ok(first), Ok(last)) = (first.parse(), last.parse()) else {
            return Err(bad("not a destination"));
        };
        if last < first {
            return Err(bad("a range of addresses goes from low to high"));
        }
        Ok(Self(Range { first, last }))
    }
}

impl FromStr for Ports {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Self, UnitError> {
        let bad = |message: &str| UnitError::new(message, "write for example `443` or `8000-9000`");
        let one = |text| digits::<u16>(text).filter(|port| *port != 0);
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        let (Some(first), Some(last)) = (one(first), one(last)) else {
            return Err(bad("not a port from 1 to 65535, and not a range of them"));
        };
        if last < first {
            return Err(bad("a range of ports goes from low to high"));
        }
        Ok(Self(first, last))
    }
}

impl FromStr for IcmpNumber {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Self, UnitError> {
        let bad = || UnitError::new("not a number from 0 to 255", "write one, or `any`");
        match text {
            "any" => Ok(Self(None)),
            _ => digits(text)
                .map(|number| Self(Some(number)))
                .ok_or_else(bad),
        }
    }
}

impl fmt::Display for IcmpNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(number) => write!(f, "{number}"),
            None => f.write_str("any"),
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for AnyAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for Subnet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Range { first, last } = self.0;
        let prefix = (first.to_bits() ^ last.to_bits()).leading_zeros();
        write!(f, "{first}/{prefix}")
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Range { first, last } = self.0;
        let below = first.to_bits() ^ last.to_bits();
        let is_network = below & below.wrapping_add(1) == 0 && first.to_bits() & below == 0;
        match (first == last, is_network) {
            (true, _) => write!(f, "{first}"),
            (false, true) => Subnet(self.0).fmt(f),
            (false, false) => write!(f, "{first}-{last}"),
        }
    }
}

impl fmt::Display for Ports {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 == self.1 {
            write!(f, "{}", self.0)
        } else {
            write!(f, "{}-{}", self.0, self.1)
        }
    }
}

as_text!(
    Address,
    "IPv4 address",
    json_schema!({"type": "string", "pattern": r"^[0-9]{1,3}(\.[0-9]{1,3}){3}$"})
);
as_text!(
    AnyAddress,
    "Address",
    json_schema!({"type": "string", "pattern": r"^[0-9a-fA-F.:]+$"})
);
as_text!(
    Subnet,
    "IPv4 network",
    json_schema!({"type": "string", "pattern": r"^[0-9]{1,3}(\.[0-9]{1,3}){3}/[0-9]{1,2}$"})
);
as_text!(
    Target,
    "Destination",
    json_schema!({"type": "string", "pattern": r"^[0-9./-]+$"})
);
as_text!(
    IcmpNumber,
    "ICMP number",
    json_schema!({
        "anyOf": [
            {"type": "string", "pattern": "^(any|0|[1-9][0-9]{0,2})$"},
            {"type": "integer", "minimum": 0, "maximum": 255}
        ]
    })
);
as_text!(
    Ports,
    "Ports",
    json_schema!({
        "anyOf": [
            {"type": "string", "pattern": "^[1-9][0-9]{0,4}(-[1-9][0-9]{0,4})?$"},
            {"type": "integer", "minimum": 1, "maximum": 65535}
        ]
    })
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_what_is_read() {
        for text in ["10.0.0.7", "10.0.0.0/8", "0.0.0.0/0", "10.0.0.1-10.0.0.9"] {
            assert_eq!(text.parse::<Target>().unwrap().to_string(), text);
        }
        for (text, canonical) in [
            ("10.0.0.0-10.0.0.255", "10.0.0.0/24"),
            ("10.0.0.7/32", "10.0.0.7"),
            ("0.0.0.0-255.255.255.255", "0.0.0.0/0"),
        ] {
            assert_eq!(text.parse::<Target>().unwrap().to_string(), canonical);
        }
        for text in ["1", "443", "8000-9000", "65535"] {
            assert_eq!(text.parse::<Ports>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn what_could_be_misread_is_refused() {
        for bad in [
            "",
            "10.0.0",
            "10.0.0.1/8",
            "10.0.0.0/33",
            "10.0.0.0/08",
            "10.0.0.9-10.0.0.1",
            "a",
            "10.0.0.1-",
            "fd00::/8",
            "010.0.0.1",
            "10.0.0.0/+8",
        ] {
            assert!(bad.parse::<Target>().is_err(), "{bad}");
        }
        for bad in ["", "0", "65536", "443-", "9-8", "+1", "0443", "1-0"] {
            assert!(bad.parse::<Ports>().is_err(), "{bad}");
        }
        let told = "10.0.0.1/8".parse::<Subnet>().unwrap_err();
        assert_eq!(told.help(), Some("write `10.0.0.0/8`"));
    }
}
