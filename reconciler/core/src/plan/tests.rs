//! The laws of planning, one container at a time.

use alloc::sync::Arc;
use alloc::vec::Vec;

use driver_api::{
    Action, ExitStatus, Expect, Fact, Init, Life, MountObserved, Precondition, ProcessState,
    ShimState,
};
use specs::desired::{Desired, RestartPolicy, Run};
use specs::id::{Generation, Incarnation};

use super::{Class, Obstacle, Plan, StepKey, plan};
use crate::fixture::{
    SERVER, desired, ended, gap, key, name, observed, plan_one, policy, processes, running,
    settled, verbs, wanted,
};
use crate::io::{Intent, Mode};
use crate::order::is_destructive;

fn server() -> Desired {
    desired(1, SERVER)
}

fn known<T>(fact: &mut Fact<T>) -> &mut T {
    match fact {
        Fact::Known(value) => value,
        _ => panic!("it is known"),
    }
}

/// Checks what is planned for a life that was settled and then changed by `hand`.
#[track_caller]
fn check(hand: impl Fn(&mut Life), stages: &[&str], class: Class) {
    let desired = server();
    let mut life = settled(&desired);
    hand(&mut life);
    let plan = plan_one(&wanted(&desired), life);
    assert_eq!(verbs(&plan), stages);
    assert!(
        plan.steps().all(|step| step.reason.class == class),
        "{plan:?}"
    );
    assert_eq!(plan.blocked, []);
}

#[test]
fn what_is_as_wanted_plans_to_nothing() {
    let every = "
  limits: {memory: 64Mi, swap: 1Mi, memoryLow: 1Mi, cpu: 500m, cpuWeight: 50, cpuSet: '0-1', pids: 9}
  mounts: [{path: /tmp, tmpfs: 1Mi}, {path: /db, volume: db}]
  files: [{path: /etc/a, content: a, onChange: 'signal:HUP'}, {path: /etc/b, content: b}]
  processes: [{name: server, command: [/bin/serve]}, {name: worker, command: [/bin/work]}]";
    for body in [SERVER, every, ""] {
        let desired = desired(1, body);
        let plan = plan_one(&wanted(&desired), settled(&desired));
        assert_eq!(
            plan,
            Plan {
                life: Some(Incarnation(1)),
                ..Plan::default()
            },
            "{body}"
        );
        assert!(plan.is_settled());
    }
}

#[test]
fn each_drift_has_its_own_repair_and_costs_nothing_else() {
    let repair = Class::Repair;
    check(|life| life.shim = Fact::Absent, &["AdoptInit"], repair);
    check(|life| life.cgroup = Fact::Absent, &["RejoinCgroup"], repair);
    check(
        |life| known(&mut life.cgroup).whole = false,
        &["RejoinCgroup"],
        repair,
    );
    check(
        |life| known(&mut life.init).in_cgroup = false,
        &["RejoinCgroup"],
        repair,
    );
    check(
        |life| life.loopback_up = Fact::Known(false),
        &["RaiseLoopback"],
        repair,
    );
    check(
        |life| known(&mut life.mounts).clear(),
        &["RestoreMount /tmp"],
        repair,
    );
    let read_only = |life: &mut Life| {
        known(&mut life.mounts)
            .values_mut()
            .for_each(|mount| mount.read_only = true);
    };
    check(read_only, &["RestoreMount /tmp"], repair);
    let memory = |life: &mut Life| {
        known(&mut life.cgroup).limits.memory = Fact::Known(Some(1 << 30));
    };
    check(memory, &["SetLimits"], repair);
    let died = |life: &mut Life| {
        let exit = ended(&server(), &name("server"), ExitStatus::Signal(9), false);
        processes(life).insert(name("server"), exit);
    };
    check(died, &["StartProcess server"], Class::Process);
    check(
        |life| processes(life).clear(),
        &["StartProcess server"],
        Class::Process,
    );
}

