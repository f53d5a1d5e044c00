//! The keeper on a real store, real directories, real inotify and real listing threads. In
//! the core's place stands somebody who notes every intent and cleans what is deleted.

#[path = "tests/depends.rs"]
mod depends;
#[path = "tests/network.rs"]
mod network;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use reconciler_core::io::{Intent, Mode, Record, Ticket};
use specs::config::{Config, parse_config};
use specs::desired::Run;
use specs::id::{Generation, Incarnation, Key};
use store::{EventQuery, Options, Store};
use tokio::sync::{mpsc, oneshot, watch};

use super::{Applied, Beginning, Denied, Desk, Effect, Keeper, Note, Past, Texts, View};
use crate::accept::Origin;
use crate::api::wire::PlanFile;
use crate::ledger::Ledger;
use crate::overrides::Order;
use crate::profiles::Profiles;
use crate::shell::Message;
use crate::watch::Hint;

const BOUND: Duration = Duration::from_secs(30);

#[derive(Default)]
struct Seen {
    intents: Vec<(Key, Intent)>,
    mode: Option<Mode>,
}

impl Seen {
    fn now(&self, key: &str) -> Option<&Intent> {
        self.intents
            .iter()
            .rev()
            .find(|(of, _)| of.as_str() == key)
            .map(|(_, intent)| intent)
    }

    fn deletions(&self) -> usize {
        let deleted = |(_, intent): &&(Key, Intent)| matches!(intent, Intent::Deleted { .. });
        self.intents.iter().filter(deleted).count()
    }
}

struct World {
    dir: tempfile::TempDir,
    config: Config,
    running: Option<Running>,
    /// What the next start says of its look at the host.
    found_all: bool,
    seen: Arc<Mutex<Seen>>,
    /// What the first look at the host finds.
    found: crate::recover::Found,
}

struct Running {
    desk: Desk,
    view: watch::Receiver<Arc<View>>,
    store: Arc<Store>,
    keeper: JoinHandle<()>,
}

impl World {
    fn new() -> Self {
        Self::with("")
    }

    fn with(config: &str) -> Self {
        let mut world = Self {
            dir: tempfile::Builder::new()
                .prefix("rcd-keeper-")
                .tempdir()
                .unwrap(),
            config: if config.is_empty() {
                Config::default()
            } else {
                configured(config)
            },
            running: None,
            found: crate::recover::Found::default(),
            found_all: true,
            seen: Arc::default(),
        };
        fs::create_dir(world.specs()).unwrap();
        world.start(None);
        world
    }

    fn specs(&self) -> PathBuf {
        self.dir.path().join("specs.d")
    }

    fn start(&mut self, doubt: Option<&str>) {
        self.start_beside(doubt, &[]);
    }

    /// Starts where containers of these names are on the host.
    fn start_beside(&mut self, doubt: Option<&str>, found: &[&str]) {
        let state = self.dir.path().join("state");
        let (store, _) = Store::open(&Options {
            ballast_bytes: 0,
            ..Options::new(state.join("store"))
        })
        .unwrap();
        let store = Arc::new(store);
        let config = Arc::new(self.config.clone());
        let profiles = Profiles::new(&state);
        let (desk, notes) = Desk::channel();
        let (hint, hints) = Hint::channel();
        let (out, taken) = mpsc::channel(1024);
        let contents = store.contents().unwrap();
        let (readers, heard) = watch::channel(Arc::clone(&config));
        let (keeper, view, _) = Keeper::new(Beginning {
            incarnation: contents.incarnation,
            ledger: Ledger::load(contents, &config, &profiles, &self.found),
            config: Arc::clone(&config),
            readers,
            store: Arc::clone(&store),
            profiles,
            state,
            sources: vec![(self.specs(), hint.clone())],
            doubt: doubt.map(str::to_owned),
            found: self.found.clone(),
            found_generations: found
                .iter()
                .map(|name| (Key::new(*name).unwrap(), Generation(4)))
                .collect(),
            found_all: self.found_all,
            out,
        });
        note_everything(taken, Arc::clone(&self.seen), desk.clone());
        let keeper = std::thread::spawn(move || keeper.run(&notes));
        crate::listing::spawn(self.specs(), heard, desk.clone(), (hint, hints)).unwrap();
        self.running = Some(Running {
            desk,
            view,
            store,
            keeper,
        });
    }

    fn stop(&mut self) {
        let running = self.running.take().unwrap();
        assert!(running.desk.leave_patiently(Note::Close));
        running.keeper.join().unwrap();
        drop(running.desk);
        // The listing thread may hold the store's last handle no longer than its next look.
        until("the store to be closed", || {
            Arc::strong_count(&running.store) == 1
        });
    }

    fn restart(&mut self) {
        self.stop();
        *self.seen.lock().unwrap() = Seen::default();
        self.start(None);
    }

    fn running(&self) -> &Running {
        self.running.as_ref().unwrap()
    }

    fn write(&self, file: &str, text: &str) {
        let temporary = self.specs().join(format!(".{file}.tmp"));
        fs::write(&temporary, text).unwrap();
        fs::rename(temporary, self.specs().join(file)).unwrap();
    }

    fn view(&self) -> Arc<View> {
        Arc::clone(&self.running().view.borrow())
    }

