//! What containers use, as the kernel counts it.

use serde_json::Value;
use tests::eventually::eventually;
use tests::world::{SOON, World};

use crate::e2e_network::{finish, inside, page, wired};

/// Keeps one processor busy and 16 MiB in use, within a fifth of a processor.
const BUSY: &str = r#"apiVersion: reconciler/v1
kind: Container
metadata: {name: busy}
spec:
  rootfs: {directory: /srv/rootfs/busybox}
  limits: {memory: 64Mi, cpu: 200m, pids: 32}
  mounts: [{path: /hold, tmpfs: 32Mi}]
  processes:
    - name: loop
      command: [/bin/sh, -c, "dd if=/dev/zero of=/hold/x bs=1M count=16; while :; do :; done"]
      stop: {signal: KILL}
"#;

fn usage_of(world: &World, name: &str) -> Value {
    world.json(&["describe", name, "-o", "json"])["usage"].clone()
}

#[test]
fn what_is_used_shows_in_top_and_describe() {
    let mut world = World::new();
    world.start();
    world.write("busy.yaml", BUSY);
    world.wait_phase("busy", "Running");
    let usage = eventually("the memory to be in use", SOON, || {
        let usage = usage_of(&world, "busy");
        match usage["workingSetBytes"].as_u64() {
            Some(used) if used >= 16 << 20 => Ok(usage),
            _ => Err(usage.to_string()),
        }
    });
    let figure = |name: &str| {
        usage[name]
            .as_u64()
            .unwrap_or_else(|| panic!("{name}: {usage}"))
    };
    assert!(
        figure("workingSetBytes") <= figure("memoryBytes"),
        "{usage}"
    );
    assert!(figure("memoryPeakBytes") >= 16 << 20, "{usage}");
    assert_eq!(figure("memoryLimitBytes"), 64 << 20);
    assert!(figure("pids") >= 2 && figure("pidsLimit") == 32, "{usage}");
    assert!(usage["network"].is_null(), "it has the host's: {usage}");
    let before = world.json(&["describe", "busy", "-o", "json"])["view"]["status"].clone();
    let top = world.json(&["top", "-o", "json", "--interval", "2s"]);
    let row = &top["containers"][0];
    assert_eq!(row["name"], "busy");
    let cpu = row["cpuPermille"].as_u64().unwrap_or_default();
    assert!((50..300).contains(&cpu), "a fifth of a processor: {top}");
    assert!(
        row["heldPermille"].as_u64().is_some_and(|held| held > 0),
        "{top}"
    );
    // Nothing was published because of that.
    assert_eq!(before["conditions"], world.status("busy")["conditions"]);
    world.finish();
}

#[test]
fn traffic_is_counted_as_the_container_sees_it() {
    let (mut world, host, _neighbour) = wired();
    world.start();
    world.write("web.yaml", &page("web", ""));
    world.wait_phase("web", "Running");
    let network = |field: &str| {
        let usage = usage_of(&world, "web");
        usage["network"][field]
            .as_u64()
            .unwrap_or_else(|| panic!("{field}: {usage}"))
    };
    let (sent, received) = (network("sentBytes"), network("receivedBytes"));
    // Refused by its rules, and sent all the same.
    let line = "busybox ping -c 3 -W 1 -s 1000 169.254.1.1 || true";
    assert!(inside(&world, "web", line).is_some());
    let grown = network("sentBytes") - sent;
    assert!(grown >= 3000, "{grown}");
    assert!(network("receivedBytes") - received < grown);
    assert!(network("sentPackets") >= 3);
    finish(world, &host);
}

#[test]
fn what_is_given_away_is_gone_from_what_the_host_has() {
    let (mut world, host, _neighbour) = wired();
    world.start();
    let before = world.json(&["capacity", "-o", "json"]);
    world.write("web.yaml", &page("web", ""));
    world.write("busy.yaml", BUSY);
    world.wait_phase("web", "Running");
    world.wait_phase("busy", "Running");
    let after = world.json(&["capacity", "-o", "json"]);
    let grown = |resource: &str, field: &str| {
        let of = |told: &Value| told[resource][field].as_i64().unwrap_or_default();
        of(&after) - of(&before)
    };
    assert_eq!(after["containers"], 2, "{after:#}");
    assert_eq!(grown("memory", "granted"), 64 << 20, "{after:#}");
    assert_eq!(grown("memory", "unlimited"), 1);
    assert_eq!(grown("cpu", "granted"), 200);
    assert_eq!(grown("idRanges", "left"), -2);
    assert_eq!(grown("addresses", "left"), -1, "one is isolated");
    assert_eq!(before["addresses"]["total"], 254);
    let total = after["memory"]["total"].as_u64().unwrap_or_default();
    let meminfo = std::fs::read_to_string("/proc/meminfo").expect("read it");
    assert!(meminfo.contains(&format!("{} kB", total / 1024)), "{total}");
    for name in ["web.yaml", "busy.yaml"] {
        world.remove(name);
    }
    for name in ["web", "busy"] {
        world.wait_gone(name);
    }
    let end = world.json(&["capacity", "-o", "json"]);
    assert_eq!(end["idRanges"], before["idRanges"]);
    assert_eq!(end["addresses"], before["addresses"]);
    finish(world, &host);
}
