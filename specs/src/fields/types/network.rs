//! Addresses and ports of all kinds.

use std::net::Ipv4Addr;

use super::{Told, unit};
use crate::diagnostic::{Code, plain};
use crate::parse::faults::Fault;
use crate::parse::tree::Scalar;
use crate::units::{Address, AnyAddress, IcmpNumber, Ports, Subnet, Target};

fn unusable(scalar: &Scalar<'_>, why: &str, help: &str) -> Told {
    let message = format!("`{}` is {why}", plain(&scalar.text));
    Err(Fault::new(Code::Address, message).help(help))
}

/// An address that a packet can be sent to.
pub(super) fn host_address(scalar: &Scalar<'_>) -> Told {
    let Address(address) = unit(scalar, Code::Address)?;
    let help = "write for example `10.254.0.6`";
    match address {
        _ if address.is_unspecified() || address.octets()[0] == 0 => {
            unusable(scalar, "no address of a host", help)
        }
        _ if address.is_loopback() => {
            let why = "an address inside of every container itself";
            unusable(scalar, why, help)
        }
        _ if address.is_multicast() || address >= Ipv4Addr::new(240, 0, 0, 0) => {
            unusable(scalar, "no address of one host", help)
        }
        _ => Ok(()),
    }
}

/// An address that the host may have.
pub(super) fn bind_address(scalar: &Scalar<'_>) -> Told {
    let Address(address) = unit(scalar, Code::Address)?;
    if address.is_multicast() || address >= Ipv4Addr::new(240, 0, 0, 0) {
        return unusable(scalar, "no address of one host", "write one of the host's");
    }
    Ok(())
}

pub(super) fn any_address(scalar: &Scalar<'_>) -> Told {
    unit::<AnyAddress>(scalar, Code::Address).map(|_| ())
}

pub(super) fn target(scalar: &Scalar<'_>) -> Told {
    unit::<Target>(scalar, Code::Target).map(|_| ())
}

pub(super) fn subnet(scalar: &Scalar<'_>) -> Told {
    unit::<Subnet>(scalar, Code::Target).map(|_| ())
}

pub(super) fn ports(scalar: &Scalar<'_>) -> Told {
    unit::<Ports>(scalar, Code::Ports).map(|_| ())
}

pub(super) fn icmp(scalar: &Scalar<'_>) -> Told {
    unit::<IcmpNumber>(scalar, Code::Number).map(|_| ())
}

/// A word of resolv.conf(5), which has no way to quote.
pub(super) fn resolver_option(scalar: &Scalar<'_>) -> Told {
    let text = &*scalar.text;
    let sane = |byte: u8| byte.is_ascii_alphanumeric() || b"-_:.".contains(&byte);
    if !text.is_empty() && text.len() <= 64 && text.bytes().all(sane) {
        return Ok(());
    }
    let message = format!("`{}` is not an option of resolv.conf", plain(text));
    Err(Fault::new(Code::TextShape, message).help("write for example `ndots:2`"))
}
