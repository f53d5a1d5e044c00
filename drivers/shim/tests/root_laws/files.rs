//! Files placed at the start and written later.

use std::fs;

use crate::support::{Host, bind, bind_with, every_way, file, memory};

#[test]
fn files_have_the_content_mode_and_owner_asked_for() {
    every_way(|way| {
        let host = Host::new();
        let mut launch = host.launch(way);
        launch.mounts = vec![memory("/run", 1 << 20, 0o755)];
        launch.files = vec![
            file("/etc/app.conf", "one\n", 0o640, "app"),
            file("/new/deep/er", "two\n", 0o4755, "1000:7"),
            file("/etc/plain", "replaced\n", 0o644, ""),
            file("/run/in-memory", "three\n", 0o600, "app:logs"),
        ];
        let container = host.run(&launch);
        let paths = "/etc/app.conf /new/deep/er /etc/plain /run/in-memory";
        assert_eq!(
            container.inside(&format!("cat {paths}")),
            "one\ntwo\nreplaced\nthree\n"
        );
        assert_eq!(
            container.inside(&format!("stat -c '%a %u:%g' {paths} /new /new/deep")),
            "640 1000:1001\n4755 1000:7\n644 0:0\n600 1000:7\n755 0:0\n755 0:0\n",
        );
        assert_eq!(container.inside("find / -xdev -name '.reconciler*'"), "");
        let image = fs::read_to_string(host.image().join("etc/plain")).unwrap();
        assert_eq!(image, "of the image\n");
    });
}

#[test]
fn files_are_in_a_read_only_root_before_it_is_sealed_and_can_be_changed_after() {
    every_way(|way| {
        let host = Host::new();
        let sealed = host.directory("sealed");
        let mut launch = host.launch(way);
        launch.root.as_mut().unwrap().read_only = true;
        launch.mounts = vec![
            bind_with("/data", &sealed, |mount, _| mount.read_only = true),
            memory("/run", 1 << 20, 0o755),
        ];
        launch.files = vec![file("/etc/app.conf", "ours", 0o644, "app")];
        let mut container = host.run(&launch);
        assert_eq!(container.inside("cat /etc/app.conf"), "ours");
        container.inside("mkdir /run/x; echo > /run/x/y");
        container.fails_inside("rm /etc/app.conf", "Read-only file system");
        assert_eq!(container.ask("write 0"), "ok");
        assert_eq!(
            container.inside("cat /etc/app.conf; stat -c %u /etc/app.conf"),
            "ours1000\n"
        );
        container.fails_inside("touch /x", "Read-only file system");
        let root = "/ ro,nodev,relatime overlay".to_owned();
        assert!(
            container.mounts().contains(&root),
            "{:?}",
            container.mounts()
        );
    });
}

#[test]
fn a_read_only_bind_is_not_written_through() {
    every_way(|way| {
        let host = Host::new();
        let sealed = host.directory("sealed");
        for read_only in [false, true] {
            let mut launch = host.launch(way);
            launch.root.as_mut().unwrap().read_only = read_only;
            launch.mounts = vec![bind_with("/data", &sealed, |mount, _| {
                mount.read_only = true
            })];
            launch.files = vec![file("/data/x", "x", 0o644, "")];
            let failure = host.refused(&launch);
            assert!(failure.contains("its directory is read-only"), "{failure}");
        }
        assert_eq!(fs::read_dir(&sealed).unwrap().count(), 0);
    });
}

#[test]
fn a_file_is_replaced_whole_while_the_container_reads_it() {
    every_way(|way| {
        let host = Host::new();
        let mut launch = host.launch(way);
        launch.files = vec![file("/etc/app.conf", &"x".repeat(100_000), 0o600, "app")];
        let mut container = host.run(&launch);
        let before = container.inside("stat -c %i /etc/app.conf");
        container.inside("echo changed > /etc/app.conf; mkdir -p /etc/.reconciler-unfinished");
        // Something of the container's own in the way is its own matter, and said.
        assert!(
            container
                .ask("write 0")
                .contains(".reconciler-unfinished is in the way")
        );
        container.inside("rmdir /etc/.reconciler-unfinished; touch /etc/.reconciler-unfinished");
        assert_eq!(container.ask("write 0"), "ok");
        assert_eq!(
            container.inside("stat -c '%s %a %u:%g' /etc/app.conf"),
            "100000 600 1000:1001\n"
        );
        assert_ne!(container.inside("stat -c %i /etc/app.conf"), before);
        assert_eq!(
            container.inside("ls -A /etc | grep -c reconciler || true"),
            "0\n"
        );
        container.inside("rm -r /etc; mkdir /etc; echo app:x:5:6::: > /etc/passwd");
        assert_eq!(container.ask("write 0"), "ok");
        assert_eq!(container.inside("stat -c '%u:%g' /etc/app.conf"), "5:6\n");
    });
}

#[test]
fn a_file_that_cannot_be_as_asked_is_refused_with_the_reason() {
    every_way(|way| {
        let host = Host::new();
        let check = |path: &str, user: &str, why: &str| {
            let mut launch = host.launch(way);
            fs::write(host.path("one"), "one").unwrap();
            launch.mounts = vec![bind("/etc/bound", &host.path("one"))];
            launch.files = vec![file(path, "x", 0o644, user)];
            let failure = host.refused(&launch);
            assert!(failure.contains(why), "{path} {user}: {failure}");
        };
        check("/etc/x", "nobody", "has no user nobody");
        check("/etc/x", "0:nogroup", "has no group nogroup");
        check("/etc/x", "4294967296", "is over 2147483647");
        check("/data", "", "a directory is there");
        check("/etc/bound", "", "something is mounted there");
        check("/proc/sys/kernel/hostname", "", "its directory is in proc");
        check("/sys/kernel/x", "", "its directory is in sysfs");
        check("/etc/../x", "", "\"..\" in it");
        check("relative", "", "is not an absolute path");
        check("/", "", "it has no name");
        check("/etc/plain/x", "", "cannot enter /etc/plain");
        if way.ids.is_some() {
            check("/etc/x", "70000", "outside the container's id range");
        }
        assert_eq!(fs::read_to_string(host.path("one")).unwrap(), "one");
    });
}

#[test]
fn users_of_a_running_root_are_looked_up_in_it() {
    every_way(|way| {
        let host = Host::new();
        let mut container = host.run(&host.launch(way));
        let ids = "Ids { uid: 1000, gid: 1001, groups: [7] }";
        assert_eq!(container.ask("user app"), ids);
        assert_eq!(container.ask("fds").split(' ').next(), Some("ok"));
    });
}
