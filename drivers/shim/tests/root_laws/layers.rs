//! What is written where, and whose it is.

use std::fs;
use std::os::unix::fs::{MetadataExt, chown};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use shim_proto::launch::{IdRange, Root};

use crate::support::{Container, Host, RANGE, Way, bind, bind_with, every_way, text};

/// Owner on the host.
fn owner(path: &Path) -> (u32, u32) {
    let of = fs::symlink_metadata(path).unwrap();
    (of.uid(), of.gid())
}

/// The overlay's line of the mount table inside.
fn overlay(container: &Container) -> String {
    let table = container.inside("cat /proc/self/mountinfo");
    table
        .lines()
        .find(|line| line.contains(" - overlay "))
        .unwrap()
        .to_owned()
}

#[test]
fn writes_go_to_the_upper_and_the_image_stays_as_it_is() {
    every_way(|way| {
        let host = Host::new();
        let before = host.digest(&host.image());
        let launch = host.launch(way);
        let container = host.run(&launch);
        container.inside(
            "echo new > /new; echo more >> /etc/plain; rm /etc/group; mkdir -p /a/b; \
             mv /etc/passwd /etc/moved; chmod 600 /bin/busybox; rm -r /data; mkdir /data",
        );
        drop(container);
        let upper = std::path::PathBuf::from(&launch.root.as_ref().unwrap().upper);
        assert_eq!(fs::read_to_string(upper.join("new")).unwrap(), "new\n");
        assert_eq!(
            fs::read_to_string(upper.join("etc/plain")).unwrap(),
            "of the image\nmore\n"
        );
        assert_eq!(host.digest(&host.image()), before, "{way:?}");
    });
}

#[test]
fn ids_of_the_image_are_the_same_inside_and_the_ranges_outside() {
    every_way(|way| {
        let host = Host::new();
        fs::write(host.image().join("hers"), "hers").unwrap();
        chown(host.image().join("hers"), Some(1000), Some(1001)).unwrap();
        let launch = host.launch(way);
        let container = host.run(&launch);
        let owners = "stat -c '%u:%g' / /etc/plain /hers /dev /data";
        let said = container.inside(owners);
        assert_eq!(said, "0:0\n0:0\n1000:1001\n0:0\n0:0\n", "{way:?}");
        container.inside("echo more >> /hers; touch /made; chown 1000:7 /made");
        assert_eq!(
            container.inside("stat -c '%u:%g' /hers /made"),
            "1000:1001\n1000:7\n"
        );
        let base = way.ids.map_or(0, |ids| ids.base);
        let upper = std::path::PathBuf::from(&launch.root.as_ref().unwrap().upper);
        assert_eq!(owner(&upper.join("hers")), (base + 1000, base + 1001));
        assert_eq!(owner(&upper.join("made")), (base + 1000, base + 7));
        assert_eq!(owner(&host.image().join("hers")), (1000, 1001));
    });
}

#[test]
fn a_persistent_upper_does_not_depend_on_the_id_range() {
    every_way(|way| {
        let host = Host::new();
        let upper = host.path("kept/upper");
        let work = host.path("kept/work");
        fs::create_dir_all(&upper).unwrap();
        fs::create_dir_all(&work).unwrap();
        let launch = |ids: Option<IdRange>| {
            let mut launch = host.launch(way);
            launch.user_namespace = ids;
            launch.root = Some(Root {
                lower: text(&host.image()),
                upper: text(&upper),
                work: text(&work),
                read_only: false,
                persistent: true,
                image: String::new(),
            });
            launch.mounts = vec![bind("/made/point", &host.directory("shared"))];
            launch
        };
        let container = host.run(&launch(way.ids));
        container.inside("echo one > /one; chown 1000:1001 /one; echo more >> /etc/plain");
        container.inside("mkdir /d; touch /d/x; mv /d /e; rm /etc/group; ln /one /linked");
        assert!(!overlay(&container).contains("volatile"));
        drop(container);
        assert_eq!(owner(&upper.join("one")), (1000, 1001), "{way:?}");
        assert_eq!(owner(&upper.join("etc/plain")), (0, 0), "{way:?}");
        assert_eq!(owner(&upper.join("made")), (0, 0), "{way:?}");

        let next = way.ids.map(|ids| IdRange {
            base: ids.base + ids.count,
            ..ids
        });
        let container = host.run(&launch(next));
        assert_eq!(
            container.inside("cat /one; stat -c '%u:%g' /one /made"),
            "one\n1000:1001\n0:0\n"
        );
        assert_eq!(container.inside("cat /etc/plain"), "of the image\nmore\n");
        container.inside("echo two >> /one; rm /linked; touch /e/y; rm -r /e; mkdir /d");
        container.fails_inside("cat /etc/group", "No such file");
        drop(container);
        assert_eq!(fs::read_to_string(upper.join("one")).unwrap(), "one\ntwo\n");
        assert_eq!(owner(&upper.join("d")), (0, 0));
    });
}