#[test]
fn what_was_mounted_over_is_told_and_left_alone() {
    let desired = server();
    let mut life = settled(&desired);
    known(&mut life.mounts)
        .values_mut()
        .for_each(|mount: &mut MountObserved| {
            mount.stacked = 2;
            mount.fs_type = "ext4".into();
        });
    let plan = plan_one(&wanted(&desired), life);
    assert!(plan.is_settled());
    assert_eq!(plan.notes.len(), 1, "{:?}", plan.notes);
}

#[test]
fn an_upper_layer_that_was_taken_away_is_told_and_nobody_is_ended_for_it() {
    let desired = server();
    let mut life = settled(&desired);
    life.root = Fact::Absent;
    let plan = plan_one(&wanted(&desired), life);
    assert!(plan.is_settled());
    assert_eq!(plan.notes.len(), 1);
}

/// Every fact of a life made unknown, one at a time.
fn with_gaps(life: &Life) -> Vec<(&'static str, Life)> {
    let with = |hand: &dyn Fn(&mut Life)| {
        let mut life = life.clone();
        hand(&mut life);
        life
    };
    Vec::from([
        ("bundle", with(&|life| life.bundle = gap("bundle"))),
        ("cgroup", with(&|life| life.cgroup = gap("cgroup"))),
        ("root", with(&|life| life.root = gap("root"))),
        ("shim", with(&|life| life.shim = gap("shim"))),
        ("init", with(&|life| life.init = gap("init"))),
        ("mounts", with(&|life| life.mounts = gap("mounts"))),
        ("loopback", with(&|life| life.loopback_up = gap("loopback"))),
        ("processes", with(&|life| life.processes = gap("processes"))),
    ])
}

#[test]
fn unknown_is_not_absent() {
    let desired = server();
    for (what, life) in with_gaps(&settled(&desired)) {
        let plan = plan_one(&wanted(&desired), life);
        assert_eq!(verbs(&plan), [""; 0], "{what}");
        // The upper layer of a living container is not looked at.
        let blocked = plan.blocked.iter().any(|one| one.kind == Obstacle::Unknown);
        assert_eq!(blocked, what != "root", "{what}");
    }
}

#[test]
fn no_new_life_while_another_may_live_unseen() {
    let desired = server();
    let torn = plan(&key(), &wanted(&desired), &observed([]), false, &policy());
    assert_eq!((verbs(&torn).len(), torn.blocked.len()), (0, 1), "{torn:?}");
    let mut other = settled(&recreate());
    other.init = gap("init");
    let plan = plan_one(&wanted(&desired), other);
    assert_eq!(verbs(&plan), [""; 0]);
    assert!(!plan.is_settled());
}

fn recreate() -> Desired {
    desired(
        1,
        "\n  hostname: other\n  processes: [{name: server, command: [/bin/serve]}]",
    )
}

#[test]
fn nothing_that_lives_is_ended_on_what_is_unknown() {
    let deleted = Intent::Deleted {
        last: Some(Arc::new(server())),
    };
    for intent in [deleted, Intent::Gone, wanted(&recreate())] {
        for (what, life) in with_gaps(&settled(&server())) {
            // What has no say in whether it may end: it runs on, and is ended with grace.
            if matches!(what, "mounts" | "loopback" | "root" | "bundle") {
                continue;
            }
            let plan = plan_one(&intent, life);
            let ends = plan.steps().any(|step| is_destructive(&step.step.action));
            assert!(!ends && !plan.blocked.is_empty(), "{what}: {plan:?}");
        }
    }
}

#[test]
fn what_is_unknown_of_a_dead_life_stays_until_it_is_known() {
    let mut dead = settled(&server());
    (dead.init, dead.shim, dead.cgroup) = (Fact::Absent, Fact::Absent, Fact::Absent);
    dead.root = gap("root");
    let plan = plan_one(&Intent::Deleted { last: None }, dead.clone());
    assert_eq!(verbs(&plan), [""; 0]);
    dead.root = Fact::Absent;
    dead.bundle = gap("bundle");
    let plan = plan_one(&Intent::Deleted { last: None }, dead);
    assert_eq!((verbs(&plan).len(), plan.blocked.len()), (0, 1));
}

