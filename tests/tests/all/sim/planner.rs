//! Properties of the planner alone, over hosts that were reached and hosts that never were.
//!
//! The model carries out whole plans in a simulated world until the plan is empty: without a
//! machine, so that nothing but the plan decides. What a plan shows is what happens: on a host
//! that nobody else touches, each of its steps succeeds as it was planned.

use std::collections::BTreeSet;
use std::sync::Arc;

use driver_api::{
    Action, ContainerObserved, Deadline, Driver, Fact, Gap, Life, ProcessState, Scope, Step,
    StepError,
};
use driver_sim::{Chances, Hand, Ratio, Rng, SimHost, check};
use proptest::prelude::*;
use reconciler_core::io::{Intent, Mode};
use reconciler_core::order::is_destructive;
use reconciler_core::plan::{Await, Hold, Plan, PlanPolicy, Planned, Stage, plan};
use specs::desired::{Desired, Run};
use specs::id::{Generation, Incarnation, Key, ProcessName};

use super::wanted;

/// Whole plans that bring any host to what is wanted. One, where all of it can be seen; one
/// before that for a container that has lost its supervisor, because nobody can say what runs
/// in it; and one between for what was asked to end already.
const ROUNDS_MAX: usize = 3;
const NO_DEADLINE: Deadline = Deadline { at_ms: u64::MAX };

fn policy(next: Incarnation) -> PlanPolicy {
    PlanPolicy {
        mode: Mode {
            destroy: true,
            prune: true,
        },
        next_incarnation: next,
        settled: Generation(0),
        edited: false,
        // Whoever is silent has been for long.
        hung: (1..2_000).map(Incarnation).collect(),
        former: None,
        unmet: Vec::new(),
        hold: Hold::default(),
    }
}

fn look(host: &SimHost, key: &Key) -> (ContainerObserved, bool) {
    let scope = Scope::Container(key.clone());
    let mut observed = host.observe(&scope, NO_DEADLINE);
    host.delivered(&scope, &observed);
    (
        observed.containers.remove(key).unwrap_or_default(),
        observed.complete,
    )
}

fn next(host: &SimHost) -> Incarnation {
    let used = host
        .world()
        .records
        .iter()
        .map(|(_, incarnation)| *incarnation)
        .max();
    used.unwrap_or_default().next()
}

/// Does the first stage of a plan; each step is named by a record before.
fn apply(host: &SimHost, plan: &Plan) {
    let Some(stage) = plan.stages.first() else {
        return;
    };
    for planned in &stage.steps {
        let id = (planned.step.key.clone(), planned.step.incarnation);
        host.world().records.insert(id);
        let _answer = host.execute(&planned.step, NO_DEADLINE);
    }
    if stage.steps.is_empty() {
        // What was begun ends in its own time.
        host.world().advance(1_000);
    }
}

/// Carries out a plan from its first stage to its last, and looks after each, as the laws
/// about what was seen demand. Only what a process does by itself may thwart a step: that its
/// command cannot be run, or that it has ended before a signal came to it.
fn carry_out(host: &SimHost, key: &Key, plan: &Plan) -> Result<(), String> {
    for (at, stage) in plan.stages.iter().enumerate() {
        let before = at.checked_sub(1).and_then(|before| plan.stages.get(before));
        if before.is_some_and(depends) {
            // Whether that came about is seen, and planned from.
            return Ok(());
        }
        for Planned { step, .. } in &stage.steps {
            let id = (step.key.clone(), step.incarnation);
            host.world().records.insert(id);
            match (host.execute(step, NO_DEADLINE), &step.action) {
                (Ok(_), _) | (Err(StepError::Terminal(_)), Action::StartProcess { .. }) => {}
                (Err(StepError::Stale(_)), Action::SignalProcess { .. }) => return Ok(()),
                (Err(err), action) => {
                    return Err(format!("stage {at}, {}: {err:?}", action.verb()));
                }
            }
        }
        // A stage is over when what it began is over.
        for _ in 0..200 {
            look(host, key);
            if !host.world().is_busy() {
                break;
            }
            host.world().advance(100);
        }
        if let Some(violation) = host.world().violations.first() {
            return Err(violation.clone());
        }
    }
    Ok(())
}

/// Something of a stage waits for another process.
fn depends(stage: &Stage) -> bool {
    let depends = |wait: &Await| matches!(wait, Await::Dependency { .. });
    stage.awaits.iter().any(depends)
}

