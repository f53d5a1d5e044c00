//! What a container may write into its root.

use std::fs;
use std::path::PathBuf;
use std::process::Output;

use nix::sys::signal::Signal;
use serde_json::Value;
use tests::eventually::{eventually, until};
use tests::host::signal;
use tests::world::{SOON, World};

/// A container that may write little, and changes nothing by itself.
const BOXED: &str = r#"apiVersion: reconciler/v1
kind: Container
metadata: {name: box}
spec:
  rootfs: {directory: /srv/rootfs/busybox}
  limits: {memory: 128Mi, pids: 64, disk: {bytes: 32Mi, inodes: 500}}
  processes:
    - name: app
      command: [/bin/sleep, "100000"]
      stop: {signal: KILL}
"#;

fn shell(world: &World, name: &str, script: &str) -> Output {
    world.cli(&["exec", name, "--", "sh", "-c", script])
}

fn text(output: &Output) -> String {
    let both = [&output.stdout, &output.stderr];
    both.map(|bytes| String::from_utf8_lossy(bytes).into_owned())
        .concat()
}

fn well(world: &World, name: &str, script: &str) -> String {
    let output = shell(world, name, script);
    assert!(output.status.success(), "{script}: {}", text(&output));
    text(&output)
}

/// Runs what has to end for want of room.
fn full(world: &World, name: &str, script: &str) {
    let output = shell(world, name, script);
    let said = text(&output);
    assert!(!output.status.success(), "{script} went well: {said}");
    assert!(said.contains("No space left"), "{script}: {said}");
}

/// Loop devices whose file lies below this world's state directory.
fn devices(world: &World) -> Vec<String> {
    let state = world.path("state").display().to_string();
    let all = fs::read_dir("/sys/block").expect("list devices").flatten();
    let backing = all.map(|entry| entry.path().join("loop/backing_file"));
    backing
        .filter_map(|path| fs::read_to_string(path).ok())
        .filter(|path| path.contains(&state))
        .collect()
}

fn images(world: &World) -> Vec<PathBuf> {
    let place = world.path("state").join(world.instance()).join("ephemeral");
    let lives = fs::read_dir(place).expect("list lives").flatten();
    lives
        .map(|entry| entry.path().join("disk.img"))
        .filter(|path| path.exists())
        .collect()
}

/// Whether this kernel lets us, and so our daemon, resize a mounted file system.
fn can_grow() -> bool {
    const SYS_RESOURCE: u64 = 1 << 24;
    let status = fs::read_to_string("/proc/self/status").expect("read our status");
    let line = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let mask = u64::from_str_radix(line.expect("a line").trim(), 16).expect("a mask");
    let can = mask & SYS_RESOURCE != 0;
    if !can {
        println!("without CAP_SYS_RESOURCE: the refusal is tried, the growth is not");
    }
    can
}

fn wait_refused(world: &World, words: &[&str]) -> Value {
    eventually("the refusal to be told", SOON, || {
        let status = world.status("box");
        let told = status["lastError"].to_string();
        if words.iter().all(|word| told.contains(word)) {
            Ok(status)
        } else {
            Err(status.to_string())
        }
    })
}

fn wait_limit(world: &World, mebibytes: u64) -> Value {
    eventually("the limit to hold", SOON, || {
        let status = world.status("box");
        if status["disk"]["limitBytes"] == mebibytes << 20 {
            Ok(status)
        } else {
            Err(status.to_string())
        }
    })
}

