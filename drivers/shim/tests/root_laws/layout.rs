//! What is mounted inside, how, and what that forbids.

use std::fs;

use shim_proto::launch::{Assembly, Pair};

use crate::cgroups::OwnCgroups;
use crate::support::{Host, RANGE, Way, bind, bind_with, every_way, memory};

const HIDDEN: [&str; 5] = [
    "/proc/interrupts",
    "/proc/version",
    "/proc/driver",
    "/sys/firmware",
    "/no/such/path",
];
const READ_ONLY: [&str; 4] = ["/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

#[test]
fn the_mount_table_inside_is_exactly_what_was_asked_for() {
    every_way(|way| {
        let host = Host::new();
        let data = host.directory("shared");
        fs::write(host.path("one"), "one").unwrap();
        let mut launch = host.launch(way);
        launch.masked_paths = HIDDEN.map(str::to_owned).to_vec();
        launch.read_only_paths = READ_ONLY.map(str::to_owned).to_vec();
        launch.mounts = vec![
            bind("/data", &data),
            bind_with("/made/deep", &data, |mount, _| mount.read_only = true),
            bind("/etc/one", &host.path("one")),
            memory("/run", 1 << 20, 0o755),
            bind("/run/below", &data),
        ];
        let container = host.run(&launch);
        assert_eq!(container.assembly, way.assembly);
        let data_kind = kind_of(&data);
        let mut want: Vec<String> = [
            "/ rw,nodev,relatime overlay",
            "/dev rw,nosuid,relatime tmpfs",
            "/dev/mqueue rw,nosuid,nodev,noexec,relatime mqueue",
            "/dev/pts rw,nosuid,noexec,relatime devpts",
            "/dev/shm rw,nosuid,nodev,noexec,relatime tmpfs",
            "/proc rw,nosuid,nodev,noexec,relatime proc",
            "/proc/driver ro,nosuid,nodev,noexec,relatime tmpfs",
            "/proc/fs ro,nosuid,nodev,noexec,relatime proc",
            "/proc/interrupts ro,nosuid,noexec,relatime devtmpfs",
            "/proc/irq ro,nosuid,nodev,noexec,relatime proc",
            "/proc/sys ro,nosuid,nodev,noexec,relatime proc",
            "/proc/sysrq-trigger ro,nosuid,nodev,noexec,relatime proc",
            "/proc/version ro,nosuid,noexec,relatime devtmpfs",
            "/run rw,nosuid,nodev,relatime tmpfs",
            "/sys ro,nosuid,nodev,noexec,relatime sysfs",
            "/sys/firmware ro,nosuid,nodev,noexec,relatime tmpfs",
        ]
        .map(str::to_owned)
        .to_vec();
        want.push(format!("/data rw,nosuid,nodev,relatime {data_kind}"));
        want.push(format!("/etc/one rw,nosuid,nodev,relatime {data_kind}"));
        want.push(format!("/made/deep ro,nosuid,nodev,relatime {data_kind}"));
        want.push(format!("/run/below rw,nosuid,nodev,relatime {data_kind}"));
        // What this kernel does not have is passed over.
        want.retain(|line| {
            let path = line.split(' ').next().unwrap();
            !path.starts_with("/proc") || fs::exists(path).unwrap()
        });
        want.sort();
        let mut found = container.mounts();
        found.sort();
        assert_eq!(found, want, "{way:?}");
    });
}

/// Kind of the file system a path of the host is on.
fn kind_of(path: &std::path::Path) -> String {
    let output = std::process::Command::new("stat")
        .args(["-f", "-c", "%T"])
        .arg(path)
        .output()
        .unwrap();
    match String::from_utf8(output.stdout).unwrap().trim() {
        "ext2/ext3" => "ext4".to_owned(),
        other => other.to_owned(),
    }
}

#[test]
fn the_hosts_mount_table_never_changes() {
    // What every start and every end compare, to the byte, is seen to be the right thing.
    every_way(|way| {
        let host = Host::new();
        let data = host.directory("shared");
        let mut launch = host.launch(way);
        launch.mounts = vec![bind("/data", &data), memory("/run", 1 << 20, 0o755)];
        let container = host.run(&launch);
        container.inside("mount -t tmpfs none /data");
        let of = |pid: &str| {
            let read = |name: &str| fs::read_to_string(format!("/proc/{pid}/{name}")).unwrap();
            (
                read("mountinfo"),
                fs::read_link(format!("/proc/{pid}/ns/mnt")).unwrap(),
            )
        };
        let (probe, inside) = (of(&container.host_pid()), of(&container.pid));
        assert!(probe.0.contains(" shared:"), "{}", probe.0);
        assert!(!inside.0.contains(" shared:"), "{}", inside.0);
        assert_ne!(probe.1, inside.1);
        assert!(!probe.0.contains("overlay"), "{}", probe.0);
    });
}

#[test]
fn read_only_and_masked_paths_hold() {
    every_way(|way| {
        let host = Host::new();
        let mut launch = host.launch(way);
        launch.masked_paths = HIDDEN.map(str::to_owned).to_vec();
        launch.masked_paths.push("/etc/plain".to_owned());
        launch.read_only_paths = READ_ONLY.map(str::to_owned).to_vec();
        launch.read_only_paths.push("/etc".to_owned());
        let container = host.run(&launch);
        assert_eq!(
            container.inside("cat /proc/interrupts /proc/version /etc/plain"),
            ""
        );
        assert_eq!(
            container.inside("ls -A /proc/driver /sys/firmware | grep -v : | cat"),
            "\n"
        );
        for path in [
            "/proc/sys/kernel/core_pattern",
            "/proc/sysrq-trigger",
            "/etc/new",
        ] {
            if path.starts_with("/proc") && !fs::exists(path).unwrap() {
                continue;
            }
            container.fails_inside(&format!("echo x > {path}"), "Read-only file system");
        }
        container.fails_inside("touch /sys/firmware/x", "Read-only file system");
        container.fails_inside("echo x > /sys/kernel/uevent_helper", "");
        container.fails_inside("mkdir /proc/driver/x", "Read-only file system");
        container.inside("touch /elsewhere");
        // What hides is the host's null device, whatever becomes of the container's.
        container.inside("rm /dev/null; ln -s /bin/busybox /dev/null");
        assert_eq!(
            container.inside("cat /proc/interrupts /proc/version /etc/plain"),
            ""
        );
    });
}

#[test]
fn a_read_only_root_takes_no_writes_but_its_mounts_do() {
    every_way(|way| {
        let host = Host::new();
        let data = host.directory("shared");
        let mut launch = host.launch(way);
        launch.root.as_mut().unwrap().read_only = true;
        launch.mounts = vec![bind("/made/new", &data), memory("/tmp", 1 << 20, 0o1777)];
        let container = host.run(&launch);
        container.fails_inside("touch /x", "Read-only file system");
        container.fails_inside("echo x > /etc/plain", "Read-only file system");
        container.inside("touch /made/new/x /tmp/x /dev/shm/x");
        assert!(data.join("x").exists());
    });
}

#[test]
fn standard_devices_work_and_belong_to_the_containers_root() {
    every_way(|way| {
        let host = Host::new();
        let mut launch = host.launch(way);
        launch.devices = vec!["/dev/full".to_owned(), "/dev/loop-control".to_owned()];
        let extra = fs::exists("/dev/loop-control").unwrap();
        if !extra {
            launch.devices.pop();
        }
        let container = host.run(&launch);
        assert_eq!(container.inside("echo x > /dev/null; cat /dev/null"), "");
        assert_eq!(
            container.inside("head -c 3 /dev/zero | od -An -tx1").trim(),
            "00 00 00"
        );
        container.fails_inside("echo x > /dev/full", "No space left");
        let bytes = "head -c 16 /dev/random | wc -c; head -c 16 /dev/urandom | wc -c";
        assert_eq!(container.inside(bytes), "16\n16\n");
        let listed = "cd /dev; stat -c '%n %F %t:%T %a %u:%g' null zero full random urandom tty";
        let want = "null character special file 1:3 666 0:0\n\
            zero character special file 1:5 666 0:0\n\
            full character special file 1:7 666 0:0\n\
            random character special file 1:8 666 0:0\n\
            urandom character special file 1:9 666 0:0\n\
            tty character special file 5:0 666 0:0\n";
        assert_eq!(container.inside(listed), want);
        let links = "cd /dev; for x in ptmx fd stdin stdout stderr; do readlink $x; done";
        let want = "pts/ptmx\n/proc/self/fd\n/proc/self/fd/0\n/proc/self/fd/1\n/proc/self/fd/2\n";
        assert_eq!(container.inside(links), want);
        // A terminal of its own devpts, owned by group tty.
        let terminal = "exec 9<>/dev/ptmx; ls /dev/pts; stat -c %g /dev/pts/0; ls -ld /dev/pts";
        let said = container.inside(terminal);
        assert!(said.starts_with("0\nptmx\n5\n"), "{said}");
        let shm = "stat -c '%a %u' /dev/shm; df -k /dev/shm | grep -o ' 65536 '; ls /dev/core";
        let said = container.try_inside(shm).1;
        assert!(said.starts_with("1777 0\n 65536 \n"), "{said}");
        assert!(said.contains("No such file"), "{said}");
        if extra {
            let said = container.inside("stat -c '%F %t:%T' /dev/loop-control");
            assert_eq!(said, "character special file a:ed\n");
        }
    });
}

#[test]
fn device_nodes_of_images_and_volumes_are_dead() {
    every_way(|way| {
        let host = Host::new();
        let data = host.directory("shared");
        let node = |path: &std::path::Path| {
            let kind = rustix::fs::FileType::CharacterDevice;
            let device = rustix::fs::makedev(1, 5);
            rustix::fs::mknodat(rustix::fs::CWD, path, kind, 0o666.into(), device).unwrap();
        };
        node(&host.image().join("zero"));
        node(&data.join("zero"));
        let mut launch = host.launch(way);
        launch.mounts = vec![bind("/data", &data)];
        let container = host.run(&launch);
        container.fails_inside("head -c 1 /zero", "Permission denied");
        container.fails_inside("head -c 1 /data/zero", "Permission denied");
    });
}

#[test]
fn a_devices_path_has_to_be_a_device_below_dev() {
    let host = Host::new();
    let way = Way {
        assembly: Assembly::Classic,
        ids: None,
    };
    let check = |device: &str, why: &str| {
        let mut launch = host.launch(way);
        launch.devices = vec![device.to_owned()];
        let failure = host.refused(&launch);
        assert!(
            failure.contains("Terminal") && failure.contains(why),
            "{failure}"
        );
    };
    check("/dev/no-such-device", "No such file");
    check("/dev/shm", "it is no device");
    check("/etc/passwd", "not below /dev");
    check("/dev/../etc/passwd", "leads out of /dev");
    check("/dev/../../../../dev/zero", "leads out of /dev");
}

#[test]
fn sysctls_reach_the_containers_namespaces_only() {
    let read = |path: &str| fs::read_to_string(path).unwrap();
    every_way(|way| {
        let host = Host::new();
        let before = read("/proc/sys/net/ipv4/ip_default_ttl");
        let mut launch = host.launch(way);
        let pair = |name: &str, value: &str| Pair {
            name: name.into(),
            value: value.into(),
        };
        launch.sysctls = vec![pair("net.ipv4.ip_default_ttl", "77")];
        launch.read_only_paths = vec!["/proc/sys".to_owned()];
        let container = host.run(&launch);
        assert_eq!(
            container.inside("cat /proc/sys/net/ipv4/ip_default_ttl"),
            "77\n"
        );
        assert_eq!(read("/proc/sys/net/ipv4/ip_default_ttl"), before);
        drop(container);

        for (name, value) in [
            ("kernel.core_pattern", "|/x"),
            ("vm.swappiness", "1"),
            ("net.ipv4.no_such_setting", "1"),
            ("net.ipv4.ip_default_ttl", "many"),
            ("net.ipv4.ip_default_ttl", "1\nkernel.core_pattern=x"),
        ] {
            let mut launch = host.launch(way);
            launch.sysctls = vec![pair(name, value)];
            let failure = host.refused(&launch);
            assert!(failure.contains(&format!("cannot set {name}")), "{failure}");
        }
        let mut launch = host.launch(way);
        launch.host_network = true;
        launch.sysctls = vec![pair("net.ipv4.ip_default_ttl", "77")];
        assert!(host.refused(&launch).contains("the network is the host's"));
        assert_eq!(read("/proc/sys/net/ipv4/ip_default_ttl"), before);
    });
}

#[test]
fn the_hosts_network_comes_with_a_read_only_sysfs() {
    every_way(|way| {
        let host = Host::new();
        let mut launch = host.launch(way);
        launch.host_network = true;
        let container = host.run(&launch);
        let sys = "/sys ro,nosuid,nodev,noexec,relatime sysfs".to_owned();
        assert!(
            container.mounts().contains(&sys),
            "{way:?}: {:?}",
            container.mounts()
        );
        container.fails_inside("echo 1 > /sys/kernel/mm/ksm/run", "");
        let count = fs::read_dir("/sys/class/net").unwrap().count();
        assert_eq!(
            container.inside("ls /sys/class/net | wc -l").trim(),
            count.to_string()
        );
    });
}

#[test]
fn the_containers_cgroup_is_there_and_read_only() {
    every_way(|way| {
        let host = Host::new();
        let own = OwnCgroups::make();
        let mut launch = host.launch(way);
        launch.cgroups = own.directories();
        let container = host.run(&launch);
        for name in own.names_inside() {
            container.inside(&format!("cat /sys/fs/cgroup/{name}cgroup.procs"));
            let write = format!("echo 1 > /sys/fs/cgroup/{name}cgroup.procs");
            container.fails_inside(&write, "Read-only file system");
            let mkdir = format!("mkdir /sys/fs/cgroup/{name}new");
            container.fails_inside(&mkdir, "Read-only file system");
            // The parent's siblings and version 1's release agent are not to be seen at all.
            container.fails_inside(&format!("ls /sys/fs/cgroup/{name}release_agent"), "No such");
        }
    });
}

#[test]
fn a_privileged_container_has_all_devices_and_no_masks() {
    every_way(|way| {
        let host = Host::new();
        let mut launch = host.launch(way);
        launch.privileged = true;
        launch.masked_paths = vec!["/proc/interrupts".to_owned(), "/etc/plain".to_owned()];
        launch.read_only_paths = vec!["/proc/sys".to_owned()];
        let container = host.run(&launch);
        assert!(!container.inside("cat /proc/interrupts").is_empty());
        assert_eq!(container.inside("cat /etc/plain"), "");
        let mounts = container.mounts();
        let sys = "/sys rw,nosuid,nodev,noexec,relatime sysfs";
        assert!(mounts.contains(&sys.to_owned()), "{mounts:?}");
        assert!(
            !mounts.iter().any(|mount| mount.starts_with("/proc/sys ")),
            "{mounts:?}"
        );
        let mut missing = Vec::new();
        for entry in fs::read_dir("/dev").unwrap() {
            let entry = entry.unwrap();
            let kind = entry.file_type().unwrap();
            if !kind.is_dir() && !kind.is_symlink() && !kind.is_file() {
                let name = entry.file_name().into_string().unwrap();
                let node = container.root().join("dev").join(&name);
                if !node.exists() && !std::os::unix::fs::FileTypeExt::is_socket(&kind) {
                    missing.push(name);
                }
            }
        }
        assert_eq!(missing, Vec::<String>::new());
    });
}

#[test]
fn a_container_that_may_mount_cannot_unlock_its_binds() {
    let host = Host::new();
    let data = host.directory("shared");
    let way = Way {
        assembly: Assembly::Auto,
        ids: Some(RANGE),
    };
    let mut launch = host.launch(way);
    launch.capabilities = u64::MAX;
    launch.mounts = vec![bind_with("/data", &data, |mount, _| mount.read_only = true)];
    let container = host.run(&launch);
    assert_eq!(container.assembly, Assembly::Classic);
    container.fails_inside("touch /data/x", "Read-only file system");
    let (is_well, _) = container.try_inside("mount -o remount,bind,rw /data");
    assert!(!is_well);
    let (is_well, _) = container.try_inside("umount /data");
    assert!(!is_well);
    assert_eq!(fs::read_dir(&data).unwrap().count(), 0);
}

#[test]
fn auto_takes_the_detached_way_where_the_kernel_has_it() {
    let host = Host::new();
    for ids in [None, Some(RANGE)] {
        let container = host.run(&host.launch(Way {
            assembly: Assembly::Auto,
            ids,
        }));
        let detached = host.start(&host.launch(Way {
            assembly: Assembly::Detached,
            ids,
        }));
        let want = if detached.is_ok() {
            Assembly::Detached
        } else {
            Assembly::Classic
        };
        assert_eq!(container.assembly, want);
    }
}

#[test]
fn shared_memory_and_queues_are_the_containers_own() {
    every_way(|way| {
        let host = Host::new();
        let one = host.run(&host.launch(way));
        let two = host.run(&host.launch(way));
        one.inside("echo secret > /dev/shm/a; touch /dev/mqueue/q");
        assert_eq!(
            two.inside("ls -A /dev/shm /dev/mqueue"),
            "/dev/mqueue:\n\n/dev/shm:\n"
        );
        assert!(!fs::exists("/dev/shm/a").unwrap());
    });
}

#[test]
fn no_descriptor_is_left_in_the_shim_or_given_to_the_container() {
    every_way(|way| {
        let host = Host::new();
        let mut launch = host.launch(way);
        launch.mounts = vec![bind("/data", &host.directory("shared"))];
        launch.masked_paths = HIDDEN.map(str::to_owned).to_vec();
        let mut container = host.run(&launch);
        // The init's pidfd, and the user namespace's descriptor where there is one.
        let kept = 1 + usize::from(way.ids.is_some());
        let answer = container.ask("fds");
        assert!(answer.starts_with(&format!("ok {kept} ")), "{answer}");
        for entry in fs::read_dir(format!("/proc/{}/fd", container.pid)).unwrap() {
            let number = entry.unwrap().file_name().into_string().unwrap();
            let link = |pid: &str| fs::read_link(format!("/proc/{pid}/fd/{number}")).ok();
            // Whoever runs the tests may have left some open (a job server's pipe).
            let is_given = link(&container.pid) == link("self");
            let is_standard = matches!(number.as_str(), "0" | "1" | "2");
            assert!(
                is_standard || is_given,
                "{number}: {:?}",
                link(&container.pid)
            );
        }
        let cwd = fs::read_link(format!("/proc/{}/cwd", container.pid)).unwrap();
        assert_eq!(cwd, std::path::Path::new("/"));
    });
}