    fn generation(&self, key: &str) -> Option<u64> {
        match self.seen.lock().unwrap().now(key) {
            Some(Intent::Present(wanted)) => Some(wanted.desired.generation.0),
            _ => None,
        }
    }

    fn wait_generation(&self, key: &str, generation: u64) {
        until(&format!("{key} at {generation}"), || {
            self.generation(key) == Some(generation)
        });
    }

    fn wait_gone(&self, key: &str) {
        until(&format!("{key} to be gone"), || {
            matches!(self.seen.lock().unwrap().now(key), Some(Intent::Gone))
        });
    }

    fn wait_notice(&self, says: &str) {
        until(&format!("a notice with {says}"), || {
            self.view()
                .notices
                .iter()
                .any(|notice| notice.contains(says))
        });
    }

    fn deletions(&self) -> usize {
        self.seen.lock().unwrap().deletions()
    }

    fn order(&self, key: &str, order: Order) -> Result<String, Denied> {
        let (reply, answer) = oneshot::channel();
        let key = Key::new(key).unwrap();
        self.running()
            .desk
            .leave(Note::Order(key, order, reply))
            .unwrap();
        answer.blocking_recv().unwrap()
    }

    fn sync(&self, allow: Option<u64>) -> Result<String, Denied> {
        let (reply, answer) = oneshot::channel();
        self.running().desk.leave(Note::Sync(allow, reply)).unwrap();
        answer.blocking_recv().unwrap()
    }

    /// Two more listings have come and changed nothing.
    fn look_twice(&self) {
        for _ in 0..2 {
            self.sync(None).unwrap();
            let quiet = Duration::from_millis(crate::source::SETTLE_MS + 200);
            let at = Instant::now();
            until("two looks", || at.elapsed() > quiet);
        }
    }

    fn reasons(&self) -> Vec<String> {
        let query = EventQuery {
            after: None,
            key: None,
            last: None,
            limit: 10_000,
        };
        let events = self.running().store.events(&query).unwrap();
        events.into_iter().map(|event| event.reason).collect()
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if let Some(running) = self.running.take() {
            running.desk.leave_patiently(Note::Close);
            running.keeper.join().ok();
        }
    }
}

fn configured(text: &str) -> Config {
    let text = format!("apiVersion: reconciler/v1\nkind: Config\n{text}");
    parse_config("config.yaml", text.as_bytes()).unwrap_or_else(|found| panic!("{found:?}"))
}

fn note_everything(mut taken: mpsc::Receiver<Message>, seen: Arc<Mutex<Seen>>, desk: Desk) {
    std::thread::spawn(move || {
        while let Some(message) = taken.blocking_recv() {
            match message {
                Message::Intents(intents) => {
                    for (key, intent) in intents {
                        if matches!(intent, Intent::Deleted { .. }) {
                            let record = Record::Cleaned { key: key.clone() };
                            desk.leave(Note::Append(Ticket(1), record)).ok();
                        }
                        seen.lock().unwrap().intents.push((key, intent));
                    }
                }
                Message::Mode(mode) => seen.lock().unwrap().mode = Some(mode),
                _ => {}
            }
        }
    });
}

fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !holds() {
        assert!(begun.elapsed() < BOUND, "waited in vain for {what}");
        std::thread::park_timeout(Duration::from_millis(10));
    }
}

fn spec(name: &str, more: &str) -> String {
    format!(
        "apiVersion: reconciler/v1\nkind: Container\nmetadata: {{name: {name}}}\nspec:\n  rootfs: \
         {{directory: /srv/rootfs}}\n{more}"
    )
}

#[test]
fn a_file_becomes_an_intent_and_its_removal_a_clean_store() {
    let world = World::new();
    world.write("web.yaml", &spec("web", ""));
    world.wait_generation("web", 1);
    assert_eq!(world.view().entries.len(), 1);
    fs::remove_file(world.specs().join("web.yaml")).unwrap();
    world.wait_gone("web");
    until("the head to go", || {
        world.running().store.contents().unwrap().heads.is_empty()
    });
    assert!(
        world
            .running()
            .store
            .contents()
            .unwrap()
            .id_ranges
            .is_empty()
    );
    let key = Key::new("web").unwrap();
    assert_eq!(
        world.running().store.history(&key).unwrap().len(),
        1,
        "history stays"
    );
}

#[test]
fn cosmetic_edits_and_another_file_name_make_no_generation() {
    let world = World::new();
    world.write(
        "web.yaml",
        &spec("web", "  limits: {memory: 64Mi, pids: 9}\n"),
    );
    world.wait_generation("web", 1);
    let cosmetic = spec(
        "\"web\" ",
        "  # why not\n  limits:\n    pids: 9\n    memory: 64Mi\n",
    );
    world.write("web.yaml", &format!("\n# a comment\n{cosmetic}"));
    let web = Key::new("web").unwrap();
    until("the new place", || {
        world.view().entries[&web].source.ends_with("web.yaml:3")
    });
    fs::rename(
        world.specs().join("web.yaml"),
        world.specs().join("shop.yml"),
    )
    .unwrap();
    until("the new name", || {
        world.view().entries[&web].source.ends_with("shop.yml:3")
    });
    world.look_twice();
    assert_eq!(world.generation("web"), Some(1));
    assert_eq!(world.deletions(), 0);
    assert_eq!(world.running().store.history(&web).unwrap().len(), 1);
}

