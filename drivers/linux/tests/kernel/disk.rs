//! Images that limit what is written into a root.

use std::os::unix::fs::MetadataExt as _;
use std::process::Command;
use std::sync::Arc;

use driver_api::{Action, DiskBackend, Fact, StepError};
use specs::desired::{Bound, Desired, IdRange, UserNamespace, Writable};
use specs::units::{Bytes, Inodes};

use crate::world::World;

fn limited(world: &World, mebibytes: u64) -> Desired {
    let mut desired = world.desired("web");
    desired.disk = Some(Bytes(mebibytes << 20));
    desired.container.rootfs.bound = Some(Bound {
        inodes: Some(Inodes(500)),
    });
    desired
}

/// Reads what is in an image without mounting it.
fn stat(image: &std::path::Path, path: &str) -> String {
    let output = Command::new("/sbin/debugfs")
        .args(["-R", &format!("stat {path}")])
        .arg(image)
        .output()
        .unwrap();
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn a_half_made_image_is_thrown_away_and_made_whole() {
    let world = World::new();
    let mut desired = limited(&world, 32);
    let range = IdRange {
        base: 300_000,
        count: 65_536,
    };
    desired.container.security.user_namespace = UserNamespace::Own(range);
    let directory = world.state("ephemeral/web.1");
    std::fs::create_dir_all(directory.join(".seed.partial/upper")).unwrap();
    std::fs::write(directory.join(".disk.img.partial"), "torn").unwrap();
    world.prepare(&desired);
    let life = world.life("web");
    assert_eq!(life.root, Fact::Known(true));
    let disk = life.disk.known().unwrap();
    assert_eq!((disk.backend, disk.bytes), (DiskBackend::Image, 32 << 20));
    let inodes = disk.inodes.unwrap();
    assert!(
        (500..=500 + disk.inodes_grain).contains(&inodes),
        "{disk:?}"
    );
    let image = directory.join("disk.img");
    let meta = std::fs::metadata(&image).unwrap();
    assert!(meta.blocks() * 512 < 2 << 20, "it is one hole: {meta:?}");
    assert_eq!(meta.mode() & 0o7777, 0o600);
    for name in ["upper", "work"] {
        let said = stat(&image, name);
        assert!(said.contains("User: 300000"), "{said}");
    }
    let names: Vec<_> = std::fs::read_dir(&directory)
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    assert_eq!(names.len(), 2, "the image and the marker: {names:?}");
    // Twice equals once, whatever is asked for: what is there stays.
    let made = meta.ino();
    desired.disk = Some(Bytes(64 << 20));
    world.done("web", Action::PrepareRoot(Arc::new(desired.clone())));
    assert_eq!(std::fs::metadata(&image).unwrap().ino(), made);
    world.done("web", Action::RemoveRoot);
    assert!(!directory.exists());
    assert!(world.life("web").disk.is_absent());
}

#[test]
fn a_growth_that_stopped_half_way_shows_the_smaller_size() {
    let world = World::new();
    world.prepare(&limited(&world, 32));
    let image = world.state("ephemeral/web.1/disk.img");
    let file = std::fs::File::options().write(true).open(&image).unwrap();
    file.set_len(64 << 20).unwrap();
    let bytes = || world.life("web").disk.map(|disk| disk.bytes);
    assert_eq!(bytes(), Fact::Known(32 << 20));
    file.set_len(16 << 20).unwrap();
    assert_eq!(bytes(), Fact::Known(16 << 20));
    // What is no file system is unknown, and not without a limit.
    std::fs::write(&image, [0; 8192]).unwrap();
    let disk = world.life("web").disk;
    assert!(disk.gap().is_some(), "{disk:?}");
}

#[test]
fn an_image_that_is_not_mounted_does_not_grow() {
    let world = World::new();
    let desired = limited(&world, 32);
    world.prepare(&desired);
    let _shell = world.init("web", &[]);
    let grown = limited(&world, 64);
    let refused = world.execute("web", Action::SetDisk(Arc::new(grown)));
    assert!(matches!(refused, Err(StepError::Retry(_))), "{refused:?}");
    let image = world.state("ephemeral/web.1/disk.img");
    assert_eq!(std::fs::metadata(image).unwrap().len(), 32 << 20);
}

#[test]
fn a_persistent_root_without_an_image_gets_none() {
    let world = World::new();
    let mut desired = limited(&world, 32);
    desired.container.rootfs.writable = Writable::Persistent;
    let upper = world.state("persistent/web/upper");
    std::fs::create_dir_all(&upper).unwrap();
    std::fs::write(upper.join("kept"), "one").unwrap();
    world.done("web", Action::PrepareBundle(Arc::new(desired.clone())));
    let refused = world.execute("web", Action::PrepareRoot(Arc::new(desired)));
    let Err(StepError::Terminal(failure)) = refused else {
        panic!("{refused:?}")
    };
    assert!(failure.cause.contains("without a limit"), "{failure:?}");
    assert!(failure.hint.is_some());
    assert_eq!(std::fs::read_to_string(upper.join("kept")).unwrap(), "one");
    assert!(!world.state("persistent/web/disk.img").exists());
}
