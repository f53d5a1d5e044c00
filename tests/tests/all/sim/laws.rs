//! Laws of the machine, each in a world where only what the law is about goes wrong.

use driver_api::{Deadline, Driver, Scope, StepError};
use driver_sim::{Chances, Hand, Ratio, check};
use reconciler_core::io::{Cause, Effect, Input, Intent, Mode};
use reconciler_core::machine::BootReport;
use reconciler_core::policy::expires_ms;
use specs::desired::{Condition, Desired, RestartPolicy};
use specs::id::{Generation, Incarnation, Key};
use specs::status::{ConditionKind, Phase, Status};
use specs::units::{Bytes, Millis};

use super::daemon::Daemon;
use super::wanted::{intent, key, name, plain, process};

const SECOND: u64 = 1_000;
const MINUTE: u64 = 60 * SECOND;
const ALWAYS: Ratio = Ratio { hits: 1, of: 1 };

fn pass(daemon: &mut Daemon, ms: u64) {
    if let Err(why) = daemon.pass(ms) {
        panic!("{why}");
    }
}

fn want(daemon: &mut Daemon, desired: Desired) {
    daemon.want(desired.key.clone(), intent(desired));
}

/// A daemon with one settled container.
fn settled() -> (Daemon, Key) {
    let (mut daemon, key) = (Daemon::new(1, false), key("web"));
    want(&mut daemon, plain(&key, 1));
    pass(&mut daemon, MINUTE);
    daemon.is_as_wanted().expect("it settles");
    daemon.events.clear();
    daemon.delays.clear();
    (daemon, key)
}

fn reasons(daemon: &Daemon) -> Vec<&'static str> {
    daemon.events.iter().map(|(_, reason, _)| *reason).collect()
}

fn said(daemon: &Daemon, reason: &str) -> String {
    let found = daemon.events.iter().find(|(_, one, _)| *one == reason);
    found
        .map(|(_, _, message)| message.clone())
        .unwrap_or_default()
}

fn status<'a>(daemon: &'a Daemon, key: &Key) -> &'a Status {
    daemon.machine.status(key).expect("it has a status")
}

fn lay(daemon: &mut Daemon, hand: Hand, key: &Key, life: u64) {
    assert!(
        daemon.host.world().lay_on(hand, key, Incarnation(life)),
        "{hand:?}"
    );
    daemon.give(Input::Woke {
        key: Some(key.clone()),
        cause: Cause::Wake,
    });
}

fn crashing(key: &Key, generation: u64) -> Desired {
    let mut desired = plain(key, generation);
    desired.processes = [(name("server"), process("fail", RestartPolicy::Always))].into();
    desired
}

fn attempts(daemon: &Daemon) -> Vec<u32> {
    daemon
        .delays
        .iter()
        .map(|(_, _, attempt)| *attempt)
        .collect()
}

/// Takes the look that was asked for out of the shell's hands, and looks by hand.
fn look(daemon: &mut Daemon, wanted: &Scope) -> Input {
    let asked = |effect: &Effect| match effect {
        Effect::Observe { ticket, scope } if scope == wanted => Some(*ticket),
        _ => None,
    };
    let ticket = daemon
        .effects
        .iter()
        .find_map(asked)
        .expect("a look is asked for");
    daemon.effects.retain(|effect| asked(effect).is_none());
    let observed = daemon.host.observe(wanted, Deadline { at_ms: u64::MAX });
    Input::Observed(ticket, Box::new(observed))
}

fn oom_kills(daemon: &Daemon) -> usize {
    reasons(daemon)
        .iter()
        .filter(|reason| **reason == "OOMKilled")
        .count()
}

#[test]
fn no_step_is_begun_before_the_life_has_a_durable_record() {
    let (mut daemon, key) = (Daemon::new(1, false), key("web"));
    pass(&mut daemon, SECOND);
    want(&mut daemon, plain(&key, 1));
    let seen = look(&mut daemon, &Scope::Container(key));
    daemon.give(seen);
    daemon.give(Input::Tick);
    let appends = |effect: &Effect| matches!(effect, Effect::Append { .. });
    assert_eq!(
        daemon
            .effects
            .iter()
            .filter(|effect| appends(effect))
            .count(),
        1
    );
    assert_eq!(daemon.executes, 0);
}

