//! Images and neighbours that want out. What they aim at is a canary beside the image, which
//! has to look the same afterwards; that the host's mounts do is looked at by every container
//! that ends.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use shim_proto::launch::{Assembly, Mount};

use crate::support::{Container, Host, Way, bind, bind_with, every_way, file, memory, text};

/// A host with a directory that nobody has any business in.
struct Watched {
    host: Host,
    canary: PathBuf,
    before: String,
}

impl Watched {
    fn new() -> Watched {
        let host = Host::new();
        let canary = host.directory("canary");
        fs::write(canary.join("shadow"), "root:secret\n").unwrap();
        fs::create_dir(canary.join("empty")).unwrap();
        let before = host.digest(&canary);
        Watched {
            host,
            canary,
            before,
        }
    }

    #[track_caller]
    fn check(&self) {
        assert_eq!(self.host.digest(&self.canary), self.before);
    }

    /// A relative path from any shallow place in a root to the canary, were it not one.
    fn up(&self) -> PathBuf {
        let up = PathBuf::from("../../../../../../../../..");
        up.join(self.canary.strip_prefix("/").unwrap())
    }
}

/// Swaps two names in a directory until it is dropped, by a panic too.
struct Swapping {
    stop: Arc<AtomicBool>,
    swapper: Option<JoinHandle<()>>,
}

impl Swapping {
    fn begin(directory: &Path, names: [&'static str; 2]) -> Swapping {
        let stop = Arc::new(AtomicBool::new(false));
        let (is_over, directory) = (stop.clone(), fs::File::open(directory).unwrap());
        let swapper = std::thread::spawn(move || {
            let exchange = rustix::fs::RenameFlags::EXCHANGE;
            while !is_over.load(Ordering::Relaxed) {
                let [one, two] = names;
                rustix::fs::renameat_with(&directory, one, &directory, two, exchange).unwrap();
                std::thread::yield_now();
            }
        });
        Swapping {
            stop,
            swapper: Some(swapper),
        }
    }
}

impl Drop for Swapping {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let swapped = self.swapper.take().unwrap().join();
        assert!(swapped.is_ok() || std::thread::panicking());
    }
}

#[test]
fn a_link_in_place_of_proc_sys_or_dev_is_refused() {
    every_way(|way| {
        for name in ["proc", "sys", "dev"] {
            let watched = Watched::new();
            let place = watched.host.image().join(name);
            for target in [
                Path::new("/../.."),
                Path::new("/etc"),
                &watched.canary,
                &watched.up(),
            ] {
                symlink(target, &place).unwrap();
                let failure = watched.host.refused(&watched.host.launch(way));
                assert!(failure.contains("Terminal"), "{failure}");
                assert!(
                    failure.contains(&format!("/{name} of the image")),
                    "{failure}"
                );
                assert!(failure.contains("it is a symbolic link"), "{failure}");
                fs::remove_file(&place).unwrap();
            }
            fs::write(&place, "a file").unwrap();
            let failure = watched.host.refused(&watched.host.launch(way));
            assert!(failure.contains("has to be a directory"), "{failure}");
            watched.check();
        }
    });
}

#[test]
fn a_linked_mount_point_stays_inside() {
    every_way(|way| {
        let watched = Watched::new();
        let host = &watched.host;
        let image = host.image();
        symlink("/data", image.join("absolute")).unwrap();
        symlink("data", image.join("relative")).unwrap();
        fs::create_dir_all(image.join("up/on")).unwrap();
        symlink("../../../..", image.join("up/on/out")).unwrap();
        let shared = host.directory("shared");
        fs::write(shared.join("marker"), "here").unwrap();
        for path in ["/absolute", "/relative", "/up/on/out/data"] {
            let mut launch = host.launch(way);
            launch.mounts = vec![bind(path, &shared)];
            let container = host.run(&launch);
            assert_eq!(container.inside("cat /data/marker"), "here", "{path}");
        }
        watched.check();
    });
}

