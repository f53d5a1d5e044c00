//! What a container is, seen from inside and from outside.

use std::fs;

use tests::eventually::{eventually, until};
use tests::world::{SOON, World};

/// Runs a command as the only process of a container and returns what it said.
fn said_by(world: &mut World, extra: &str, command: &str) -> String {
    world.write(
        "probe.yaml",
        &format!(
            "apiVersion: reconciler/v1\nkind: Container\nmetadata: {{name: probe}}\nspec:\n  rootfs: \
             {{directory: /srv/rootfs/busybox}}\n{extra}  processes:\n    - name: p\n      command: \
             [/bin/sh, -c, '{command}; echo the-end; exec sleep 100000']\n"
        ),
    );
    eventually("the probe to have ended", SOON, || {
        let output = world.cli(&["logs", "probe"]);
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        if text.contains("the-end") {
            Ok(text)
        } else {
            Err(format!(
                "{text}\n{:#}\n{}",
                world.status("probe"),
                world.log_tail()
            ))
        }
    })
}

fn probe(extra: &str, command: &str) -> (World, String) {
    let mut world = World::new();
    world.start();
    let text = said_by(&mut world, extra, command);
    (world, text)
}

#[test]
fn a_process_has_the_small_capability_set_a_filter_and_no_new_privileges() {
    let (world, text) = probe(
        "",
        "grep -E \"^(Cap|Seccomp|NoNew|Groups)\" /proc/self/status",
    );
    // Podman's eleven: chown dac_override fowner fsetid kill setgid setuid setpcap
    // net_bind_service sys_chroot setfcap.
    for line in [
        "CapInh:\t0000000000000000",
        "CapPrm:\t00000000800405fb",
        "CapEff:\t00000000800405fb",
        "CapBnd:\t00000000800405fb",
        "CapAmb:\t0000000000000000",
        "NoNewPrivs:\t1",
        "Seccomp:\t2",
    ] {
        assert!(text.contains(line), "{line} is not in {text}");
    }
    world.finish();
}

#[test]
fn ids_inside_are_others_outside() {
    let (world, text) = probe(
        "",
        "id; cat /proc/self/uid_map; touch /root/x; stat -c %u /root/x",
    );
    assert!(text.contains("uid=0(root)"), "{text}");
    let status = world.status("probe");
    let pid = status["processes"][0]["pid"].as_u64().expect("a pid");
    let uid = fs::read_to_string(format!("/proc/{pid}/status"))
        .expect("read")
        .lines()
        .find_map(|line| {
            line.strip_prefix("Uid:")?
                .split_whitespace()
                .next()?
                .parse::<u32>()
                .ok()
        })
        .expect("a uid");
    assert!(uid >= 65_536, "root inside is {uid} outside");
    world.finish();
}

#[test]
fn only_three_descriptors_are_open() {
    let (world, text) = probe("", "ls /proc/self/fd | wc -l; ls -l /proc/1/fd");
    // `ls` itself holds a fourth one on the folder it lists.
    assert!(
        text.lines()
            .any(|line| line.trim().ends_with(" 4") || line.trim() == "4"),
        "{text}"
    );
    assert!(
        text.contains("denied") || text.contains("total 0"),
        "init hides its own: {text}"
    );
    world.finish();
}

#[test]
fn kernel_files_are_masked_and_read_only() {
    let command = "for f in /proc/keys /proc/timer_list; do wc -c $f; done; \
                   echo x > /proc/sys/kernel/core_pattern; \
                   mkdir /sys/fs/cgroup/x; touch /sys/x; mknod /tmp/sda b 8 0; mount -t tmpfs t /mnt";
    let (world, text) = probe("", command);
    assert!(text.contains("0 /proc/timer_list"), "{text}");
    for word in ["core_pattern", "/sys/fs/cgroup/x", "/tmp/sda"] {
        let line = text
            .lines()
            .find(|line| line.contains(word))
            .unwrap_or_default();
        assert!(
            line.contains("Read-only") || line.contains("denied") || line.contains("not permitted"),
            "{word}: {text}"
        );
    }
    world.finish();
}

