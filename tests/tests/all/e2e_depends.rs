//! Starts that wait and ends in the reverse order, on the shipped programs and the real kernel.

use serde_json::Value;
use tests::eventually::{eventually, until};
use tests::world::{SOON, World};

/// Each process writes its name and what happens to it into one journal that they share; the
/// migration waits for a file that the test makes.
const CHAIN: &str = r#"apiVersion: reconciler/v1
kind: Container
metadata: {name: shop}
spec:
  rootfs: {directory: /srv/rootfs/busybox}
  env: {PATH: /bin}
  mounts:
    - {path: /shared, source: /srv/data, readOnly: false}
  processes:
    - name: web
      command: [/bin/sh, -c, "SAY web"]
      dependsOn: [{process: db}]
      stop: {grace: 5s}
    - name: db
      command: [/bin/sh, -c, "SAY db"]
      dependsOn: [{process: migrate, condition: completed}]
      stop: {grace: 5s}
    - name: migrate
      command: [/bin/sh, -c, "while [ ! -e /shared/go ]; do sleep 0.1; done; echo migrate >> /shared/journal"]
      restart: {policy: onFailure}
    - name: aside
      command: [/bin/sh, -c, "SAY aside"]
"#;

/// Says its name when it begins, and once more half a second after it was asked to end.
const SAY: &str = "trap 'sleep 0.5; echo $0 ends >> /shared/journal; exit 0' TERM; \
                   echo $0 begins >> /shared/journal; while :; do sleep 0.05; done";

fn chain(world: &World) -> String {
    let mut text = CHAIN.to_owned();
    for name in ["web", "db", "aside"] {
        text = text.replace(
            &format!("\"SAY {name}\""),
            &format!("\"{SAY}\"").replace("$0", name),
        );
    }
    world.localised(&text)
}

/// A world that lets containers write into one directory of the host.
fn world() -> World {
    let mut world = World::new();
    let data = world.path("data");
    std::fs::create_dir(&data).expect("make a directory");
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o777);
    std::fs::set_permissions(&data, mode).expect("open the directory");
    let root = data.display();
    world.config(&format!(
        "policy: [{{name: team, bindRoots: [{{path: {root}, writable: true}}]}}]\n"
    ));
    world.start();
    world
}

fn journal(world: &World) -> Vec<String> {
    let text = std::fs::read_to_string(world.path("data/journal")).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}

fn wait_journal(world: &World, lines: &[&str]) {
    eventually(&format!("the journal to be {lines:?}"), SOON, || {
        let is = journal(world);
        if is == lines {
            Ok(())
        } else {
            Err(format!("{is:?}\n{}", world.log_tail()))
        }
    });
}

fn process<'v>(status: &'v Value, name: &str) -> &'v Value {
    let all = status["processes"].as_array().expect("processes");
    let found = all.iter().find(|one| one["name"] == name);
    found.expect("the process")
}

#[test]
fn processes_start_in_the_order_of_what_they_need_and_end_in_the_reverse() {
    let mut world = world();
    world.write("shop.yaml", &chain(&world));
    let waiting = eventually("the data base to wait", SOON, || {
        let status = world.status("shop");
        if process_waits(&status, "db") && process_runs(&status, "aside") {
            Ok(status)
        } else {
            Err(format!("{status:#}\n{}", world.log_tail()))
        }
    });
    let waits = |name: &str| process(&waiting, name)["waitsFor"][0].clone();
    assert_eq!(waits("db"), "process migrate to be completed");
    assert_eq!(waits("web"), "process db to be started");
    let why = String::from_utf8_lossy(&world.cli(&["why", "shop"]).stdout).into_owned();
    assert!(
        why.contains("waits for process migrate to be completed"),
        "{why}"
    );
    let page = String::from_utf8_lossy(&world.cli(&["describe", "shop"]).stdout).into_owned();
    assert!(
        page.contains("db: process migrate to be completed"),
        "{page}"
    );
    // A daemon that dies in between loses nothing and starts nothing too early.
    world.kill9();
    world.start();
    until("it to wait again", SOON, || {
        process_waits(&world.status("shop"), "db")
    });
    assert_eq!(journal(&world), ["aside begins"]);
    std::fs::write(world.path("data/go"), "").expect("let the migration end");
    world.wait_phase("shop", "Running");
    wait_journal(
        &world,
        &["aside begins", "migrate", "db begins", "web begins"],
    );

    // One that is gone takes nobody with it; it starts again by itself.
    let web = world.pid("shop", "web");
    let db = world.pid("shop", "db").expect("a pid");
    tests::host::signal(db, nix::sys::signal::Signal::SIGKILL);
    until("the data base to run again", SOON, || {
        world.pid("shop", "db").is_some_and(|pid| pid != db)
    });
    assert_eq!(world.pid("shop", "web"), web);

    std::fs::remove_file(world.path("data/journal")).expect("empty the journal");
    assert!(world.cli(&["stop", "shop"]).status.success());
    world.wait_phase("shop", "Stopped");
    let ends = journal(&world);
    let at = |line: &str| ends.iter().position(|one| one == line);
    assert!(at("web ends") < at("db ends"), "{ends:?}");
    assert!(at("aside ends") < at("db ends"), "{ends:?}");
    assert_eq!(ends.len(), 3, "{ends:?}");

    // Started again, it migrates again, first.
    std::fs::remove_file(world.path("data/journal")).expect("empty the journal");
    assert!(world.cli(&["start", "shop"]).status.success());
    world.wait_phase("shop", "Running");
    until("all to have begun", SOON, || journal(&world).len() == 3);
    world.remove("shop.yaml");
    world.wait_gone("shop");
    let all = journal(&world);
    let at = |line: &str| all.iter().position(|one| one == line);
    assert!(at("db begins") < at("web begins"), "{all:?}");
    assert!(
        at("web ends") < at("db ends") && at("db ends").is_some(),
        "{all:?}"
    );
    world.finish();
}

