//! The end of every container without a daemon, and without an end of what was asked for.

use std::process::Output;

use tests::world::World;

use crate::e2e_life::WORKER;

const KEEPER: &str = r#"apiVersion: reconciler/v1
kind: Container
metadata: {name: keeper}
spec:
  rootfs: {directory: /srv/rootfs/busybox}
  mounts: [{path: /data, volume: kept}]
  processes:
    - name: main
      command: [/bin/sh, -c, "echo x >>/data/starts; exec sleep 1000"]
"#;

fn drain(world: &World, more: &[&str]) -> Output {
    let path = |name: &str| world.path(name).display().to_string();
    let (state, run, log) = (path("state"), path("run"), path("log"));
    let own = [
        "drain",
        "--state-dir",
        &state,
        "--runtime-dir",
        &run,
        "--log-dir",
        &log,
    ];
    let instance = ["--instance", world.instance()];
    world.cli(&[&own[..], &instance, more].concat())
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn drained_containers_are_gone_and_come_back_with_the_daemon() {
    let mut world = World::new();
    world.start();
    world.write("keeper.yaml", KEEPER);
    let text = world.path("worker.yaml");
    std::fs::write(&text, world.localised(WORKER)).expect("write a text");
    let applied = world.cli(&["apply", "-f", &text.display().to_string()]);
    assert!(applied.status.success(), "{applied:?}");
    world.wait_phase("keeper", "Running");
    world.wait_phase("worker", "Running");
    let pid = world.pid("worker", "count").expect("a pid");

    let refused = drain(&world, &[]);
    assert_eq!(refused.status.code(), Some(75), "{refused:?}");
    assert_eq!(
        world.pid("worker", "count"),
        Some(pid),
        "nothing was touched"
    );

    world.stop();
    let drained = drain(&world, &["--timeout", "60s"]);
    assert!(drained.status.success(), "{drained:?}");
    let mut lines: Vec<String> = said(&drained).lines().map(str::to_owned).collect();
    lines.sort();
    assert_eq!(lines, ["keeper: ended", "worker: ended"]);
    assert!(!std::fs::exists(format!("/proc/{pid}")).expect("look at /proc"));
    assert_eq!(world.cgroups(), Vec::<std::path::PathBuf>::new());
    let again = drain(&world, &["--timeout", "60s"]);
    assert!(
        again.status.success() && said(&again).is_empty(),
        "{again:?}"
    );

    world.start();
    world.wait_phase("keeper", "Running");
    world.wait_phase("worker", "Running");
    assert_ne!(world.pid("worker", "count"), Some(pid));
    let starts = world
        .path("state")
        .join(world.instance())
        .join("volumes/kept/starts");
    let starts = std::fs::read_to_string(starts).expect("read the volume");
    assert_eq!(starts, "x\nx\n", "the volume was kept");
    let deleted = world.cli(&["delete", "worker", "--wait"]);
    assert!(
        deleted.status.success(),
        "it still is an applied one: {deleted:?}"
    );
    world.finish();
}
