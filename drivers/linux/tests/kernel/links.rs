//! The loopback link of another network namespace.

use driver_api::{Action, Fact, Outcome, StepError};

use crate::world::World;

#[test]
fn the_loopback_link_is_seen_down_and_raised() {
    let world = World::new();
    world.prepare(&world.desired("web"));
    let mut shell = world.init("web", &["unshare", "-n"]);
    assert_eq!(world.life("web").loopback_up, Fact::Known(false));
    assert_eq!(
        world.execute("web", Action::RaiseLoopback),
        Ok(Outcome::Done)
    );
    assert_eq!(world.life("web").loopback_up, Fact::Known(true));
    assert_eq!(
        world.execute("web", Action::RaiseLoopback),
        Ok(Outcome::AlreadyDone)
    );
    assert_eq!(shell.ask("ip link set lo down; echo $?"), "0");
    assert_eq!(world.life("web").loopback_up, Fact::Known(false));
}

#[test]
fn the_hosts_links_are_not_touched() {
    let world = World::new();
    let mut desired = world.desired("web");
    desired.container.network = specs::desired::Network::Host;
    world.prepare(&desired);
    let _shell = world.init("web", &["unshare", "-n"]);
    assert!(world.life("web").loopback_up.is_absent());
    assert!(matches!(
        world.execute("web", Action::RaiseLoopback),
        Err(StepError::Stale(_))
    ));
}

#[test]
fn mounts_are_those_of_the_container() {
    let world = World::new();
    world.prepare(&world.desired("web"));
    let mut shell = world.init("web", &["unshare", "-m"]);
    let dir = world.path("a\tb \\x\n");
    std::fs::create_dir(&dir).unwrap();
    let quoted = dir.to_str().unwrap().replace('\n', "'$'\\n''");
    assert_eq!(
        shell.ask(&format!("mount -t tmpfs -o ro t '{quoted}'; echo $?")),
        "0"
    );
    let life = world.life("web");
    let mounts = life.mounts.known().unwrap();
    let found = &mounts[dir.to_str().unwrap()];
    assert_eq!(
        (found.fs_type.as_str(), found.read_only, found.stacked),
        ("tmpfs", true, 1)
    );
    let own = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    assert!(!own.contains("a\\011b"), "only there");
}