#[test]
fn a_stale_answer_ends_the_stage_and_is_told_as_nothing() {
    let (mut daemon, key) = settled();
    let mut edited = plain(&key, 2);
    edited.limits.memory = None;
    edited.processes = [(name("server"), process("other", RestartPolicy::Always))].into();
    want(&mut daemon, edited);
    let seen = look(&mut daemon, &Scope::Container(key.clone()));
    daemon.give(seen);
    let Some(Effect::Execute { ticket, step }) = daemon.effects.pop() else {
        panic!("{:?}", daemon.effects)
    };
    assert_eq!(step.action.verb(), "SetLimits");
    daemon
        .host
        .world()
        .lay_on(Hand::InitDies, &key, Incarnation(1));
    let result = daemon.host.execute(&step, Deadline { at_ms: u64::MAX });
    assert!(matches!(result, Err(StepError::Stale(_))), "{result:?}");
    let executes = daemon.executes;
    daemon.give(Input::Executed(ticket, result));
    assert_eq!(daemon.executes, executes, "the rest of the stage is as old");
    pass(&mut daemon, MINUTE);
    assert!(
        !reasons(&daemon).contains(&"LimitsChanged"),
        "{:?}",
        daemon.events
    );
    daemon.is_as_wanted().expect("it is planned anew");
}

#[test]
fn a_late_look_at_the_host_brings_nothing_back() {
    let (mut daemon, key) = settled();
    daemon.give(Input::Woke {
        key: None,
        cause: Cause::Wake,
    });
    let late = look(&mut daemon, &Scope::Host);
    daemon.want(key.clone(), Intent::Deleted { last: None });
    pass(&mut daemon, MINUTE);
    assert!(daemon.machine.status(&key).is_none());
    daemon.give(late);
    pass(&mut daemon, MINUTE);
    assert!(daemon.store.lives.is_empty() && daemon.machine.status(&key).is_none());
    daemon.is_as_wanted().expect("nothing is left");
}

#[test]
fn a_look_at_the_host_taken_before_a_step_says_nothing_of_what_the_step_made() {
    let (mut daemon, web) = (Daemon::new(1, false), key("web"));
    pass(&mut daemon, SECOND);
    want(&mut daemon, plain(&web, 1));
    daemon.give(Input::Woke {
        key: None,
        cause: Cause::Wake,
    });
    let late = look(&mut daemon, &Scope::Host);
    pass(&mut daemon, MINUTE);
    daemon.is_as_wanted().expect("it settles");
    let executes = daemon.executes;
    daemon.give(late);
    pass(&mut daemon, MINUTE);
    assert_eq!(daemon.executes, executes);
    daemon.is_as_wanted().expect("it stays");
}

#[test]
fn a_settled_host_is_only_looked_at() {
    let (mut daemon, key) = settled();
    let (executes, published, looks) = (daemon.executes, daemon.published, daemon.looks);
    pass(&mut daemon, 30 * MINUTE);
    assert_eq!(daemon.executes, executes);
    assert_eq!(
        daemon.published, published,
        "a status is told when it differs"
    );
    let looks = daemon.looks - looks;
    assert!((60..200).contains(&looks), "{looks} looks in half an hour");
    assert_eq!(status(&daemon, &key).phase, Phase::Running);
}

#[test]
fn a_repair_is_told_once_and_names_what_was_changed() {
    let (mut daemon, key) = settled();
    let life = (key.clone(), Incarnation(1));
    if let Some(cgroup) = daemon
        .host
        .world()
        .lives
        .get_mut(&life)
        .and_then(|l| l.cgroup.as_mut())
    {
        cgroup.limits.memory = driver_api::Fact::Known(Some(1 << 30));
    }
    pass(&mut daemon, MINUTE);
    assert_eq!(reasons(&daemon), ["LimitsRepaired"]);
    assert_eq!(
        said(&daemon, "LimitsRepaired"),
        "memory is 1Gi instead of 64Mi"
    );
    daemon.events.clear();
    let mut edited = plain(&key, 2);
    edited.limits.memory = Some(Bytes(32 << 20));
    want(&mut daemon, edited);
    pass(&mut daemon, MINUTE);
    assert_eq!(reasons(&daemon), ["LimitsChanged", "Settled"]);
}