#[test]
fn a_filler_is_stopped_at_its_limit_and_nobody_else_is() {
    let mut world = World::new();
    world.start();
    world.write("box.yaml", BOXED);
    let free = BOXED
        .replace("name: box", "name: free")
        .replace(", disk: {bytes: 32Mi, inodes: 500}", "");
    world.write("free.yaml", &free);
    let status = world.wait_phase("box", "Running");
    world.wait_phase("free", "Running");
    assert_eq!(status["disk"]["backend"], "image", "{status:#}");
    assert_eq!(status["disk"]["limitBytes"], 32 << 20, "{status:#}");
    assert!(world.status("free")["disk"].is_null());
    assert_eq!(devices(&world).len(), 1);

    full(&world, "box", "cat /dev/zero > /tmp/full");
    full(
        &world,
        "box",
        "echo more > /etc/more && cat /dev/zero >> /etc/more",
    );
    well(&world, "free", "dd if=/dev/zero of=/tmp/x bs=1M count=48");
    let usage = world.json(&["describe", "box", "-o", "json"])["usage"]["disk"].clone();
    let figure = |name: &str| usage[name].as_u64().unwrap_or_default();
    assert!(figure("totalBytes") > 24 << 20, "{usage}");
    assert!(figure("totalBytes") <= figure("limitBytes"), "{usage}");
    assert!(figure("exclusiveBytes") > 24 << 20, "{usage}");
    let shown = String::from_utf8_lossy(&world.cli(&["describe", "box"]).stdout).into_owned();
    assert!(shown.contains("(image)"), "{shown}");
    well(&world, "box", "rm /tmp/full /etc/more");

    full(
        &world,
        "box",
        "n=0; while : > /tmp/f$n; do n=$((n+1)); done; exit 1",
    );
    let count: u64 = well(&world, "box", "ls /tmp | wc -l")
        .trim()
        .parse()
        .expect("a count");
    assert!((480..560).contains(&count), "{count} files");
    let top = world.json(&["top", "-o", "json", "--interval", "1s"]);
    let rows = top["containers"].as_array().expect("rows");
    let boxed = rows.iter().find(|row| row["name"] == "box").expect("a row");
    assert!(boxed["diskInodes"].as_u64() > Some(480), "{top}");
    well(&world, "free", "echo still > /tmp/writes");
    assert_eq!(images(&world).len(), 1);
    world.remove("box.yaml");
    world.wait_gone("box");
    assert_eq!(images(&world), Vec::<PathBuf>::new());
    until("the device to go", SOON, || devices(&world).is_empty());
    world.finish();
}

#[test]
fn a_limit_is_raised_under_the_same_pid_and_not_lowered_by_force() {
    let mut world = World::new();
    world.start();
    world.write("box.yaml", BOXED);
    let init = world.wait_phase("box", "Running")["pid"].clone();
    let app = world.pid("box", "app");
    full(&world, "box", "cat /dev/zero > /tmp/full");
    world.write("box.yaml", &BOXED.replace("32Mi", "64Mi"));
    let now = if can_grow() {
        wait_limit(&world, 64);
        well(&world, "box", "dd if=/dev/zero of=/tmp/more bs=1M count=24");
        let events = String::from_utf8_lossy(&world.cli(&["events", "box"]).stdout).into_owned();
        assert!(events.contains("disk.bytes"), "{events}");
        64
    } else {
        wait_refused(&world, &["CAP_SYS_RESOURCE"]);
        32
    };
    world.write("box.yaml", &BOXED.replace("32Mi", &format!("{now}Mi")));
    world.wait_phase("box", "Running");

    world.write("box.yaml", &BOXED.replace("32Mi", "24Mi"));
    let told = wait_refused(
        &world,
        &["never made smaller", &format!("{now}Mi"), "in use"],
    );
    assert_eq!(told["disk"]["limitBytes"], now << 20);
    assert!(!world.condition(&told, "Settled"), "{told:#}");
    // What runs goes on, and so does the rest of what is wanted.
    world.write(
        "box.yaml",
        &BOXED
            .replace("32Mi", "24Mi")
            .replace("pids: 64", "pids: 63"),
    );
    until("the other limit to hold", SOON, || {
        let detail = world.json(&["describe", "box", "-o", "json"]);
        detail["limits"]["pids"] == "63"
    });
    world.kill9();
    world.start();
    world.write("box.yaml", &BOXED.replace("32Mi", &format!("{now}Mi")));
    let status = world.wait_phase("box", "Running");
    assert_eq!(status["pid"], init);
    assert_eq!(status["disk"]["limitBytes"], now << 20);
    assert_eq!(world.pid("box", "app"), app);
    well(&world, "box", "test -e /tmp/full && rm /tmp/full");
    assert_eq!(devices(&world).len(), 1);
    world.finish();
}

