//! Switches of the network below `/proc/sys/net`, in the namespace of the calling thread
//! (`Documentation/networking/ip-sysctl.rst`).

use std::io;
use std::path::{Path, PathBuf};

use super::LinkError;
use crate::text;

const FORWARD: &str = "/proc/sys/net/ipv4/ip_forward";

/// Returns whether the host passes packets on between its devices.
pub(crate) fn forwarding() -> io::Result<bool> {
    is_on(Path::new(FORWARD))?.ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))
}

/// Makes the host pass packets on; says whether it did not.
pub(crate) fn forward() -> io::Result<bool> {
    let was_on = forwarding()?;
    if !was_on {
        std::fs::write(FORWARD, "1")?;
    }
    Ok(!was_on)
}

/// A switch of one device.
pub(super) struct Switch {
    path: PathBuf,
    what: &'static str,
}

impl Switch {
    /// No address of IPv6, not even one that the device gives itself.
    pub(super) fn no_ipv6(device: &str) -> Self {
        Self {
            path: PathBuf::from(format!("/proc/sys/net/ipv6/conf/{device}/disable_ipv6")),
            what: "turn IPv6 off",
        }
    }

    /// Packets to and from 127.0.0.0/8 may pass.
    pub(super) fn route_localnet(device: &str) -> Self {
        Self {
            path: PathBuf::from(format!("/proc/sys/net/ipv4/conf/{device}/route_localnet")),
            what: "set route_localnet",
        }
    }

    /// Returns whether it is on; none where the kernel has no such switch.
    pub(super) fn is_on(&self) -> Result<Option<bool>, LinkError> {
        is_on(&self.path).map_err(|err| self.refused(err))
    }

    /// Turns it on where there is one.
    pub(super) fn turn_on(&self) -> Result<(), LinkError> {
        match self.is_on()? {
            None | Some(true) => Ok(()),
            Some(false) => std::fs::write(&self.path, "1").map_err(|err| self.refused(err)),
        }
    }

    fn refused(&self, source: io::Error) -> LinkError {
        LinkError::Refused {
            what: self.what,
            source,
        }
    }
}

fn is_on(path: &Path) -> io::Result<Option<bool>> {
    Ok(text::read(path)?.map(|text| text.trim() != "0"))
}