#[test]
fn each_loss_is_told_with_its_own_word() {
    let expected: [(Hand, &[&str]); 8] = [
        (Hand::ShimDies, &["ShimReplaced"]),
        (Hand::ShimHangs, &["ShimKilled", "ShimReplaced"]),
        (Hand::CgroupGone, &["CgroupRejoined"]),
        (Hand::MountLost, &["MountRestored"]),
        (Hand::PathExposed, &["PathCovered"]),
        (Hand::LoopbackDown, &["LoopbackRaised"]),
        (
            Hand::ProcessDies,
            &["ProcessExited", "Backoff", "ProcessStarted"],
        ),
        (
            Hand::InitDies,
            &[
                "ContainerDied",
                "ProcessExited",
                "Recreated",
                "ProcessStarted",
            ],
        ),
    ];
    for (hand, words) in expected {
        let (mut daemon, key) = settled();
        lay(&mut daemon, hand, &key, 1);
        pass(&mut daemon, MINUTE);
        let mut told = reasons(&daemon);
        if hand == Hand::InitDies {
            // The same look shows both.
            told[..2].sort_unstable();
        }
        assert_eq!(told, words, "{hand:?}");
        daemon.is_as_wanted().expect("it is repaired");
    }
}

#[test]
fn a_kill_for_memory_is_told_as_one() {
    let (mut daemon, key) = settled();
    lay(&mut daemon, Hand::OutOfMemory, &key, 1);
    pass(&mut daemon, MINUTE);
    assert_eq!(
        said(&daemon, "OOMKilled"),
        "server was killed by KILL (out of memory); 8Mi at most were in use, the limit is 64Mi"
    );
    assert!(
        !reasons(&daemon).contains(&"ProcessExited"),
        "and as nothing else"
    );
}

#[test]
fn a_kill_for_memory_of_something_inside_blames_no_process() {
    let (mut daemon, key) = settled();
    lay(&mut daemon, Hand::ChildOutOfMemory, &key, 1);
    pass(&mut daemon, MINUTE);
    assert!(
        said(&daemon, "OOMKilled").starts_with("a process inside, none of its own, was killed"),
        "{:?}",
        daemon.events
    );
    let shown = status(&daemon, &key);
    assert_eq!(shown.processes[0].last_exit, None);
    // A later kill by hand is not taken for it.
    lay(&mut daemon, Hand::ProcessDies, &key, 1);
    pass(&mut daemon, MINUTE);
    assert_eq!(said(&daemon, "ProcessExited"), "server was killed by KILL");
    assert_eq!(oom_kills(&daemon), 1);
}

#[test]
fn kills_for_memory_are_told_once_whenever_the_daemon_dies() {
    for hands in [
        &[Hand::OutOfMemory][..],
        &[Hand::ChildOutOfMemory],
        &[Hand::ChildOutOfMemory, Hand::OutOfMemory],
        &[Hand::OutOfMemory, Hand::InitDies],
    ] {
        let (mut daemon, key) = settled();
        for hand in hands {
            lay(&mut daemon, *hand, &key, 1);
        }
        // Nobody has looked yet: what follows is the first look of another daemon.
        daemon.boot();
        pass(&mut daemon, MINUTE);
        let is_kill = |hand: &&Hand| matches!(hand, Hand::OutOfMemory | Hand::ChildOutOfMemory);
        let kills = hands.iter().filter(is_kill).count();
        assert_eq!(oom_kills(&daemon), kills, "{hands:?}: {:?}", daemon.events);
        daemon.boot();
        pass(&mut daemon, MINUTE);
        assert_eq!(oom_kills(&daemon), kills, "{hands:?}: {:?}", daemon.events);
    }
}

#[test]
fn a_crash_loop_backs_off_visibly_and_an_edit_begins_anew() {
    let (mut daemon, key) = settled();
    want(&mut daemon, crashing(&key, 2));
    pass(&mut daemon, 2 * MINUTE);
    let grown = attempts(&daemon);
    assert!(grown.len() < 40, "{} restarts in two minutes", grown.len());
    assert!(
        grown.windows(2).all(|pair| pair[1] == pair[0] + 1),
        "{grown:?}"
    );
    let shown = status(&daemon, &key);
    assert_eq!(shown.phase, Phase::Backoff);
    assert!(shown.next_retry_ms.is_some() && shown.processes[0].next_start_ms.is_some());
    // Any edit: here one of a label only.
    daemon.delays.clear();
    let executes = daemon.executes;
    let mut edited = crashing(&key, 3);
    edited.labels.insert("a".into(), "b".into());
    want(&mut daemon, edited);
    pass(&mut daemon, 10);
    assert_eq!(daemon.executes, executes + 1, "it is started at once");
    pass(&mut daemon, SECOND);
    assert_eq!(attempts(&daemon).first(), Some(&1));
}