#[test]
fn what_the_policy_does_not_allow_is_refused_by_name() {
    let mut world = World::new();
    world.start();
    for (name, extra, word) in [
        ("priv", "  security: {privileged: true}\n", "privileged"),
        (
            "host",
            "  security: {user: {namespace: host}}\n",
            "namespace",
        ),
        (
            "dev",
            "  security: {devices: [{path: /dev/fuse, access: rwm}]}\n",
            "device",
        ),
        ("unconf", "  security: {seccomp: unconfined}\n", "seccomp"),
        ("bind", "  mounts: [{path: /x, source: /etc}]\n", "/etc"),
    ] {
        world.write(
            &format!("{name}.yaml"),
            &format!(
                "apiVersion: reconciler/v1\nkind: Container\nmetadata: {{name: {name}}}\nspec:\n  \
                 rootfs: {{directory: /srv/rootfs/busybox}}\n{extra}  processes:\n    - {{name: p, \
                 command: [/bin/sleep, \"1\"]}}\n"
            ),
        );
        eventually(&format!("{name} to be refused"), SOON, || {
            let text = String::from_utf8_lossy(&world.cli(&["status"]).stdout).into_owned();
            let told = text.contains(&format!("{name}.yaml")) && text.contains(word);
            if told && text.contains("policy") {
                Ok(())
            } else {
                Err(text)
            }
        });
        world.remove(&format!("{name}.yaml"));
    }
    world.finish();
}

/// Writes a configuration with one policy rule for everyone and returns a world under it.
fn world_under(rule: &str) -> World {
    let mut world = World::new();
    world.config(&format!("policy:\n  - {{name: tests, {rule}}}\n"));
    world
}

#[test]
fn what_a_rule_allows_is_granted() {
    let mut world = world_under("seccompUnconfined: true, hostUserNamespace: true");
    world.start();
    let text = said_by(
        &mut world,
        "  security: {seccomp: unconfined, user: {namespace: host}, noNewPrivileges: false}\n",
        "grep -E \"^(Seccomp|NoNew)\" /proc/self/status; cat /proc/self/uid_map",
    );
    assert!(text.contains("Seccomp:\t0"), "{text}");
    assert!(text.contains("NoNewPrivs:\t0"), "{text}");
    assert!(text.contains("4294967295"), "the host's ids: {text}");
    world.finish();
}

#[test]
fn the_host_network_is_shared_when_asked_for() {
    let mut world = World::new();
    world.start();
    let port = tests::host::free_port();
    let text = said_by(
        &mut world,
        "  network: {mode: host}\n",
        &format!(
            "httpd -f -p 127.0.0.1:{port} -h /www & sleep 0.2; \
             wget -q -O - http://127.0.0.1:{port}/index.html; ls /sys/class/net"
        ),
    );
    assert!(text.contains("hello from a container"), "{text}");
    until("the page to be served on the host", SOON, || {
        std::net::TcpStream::connect(("127.0.0.1", port)).is_ok()
    });
    world.finish();
}

#[test]
fn two_containers_share_no_ids_no_memory_and_no_ipc() {
    let mut world = World::new();
    world.start();
    for name in ["one", "two"] {
        world.write(
            &format!("{name}.yaml"),
            &format!(
                "apiVersion: reconciler/v1\nkind: Container\nmetadata: {{name: {name}}}\nspec:\n  \
                 rootfs: {{directory: /srv/rootfs/busybox}}\n  processes:\n    - name: p\n      command: \
                 [/bin/sh, -c, \"echo {name} > /dev/shm/{name}; exec sleep 100000\"]\n"
            ),
        );
    }
    let spaces = |name: &str| {
        let pid = world.wait_phase(name, "Running")["pid"]
            .as_u64()
            .expect("a pid");
        let links: Vec<_> = ["pid", "mnt", "ipc", "uts", "net", "user", "cgroup"]
            .iter()
            .map(|kind| fs::read_link(format!("/proc/{pid}/ns/{kind}")).expect("a namespace"))
            .collect();
        let map = fs::read_to_string(format!("/proc/{pid}/uid_map")).expect("a map");
        let shm = fs::read_dir(format!("/proc/{pid}/root/dev/shm"))
            .expect("list")
            .count();
        (links, map, shm)
    };
    let (one, two) = (spaces("one"), spaces("two"));
    for (left, right) in one.0.iter().zip(&two.0) {
        assert_ne!(left, right);
    }
    assert_ne!(one.1, two.1);
    assert_eq!((one.2, two.2), (1, 1));
    world.finish();
}

#[test]
fn state_and_sockets_are_closed_to_others() {
    use std::os::unix::fs::PermissionsExt as _;
    let (world, _) = probe("", "true");
    let mode =
        |path: std::path::PathBuf| fs::metadata(path).expect("stat").permissions().mode() & 0o777;
    assert_eq!(mode(world.path("run").join(world.instance())), 0o700);
    assert_eq!(mode(world.path("state").join(world.instance())), 0o700);
    assert_eq!(mode(world.socket()) & 0o007, 0);
    world.finish();
}

