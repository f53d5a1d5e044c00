//! Starts in the order of what they need, ends in the reverse.

use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;

use driver_api::{ExitStatus, Life, ProcessState};
use specs::desired::{Condition, Desired, Run};
use specs::id::Key;

use super::Unmet;
use crate::fixture::{
    desired, ended, key, name, observed, plan_one, policy, processes, running, settled, verbs,
    wanted,
};
use crate::io::Intent;
use crate::plan::{Plan, StepKey, plan};

/// A migration, the data base after it, a server and a worker that need the data base.
const CHAIN: &str = "
  processes:
    - {name: web, command: [/web], dependsOn: [{process: db}]}
    - {name: worker, command: [/work], dependsOn: [{process: db, condition: healthy}]}
    - {name: db, command: [/db], dependsOn: [{process: migrate, condition: completed}]}
    - {name: migrate, command: [/migrate], restart: {policy: onFailure}}
    - {name: other, command: [/other]}";

fn chain() -> Desired {
    desired(1, CHAIN)
}

/// Returns the chain as it stands when all of it was started.
fn up() -> (Desired, Life) {
    let desired = chain();
    let mut life = settled(&desired);
    let done = ended(&desired, &name("migrate"), ExitStatus::Code(0), false);
    processes(&mut life).insert(name("migrate"), done);
    (desired, life)
}

#[track_caller]
fn check(change: impl Fn(&Desired, &mut Life), stages: &[&str]) -> Plan {
    let (desired, mut life) = up();
    change(&desired, &mut life);
    let plan = plan_one(&wanted(&desired), life);
    assert_eq!(verbs(&plan), stages);
    plan
}

fn gone(life: &mut Life, names: &[&str]) {
    for gone in names {
        processes(life).remove(&name(gone));
    }
}

fn died(desired: &Desired, life: &mut Life, names: &[&str]) {
    for died in names {
        let name = name(died);
        let exit = ended(desired, &name, ExitStatus::Code(1), false);
        processes(life).insert(name, exit);
    }
}

fn stopping(life: &mut Life, names: &[&str]) {
    for stopping in names {
        let process = processes(life)
            .get_mut(&name(stopping))
            .expect("it is there");
        let ProcessState::Running { id, .. } = process.state else {
            panic!("it runs");
        };
        process.state = ProcessState::Stopping { id, since_ms: 5 };
    }
}

#[test]
fn what_runs_and_what_has_completed_plans_to_nothing() {
    let plan = check(|_, _| (), &[]);
    assert!(plan.is_settled());
}

#[test]
fn a_start_comes_after_what_it_needs() {
    check(
        |_, life| gone(life, &["migrate", "db", "web", "worker", "other"]),
        &[
            "StartProcess migrate, StartProcess other, (process migrate to be completed, for db \
             to start)",
            "StartProcess db, (process db to be started, for web to start), (process db to be \
             healthy, for worker to start)",
            "StartProcess web, StartProcess worker",
        ],
    );
    // It runs, and has not ended yet.
    let begun = |desired: &Desired, life: &mut Life| {
        gone(life, &["db", "web", "worker"]);
        let migrate = running(desired, &name("migrate"));
        processes(life).insert(name("migrate"), migrate);
    };
    check(
        begun,
        &[
            "(process migrate to be completed, for db to start)",
            "StartProcess db, (process db to be started, for web to start), (process db to be \
             healthy, for worker to start)",
            "StartProcess web, StartProcess worker",
        ],
    );
    check(
        |_, life| gone(life, &["web", "worker"]),
        &["StartProcess web, StartProcess worker"],
    );
}

#[test]
fn what_runs_is_not_ended_because_what_it_needs_went_away() {
    check(
        |desired, life| died(desired, life, &["db"]),
        &["StartProcess db"],
    );
    // A crashed one waits for what it needs.
    check(
        |desired, life| died(desired, life, &["db", "web"]),
        &[
            "StartProcess db, (process db to be started, for web to start)",
            "StartProcess web",
        ],
    );
}

#[test]
fn a_failed_completion_holds_back_only_what_waits_for_it() {
    let (mut desired, mut life) = up();
    let migrate = desired
        .processes
        .get_mut(&name("migrate"))
        .expect("it is there");
    migrate.restart.policy = specs::desired::RestartPolicy::Never;
    died(&desired, &mut life, &["migrate", "other"]);
    gone(&mut life, &["db"]);
    let plan = plan_one(&wanted(&desired), life);
    assert_eq!(
        verbs(&plan),
        [
            "StartProcess other, (process migrate to be completed, for db to start)",
            "StartProcess db",
        ],
    );
}

#[test]
fn a_restart_of_all_ends_in_the_reverse_order_and_starts_in_order() {
    let (mut desired, life) = up();
    desired.restart_epoch = 1;
    let plan = plan_one(&wanted(&desired), life);
    assert_eq!(
        verbs(&plan),
        [
            "StopProcess other, StopProcess web, StopProcess worker",
            "StopProcess db",
            "StartProcess migrate, StartProcess other, (process migrate to be completed, for db \
             to start)",
            "StartProcess db, (process db to be started, for web to start), (process db to be \
             healthy, for worker to start)",
            "StartProcess web, StartProcess worker",
        ]
    );
}

