//! Real files in real directories.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::{PermissionsExt as _, symlink};

use super::directory::look;
use super::*;

struct Place {
    dir: tempfile::TempDir,
    source: Source,
    at_ms: u64,
}

impl Place {
    fn new() -> Self {
        let dir = tempfile::Builder::new()
            .prefix("rcd-source-")
            .tempdir()
            .unwrap();
        let source = Source::new(dir.path().to_owned());
        Self {
            dir,
            source,
            at_ms: 1_000,
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).unwrap();
    }

    /// One look, `later_ms` after the one before.
    fn look(&mut self, later_ms: u64) -> Listed {
        self.look_with(later_ms, &[])
    }

    fn look_with(&mut self, later_ms: u64, renamed: &[&str]) -> Listed {
        self.at_ms += later_ms;
        let renamed = renamed.iter().map(ToString::to_string).collect();
        let seen = look(self.dir.path());
        self.source
            .take_in(seen, &renamed, self.at_ms)
            .outcome
            .unwrap()
    }

    fn refusal(&mut self, name: &str) -> String {
        match self.look(0).files.get(name) {
            Some(File::Refused(why)) => why.clone(),
            other => panic!("{name}: {other:?}"),
        }
    }
}

fn taken(listed: &Listed, name: &str) -> Option<String> {
    match listed.files.get(name) {
        Some(File::Taken(text)) => Some(String::from_utf8(text.bytes.to_vec()).unwrap()),
        _ => None,
    }
}

#[test]
fn a_text_is_taken_only_after_two_looks_that_agree() {
    let mut place = Place::new();
    place.write("web.yaml", "a");
    let first = place.look(0);
    assert!(matches!(
        first.files["web.yaml"],
        File::Settling { before: None }
    ));
    assert_eq!(first.again_ms, Some(SETTLE_MS));
    assert_eq!(taken(&place.look(SETTLE_MS - 1), "web.yaml"), None);
    assert_eq!(taken(&place.look(1), "web.yaml").as_deref(), Some("a"));
    assert_eq!(place.look(1).again_ms, None);
}

#[test]
fn no_prefix_of_a_slowly_written_file_is_ever_taken() {
    let mut place = Place::new();
    let text = "apiVersion: reconciler/v1\nkind: Container\n";
    let mut file = fs::File::create(place.path("web.yaml")).unwrap();
    for byte in text.as_bytes() {
        file.write_all(&[*byte]).unwrap();
        let listed = place.look(SETTLE_MS - 1);
        assert_eq!(taken(&listed, "web.yaml"), None);
    }
    assert_eq!(
        taken(&place.look(SETTLE_MS), "web.yaml").as_deref(),
        Some(text)
    );
}

