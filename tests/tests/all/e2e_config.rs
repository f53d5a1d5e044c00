//! The configuration, read again while containers run.

use serde_json::Value;
use tests::eventually::{eventually, until};
use tests::host::kill;
use tests::world::{SOON, World};

fn spec(name: &str, more: &str) -> String {
    format!(
        "apiVersion: reconciler/v1\nkind: Container\nmetadata: {{name: {name}}}\nspec:\n  rootfs: \
         {{directory: /srv/rootfs/busybox}}\n{more}  processes:\n    - {{name: p, command: \
         [/bin/sleep, \"1000\"]}}\n"
    )
}

fn status_text(world: &World) -> String {
    let output = world.cli(&["status"]);
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn accepted(status: &Value) -> Value {
    let all = status["conditions"].as_array().cloned().unwrap_or_default();
    let mut found = all.into_iter().filter(|one| one["kind"] == "Accepted");
    found.next().unwrap_or(Value::Null)
}

fn pids_max(world: &World) -> String {
    let mut found = world.cgroups().into_iter().flat_map(|place| {
        let life = place.join("web.1");
        [life.join("pids.max"), life.join("container/pids.max")]
    });
    let file = found.find(|file| file.exists());
    let read = file.and_then(|file| std::fs::read_to_string(file).ok());
    read.unwrap_or_default().trim().to_owned()
}

#[test]
fn a_changed_default_holds_after_a_hang_up_under_the_same_pid() {
    let mut world = World::new();
    world.config("defaults: {limits: {pids: 60}}\n");
    world.start();
    world.write("web.yaml", &spec("web", ""));
    let before = world.wait_phase("web", "Running");
    assert_eq!(pids_max(&world), "60");
    world.config("defaults: {limits: {pids: 40}}\n");
    world.hang_up();
    until("the new default to be in force", SOON, || {
        pids_max(&world) == "40"
    });
    let after = world.wait_phase("web", "Running");
    assert_eq!(after["pid"], before["pid"]);
    let events = String::from_utf8_lossy(&world.cli(&["events", "web"]).stdout).into_owned();
    assert!(
        events.contains("LimitsChanged") && !events.contains("Repaired"),
        "an edit is no drift: {events}"
    );
    world.finish();
}

#[test]
fn a_wrong_config_changes_nothing_and_is_told_until_it_is_right() {
    let mut world = World::new();
    world.config("defaults: {limits: {pids: 60}}\n");
    world.start();
    world.write("web.yaml", &spec("web", ""));
    let before = world.wait_phase("web", "Running");
    world.config("defaults: {limits: {pids: many}}\n");
    world.hang_up();
    eventually("the fault to be told with its place", SOON, || {
        let text = status_text(&world);
        let told = text.contains("config.yaml:3:27") && text.contains("send HUP");
        if told { Ok(()) } else { Err(text) }
    });
    assert_eq!(pids_max(&world), "60");
    assert_eq!(world.status("web")["pid"], before["pid"]);
    world.config("defaults: {limits: {pids: 50}}\n");
    world.hang_up();
    until("the right one to be in force", SOON, || {
        pids_max(&world) == "50" && !status_text(&world).contains("config.yaml")
    });
    world.finish();
}

#[test]
fn what_a_policy_grants_no_more_runs_on_and_is_not_made_again() {
    const OPEN: &str = "policy: [{name: team, bindRoots: [{path: /srv/data}]}]\n";
    const TIGHT: &str = "policy: [{name: team}]\n";
    let mut world = World::new();
    std::fs::create_dir(world.path("data")).expect("make a directory");
    world.config(OPEN);
    world.start();
    world.write(
        "web.yaml",
        &spec("web", "  mounts: [{path: /data, source: /srv/data}]\n"),
    );
    world.write("db.yaml", &spec("db", ""));
    world.write("job.yaml", &spec("job", ""));
    let before = world.wait_phase("web", "Running");
    world.wait_phase("db", "Running");
    world.config(TIGHT);
    world.hang_up();
    let withdrawn = |world: &World| {
        eventually("it to be told", SOON, || {
            let condition = accepted(&world.status("web"));
            let message = condition["message"].as_str().unwrap_or_default();
            let told = condition["reason"] == "Withdrawn"
                && message.contains("rule `team`")
                && message.contains("may not be bound");
            if told {
                Ok(())
            } else {
                Err(condition.to_string())
            }
        });
    };
    withdrawn(&world);
    assert_eq!(world.status("web")["pid"], before["pid"], "it runs on");
    // A new start judges the same, adopts it, and cleans up for others as ever.
    world.kill9();
    world.start();
    withdrawn(&world);
    assert_eq!(world.status("web")["pid"], before["pid"]);
    world.remove("job.yaml");
    world.wait_gone("job");
    kill(before["pid"].as_u64().expect("a pid"));
    let failed = eventually("it to fail", SOON, || {
        let status = world.status("web");
        let failed = status["phase"] == "Failed" && status["pid"].is_null();
        if failed {
            Ok(status)
        } else {
            Err(status.to_string())
        }
    });
    let why = String::from_utf8_lossy(&world.cli(&["why", "web"]).stdout).into_owned();
    assert!(why.contains("rule `team`"), "{why}\n{failed:#}");
    let plan = String::from_utf8_lossy(&world.cli(&["plan"]).stdout).into_owned();
    assert!(plan.contains("rule `team`"), "{plan}");
    world.wait_phase("db", "Running");
    world.config(OPEN);
    world.hang_up();
    let after = world.wait_phase("web", "Running");
    assert_ne!(after["pid"], before["pid"]);
    world.finish();
}

#[test]
fn a_new_text_is_judged_by_the_newest_policy() {
    let mut world = World::new();
    world.config("policy: [{name: team}]\n");
    world.start();
    let asks = "  security: {seccomp: unconfined}\n";
    world.write("web.yaml", &spec("web", asks));
    until("it to be refused", SOON, || {
        status_text(&world).contains("rule `team`")
    });
    world.config("policy: [{name: team, seccompUnconfined: true}]\n");
    world.hang_up();
    world.wait_phase("web", "Running");
    world.finish();
}