#[test]
fn a_life_goes_in_the_reverse_order_of_its_making() {
    let desired = server();
    let nothing = plan(&key(), &wanted(&desired), &observed([]), true, &policy());
    let made = [
        "PrepareBundle",
        "CreateCgroup, PrepareRoot",
        "StartShim",
        "RaiseLoopback",
        "StartProcess server",
    ];
    assert_eq!(verbs(&nothing), made);
    assert!(
        nothing
            .steps()
            .all(|step| step.reason.class == Class::Create)
    );
    let gone = [
        "StopProcess server",
        "KillLife",
        "EndShim",
        "RemoveCgroup",
        "RemoveRoot",
        "RemoveBundle",
    ];
    let deleted = Intent::Deleted {
        last: Some(Arc::new(desired.clone())),
    };
    assert_eq!(verbs(&plan_one(&deleted, settled(&desired))), gone);
    assert_eq!(verbs(&plan_one(&Intent::Gone, settled(&desired))), gone);
}

#[test]
fn the_old_life_is_dead_before_the_new_one_is_begun() {
    let plan = plan_one(&wanted(&recreate()), settled(&server()));
    let stages = [
        "StopProcess server",
        "KillLife",
        "EndShim",
        "RemoveCgroup, PrepareBundle",
        "RemoveRoot, CreateCgroup, PrepareRoot",
        "RemoveBundle, StartShim",
        "RaiseLoopback",
        "StartProcess server",
    ];
    assert_eq!(verbs(&plan), stages);
    assert!(
        plan.steps()
            .all(|step| step.reason.class == Class::Recreate)
    );
}

#[test]
fn a_dead_init_is_drift_and_its_life_is_not_used_again() {
    let mut life = settled(&server());
    (life.init, life.mounts) = (Fact::Absent, Fact::Absent);
    known(&mut life.cgroup).populated = false;
    let plan = plan_one(&wanted(&server()), life.clone());
    assert_eq!(plan.life, Some(Incarnation(7)));
    assert_eq!(verbs(&plan)[0], "EndShim");
    // With the supervisor gone too, it still is no half-made life.
    life.shim = Fact::Absent;
    let plan = plan_one(&wanted(&server()), life);
    assert_eq!(verbs(&plan)[0], "RemoveCgroup, PrepareBundle");
}

#[test]
fn a_half_made_life_is_finished_if_it_still_fits() {
    let mut life = settled(&server());
    life.init = Fact::Absent;
    (life.shim, life.root) = (Fact::Absent, Fact::Known(false));
    known(&mut life.bundle).launched = false;
    known(&mut life.cgroup).populated = false;
    let plan = plan_one(&wanted(&server()), life.clone());
    assert_eq!(plan.life, Some(Incarnation(1)));
    assert_eq!(verbs(&plan)[..2], ["PrepareRoot", "StartShim"]);
    let plan = plan_one(&wanted(&recreate()), life);
    assert_eq!(plan.life, Some(Incarnation(7)));
    assert_eq!(verbs(&plan)[0], "RemoveCgroup, PrepareBundle");
}

#[test]
fn what_a_reboot_left_is_cleaned_and_made_anew() {
    let mut life = settled(&server());
    (life.init, life.shim, life.cgroup) = (Fact::Absent, Fact::Absent, Fact::Absent);
    known(&mut life.bundle).this_boot = false;
    let plan = plan_one(&wanted(&server()), life);
    assert_eq!(verbs(&plan)[0], "RemoveRoot, PrepareBundle");
}

