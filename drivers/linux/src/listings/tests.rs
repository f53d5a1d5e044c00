use std::fs::{create_dir, remove_dir, rename};

use super::*;

fn instance() -> Instance {
    Instance::new("main").unwrap()
}

fn key(name: &str) -> Key {
    Key::new(name).unwrap()
}

fn leaves(listings: &Listings, path: &Path, key: Option<&Key>) -> Vec<String> {
    let marks = listings.marks(path, key).unwrap();
    marks.iter().map(Mark::leaf).collect()
}

#[test]
fn a_kept_listing_is_what_a_fresh_one_is() {
    let dir = tempfile::tempdir().unwrap();
    let listings = Listings::new(&instance());
    let at = |name: &str| dir.path().join(name);
    create_dir(at("web.1")).unwrap();
    assert_eq!(leaves(&listings, dir.path(), None), ["web.1"]);
    create_dir(at("db.7")).unwrap();
    create_dir(at("web.2")).unwrap();
    create_dir(at("no mark")).unwrap();
    assert_eq!(
        leaves(&listings, dir.path(), None),
        ["db.7", "web.1", "web.2"]
    );
    assert_eq!(
        leaves(&listings, dir.path(), Some(&key("web"))),
        ["web.1", "web.2"]
    );
    remove_dir(at("web.1")).unwrap();
    rename(at("db.7"), at("db.8")).unwrap();
    assert_eq!(leaves(&listings, dir.path(), None), ["db.8", "web.2"]);
    remove_dir(at("db.8")).unwrap();
    assert!(leaves(&listings, dir.path(), Some(&key("db"))).is_empty());
}

#[test]
fn another_directory_in_its_place_is_listed_anew() {
    let dir = tempfile::tempdir().unwrap();
    let listings = Listings::new(&instance());
    let path = dir.path().join("lives");
    create_dir(&path).unwrap();
    create_dir(path.join("web.1")).unwrap();
    assert_eq!(leaves(&listings, &path, None), ["web.1"]);
    rename(&path, dir.path().join("old")).unwrap();
    assert!(listings.marks(&path, None).is_err(), "there is none");
    create_dir(&path).unwrap();
    assert!(leaves(&listings, &path, None).is_empty());
    create_dir(path.join("web.2")).unwrap();
    create_dir(dir.path().join("old/web.3")).unwrap();
    assert_eq!(leaves(&listings, &path, None), ["web.2"]);
    remove_dir(path.join("web.2")).unwrap();
    remove_dir(&path).unwrap();
    assert!(listings.marks(&path, None).is_err());
    create_dir(&path).unwrap();
    create_dir(path.join("web.4")).unwrap();
    assert_eq!(leaves(&listings, &path, None), ["web.4"]);
}

#[test]
fn more_than_the_queue_holds_is_not_lost() {
    let dir = tempfile::tempdir().unwrap();
    let listings = Listings::new(&instance());
    create_dir(dir.path().join("web.1")).unwrap();
    assert_eq!(leaves(&listings, dir.path(), None), ["web.1"]);
    let most = std::fs::read_to_string("/proc/sys/fs/inotify/max_queued_events").unwrap();
    let most: usize = most.trim().parse().unwrap();
    // Bounded: 16384 by default.
    for _ in 0..most.min(40_000) / 2 + 10 {
        create_dir(dir.path().join("db.1")).unwrap();
        remove_dir(dir.path().join("db.1")).unwrap();
    }
    create_dir(dir.path().join("web.2")).unwrap();
    assert_eq!(leaves(&listings, dir.path(), None), ["web.1", "web.2"]);
    remove_dir(dir.path().join("web.1")).unwrap();
    assert_eq!(leaves(&listings, dir.path(), None), ["web.2"]);
}