#[test]
fn an_edit_of_what_depends_on_what_restarts_nothing_and_an_update_keeps_the_order() {
    let world = world();
    std::fs::write(world.path("data/go"), "").expect("let the migration end");
    let text = chain(&world);
    world.write("shop.yaml", &text);
    world.wait_phase("shop", "Running");
    let pids = |world: &World| ["web", "db", "aside"].map(|name| world.pid("shop", name));
    let before = pids(&world);
    let live = text.replace(
        "dependsOn: [{process: db}]",
        "dependsOn: [{process: db, condition: healthy}, {process: aside}]",
    );
    world.write("shop.yaml", &live);
    until("the new generation", SOON, || {
        world.status("shop")["generation"] == 2
    });
    world.wait_phase("shop", "Running");
    assert_eq!(pids(&world), before);

    // Both change at once: the dependent ends first and begins last.
    std::fs::remove_file(world.path("data/journal")).expect("empty the journal");
    world.write(
        "shop.yaml",
        &live.replace("sleep 0.05", "sleep 0.04").replace(
            "command: [/bin/sh, -c, \"while",
            "command: [/bin/sh, -c, \"true; while",
        ),
    );
    until("the newer generation", SOON, || {
        world.status("shop")["generation"] == 3
    });
    world.wait_phase("shop", "Running");
    let all = journal(&world);
    let at = |line: &str| all.iter().position(|one| one == line).expect(line);
    assert!(at("web ends") < at("db ends"), "{all:?}");
    assert!(at("db ends") < at("db begins"), "{all:?}");
    assert!(at("migrate") < at("db begins"), "{all:?}");
    assert!(at("db begins") < at("web begins"), "{all:?}");
    world.finish();
}

/// A container with one process; `more` goes below `spec`.
fn one(name: &str, command: &str, more: &str) -> String {
    format!(
        "apiVersion: reconciler/v1\nkind: Container\nmetadata: {{name: {name}}}\nspec:\n  \
         rootfs: {{directory: /srv/rootfs/busybox}}\n  env: {{PATH: /bin}}\n{more}  \
         processes:\n    - name: p\n      command: [/bin/sh, -c, \"{command}\"]\n      \
         restart: {{policy: onFailure, backoff: {{initial: 50ms, max: 200ms}}}}\n"
    )
}

#[test]
fn a_container_starts_when_those_that_it_waits_for_are_there() {
    let mut world = World::new();
    world.start();
    let forever = "while :; do sleep 0.2; done";
    let waits = "  dependsOn: [{container: db, condition: healthy}, {container: job, condition: \
                 completed}]\n";
    world.write("web.yaml", &one("web", forever, waits));
    wait_waiting(&world, "container db to be healthy: no spec wants it");
    let why = String::from_utf8_lossy(&world.cli(&["why", "web"]).stdout).into_owned();
    assert!(
        why.contains("container db to be healthy: no spec wants it"),
        "{why}"
    );
    // Whoever closes the circle is refused, and what stands goes on.
    world.write(
        "db.yaml",
        &one("db", forever, "  dependsOn: [{container: web}]\n"),
    );
    eventually("the refusal", SOON, || {
        let list = String::from_utf8_lossy(&world.cli(&["status"]).stdout).into_owned();
        if list.contains("db -> web -> db") {
            Ok(())
        } else {
            Err(list)
        }
    });
    world.write("db.yaml", &one("db", forever, ""));
    world.wait_phase("db", "Running");
    wait_waiting(&world, "container job to be completed: no spec wants it");
    world.kill9();
    world.start();
    wait_waiting(&world, "container job to be completed: no spec wants it");
    world.write("job.yaml", &one("job", "sleep 0.3", ""));
    let status = world.wait_phase("web", "Running");
    assert_eq!(world.status("job")["phase"], "Completed");
    assert_eq!(process(&status, "p")["restarts"], 0);

    // What runs is not ended because something that it needs went away, nor by a new daemon.
    let pid = world.pid("web", "p").expect("a pid");
    world.remove("db.yaml");
    world.wait_gone("db");
    world.kill9();
    world.start();
    world.wait_phase("web", "Running");
    assert_eq!(world.pid("web", "p"), Some(pid));
    tests::host::signal(pid, nix::sys::signal::Signal::SIGKILL);
    wait_waiting(&world, "container db to be healthy: no spec wants it");
    world.write("db.yaml", &one("db", forever, ""));
    world.wait_phase("web", "Running");
    world.finish();
}

fn wait_waiting(world: &World, for_what: &str) {
    eventually(&format!("web to wait for {for_what}"), SOON, || {
        let status = world.status("web");
        let all = status["processes"].to_string();
        if status["phase"] == "Waiting" && all.contains(for_what) {
            Ok(())
        } else {
            Err(format!("{status:#}"))
        }
    });
}

fn process_waits(status: &Value, name: &str) -> bool {
    state(status, name) == Some("waiting")
}

fn process_runs(status: &Value, name: &str) -> bool {
    state(status, name) == Some("running")
}

fn state<'v>(status: &'v Value, name: &str) -> Option<&'v str> {
    let all = status["processes"].as_array()?;
    all.iter().find(|one| one["name"] == name)?["state"].as_str()
}