#[test]
fn the_count_of_failures_survives_the_daemon() {
    let (mut daemon, key) = settled();
    want(&mut daemon, crashing(&key, 2));
    pass(&mut daemon, MINUTE);
    let before = *attempts(&daemon).last().expect("it fails");
    daemon.delays.clear();
    daemon.boot();
    pass(&mut daemon, MINUTE);
    let after = *attempts(&daemon).first().expect("it still fails");
    // The one start that was no failure, as the first of another specification, may count.
    assert!(
        (before..=before + 2).contains(&after),
        "{before} then {after}"
    );
}

#[test]
fn a_failing_step_is_tried_again_later_each_time_and_an_edit_begins_anew() {
    let (mut daemon, key) = (Daemon::new(1, false), key("web"));
    daemon.host.set_chances(Chances {
        fail_before: ALWAYS,
        ..Chances::none()
    });
    want(&mut daemon, plain(&key, 1));
    pass(&mut daemon, 5 * MINUTE);
    let grown = attempts(&daemon);
    assert!((8..14).contains(&grown.len()), "{grown:?}");
    assert!(
        grown.windows(2).all(|pair| pair[1] == pair[0] + 1),
        "{grown:?}"
    );
    let shown = status(&daemon, &key);
    assert_eq!(shown.phase, Phase::Backoff);
    let error = shown.last_error.as_ref().expect("it says why");
    assert_eq!(
        (error.step.as_str(), error.attempts),
        ("PrepareBundle", *grown.last().expect("one"))
    );
    assert_eq!(
        reasons(&daemon)
            .iter()
            .filter(|word| **word == "StepFailed")
            .count(),
        1
    );
    daemon.delays.clear();
    want(&mut daemon, plain(&key, 2));
    pass(&mut daemon, 100);
    assert_eq!(attempts(&daemon), [1]);
    daemon.host.set_chances(Chances::none());
    pass(&mut daemon, 2 * MINUTE);
    daemon.is_as_wanted().expect("it settles");
    assert_eq!(status(&daemon, &key).last_error, None);
}

#[test]
fn what_only_a_person_can_mend_waits_for_a_person() {
    let (mut daemon, key) = (Daemon::new(1, false), key("web"));
    daemon.host.set_chances(Chances {
        terminal: ALWAYS,
        ..Chances::none()
    });
    want(&mut daemon, plain(&key, 1));
    pass(&mut daemon, MINUTE);
    assert_eq!(status(&daemon, &key).phase, Phase::Failed);
    assert_eq!(reasons(&daemon).last(), Some(&"Failed"));
    daemon.host.set_chances(Chances::none());
    let executes = daemon.executes;
    pass(&mut daemon, 3 * MINUTE);
    assert_eq!(daemon.executes, executes, "it is not tried again");
    daemon.give(Input::Woke {
        key: Some(key.clone()),
        cause: Cause::Person,
    });
    pass(&mut daemon, SECOND);
    daemon.is_as_wanted().expect("it settles at once");
}

#[test]
fn what_a_person_mended_without_a_word_is_found_in_time() {
    let (mut daemon, key) = (Daemon::new(1, false), key("web"));
    daemon.host.set_chances(Chances {
        terminal: ALWAYS,
        ..Chances::none()
    });
    want(&mut daemon, plain(&key, 1));
    pass(&mut daemon, MINUTE);
    daemon.host.set_chances(Chances::none());
    pass(&mut daemon, 5 * MINUTE);
    daemon.is_as_wanted().expect("it settles");
}

#[test]
fn two_parties_that_fight_over_one_thing_lead_to_a_word_and_not_to_a_race() {
    let (mut daemon, key) = settled();
    let before = daemon.executes;
    for _ in 0..600 {
        lay(&mut daemon, Hand::CgroupPartial, &key, 1);
        pass(&mut daemon, SECOND);
    }
    let repairs = daemon.executes - before;
    assert!(
        (6..40).contains(&repairs),
        "{repairs} repairs in ten minutes"
    );
    let words = reasons(&daemon)
        .iter()
        .filter(|word| **word == "Contended")
        .count();
    assert_eq!(words, 1);
    // Once the other gives up, ours is what stays.
    pass(&mut daemon, 2 * MINUTE);
    daemon.is_as_wanted().expect("it is repaired");
}