/// Returns whether nothing is left to do but to wait for what never comes. What comes in its
/// time is let come.
fn rests(host: &SimHost, plan: &Plan) -> bool {
    if plan.is_settled() {
        return true;
    }
    let first = plan.stages.first().filter(|stage| stage.steps.is_empty());
    if !plan.blocked.is_empty() || !first.is_some_and(depends) {
        return false;
    }
    let mut world = host.world();
    let Some(at) = world.next_change() else {
        return true;
    };
    let left = at.saturating_sub(world.clock_ms);
    world.advance(left);
    false
}

/// Each process that waits for another may take a round more.
fn rounds_max(intent: &Intent) -> usize {
    let processes = desired_of(intent).map(|desired| &desired.processes);
    let waits = processes.into_iter().flatten();
    ROUNDS_MAX + 2 * waits.filter(|(_, one)| !one.depends_on.is_empty()).count()
}

/// A plan in short, for the message of a failed law.
fn shown(plan: &Plan) -> String {
    let stage = |stage: &Stage| {
        let steps = stage.steps.iter();
        let of = |Planned { step, .. }: &Planned| {
            format!(
                "{}.{} {:?}",
                step.action.verb(),
                step.incarnation,
                step.precondition
            )
        };
        format!(
            "{:?} then {:?}\n",
            stage.awaits,
            steps.map(of).collect::<Vec<_>>()
        )
    };
    plan.stages.iter().map(stage).collect()
}

/// Plans and carries out until nothing is left; gives how many rounds that took.
fn converge(host: &SimHost, key: &Key, intent: &Intent) -> Result<usize, String> {
    for round in 0..=2 * rounds_max(intent) {
        let (observed, complete) = look(host, key);
        let plan = plan(key, intent, &observed, complete, &policy(next(host)));
        if rests(host, &plan) {
            return Ok(round);
        }
        carry_out(host, key, &plan)
            .map_err(|why| format!("round {round}: {why}\n{}", shown(&plan)))?;
    }
    Err(format!("{key} does not converge"))
}

/// Returns a host with traces of several lives of one key: some steps of several plans done,
/// in an order no plan would have, then hands laid on what came of it.
fn any_host(rng: &mut Rng, key: &Key) -> SimHost {
    let host = SimHost::new(rng.next_u64());
    let some = |rng: &mut Rng, most| Ratio {
        hits: most,
        of: 1 + u32::try_from(rng.below(9)).unwrap_or(0),
    };
    for _ in 0..rng.below(4) {
        let generation = 1 + rng.below(3);
        let desired = calm(wanted::any(rng, key, generation));
        let intent = wanted::intent(desired);
        let half = some(rng, 1);
        host.set_chances(Chances {
            do_half: half,
            fail_before: half,
            ..Chances::none()
        });
        for _ in 0..rng.below(14) {
            let (observed, _) = look(&host, key);
            apply(
                &host,
                &plan(key, &intent, &observed, true, &policy(next(&host))),
            );
        }
        if rng.below(8) == 0 {
            host.world().lay(Hand::Reboot);
        }
    }
    host.set_chances(Chances::none());
    for _ in 0..rng.below(5) {
        host.world().lay(Hand::SMALL[rng.index(Hand::SMALL.len())]);
    }
    // A part of some life is gone that no plan would have removed alone.
    let mut world = host.world();
    let torn = rng.below(6);
    if let Some(life) = world.lives.values_mut().next() {
        match torn {
            0 => life.bundle = None,
            // That of a living one cannot be put back under it, and is only told.
            1 if life.init.is_none() => life.root = None,
            2 if life.init.is_none() => life.cgroup = None,
            3 => life.files.clear(),
            _ => {}
        }
    }
    world.lives.retain(|_, life| life.is_something());
    world.violations.clear();
    world.calm = true;
    drop(world);
    host
}

/// A container without processes that never rest, so that there is an end to wait for.
fn calm(mut desired: Desired) -> Desired {
    desired.suspend = false;
    for process in desired.processes.values_mut() {
        if process.command[0] == "flaky" {
            process.command[0] = "serve".into();
        }
    }
    desired
}

