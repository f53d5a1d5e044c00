//! What a container is to those that wait for it.

use alloc::format;
use alloc::string::String;

use driver_api::{Init, Life};
use specs::desired::{Condition, RestartPolicy, Run};

use super::{Basis, Tally};

/// What a container is to those that wait for it; why not, in words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Stand {
    started: bool,
    healthy: bool,
    completed: bool,
    /// A process of it is started again whenever it ends.
    never_completes: bool,
    why: String,
}

impl Stand {
    /// Returns that of a container that is nothing of it.
    pub(crate) fn down(why: String) -> Self {
        Self {
            started: false,
            healthy: false,
            completed: false,
            never_completes: false,
            why,
        }
    }

    /// *Law:* what is unknown does not hold.
    pub(super) fn of(basis: &Basis<'_>, life: Option<&Life>, tally: &Tally) -> Self {
        let Some(wanted) = basis.wanted else {
            return Self::down("it is being removed".into());
        };
        let desired = &*wanted.desired;
        if desired.run == Run::Stopped {
            return Self::down("it shall not run".into());
        }
        let ready = life
            .and_then(|life| life.init.known())
            .is_some_and(|init: &Init| init.ready);
        let stands = ready && !tally.unknown;
        let always =
            |process: &specs::desired::Process| process.restart.policy == RestartPolicy::Always;
        let why = match () {
            () if !ready => "it does not run yet".into(),
            () if tally.unknown => "its processes could not be read".into(),
            () => format!(
                "{} of {} processes run, {} completed",
                tally.as_wanted, tally.wanted, tally.done
            ),
        };
        let started = stands && tally.as_wanted + tally.done == tally.wanted;
        Self {
            started,
            healthy: started,
            completed: stands && tally.wanted > 0 && tally.done == tally.wanted,
            never_completes: desired.processes.values().any(always),
            why,
        }
    }

    /// Returns why it is not what is waited for; nothing if it is.
    pub(crate) fn why_not(&self, condition: Condition) -> Option<String> {
        let holds = match condition {
            Condition::Started => self.started,
            Condition::Healthy => self.healthy,
            Condition::Completed => self.completed,
        };
        match condition {
            _ if holds => None,
            Condition::Completed if self.never_completes => Some(
                "it never completes, because a process of it is started again whenever it ends"
                    .into(),
            ),
            _ => Some(self.why.clone()),
        }
    }
}