#[test]
fn at_most_one_life_is_kept_the_newest_that_lives() {
    let life = settled(&server());
    let both = observed([(1, life.clone()), (2, life.clone())]);
    let plan_both = plan(&key(), &wanted(&server()), &both, true, &policy());
    assert_eq!(plan_both.life, Some(Incarnation(2)));
    assert!(
        plan_both
            .steps()
            .all(|step| step.step.incarnation == Incarnation(1))
    );
    // A newer one that is only half made does not end one that lives.
    let mut half = life.clone();
    (half.init, half.shim) = (Fact::Absent, Fact::Absent);
    known(&mut half.bundle).launched = false;
    known(&mut half.cgroup).populated = false;
    let half = observed([(1, life.clone()), (2, half)]);
    let plan_half = plan(&key(), &wanted(&server()), &half, true, &policy());
    assert_eq!(plan_half.life, Some(Incarnation(1)));
    // Nor does anything while it cannot be told whether one lives.
    let mut perhaps = life;
    perhaps.init = gap("init");
    let perhaps = observed([(1, perhaps)]);
    assert_eq!(
        verbs(&plan(&key(), &wanted(&server()), &perhaps, true, &policy())),
        [""; 0]
    );
}

#[test]
fn orphans_go_only_by_their_mark_and_after_a_whole_listing() {
    let life = observed([(1, settled(&server()))]);
    for (prune, complete) in [(false, true), (true, false)] {
        let mut policy = policy();
        policy.mode.prune = prune;
        let plan = plan(&key(), &Intent::Gone, &life, complete, &policy);
        assert_eq!(verbs(&plan), [""; 0], "prune {prune} complete {complete}");
        assert_eq!(plan.blocked[0].kind, Obstacle::Withheld);
    }
    let plan = plan(&key(), &Intent::Gone, &life, true, &policy());
    assert!(plan.steps().all(|step| step.reason.class == Class::Prune));
}

#[test]
fn while_the_store_is_suspect_nothing_is_ended_and_what_is_missing_is_started() {
    let mut policy = policy();
    policy.mode = Mode {
        destroy: false,
        prune: false,
    };
    let deleted = Intent::Deleted { last: None };
    let intents = [
        deleted,
        Intent::Gone,
        wanted(&recreate()),
        wanted(&server()),
    ];
    for intent in &intents {
        let lives = observed([(1, settled(&server()))]);
        let plan = plan(&key(), intent, &lives, true, &policy);
        assert_eq!(verbs(&plan), [""; 0], "{plan:?}");
    }
    let mut life = settled(&server());
    processes(&mut life).clear();
    let plan = plan(&key(), &intents[3], &observed([(1, life)]), true, &policy);
    assert_eq!(verbs(&plan), ["StartProcess server"]);
}

#[test]
fn a_suspended_container_is_left_exactly_as_it_is() {
    let mut suspended = recreate();
    suspended.suspend = true;
    let mut life = settled(&server());
    life.shim = Fact::Absent;
    let plan = plan_one(&wanted(&suspended), life);
    assert!(plan.is_settled());
    assert!(!plan.notes.is_empty());
}

#[test]
fn stopped_ends_processes_and_keeps_the_container() {
    let mut stopped = server();
    stopped.run = Run::Stopped;
    assert_eq!(
        verbs(&plan_one(&wanted(&stopped), settled(&server()))),
        ["StopProcess server"]
    );
    let mut life = settled(&stopped);
    let exit = ended(&stopped, &name("server"), ExitStatus::Code(1), true);
    processes(&mut life).insert(name("server"), exit);
    assert!(plan_one(&wanted(&stopped), life).is_settled());
    let nothing = plan(&key(), &wanted(&stopped), &observed([]), true, &policy());
    assert!(nothing.is_settled());
}