#[test]
fn what_others_depend_on_is_asked_to_end_after_they_have() {
    let ends = |hand: &dyn Fn(&mut Life)| {
        let (mut desired, mut life) = up();
        hand(&mut life);
        let deleted = Intent::Deleted {
            last: Some(Arc::new(desired.clone())),
        };
        let deleted = plan_one(&deleted, life.clone());
        desired.run = Run::Stopped;
        let stopped = verbs(&plan_one(&wanted(&desired), life));
        let until_kill = verbs(&deleted).into_iter();
        let deleted: Vec<String> = until_kill.take_while(|stage| stage != "KillLife").collect();
        // Of a life that stays, what else is to do goes between the first and the next.
        assert_eq!(stopped.join(", "), deleted.join(", "));
        deleted
    };
    assert_eq!(
        ends(&|_| ()),
        [
            "StopProcess other, StopProcess web, StopProcess worker",
            "StopProcess db",
        ]
    );
    assert_eq!(
        ends(&|life| stopping(life, &["web", "worker", "other"])),
        [
            "(other to end), (web to end), (worker to end)",
            "StopProcess db",
        ]
    );
    // Of what has ended, by itself or not, nobody has to wait for the end.
    let over = |life: &mut Life| {
        stopping(life, &["worker"]);
        gone(life, &["web"]);
    };
    assert_eq!(
        ends(&over),
        ["StopProcess other, (worker to end)", "StopProcess db"]
    );
    // By way of what has ended already.
    let middle = "
  processes:
    - {name: web, command: [/web], dependsOn: [{process: migrate, condition: completed}]}
    - {name: migrate, command: [/m], restart: {policy: never}, dependsOn: [{process: db}]}
    - {name: db, command: [/db]}";
    let mut desired = desired(1, middle);
    let mut life = settled(&desired);
    gone(&mut life, &["migrate"]);
    desired.run = Run::Stopped;
    let plan = plan_one(&wanted(&desired), life);
    assert_eq!(verbs(&plan), ["StopProcess web", "StopProcess db"]);
}

#[test]
fn an_end_that_failed_lets_what_it_depends_on_run() {
    let (mut desired, life) = up();
    desired.run = Run::Stopped;
    let intent = wanted(&desired);
    let seen = observed([(1, life)]);
    let mut policy = policy();
    let first = plan(&key(), &intent, &seen, true, &policy);
    let web = first
        .steps()
        .find(|step| StepKey::of(&step.step).subject == "web");
    let web = StepKey::of(&web.expect("it is asked").step);
    policy.hold.steps.insert(web, "EIO".into());
    let held = plan(&key(), &intent, &seen, true, &policy);
    assert_eq!(verbs(&held), ["StopProcess other, StopProcess worker"]);
}

#[test]
fn the_former_specification_says_in_which_order_a_changed_container_ends() {
    let (before, life) = up();
    let mut policy = policy();
    policy.former = Some(Arc::new(before));
    let after = desired(2, "\n  hostname: other\n  processes: []");
    let plan = plan(
        &key(),
        &wanted(&after),
        &observed([(1, life)]),
        true,
        &policy,
    );
    let stops: Vec<String> = verbs(&plan).into_iter().take(2).collect();
    assert_eq!(
        stops,
        [
            "StopProcess other, StopProcess web, StopProcess worker",
            "StopProcess db",
        ]
    );
}

#[test]
fn no_process_starts_before_another_container_is_as_it_is_needed() {
    let (desired, mut life) = up();
    died(&desired, &mut life, &["web", "db"]);
    let mut policy = policy();
    let unmet = Unmet {
        key: Key::new("cache").expect("a label"),
        why: "no spec wants it".into(),
    };
    policy.unmet = [(unmet, Condition::Healthy)].into();
    let held = plan(
        &key(),
        &wanted(&desired),
        &observed([(1, life)]),
        true,
        &policy,
    );
    let cache = "container cache to be healthy: no spec wants it";
    assert_eq!(
        verbs(&held),
        [
            alloc::format!("({cache}, for db to start)"),
            alloc::format!(
                "StartProcess db, ({cache}, for web to start), (process db to be started, for \
                 web to start)"
            ),
            "StartProcess web".into(),
        ]
    );
    // What a new life shows has the same order.
    let intent = wanted(&desired);
    let free = crate::fixture::policy();
    let fresh = verbs(&plan(&key(), &intent, &observed([]), true, &free));
    let at = |what: &str| {
        let found = fresh.iter().position(|stage| stage.contains(what));
        found.expect("it is planned")
    };
    assert!(
        at("StartProcess migrate") < at("StartProcess db"),
        "{fresh:?}"
    );
    assert!(at("StartProcess db") < at("StartProcess web"), "{fresh:?}");
    // A life is made all the same, up to its processes.
    let anew = plan(&key(), &wanted(&desired), &observed([]), true, &policy);
    let verbs = verbs(&anew);
    assert!(
        verbs.iter().any(|stage| stage.contains("StartShim")),
        "{verbs:?}"
    );
    let first = verbs
        .iter()
        .position(|stage| stage.contains("StartProcess"));
    let waits = verbs
        .iter()
        .position(|stage| stage.contains("container cache"));
    assert!(waits < first, "{verbs:?}");
}

#[test]
fn a_circle_that_no_specification_may_have_ends_all_the_same() {
    let (mut desired, life) = up();
    let migrate = desired.processes.get_mut(&name("db")).expect("it is there");
    migrate.depends_on = [(name("web"), Condition::Started)].into();
    desired.run = Run::Stopped;
    let plan = plan_one(&wanted(&desired), life);
    assert_eq!(verbs(&plan).len(), 1);
}
