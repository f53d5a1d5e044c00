//! A panic of the core in the midst of one key: only that one pays.

use alloc::format;
use alloc::string::ToString;

use specs::id::Key;
use specs::status::Failure;

use super::Machine;
use super::slot::{Slot, View};
use crate::backoff::TERMINAL_MS;
use crate::io::{Cause, Now};
use crate::plan::{Blocked, Obstacle, Plan};

impl Machine {
    /// Gives up on the key that the panic came from, for a while. What was known of it may be
    /// half written and is forgotten; its containers are left as they are, and it is tried
    /// again after five minutes, an edit, or a person's word. Returns whose it was; nothing
    /// if it was nobody's, and then this machine cannot be believed any more.
    pub fn shun(&mut self, why: &str, now: Now) -> Option<Key> {
        let key = self.desk.at.take()?;
        let torn = self.slots.remove(&key)?;
        self.desk.tell_time(now);
        let until = now.boot_ms.saturating_add(TERMINAL_MS);
        let mut slot = Slot::new(torn.intent);
        slot.recorded = torn.recorded;
        slot.status = torn.status;
        slot.last_ticket = self.desk.last_ticket;
        slot.view = Some(View::default());
        slot.tries.terminal_until_ms = Some(until);
        slot.tries.shunned_until_ms = Some(until);
        let failure = Failure {
            step: "Decide".to_string(),
            what: format!("decide what {key} needs"),
            cause: format!("BUG: {why}"),
            errno: None,
            hint: Some("report it with the spec; an edit tries it again".to_string()),
            attempts: 1,
        };
        self.desk.tell_failed(&key, &mut slot, &failure, true);
        let stuck = Blocked {
            on: "the core".to_string(),
            why: failure.cause.clone(),
            kind: Obstacle::Impossible,
        };
        slot.tries.last_error = Some(failure);
        let plan = Plan {
            blocked: [stuck].into(),
            ..Plan::default()
        };
        self.desk.tell_status(&key, &mut slot, &plan);
        slot.view = None;
        if let Some(left) = &mut self.desk.boot.left {
            left.remove(&key);
        }
        // Whatever it had asked for is answered to nobody.
        let of_others = |of: &Option<Key>| of.as_ref() != Some(&key);
        self.desk.tickets.retain(|_, of| of_others(of));
        self.desk.queue.remove(&key);
        self.desk.queue.push(&key, until, Cause::Retry);
        self.slots.insert(key.clone(), slot);
        let in_hand = self.slots.values().filter(|slot| !slot.is_idle());
        self.desk.in_hand = in_hand.count();
        Some(key)
    }
}

#[cfg(test)]
mod tests {
    use alloc::boxed::Box;
    use alloc::vec::Vec;
    use std::panic::{AssertUnwindSafe, catch_unwind};

    use driver_api::Observed;
    use specs::id::{Generation, Incarnation};
    use specs::status::Phase;
    use specs::units::Millis;

    use crate::fixture::{SERVER, desired, wanted};
    use crate::io::{Effect, Input, Mode, Record};
    use crate::machine::MachineConfig;
    use crate::plan::POISON;

    use super::*;

    const NOW: Now = Now {
        boot_ms: 10_000,
        wall_ms: 1_700_000_000_000,
    };

    fn later(ms: u64) -> Now {
        Now {
            boot_ms: NOW.boot_ms + ms,
            wall_ms: NOW.wall_ms + ms,
        }
    }

    /// Hands an input in as the shell does; gives whom it cost.
    fn give(machine: &mut Machine, input: Input, now: Now) -> Option<Key> {
        let turn = catch_unwind(AssertUnwindSafe(|| machine.input(input, now)));
        turn.err()
            .map(|_| machine.shun("planted", now).expect("somebody's"))
    }

    fn effects(machine: &mut Machine) -> Vec<Effect> {
        core::iter::from_fn(|| machine.poll_effect()).collect()
    }

    fn begins(effects: &[Effect]) -> Vec<&str> {
        let begun = |effect: &'_ Effect| match effect {
            Effect::Append {
                record: Record::LifeBegins { key, .. },
                ..
            } => Some(key.as_str().to_string()),
            _ => None,
        };
        let names = effects.iter().filter_map(begun);
        names
            .map(|name| if name == "web" { "web" } else { "another" })
            .collect()
    }

    #[test]
    fn a_container_that_breaks_the_core_costs_only_itself() {
        let mode = Mode {
            destroy: true,
            prune: true,
        };
        let mut machine = Machine::new(MachineConfig {
            concurrency: 4,
            resync: Millis(30_000),
            retry_initial: Millis(250),
            retry_max: Millis(60_000),
            next_incarnation: Incarnation(1),
            lives: Vec::new(),
            kills_told: alloc::collections::BTreeMap::new(),
            mode,
        });
        let of = |name: &str| {
            let key = Key::new(name).expect("a name");
            let mut spec = desired(1, SERVER);
            spec.key = key.clone();
            spec.generation = Generation(1);
            (key, wanted(&spec))
        };
        let poison = Key::new(POISON).expect("a name");
        machine.input(Input::Intents([of(POISON), of("web")].into()), NOW);
        let boot = |key| Input::Woke {
            key,
            cause: Cause::Boot,
        };
        machine.input(boot(None), NOW);
        let ticket = effects(&mut machine).into_iter().find_map(|one| match one {
            Effect::Observe { ticket, .. } => Some(ticket),
            _ => None,
        });
        let empty = Observed {
            complete: true,
            ..Observed::default()
        };
        let seen = Input::Observed(ticket.expect("the host is asked"), Box::new(empty));
        let cost = give(&mut machine, seen, NOW);
        assert_eq!(cost.as_ref(), Some(&poison));
        assert_eq!(give(&mut machine, Input::Tick, NOW), None, "it goes on");
        assert_eq!(begins(&effects(&mut machine)), ["web"]);
        let status = machine.status(&poison).expect("it is told");
        assert_eq!(status.phase, Phase::Failed);
        let error = status.last_error.as_ref().expect("why");
        assert!(error.cause.contains("planted"), "{error:?}");
        // Hints do not try it again; a person and the time do.
        let woke = |cause| Input::Woke {
            key: Some(poison.clone()),
            cause,
        };
        assert_eq!(give(&mut machine, woke(Cause::Wake), later(2_000)), None);
        assert!(effects(&mut machine).iter().all(|effect| !matches!(
            effect,
            Effect::Observe { scope, .. } if *scope == driver_api::Scope::Container(poison.clone())
        )));
        assert_eq!(give(&mut machine, woke(Cause::Person), later(3_000)), None);
        let again = |effects: &[Effect]| {
            effects.iter().any(|effect| {
                matches!(effect, Effect::Observe { scope, .. }
                    if *scope == driver_api::Scope::Container(poison.clone()))
            })
        };
        assert!(again(&effects(&mut machine)), "it is looked at again");
    }
}
