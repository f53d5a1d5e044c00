//! What connects a container to the network: its rules before its devices, so that no packet
//! passes that no rule was made for.

use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;

use driver_api::{Action, Fact, Life, LinkObserved, RulesObserved};
use specs::desired::{Desired, Isolated};

use super::{Blocked, Class, Drift};

#[cfg(test)]
mod tests;

/// What is to do, in order, each with its reason.
#[derive(Debug, Default)]
pub(crate) struct Network {
    pub(crate) todo: Vec<(Action, Class, Drift)>,
    pub(crate) blocked: Vec<Blocked>,
}

/// Plans what the network of a life with a live init needs. `class` is what a change of a
/// standing one is called.
pub(crate) fn network(desired: &Arc<Desired>, life: &Life, class: Class) -> Network {
    let mut plan = Network::default();
    let Some(isolated) = desired.container.network.isolated() else {
        return plan;
    };
    // Nothing ran in it yet: it is still being made.
    let fresh = life.processes.known().is_some_and(BTreeMap::is_empty);
    let class = if fresh { Class::Create } else { class };
    let seen = &life.network;
    match &seen.rules {
        Fact::Unknown(gap) => {
            // Devices are raised behind rules only.
            plan.blocked.push(Blocked::unknown(gap));
            return plan;
        }
        Fact::Absent => {
            let drift = Drift::Rules([String::from("it has none")].into());
            let set = Action::SetRules(desired.clone());
            plan.todo.push((set, class, drift));
            plan.ports(desired, None, class);
        }
        Fact::Known(rules) => {
            let differ = rules_differ(desired, isolated, rules);
            if !differ.is_empty() {
                let set = Action::SetRules(desired.clone());
                plan.todo.push((set, class, Drift::Rules(differ)));
            }
            plan.ports(desired, Some(rules), class);
        }
    }
    let differ = match (&seen.link, &seen.forwarding) {
        (Fact::Unknown(gap), _) | (_, Fact::Unknown(gap)) => {
            plan.blocked.push(Blocked::unknown(gap));
            return plan;
        }
        (Fact::Absent, _) => [String::from("it is not connected")].into(),
        (Fact::Known(link), forwarding) => link_differs(isolated, link, forwarding),
    };
    if !differ.is_empty() {
        let connect = Action::ConnectNetwork(desired.clone());
        plan.todo.push((connect, class, Drift::Link(differ)));
    }
    plan
}

impl Network {
    fn ports(&mut self, desired: &Arc<Desired>, seen: Option<&RulesObserved>, class: Class) {
        let none = RulesObserved::default();
        let seen = seen.unwrap_or(&none);
        let lost = desired
            .ports
            .iter()
            .filter(|port| !seen.ports.contains(port));
        let lost = lost.map(|port| format!("{port} does not lead to it"));
        let extra = seen
            .ports
            .iter()
            .filter(|port| !desired.ports.contains(port));
        let extra = extra.map(|port| format!("{port} still leads to it"));
        let open = desired
            .ports
            .iter()
            .filter(|port| seen.ports.contains(port) && !seen.reserved.contains(port));
        let open = open.map(|port| format!("{port} is not held on the host"));
        let differ: Vec<String> = lost.chain(extra).chain(open).collect();
        if !differ.is_empty() {
            let publish = Action::PublishPorts(desired.clone());
            self.todo.push((publish, class, Drift::Ports(differ)));
        }
    }
}

fn rules_differ(desired: &Desired, isolated: &Isolated, seen: &RulesObserved) -> Vec<String> {
    let laws = [
        (
            seen.shared,
            "the rules that all containers share were changed",
        ),
        (
            seen.address == Some(isolated.address),
            "its address may not speak",
        ),
        (
            seen.egress.as_ref() == Some(&desired.egress),
            "where it may speak to differs",
        ),
    ];
    let broken = laws.into_iter().filter(|(holds, _)| !holds);
    broken.map(|(_, words)| String::from(words)).collect()
}

fn link_differs(isolated: &Isolated, seen: &LinkObserved, forwarding: &Fact<bool>) -> Vec<String> {
    let laws = [
        (
            seen.address == Some(isolated.address),
            "its address differs",
        ),
        (seen.mtu == Some(isolated.mtu), "the largest packet differs"),
        (seen.whole, "its devices, routes or neighbours were changed"),
        (
            forwarding.known() == Some(&true),
            "the host passes no packets on",
        ),
    ];
    let broken = laws.into_iter().filter(|(holds, _)| !holds);
    broken.map(|(_, words)| String::from(words)).collect()
}
