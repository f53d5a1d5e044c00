//! Real inotify. Each law is about what a hint may and may not do.

use std::fs;

use super::*;

const BOUND: Duration = Duration::from_secs(10);

struct Place {
    dir: tempfile::TempDir,
    specs: PathBuf,
    watch: Watch,
    hints: Receiver<()>,
}

fn place() -> Place {
    let dir = tempfile::Builder::new()
        .prefix("rcd-watch-")
        .tempdir()
        .unwrap();
    let specs = dir.path().join("specs.d");
    fs::create_dir(&specs).unwrap();
    let (hint, hints) = Hint::channel();
    let mut watch = Watch::new(specs.clone(), hint);
    assert_eq!(watch.refresh(), None);
    let mut place = Place {
        dir,
        specs,
        watch,
        hints,
    };
    place.settle();
    place
}

impl Place {
    /// Takes hints until none has come for a while.
    fn settle(&mut self) {
        while self.hints.recv_timeout(QUIET * 3).is_ok() {}
    }

    fn hinted(&self) -> bool {
        self.hints.recv_timeout(BOUND).is_ok()
    }
}

#[test]
fn every_way_to_save_a_file_gives_a_hint() {
    let mut place = place();
    let file = place.specs.join("web.yaml");
    let ways: [(&str, &dyn Fn()); 5] = [
        ("create", &|| fs::write(&file, "a").unwrap()),
        ("in place", &|| fs::write(&file, "b").unwrap()),
        ("rename in", &|| {
            let tmp = place.dir.path().join("tmp");
            fs::write(&tmp, "c").unwrap();
            fs::rename(&tmp, &file).unwrap();
        }),
        ("rename out", &|| {
            fs::rename(&file, place.dir.path().join("gone")).unwrap()
        }),
        ("link swap", &|| {
            std::os::unix::fs::symlink("x", place.specs.join("..data")).unwrap()
        }),
    ];
    for (way, act) in ways {
        act();
        assert!(place.hinted(), "{way}");
        while place.hints.recv_timeout(QUIET * 3).is_ok() {}
    }
    place.settle();
}

#[test]
fn listing_the_directory_gives_no_hint() {
    let mut place = place();
    fs::write(place.specs.join("web.yaml"), "a").unwrap();
    place.settle();
    for _ in 0..20 {
        crate::source::directory::look(&place.specs).unwrap();
    }
    assert!(place.hints.recv_timeout(QUIET * 5).is_err());
}

#[test]
fn changes_beside_the_directory_give_no_hint() {
    let mut place = place();
    place.settle();
    fs::write(place.dir.path().join("other"), "a").unwrap();
    assert!(place.hints.recv_timeout(QUIET * 5).is_err());
}

#[test]
fn a_replaced_directory_is_watched_again() {
    let mut place = place();
    fs::rename(&place.specs, place.dir.path().join("old")).unwrap();
    fs::create_dir(&place.specs).unwrap();
    assert!(place.hinted(), "the parent tells of the replacement");
    assert_eq!(place.watch.refresh(), None);
    place.settle();
    fs::write(place.specs.join("web.yaml"), "a").unwrap();
    assert!(place.hinted());
}

#[test]
fn a_directory_that_is_not_there_yet_is_noticed_when_it_comes() {
    let dir = tempfile::Builder::new()
        .prefix("rcd-watch-")
        .tempdir()
        .unwrap();
    let specs = dir.path().join("specs.d");
    let (hint, hints) = Hint::channel();
    let mut watch = Watch::new(specs.clone(), hint);
    assert_eq!(watch.refresh(), None);
    while hints.recv_timeout(QUIET * 3).is_ok() {}
    fs::create_dir(&specs).unwrap();
    assert!(hints.recv_timeout(BOUND).is_ok());
}

#[test]
fn a_rescan_flag_means_that_everything_may_have_changed() {
    let path = Path::new("/specs.d");
    let renamed = Mutex::new(BTreeSet::from(["web.yaml".to_owned()]));
    let event = Ok(Event::new(EventKind::Other).set_flag(notify::event::Flag::Rescan));
    assert!(concerns(&event, path));
    note(&event, path, &renamed);
    assert!(
        renamed.lock().unwrap().is_empty(),
        "no rename is believed after lost events"
    );
    assert!(concerns(&Err(notify::Error::generic("queue")), path));
}

#[test]
fn a_rename_is_remembered_until_the_file_is_written() {
    let mut place = place();
    let file = place.specs.join("web.yaml");
    let tmp = place.specs.join(".tmp");
    fs::write(&tmp, "a").unwrap();
    fs::rename(&tmp, &file).unwrap();
    place.settle();
    assert!(place.watch.renamed().contains("web.yaml"));
    fs::write(&file, "b").unwrap();
    place.settle();
    assert!(!place.watch.renamed().contains("web.yaml"));
}

/// Waits when nothing arrived whole.
fn patiently(hints: &Receiver<()>, at_most: Duration) -> Woken {
    wait(hints, at_most, BOUND, &|| false)
}

#[test]
fn what_arrived_whole_is_looked_at_once_rested() {
    let (hint, hints) = Hint::channel();
    hint.give();
    let began = crate::clock::instant();
    let rest = Duration::from_millis(20);
    assert_eq!(wait(&hints, BOUND, rest, &|| true), Woken::Hint);
    let took = began.elapsed();
    assert!(took >= rest && took < QUIET, "{took:?}");
}

#[test]
fn a_burst_is_one_look_and_an_endless_one_is_looked_into_after_a_second() {
    let (hint, hints) = Hint::channel();
    let stop = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let stopped = Arc::clone(&stop);
    let writer = std::thread::spawn(move || {
        while !stopped.load(std::sync::atomic::Ordering::Relaxed) {
            hint.give();
            std::thread::sleep(Duration::from_millis(5));
        }
    });
    let began = crate::clock::instant();
    assert_eq!(patiently(&hints, BOUND), Woken::Hint);
    let took = began.elapsed();
    stop.store(true, std::sync::atomic::Ordering::Relaxed);
    writer.join().unwrap();
    assert!(took >= BURST_MAX, "{took:?}");
    assert!(took < BURST_MAX * 4, "{took:?}");
    while patiently(&hints, QUIET) == Woken::Hint {}
    assert_eq!(patiently(&hints, QUIET), Woken::Closed);
}

#[test]
fn without_any_hint_the_directory_is_listed_all_the_same() {
    let (_hint, hints) = Hint::channel();
    assert_eq!(patiently(&hints, Duration::from_millis(20)), Woken::Time);
    let origin = crate::clock::instant();
    for _ in 0..200 {
        let drawn = crate::retry::jittered(RELIST, origin);
        assert!((10..=30).contains(&drawn.as_secs()), "{drawn:?}");
    }
}