#[test]
fn a_refused_edit_keeps_what_was_accepted_and_is_shown_where_it_is_wrong() {
    let mut world = World::new();
    world.write("web.yaml", &spec("web", ""));
    world.wait_generation("web", 1);
    world.write("web.yaml", &spec("web", "  memroy: 1\n"));
    let refusal = |world: &World| match world.seen.lock().unwrap().now("web") {
        Some(Intent::Present(wanted)) => wanted.refusal.clone(),
        _ => None,
    };
    until("the refusal", || {
        refusal(&world).is_some_and(|line| line.contains("web.yaml:6:3"))
    });
    world.restart();
    assert_eq!(world.generation("web").or(Some(1)), Some(1));
    until("the refusal after a restart", || refusal(&world).is_some());
    world.look_twice();
    assert_eq!((world.generation("web"), world.deletions()), (Some(1), 0));
    world.write("web.yaml", &spec("web", ""));
    until("it to be whole again", || refusal(&world).is_none());
    assert_eq!(world.generation("web"), Some(1));
}

#[test]
fn one_bad_document_refuses_the_whole_file_and_no_other() {
    let world = World::new();
    world.write(
        "two.yaml",
        &format!("{}---\n{}", spec("a", ""), spec("b", "")),
    );
    world.wait_generation("b", 1);
    let broken = format!(
        "{}---\n{}",
        spec("a", "  hostname: new\n"),
        spec("b", "  nope: 1\n")
    );
    world.write("two.yaml", &broken);
    world.write("c.yaml", &spec("c", ""));
    world.wait_generation("c", 1);
    until("the refusal", || world.view().refused.len() == 1);
    world.look_twice();
    assert_eq!(
        (world.generation("a"), world.generation("b")),
        (Some(1), Some(1))
    );
    assert_eq!(world.deletions(), 0);
}

#[test]
fn a_copy_of_a_spec_is_refused_while_the_original_runs_and_takes_over_when_it_goes() {
    let mut world = World::new();
    world.write("web.yaml", &spec("web", ""));
    world.wait_generation("web", 1);
    world.write("a-copy.yaml", &spec("web", "  hostname: copy\n"));
    until("the refusal", || {
        world
            .view()
            .refused
            .iter()
            .any(|one| one.path.contains("a-copy"))
    });
    assert_eq!(world.generation("web"), Some(1));
    assert!(world.reasons().contains(&"NameContested".to_owned()));
    world.restart();
    until("the refusal", || {
        world
            .view()
            .refused
            .iter()
            .any(|one| one.path.contains("a-copy"))
    });
    assert_eq!(world.generation("web"), Some(1));
    fs::remove_file(world.specs().join("web.yaml")).unwrap();
    world.wait_generation("web", 2);
    assert_eq!(world.deletions(), 0);
}

#[test]
fn a_volume_belongs_to_one_container_and_passes_on_when_that_lets_go() {
    let mut world = World::new();
    let mounts = |volume: &str| format!("  mounts: [{{path: /db, volume: {volume}}}]\n");
    world.write("web.yaml", &spec("web", &mounts("db")));
    world.wait_generation("web", 1);
    // Its path sorts first, and that is no help against an incumbent.
    world.write("a.yaml", &spec("other", &mounts("db")));
    let refused = |world: &World, file: &str, says: &str| {
        let view = world.view();
        let of = view.refused.iter().find(|one| one.path.contains(file));
        of.is_some_and(|one| one.rendered.contains(says))
    };
    until("the refusal", || {
        refused(&world, "a.yaml", "the volume db belongs to web")
    });
    assert_eq!(world.generation("other"), None);
    assert!(world.reasons().contains(&"VolumeContested".to_owned()));
    world.restart();
    until("the refusal", || {
        refused(&world, "a.yaml", "belongs to web")
    });
    // An edit that keeps it is no claim on another's.
    world.write(
        "web.yaml",
        &spec("web", &format!("  hostname: w\n{}", mounts("db"))),
    );
    world.wait_generation("web", 2);
    world.write("web.yaml", &spec("web", &mounts("other")));
    world.wait_generation("web", 3);
    world.wait_generation("other", 1);
    let two = format!(
        "{}---\n{}",
        spec("x", &mounts("new")),
        spec("y", &mounts("new"))
    );
    world.write("two.yaml", &two);
    until("the refusal of both", || {
        refused(&world, "two.yaml", "the volume new belongs to x")
    });
    assert_eq!(world.generation("x"), None);
    assert_eq!(world.deletions(), 0);
}

#[test]
fn two_files_may_swap_their_names() {
    let world = World::new();
    world.write("1.yaml", &spec("a", ""));
    world.write("2.yaml", &spec("b", ""));
    world.wait_generation("a", 1);
    world.wait_generation("b", 1);
    world.write("1.yaml", &spec("b", "  hostname: one\n"));
    world.write("2.yaml", &spec("a", "  hostname: two\n"));
    world.wait_generation("a", 2);
    world.wait_generation("b", 2);
    until("no refusal", || world.view().refused.is_empty());
    assert_eq!(world.deletions(), 0);
}

