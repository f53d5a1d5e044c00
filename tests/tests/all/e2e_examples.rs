//! Every story of `examples/`, as it stands there, on the shipped programs.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use tests::eventually::eventually;
use tests::network::Network;
use tests::world::{SOON, World};

/// Story, the phase its container comes to, and what one of its processes says.
const STORIES: &[(&str, &str, &str)] = &[
    ("dependent", "Running", "web with schema"),
    ("files", "Running", "hello, level is info"),
    ("hardened", "Running", "cpuinfo: hidden"),
    ("job", "Completed", "done"),
    ("limits", "Running", "burning"),
    ("published", "Running", "192.0.2.10 db.local"),
    ("sidecar", "Running", "UTC"),
    ("stopped", "Stopped", ""),
    (
        "volume",
        "Running",
        "start 1 on this volume, 1 on this root",
    ),
    ("web", "Running", ""),
    ("worker", "Running", "did piece 2 of work"),
];

fn folder() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples")
}

#[test]
fn every_story_is_in_the_table() {
    let told: BTreeSet<String> = fs::read_dir(folder())
        .expect("list the examples")
        .flatten()
        .filter(|entry| entry.path().is_dir())
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect();
    let listed: BTreeSet<String> = STORIES
        .iter()
        .map(|(name, ..)| (*name).to_owned())
        .collect();
    assert_eq!(told, listed);
}

#[test]
fn every_story_comes_true() {
    let network = Network::new();
    let mut world = World::new().on(&network);
    world.start();
    let address = format!("127.0.0.1:{}", tests::host::free_port());
    for (story, ..) in STORIES {
        let path = folder().join(story).join(format!("{story}.yaml"));
        // A port that the machine running the tests may hold is not part of the story.
        let text = fs::read_to_string(path).expect("read an example");
        world.write(
            &format!("{story}.yaml"),
            &text.replace("127.0.0.1:8480", &address),
        );
    }
    for (story, phase, says) in STORIES {
        world.wait_phase(story, phase);
        eventually(&format!("{story} to say {says:?}"), SOON, || {
            let text = String::from_utf8_lossy(&world.cli(&["logs", story]).stdout).into_owned();
            if text.contains(says) {
                Ok(())
            } else {
                Err(text)
            }
        });
    }
    assert_eq!(network.get("127.0.0.1:8490"), Some("published".to_owned()));
    let probe = String::from_utf8_lossy(&world.cli(&["logs", "hardened"]).stdout).into_owned();
    for line in [
        "CapEff:\t0000000000000000",
        "root: read-only",
        "tmp: writable",
    ] {
        assert!(probe.contains(line), "{line} is not in {probe}");
    }
    world.finish();
    network.check_clean();
}
