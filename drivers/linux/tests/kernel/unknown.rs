//! What cannot be read is not absent.

use driver_api::{Action, Driver as _, Fact, Scope, Shim, ShimState, StepError};

use crate::world::{World, key, soon};

fn is_incomplete(world: &World) {
    for scope in [Scope::Host, Scope::Container(key("web"))] {
        let observed = world.host.observe(&scope, soon());
        assert!(!observed.complete, "{scope:?}");
        assert!(!observed.gaps.is_empty());
    }
}

#[test]
fn a_file_in_place_of_a_directory_spoils_the_listing() {
    for place in ["run", "state/ephemeral"] {
        let world = World::new();
        let path = match place {
            "run" => world.path("run").join(world.instance.as_str()),
            _ => world.state("ephemeral"),
        };
        let aside = world.path("aside");
        std::fs::rename(&path, &aside).unwrap();
        is_incomplete(&world);
        std::fs::write(&path, "").unwrap();
        is_incomplete(&world);
        std::fs::remove_file(&path).unwrap();
        // An empty directory in its place: as if the real one had been unmounted.
        std::fs::create_dir(&path).unwrap();
        is_incomplete(&world);
        std::fs::remove_dir(&path).unwrap();
        std::fs::rename(&aside, &path).unwrap();
        assert!(world.observe().complete);
    }
}

#[test]
fn a_vanished_runtime_directory_hides_no_life() {
    let world = World::new();
    world.prepare(&world.desired("web"));
    let path = world.path("run").join(world.instance.as_str());
    std::fs::rename(&path, world.path("aside")).unwrap();
    let observed = world.observe();
    assert!(!observed.complete);
    let life = observed.containers[&key("web")]
        .lives
        .values()
        .next()
        .unwrap();
    assert!(life.bundle.gap().is_some());
    std::fs::rename(world.path("aside"), &path).unwrap();
}

#[test]
fn a_torn_record_is_unknown() {
    let world = World::new();
    world.prepare(&world.desired("web"));
    let path = world.runtime("web.1").join("launch");
    let whole = std::fs::read(&path).unwrap();
    for torn in [0, 1, whole.len() / 2, whole.len() - 1] {
        std::fs::write(&path, &whole[..torn]).unwrap();
        assert!(world.life("web").bundle.gap().is_some(), "torn at {torn}");
    }
    std::fs::remove_file(&path).unwrap();
    assert!(world.life("web").bundle.gap().is_some(), "gone");
    std::fs::write(&path, &whole).unwrap();
    assert!(world.life("web").bundle.known().is_some());
    // That of another life, put there.
    let other = world.desired("other");
    world.prepare(&other);
    std::fs::copy(world.runtime("other.1").join("launch"), &path).unwrap();
    assert!(world.life("web").bundle.gap().is_some());
}

#[test]
fn an_unreadable_init_is_unknown_and_nothing_is_done_about_it() {
    let world = World::new();
    world.prepare(&world.desired("web"));
    let id = world.runtime("web.1").join("init.id");
    std::fs::create_dir(&id).unwrap();
    let life = world.life("web");
    assert!(life.init.gap().is_some());
    assert!(life.processes.gap().is_some());
    let refusal = world.execute("web", Action::RemoveRoot);
    assert!(matches!(refusal, Err(StepError::Retry(_))), "{refusal:?}");
    let mut step = world.step("web", Action::KillLife);
    step.precondition.init = driver_api::Expect::Absent;
    assert!(matches!(
        world.host.execute(&step, soon()),
        Err(StepError::Stale(_))
    ));
    std::fs::remove_dir(&id).unwrap();
    assert!(world.life("web").init.is_absent());
}

#[test]
fn a_held_lock_without_a_known_holder_is_a_shim_that_starts() {
    let world = World::new();
    world.prepare(&world.desired("web"));
    let lock = world.runtime("web.1").join("shim.lock");
    let file = std::fs::File::create(&lock).unwrap();
    assert!(world.life("web").shim.is_absent());
    file.lock().unwrap();
    let life = world.life("web");
    assert!(life.shim.gap().is_some());
    assert!(life.init.gap().is_some(), "it may be making one");
    assert!(life.processes.gap().is_some());
    file.unlock().unwrap();
    assert!(world.life("web").shim.is_absent());
}

#[test]
fn the_processes_of_an_orphaned_init_are_unknown() {
    let world = World::new();
    world.prepare(&world.desired("web"));
    let shell = world.init("web", &[]);
    let life = world.life("web");
    assert!(life.shim.is_absent());
    assert_eq!(life.init.known().map(|init| init.id.pid), Some(shell.pid));
    assert!(life.processes.gap().is_some() && life.files.gap().is_some());
    assert!(life.mounts.known().is_some());
}

#[test]
fn a_shim_that_does_not_answer_makes_its_container_unknown() {
    let world = World::new();
    world.prepare(&world.desired("web"));
    let shell = world.shell(&[]);
    let id = format!("{} {}", shell.pid, crate::world::start_of(shell.pid));
    std::fs::write(world.runtime("web.1").join("shim.id"), id).unwrap();
    let life = world.life("web");
    assert_eq!(life.shim.known().map(|shim| shim.id.pid), Some(shell.pid));
    assert!(life.init.gap().is_some(), "{:?}", life.init);
    assert!(life.processes.gap().is_some());
    let refusal = world.execute("web", Action::RemoveBundle);
    assert!(
        matches!(refusal, Err(StepError::Retry(_) | StepError::Stale(_))),
        "{refusal:?}"
    );
    let silent = |shim: &Shim| shim.state == ShimState::Silent;
    assert!(life.shim.known().is_some_and(silent));
    world.done("web", Action::KillShim);
    assert!(world.life("web").shim.is_absent());
    world.collect(shell.pid);
}

#[test]
fn a_group_that_is_a_file_is_unknown() {
    let world = World::new();
    world.prepare(&world.desired("web"));
    let root = world.state("ephemeral/web.1");
    let aside = world.path("aside");
    std::fs::rename(&root, &aside).unwrap();
    std::fs::write(&root, "").unwrap();
    assert!(matches!(world.life("web").root, Fact::Unknown(_)));
    std::fs::remove_file(&root).unwrap();
    std::fs::rename(&aside, &root).unwrap();
    assert_eq!(world.life("web").root, Fact::Known(true));
}

#[test]
fn a_passed_deadline_is_unknown_not_absent() {
    let world = World::new();
    world.prepare(&world.desired("web"));
    let observed = world
        .host
        .observe(&Scope::Host, driver_api::Deadline { at_ms: 0 });
    let life = observed.containers[&key("web")]
        .lives
        .values()
        .next()
        .unwrap();
    assert!(life.bundle.gap().is_some() && life.init.gap().is_some());
}

#[test]
fn a_half_made_upper_layer_is_seen_and_made_whole() {
    let world = World::new();
    let desired = world.desired("web");
    world.prepare(&desired);
    assert_eq!(world.life("web").root, Fact::Known(true));
    for part in ["upper", "work"] {
        std::fs::remove_dir(world.state("ephemeral/web.1").join(part)).unwrap();
        assert_eq!(world.life("web").root, Fact::Known(false), "{part}");
        world.done(
            "web",
            Action::PrepareRoot(std::sync::Arc::new(desired.clone())),
        );
        assert_eq!(world.life("web").root, Fact::Known(true));
    }
    world.done("web", Action::RemoveRoot);
    assert!(world.life("web").root.is_absent());
}