#[test]
fn a_start_given_up_does_not_spoil_the_next() {
    every_way(|way| {
        let host = Host::new();
        let launch = host.launch(way);
        for _ in 0..3 {
            let container = host.run(&launch);
            container.inside("touch /x");
            assert!(overlay(&container).contains("volatile"));
        }
    });
}

#[test]
fn binds_are_writable_or_read_only_as_asked_and_never_trusted() {
    every_way(|way| {
        let host = Host::new();
        let shared = host.directory("shared");
        fs::write(shared.join("in"), "from the host").unwrap();
        fs::write(host.path("one"), "one").unwrap();
        let mut launch = host.launch(way);
        launch.mounts = vec![
            bind("/rw", &shared),
            bind_with("/ro", &shared, |mount, _| mount.read_only = true),
            bind_with("/etc/one", &host.path("one"), |mount, _| {
                mount.read_only = true
            }),
        ];
        let container = host.run(&launch);
        container.inside("echo x > /rw/out");
        assert_eq!(container.inside("cat /ro/in /etc/one"), "from the hostone");
        container.fails_inside("echo x > /ro/new", "Read-only file system");
        container.fails_inside("echo x > /etc/one", "Read-only file system");
        assert_eq!(fs::read_to_string(shared.join("out")).unwrap(), "x\n");
        let base = way.ids.map_or(0, |ids| ids.base);
        assert_eq!(owner(&shared.join("out")), (base, base));
        drop(container);

        let mut launch = host.launch(way);
        launch.mounts = vec![bind("/etc/plain", &shared)];
        assert!(
            host.refused(&launch)
                .contains("a directory cannot be mounted on a file")
        );
        launch.mounts = vec![bind("/etc", &host.path("one"))];
        assert!(
            host.refused(&launch)
                .contains("a file cannot be mounted on a directory")
        );
    });
}

#[test]
fn an_id_mapped_bind_holds_the_ids_inside() {
    every_way(|way| {
        let host = Host::new();
        let shared = host.directory("shared");
        fs::write(shared.join("hers"), "hers").unwrap();
        chown(shared.join("hers"), Some(1000), Some(1001)).unwrap();
        let mut launch = host.launch(way);
        launch.mounts = vec![
            bind_with("/mapped", &shared, |_, bind| bind.id_mapped = true),
            bind("/plain", &shared),
        ];
        let container = host.run(&launch);
        assert_eq!(
            container.inside("stat -c '%u:%g' /mapped/hers"),
            "1000:1001\n"
        );
        container.inside("touch /mapped/x; chown 1000 /mapped/x");
        assert_eq!(owner(&shared.join("x")), (1000, 0));
        let plain = container.inside("stat -c '%u' /plain/hers");
        assert_eq!(
            plain.trim(),
            if way.ids.is_some() { "65534" } else { "1000" }
        );
    });
}

#[test]
fn what_cannot_be_id_mapped_is_named_with_the_reason() {
    every_way(|way| {
        if way.ids.is_none() {
            return;
        }
        let host = Host::new();
        let mut launch = host.launch(way);
        let sysfs = Path::new("/sys/kernel");
        launch.mounts = vec![bind_with("/data", sysfs, |_, bind| bind.id_mapped = true)];
        let failure = host.refused(&launch);
        assert!(failure.contains("Terminal cannot mount /data"), "{failure}");
        assert!(
            failure.contains("the ids of /sys/kernel cannot be mapped"),
            "{failure}"
        );
        assert!(failure.contains("its file system cannot be"), "{failure}");
        let mut launch = host.launch(way);
        launch.root.as_mut().unwrap().lower = text(sysfs);
        let failure = host.refused(&launch);
        assert!(
            failure.contains("the ids of /sys/kernel cannot be mapped"),
            "{failure}"
        );
    });
}