/// Soft and hard limit as the spec says them, and as `/proc/PID/limits` does.
const RLIMITS: [(&str, &str, &str, &str, &str); 14] = [
    (
        "as",
        "800Mi:900Mi",
        "address space",
        "838860800",
        "943718400",
    ),
    ("core", "1Mi:2Mi", "core file size", "1048576", "2097152"),
    ("cpu", "100s:200s", "cpu time", "100", "200"),
    ("data", "500Mi:600Mi", "data size", "524288000", "629145600"),
    ("fsize", "10Mi:20Mi", "file size", "10485760", "20971520"),
    ("locks", "10:20", "file locks", "10", "20"),
    ("memlock", "1Mi:2Mi", "locked memory", "1048576", "2097152"),
    (
        "msgqueue",
        "100Ki:200Ki",
        "msgqueue size",
        "102400",
        "204800",
    ),
    ("nofile", "100:200", "open files", "100", "200"),
    ("nproc", "50:60", "processes", "50", "60"),
    (
        "rss",
        "100Mi:200Mi",
        "resident set",
        "104857600",
        "209715200",
    ),
    ("rttime", "1s:2s", "realtime timeout", "1000000", "2000000"),
    ("sigpending", "70:80", "pending signals", "70", "80"),
    ("stack", "1Mi:2Mi", "stack size", "1048576", "2097152"),
];

#[test]
fn what_a_spec_says_of_a_process_is_what_the_process_has() {
    let mut world = World::new();
    world.start();
    let rlimits = RLIMITS.map(|(name, both, ..)| format!("{name}: '{both}'"));
    let text = format!(
        "apiVersion: reconciler/v1\nkind: Container\n\
         metadata: {{name: probe, labels: {{app: shop}}}}\nspec:\n  \
         rootfs: {{directory: /srv/rootfs/busybox}}\n  env: {{A: one, B: two}}\n  \
         security: {{capabilities: {{add: [NET_RAW]}}}}\n  processes:\n    - name: p\n      \
         command: [/bin/sh, -c, \"trap 'exit 7' INT; echo user $(id -u) $(id -g) $(pwd); while :; \
         do sleep 0.1; done\"]\n      user: '1000:1001'\n      workDir: /tmp\n      \
         env: {{B: three, C: four}}\n      stop: {{signal: INT}}\n      \
         restart: {{policy: never}}\n      rlimits: {{{}}}\n",
        rlimits.join(", ")
    );
    world.write("probe.yaml", &text);
    world.wait_phase("probe", "Running");
    let pid = world.pid("probe", "p").expect("a pid");
    let of = |file: &str| fs::read_to_string(format!("/proc/{pid}/{file}")).expect("read /proc");
    let limits = of("limits");
    for (name, _, row, soft, hard) in RLIMITS {
        let begin = format!("Max {row} ");
        let line = limits.lines().find_map(|line| line.strip_prefix(&begin));
        let words: Vec<&str> = line.unwrap_or_default().split_whitespace().collect();
        assert_eq!(words.get(..2), Some(&[soft, hard][..]), "{name}: {limits}");
    }
    let environ = of("environ");
    let set: Vec<&str> = environ.split('\0').collect();
    for variable in ["A=one", "B=three", "C=four"] {
        assert!(set.contains(&variable), "{variable} is not in {set:?}");
    }
    assert!(!set.contains(&"B=two"), "the process' own goes first");
    // NET_RAW is bit 13; without it the set ends in 05fb.
    assert!(of("status").contains("CapBnd:\t00000000800425fb"));
    until("it to have said who and where it is", SOON, || {
        let said = world.cli(&["logs", "probe"]).stdout;
        String::from_utf8_lossy(&said).contains("user 1000 1001 /tmp")
    });
    let listed = |selector: &str| {
        let found = world.cli(&["status", "-l", selector]).stdout;
        String::from_utf8_lossy(&found).contains("probe")
    };
    assert!(listed("app=shop") && !listed("app=other"));
    assert!(world.cli(&["stop", "probe"]).status.success());
    let status = world.wait_phase("probe", "Stopped");
    assert_eq!(status["processes"][0]["lastExit"], "exited 7", "by INT");
    world.finish();
}