#[test]
fn a_mass_deletion_waits_for_a_person() {
    let world = World::new();
    let files: Vec<String> = (0..6).map(|n| format!("c{n}.yaml")).collect();
    for (n, file) in files.iter().enumerate() {
        world.write(file, &spec(&format!("c{n}"), ""));
    }
    for n in 0..6 {
        world.wait_generation(&format!("c{n}"), 1);
    }
    for file in &files {
        fs::remove_file(world.specs().join(file)).unwrap();
    }
    until("it to be held", || {
        world
            .view()
            .held
            .as_ref()
            .is_some_and(|held| held.names.len() == 6)
    });
    world.wait_notice("--allow-deletes 6");
    assert!(matches!(world.sync(Some(5)), Err(Denied::Conflict(_))));
    world.look_twice();
    assert_eq!(world.deletions(), 0);
    world.sync(Some(6)).unwrap();
    for n in 0..6 {
        world.wait_gone(&format!("c{n}"));
    }
    until("nothing to be held", || world.view().held.is_none());
}

#[test]
fn a_held_deletion_is_forgotten_when_the_files_come_back() {
    let world = World::new();
    for n in 0..4 {
        world.write(&format!("c{n}.yaml"), &spec(&format!("c{n}"), ""));
    }
    for n in 0..4 {
        world.wait_generation(&format!("c{n}"), 1);
    }
    let away = world.dir.path().join("away");
    fs::create_dir(&away).unwrap();
    for n in 0..4 {
        let name = format!("c{n}.yaml");
        fs::rename(world.specs().join(&name), away.join(&name)).unwrap();
    }
    until("it to be held", || world.view().held.is_some());
    for n in 0..4 {
        let name = format!("c{n}.yaml");
        fs::rename(away.join(&name), world.specs().join(&name)).unwrap();
    }
    until("nothing to be held", || world.view().held.is_none());
    assert_eq!((world.deletions(), world.generation("c0")), (0, Some(1)));
}

#[test]
fn a_vanished_directory_deletes_nothing_and_is_taken_up_again_when_it_returns() {
    let mut world = World::new();
    world.write("web.yaml", &spec("web", ""));
    world.wait_generation("web", 1);
    let away = world.dir.path().join("away");
    fs::rename(world.specs(), &away).unwrap();
    world.wait_notice("open the directory");
    world.restart();
    world.wait_notice("open the directory");
    world.look_twice();
    assert_eq!(world.deletions(), 0);
    fs::rename(&away, world.specs()).unwrap();
    world.write("web.yaml", &spec("web", "  hostname: back\n"));
    world.wait_generation("web", 2);
}

#[test]
fn an_empty_directory_in_the_place_of_the_known_one_deletes_nothing() {
    let mut world = World::new();
    world.write("web.yaml", &spec("web", ""));
    world.wait_generation("web", 1);
    let away = world.dir.path().join("away");
    fs::rename(world.specs(), &away).unwrap();
    fs::create_dir(world.specs()).unwrap();
    world.wait_notice("is its file system mounted?");
    world.restart();
    world.wait_notice("is its file system mounted?");
    assert_eq!(world.deletions(), 0);
    // A person says that it is right.
    world.sync(Some(1)).unwrap();
    world.wait_gone("web");
}

#[test]
fn an_unmounted_directory_deletes_nothing() {
    let world = World::new();
    let mount = |on: bool| {
        let path = world.specs();
        if on {
            nix::mount::mount(
                Some("rcd-test"),
                &path,
                Some("tmpfs"),
                nix::mount::MsFlags::empty(),
                Some("size=1m,mode=755"),
            )
            .unwrap();
        } else {
            nix::mount::umount2(&path, nix::mount::MntFlags::MNT_DETACH).unwrap();
        }
    };
    mount(true);
    let guard = Unmount(world.specs());
    world.write("web.yaml", &spec("web", ""));
    world.sync(None).unwrap();
    world.wait_generation("web", 1);
    mount(false);
    world.sync(None).unwrap();
    world.wait_notice("is its file system mounted?");
    world.look_twice();
    assert_eq!(world.deletions(), 0);
    drop(guard);
}

struct Unmount(PathBuf);

impl Drop for Unmount {
    fn drop(&mut self) {
        nix::mount::umount2(&self.0, nix::mount::MntFlags::MNT_DETACH).ok();
    }
}

fn git(directory: &Path, arguments: &[&str]) {
    let done = Command::new("/usr/bin/git")
        .args([
            "-c",
            "user.name=t",
            "-c",
            "user.email=t@example.org",
            "-c",
            "gc.auto=0",
        ])
        .args(arguments)
        .current_dir(directory)
        .env_clear()
        .env("HOME", directory)
        .output()
        .unwrap();
    assert!(
        done.status.success(),
        "{arguments:?}: {}",
        String::from_utf8_lossy(&done.stderr)
    );
}