#[test]
fn a_storm_of_hints_leads_to_a_few_looks() {
    let (mut daemon, key) = settled();
    let before = daemon.looks;
    for _ in 0..1_000 {
        daemon.give(Input::Woke {
            key: Some(key.clone()),
            cause: Cause::Wake,
        });
        pass(&mut daemon, 1);
    }
    assert!(
        daemon.looks - before < 40,
        "{} looks in a second",
        daemon.looks - before
    );
}

#[test]
fn a_key_is_in_hand_once_however_often_it_is_woken() {
    let (mut daemon, key) = settled();
    daemon.stuck = Some(key.clone());
    for cause in [Cause::Wake, Cause::Person, Cause::Intent, Cause::Wake] {
        daemon.give(Input::Woke {
            key: Some(key.clone()),
            cause,
        });
        pass(&mut daemon, SECOND);
    }
    let waiting = daemon.effects.len();
    assert_eq!(waiting, 1, "{:?}", daemon.effects);
}

#[test]
fn a_stuck_container_delays_no_other() {
    let (mut daemon, stuck) = settled();
    daemon.stuck = Some(stuck.clone());
    daemon.give(Input::Woke {
        key: Some(stuck.clone()),
        cause: Cause::Person,
    });
    for other in ["db", "job"] {
        want(&mut daemon, plain(&key(other), 2));
    }
    pass(&mut daemon, 10 * SECOND);
    for other in ["db", "job"] {
        assert_eq!(status(&daemon, &key(other)).phase, Phase::Running);
    }
    daemon.stuck = None;
    pass(&mut daemon, SECOND);
    daemon.is_as_wanted().expect("all settle");
}

#[test]
fn a_start_adopts_what_lives_and_says_so_and_does_nothing_else() {
    let (mut daemon, web) = settled();
    want(&mut daemon, plain(&key("db"), 1));
    pass(&mut daemon, MINUTE);
    let inits = driver_sim::check::inits(&daemon.host.world());
    daemon.events.clear();
    daemon.boot();
    assert_eq!(daemon.machine.boot_report(), None);
    let (executes, looks) = (daemon.executes, daemon.looks);
    pass(&mut daemon, SECOND);
    let report = BootReport {
        adopted: 2,
        restarted: 0,
        unknown: 0,
    };
    assert_eq!(daemon.machine.boot_report(), Some(report));
    assert_eq!(daemon.executes, executes);
    assert_eq!(daemon.looks, looks, "the look at the whole host is enough");
    assert_eq!(driver_sim::check::inits(&daemon.host.world()), inits);
    assert_eq!(
        reasons(&daemon)
            .iter()
            .filter(|word| **word == "Adopted")
            .count(),
        2
    );
    assert_eq!(status(&daemon, &web).phase, Phase::Running);
}

#[test]
fn what_a_start_makes_anew_is_counted_as_restarted() {
    let (mut daemon, key) = settled();
    let mut edited = plain(&key, 2);
    edited.container.hostname = "other".into();
    // The edit came while no daemon ran.
    daemon.store.intents.insert(key, intent(edited));
    daemon.boot();
    pass(&mut daemon, MINUTE);
    let report = BootReport {
        adopted: 0,
        restarted: 1,
        unknown: 0,
    };
    assert_eq!(daemon.machine.boot_report(), Some(report));
    assert!(
        reasons(&daemon).contains(&"Recreated"),
        "{:?}",
        daemon.events
    );
}

#[test]
fn with_the_store_lost_what_lives_is_adopted_from_its_mark() {
    let (mut daemon, key) = settled();
    daemon.store.lives.clear();
    daemon.store.highest = Incarnation(0);
    let inits = driver_sim::check::inits(&daemon.host.world());
    daemon.boot();
    pass(&mut daemon, MINUTE);
    assert_eq!(driver_sim::check::inits(&daemon.host.world()), inits);
    assert!(
        daemon
            .store
            .lives
            .contains_key(&(key.clone(), Incarnation(1)))
    );
    // And the next life does not take its number.
    let mut edited = plain(&key, 2);
    edited.container.hostname = "other".into();
    want(&mut daemon, edited);
    pass(&mut daemon, MINUTE);
    daemon.is_as_wanted().expect("it settles");
}

