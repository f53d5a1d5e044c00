//! Whether containers can be connected, and what of the host's own stands in their way.

use std::time::Duration;

use super::{Check, CheckResult, check};
use crate::error::words;
use crate::links;
use crate::nft::Firewall;

/// Longest wait for one answer of the packet filter, which takes milliseconds.
const PATIENCE: Duration = Duration::from_secs(2);

/// Looks at the packet filter and the host's forwarding.
pub(super) fn checks(firewall: &Firewall) -> Vec<Check> {
    let mut found = Vec::new();
    let name = "packet filter";
    match firewall.closed_by_others(PATIENCE) {
        Err(err) => {
            let remedy = "load nf_tables: `modprobe nf_tables`; isolated networks need it";
            found.push(check(name, CheckResult::Missing, words(&err), remedy));
        }
        Ok(closed) => {
            found.push(check(name, CheckResult::Ok, "works", ""));
            found.push(forward_policies(&closed));
        }
    }
    found.push(match links::forwarding() {
        Ok(true) => check("forwarding", CheckResult::Ok, "is on", ""),
        Ok(false) => check(
            "forwarding",
            CheckResult::Ok,
            "is off; the first isolated container turns it on for the whole host",
            "",
        ),
        Err(err) => check("forwarding", CheckResult::Missing, words(&err), ""),
    });
    found
}

/// What another's chain drops no rule of ours lets pass (`nft(8)`, "Chains").
fn forward_policies(closed: &[String]) -> Check {
    let name = "forwarding policy of others";
    if closed.is_empty() {
        return check(name, CheckResult::Ok, "nobody drops by default", "");
    }
    let detail = format!("{} drops what it does not name", closed.join(", "));
    let remedy = "accept there what comes from and goes to devices named rc*, or containers reach \
                  nobody and published ports answer the host alone";
    check(name, CheckResult::Fallback, detail, remedy)
}