#[test]
fn a_git_checkout_of_500_files_has_its_net_effect_only() {
    let world = World::new();
    let specs = world.specs();
    git(&specs, &["init", "-q", "-b", "one"]);
    for n in 0..500 {
        fs::write(specs.join(format!("c{n}.yaml")), spec(&format!("c{n}"), "")).unwrap();
    }
    git(&specs, &["add", "."]);
    git(&specs, &["commit", "-q", "-m", "one"]);
    git(&specs, &["checkout", "-q", "-b", "two"]);
    for n in 0..500 {
        let text = spec(&format!("c{n}"), "  hostname: two\n");
        fs::write(specs.join(format!("c{n}.yaml")), text).unwrap();
    }
    git(&specs, &["commit", "-q", "-a", "-m", "two"]);
    git(&specs, &["checkout", "-q", "one"]);
    until("all at some generation", || {
        (0..500).all(|n| world.generation(&format!("c{n}")).is_some())
    });
    let all_at = |hostname: &str| {
        let seen = world.seen.lock().unwrap();
        let mut now: BTreeMap<&str, &Intent> = BTreeMap::new();
        for (key, intent) in &seen.intents {
            now.insert(key.as_str(), intent);
        }
        now.len() == 500
            && now.iter().all(|(key, intent)| match intent {
                Intent::Present(wanted) => {
                    let wanted = &wanted.desired.container.hostname;
                    if hostname.is_empty() {
                        wanted == key
                    } else {
                        wanted == hostname
                    }
                }
                _ => false,
            })
    };
    until("the first branch", || all_at(""));
    git(&specs, &["checkout", "-q", "two"]);
    until("the second branch", || all_at("two"));
    // There and back at once: nothing may stay of it, and nothing may go on the way.
    git(&specs, &["checkout", "-q", "one"]);
    git(&specs, &["checkout", "-q", "two"]);
    world.look_twice();
    until("the second branch again", || all_at("two"));
    assert_eq!(world.deletions(), 0);
    let c7 = Key::new("c7").unwrap();
    assert!(world.running().store.newest_generation(&c7).unwrap() <= Generation(6));
}

#[test]
fn a_file_written_slowly_in_place_is_applied_once_with_its_last_content() {
    use std::io::Write as _;
    let world = World::new();
    world.write("web.yaml", &spec("web", ""));
    world.wait_generation("web", 1);
    let text = spec(
        "web",
        "  hostname: slow\n  limits: {memory: 64Mi, pids: 7}\n",
    );
    let mut file = fs::File::create(world.specs().join("web.yaml")).unwrap();
    for byte in text.as_bytes() {
        file.write_all(&[*byte]).unwrap();
        std::thread::park_timeout(Duration::from_millis(10));
    }
    drop(file);
    world.wait_generation("web", 2);
    world.look_twice();
    let history = world
        .running()
        .store
        .history(&Key::new("web").unwrap())
        .unwrap();
    assert_eq!(history.len(), 2);
    assert!(history[1].spec_json.contains("\"pids\":7"));
    assert_eq!(world.deletions(), 0);
}

#[test]
fn orders_outlive_the_daemon_and_end_with_an_edit_of_the_specs_own_field() {
    let mut world = World::new();
    world.write("web.yaml", &spec("web", ""));
    world.wait_generation("web", 1);
    world.order("web", Order::Stop).unwrap();
    let run = |world: &World| match world.seen.lock().unwrap().now("web") {
        Some(Intent::Present(wanted)) => Some((wanted.desired.run, wanted.override_note.clone())),
        _ => None,
    };
    let stopped = Some((Run::Stopped, Some("stopped".to_owned())));
    until("it to be stopped", || run(&world) == stopped);
    world.restart();
    until("it to be stopped still", || run(&world) == stopped);
    world.write("web.yaml", &spec("web", "  hostname: other\n"));
    world.wait_generation("web", 2);
    assert_eq!(run(&world), stopped, "another field's edit ends nothing");
    world.write(
        "web.yaml",
        &spec("web", "  hostname: other\n  suspend: true\n"),
    );
    world.wait_generation("web", 3);
    assert_eq!(run(&world), Some((Run::Running, None)));
    assert!(matches!(
        world.order("web", Order::Resume),
        Err(Denied::Conflict(_))
    ));
    assert!(matches!(
        world.order("none", Order::Stop),
        Err(Denied::Unknown(_))
    ));
}

#[test]
fn what_was_accepted_once_is_accepted_after_a_restart_whatever_policy_says_now() {
    let mut world = World::with("policy: [{name: all, privileged: true}]\n");
    world.write("web.yaml", &spec("web", "  security: {privileged: true}\n"));
    world.wait_generation("web", 1);
    world.config = Config::default();
    world.restart();
    world.wait_generation("web", 1);
    world.write("new.yaml", &spec("new", "  security: {privileged: true}\n"));
    until("the new one to be refused", || {
        world
            .view()
            .refused
            .iter()
            .any(|one| one.path.contains("new.yaml"))
    });
    assert_eq!(
        (world.generation("new"), world.generation("web")),
        (None, Some(1))
    );
}

#[test]
fn an_age_that_is_over_deletes_once_and_the_same_text_is_not_taken_again() {
    let mut world = World::new();
    world.write("web.yaml", &spec("web", "  ttl: 2s\n"));
    world.wait_generation("web", 1);
    world.wait_gone("web");
    world.wait_notice("`ttl` is over");
    world.look_twice();
    world.restart();
    world.look_twice();
    assert_eq!(world.generation("web"), None);
    let key = Key::new("web").unwrap();
    assert_eq!(
        world.running().store.newest_generation(&key).unwrap(),
        Generation(1)
    );
    world.write("web.yaml", &spec("web", "  ttl: 1h\n"));
    world.wait_generation("web", 2);
    // And a text that went leaves nothing behind.
    fs::remove_file(world.specs().join("web.yaml")).unwrap();
    until("the head to go", || {
        world.running().store.contents().unwrap().heads.is_empty()
    });
}

