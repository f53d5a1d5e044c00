//! Whatever carries our mark is observed, and nothing else is touched.

use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt as _;
use std::sync::Arc;

use driver_api::{Action, Driver as _, Expect, Outcome, Precondition, ProcessId, Scope, StepError};
use specs::desired::Limits;
use specs::id::Incarnation;

use crate::world::{World, hierarchies, key, soon, start_of};

#[test]
fn a_trace_in_any_one_place_is_an_orphan_that_shows() {
    let world = World::new();
    assert!(world.observe().containers.is_empty());
    // Each made as a crash would leave it: alone.
    std::fs::create_dir(world.state("ephemeral/root.3")).unwrap();
    std::fs::create_dir(world.runtime("bundle.4")).unwrap();
    let first = world.instance_directories().remove(0);
    std::fs::create_dir_all(first.join("group.5")).unwrap();
    let observed = world.observe();
    assert!(observed.complete, "{:?}", observed.gaps);
    let lives: BTreeSet<(String, u64)> = observed
        .containers
        .iter()
        .flat_map(|(key, seen)| seen.lives.keys().map(|at| (key.to_string(), at.0)))
        .collect();
    let expected: BTreeSet<(String, u64)> = [("bundle", 4), ("group", 5), ("root", 3)]
        .map(|(k, n)| (k.to_owned(), n))
        .into();
    assert_eq!(lives, expected);
    let of = |name: &str, at| &observed.containers[&key(name)].lives[&Incarnation(at)];
    assert_eq!(of("root", 3).root.known(), Some(&false), "not prepared");
    assert!(of("root", 3).bundle.is_absent() && of("root", 3).cgroup.is_absent());
    assert!(
        of("group", 5)
            .cgroup
            .known()
            .is_some_and(|group| !group.whole)
    );
    assert!(
        of("bundle", 4).bundle.gap().is_some(),
        "a directory without a record"
    );
}

#[test]
fn all_lives_of_a_key_are_seen_together() {
    let world = World::new();
    world.prepare(&world.desired("web"));
    std::fs::create_dir(world.state("ephemeral/web.9")).unwrap();
    std::fs::create_dir(world.state("ephemeral/web-2.1")).unwrap();
    let observed = world.host.observe(&Scope::Container(key("web")), soon());
    let lives: Vec<u64> = observed.containers[&key("web")]
        .lives
        .keys()
        .map(|at| at.0)
        .collect();
    assert_eq!(lives, [1, 9]);
    assert_eq!(observed.containers.len(), 1, "no other key");
}

#[test]
fn names_that_are_no_marks_are_not_ours() {
    let world = World::new();
    for name in [
        "web", "web.01", "web.+1", "WEB.1", "web.1.2", ".web.1", "shims", "a b.1",
    ] {
        std::fs::create_dir(world.state(&format!("ephemeral/{name}"))).unwrap();
        std::fs::create_dir(world.runtime(name)).unwrap();
    }
    let observed = world.observe();
    assert!(observed.complete);
    assert!(
        observed.containers.is_empty(),
        "{:?}",
        observed.containers.keys()
    );
}

#[test]
fn two_instances_do_not_see_each_other() {
    let one = World::new();
    let name = format!("{}x", one.instance);
    let two = World::named(&name, tempfile::tempdir().unwrap());
    // On the same directories, too.
    let three = crate::world::open(
        &two.instance,
        one.dir.path(),
        "/linux-room-shared",
        Arc::default(),
    );
    one.prepare(&one.desired("web"));
    assert!(two.observe().containers.is_empty());
    assert!(three.observe(&Scope::Host, soon()).containers.is_empty());
    two.prepare(&two.desired("web"));
    one.done("web", Action::RemoveCgroup);
    one.done("web", Action::RemoveRoot);
    one.done("web", Action::RemoveBundle);
    assert!(one.observe().containers.is_empty());
    let left = two.life("web");
    assert!(left.bundle.known().is_some() && left.cgroup.known().is_some());
    assert_eq!(left.root.known(), Some(&true));
}