#[test]
fn what_a_launch_lacks_is_said() {
    every_way(|way| {
        let host = Host::new();
        let mut launch = host.launch(way);
        launch.root = None;
        assert!(
            host.refused(&launch)
                .contains("the launch description has none")
        );
        let mut launch = host.launch(way);
        launch.root.as_mut().unwrap().lower = text(&host.path("missing"));
        let failure = host.refused(&launch);
        assert!(
            failure.contains("Retry") && failure.contains("missing"),
            "{failure}"
        );
        let mut launch = host.launch(way);
        launch.root.as_mut().unwrap().lower = text(&host.image().join("etc/plain"));
        assert!(host.refused(&launch).contains("Not a directory"));
        let mut launch = host.launch(way);
        launch.mounts = vec![crate::support::memory("/run", 0, 0o755)];
        assert!(host.refused(&launch).contains("its size limit is 0"));
    });
    assert_eq!(RANGE.count, 65_536);
}

#[test]
fn memory_has_the_size_mode_and_owner_asked_for() {
    every_way(|way| {
        let host = Host::new();
        let mut launch = host.launch(way);
        launch.mounts = vec![
            crate::support::memory("/run", 1 << 20, 0o1777),
            crate::support::memory("/dev/shm", 2 << 20, 0o700),
        ];
        let container = host.run(&launch);
        assert_eq!(
            container.inside("stat -c '%a %u:%g' /run /dev/shm"),
            "1777 0:0\n700 0:0\n"
        );
        container.inside("dd if=/dev/zero of=/run/x bs=1k count=1000");
        container.fails_inside(
            "dd if=/dev/zero of=/run/x bs=1k count=1100",
            "No space left",
        );
        container.inside("dd if=/dev/zero of=/dev/shm/x bs=1k count=2000");
        let mounts = container.mounts();
        assert_eq!(
            mounts.iter().filter(|m| m.starts_with("/dev/shm ")).count(),
            1
        );
    });
}

/// Makes an image as the daemon does, with directories for the root of the ids.
fn disk_image(host: &Host, way: Way, mebibytes: u64) -> PathBuf {
    let path = host.path("disk.img");
    let seed = host.path("seed");
    let base = way.ids.map(|ids| ids.base);
    for name in ["upper", "work"] {
        fs::create_dir_all(seed.join(name)).unwrap();
        chown(seed.join(name), base, base).unwrap();
    }
    let file = fs::File::create(&path).unwrap();
    file.set_len(mebibytes << 20).unwrap();
    let done = Command::new("/usr/sbin/mkfs.ext4")
        .args(["-q", "-F", "-m", "0", "-O", "^has_journal", "-d"])
        .args([&seed, &path])
        .status();
    assert!(done.unwrap().success());
    path
}

fn devices_of(path: &Path) -> usize {
    let mut count = 0;
    for entry in fs::read_dir("/sys/block").unwrap() {
        let backing = entry.unwrap().path().join("loop/backing_file");
        let backing = fs::read_to_string(backing).unwrap_or_default();
        count += usize::from(Path::new(backing.trim_end()) == path);
    }
    count
}

#[test]
fn an_upper_in_an_image_is_as_large_as_the_image_and_leaves_no_device() {
    every_way(|way| {
        let host = Host::new();
        let image = disk_image(&host, way, 16);
        let mut launch = host.launch(way);
        launch.root = Some(Root {
            lower: text(&host.image()),
            upper: "upper".into(),
            work: "work".into(),
            read_only: false,
            persistent: false,
            image: text(&image),
        });
        let container = host.run(&launch);
        assert_eq!(devices_of(&image), 1, "{way:?}");
        container.inside("echo one > /one; echo more >> /etc/plain");
        container.fails_inside("cat /dev/zero > /full", "No space left");
        container.inside("rm /full; cat /one");
        // Another mount of it shares the device: two would destroy what is in it.
        let second = host.run(&launch);
        assert_eq!(devices_of(&image), 1, "{way:?}");
        drop(second);
        assert_eq!(container.inside("cat /one"), "one\n");
        drop(container);
        let until = Instant::now() + Duration::from_secs(10);
        while devices_of(&image) > 0 && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(20));
        }
        assert_eq!(devices_of(&image), 0, "{way:?}");
    });
}

#[test]
fn what_is_in_no_image_is_refused_with_its_reason() {
    every_way(|way| {
        let host = Host::new();
        let mut launch = host.launch(way);
        fs::write(host.path("disk.img"), [0; 8192]).unwrap();
        let root = launch.root.as_mut().unwrap();
        root.image = text(&host.path("disk.img"));
        let failure = host.start(&launch).err().unwrap();
        assert!(failure.contains("ext4"), "{failure}");
        let root = launch.root.as_mut().unwrap();
        root.image = text(&host.path("life1"));
        let failure = host.start(&launch).err().unwrap();
        assert!(
            failure.contains("disk") || failure.contains("image"),
            "{failure}"
        );
    });
}