#[test]
fn a_mount_point_that_links_to_the_host_is_not_made_there() {
    every_way(|way| {
        let watched = Watched::new();
        let host = &watched.host;
        let shared = host.directory("shared");
        let targets = [
            watched.canary.clone(),
            watched.up(),
            watched.canary.join("new"),
        ];
        for (index, target) in targets.iter().enumerate() {
            symlink(target, host.image().join(format!("link{index}"))).unwrap();
            for path in [format!("/link{index}"), format!("/link{index}/empty")] {
                let mut launch = host.launch(way);
                launch.mounts = vec![bind(&path, &shared)];
                let failure = host.refused(&launch);
                assert!(failure.contains("a link that leads nowhere"), "{failure}");
            }
        }
        for path in [
            "/..",
            "/data/../../x",
            "relative",
            "/",
            "/proc/1",
            "/sys",
            "/dev",
        ] {
            let mut launch = host.launch(way);
            launch.mounts = vec![bind(path, &shared)];
            let failure = host.refused(&launch);
            assert!(failure.contains("Terminal cannot mount"), "{failure}");
        }
        watched.check();
    });
}

#[test]
fn nothing_is_made_in_a_directory_of_the_host() {
    every_way(|way| {
        let watched = Watched::new();
        let mut launch = watched.host.launch(way);
        launch.mounts = vec![
            bind("/data", &watched.canary),
            memory("/data/missing", 1 << 20, 0o755),
        ];
        let failure = watched.host.refused(&launch);
        assert!(failure.contains("a directory of the host"), "{failure}");
        launch = watched.host.launch(way);
        launch.mounts = vec![
            bind("/data", &watched.canary),
            memory("/data/empty", 1 << 20, 0o755),
        ];
        watched.host.run(&launch).inside("touch /data/empty/x");
        watched.check();
    });
}

#[test]
fn a_source_does_not_leave_its_allowed_root() {
    every_way(|way| {
        let watched = Watched::new();
        let host = &watched.host;
        let allowed = host.directory("allowed");
        fs::create_dir(allowed.join("real")).unwrap();
        fs::write(allowed.join("real/marker"), "here").unwrap();
        symlink("real", allowed.join("inner")).unwrap();
        symlink(&watched.canary, allowed.join("absolute")).unwrap();
        symlink("../canary", allowed.join("relative")).unwrap();
        let beneath = |name: &str| -> Mount {
            bind_with("/data", &allowed.join(name), |_, bind| {
                bind.beneath = text(&allowed)
            })
        };
        for name in ["real", "inner"] {
            let mut launch = host.launch(way);
            launch.mounts = vec![beneath(name)];
            assert_eq!(host.run(&launch).inside("cat /data/marker"), "here");
        }
        for name in [
            "absolute",
            "relative",
            "../canary",
            "real/../../canary",
            "absolute/empty",
        ] {
            let mut launch = host.launch(way);
            launch.mounts = vec![beneath(name)];
            let failure = host.refused(&launch);
            assert!(
                failure.contains("Terminal") && failure.contains("leads out"),
                "{failure}"
            );
        }
        let mut launch = host.launch(way);
        launch.mounts = vec![bind_with("/data", &watched.canary, |_, bind| {
            bind.beneath = text(&allowed);
        })];
        assert!(host.refused(&launch).contains("is not below"));
        let sibling = PathBuf::from(format!("{}-not", text(&allowed)));
        launch.mounts = vec![bind_with("/data", &sibling, |_, bind| {
            bind.beneath = text(&allowed);
        })];
        assert!(host.refused(&launch).contains("is not below"));
        let mut launch = host.launch(way);
        launch.mounts = vec![bind("/data", &host.path("not-yet"))];
        assert!(host.refused(&launch).contains("Retry"));
        watched.check();
    });
}