#[test]
fn what_is_claimed_after_the_first_look_is_adopted_too() {
    let (mut daemon, key) = settled();
    let wanted = daemon.store.intents.remove(&key).expect("it is wanted");
    daemon.store.lives.clear();
    daemon.boot();
    daemon.give(Input::Mode(Mode {
        destroy: false,
        prune: false,
    }));
    pass(&mut daemon, SECOND);
    let nothing = Some(BootReport::default());
    assert_eq!(daemon.machine.boot_report(), nothing, "nobody claims it");
    // Its file was listed.
    daemon.want(key, wanted);
    assert_eq!(daemon.machine.boot_report(), None, "it had no plan yet");
    pass(&mut daemon, SECOND);
    let report = BootReport {
        adopted: 1,
        ..BootReport::default()
    };
    assert_eq!(daemon.machine.boot_report(), Some(report));
    assert!(reasons(&daemon).contains(&"Adopted"));
}

#[test]
fn orphans_stay_until_every_source_was_listed_and_then_go() {
    let (mut daemon, key) = settled();
    daemon.store.intents.clear();
    daemon.boot();
    daemon.give(Input::Mode(Mode {
        destroy: true,
        prune: false,
    }));
    let executes = daemon.executes;
    pass(&mut daemon, 10 * MINUTE);
    assert_eq!(daemon.executes, executes);
    daemon.give(Input::Mode(Mode {
        destroy: true,
        prune: true,
    }));
    pass(&mut daemon, MINUTE);
    daemon.is_as_wanted().expect("nothing is left");
    assert!(reasons(&daemon).contains(&"Pruned"));
    assert!(daemon.machine.status(&key).is_none());
}

#[test]
fn a_deletion_is_told_to_the_store_when_nothing_is_left_and_only_then() {
    let (mut daemon, key) = settled();
    let last = Some(std::sync::Arc::new(plain(&key, 1)));
    daemon.want(key.clone(), Intent::Deleted { last });
    pass(&mut daemon, MINUTE);
    assert!(daemon.host.world().lives.is_empty());
    assert!(daemon.store.intents.is_empty() && daemon.store.lives.is_empty());
    assert_eq!(
        reasons(&daemon)
            .iter()
            .filter(|word| **word == "Deleted")
            .count(),
        1
    );
    assert!(daemon.machine.status(&key).is_none());
}

#[test]
fn a_container_whose_supervisor_hangs_goes_and_its_end_is_told_at_once() {
    let (mut daemon, key) = settled();
    lay(&mut daemon, Hand::ShimHangs, &key, 1);
    let last = Some(std::sync::Arc::new(plain(&key, 1)));
    daemon.want(key.clone(), Intent::Deleted { last });
    pass(&mut daemon, 14 * SECOND);
    assert_eq!(daemon.host.world().lives.len(), 1, "it may still answer");
    // The grace of its process is a part of it; the delay of what was tried before is not.
    pass(&mut daemon, 3 * SECOND);
    assert!(daemon.machine.status(&key).is_none());
    let told = [
        "StepFailed",
        "ShimKilled",
        "ShimReplaced",
        "ProcessExited",
        "Deleted",
    ];
    assert_eq!(reasons(&daemon), told);
}

#[test]
fn an_unreadable_host_is_told_and_nothing_is_done() {
    let (mut daemon, key) = settled();
    daemon.host.set_chances(Chances {
        gap: ALWAYS,
        ..Chances::none()
    });
    let executes = daemon.executes;
    lay(&mut daemon, Hand::InitDies, &key, 1);
    pass(&mut daemon, 2 * MINUTE);
    assert_eq!(daemon.executes, executes);
    assert_eq!(status(&daemon, &key).phase, Phase::Unknown);
    assert!(reasons(&daemon).contains(&"Blocked"));
    daemon.host.set_chances(Chances::none());
    pass(&mut daemon, 2 * MINUTE);
    daemon.is_as_wanted().expect("it is made anew");
}