#[test]
fn an_end_on_our_word_is_no_exit() {
    for policy in [
        RestartPolicy::Always,
        RestartPolicy::OnFailure,
        RestartPolicy::Never,
    ] {
        for status in [
            ExitStatus::Code(0),
            ExitStatus::Code(1),
            ExitStatus::Signal(9),
        ] {
            let mut desired = server();
            for process in desired.processes.values_mut() {
                process.restart.policy = policy;
            }
            let planned = |asked: bool| {
                let mut life = settled(&desired);
                let exit = ended(&desired, &name("server"), status, asked);
                processes(&mut life).insert(name("server"), exit);
                verbs(&plan_one(&wanted(&desired), life))
            };
            assert_eq!(
                planned(true),
                ["StartProcess server"],
                "{policy:?} {status:?}"
            );
            let again = match policy {
                RestartPolicy::Always => true,
                RestartPolicy::OnFailure => status != ExitStatus::Code(0),
                RestartPolicy::Never => false,
            };
            assert_eq!(
                planned(false).len(),
                usize::from(again),
                "{policy:?} {status:?}"
            );
        }
    }
}

#[test]
fn an_end_that_nobody_saw_is_not_taken_for_success() {
    let mut desired = server();
    for process in desired.processes.values_mut() {
        process.restart.policy = RestartPolicy::OnFailure;
    }
    for last_exit in [true, false] {
        let mut life = settled(&desired);
        let mut exit = ended(&desired, &name("server"), ExitStatus::Unseen, false);
        exit.last_exit = exit.last_exit.filter(|_| last_exit);
        processes(&mut life).insert(name("server"), exit);
        assert_eq!(
            verbs(&plan_one(&wanted(&desired), life)),
            ["StartProcess server"]
        );
    }
}

#[test]
fn a_process_waits_for_its_delay_and_no_other_does() {
    let two = "\n  processes: [{name: a, command: [/a]}, {name: b, command: [/b]}]";
    let desired = desired(1, two);
    let mut life = settled(&desired);
    for process in ["a", "b"] {
        let exit = ended(&desired, &name(process), ExitStatus::Code(1), false);
        processes(&mut life).insert(name(process), exit);
    }
    let mut policy = policy();
    policy.hold.processes.insert(name("a"));
    let plan = plan(
        &key(),
        &wanted(&desired),
        &observed([(1, life)]),
        true,
        &policy,
    );
    assert_eq!(
        verbs(&plan),
        ["StartProcess b, (the delay before a starts again)"]
    );
}

#[test]
fn an_edit_costs_what_its_class_says() {
    let old = settled(&server());
    let edit = |body: &str| verbs(&plan_one(&wanted(&desired(2, body)), old.clone()));
    let limits = SERVER.replace("64Mi", "32Mi");
    assert_eq!(edit(&limits), ["SetLimits"]);
    assert_eq!(edit(&SERVER.replace("3s", "9s")), [""; 0]);
    assert_eq!(
        edit(&SERVER.replace("/bin/serve", "/bin/other")),
        ["StopProcess server", "StartProcess server"]
    );
    let more = SERVER.replace("}}]", "}}, {name: more, command: [/bin/more]}]");
    assert_eq!(edit(&more), ["StartProcess more"]);
    let plan = plan_one(&wanted(&desired(2, &limits)), old);
    assert_eq!(plan.steps().next().expect("one").reason.class, Class::Live);
}

#[test]
fn an_extra_process_is_ended_and_then_forgotten() {
    let desired = server();
    let mut life = settled(&desired);
    let other = running(&desired, &name("server"));
    processes(&mut life).insert(name("other"), other);
    assert_eq!(
        verbs(&plan_one(&wanted(&desired), life.clone())),
        ["StopProcess other"]
    );
    let exit = ended(&desired, &name("server"), ExitStatus::Code(0), true);
    processes(&mut life).insert(name("other"), exit);
    assert_eq!(
        verbs(&plan_one(&wanted(&desired), life)),
        ["ForgetProcess other"]
    );
}

