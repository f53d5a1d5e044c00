//! Hints come without being waited for by a resync.

use driver_api::{Action, WakeReason};
use specs::desired::Limits;

use crate::world::{World, eventually, key};

fn check(world: &World, reason: WakeReason) {
    eventually(&format!("{reason:?}"), || {
        let wakes = world.wakes.lock().unwrap();
        wakes
            .iter()
            .any(|wake| wake.key == Some(key("web")) && wake.reason == reason)
    });
    world.wakes.lock().unwrap().clear();
}

#[test]
fn what_changes_is_hinted_at() {
    let world = World::new();
    world.prepare(&world.desired("web"));
    let mut shell = world.init("web", &["unshare", "-m"]);
    world.done("web", Action::RejoinCgroup(Limits::default()));
    world.life("web");
    world.wakes.lock().unwrap().clear();
    let pids = world.group_with("web.1", "pids.max").join("pids.max");
    std::fs::write(&pids, "77").unwrap();
    check(&world, WakeReason::Cgroup);
    assert_eq!(shell.ask("mount -t tmpfs t /mnt; echo $?"), "0");
    check(&world, WakeReason::Mount);
    assert_eq!(shell.ask("umount /mnt; echo $?"), "0");
    check(&world, WakeReason::Mount);
    world.collect(shell.pid);
    assert_eq!(shell.ask("echo bye; exit"), "bye");
    check(&world, WakeReason::InitGone);
}

#[test]
fn a_removed_group_is_hinted_at() {
    let world = World::new();
    world.prepare(&world.desired("web"));
    world.life("web");
    world.wakes.lock().unwrap().clear();
    std::fs::remove_dir(world.group_with("web.1", "pids.max")).unwrap();
    check(&world, WakeReason::Cgroup);
}
