//! Removal of what hostile programs left.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

use driver_api::{Action, Deadline, Driver as _, Outcome, StepError};
use specs::desired::{IdRange, Mount, MountSource, UserNamespace, Writable};
use specs::id::VolumeName;

use crate::world::World;

/// A tree outside, and a way to see that it did not change.
fn canary(path: &Path) -> String {
    std::fs::create_dir_all(path.join("deep/er")).unwrap();
    std::fs::write(path.join("deep/er/file"), "precious").unwrap();
    std::fs::write(path.join("top"), "precious").unwrap();
    hash(path)
}

fn hash(path: &Path) -> String {
    let mut lines = Vec::new();
    let mut todo = vec![path.to_path_buf()];
    while let Some(at) = todo.pop() {
        for entry in std::fs::read_dir(&at).unwrap().map(Result::unwrap) {
            let content = std::fs::read(entry.path()).unwrap_or_default();
            lines.push(format!("{:?} {content:?}", entry.path()));
            if entry.file_type().unwrap().is_dir() {
                todo.push(entry.path());
            }
        }
    }
    lines.sort();
    specs::id::Digest::of(lines.join("\n").as_bytes()).to_string()
}

/// A bind mount that is taken away again.
struct Mounted(std::path::PathBuf);

impl Mounted {
    fn new(source: &Path, target: &Path) -> Self {
        let mut mount = Command::new("/bin/busybox");
        assert!(
            mount
                .args(["mount", "--bind"])
                .arg(source)
                .arg(target)
                .status_ok()
        );
        Self(target.to_path_buf())
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        assert!(
            Command::new("/bin/busybox")
                .arg("umount")
                .arg(&self.0)
                .status_ok()
        );
    }
}

trait StatusOk {
    fn status_ok(self) -> bool;
}

impl StatusOk for &mut Command {
    fn status_ok(self) -> bool {
        self.status().unwrap().success()
    }
}

#[test]
fn removal_never_crosses_a_mount() {
    let world = World::new();
    world.prepare(&world.desired("web"));
    let outside = world.path("outside");
    let before = canary(&outside);
    let target = world.state("ephemeral/web.1/upper/data/here");
    std::fs::create_dir_all(&target).unwrap();
    let mounted = Mounted::new(&outside, &target);
    let refusal = world.execute("web", Action::RemoveRoot).unwrap_err();
    let StepError::Blocked { on, failure } = refusal else {
        panic!("{refusal:?}");
    };
    assert!(on.contains("here"), "{on}");
    assert!(failure.hint.unwrap().contains("findmnt"));
    assert_eq!(hash(&outside), before);
    assert_eq!(
        world.life("web").root.known(),
        Some(&false),
        "half-removed is not prepared"
    );
    drop(mounted);
    assert_eq!(world.execute("web", Action::RemoveRoot), Ok(Outcome::Done));
    assert_eq!(hash(&outside), before);
    assert!(world.life("web").root.is_absent());
}

#[test]
fn removal_follows_no_link() {
    let world = World::new();
    world.prepare(&world.desired("web"));
    let outside = world.path("outside");
    let before = canary(&outside);
    let upper = world.state("ephemeral/web.1/upper");
    symlink(&outside, upper.join("link")).unwrap();
    symlink("../../../../../..", upper.join("up")).unwrap();
    for name in [b"\n".as_slice(), b"\xff\xfe", b"-rf", b"*", b" "] {
        std::fs::create_dir(upper.join(OsStr::from_bytes(name))).unwrap();
    }
    std::fs::hard_link(outside.join("top"), upper.join("hard")).unwrap();
    world.done("web", Action::RemoveRoot);
    assert_eq!(hash(&outside), before);
    assert!(!world.state("ephemeral/web.1").exists());
}

#[test]
fn a_link_in_place_of_the_root_is_unlinked_only() {
    let world = World::new();
    let outside = world.path("outside");
    let before = canary(&outside);
    symlink(&outside, world.state("ephemeral/web.1")).unwrap();
    let outcome = world.execute("web", Action::RemoveRoot);
    assert!(matches!(outcome, Ok(Outcome::Done)), "{outcome:?}");
    assert_eq!(hash(&outside), before);
    assert!(std::fs::symlink_metadata(world.state("ephemeral/web.1")).is_err());
}