#[test]
fn a_person_s_restart_restarts_each_process_once() {
    let mut desired = server();
    desired.restart_epoch = 1;
    let mut life = settled(&server());
    let stages = ["StopProcess server", "StartProcess server"];
    assert_eq!(verbs(&plan_one(&wanted(&desired), life.clone())), stages);
    processes(&mut life)
        .get_mut(&name("server"))
        .expect("it is there")
        .restart_epoch = 1;
    assert!(plan_one(&wanted(&desired), life).is_settled());
}

#[test]
fn files_reach_a_process_in_the_way_that_was_asked_for() {
    let body = |on_change: &str, content: &str| {
        desired(
            2,
            &alloc::format!(
                "\n  files: [{{path: /etc/a, content: {content}, onChange: '{on_change}'}}]\n  \
                 processes: [{{name: server, command: [/bin/serve]}}]"
            ),
        )
    };
    let edit = |on_change: &str| {
        let life = settled(&body(on_change, "old"));
        verbs(&plan_one(&wanted(&body(on_change, "new")), life))
    };
    // Nothing that still runs shall see the text it is restarted for.
    assert_eq!(
        edit("restart"),
        ["StopProcess server", "WriteFiles", "StartProcess server"]
    );
    assert_eq!(edit("signal:HUP"), ["WriteFiles", "SignalProcess server"]);
    assert_eq!(edit("none"), ["WriteFiles"]);
    // A signal that was owed when the daemon died is still owed.
    let new = body("signal:HUP", "new");
    let mut life = settled(&body("signal:HUP", "old"));
    life.files = settled(&new).files;
    assert_eq!(
        verbs(&plan_one(&wanted(&new), life)),
        ["SignalProcess server"]
    );
}

#[test]
fn a_file_is_not_written_while_a_process_that_restarts_for_it_runs() {
    let old = desired(
        1,
        "\n  files: [{path: /a, content: a}]\n  processes: [{name: p, command: [/p]}]",
    );
    let new = desired(
        2,
        "\n  files: [{path: /a, content: b}]\n  processes: [{name: p, command: [/p]}]",
    );
    let mut life = settled(&old);
    let process = processes(&mut life)
        .get_mut(&name("p"))
        .expect("it is there");
    let ProcessState::Running { id, .. } = process.state else {
        panic!("it runs")
    };
    process.state = ProcessState::Stopping { id, since_ms: 5 };
    assert_eq!(
        verbs(&plan_one(&wanted(&new), life.clone()))[0],
        "(p to end)"
    );
    // Nor while it may not be ended.
    let mut policy = policy();
    policy.mode.destroy = false;
    let running = observed([(1, settled(&old))]);
    let plan = plan(&key(), &wanted(&new), &running, true, &policy);
    assert_eq!(verbs(&plan), [""; 0], "{plan:?}");
}

#[test]
fn a_wanted_limit_without_a_control_is_an_error_and_one_not_wanted_is_not() {
    let desired = server();
    let mut life = settled(&desired);
    known(&mut life.cgroup).limits.cpu = Fact::Absent;
    known(&mut life.cgroup).limits.cpu_set = Fact::Absent;
    assert!(plan_one(&wanted(&desired), life.clone()).is_settled());
    known(&mut life.cgroup).limits.memory = Fact::Absent;
    let plan = plan_one(&wanted(&desired), life.clone());
    assert_eq!(plan.blocked[0].kind, Obstacle::Impossible);
    // And no process begins without it.
    (life.init, life.shim) = (Fact::Absent, Fact::Absent);
    known(&mut life.bundle).launched = false;
    known(&mut life.cgroup).populated = false;
    let plan = plan_one(&wanted(&desired), life);
    assert_eq!(verbs(&plan), [""; 0]);
}

