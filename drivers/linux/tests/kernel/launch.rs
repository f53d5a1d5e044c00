//! What the shim is told.

use std::collections::BTreeMap;
use std::sync::Arc;

use driver_api::{Action, Driver as _, Outcome, StepError};
use shim_proto::launch::{Launch, MountSource as Source, read};
use specs::desired::{IdRange, Mount, MountSource, Propagation, Seccomp, UserNamespace, Writable};
use specs::id::VolumeName;
use specs::units::{Bytes, Secret};

use crate::world::{World, soon};

fn written(world: &World, leaf: &str) -> Launch {
    read(&std::fs::read(world.runtime(leaf).join("launch")).unwrap()).unwrap()
}

#[test]
fn the_description_says_all_that_was_desired() {
    let world = World::new();
    let mut desired = world.desired("web");
    let container = &mut desired.container;
    container.rootfs.writable = Writable::None;
    container.hostname = "other".into();
    container.security.user_namespace = UserNamespace::Own(IdRange {
        base: 500_000,
        count: 65_536,
    });
    container.security.sysctls = BTreeMap::from([("net.core.somaxconn".into(), "9".into())]);
    container.mounts = vec![
        Mount {
            path: "/b".into(),
            read_only: true,
            source: MountSource::Bind {
                source: "/srv/data".into(),
                recursive: true,
                propagation: Propagation::Slave,
                beneath: Some("/srv".into()),
            },
        },
        Mount {
            path: "/t".into(),
            read_only: false,
            source: MountSource::Tmpfs {
                bytes: Bytes(4096),
                mode: 0o1777,
            },
        },
        Mount {
            path: "/v".into(),
            read_only: false,
            source: MountSource::Volume(VolumeName::new("db").unwrap()),
        },
    ];
    desired.files = vec![specs::desired::File {
        path: "/etc/x".into(),
        content: Secret("secret".into()),
        mode: 0o640,
        user: specs::desired::User {
            user: specs::desired::NameOrId::Name("app".into()),
            group: Some(specs::desired::NameOrId::Id(7)),
        },
        on_change: specs::desired::OnChange::Nothing,
    }];
    world.prepare(&desired);
    let launch = written(&world, "web.1");
    assert_eq!(launch.key, "web");
    assert_eq!(launch.incarnation, 1);
    assert_eq!(launch.generation, 7);
    assert_eq!(launch.container_digest, desired.container.digest().0);
    assert_eq!(launch.hostname, "other");
    assert!(!launch.host_network && !launch.privileged && launch.no_new_privileges);
    assert_eq!(launch.user_namespace.map(|range| range.base), Some(500_000));
    // CHOWN is 0, KILL is 5.
    assert_eq!(launch.capabilities, 0b10_0001);
    assert_eq!(launch.seccomp.len(), 1);
    assert_eq!(launch.sysctls[0].name, "net.core.somaxconn");
    assert_eq!(launch.masked_paths, ["/proc/kcore"]);
    let root = launch.root.unwrap();
    assert!(root.read_only && !root.persistent);
    assert_eq!(
        root.upper,
        world.state("ephemeral/web.1/upper").to_str().unwrap()
    );
    let sources: Vec<_> = launch
        .mounts
        .iter()
        .map(|mount| mount.source.clone().unwrap())
        .collect();
    let Source::Bind(bind) = &sources[0] else {
        panic!("{sources:?}")
    };
    assert!(bind.recursive && bind.slave && bind.id_mapped && bind.source == "/srv/data");
    assert_eq!(bind.beneath, "/srv");
    let Source::Tmpfs(tmpfs) = &sources[1] else {
        panic!("{sources:?}")
    };
    assert_eq!((tmpfs.bytes, tmpfs.mode), (4096, 0o1777));
    let Source::Bind(volume) = &sources[2] else {
        panic!("{sources:?}")
    };
    assert_eq!(volume.source, world.state("volumes/db").to_str().unwrap());
    assert_eq!(launch.files[0].user, "app:7");
    assert_eq!(launch.files[0].digest, desired.files[0].digest().0);
    let groups: Vec<_> = launch.cgroups.iter().map(|at| at.path.clone()).collect();
    let there: Vec<_> = world
        .groups("web.1")
        .iter()
        .map(|at| at.display().to_string())
        .collect();
    assert_eq!(groups.len(), there.len());
    assert!(
        there.iter().all(|path| groups.contains(path)),
        "{groups:?} {there:?}"
    );
    assert!(
        launch.cgroups.iter().skip(1).all(|at| !at.unified),
        "version 2 first"
    );
    assert!(
        launch
            .shim_cgroups
            .iter()
            .all(|at| at.path.ends_with("/shims"))
    );
}

