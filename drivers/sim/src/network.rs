//! What connects containers to the world.

use std::collections::BTreeSet;

use driver_api::{LinkObserved, Outcome, RulesObserved, StepError};
use specs::desired::Desired;
use specs::id::{Incarnation, Key};

use crate::world::World;

/// What connects one life.
#[derive(Clone, Debug, Default)]
pub struct SimNetwork {
    /// The pair of devices; goes with the init, whose namespace holds one end.
    pub link: Option<LinkObserved>,
    /// What the packet filter knows; outlives the init.
    pub rules: Option<RulesObserved>,
}

impl World {
    /// Sets policy, and the ports that nobody else has.
    pub(crate) fn set_rules(&mut self, id: (&Key, Incarnation), desired: &Desired, half: bool) {
        let Some(isolated) = desired.container.network.isolated() else {
            return;
        };
        let ports: BTreeSet<_> = if half {
            BTreeSet::new()
        } else {
            desired.ports.iter().copied().collect()
        };
        // An address leads to one life: the newest that asked for it.
        for life in self.lives.values_mut() {
            if let Some(rules) = &mut life.network.rules
                && rules.address == Some(isolated.address)
            {
                rules.address = None;
                rules.ports.clear();
            }
        }
        self.life(id.0, id.1).network.rules = Some(RulesObserved {
            shared: true,
            address: Some(isolated.address),
            egress: Some(desired.egress.clone()),
            reserved: ports.clone(),
            ports,
        });
    }

    pub(crate) fn publish(&mut self, id: (&Key, Incarnation), desired: &Desired, half: bool) {
        if let Some(rules) = &mut self.life(id.0, id.1).network.rules {
            rules.ports = desired.ports.iter().copied().collect();
            if !half {
                rules.reserved = rules.ports.clone();
            }
        }
    }

    pub(crate) fn connect(
        &mut self,
        id: (&Key, Incarnation),
        desired: &Desired,
        half: bool,
    ) -> Result<Outcome, StepError> {
        let Some(isolated) = desired.container.network.isolated() else {
            return Ok(Outcome::AlreadyDone);
        };
        if self.life(id.0, id.1).init.is_none() {
            return Err(StepError::Stale("it has no init".into()));
        }
        self.forwarding = true;
        self.life(id.0, id.1).network.link = Some(LinkObserved {
            address: (!half).then_some(isolated.address),
            mtu: Some(isolated.mtu),
            whole: !half,
        });
        Ok(Outcome::Done)
    }
}