#[test]
fn in_doubt_nothing_is_destroyed_until_every_source_was_compared() {
    let mut world = World::new();
    world.write("web.yaml", &spec("web", ""));
    world.write("db.yaml", &spec("db", ""));
    world.wait_generation("web", 1);
    world.wait_generation("db", 1);
    world.stop();
    let away = world.dir.path().join("away");
    fs::rename(world.specs(), &away).unwrap();
    world.seen = Arc::default();
    world.start(Some("a test says so"));
    world.wait_notice("open the directory");
    let mode = |world: &World| world.seen.lock().unwrap().mode;
    until("a mode", || mode(&world).is_some());
    assert_eq!(
        mode(&world),
        Some(Mode {
            destroy: false,
            prune: false
        })
    );
    assert!(matches!(world.sync(Some(9)), Err(Denied::Conflict(_))));
    fs::remove_file(away.join("db.yaml")).unwrap();
    fs::rename(&away, world.specs()).unwrap();
    until("the doubt to end", || {
        mode(&world)
            == Some(Mode {
                destroy: true,
                prune: true,
            })
    });
    assert!(world.reasons().contains(&"SafeModeLeft".to_owned()));
    world.wait_generation("web", 1);
    world.wait_gone("db");
}

#[test]
fn a_pool_without_a_free_range_refuses_the_newcomer_by_name() {
    let world = World::with("pools: {ids: [{first: 500000, count: 65536}]}\n");
    world.write("a.yaml", &spec("a", ""));
    world.wait_generation("a", 1);
    world.write("b.yaml", &spec("b", ""));
    until("the refusal", || {
        world
            .view()
            .refused
            .iter()
            .any(|one| one.rendered.contains("pools.ids"))
    });
    fs::remove_file(world.specs().join("a.yaml")).unwrap();
    world.wait_generation("b", 1);
}

#[test]
fn lost_events_lose_nothing() {
    let world = World::new();
    // More than the kernel queues (`/proc/sys/fs/inotify/max_queued_events`).
    for n in 0..9_000 {
        let name = world.specs().join(format!(".t{n}"));
        fs::write(&name, "").unwrap();
        fs::remove_file(&name).unwrap();
    }
    world.write("web.yaml", &spec("web", ""));
    world.wait_generation("web", 1);
}

#[test]
fn an_incarnation_written_ahead_is_there_after_a_restart() {
    let mut world = World::new();
    world.write("web.yaml", &spec("web", ""));
    world.wait_generation("web", 1);
    let record = Record::LifeBegins {
        key: Key::new("web").unwrap(),
        incarnation: Incarnation(7),
        generation: Generation(1),
    };
    world
        .running()
        .desk
        .leave(Note::Append(Ticket(9), record))
        .unwrap();
    until("the record", || {
        !world.running().store.contents().unwrap().lives.is_empty()
    });
    world.restart();
    let contents = world.running().store.contents().unwrap();
    assert_eq!(
        (contents.incarnation, contents.lives.len()),
        (Incarnation(7), 1)
    );
}

impl World {
    fn apply(&self, texts: &[(&str, String)]) -> Result<Applied, Denied> {
        let (reply, answer) = oneshot::channel();
        let file = |(path, text): &(&str, String)| PlanFile {
            path: (*path).to_owned(),
            text: text.clone(),
        };
        let texts = Texts {
            files: texts.iter().map(file).collect(),
            uid: 0,
            origin: Origin::Socket,
        };
        self.running()
            .desk
            .leave(Note::Apply(texts, reply))
            .unwrap();
        answer.blocking_recv().unwrap()
    }

    fn delete(&self, key: &str) -> Result<String, Denied> {
        let (reply, answer) = oneshot::channel();
        let key = Key::new(key).unwrap();
        let note = Note::Delete(key, 0, reply);
        self.running().desk.leave(note).unwrap();
        answer.blocking_recv().unwrap()
    }
}

/// `NAME@GENERATION:EFFECT`, sorted by name.
fn effects(applied: &Applied) -> Vec<String> {
    let line = |(key, (generation, effect)): (&Key, &(Generation, Effect))| {
        format!("{key}@{generation}:{effect:?}")
    };
    applied.containers.iter().map(line).collect()
}