#[test]
fn a_capability_the_daemon_may_not_have_is_an_error_that_names_it() {
    let world = World::new();
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let bounding = status
        .lines()
        .find_map(|line| line.strip_prefix("CapBnd:"))
        .unwrap();
    let bounding = u64::from_str_radix(bounding.trim(), 16).unwrap();
    if bounding >> 24 & 1 == 1 {
        println!("skipped: this machine may have SYS_RESOURCE");
        return;
    }
    let mut desired = world.desired("web");
    desired
        .container
        .security
        .capabilities
        .insert("SYS_RESOURCE".into());
    let refusal = world
        .execute("web", Action::PrepareBundle(desired.clone().into()))
        .unwrap_err();
    let StepError::Terminal(failure) = &refusal else {
        panic!("{refusal:?}")
    };
    assert!(failure.cause.contains("SYS_RESOURCE"), "{failure:?}");
    assert!(!world.runtime("web.1").exists());
    // In a user namespace of its own it counts only there.
    desired.container.security.user_namespace = UserNamespace::Own(IdRange {
        base: 500_000,
        count: 9,
    });
    assert_eq!(
        world.execute("web", Action::PrepareBundle(desired.into())),
        Ok(Outcome::Done)
    );
}

#[test]
fn privileged_and_unconfined_have_no_filter() {
    let world = World::new();
    let mut desired = world.desired("one");
    desired.container.security.seccomp = Seccomp::Unconfined;
    world.done("one", Action::PrepareBundle(desired.clone().into()));
    assert!(written(&world, "one.1").seccomp.is_empty());
    desired.key = crate::world::key("two");
    desired.container.security.seccomp = Seccomp::Default;
    desired.container.security.privileged = true;
    world.done("two", Action::PrepareBundle(desired.clone().into()));
    let launch = written(&world, "two.1");
    assert!(launch.seccomp.is_empty() && launch.privileged);
    assert!(launch.capabilities > 0b10_0001);
    desired.key = crate::world::key("three");
    desired.container.security.privileged = false;
    let json = r#"{"defaultAction": "SCMP_ACT_NOTIFY"}"#.to_owned();
    desired.container.security.seccomp = Seccomp::Profile {
        path: "/p.json".into(),
        json,
    };
    let refusal = world.execute("three", Action::PrepareBundle(desired.into()));
    assert!(
        matches!(refusal, Err(StepError::Terminal(_))),
        "{refusal:?}"
    );
}

#[test]
fn a_bundle_made_from_something_else_is_stale() {
    let world = World::new();
    let mut desired = world.desired("web");
    world.done("web", Action::PrepareBundle(desired.clone().into()));
    assert_eq!(
        world.execute("web", Action::PrepareBundle(desired.clone().into())),
        Ok(Outcome::AlreadyDone)
    );
    desired.container.hostname = "new".into();
    let desired = Arc::new(desired);
    for action in [
        Action::PrepareBundle(Arc::clone(&desired)),
        Action::StartShim(desired),
    ] {
        assert!(matches!(
            world.execute("web", action),
            Err(StepError::Stale(_))
        ));
    }
}

#[test]
fn a_missing_root_file_system_is_a_persons_to_mend() {
    let world = World::new();
    let mut desired = world.desired("web");
    desired.container.rootfs.directory = "/nowhere/at/all".into();
    let refusal = world
        .execute("web", Action::PrepareRoot(desired.into()))
        .unwrap_err();
    let StepError::Terminal(failure) = &refusal else {
        panic!("{refusal:?}")
    };
    assert!(failure.what.contains("/nowhere/at/all"), "{failure:?}");
}

#[test]
fn a_half_made_bundle_is_swept_at_the_next_open() {
    let world = World::new();
    let partial = world.runtime(".partial-web.1");
    std::fs::create_dir(&partial).unwrap();
    std::fs::write(partial.join("launch"), "half").unwrap();
    assert!(world.observe().containers.is_empty());
    let again = crate::world::open(
        &world.instance,
        world.dir.path(),
        "/linux-room-sweep",
        Arc::default(),
    );
    assert!(!partial.exists());
    assert!(again.observe(&driver_api::Scope::Host, soon()).complete);
}

#[test]
fn doctor_answers_every_question() {
    let world = World::new();
    let checks = world.host.doctor();
    for check in &checks {
        println!(
            "{:?} {}: {} {:?}",
            check.result, check.name, check.detail, check.remedy
        );
        let needs = check.result == driver_linux::CheckResult::Missing;
        assert!(!needs || check.remedy.is_some() || check.detail.starts_with("not asked"));
    }
    for name in [
        "cgroup layout",
        "overlay",
        "user namespaces",
        "pidfd",
        "seccomp",
        "inotify",
    ] {
        assert!(checks.iter().any(|check| check.name == name), "{name}");
    }
    let rooms = checks
        .iter()
        .filter(|check| check.name.starts_with("room in "));
    assert_eq!(rooms.count(), 3, "state, runtime and logs");
}
