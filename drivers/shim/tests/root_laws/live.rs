//! Repairs in a container that runs.

use std::fs;
use std::process::Command;

use shim_proto::launch::{Assembly, Launch};

use crate::support::{Container, Host, Way, bind, bind_with, every_way, memory, text};

/// Takes a mount away as the host can.
fn try_unmount(container: &Container, path: &str) -> std::process::Output {
    Command::new("nsenter")
        .args([
            "--target",
            &container.pid,
            "--mount",
            "--",
            "/bin/umount",
            path,
        ])
        .output()
        .unwrap()
}

/// The same; says no where nobody can, because it came locked into the container's mount
/// namespace.
fn unmount(container: &Container, way: Way, path: &str) -> bool {
    let output = try_unmount(container, path);
    let is_locked = way.assembly == Assembly::Classic && way.ids.is_some();
    assert_eq!(output.status.success(), !is_locked, "{way:?}: {output:?}");
    !is_locked
}

fn three(host: &Host, way: Way) -> Launch {
    let shared = host.directory("shared");
    let volume = host.directory("volume");
    fs::write(shared.join("in"), "shared").unwrap();
    fs::write(volume.join("in"), "volume").unwrap();
    let mut launch = host.launch(way);
    launch.mounts = vec![
        bind_with("/data", &shared, |mount, _| mount.read_only = true),
        memory("/run", 1 << 20, 0o750),
        bind_with("/var/volume", &volume, |_, bind| bind.id_mapped = true),
    ];
    launch
}

#[test]
fn mounts_taken_away_come_back_as_they_were() {
    every_way(|way| {
        let host = Host::new();
        let launch = three(&host, way);
        let mut container = host.run(&launch);
        let whole = container.mounts();
        let fds = container.ask("fds");
        for (index, path) in ["/data", "/run", "/var/volume"].iter().enumerate() {
            if !unmount(&container, way, path) {
                continue;
            }
            assert!(
                !container
                    .mounts()
                    .iter()
                    .any(|m| m.starts_with(&format!("{path} ")))
            );
            assert_eq!(
                container.ask(&format!("mount {index}")),
                "ok",
                "{way:?} {path}"
            );
        }
        let sorted = |mut mounts: Vec<String>| {
            mounts.sort();
            mounts
        };
        assert_eq!(sorted(container.mounts()), sorted(whole), "{way:?}");
        assert_eq!(
            container.inside("cat /data/in /var/volume/in"),
            "sharedvolume"
        );
        assert_eq!(container.inside("stat -c '%a %u' /run"), "750 0\n");
        container.inside("touch /run/x /var/volume/x");
        container.fails_inside("touch /data/x", "Read-only file system");
        assert_eq!(container.ask("fds"), fds);
    });
}

#[test]
fn paths_that_were_uncovered_are_covered_again() {
    every_way(|way| {
        let host = Host::new();
        let image = host.image();
        fs::write(image.join("secret"), "secret").unwrap();
        fs::create_dir(image.join("hidden")).unwrap();
        fs::write(image.join("hidden/in"), "in").unwrap();
        fs::create_dir_all(image.join("sealed/deep")).unwrap();
        fs::write(image.join("sealed/in"), "in").unwrap();
        let mut launch = host.launch(way);
        // One is hidden where it is read-only anyway, and one sealed below another.
        launch.masked_paths = ["/secret", "/hidden", "/sealed/in", "/absent"]
            .map(str::to_owned)
            .to_vec();
        launch.read_only_paths = ["/sealed", "/sealed/deep", "/proc/sys"]
            .map(str::to_owned)
            .to_vec();
        let mut container = host.run(&launch);
        // In the order of their paths: what is made again comes last in the table.
        let sorted = |container: &Container| {
            let mut mounts = container.mounts();
            mounts.sort();
            mounts
        };
        let whole = sorted(&container);
        let covers = [
            ("/secret", "hide"),
            ("/hidden", "hide"),
            ("/sealed/in", "hide"),
            ("/sealed/deep", "seal"),
            ("/proc/sys", "seal"),
        ];
        for (path, how) in covers {
            let again = format!("cover {how} {path}");
            // Once where it stands, and once where it was taken away: the same in the end.
            assert_eq!(container.ask(&again), "ok");
            assert_eq!(sorted(&container), whole, "{path} is covered already");
            // Made inside, so that it is locked for nobody.
            let taken = try_unmount(&container, path);
            assert!(taken.status.success(), "{way:?} {path}: {taken:?}");
            assert_ne!(sorted(&container), whole);
            assert_eq!(container.ask(&again), "ok");
            assert_eq!(sorted(&container), whole, "{way:?}: {path}");
        }
        assert_eq!(container.ask("cover hide /absent"), "ok");
        assert_eq!(
            sorted(&container),
            whole,
            "what is not there is passed over"
        );
    });
}

/// What shows something is no cover, be it a read-only tmpfs like ours.
#[test]
fn a_memory_file_system_that_shows_something_hides_nothing() {
    let way = Way {
        assembly: Assembly::Detached,
        ids: None,
    };
    let host = Host::new();
    let shared = tempfile::tempdir_in("/dev/shm").unwrap();
    fs::write(shared.path().join("secret"), "secret").unwrap();
    let mut launch = host.launch(way);
    launch.mounts = vec![bind_with("/shown", shared.path(), |mount, _| {
        mount.read_only = true;
    })];
    launch.masked_paths = vec!["/shown".to_owned()];
    let mut container = host.run(&launch);
    container.fails_inside("cat /shown/secret", "No such file");
    assert!(try_unmount(&container, "/shown").status.success());
    assert_eq!(container.inside("cat /shown/secret"), "secret");
    assert_eq!(container.ask("cover hide /shown"), "ok");
    container.fails_inside("cat /shown/secret", "No such file");
}