#[test]
fn what_is_applied_outlives_restarts_and_goes_by_its_deletion_only() {
    let mut world = World::new();
    let both = [("a.yaml", spec("web", "")), ("b.yaml", spec("db", ""))];
    let applied = world.apply(&both).unwrap();
    assert_eq!(effects(&applied), ["db@1:Created", "web@1:Created"]);
    world.wait_generation("web", 1);
    let changed = spec("web", "  limits: {pids: 9}\n");
    let both = [("x.yaml", format!("# moved\n{changed}")), both[1].clone()];
    let applied = world.apply(&both).unwrap();
    assert_eq!(effects(&applied), ["db@1:Unchanged", "web@2:Configured"]);
    let applied = world.apply(&both).unwrap();
    assert_eq!(effects(&applied), ["db@1:Unchanged", "web@2:Unchanged"]);
    // Listings of directories say nothing about it, before and after a restart.
    world.look_twice();
    world.restart();
    world.wait_generation("web", 2);
    world.look_twice();
    assert_eq!((world.generation("db"), world.deletions()), (Some(1), 0));
    let web = Key::new("web").unwrap();
    assert_eq!(world.view().entries[&web].source, "api");
    world.delete("web").unwrap();
    world.wait_gone("web");
    until("it to be unknown", || {
        matches!(world.delete("web"), Err(Denied::Unknown(_)))
    });
    assert_eq!(world.generation("db"), Some(1));
    let applied = world.apply(&[("x.yaml", changed)]).unwrap();
    assert_eq!(effects(&applied), ["web@3:Created"], "history goes on");
}

#[test]
fn applied_texts_are_taken_all_or_none() {
    let world = World::new();
    let good = ("a.yaml", spec("web", ""));
    let bad = [
        spec("db", "  limits: {memory: much}\n"),
        spec("web", "  limits: {pids: 3}\n"),
        spec("db", "  mounts: [{path: /d, source: /etc}]\n").replace("name: db", "name: DB"),
    ];
    for bad in bad {
        let applied = world.apply(&[good.clone(), ("b.yaml", bad)]).unwrap();
        assert!(applied.containers.is_empty());
        let refused: Vec<&String> = applied.refused.keys().collect();
        assert_eq!(refused, ["b.yaml"]);
    }
    assert!(world.running().store.contents().unwrap().heads.is_empty());
    assert!(world.view().entries.is_empty());
}

#[test]
fn a_name_has_one_source_of_truth() {
    let world = World::new();
    world.write("web.yaml", &spec("web", ""));
    world.wait_generation("web", 1);
    let other = spec("web", "  limits: {pids: 3}\n");
    let applied = world.apply(&[("mine.yaml", other.clone())]).unwrap();
    let said = &applied.refused["mine.yaml"].line;
    let place = format!("held by {}:1,", world.specs().join("web.yaml").display());
    assert!(
        said.contains(&place) && said.contains("edit that one"),
        "{said}"
    );
    let Err(Denied::Conflict(said)) = world.delete("web") else {
        panic!("a file's container was deleted");
    };
    assert!(said.contains("web.yaml:1"), "{said}");
    // And the other way round.
    world.apply(&[("db.yaml", spec("db", ""))]).unwrap();
    world.write("db.yaml", &spec("db", "  limits: {pids: 3}\n"));
    until("the file to be refused", || {
        world.view().refused.iter().any(|file| {
            file.path.ends_with("db.yaml") && file.rendered.contains("applied over the socket")
        })
    });
    assert_eq!(world.generation("db"), Some(1));
    // Let go of, the name is the other one's.
    world.delete("db").unwrap();
    world.wait_generation("db", 2);
    fs::remove_file(world.specs().join("web.yaml")).unwrap();
    world.wait_gone("web");
    let applied = world.apply(&[("mine.yaml", other)]).unwrap();
    assert_eq!(effects(&applied), ["web@2:Created"]);
}

#[test]
fn an_age_counts_for_what_was_applied_and_it_may_be_applied_again() {
    let world = World::new();
    let text = [("job.yaml", spec("job", "  ttl: 2s\n"))];
    world.apply(&text).unwrap();
    world.wait_generation("job", 1);
    world.wait_gone("job");
    until("its head to go", || {
        world.running().store.contents().unwrap().heads.is_empty()
    });
    let applied = world.apply(&text).unwrap();
    assert_eq!(effects(&applied), ["job@2:Created"]);
    world.wait_generation("job", 2);
}

#[test]
fn nothing_is_applied_or_deleted_while_the_store_is_in_doubt() {
    let mut world = World::new();
    world.apply(&[("db.yaml", spec("db", ""))]).unwrap();
    world.stop();
    fs::rename(world.specs(), world.dir.path().join("away")).unwrap();
    world.start(Some("a test says so"));
    for denied in [
        world.apply(&[("a.yaml", spec("web", ""))]).map(drop),
        world.delete("db").map(drop),
    ] {
        let Err(Denied::Unavailable(said)) = denied else {
            panic!("{denied:?}");
        };
        assert!(said.contains("in doubt: a test says so"), "{said}");
    }
    assert_eq!(world.deletions(), 0);
}

#[test]
fn what_a_lost_store_no_longer_names_is_kept_until_it_is_applied_again_or_let_go() {
    let mut world = World::new();
    world.write("web.yaml", &spec("web", ""));
    world.wait_generation("web", 1);
    let mode = |world: &World| world.seen.lock().unwrap().mode;
    let destroys = |world: &World| mode(world).is_some_and(|mode| mode.destroy || mode.prune);
    for is_applied in [true, false] {
        world.stop();
        world.seen = Arc::default();
        world.start_beside(Some("it was lost"), &["web", "db", "job"]);
        world.wait_notice("left alone: db, job; bring");
        world.look_twice();
        assert!(!destroys(&world));
        assert!(matches!(world.sync(Some(1)), Err(Denied::Conflict(_))));
        if is_applied {
            let applied = world.apply(&[("db.yaml", spec("db", ""))]).unwrap();
            assert_eq!(
                effects(&applied),
                ["db@5:Created"],
                "after what the host had"
            );
            world.look_twice();
            assert!(!destroys(&world));
            world.apply(&[("job.yaml", spec("job", ""))]).unwrap();
            until("the doubt to end", || destroys(&world));
            for name in ["db", "job"] {
                world.delete(name).unwrap();
                world.wait_gone(name);
            }
        } else {
            world.sync(Some(2)).unwrap();
            until("the doubt to end", || destroys(&world));
        }
    }
}