#[test]
fn what_the_policy_withdrew_runs_on_and_is_not_made_again() {
    let mut intent = wanted(&server());
    let Intent::Present(of) = &mut intent else {
        panic!("it is wanted")
    };
    of.withdrawn = Some("the rule `team` grants it no more".into());
    let mut life = settled(&server());
    assert_eq!(
        plan_one(&intent, life.clone()),
        plan_one(&wanted(&server()), life.clone())
    );
    // What could not be made again is not ended to be made anew.
    let mut other = life.clone();
    known(&mut other.bundle).container = specs::id::Digest([7; 16]);
    let plan_of_other = plan_one(&intent, other.clone());
    assert_eq!(verbs(&plan_of_other), [""; 0]);
    assert_eq!(plan_of_other.blocked[0].kind, Obstacle::Impossible);
    // But a person's order to end it is followed.
    let mut stopped = server();
    stopped.run = Run::Stopped;
    let mut ordered = wanted(&stopped);
    if let Intent::Present(of) = &mut ordered {
        of.withdrawn = Some("the rule `team` grants it no more".into());
    }
    assert_eq!(
        plan_one(&ordered, other.clone()),
        plan_one(&wanted(&stopped), other)
    );
    // Ended, it is cleaned away and not begun anew; neither is what was never made.
    (life.init, life.shim) = (Fact::Absent, Fact::Absent);
    let ended = plan_one(&intent, life.clone());
    assert_eq!(ended.blocked[0].kind, Obstacle::Impossible);
    assert!(
        ended
            .steps()
            .any(|step| step.step.action.verb() == "RemoveBundle")
    );
    assert!(
        ended
            .steps()
            .all(|step| step.step.incarnation == Incarnation(1))
    );
    known(&mut life.bundle).this_boot = false;
    let rebooted = plan_one(&intent, life);
    assert_eq!(rebooted.blocked[0].kind, Obstacle::Impossible);
    let mut steps = rebooted.steps();
    assert!(steps.all(|step| step.step.incarnation == Incarnation(1)));
    let none = plan(&key(), &intent, &observed([]), true, &policy());
    assert_eq!((none.steps().count(), none.blocked.len()), (0, 1));
}

#[test]
fn ending_with_grace_takes_a_supervisor_unless_none_can_be_had() {
    let mut life = settled(&server());
    life.shim = Fact::Absent;
    life.processes = gap("processes");
    let deleted = Intent::Deleted { last: None };
    let adopted = plan_one(&deleted, life.clone());
    // What follows rests on what the new one tells.
    assert_eq!(verbs(&adopted), ["AdoptInit"]);
    let mut policy = policy();
    let adopt = StepKey::of(&adopted.stages[0].steps[0].step);
    policy.hold.steps.insert(adopt, "it failed".into());
    let plan = plan(&key(), &deleted, &observed([(1, life)]), true, &policy);
    assert_eq!(verbs(&plan)[0], "KillLife");
}

#[test]
fn a_supervisor_that_hangs_is_replaced_whatever_its_container_is_for() {
    let mut life = settled(&server());
    known(&mut life.shim).state = ShimState::Silent;
    life.processes = gap("processes");
    life.files = gap("files");
    let intents = [
        wanted(&server()),
        wanted(&recreate()),
        Intent::Deleted { last: None },
    ];
    let mut hung = policy();
    hung.hung.insert(Incarnation(1));
    for intent in intents {
        let seen = observed([(1, life.clone())]);
        let patient = plan(&key(), &intent, &seen, true, &policy());
        assert_eq!(patient.steps().count(), 0, "it may still answer");
        assert_eq!(patient.blocked[0].kind, Obstacle::Unknown);
        let replaced = plan(&key(), &intent, &seen, true, &hung);
        assert_eq!(verbs(&replaced), ["KillShim", "AdoptInit"]);
        assert_eq!(replaced.stages.len(), 2, "one after the other");
        // An init that only it knows of stands in no way.
        let mut making = life.clone();
        making.init = gap("init");
        let seen = observed([(1, making)]);
        let ended = plan(&key(), &intent, &seen, true, &hung);
        assert_eq!(verbs(&ended), ["KillShim"]);
    }
}

