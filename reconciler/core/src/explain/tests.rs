//! Golden words: what people read, letter for letter.

use alloc::sync::Arc;

use driver_api::{ExitStatus, Fact};

use super::{exit, plan as words, span};
use crate::fixture::{
    SERVER, desired, ended, gap, key, name, observed, plan_one, policy, processes, settled, wanted,
};
use crate::io::Intent;
use crate::plan::plan;

#[track_caller]
fn check(plan: &crate::plan::Plan, golden: &str) {
    assert_eq!(words(plan).trim_end(), golden.trim());
}

#[test]
fn a_container_that_is_made() {
    let body = "
  limits: {memory: 64Mi, cpu: 1500m, cpuSet: '0-1,3', pids: 32}
  processes: [{name: server, command: [/bin/serve]}]";
    let plan = plan(
        &key(),
        &wanted(&desired(1, body)),
        &observed([]),
        true,
        &policy(),
    );
    check(
        &plan,
        "
stage 1
  make the runtime directory of web.7 (create: it is not there)
stage 2
  make the cgroup of web.7 with memory 64Mi, cpu 1500m, cpuSet 0-1,3, pids 32 (create: it is not there)
  make the upper layer of web.7 (create: it is not there)
stage 3
  start the supervisor of web.7 (create: it is not there)
stage 4
  set the loopback link of web.7 up (create: its loopback link is down)
stage 5
  start server in web.7 (create: it was not started in this life)",
    );
}

#[test]
fn a_container_that_is_made_anew() {
    let changed = desired(2, "\n  hostname: other");
    let plan = plan_one(&wanted(&changed), settled(&desired(1, SERVER)));
    check(
        &plan,
        "
stage 1
  send TERM to server in web.1, KILL after 10s (recreate: its specification changed in what a container is made from)
stage 2
  kill what is left in web.1 (recreate: its specification changed in what a container is made from)
stage 3
  end the supervisor of web.1 (recreate: its specification changed in what a container is made from)
stage 4
  remove the cgroup of web.1 (recreate: its specification changed in what a container is made from)
  make the runtime directory of web.7 (recreate: it is not there)
stage 5
  remove the upper layer of web.1 (recreate: its specification changed in what a container is made from)
  make the cgroup of web.7 with pids 1024 (recreate: it is not there)
  make the upper layer of web.7 (recreate: it is not there)
stage 6
  remove the runtime directory of web.1 (recreate: its specification changed in what a container is made from)
  start the supervisor of web.7 (recreate: it is not there)
stage 7
  set the loopback link of web.7 up (recreate: its loopback link is down)",
    );
}

#[test]
fn drift_names_the_field_and_both_values() {
    let desired = desired(1, SERVER);
    let mut life = settled(&desired);
    if let Fact::Known(cgroup) = &mut life.cgroup {
        cgroup.limits.memory = Fact::Known(Some(1 << 30));
    }
    life.loopback_up = Fact::Known(false);
    life.mounts = Fact::Known(alloc::collections::BTreeMap::new());
    let exit = ended(&desired, &name("server"), ExitStatus::Signal(9), false);
    processes(&mut life).insert(name("server"), exit);
    check(
        &plan_one(&wanted(&desired), life),
        "
stage 1
  set the limits of web.1 to memory 64Mi, pids 1024 (repair: memory is 1Gi instead of 64Mi)
stage 2
  mount /tmp of web.1 again (repair: /tmp is not mounted)
  set the loopback link of web.1 up (repair: its loopback link is down)
stage 3
  start server in web.1 (process: it was killed by KILL)",
    );
}

#[test]
fn what_is_waited_for_and_what_is_in_the_way() {
    let desired = desired(1, SERVER);
    let mut life = settled(&desired);
    life.shim = gap("the supervisor");
    check(
        &plan_one(&wanted(&desired), life.clone()),
        "blocked on read the supervisor of web.1: EIO",
    );
    let deleted = Intent::Deleted {
        last: Some(Arc::new(desired)),
    };
    life.init = Fact::Absent;
    check(
        &plan_one(&deleted, life),
        "blocked on read the supervisor of web.1: EIO",
    );
}

#[test]
fn nothing_to_do() {
    let desired = desired(1, SERVER);
    check(
        &plan_one(&wanted(&desired), settled(&desired)),
        "nothing to do",
    );
}

#[test]
fn ends_of_runs() {
    let golden = [
        (ExitStatus::Code(0), false, "exited 0"),
        (ExitStatus::Signal(15), false, "killed by TERM"),
        (
            ExitStatus::Signal(9),
            true,
            "killed by KILL (out of memory)",
        ),
        (ExitStatus::NotStarted(2), false, "not started (errno 2)"),
        (ExitStatus::Unseen, false, "unknown"),
    ];
    for (status, oom, words) in golden {
        assert_eq!(exit(status, oom), words);
    }
}

#[test]
fn lengths_of_time() {
    let golden = [
        (7, "7ms"),
        (1_000, "1s"),
        (2_560, "2.5s"),
        (61_000, "1m"),
        (90 * 60_000, "90m"),
    ];
    for (ms, words) in golden {
        assert_eq!(span(ms), words);
    }
}