#[test]
fn a_persistent_root_in_an_image_keeps_what_is_in_it() {
    let mut world = World::new();
    world.start();
    let kept = BOXED.replace("busybox}", "busybox, writable: persistent}");
    world.write("box.yaml", &kept);
    world.wait_phase("box", "Running");
    well(&world, "box", "echo one > /kept; chown app /kept");
    // Made anew, with another range of ids or the same: the data is the same.
    world.write("box.yaml", &format!("{kept}  hostname: other\n"));
    until("the new life", SOON, || {
        text(&shell(&world, "box", "hostname")).trim() == "other"
    });
    world.wait_phase("box", "Running");
    let look = "stat -c %U /kept; cat /kept";
    assert_eq!(well(&world, "box", look), "app\none\n");
    full(&world, "box", "cat /dev/zero > /full");
    well(&world, "box", "rm /full");
    world.remove("box.yaml");
    world.wait_gone("box");
    until("the device to go", SOON, || devices(&world).is_empty());
    world.kill9();
    world.start();
    world.write("box.yaml", &kept);
    world.wait_phase("box", "Running");
    assert_eq!(well(&world, "box", look), "app\none\n");
    assert_eq!(devices(&world).len(), 1);
    // Without a limit it stays in its image: nothing is copied behind anybody's back.
    let limited = world.status("box")["pid"].clone();
    let unlimited = kept.replace(", disk: {bytes: 32Mi, inodes: 500}", "");
    world.write("box.yaml", &unlimited);
    until("the new life", SOON, || {
        let status = world.status("box");
        status["pid"] != limited && status["phase"] == "Running"
    });
    world.wait_phase("box", "Running");
    assert_eq!(well(&world, "box", look), "app\none\n");
    assert_eq!(world.status("box")["disk"]["limitBytes"], 32 << 20);
    world.finish();
}

#[test]
fn a_persistent_root_that_was_made_without_a_limit_is_not_hidden_by_one() {
    let mut world = World::new();
    world.start();
    let kept = BOXED.replace("busybox}", "busybox, writable: persistent}");
    world.write(
        "box.yaml",
        &kept.replace(", disk: {bytes: 32Mi, inodes: 500}", ""),
    );
    world.wait_phase("box", "Running");
    well(&world, "box", "echo one > /kept");
    world.write("box.yaml", &kept);
    wait_refused(&world, &["was made without a limit"]);
    assert_eq!(devices(&world).len(), 0);
    let upper = world
        .path("state")
        .join(world.instance())
        .join("persistent/box/upper/kept");
    assert_eq!(fs::read_to_string(upper).expect("the data"), "one\n");
    world.finish();
}

#[test]
fn a_kill_at_any_moment_leaves_no_image_and_no_device() {
    let mut world = World::new();
    for delay_ms in [0_u64, 5, 10, 20, 40, 80, 160] {
        world.spawn();
        until("the socket", SOON, || {
            world.cli(&["version"]).status.success()
        });
        world.write("box.yaml", BOXED);
        // The moment is what varies; the outcome may not.
        std::thread::sleep(std::time::Duration::from_millis(delay_ms));
        world.kill9();
        world.start();
        world.wait_phase("box", "Running");
        full(&world, "box", "cat /dev/zero > /tmp/full");
        assert_eq!((images(&world).len(), devices(&world).len()), (1, 1));
        world.remove("box.yaml");
        std::thread::sleep(std::time::Duration::from_millis(delay_ms));
        world.kill9();
        world.start();
        world.wait_gone("box");
        assert_eq!(images(&world), Vec::<PathBuf>::new());
        until("the device to go", SOON, || devices(&world).is_empty());
        world.kill9();
    }
    world.finish();
}

#[test]
fn an_image_outlives_inits_and_supervisors_and_is_never_on_two_devices() {
    let mut world = World::new();
    world.start();
    let kept = BOXED.replace("busybox}", "busybox, writable: persistent}");
    world.write("box.yaml", &kept);
    world.wait_phase("box", "Running");
    for round in 0..4 {
        well(&world, "box", &format!("echo {round} >> /kept"));
        let lives = fs::read_dir(world.path("run").join(world.instance())).expect("list lives");
        let id = lives
            .flatten()
            .find_map(|life| {
                let file = ["shim.id", "init.id"][round % 2];
                fs::read_to_string(life.path().join(file)).ok()
            })
            .expect("a life");
        let pid: u64 = id
            .split(' ')
            .next()
            .and_then(|pid| pid.parse().ok())
            .expect("a pid");
        let app = world.pid("box", "app");
        signal(pid, Signal::SIGKILL);
        eventually("the container to go on", SOON, || {
            let status = world.status("box");
            let is_new = round % 2 == 0 || world.pid("box", "app") != app;
            let output = shell(&world, "box", "wc -l < /kept");
            let has_all = text(&output).trim() == (round + 1).to_string();
            if is_new && has_all && status["phase"] == "Running" {
                Ok(())
            } else {
                Err(format!("{status}: {}", text(&output)))
            }
        });
        assert_eq!(devices(&world).len(), 1);
    }
    world.finish();
}