#[test]
fn what_was_taken_stands_while_the_next_text_settles() {
    let mut place = Place::new();
    place.write("web.yaml", "one");
    place.look(0);
    place.look(SETTLE_MS);
    place.write("web.yaml", "two, half writ");
    match &place.look(1).files["web.yaml"] {
        File::Settling { before: Some(text) } => assert_eq!(&*text.bytes, b"one"),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_file_written_and_renamed_in_one_tick_is_taken_after_the_next() {
    let mut place = Place::new();
    place.look(0);
    // Both within one tick, sooner or later.
    let tied = (0..1000).any(|_| {
        fs::write(place.path(".web.tmp"), "a").unwrap();
        fs::rename(place.path(".web.tmp"), place.path("web.yaml")).unwrap();
        let meta = fs::metadata(place.path("web.yaml")).unwrap();
        use std::os::unix::fs::MetadataExt as _;
        (meta.mtime(), meta.mtime_nsec()) == (meta.ctime(), meta.ctime_nsec())
    });
    if !tied {
        println!("skipped: this file system's clock is too fine for a write and a rename to tie");
        return;
    }
    let listed = place.look_with(0, &["web.yaml"]);
    assert_eq!(taken(&listed, "web.yaml"), None);
    assert_eq!(listed.again_ms, Some(TICK_MS));
    let listed = place.look_with(TICK_MS, &["web.yaml"]);
    assert_eq!(taken(&listed, "web.yaml").as_deref(), Some("a"));
    // Written in place meanwhile, it is no longer what arrived.
    place.write("web.yaml", "half of a text");
    let listed = place.look_with(TICK_MS, &[]);
    assert!(matches!(listed.files["web.yaml"], File::Settling { .. }));
    assert_eq!(listed.again_ms, Some(SETTLE_MS));
}

#[test]
fn a_file_renamed_in_is_taken_at_once() {
    let mut place = Place::new();
    place.look(0);
    fs::write(place.path(".web.tmp"), "a").unwrap();
    // Times differ once the clock of the file system has moved on between write and rename.
    let wrote = fs::metadata(place.path(".web.tmp"))
        .unwrap()
        .modified()
        .unwrap();
    let probe = place.path(".probe");
    let moved_on = (0..10_000).any(|_| {
        fs::write(&probe, "x").unwrap();
        fs::metadata(&probe).unwrap().modified().unwrap() > wrote
    });
    assert!(moved_on);
    fs::rename(place.path(".web.tmp"), place.path("web.yaml")).unwrap();
    assert_eq!(
        taken(&place.look_with(0, &["web.yaml"]), "web.yaml").as_deref(),
        Some("a")
    );
}

#[test]
fn a_rename_hint_alone_takes_nothing_that_was_written_in_place() {
    let mut place = Place::new();
    place.write("web.yaml", "half");
    assert_eq!(taken(&place.look_with(0, &["web.yaml"]), "web.yaml"), None);
}

#[test]
fn equal_content_with_a_new_time_is_no_change() {
    let mut place = Place::new();
    place.write("web.yaml", "a");
    place.look(0);
    place.look(SETTLE_MS);
    place.write("web.yaml", "a");
    let listed = place.look(1);
    assert_eq!(taken(&listed, "web.yaml").as_deref(), Some("a"));
    assert_eq!(listed.again_ms, None);
}

#[test]
fn changed_content_with_the_old_size_and_time_is_a_change() {
    let mut place = Place::new();
    place.write("web.yaml", "a");
    place.look(0);
    place.look(SETTLE_MS);
    let old = fs::metadata(place.path("web.yaml"))
        .unwrap()
        .modified()
        .unwrap();
    place.write("web.yaml", "b");
    fs::File::options()
        .write(true)
        .open(place.path("web.yaml"))
        .unwrap()
        .set_modified(old)
        .unwrap();
    assert_eq!(taken(&place.look(1), "web.yaml"), None);
    assert_eq!(
        taken(&place.look(SETTLE_MS), "web.yaml").as_deref(),
        Some("b")
    );
}

#[test]
fn content_changed_through_another_hard_link_is_seen() {
    let mut place = Place::new();
    fs::set_permissions(place.dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
    place.write("web.yaml", "a");
    fs::hard_link(place.path("web.yaml"), place.path(".other")).unwrap();
    place.look(0);
    assert_eq!(
        taken(&place.look(SETTLE_MS), "web.yaml").as_deref(),
        Some("a")
    );
    fs::write(place.path(".other"), "changed").unwrap();
    place.look(0);
    assert_eq!(
        taken(&place.look(SETTLE_MS), "web.yaml").as_deref(),
        Some("changed")
    );
}

#[test]
fn leavings_of_editors_and_packages_are_ignored_and_listed_as_ignored() {
    let mut place = Place::new();
    let leavings = [
        ".web.yaml.swp",
        ".web.yaml.swx",
        "web.yaml~",
        "#web.yaml#",
        "4913",
        "web.yaml.bak",
        "web.yaml.tmp",
        ".goutputstream-AB12",
        "web.yaml.rpmsave",
        "web.yaml.dpkg-old",
        ".DS_Store",
        ".hidden.yaml",
        "~web.yaml",
        "web.json",
        "README.md",
    ];
    for name in leavings {
        place.write(name, "x");
    }
    symlink("user@host.123", place.path(".#web.yaml")).unwrap();
    fs::create_dir(place.path("folder.yaml")).unwrap();
    place.write("web.yaml", "x");
    place.write("db.yml", "x");
    let listed = place.look(0);
    assert_eq!(
        listed.files.keys().collect::<Vec<_>>(),
        ["db.yml", "web.yaml"]
    );
    for name in leavings.iter().chain(&[".#web.yaml", "folder.yaml"]) {
        assert!(
            listed.ignored.iter().any(|ignored| ignored == name),
            "{name}"
        );
    }
}

#[test]
fn only_regular_files_are_read_and_no_refusal_shows_content() {
    let mut place = Place::new();
    let outside = tempfile::Builder::new()
        .prefix("rcd-outside-")
        .tempdir()
        .unwrap();
    let secret = outside.path().join("secret");
    fs::write(&secret, "kTopSecret").unwrap();
    symlink(&secret, place.path("absolute.yaml")).unwrap();
    symlink("../../../../../../etc/shadow", place.path("climbing.yaml")).unwrap();
    symlink("nowhere", place.path("dangling.yaml")).unwrap();
    symlink("circle.yaml", place.path("circle.yaml")).unwrap();
    nix::unistd::mkfifo(&place.path("fifo.yaml"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(place.path("socket.yaml")).unwrap();
    symlink("/dev/zero", place.path("device.yaml")).unwrap();
    let sparse = fs::File::create(place.path("sparse.yaml")).unwrap();
    sparse.set_len(10 << 30).unwrap();
    place.write("open.yaml", "x");
    fs::set_permissions(place.path("open.yaml"), fs::Permissions::from_mode(0o666)).unwrap();
    for (name, says) in [
        ("absolute.yaml", "leaves the directory"),
        ("climbing.yaml", "leaves the directory"),
        ("dangling.yaml", "link to nothing"),
        ("circle.yaml", "circles"),
        ("fifo.yaml", "FIFO"),
        ("socket.yaml", "socket"),
        ("device.yaml", "leaves the directory"),
        ("sparse.yaml", "larger than"),
        ("open.yaml", "chmod o-w"),
    ] {
        let why = place.refusal(name);
        assert!(why.contains(says), "{name}: {why}");
        assert!(
            !why.contains("kTopSecret") && !why.contains("root:"),
            "{name}: {why}"
        );
    }
}

#[test]
fn a_second_name_is_refused_where_others_may_write() {
    let mut place = Place::new();
    fs::set_permissions(place.dir.path(), fs::Permissions::from_mode(0o775)).unwrap();
    place.write("web.yaml", "x");
    fs::hard_link(place.path("web.yaml"), place.path("other.yaml")).unwrap();
    assert!(place.refusal("web.yaml").contains("hard link"));
}

#[test]
fn links_that_stay_beneath_the_directory_are_followed_as_a_config_map_needs() {
    let mut place = Place::new();
    for (version, text) in [("..1", "one"), ("..2", "two")] {
        fs::create_dir(place.path(version)).unwrap();
        fs::write(place.path(version).join("web.yaml"), text).unwrap();
    }
    symlink("..1", place.path("..data")).unwrap();
    symlink("..data/web.yaml", place.path("web.yaml")).unwrap();
    place.look(0);
    assert_eq!(
        taken(&place.look(SETTLE_MS), "web.yaml").as_deref(),
        Some("one")
    );
    symlink("..2", place.path("..data_tmp")).unwrap();
    fs::rename(place.path("..data_tmp"), place.path("..data")).unwrap();
    place.look(0);
    assert_eq!(
        taken(&place.look(SETTLE_MS), "web.yaml").as_deref(),
        Some("two")
    );
}

#[test]
fn a_link_swapped_in_a_loop_never_leads_outside() {
    let mut place = Place::new();
    let outside = tempfile::Builder::new()
        .prefix("rcd-outside-")
        .tempdir()
        .unwrap();
    fs::write(outside.path().join("evil.yaml"), "kTopSecret").unwrap();
    place.write("inside.txt", "inside");
    let target = place.path("web.yaml");
    let swap = place.path(".swap");
    let evil = outside.path().join("evil.yaml");
    let stop = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let stopped = Arc::clone(&stop);
    let racer = std::thread::spawn(move || {
        while !stopped.load(std::sync::atomic::Ordering::Relaxed) {
            for to in [Path::new("inside.txt"), &evil] {
                drop(fs::remove_file(&swap));
                symlink(to, &swap).unwrap();
                fs::rename(&swap, &target).unwrap();
            }
        }
    });
    let mut read = 0;
    for _ in 0..2_000 {
        // A directory that never rests may also be found replaced or changed: no matter.
        let Ok(seen) = look(place.dir.path()) else {
            continue;
        };
        if let Some(Seen::Text(text)) = seen.files.get("web.yaml") {
            assert_eq!(&*text.bytes, b"inside");
            read += 1;
        }
    }
    stop.store(true, std::sync::atomic::Ordering::Relaxed);
    racer.join().unwrap();
    assert!(read > 0, "the race was never won by the good link");
    place.look(0);
}

#[test]
fn a_directory_that_vanished_or_cannot_be_read_says_nothing() {
    let mut place = Place::new();
    place.write("web.yaml", "a");
    place.look(0);
    place.look(SETTLE_MS);
    let away = place.path("").with_extension("away");
    fs::rename(place.dir.path(), &away).unwrap();
    let seen = look(place.dir.path());
    let listing = place.source.take_in(seen, &BTreeSet::new(), 9_000);
    assert!(
        listing
            .outcome
            .is_err_and(|why| why.contains("open the directory"))
    );
    fs::rename(&away, place.dir.path()).unwrap();
    assert_eq!(taken(&place.look(0), "web.yaml").as_deref(), Some("a"));
    fs::write(place.path("file"), "").unwrap();
    assert!(look(&place.path("file")).is_err());
}

#[test]
fn another_directory_on_the_same_path_is_told_apart() {
    let place = Place::new();
    let first = directory::identify(place.dir.path()).unwrap();
    assert!(first.is_same(&directory::identify(place.dir.path()).unwrap()));
    let away = place.path("").with_extension("away");
    fs::rename(place.dir.path(), &away).unwrap();
    fs::create_dir(place.dir.path()).unwrap();
    let second = directory::identify(place.dir.path()).unwrap();
    fs::remove_dir(&away).unwrap();
    assert!(!first.is_same(&second));
}

#[test]
fn a_listing_of_a_directory_in_motion_is_not_complete_or_is_right() {
    let place = Place::new();
    for n in 0..50 {
        place.write(&format!("f{n}.yaml"), "x");
    }
    let stop = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let stopped = Arc::clone(&stop);
    let path = place.dir.path().to_owned();
    let racer = std::thread::spawn(move || {
        while !stopped.load(std::sync::atomic::Ordering::Relaxed) {
            for n in 0..50 {
                let name = path.join(format!("f{n}.yaml"));
                let other = path.join(".moved");
                fs::rename(&name, &other).unwrap();
                fs::rename(&other, &name).unwrap();
            }
            std::thread::yield_now();
        }
    });
    for _ in 0..300 {
        let seen = look(place.dir.path()).unwrap();
        // At most one file is away at any moment.
        assert!(
            !seen.complete || seen.files.len() >= 49,
            "{}",
            seen.files.len()
        );
    }
    stop.store(true, std::sync::atomic::Ordering::Relaxed);
    racer.join().unwrap();
    assert_eq!(look(place.dir.path()).unwrap().files.len(), 50);
}