#[test]
fn each_process_of_a_deleted_container_gets_its_own_signal_and_time() {
    let plan = plan_one(
        &Intent::Deleted {
            last: Some(Arc::new(server())),
        },
        settled(&server()),
    );
    let Action::StopProcess { signal, grace, .. } = &plan.stages[0].steps[0].step.action else {
        panic!("{plan:?}")
    };
    assert_eq!((signal.0, grace.0), (15, 3_000));
}

#[test]
fn every_step_on_what_is_there_names_what_it_was_planned_against() {
    type Hand = fn(&mut Life);
    let drifted: [(&str, Hand); 6] = [
        ("limits", |life| {
            known(&mut life.cgroup).limits.pids = Fact::Known(Some(1))
        }),
        ("cgroup", |life| life.cgroup = Fact::Absent),
        ("shim", |life| life.shim = Fact::Absent),
        ("mounts", |life| known(&mut life.mounts).clear()),
        ("processes", |life| processes(life).clear()),
        ("nothing", |_| ()),
    ];
    for (what, hand) in drifted {
        let mut life = settled(&server());
        hand(&mut life);
        let init = life
            .init
            .known()
            .map(|init: &Init| init.id)
            .expect("it lives");
        let intents = [wanted(&server()), Intent::Gone, wanted(&recreate())];
        for (plan, intent) in intents
            .iter()
            .map(|intent| (plan_one(intent, life.clone()), intent))
        {
            for planned in plan.stages.first().iter().flat_map(|stage| &stage.steps) {
                let Precondition {
                    init: expected,
                    starts,
                    ..
                } = &planned.step.precondition;
                assert_eq!(*expected, Expect::Is(init), "{what} {intent:?}");
                let about_process = matches!(
                    planned.step.action,
                    Action::StartProcess { .. } | Action::StopProcess { .. }
                );
                assert_eq!(*starts == Expect::Any, !about_process, "{what}");
            }
        }
    }
    let nothing = plan(&key(), &wanted(&server()), &observed([]), true, &policy());
    let nobody = |step: &super::Planned| {
        let Precondition { init, shim, .. } = &step.step.precondition;
        *init == Expect::Absent && *shim == Expect::Absent
    };
    assert!(
        nothing.stages[..3]
            .iter()
            .flat_map(|stage| &stage.steps)
            .all(nobody)
    );
}

#[test]
fn a_failed_step_lets_only_what_depends_on_it_wait() {
    let desired = server();
    let mut life = settled(&desired);
    known(&mut life.cgroup).limits.memory = Fact::Known(None);
    processes(&mut life).clear();
    let held = |life: &Life| {
        let mut policy = policy();
        let lives = observed([(1, life.clone())]);
        let first = plan(&key(), &wanted(&desired), &lives, true, &policy);
        let step = StepKey::of(&first.stages[0].steps[0].step);
        policy.hold.steps.insert(step, "EIO".into());
        plan(&key(), &wanted(&desired), &lives, true, &policy)
    };
    // Limits that cannot be set do not keep a process down ...
    assert_eq!(verbs(&held(&life)), ["StartProcess server"]);
    // ... a mount that cannot be made does.
    life.cgroup = settled(&desired).cgroup;
    known(&mut life.mounts).clear();
    assert_eq!(verbs(&held(&life)), [""; 0]);
}

#[test]
fn a_plan_rests_on_nothing_but_its_arguments() {
    let lives = observed([(1, settled(&server())), (2, settled(&recreate()))]);
    let once = || plan(&key(), &wanted(&recreate()), &lives, true, &policy());
    assert_eq!(once(), once());
    // Text that no running thing depends on changes no plan.
    let mut cosmetic = recreate();
    cosmetic.labels.insert("a".into(), "b".into());
    cosmetic.annotations.insert("c".into(), "d".into());
    cosmetic.generation = Generation(9);
    let mut renumbered = plan(&key(), &wanted(&cosmetic), &lives, true, &policy());
    renumbered.notes.clear();
    assert_eq!(verbs(&renumbered), verbs(&once()));
}