#[test]
fn making_a_mount_again_that_is_there_changes_nothing() {
    every_way(|way| {
        let host = Host::new();
        let mut container = host.run(&three(&host, way));
        container.inside("touch /run/kept");
        let before = container.inside("cat /proc/self/mountinfo");
        for index in 0..3 {
            assert_eq!(container.ask(&format!("mount {index}")), "ok");
        }
        assert_eq!(container.inside("cat /proc/self/mountinfo"), before);
        container.inside("test -f /run/kept");
    });
}

#[test]
fn a_mount_point_that_was_removed_is_made_again() {
    every_way(|way| {
        let host = Host::new();
        let mut container = host.run(&three(&host, way));
        if !unmount(&container, way, "/var/volume") {
            return;
        }
        container.inside("rm -r /var");
        assert_eq!(container.ask("mount 2"), "ok");
        assert_eq!(
            container.inside("cat /var/volume/in; stat -c %u /var"),
            "volume0\n"
        );
    });
}

#[test]
fn a_dead_container_is_a_failure_that_may_pass() {
    let host = Host::new();
    let way = Way {
        assembly: Assembly::Classic,
        ids: None,
    };
    let mut container = host.run(&three(&host, way));
    let pid = rustix::process::Pid::from_raw(container.pid.parse().unwrap()).unwrap();
    let pidfd = rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty()).unwrap();
    rustix::process::pidfd_send_signal(&pidfd, rustix::process::Signal::KILL).unwrap();
    let mut wait = [rustix::event::PollFd::new(
        &pidfd,
        rustix::event::PollFlags::IN,
    )];
    let limit = rustix::event::Timespec {
        tv_sec: 10,
        tv_nsec: 0,
    };
    assert_eq!(rustix::event::poll(&mut wait, Some(&limit)).unwrap(), 1);
    let answer = container.ask("mount 0");
    assert!(answer.starts_with("failure Retry"), "{answer}");
}

#[test]
fn an_errand_that_hangs_or_dies_is_told_apart_and_leaves_nothing() {
    let host = Host::new();
    let way = Way {
        assembly: Assembly::Classic,
        ids: None,
    };
    let mut container = host.run(&host.launch(way));
    let fds = container.ask("fds");
    assert_eq!(container.ask("errand late"), "ok Ok(Late)");
    assert_eq!(container.ask("errand died"), "ok Ok(Died)");
    assert!(
        container
            .ask("errand well")
            .starts_with("ok Ok(Answered([120, 120")
    );
    assert_eq!(container.ask("fds"), fds);
}

#[test]
fn binds_spread_only_as_asked() {
    every_way(|way| {
        let host = Host::new();
        let shared = host.directory("shared");
        let mut launch = host.launch(way);
        launch.mounts = vec![
            bind("/private", &shared),
            bind_with("/slave", &shared, |_, bind| {
                bind.slave = true;
                bind.recursive = true;
            }),
            bind_with("/all", &shared, |mount, bind| {
                bind.recursive = true;
                mount.read_only = true;
            }),
        ];
        let setup = format!(
            "d={} && mount -t tmpfs reconciler-root $d && mkdir $d/later $d/early && \
             mount -t tmpfs early $d/early",
            text(&shared)
        );
        let container = host.start_after(&launch, &setup).unwrap();
        let at = |path: &str| {
            container
                .mounts()
                .into_iter()
                .filter(|m| m.starts_with(&format!("{path} ")))
                .collect()
        };
        let none: Vec<String> = Vec::new();
        let early: Vec<String> = at("/all/early");
        assert_eq!(early, ["/all/early ro,nosuid,nodev,relatime tmpfs"]);
        let early: Vec<String> = at("/slave/early");
        assert_eq!(
            early,
            ["/slave/early rw,nosuid,nodev,relatime tmpfs spreads"]
        );
        assert_eq!(at("/private/early"), none);
        // From the host in: only where asked.
        let later = shared.join("later");
        let probe = container.host_pid();
        let status = Command::new("nsenter")
            .args([
                "--target", &probe, "--mount", "mount", "-t", "tmpfs", "later",
            ])
            .arg(&later)
            .status()
            .unwrap();
        assert!(status.success());
        container.host_changed();
        let arrived: Vec<String> = at("/slave/later");
        assert_eq!(arrived.len(), 1, "{way:?}: {:?}", container.mounts());
        assert_eq!(at("/private/later"), none);
        assert_eq!(at("/all/later"), none);
        // From the container out: never.
        container.inside("mkdir /slave/out; mount -t tmpfs out /slave/out");
        container.inside("mkdir /private/in; mount -t tmpfs in /private/in");
        let seen = fs::read_to_string(format!("/proc/{probe}/mountinfo")).unwrap();
        assert!(seen.contains(&text(&later)), "{seen}");
        for name in ["out", "in"] {
            assert!(!seen.contains(&text(&shared.join(name))), "{seen}");
        }
    });
}
