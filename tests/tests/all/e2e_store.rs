//! The store of a daemon that does not run: looked at, exported, imported elsewhere.

use std::process::Output;

use tests::world::World;

use crate::e2e_life::WORKER;

fn store(world: &World, words: &[&str], state: &str) -> Output {
    let state = world.path(state).display().to_string();
    let more = ["--state-dir", &state, "--instance", world.instance()];
    world.cli(&[&["store"], words, &more].concat())
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&[&output.stdout[..], &output.stderr].concat()).into_owned()
}

#[test]
fn an_exported_store_goes_on_elsewhere_under_the_same_pids() {
    let mut world = World::new();
    world.start();
    let text = world.path("worker.yaml");
    std::fs::write(&text, world.localised(WORKER)).expect("write a text");
    let applied = world.cli(&["apply", "-f", &text.display().to_string(), "--wait"]);
    assert!(applied.status.success(), "{applied:?}");
    let pid = world.pid("worker", "count");
    let file = world.path("export").display().to_string();
    for words in [&["check"][..], &["export", &file]] {
        let refused = store(&world, words, "state");
        assert_eq!(
            refused.status.code(),
            Some(75),
            "{words:?}: {}",
            said(&refused)
        );
    }
    world.stop();

    let checked = store(&world, &["check"], "state");
    assert!(checked.status.success(), "{}", said(&checked));
    assert!(
        said(&checked).ends_with("nothing is wrong\n"),
        "{}",
        said(&checked)
    );
    let exported = store(&world, &["export", &file], "state");
    assert!(exported.status.success(), "{}", said(&exported));
    let again = store(&world, &["export", &file], "state");
    assert_eq!(again.status.code(), Some(1));
    assert!(
        said(&again).contains("is there already"),
        "{}",
        said(&again)
    );

    let whole = std::fs::read_to_string(&file).expect("read the export");
    let altered = world.path("altered").display().to_string();
    std::fs::write(&altered, whole.replacen("worker", "walker", 1)).expect("alter it");
    let refused = store(&world, &["import", &altered], "elsewhere");
    assert_eq!(refused.status.code(), Some(1));
    assert!(
        said(&refused).contains("line 2: its digits do not fit it"),
        "{}",
        said(&refused)
    );
    let occupied = store(&world, &["import", &file], "state");
    assert!(
        said(&occupied).contains("holds a store already"),
        "{}",
        said(&occupied)
    );

    // The store is lost, its directories are not: the container is who it was.
    let own = world.path("state").join(world.instance());
    std::fs::remove_dir_all(own.join("store")).expect("lose the store");
    let imported = store(&world, &["import", &file], "state");
    assert!(imported.status.success(), "{}", said(&imported));
    world.start();
    world.wait_phase("worker", "Running");
    assert_eq!(world.pid("worker", "count"), pid);
    assert_eq!(world.status("worker")["generation"], 1);
    let version = world.json(&["version", "-o", "json"]);
    assert_eq!(
        version["daemon"]["safeMode"],
        serde_json::Value::Null,
        "{version:#}"
    );
    let deleted = world.cli(&["delete", "worker", "--wait"]);
    assert!(
        deleted.status.success(),
        "it is an applied one: {deleted:?}"
    );

    world.stop();
    std::fs::remove_file(own.join("store/witness")).expect("lose the witness");
    let checked = store(&world, &["check"], "state");
    assert_eq!(checked.status.code(), Some(1));
    assert!(
        said(&checked).contains("wrong: its witness is gone\n"),
        "{}",
        said(&checked)
    );
    world.start();
    world.finish();
}
