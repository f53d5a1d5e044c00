//! The laws of planning about the network.

use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;

use driver_api::{Fact, Life, LinkObserved, NetworkObserved, RulesObserved};
use specs::desired::{Desired, Egress};
use specs::id::Incarnation;

use crate::fixture::{
    CONNECTED, desired, gap, key, observed, plan_one, policy, settled, verbs, wanted,
};
use crate::io::Intent;
use crate::plan::{Class, Obstacle, Plan, StepKey, plan};

fn connected() -> Desired {
    desired(1, CONNECTED)
}

fn known<T>(fact: &mut Fact<T>) -> &mut T {
    match fact {
        Fact::Known(value) => value,
        _ => panic!("it is known"),
    }
}

fn rules(life: &mut Life) -> &mut RulesObserved {
    known(&mut life.network.rules)
}

fn link(life: &mut Life) -> &mut LinkObserved {
    known(&mut life.network.link)
}

fn changed(hand: impl Fn(&mut Life)) -> Life {
    let mut life = settled(&connected());
    hand(&mut life);
    life
}

#[track_caller]
fn check(hand: impl Fn(&mut Life), stages: &[&str]) {
    let plan = plan_one(&wanted(&connected()), changed(hand));
    assert_eq!(verbs(&plan), stages);
    let repairs = |plan: &Plan| plan.steps().all(|step| step.reason.class == Class::Repair);
    assert!(repairs(&plan) && plan.blocked.is_empty(), "{plan:?}");
}

#[test]
fn a_connected_container_plans_to_nothing_and_each_drift_to_its_repair() {
    check(|_| {}, &[]);
    let none = "SetRules, PublishPorts";
    check(|life| life.network.rules = Fact::Absent, &[none]);
    check(|life| rules(life).shared = false, &["SetRules"]);
    check(|life| rules(life).address = None, &["SetRules"]);
    check(|life| rules(life).egress = None, &["SetRules"]);
    let open = |life: &mut Life| rules(life).egress = Some(Egress::default());
    check(open, &["SetRules"]);
    check(|life| rules(life).ports.clear(), &["PublishPorts"]);
    check(|life| rules(life).reserved.clear(), &["PublishPorts"]);
    check(|life| life.network.link = Fact::Absent, &["ConnectNetwork"]);
    check(|life| link(life).whole = false, &["ConnectNetwork"]);
    check(|life| link(life).mtu = Some(9000), &["ConnectNetwork"]);
    check(|life| link(life).address = None, &["ConnectNetwork"]);
    let off = |life: &mut Life| life.network.forwarding = Fact::Known(false);
    check(off, &["ConnectNetwork"]);
}

#[test]
fn rules_come_before_devices_and_devices_before_processes() {
    let plan = plan(
        &key(),
        &wanted(&connected()),
        &observed([]),
        true,
        &policy(),
    );
    let steps = verbs(&plan).join(", ");
    let at = |verb: &str| {
        steps
            .find(verb)
            .unwrap_or_else(|| panic!("{verb}: {steps}"))
    };
    let order = ["StartShim", "SetRules", "ConnectNetwork", "StartProcess"].map(at);
    assert!(order.is_sorted(), "{steps}");
}

#[test]
fn an_edit_of_ports_or_egress_touches_no_process() {
    for (from, to) in [("host: 8080", "host: 8081"), ("[443]", "[443, 80]")] {
        let life = settled(&connected());
        let edited = desired(2, &CONNECTED.replace(from, to));
        let mut plan = plan_one(&wanted(&edited), life);
        let verb = if from.starts_with("host") {
            "PublishPorts"
        } else {
            "SetRules"
        };
        assert_eq!(verbs(&plan), [verb]);
        assert_eq!(
            plan.stages.remove(0).steps.remove(0).reason.class,
            Class::Live
        );
    }
}

/// Plans for a container whose process has ended while a step waits for its next try.
fn held(hand: impl Fn(&mut Life)) -> Plan {
    let mut life = changed(hand);
    known(&mut life.processes).clear();
    let first = plan_one(&wanted(&connected()), life.clone());
    let held = first.steps().next().expect("there is a step");
    let mut policy = policy();
    let hold = (StepKey::of(&held.step), String::from("it is taken"));
    policy.hold.steps.insert(hold.0, hold.1);
    plan(
        &key(),
        &wanted(&connected()),
        &observed([(1, life)]),
        true,
        &policy,
    )
}

#[test]
fn a_port_that_is_taken_keeps_no_process_from_starting_and_a_missing_rule_does() {
    let taken = held(|life| rules(life).ports.clear());
    assert_eq!(verbs(&taken), ["StartProcess server"]);
    assert_eq!(
        taken.blocked.first().map(|one| one.kind),
        Some(Obstacle::Failed)
    );
    let unruled = held(|life| rules(life).egress = None);
    assert_eq!(verbs(&unruled), [""; 0]);
    let unknown = changed(|life| {
        life.network.rules = gap("rules");
        life.network.link = Fact::Absent;
    });
    let plan = plan_one(&wanted(&connected()), unknown);
    assert_eq!(verbs(&plan), [""; 0], "no device is raised without rules");
    let unconnected = held(|life| life.network.link = Fact::Absent);
    assert_eq!(verbs(&unconnected), [""; 0]);
}

#[test]
fn unknown_is_not_absent_on_the_network() {
    let hands: [fn(&mut NetworkObserved); 3] = [
        |network| network.rules = gap("rules"),
        |network| network.link = gap("link"),
        |network| network.forwarding = gap("forwarding"),
    ];
    for hand in hands {
        let life = changed(|life| hand(&mut life.network));
        let plan = plan_one(&wanted(&connected()), life.clone());
        assert_eq!(verbs(&plan), [""; 0]);
        assert_eq!(plan.blocked.len(), 1, "{plan:?}");
        // Neither does anything begin in such a network.
        let mut ended = life;
        known(&mut ended.processes).clear();
        let plan = plan_one(&wanted(&connected()), ended);
        assert_eq!(verbs(&plan), [""; 0]);
    }
}

#[test]
fn what_is_left_on_the_network_goes_first_and_alone_if_need_be() {
    let mut dead = settled(&connected());
    (dead.init, dead.shim) = (Fact::Absent, Fact::Absent);
    known(&mut dead.cgroup).populated = false;
    let last = Some(Arc::new(connected()));
    let plan_of = |life: Life| plan_one(&Intent::Deleted { last: last.clone() }, life);
    let steps = verbs(&plan_of(dead.clone()));
    assert_eq!(
        steps.first().map(String::as_str),
        Some("RemoveNetwork"),
        "{steps:?}"
    );
    let only = Life {
        network: dead.network.clone(),
        ..Life::ABSENT
    };
    assert_eq!(verbs(&plan_of(only)), ["RemoveNetwork"]);
    dead.network.rules = gap("rules");
    dead.network.link = Fact::Absent;
    let plan = plan_of(dead);
    assert_eq!(verbs(&plan), [""; 0]);
    assert_eq!(plan.blocked.len(), 1);
}

#[test]
fn a_stopped_container_keeps_its_network() {
    let mut stopped = connected();
    stopped.run = specs::desired::Run::Stopped;
    let mut life = settled(&stopped);
    known(&mut life.processes).clear();
    let plan = plan_one(&wanted(&stopped), life);
    let none: Vec<String> = Vec::new();
    assert_eq!(verbs(&plan), none);
    assert_eq!(plan.life, Some(Incarnation(1)));
}