/// Replaces facts by gaps, as many as the ratio says.
fn with_gaps(rng: &mut Rng, observed: &ContainerObserved, ratio: Ratio) -> ContainerObserved {
    fn hide<T>(rng: &mut Rng, ratio: Ratio, fact: &mut Fact<T>) {
        if rng.chance(ratio) {
            *fact = Fact::Unknown(Gap {
                what: "read it".into(),
                why: "EIO".into(),
            });
        }
    }
    let mut observed = observed.clone();
    for life in observed.lives.values_mut() {
        hide(rng, ratio, &mut life.bundle);
        hide(rng, ratio, &mut life.cgroup);
        hide(rng, ratio, &mut life.root);
        hide(rng, ratio, &mut life.shim);
        hide(rng, ratio, &mut life.init);
        hide(rng, ratio, &mut life.mounts);
        hide(rng, ratio, &mut life.exposed);
        hide(rng, ratio, &mut life.loopback_up);
        hide(rng, ratio, &mut life.network.link);
        hide(rng, ratio, &mut life.network.rules);
        hide(rng, ratio, &mut life.network.forwarding);
        hide(rng, ratio, &mut life.processes);
        hide(rng, ratio, &mut life.files);
    }
    observed
}

/// The facts that a destructive or creating step rests on are all known.
fn rests_on_facts(step: &Step, observed: &ContainerObserved, complete: bool) -> bool {
    let life = observed.lives.get(&step.incarnation);
    let known = |fact: fn(&Life) -> bool| life.is_none_or(fact);
    let init = known(|life| life.init.gap().is_none());
    let cgroup = known(|life| life.cgroup.gap().is_none());
    let others = || {
        let mut others = observed
            .lives
            .iter()
            .filter(|(one, _)| **one != step.incarnation);
        complete && others.all(|(_, life)| life.init.is_absent())
    };
    match &step.action {
        Action::PrepareBundle(_) | Action::StartShim(_) => init && cgroup && others(),
        Action::KillLife => init && cgroup,
        Action::KillShim => known(|life| life.shim.known().is_some()),
        Action::EndShim => init && known(|life| life.shim.known().is_some()),
        Action::RemoveCgroup => init && known(|life| life.cgroup.known().is_some()),
        Action::RemoveRoot => init && cgroup && known(|life| life.root.known().is_some()),
        Action::RemoveBundle => init && cgroup && known(|life| life.bundle.known().is_some()),
        Action::RemoveNetwork => {
            init && known(|life| {
                let network = &life.network;
                network.link.known().is_some() || network.rules.known().is_some()
            })
        }
        Action::ConnectNetwork(_) => known(|life| life.network.rules.gap().is_none()),
        Action::SetRules(_) => known(|life| life.network.rules.gap().is_none()),
        Action::StopProcess { .. } | Action::ForgetProcess(_) | Action::StartProcess { .. } => {
            init && known(|life| life.processes.gap().is_none())
        }
        _ => true,
    }
}

/// Everything that a process depends on.
fn needs(desired: &Desired, name: &ProcessName) -> BTreeSet<ProcessName> {
    let process = desired.processes.get(name);
    let own = process
        .into_iter()
        .flat_map(|process| process.depends_on.keys());
    own.flat_map(|other| {
        let mut all = needs(desired, other);
        all.insert(other.clone());
        all
    })
    .collect()
}

fn intents(rng: &mut Rng, key: &Key) -> Intent {
    match rng.below(5) {
        0 => Intent::Deleted { last: None },
        1 => Intent::Gone,
        _ => wanted::intent(calm(wanted::any(rng, key, 9))),
    }
}

