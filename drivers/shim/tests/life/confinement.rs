//! What a process of the container holds and is held by.

use shim_proto::launch::{Assembly, Process};
use shim_proto::message::{Ask, FailureKind};

use crate::world::{World, can_run, script, wait_for};

const STATUS: &str = "cat /proc/self/status";

fn field(status: &str, name: &str) -> String {
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix(name))
        .unwrap_or_default();
    line.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[test]
fn a_process_holds_three_descriptors() {
    if !can_run() {
        return;
    }
    let world = World::launched();
    let mut client = world.client();
    let text = "for i in $(seq 0 200); do [ -L /proc/self/fd/$i ] && echo $i; done; true";
    let (_, output) = client.run(&world, "fds", text);
    assert_eq!(output, "0\n1\n2\n");
    let (_, cwd) = client.run(&world, "cwd", "pwd; cat <&0; echo end");
    assert_eq!(cwd, "/\nend\n");
    world.end();
}

#[test]
fn root_keeps_what_was_granted_and_others_have_nothing() {
    if !can_run() {
        return;
    }
    let world = World::launched();
    let mut client = world.client();
    // Without a shell, which ignores signals of its own.
    let command = vec!["cat".into(), "/proc/self/status".into()];
    client.start(Process {
        command,
        ..script("root", "")
    });
    client.exit_of("root");
    let root = world.output("root");
    for name in ["CapPrm:", "CapEff:", "CapBnd:"] {
        assert_eq!(field(&root, name), "00000000000000c0", "{name}");
    }
    for name in ["CapInh:", "CapAmb:"] {
        assert_eq!(field(&root, name), "0000000000000000", "{name}");
    }
    assert_eq!(field(&root, "NoNewPrivs:"), "1");
    for name in ["SigBlk:", "SigIgn:", "SigCgt:"] {
        assert_eq!(field(&root, name), "0000000000000000", "{name}");
    }
    client.start(Process {
        user: "web".into(),
        ..script("web", STATUS)
    });
    client.exit_of("web");
    let web = world.output("web");
    assert_eq!(field(&web, "Uid:"), "1000 1000 1000 1000");
    assert_eq!(field(&web, "Gid:"), "1001 1001 1001 1001");
    assert_eq!(field(&web, "Groups:"), "50 1001");
    for name in ["CapInh:", "CapPrm:", "CapEff:", "CapAmb:"] {
        assert_eq!(field(&web, name), "0000000000000000", "{name}");
    }
    world.end();
}

/// Answers `mkdir` with that error and allows the rest (x86-64).
fn no_mkdir(errno: u32) -> Vec<u8> {
    let instruction = |code: u16, jt: u8, jf: u8, k: u32| {
        let mut bytes = code.to_ne_bytes().to_vec();
        bytes.extend([jt, jf]);
        bytes.extend(k.to_ne_bytes());
        bytes
    };
    [
        instruction(0x20, 0, 0, 0), // load the number
        instruction(0x15, 0, 1, u32::try_from(libc::SYS_mkdir).unwrap()),
        instruction(0x06, 0, 0, 0x0005_0000 | errno), // SECCOMP_RET_ERRNO
        instruction(0x06, 0, 0, 0x7fff_0000),         // SECCOMP_RET_ALLOW
    ]
    .concat()
}

#[test]
fn filters_hold_with_and_without_new_privileges() {
    if !can_run() {
        return;
    }
    for no_new_privileges in [true, false] {
        let mut world = World::new();
        world.launch.no_new_privileges = no_new_privileges;
        world.launch.seccomp = vec![
            no_mkdir(libc::EPERM.unsigned_abs()),
            no_mkdir(libc::EXDEV.unsigned_abs()),
        ];
        world.launch();
        let mut client = world.client();
        for user in ["root", "web"] {
            let text = "mkdir /tmp/x 2>&1; cat /proc/self/status";
            client.start(Process {
                user: user.into(),
                ..script(user, text)
            });
            client.exit_of(user);
            let output = world.output(user);
            // On equal footing the filter that was installed last wins.
            assert!(output.contains("ross-device"), "{output}");
            assert_eq!(field(&output, "Seccomp_filters:"), "2");
            assert_eq!(
                field(&output, "NoNewPrivs:"),
                u8::from(no_new_privileges).to_string()
            );
            let kept = if user == "root" {
                "00000000000000c0"
            } else {
                "0000000000000000"
            };
            assert_eq!(field(&output, "CapEff:"), kept);
            assert_eq!(field(&output, "CapPrm:"), kept);
        }
        world.end();
    }
}

#[test]
fn the_container_is_a_world_of_its_own() {
    if !can_run() {
        return;
    }
    let world = World::launched();
    let mut client = world.client();
    let (_, inside) = client.run(&world, "ps", "echo $$; cat /proc/sys/kernel/hostname");
    let mut lines = inside.lines();
    assert!(lines.next().unwrap().parse::<u32>().unwrap() < 20);
    assert_eq!(lines.next(), Some("inside"));
    let (init, _) = world.id("init.id").unwrap();
    for name in ["user", "mnt", "pid", "ipc", "uts", "cgroup", "net"] {
        let of = |pid: &str| std::fs::read_link(format!("/proc/{pid}/ns/{name}")).unwrap();
        assert_ne!(of(&init.to_string()), of("self"), "{name}");
    }
    let map = std::fs::read_to_string(format!("/proc/{init}/uid_map")).unwrap();
    assert_eq!(
        map.split_whitespace().collect::<Vec<_>>(),
        ["0", "300000", "65536"]
    );
    // Pid 1 is of no use to anybody inside: its descriptors and its program are out of reach.
    let (_, peek) = client.run(
        &world,
        "peek",
        "cat /proc/1/exe 2>&1 | head -c 200; cat /proc/1/environ 2>&1",
    );
    assert!(peek.matches("ermission denied").count() == 2, "{peek}");
    let (_, names) = client.run(&world, "names", "cat /proc/1/cmdline | tr '\\0' ' '; true");
    assert!(
        !names.contains(world.directory().to_str().unwrap()),
        "{names}"
    );
    world.end();
}

