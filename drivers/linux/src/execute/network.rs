//! Steps on what connects a container to the network.

use std::io;
use std::time::Duration;

use driver_api::{Outcome, StepError};
use specs::desired::{Desired, Isolated, Port};

use super::Act;
use crate::clock::left_ms;
use crate::error::{During as _, failure};
use crate::links::{self, Wire};
use crate::nft::{LifeObserved, LifeRules};
use crate::{conntrack, ports};

/// Longest wait for one answer of the packet filter, which takes milliseconds.
const ANSWER_MS_MAX: u64 = 5000;

/// Which of the wanted ports are to lead to a life.
#[derive(Default)]
struct Had {
    ports: Vec<Port>,
    /// Those that could not be held on the host, and why.
    refused: Vec<(Port, io::Error)>,
}

impl Act<'_> {
    fn patience(&self) -> Duration {
        Duration::from_millis(left_ms(self.deadline).clamp(1, ANSWER_MS_MAX))
    }

    fn isolated<'d>(&self, desired: &'d Desired) -> Result<&'d Isolated, StepError> {
        let isolated = desired.container.network.isolated();
        isolated.ok_or_else(|| StepError::Stale(format!("{} has no network to rule", self.leaf)))
    }

    /// Sets policy, and those ports that can be had.
    pub(super) fn set_rules(&self, desired: &Desired) -> Result<Outcome, StepError> {
        let had = self.hold(desired)?;
        self.rule(desired, &had.ports)
    }

    /// Lets the wanted ports lead to it and no others, or says which can't be had.
    pub(super) fn publish_ports(&self, desired: &Desired) -> Result<Outcome, StepError> {
        let had = self.hold(desired)?;
        let outcome = self.rule(desired, &had.ports)?;
        match had.refused.first() {
            None => Ok(outcome),
            Some((port, err)) => Err(taken(port, err)),
        }
    }

    /// Holds the wanted ports on the host; returns those that are to lead to it, and those
    /// that could not be held.
    ///
    /// *Guarantees:* a port that leads to it already goes on doing so: who took its number
    /// while the daemon was away gets none of its packets, and ends none of its connections.
    fn hold(&self, desired: &Desired) -> Result<Had, StepError> {
        let before = self.ruled()?.map(|life| life.ports).unwrap_or_default();
        let ports = &self.host.ports;
        ports.keep(&self.leaf, &desired.ports);
        let mut had = Had::default();
        for port in &desired.ports {
            let held = ports.hold(&self.leaf, port);
            if held.is_ok() || before.contains(port) {
                had.ports.push(*port);
            }
            had.refused.extend(held.err().map(|err| (*port, err)));
        }
        Ok(had)
    }

    fn rule(&self, desired: &Desired, ports: &[Port]) -> Result<Outcome, StepError> {
        let isolated = self.isolated(desired)?;
        let device = self.mark.device();
        let rules = LifeRules {
            leaf: &self.leaf,
            device: &device,
            address: isolated.address,
            ports,
            egress: &desired.egress,
        };
        let set = self.host.firewall.set(&rules, self.patience());
        if !set.during(|| format!("set the rules of {}", self.leaf))? {
            return Ok(Outcome::AlreadyDone);
        }
        let table = self.host.firewall.read(self.patience());
        let table = table.during(|| "read the packet filter".to_owned())?;
        let others = table.lives.values().filter_map(|life| life.address);
        // What was led to another of ours through a port would go on to that one.
        conntrack::settle_ports(ports, isolated.address, &others.collect(), self.patience())
            .during(|| {
                format!(
                    "forget the former connections to the ports of {}",
                    self.leaf
                )
            })?;
        Ok(Outcome::Done)
    }

    /// Returns what the packet filter knows of the life.
    fn ruled(&self) -> Result<Option<LifeObserved>, StepError> {
        let table = self.host.firewall.read(self.patience());
        let table = table.during(|| "read the packet filter".to_owned())?;
        Ok(table.lives.get(&self.leaf).cloned())
    }

    pub(super) fn connect_network(&self, desired: &Desired) -> Result<Outcome, StepError> {
        let isolated = self.isolated(desired)?;
        let init = self.init()?;
        let device = self.mark.device();
        let what = || format!("connect {} to the network", self.leaf);
        let speaks = self.ruled()?.and_then(|life| life.address);
        if speaks != Some(isolated.address) {
            let why = format!("the rules of {} are not in force", self.leaf);
            return Err(StepError::Stale(why));
        }
        let links = &self.host.links;
        let taken = links.taken(isolated.address, &device, self.deadline);
        if let Some(by) = taken.during(what)? {
            let cause = format!("the host already routes {} to {by}", isolated.address);
            let mut failure = failure(what(), cause);
            failure.hint = Some(
                "choose another network for `pools.addresses` in the config, or remove that route"
                    .to_owned(),
            );
            return Err(StepError::Blocked { on: by, failure });
        }
        let turned_on = links::forward().during(|| "let the host pass packets on".to_owned())?;
        let wire = Wire {
            device: &device,
            alias: &self.mark.alias(),
            address: isolated.address,
            mtu: isolated.mtu,
        };
        let mended = links.connect(init, &wire, &self.leaf, self.deadline)?;
        Ok(if mended || turned_on {
            Outcome::Done
        } else {
            Outcome::AlreadyDone
        })
    }

    pub(super) fn remove_network(&self) -> Result<Outcome, StepError> {
        self.refuse_alive("network")?;
        let (device, alias) = (self.mark.device(), self.mark.alias());
        let links = &self.host.links;
        let unlinked = links.disconnect(&device, &alias, &self.leaf, self.deadline)?;
        let firewall = &self.host.firewall;
        let table = firewall.read(self.patience());
        let table = table.during(|| "read the packet filter".to_owned())?;
        let address = table.lives.get(&self.leaf).and_then(|life| life.address);
        let has_it =
            |(leaf, life): (&String, &LifeObserved)| *leaf != self.leaf && life.address == address;
        if let Some(address) = address.filter(|_| !table.lives.iter().any(has_it)) {
            conntrack::forget_address(address, self.patience())
                .during(|| format!("forget the connections of {}", self.leaf))?;
        }
        // Last: they are all that says which address it had.
        let unruled = firewall
            .remove(&self.leaf, self.patience())
            .during(|| format!("take the rules of {} away", self.leaf))?;
        self.host.ports.keep(&self.leaf, &[]);
        Ok(if unruled || unlinked {
            Outcome::Done
        } else {
            Outcome::AlreadyDone
        })
    }
}

/// Returns why a port can't be had, and who has it.
fn taken(port: &Port, err: &io::Error) -> StepError {
    let what = format!("hold the host's port {port}");
    let (on, cause, hint) = match err.kind() {
        io::ErrorKind::AddrInUse => {
            let holder = ports::holder(port).unwrap_or_else(|| "somebody unknown".to_owned());
            let cause = format!("it is in use by {holder}");
            (holder, cause, "end that, or publish another port")
        }
        io::ErrorKind::AddrNotAvailable => (
            "an address of the host".to_owned(),
            "the host has no such address".to_owned(),
            "correct the port's address, or give it to the host",
        ),
        _ => (
            "the kernel".to_owned(),
            err.to_string(),
            "publish another port",
        ),
    };
    let mut failure = failure(what, cause);
    failure.errno = err.raw_os_error();
    failure.hint = Some(hint.to_owned());
    StepError::Blocked { on, failure }
}