impl World {
    fn past(&self, key: &str) -> Result<Vec<Past>, Denied> {
        let (reply, answer) = oneshot::channel();
        let note = Note::Past(Key::new(key).unwrap(), reply);
        self.running().desk.leave(note).unwrap();
        answer.blocking_recv().unwrap()
    }

    fn roll_back(&self, key: &str, to: Option<u64>) -> Result<String, Denied> {
        let (reply, answer) = oneshot::channel();
        let key = Key::new(key).unwrap();
        let note = Note::RollBack(key, to.map(Generation), 0, reply);
        self.running().desk.leave(note).unwrap();
        answer.blocking_recv().unwrap()
    }
}

#[test]
fn an_earlier_generation_is_applied_anew_and_history_says_what_was() {
    let world = World::new();
    let limits = |pids: u32| {
        let everything = "  env: {A: one, B: \"\"}\n  files: [{path: /etc/a, content: x, mode: \
                          \"0600\", user: app}]\n  processes: [{name: p, command: [/bin/sh, -c, \
                          \"a: {b\"], restart: {backoff: {initial: 1s}}}]\n  ttl: 3h\n";
        spec(
            "web",
            &format!("{everything}  limits: {{pids: {pids}, memory: 64Mi}}\n"),
        )
    };
    for pids in [11, 12, 13] {
        let applied = world.apply(&[("web.yaml", limits(pids))]).unwrap();
        assert_eq!(applied.refused, BTreeMap::new());
    }
    let digests = |world: &World| {
        let past = world.past("web").unwrap();
        assert!(past.iter().all(|one| one.desired.is_some()));
        past.into_iter()
            .map(|one| one.accepted.digest)
            .collect::<Vec<_>>()
    };
    let said = world.roll_back("web", None).unwrap();
    assert_eq!(said, "web: generation 4 is as generation 2 was");
    let said = world.roll_back("web", Some(1)).unwrap();
    assert_eq!(said, "web: generation 5 is as generation 1 was");
    let said = world.roll_back("web", Some(1)).unwrap();
    assert_eq!(said, "web: it is as generation 1 was already");
    world.wait_generation("web", 5);
    let all = digests(&world);
    // To the byte what was accepted then.
    assert_eq!((all.len(), all[3], all[4]), (5, all[1], all[0]));
    let current = world
        .past("web")
        .unwrap()
        .into_iter()
        .filter(|one| one.is_current);
    assert_eq!(
        current
            .map(|one| one.accepted.generation.0)
            .collect::<Vec<_>>(),
        [5]
    );
    let Err(Denied::Unknown(said)) = world.roll_back("web", Some(9)) else {
        panic!("there is no ninth");
    };
    assert_eq!(said, "web has no generation 9; 1 to 5 are kept");
    // What was deleted comes back.
    world.delete("web").unwrap();
    world.wait_gone("web");
    assert!(world.past("web").unwrap().iter().all(|one| !one.is_current));
    let said = world.roll_back("web", None).unwrap();
    assert_eq!(said, "web: generation 6 is as generation 5 was");
    assert!(matches!(world.past("db"), Err(Denied::Unknown(_))));
    assert!(matches!(
        world.roll_back("db", None),
        Err(Denied::Unknown(_))
    ));
    // A file's container is changed in its file.
    world.write("db.yaml", &spec("db", ""));
    world.wait_generation("db", 1);
    world.write("db.yaml", &spec("db", "  limits: {pids: 3}\n"));
    world.wait_generation("db", 2);
    let Err(Denied::Conflict(said)) = world.roll_back("db", None) else {
        panic!("a file's container was changed");
    };
    assert!(said.contains("db.yaml:1"), "{said}");
    assert_eq!(world.past("db").unwrap().len(), 2);
}

#[test]
fn a_host_that_was_not_listed_whole_keeps_a_doubt_until_a_person_speaks() {
    let mut world = World::new();
    world.stop();
    world.found_all = false;
    world.seen = Arc::default();
    world.start(Some("it was lost"));
    world.wait_notice("could not be listed whole");
    world.look_twice();
    let destroys = |world: &World| {
        world
            .seen
            .lock()
            .unwrap()
            .mode
            .is_some_and(|one| one.destroy)
    };
    assert!(!destroys(&world));
    world.sync(Some(0)).unwrap();
    until("the doubt to end", || destroys(&world));
}

#[test]
fn two_texts_of_one_name_are_not_one() {
    let world = World::new();
    let texts = [("-", spec("web", "")), ("-", spec("db", ""))];
    let applied = world.apply(&texts).unwrap();
    assert!(applied.refused["-"].line.contains("two texts"));
    let twice = [texts[0].clone(), texts[0].clone()];
    assert_eq!(effects(&world.apply(&twice).unwrap()), ["web@1:Created"]);
}