#[test]
fn foreign_things_with_similar_names_stay() {
    let world = World::new();
    world.prepare(&world.desired("web"));
    let groups: Vec<_> = world
        .groups("web.1")
        .iter()
        .flat_map(|path| {
            let up = path.parent().unwrap();
            [up.join("web.1-mine"), up.join("web"), up.join("web.10")]
        })
        .collect();
    let files = [
        world.state("ephemeral/web.1-mine"),
        world.state("ephemeral/web.10"),
        world.state("persistent/web"),
        world.runtime("web.1.bak"),
    ];
    for path in groups.iter().chain(&files) {
        std::fs::create_dir(path).unwrap();
    }
    for action in [
        Action::RemoveCgroup,
        Action::RemoveRoot,
        Action::RemoveBundle,
    ] {
        world.done("web", action);
    }
    for path in groups.iter().chain(&files) {
        assert!(path.exists(), "{}", path.display());
    }
    for path in &groups {
        std::fs::remove_dir(path).unwrap();
    }
}

#[test]
fn a_process_that_only_calls_itself_a_shim_is_none() {
    use std::io::BufRead as _;
    use std::os::unix::process::CommandExt as _;
    let world = World::new();
    // A shell takes its first argument for a script: a name that is also the instance's.
    let script = world.path(world.instance.as_str());
    std::fs::write(script, "echo up; read line").unwrap();
    let mut child = std::process::Command::new("/bin/sh")
        .arg0("reconciler-shim")
        .args([world.instance.as_str(), "fake.1", "/nowhere", "launch"])
        .current_dir(world.dir.path())
        .env_clear()
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    let mut said = std::io::BufReader::new(child.stdout.take().unwrap());
    said.read_line(&mut line).unwrap();
    assert_eq!(line, "up\n", "it lives and bears the name");
    let observed = world.observe();
    child.wait().unwrap();
    assert!(observed.containers.is_empty());
}

#[test]
fn a_life_is_made_and_unmade_without_a_trace() {
    let world = World::new();
    let before = listing(&world);
    let desired = Arc::new(world.desired("web"));
    for _twice in 0..2 {
        world.prepare(&desired);
    }
    let life = world.life("web");
    let bundle = life.bundle.known().unwrap();
    assert_eq!(bundle.container, desired.container.digest());
    assert_eq!(bundle.generation, desired.generation);
    assert!(bundle.this_boot && !bundle.launched);
    assert_eq!(life.root.known(), Some(&true));
    assert!(life.shim.is_absent() && life.init.is_absent());
    assert!(life.mounts.is_absent() && life.loopback_up.is_absent());
    assert!(life.processes.known().is_some_and(|all| all.is_empty()));
    for action in [
        Action::RemoveCgroup,
        Action::RemoveRoot,
        Action::RemoveBundle,
    ] {
        world.done("web", action.clone());
        assert_eq!(world.execute("web", action), Ok(Outcome::AlreadyDone));
    }
    assert!(world.observe().containers.is_empty());
    assert_eq!(listing(&world), before);
}

fn listing(world: &World) -> BTreeSet<String> {
    let mut all = BTreeSet::new();
    let mut todo = vec![world.path("run"), world.path("state")];
    let below = format!(
        "linux-room-{}/reconciler-{}",
        std::process::id(),
        world.instance
    );
    todo.extend(hierarchies().iter().map(|at| at.join(&below)));
    while let Some(path) = todo.pop() {
        for entry in std::fs::read_dir(&path).into_iter().flatten().flatten() {
            all.insert(entry.path().display().to_string());
            todo.push(entry.path());
        }
    }
    all
}

#[test]
fn directories_are_private_whatever_the_umask() {
    let world = World::new();
    world.prepare(&world.desired("web"));
    for path in [
        world.path("run"),
        world.path("run").join(world.instance.as_str()),
        world.runtime("web.1"),
        world.state(""),
        world.state("ephemeral"),
        world.state("ephemeral/web.1"),
        world.path("log").join(world.instance.as_str()).join("web"),
    ] {
        let mode = std::fs::metadata(&path).unwrap().permissions().mode() & 0o7777;
        assert_eq!(mode, 0o700, "{}", path.display());
    }
    let launch = world.runtime("web.1").join("launch");
    assert_eq!(
        std::fs::metadata(launch).unwrap().permissions().mode() & 0o7777,
        0o600
    );
}