#[test]
fn a_record_that_cannot_be_written_holds_back_only_what_needs_it() {
    let (mut daemon, web) = settled();
    daemon.store.fail_appends(ALWAYS);
    want(&mut daemon, plain(&key("db"), 2));
    lay(&mut daemon, Hand::ProcessDies, &web, 1);
    pass(&mut daemon, MINUTE);
    assert_eq!(
        status(&daemon, &web).phase,
        Phase::Running,
        "it was started again"
    );
    assert_eq!(status(&daemon, &key("db")).phase, Phase::Backoff);
    assert!(daemon.host.world().lives.keys().all(|(key, _)| *key == web));
    daemon.store.fail_appends(Ratio { hits: 0, of: 1 });
    pass(&mut daemon, 2 * MINUTE);
    daemon.is_as_wanted().expect("all settle");
}

#[test]
fn an_edit_is_shown_as_newer_than_what_the_status_speaks_of() {
    let (mut daemon, key) = settled();
    daemon.stuck = Some(key.clone());
    want(&mut daemon, plain(&key, 5));
    let shown = status(&daemon, &key);
    assert_eq!(shown.generation, Generation(5));
    assert_eq!(shown.observed_generation, Generation(1));
    let settled = shown
        .conditions
        .iter()
        .find(|one| one.kind == ConditionKind::Settled);
    assert_eq!(
        settled.map(|one| one.status),
        Some(specs::status::Truth::False)
    );
}

#[test]
fn since_moves_only_with_the_truth_of_a_condition() {
    let (mut daemon, key) = settled();
    let since = |daemon: &Daemon, kind| {
        let all = &status(daemon, &key).conditions;
        all.iter()
            .find(|one| one.kind == kind)
            .map(|one| one.since_ms)
    };
    let before = since(&daemon, ConditionKind::Running);
    let mut edited = plain(&key, 2);
    edited.limits.memory = Some(Bytes(32 << 20));
    want(&mut daemon, edited);
    pass(&mut daemon, 5 * MINUTE);
    assert_eq!(since(&daemon, ConditionKind::Running), before);
    lay(&mut daemon, Hand::InitDies, &key, 1);
    pass(&mut daemon, MINUTE);
    assert!(since(&daemon, ConditionKind::Running) > before);
}

#[test]
fn a_command_that_does_not_exist_is_tried_again_with_its_own_delay() {
    let (mut daemon, key) = settled();
    let mut missing = plain(&key, 2);
    missing.processes = [(name("server"), process("missing", RestartPolicy::Never))].into();
    want(&mut daemon, missing);
    pass(&mut daemon, MINUTE);
    let grown = attempts(&daemon);
    assert!((5..25).contains(&grown.len()), "{grown:?}");
    assert_eq!(status(&daemon, &key).phase, Phase::Backoff);
    want(&mut daemon, plain(&key, 3));
    pass(&mut daemon, MINUTE);
    daemon.is_as_wanted().expect("a good specification ends it");
}

#[test]
fn a_reboot_brings_everything_back_under_new_numbers() {
    let (mut daemon, key) = settled();
    daemon.host.world().lay(Hand::Reboot);
    daemon.boot();
    pass(&mut daemon, MINUTE);
    daemon.is_as_wanted().expect("it is back");
    assert!(
        daemon
            .store
            .lives
            .keys()
            .all(|(_, life)| *life > Incarnation(1))
    );
    assert_eq!(status(&daemon, &key).phase, Phase::Running);
}

#[test]
fn an_init_that_dies_again_and_again_is_made_anew_later_each_time() {
    let (mut daemon, key) = settled();
    let mut lives = 0;
    for _ in 0..120 {
        let live = driver_sim::check::inits(&daemon.host.world());
        if let Some((_, life)) = live.keys().next() {
            lives += 1;
            lay(&mut daemon, Hand::InitDies, &key, life.0);
        }
        pass(&mut daemon, SECOND);
    }
    assert!((4..12).contains(&lives), "{lives} lives in two minutes");
    pass(&mut daemon, 2 * MINUTE);
    daemon.is_as_wanted().expect("it lives in the end");
}

