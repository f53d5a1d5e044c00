//! Capabilities by name (`capabilities(7)`).

use std::collections::BTreeSet;

use driver_api::StepError;
use specs::desired::{Security, UserNamespace};
use specs::resolve::capability::NAMES;

use crate::error::{During as _, terminal};
use crate::text;

/// Returns the bit of a capability, by its name without `CAP_`.
pub(crate) fn bit(name: &str) -> Option<u64> {
    let number = NAMES.iter().position(|known| *known == name)?;
    Some(1 << number)
}

/// Returns the names of the bits that are set; an unknown bit by its number.
pub(crate) fn names(bits: u64) -> Vec<String> {
    (0..64)
        .filter(|number| bits >> number & 1 == 1)
        .map(|number: usize| {
            NAMES
                .get(number)
                .map_or_else(|| number.to_string(), |name| (*name).to_owned())
        })
        .collect()
}

/// Which capability sets of this process matter here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Own {
    /// `CapEff`.
    pub(crate) effective: u64,
    /// `CapBnd`.
    pub(crate) bounding: u64,
}

/// Reads this process' own sets.
pub(crate) fn own() -> Result<Own, StepError> {
    let what = || "read our own capabilities".to_owned();
    let path = std::path::Path::new("/proc/self/status");
    let found = text::read(path).during(what)?.unwrap_or_default();
    let set = |name: &str| {
        let line = found.lines().find_map(|line| line.strip_prefix(name))?;
        u64::from_str_radix(line.trim(), 16).ok()
    };
    match (set("CapEff:"), set("CapBnd:")) {
        (Some(effective), Some(bounding)) => Ok(Own {
            effective,
            bounding,
        }),
        _ => Err(crate::error::retry(what(), "/proc/self/status lacks them")),
    }
}

/// Returns the mask of a set of names, or the first unknown one.
pub(crate) fn mask(names: &BTreeSet<String>) -> Result<u64, &str> {
    names.iter().try_fold(0, |bits, name| {
        bit(name).map(|bit| bits | bit).ok_or(name.as_str())
    })
}

/// Returns the capabilities that a container's processes keep.
///
/// In a user namespace of its own every capability can be had, since it counts only there.
/// In the host's, what the daemon itself may not have cannot be given on.
pub(crate) fn resolve(security: &Security, own: Own) -> Result<u64, StepError> {
    let what = "give the container its capabilities";
    let known = (1_u64 << NAMES.len()) - 1;
    let is_host = security.user_namespace == UserNamespace::Host;
    if security.privileged {
        return Ok(if is_host { own.bounding } else { known });
    }
    let asked = mask(&security.capabilities).map_err(|name| {
        terminal(
            what,
            format!("there is no capability {name}"),
            "see capabilities(7)",
        )
    })?;
    let missing = asked & !own.bounding;
    if is_host && missing != 0 {
        let list = names(missing).join(", ");
        return Err(terminal(
            what,
            format!("the daemon itself may not have {list} (CapBnd)"),
            format!("start the daemon with {list}, or drop it from security.capabilities"),
        ));
    }
    Ok(asked)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_those_of_the_kernel() {
        for (name, number) in [
            ("CHOWN", 0),
            ("NET_BIND_SERVICE", 10),
            ("SYS_ADMIN", 21),
            ("SYS_RESOURCE", 24),
            ("SETFCAP", 31),
            ("SYSLOG", 34),
            ("CHECKPOINT_RESTORE", 40),
        ] {
            assert_eq!(bit(name), Some(1 << number));
        }
        assert_eq!(bit("NOPE"), None);
        assert_eq!(names(1 << 21 | 1 << 63), ["SYS_ADMIN", "63"]);
    }
}