#[test]
fn a_tree_deeper_than_paths_can_be_long_is_removed() {
    let world = World::new();
    world.prepare(&world.desired("web"));
    // 3000 levels of 200 bytes: far beyond PATH_MAX, and beyond one descriptor a level.
    let name = "n".repeat(200);
    let mode = rustix::fs::Mode::RWXU;
    let flags = rustix::fs::OFlags::RDONLY | rustix::fs::OFlags::DIRECTORY;
    let upper = world.state("ephemeral/web.1/upper");
    let mut at = rustix::fs::open(&upper, flags, mode).unwrap();
    for _level in 0..3000 {
        rustix::fs::mkdirat(&at, &name, mode).unwrap();
        at = rustix::fs::openat(&at, &name, flags, mode).unwrap();
        let create = rustix::fs::OFlags::CREATE;
        rustix::fs::openat(&at, "file", create, mode).unwrap();
    }
    drop(at);
    let mut turns = 0;
    while world.execute("web", Action::RemoveRoot).unwrap() == Outcome::Started {
        turns += 1;
        assert!(turns < 100);
    }
    assert!(!world.state("ephemeral/web.1").exists());
}

#[test]
fn a_large_tree_goes_in_bounded_parts() {
    let world = World::new();
    world.prepare(&world.desired("web"));
    let upper = world.state("ephemeral/web.1/upper");
    for number in 0..2000 {
        std::fs::write(upper.join(number.to_string()), "").unwrap();
    }
    // No time at all: a part is done, and said to be one.
    let step = world.step("web", Action::RemoveRoot);
    let outcome = world.host.execute(&step, Deadline { at_ms: 0 });
    assert_eq!(outcome, Ok(Outcome::Started));
    let left = std::fs::read_dir(&upper).unwrap().count();
    assert!((1..2000).contains(&left), "{left}");
    world.done("web", Action::RemoveRoot);
    assert!(world.life("web").root.is_absent());
}

#[test]
fn volumes_and_persistent_layers_outlive_the_container() {
    let world = World::new();
    let mut desired = world.desired("web");
    desired.container.rootfs.writable = Writable::Persistent;
    desired.container.security.user_namespace = UserNamespace::Own(IdRange {
        base: 1_000_000,
        count: 65_536,
    });
    let volume = MountSource::Volume(VolumeName::new("db").unwrap());
    desired.container.mounts = vec![Mount {
        path: "/data".into(),
        read_only: false,
        source: volume,
    }];
    world.prepare(&desired);
    let kept = [
        world.state("volumes/db/row"),
        world.state("persistent/web/upper/note"),
    ];
    for path in &kept {
        std::fs::write(path, "precious").unwrap();
    }
    world.prepare(&desired);
    world.done("web", Action::RemoveRoot);
    world.done("web", Action::RemoveBundle);
    for path in &kept {
        assert_eq!(std::fs::read_to_string(path).unwrap(), "precious");
    }
    assert!(!world.state("ephemeral/web.1").exists());
}

#[test]
fn layers_belong_to_the_containers_root() {
    use std::os::unix::fs::MetadataExt as _;
    let world = World::new();
    let mut desired = world.desired("web");
    let range = IdRange {
        base: 1_000_000,
        count: 65_536,
    };
    desired.container.security.user_namespace = UserNamespace::Own(range);
    world.prepare(&desired);
    let upper = std::fs::metadata(world.state("ephemeral/web.1/upper")).unwrap();
    let lower = std::fs::metadata(world.path("lower")).unwrap();
    assert_eq!((upper.uid(), upper.gid()), (1_000_000, 1_000_000));
    assert_eq!(
        upper.mode() & 0o7777,
        lower.mode() & 0o7777,
        "the root looks as below"
    );
    desired.key = crate::world::key("kept");
    desired.container.rootfs.writable = Writable::Persistent;
    world.prepare(&desired);
    let upper = std::fs::metadata(world.state("persistent/kept/upper")).unwrap();
    assert_eq!((upper.uid(), upper.gid()), (0, 0), "kept as it is inside");
}