#[test]
fn a_step_against_another_init_is_stale_and_does_nothing() {
    let world = World::new();
    world.prepare(&world.desired("web"));
    let mut shell = world.init("web", &[]);
    let pid = shell.pid;
    let start = start_of(pid);
    let check = |init: Expect<ProcessId>, is_stale: bool| {
        let mut step = world.step(
            "web",
            Action::SetLimits(Limits {
                pids: Some(9),
                ..Limits::default()
            }),
        );
        step.precondition = Precondition {
            init,
            ..Precondition::default()
        };
        let outcome = world.host.execute(&step, soon());
        assert_eq!(
            matches!(outcome, Err(StepError::Stale(_))),
            is_stale,
            "{init:?}: {outcome:?}"
        );
    };
    check(Expect::Absent, true);
    check(
        Expect::Is(ProcessId {
            pid,
            start: start + 1,
        }),
        true,
    );
    assert_eq!(
        std::fs::read_to_string(world.group_with("web.1", "pids.max").join("pids.max")).unwrap(),
        "max\n"
    );
    check(Expect::Is(ProcessId { pid, start }), false);
    // What a living container stands on is not taken away.
    for action in [Action::RemoveRoot, Action::RemoveBundle] {
        assert!(matches!(
            world.execute("web", action),
            Err(StepError::Stale(_))
        ));
    }
    assert_eq!(shell.ask("echo alive"), "alive");
}

#[test]
fn what_an_earlier_boot_left_is_not_trusted() {
    use prost::Message as _;
    use shim_proto::launch::Launch;
    let world = World::new();
    world.prepare(&world.desired("web"));
    let mut shell = world.init("web", &[]);
    let path = world.runtime("web.1").join("launch");
    let mut launch = Launch::decode(std::fs::read(&path).unwrap().as_slice()).unwrap();
    launch.boot_id = "00000000-0000-0000-0000-000000000000".to_owned();
    std::fs::write(&path, launch.encode_to_vec()).unwrap();
    let life = world.life("web");
    let bundle = life.bundle.known().unwrap();
    assert!(!bundle.this_boot && bundle.launched);
    assert!(
        life.init.is_absent(),
        "a pid of another boot is somebody else's"
    );
    world.done("web", Action::KillLife);
    assert_eq!(shell.ask("echo alive"), "alive");
}

#[test]
fn a_life_below_another_parent_is_still_found() {
    // A daemon that starts in another cgroup than its predecessor nests elsewhere.
    let world = World::new();
    world.prepare(&world.desired("web"));
    let elsewhere = crate::world::open(
        &world.instance,
        world.dir.path(),
        &format!("/linux-room-else-{}", std::process::id()),
        Arc::default(),
    );
    let observed = elsewhere.observe(&Scope::Host, soon());
    let life = &observed.containers[&key("web")].lives[&Incarnation(1)];
    assert!(life.cgroup.known().is_some_and(|group| group.whole));
    elsewhere
        .execute(&world.step("web", Action::RemoveCgroup), soon())
        .unwrap();
    assert!(world.groups("web.1").is_empty());
}

#[test]
fn looking_at_one_container_costs_little_beside_many() {
    let world = World::new();
    let desired = world.desired("web");
    world.prepare(&desired);
    let _shell = world.init("web", &["unshare", "-n"]);
    let cost = || {
        let turns = 20;
        let begun = cpu_ms();
        for _turn in 0..turns {
            world.life("web");
        }
        (cpu_ms() - begun) / f64::from(turns)
    };
    let alone = cost();
    for number in 0..200 {
        let mut other = desired.clone();
        other.key = key(&format!("other-{number}"));
        world.done(
            other.key.as_str(),
            Action::PrepareBundle(other.clone().into()),
        );
        world.done(
            other.key.as_str(),
            Action::CreateCgroup(other.limits.clone()),
        );
    }
    let among = cost();
    println!("one observation: {alone:.3} ms of processor alone, {among:.3} ms among 200");
    assert!(among < alone * 4.0 + 5.0, "{alone} {among}");
}

/// Processor time of this thread, milliseconds.
fn cpu_ms() -> f64 {
    let at = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    at.tv_sec as f64 * 1e3 + at.tv_nsec as f64 / 1e6
}