#[test]
fn a_source_racing_with_a_link_never_shows_what_lies_outside() {
    every_way(|way| {
        let watched = Watched::new();
        let host = &watched.host;
        let allowed = host.directory("allowed");
        for name in ["real", "link"] {
            fs::create_dir(allowed.join(name)).unwrap();
        }
        fs::write(allowed.join("real/marker"), "here").unwrap();
        fs::remove_dir(allowed.join("link")).unwrap();
        symlink(&watched.canary, allowed.join("link")).unwrap();
        let swapping = Swapping::begin(&allowed, ["real", "link"]);
        let mut seen = [0, 0];
        for _ in 0..40 {
            let mut launch = host.launch(way);
            launch.mounts = vec![bind_with("/data", &allowed.join("real"), |_, bind| {
                bind.beneath = text(&allowed);
            })];
            match host.start(&launch) {
                Ok(container) => {
                    let data = fs::read_dir(container.root().join("data")).unwrap();
                    let names: Vec<_> = data.map(|entry| entry.unwrap().file_name()).collect();
                    assert_eq!(names, ["marker"]);
                    seen[0] += 1;
                }
                Err(failure) => {
                    assert!(failure.contains("leads out"), "{failure}");
                    seen[1] += 1;
                }
            }
        }
        eprintln!("{way:?}: {} started, {} refused", seen[0], seen[1]);
        drop(swapping);
        watched.check();
    });
}

#[test]
fn a_neighbour_swapping_a_mount_point_for_a_link_gets_nowhere() {
    every_way(|way| {
        let watched = Watched::new();
        let host = &watched.host;
        let volume = host.directory("volume");
        fs::create_dir(volume.join("below")).unwrap();
        symlink(watched.up(), volume.join("link")).unwrap();
        let swapping = Swapping::begin(&volume, ["below", "link"]);
        for _ in 0..40 {
            let mut launch = host.launch(way);
            launch.mounts = vec![
                bind("/data", &volume),
                memory("/data/below", 1 << 20, 0o755),
            ];
            if let Ok(container) = host.start(&launch) {
                let mounts = container.mounts();
                let on_volume = mounts
                    .iter()
                    .filter(|m| m.contains(" tmpfs"))
                    .any(|m| m.starts_with("/data/below ") || m.starts_with("/data/link "));
                assert!(on_volume, "{mounts:?}");
            }
        }
        drop(swapping);
        watched.check();
    });
}

/// Ways an image has its files point at the canary: links for a path in it.
fn traps(watched: &Watched, image: &Path) -> Vec<String> {
    let etc = image.join("etc");
    symlink(watched.canary.join("shadow"), etc.join("absolute.conf")).unwrap();
    symlink(watched.up().join("shadow"), etc.join("relative.conf")).unwrap();
    fs::create_dir_all(image.join("deep/down")).unwrap();
    symlink("../../../../../..", image.join("deep/down/out")).unwrap();
    let below = text(watched.canary.strip_prefix("/").unwrap());
    vec![
        "/etc/absolute.conf".to_owned(),
        "/etc/relative.conf".to_owned(),
        format!("/deep/down/out/{below}/shadow"),
    ]
}

#[test]
fn files_through_an_images_links_land_inside() {
    every_way(|way| {
        let watched = Watched::new();
        let host = &watched.host;
        let paths = traps(&watched, &host.image());
        let mut launch = host.launch(way);
        launch.files = paths
            .iter()
            .map(|path| file(path, "ours", 0o644, ""))
            .collect();
        let container = host.run(&launch);
        for path in &paths {
            assert_eq!(
                container.inside(&format!("cat {path}; ! test -L {path}")),
                "ours"
            );
        }
        drop(container);
        for target in [watched.canary.clone(), watched.up()] {
            let link = host.image().join("conf.d");
            symlink(target, &link).unwrap();
            let mut launch = host.launch(way);
            launch.files = vec![file("/conf.d/shadow", "ours", 0o644, "")];
            let failure = host.refused(&launch);
            assert!(failure.contains("a link that leads nowhere"), "{failure}");
            fs::remove_file(link).unwrap();
        }
        watched.check();
    });
}