#[test]
fn the_init_holds_nothing_of_the_host() {
    if !can_run() {
        return;
    }
    let world = World::launched();
    let (init, _) = world.id("init.id").unwrap();
    let held: Vec<String> = std::fs::read_dir(format!("/proc/{init}/fd"))
        .unwrap()
        .filter_map(|entry| std::fs::read_link(entry.ok()?.path()).ok())
        .map(|target| target.to_str().unwrap().to_owned())
        .filter(|target| {
            !["socket:", "pipe:", "anon_inode:"]
                .iter()
                .any(|k| target.starts_with(k))
        })
        .collect();
    let exits = world.directory().join("exits");
    let is_known = |target: &String| {
        target == "/dev/null"
            || target == exits.to_str().unwrap()
            || ["/proc", "/dev/pts"].contains(&target.as_str())
    };
    assert!(held.iter().all(is_known), "{held:?}");
    world.end();
}

#[test]
fn cgroups_hold_the_init_from_its_first_moment() {
    if !can_run() {
        return;
    }
    let mut world = World::new();
    let unified = world.add_cgroup("unified", true);
    let pids = world.add_cgroup("pids", false);
    std::fs::write(pids.join("pids.max"), "40").unwrap();
    world.launch();
    let (init, _) = world.id("init.id").unwrap();
    let membership = std::fs::read_to_string(format!("/proc/{init}/cgroup")).unwrap();
    let leaf = format!("/rxshim-{}", world.name);
    for hierarchy in [":pids:", "0::"] {
        let line = membership
            .lines()
            .find(|line| line.contains(hierarchy))
            .unwrap();
        assert!(line.ends_with(&leaf), "{line}");
    }
    let mut client = world.client();
    let (_, inside) = client.run(&world, "see", "cat /proc/self/cgroup");
    let line = inside.lines().find(|line| line.starts_with("0::")).unwrap();
    assert_eq!(
        line, "0::/",
        "the cgroup namespace begins where the init stands"
    );
    let (shim, _) = world.id("shim.id").unwrap();
    let outside = std::fs::read_to_string(format!("/proc/{shim}/cgroup")).unwrap();
    assert!(
        !outside.contains(&leaf),
        "the shim is not counted to the container"
    );
    std::fs::write(pids.join("pids.max"), "1").unwrap();
    let failure = client.refused(Ask::Start(script("more", "true")));
    assert_eq!(failure.kind(), FailureKind::Retry, "{failure:?}");
    std::fs::write(pids.join("pids.max"), "max").unwrap();
    world.end();
    for cgroup in [unified, pids] {
        wait_for("the cgroup to empty", || std::fs::remove_dir(&cgroup).ok());
    }
}

#[test]
fn every_way_of_making_a_container_works_and_leaves_no_mount() {
    if !can_run() {
        return;
    }
    let mounts = |world: &World| {
        let table = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
        let place = world.path("root");
        table.matches(place.to_str().unwrap()).count()
    };
    for assembly in [Assembly::Detached, Assembly::Classic] {
        for (own_ids, host_network) in [(true, false), (true, true), (false, false), (false, true)]
        {
            let mut world = World::new();
            world.launch.assembly = assembly as i32;
            world.launch.host_network = host_network;
            let cgroup = world.add_cgroup("unified", true);
            world.add_cgroup("pids", false);
            if !own_ids {
                world.launch.user_namespace = None;
                // Capabilities that nobody on this host has are left out, not an error.
                world.launch.capabilities = u64::MAX;
            }
            world.launch();
            let (init, _) = world.id("init.id").unwrap();
            let same = |name: &str| {
                let of = |pid: &str| std::fs::read_link(format!("/proc/{pid}/ns/{name}")).unwrap();
                of(&init.to_string()) == of("self")
            };
            assert_eq!((same("user"), same("net")), (!own_ids, host_network));
            assert!(!same("mnt") && !same("pid"));
            let (shim, _) = world.id("shim.id").unwrap();
            let home = std::fs::read_link(format!("/proc/{shim}/ns/mnt")).unwrap();
            assert_eq!(home, std::fs::read_link("/proc/self/ns/mnt").unwrap());
            let mut client = world.client();
            let (exit, output) = client.run(&world, "p", "echo hi > /tmp/x; cat /tmp/x; exit 3");
            assert_eq!(
                (exit.value, output.as_str()),
                (3, "hi\n"),
                "{assembly:?} {own_ids}"
            );
            assert_eq!(mounts(&world), 0);
            world.end();
            assert_eq!(
                std::fs::read_to_string(cgroup.join("cgroup.procs")).unwrap(),
                ""
            );
        }
    }
}