#[test]
fn a_preview_changes_nothing_and_leaves_delays_out() {
    let (mut daemon, web) = settled();
    let mut edited = plain(&web, 2);
    edited.limits.memory = None;
    let (executes, looks) = (daemon.executes, daemon.looks);
    let plan = daemon
        .machine
        .preview(&web, &intent(edited))
        .expect("it was looked at");
    assert_eq!(plan.steps().count(), 1);
    let unknown = daemon
        .machine
        .preview(&key("new"), &intent(plain(&key("new"), 1)));
    assert_eq!(unknown.map(|plan| plan.stages.len()), Some(5));
    assert!(
        daemon
            .machine
            .plan_for(&web)
            .is_some_and(|plan| plan.is_settled())
    );
    pass(&mut daemon, 1);
    assert_eq!((daemon.executes, daemon.looks), (executes, looks));
}

#[test]
fn a_ttl_counts_from_the_first_acceptance() {
    let mut desired = plain(&key("web"), 1);
    assert_eq!(expires_ms(&desired, 100), None);
    desired.ttl = Some(Millis(50));
    assert_eq!(expires_ms(&desired, 100), Some(150));
}

#[test]
fn a_container_starts_when_what_it_waits_for_is_there_and_not_before() {
    let mut daemon = Daemon::new(3, false);
    let (web, db, migrate) = (key("web"), key("db"), key("migrate"));
    let mut front = plain(&web, 1);
    front.depends_on = [
        (db.clone(), Condition::Healthy),
        (migrate.clone(), Condition::Completed),
    ]
    .into();
    want(&mut daemon, front.clone());
    pass(&mut daemon, MINUTE);
    let waits = |daemon: &Daemon| {
        let status = status(daemon, &web);
        (status.phase, status.processes[0].waits_for.join("; "))
    };
    let nobody = "container db to be healthy: no spec wants it; container migrate to be \
                  completed: no spec wants it";
    assert_eq!(waits(&daemon), (Phase::Waiting, nobody.to_owned()));
    // Nobody looks at it all the time meanwhile.
    let before = daemon.looks;
    pass(&mut daemon, MINUTE);
    assert!(daemon.looks - before < 8, "{}", daemon.looks - before);

    want(&mut daemon, plain(&db, 2));
    let mut job = plain(&migrate, 3);
    job.processes = [(name("once"), process("once", RestartPolicy::OnFailure))].into();
    want(&mut daemon, job);
    // Long before the next look that nobody asked for.
    pass(&mut daemon, 3 * SECOND);
    assert_eq!(waits(&daemon), (Phase::Running, String::new()));
    daemon.is_as_wanted().expect("it settles");

    // What went away ends nobody; the next start waits.
    let inits = check::inits(&daemon.host.world());
    let gone = Intent::Deleted { last: None };
    daemon.want(db.clone(), gone);
    pass(&mut daemon, MINUTE);
    assert_eq!(waits(&daemon), (Phase::Running, String::new()));
    let after = check::inits(&daemon.host.world());
    assert!(
        inits
            .iter()
            .all(|(id, init)| id.0 == db || after.get(id) == Some(init))
    );
    let life = life_of(&daemon, &web);
    lay(&mut daemon, Hand::ProcessDies, &web, life);
    pass(&mut daemon, MINUTE);
    let alone = "container db to be healthy: no spec wants it".to_owned();
    assert_eq!(waits(&daemon), (Phase::Waiting, alone));
    // A daemon that begins anew waits, too, and an edit lets it go on.
    daemon.boot();
    pass(&mut daemon, MINUTE);
    assert_eq!(waits(&daemon).0, Phase::Waiting);
    front.generation = Generation(4);
    front.depends_on.remove(&db);
    want(&mut daemon, front);
    pass(&mut daemon, 3 * SECOND);
    assert_eq!(waits(&daemon), (Phase::Running, String::new()));
}

#[test]
fn a_completion_that_never_comes_says_so() {
    let mut daemon = Daemon::new(3, false);
    let (web, db) = (key("web"), key("db"));
    let mut front = plain(&web, 1);
    front.depends_on = [(db.clone(), Condition::Completed)].into();
    want(&mut daemon, front);
    want(&mut daemon, plain(&db, 2));
    pass(&mut daemon, MINUTE);
    let why = status(&daemon, &web).processes[0].waits_for.join("; ");
    assert!(why.contains("it never completes"), "{why}");
}

fn life_of(daemon: &Daemon, key: &Key) -> u64 {
    let world = daemon.host.world();
    let mut lives = world.lives.keys().filter(|(of, _)| of == key);
    lives.next_back().expect("it has a life").1.0
}