#[test]
fn a_file_written_while_the_container_relinks_lands_inside() {
    every_way(|way| {
        let watched = Watched::new();
        let host = &watched.host;
        let mut launch = host.launch(way);
        launch.mounts = vec![memory("/spot", 1 << 20, 0o755)];
        launch.files = vec![file("/spot/conf/shadow", "ours", 0o644, "")];
        let mut container = host.run(&launch);
        container.inside(&format!("ln -s {} /spot/link", text(&watched.up())));
        let swapping = Swapping::begin(&container.root().join("spot"), ["conf", "link"]);
        for _ in 0..40 {
            // Refused when it met the link; else written inside.
            let answer = container.ask("write 0");
            assert!(answer == "ok" || answer.starts_with("failure"), "{answer}");
        }
        drop(swapping);
        watched.check();
        let target = text(&watched.up());
        container.inside(&format!("cd /spot; rm -rf conf link; ln -s {target} conf"));
        let answer = container.ask("write 0");
        assert!(answer.contains("a link that leads nowhere"), "{answer}");
        relinked(&watched, &mut container);
        watched.check();
    });
}

/// The file itself a link, at last.
fn relinked(watched: &Watched, container: &mut Container) {
    let shadow = text(&watched.canary.join("shadow"));
    container.inside(&format!(
        "cd /spot; rm conf; mkdir conf; ln -s {shadow} conf/shadow"
    ));
    assert_eq!(container.ask("write 0"), "ok");
    assert_eq!(
        container.inside("cd /spot/conf; cat shadow; ! test -L shadow"),
        "ours"
    );
}

#[test]
fn a_containers_rights_bound_what_is_written_for_it() {
    // A container with ids of its own may not write in a host directory of root's, so neither
    // may the daemon be made to, by a link to where it is bound.
    every_way(|way| {
        if way.ids.is_none() {
            return;
        }
        let watched = Watched::new();
        let host = &watched.host;
        let private = host.directory("private");
        fs::write(private.join("app.conf"), "the host's").unwrap();
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        fs::set_permissions(&private, mode).unwrap();
        let mut launch = host.launch(way);
        launch.mounts = vec![bind("/data", &private)];
        launch.files = vec![file("/conf/app.conf", "x", 0o644, "")];
        let mut container = host.run(&launch);
        container.inside("rm -r /conf; ln -s /data /conf");
        let answer = container.ask("write 0");
        assert!(answer.contains("Permission denied"), "{answer}");
        assert_eq!(
            fs::read_to_string(private.join("app.conf")).unwrap(),
            "the host's"
        );
        assert_eq!(fs::read_dir(&private).unwrap().count(), 1);
        watched.check();
    });
}

#[test]
fn a_mount_made_again_through_a_link_stays_inside() {
    every_way(|way| {
        let watched = Watched::new();
        let host = &watched.host;
        let mut launch = host.launch(Way {
            assembly: Assembly::Classic,
            ..way
        });
        launch.user_namespace = None;
        let mut launch = if way.ids.is_none() {
            launch
        } else {
            host.launch(way)
        };
        launch.assembly = way.assembly.into();
        launch.mounts = vec![memory("/spot", 1 << 20, 0o755)];
        let mut container = host.run(&launch);
        if container.try_inside("umount /spot").0 {
            let target = text(&watched.canary);
            container.inside(&format!("rmdir /spot; ln -s {target} /spot"));
            assert!(
                container
                    .ask("mount 0")
                    .contains("a link that leads nowhere")
            );
            container.inside(&format!("mkdir -p {target}"));
            assert_eq!(container.ask("mount 0"), "ok");
            container.inside("touch /spot/inside");
        } else {
            assert!(
                way.ids.is_some() && way.assembly == Assembly::Classic,
                "{way:?}"
            );
        }
        watched.check();
    });
}