fn desired_of(intent: &Intent) -> Option<&Desired> {
    match intent {
        Intent::Present(wanted) => Some(&wanted.desired),
        Intent::Deleted { .. } | Intent::Gone => None,
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 400,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn any_host_converges_within_three_rounds_and_then_plans_to_nothing(seed in any::<u64>()) {
        let (mut rng, key) = (Rng::new(seed), wanted::key("web"));
        let host = any_host(&mut rng, &key);
        let intent = intents(&mut rng, &key);
        let rounds = converge(&host, &key, &intent).map_err(TestCaseError::fail)?;
        prop_assert!(rounds <= rounds_max(&intent), "{rounds} rounds");
        check::matches(&host.world(), &key, desired_of(&intent), false).map_err(TestCaseError::fail)?;
        // And an edit back costs nothing: what is there is what decides.
        let before = check::inits(&host.world());
        prop_assert_eq!(converge(&host, &key, &intent), Ok(0));
        prop_assert_eq!(check::inits(&host.world()), before);
    }

    #[test]
    fn planning_twice_gives_the_same_and_changes_nothing(seed in any::<u64>()) {
        let (mut rng, key) = (Rng::new(seed), wanted::key("web"));
        let host = any_host(&mut rng, &key);
        let intent = intents(&mut rng, &key);
        let (observed, complete) = look(&host, &key);
        let observed = with_gaps(&mut rng, &observed, Ratio { hits: 1, of: 9 });
        let once = plan(&key, &intent, &observed, complete, &policy(next(&host)));
        let again = plan(&key, &intent, &observed.clone(), complete, &policy(next(&host)));
        prop_assert_eq!(once, again);
    }

    #[test]
    fn no_stage_rests_on_what_is_unknown(seed in any::<u64>()) {
        let (mut rng, key) = (Rng::new(seed), wanted::key("web"));
        let host = any_host(&mut rng, &key);
        let intent = intents(&mut rng, &key);
        let (observed, _) = look(&host, &key);
        let hits = 1 + u32::try_from(rng.below(8)).unwrap_or(0);
        let observed = with_gaps(&mut rng, &observed, Ratio { hits, of: 20 });
        let complete = rng.below(2) == 0;
        let plan = plan(&key, &intent, &observed, complete, &policy(next(&host)));
        for planned in plan.stages.first().iter().flat_map(|stage| &stage.steps) {
            let fine = rests_on_facts(&planned.step, &observed, complete);
            prop_assert!(fine, "{:?} on {observed:?}", planned.step.action.verb());
        }
        if !complete && intent == Intent::Gone {
            prop_assert!(!plan.steps().any(|step| is_destructive(&step.step.action)));
        }
    }

    #[test]
    fn with_nothing_known_nothing_is_planned(seed in any::<u64>()) {
        let (mut rng, key) = (Rng::new(seed), wanted::key("web"));
        let host = any_host(&mut rng, &key);
        let intent = intents(&mut rng, &key);
        let (observed, _) = look(&host, &key);
        let observed = with_gaps(&mut rng, &observed, Ratio { hits: 1, of: 1 });
        let plan = plan(&key, &intent, &observed, false, &policy(next(&host)));
        prop_assert_eq!(plan.steps().count(), 0);
    }

    #[test]
    fn what_no_running_thing_depends_on_plans_to_nothing(seed in any::<u64>()) {
        let (mut rng, key) = (Rng::new(seed), wanted::key("web"));
        let host = any_host(&mut rng, &key);
        let desired = calm(wanted::any(&mut rng, &key, 9));
        converge(&host, &key, &wanted::intent(desired.clone())).map_err(TestCaseError::fail)?;
        let mut edited = desired;
        edited.generation = Generation(10);
        edited.labels.insert("app".into(), "shop".into());
        edited.annotations.insert("why".into(), "no reason".into());
        for process in edited.processes.values_mut() {
            process.stop.grace.0 += 1;
            process.restart.max.0 += 1;
        }
        prop_assert_eq!(converge(&host, &key, &wanted::intent(edited)), Ok(0));
    }

    #[test]
    fn a_container_s_plan_does_not_depend_on_its_neighbours(seed in any::<u64>()) {
        let (mut rng, key) = (Rng::new(seed), wanted::key("web"));
        let host = any_host(&mut rng, &key);
        let intent = intents(&mut rng, &key);
        let number = Incarnation(1_000);
        let alone = look(&host, &key);
        let before = plan(&key, &intent, &alone.0, alone.1, &policy(number));
        let other = wanted::key("db");
        let neighbour = wanted::intent(calm(wanted::any(&mut rng, &other, 1)));
        converge(&host, &other, &neighbour).map_err(TestCaseError::fail)?;
        let beside = host.observe(&Scope::Host, NO_DEADLINE);
        let seen = beside.containers.get(&key).cloned().unwrap_or_default();
        let names = |plan: &Plan| -> BTreeSet<Key> {
            plan.steps().map(|step| step.step.key.clone()).collect()
        };
        // Time went by while the neighbour was made; what is planned is the same.
        let after = plan(&key, &intent, &seen, beside.complete, &policy(number));
        prop_assert!(names(&after).iter().all(|named| *named == key));
        if alone.0 == seen {
            prop_assert_eq!(before, after);
        }
    }

    #[test]
    fn the_order_in_which_keys_have_their_turn_does_not_matter(seed in any::<u64>()) {
        let (mut rng, one, other) = (Rng::new(seed), wanted::key("web"), wanted::key("db"));
        let host = any_host(&mut rng, &one);
        let mut left = [(one.clone(), intents(&mut rng, &one), 0), (
            other.clone(),
            wanted::intent(calm(wanted::any(&mut rng, &other, 1))),
            0,
        )];
        // A whole plan of the one, then of the other, as chance has it.
        let mut settled = 0;
        while settled < 2 {
            let (key, intent, rounds) = &mut left[rng.index(2)];
            let (observed, complete) = look(&host, key);
            let plan = plan(key, intent, &observed, complete, &policy(next(&host)));
            if rests(&host, &plan) {
                settled += 1;
                continue;
            }
            settled = 0;
            *rounds += 1;
            prop_assert!(*rounds <= rounds_max(intent), "{rounds} rounds of {key}");
            carry_out(&host, key, &plan).map_err(TestCaseError::fail)?;
        }
        for (key, intent, rounds) in &left {
            let more = converge(&host, key, intent).map_err(TestCaseError::fail)?;
            prop_assert!(rounds + more <= rounds_max(intent), "{rounds} and {more} rounds of {key}");
            check::matches(&host.world(), key, desired_of(intent), false).map_err(TestCaseError::fail)?;
        }
    }

    #[test]
    fn a_process_is_asked_to_end_after_all_that_depend_on_it(seed in any::<u64>()) {
        let (mut rng, key) = (Rng::new(seed), wanted::key("web"));
        let host = any_host(&mut rng, &key);
        let mut desired = calm(wanted::any(&mut rng, &key, 9));
        desired.run = Run::Running;
        converge(&host, &key, &wanted::intent(desired.clone())).map_err(TestCaseError::fail)?;
        let before = Arc::new(desired.clone());
        let intent = match rng.below(3) {
            0 => Intent::Deleted { last: Some(before.clone()) },
            1 => {
                desired.run = Run::Stopped;
                wanted::intent(desired)
            }
            _ => {
                desired.container.hostname = "another".into();
                wanted::intent(desired)
            }
        };
        let mut running = usize::MAX;
        for _ in 0..8 {
            let (observed, complete) = look(&host, &key);
            let plan = plan(&key, &intent, &observed, complete, &policy(next(&host)));
            let first = plan.stages.first();
            let asked = first.into_iter().flat_map(|stage| &stage.steps).filter_map(|planned| {
                match &planned.step.action {
                    Action::StopProcess { name, .. } => Some((planned.step.incarnation, name)),
                    _ => None,
                }
            });
            for (life, name) in asked {
                let seen = observed.lives.get(&life).and_then(|life| life.processes.known());
                let others = seen.into_iter().flatten();
                let mut runs = others.filter(|(_, one)| one.state != ProcessState::Ended);
                let above = runs.find(|(other, _)| needs(&before, other).contains(name));
                prop_assert!(above.is_none(), "{name} before {above:?}");
            }
            // It goes on until none runs.
            let runs = |life: &Life| life.processes.known().map_or(0, |all| {
                all.values().filter(|one| one.state != ProcessState::Ended).count()
            });
            let now = observed.lives.values().map(runs).sum();
            if now == 0 {
                return Ok(());
            }
            prop_assert!(now < running, "{now} of {running} run still");
            running = now;
            apply(&host, &plan);
            for _ in 0..50 {
                if !host.world().is_busy() {
                    break;
                }
                host.world().advance(100);
            }
        }
    }

    #[test]
    fn no_end_of_a_life_comes_before_what_depends_on_it_is_gone(seed in any::<u64>()) {
        let (mut rng, key) = (Rng::new(seed), wanted::key("web"));
        let host = any_host(&mut rng, &key);
        let intent = intents(&mut rng, &key);
        let order = ["StopProcess", "KillLife", "EndShim", "RemoveCgroup", "RemoveRoot", "RemoveBundle"];
        let (observed, complete) = look(&host, &key);
        let plan = plan(&key, &intent, &observed, complete, &policy(next(&host)));
        for incarnation in observed.lives.keys() {
            let of = plan.steps().filter(|step| step.step.incarnation == *incarnation);
            let ends: Vec<usize> = of
                .filter_map(|step| order.iter().position(|verb| *verb == step.step.action.verb()))
                .collect();
            prop_assert!(ends.is_sorted(), "{ends:?}");
        }
    }
}
