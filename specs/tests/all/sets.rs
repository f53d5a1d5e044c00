//! Laws between specs.

use specs::diagnostic::Code;
use specs::validate::{Claim, duplicates, validate_set};

use super::taken;

fn spec(name: &str, volume: Option<&str>) -> specs::parse::Located {
    let mounts = volume.map_or(String::new(), |volume| {
        format!("  mounts: [{{path: /a, volume: {volume}}}, {{path: /b, volume: {volume}}}]\n")
    });
    let text = format!(
        "apiVersion: reconciler/v1\nkind: Container\nmetadata: {{name: {name}}}\nspec:\n  \
         rootfs: {{directory: /srv/rootfs/a}}\n{mounts}"
    );
    taken(&text).remove(0)
}

#[test]
fn each_name_and_each_volume_has_one_owner() {
    let set = [
        ("a.yaml".to_owned(), spec("web", Some("data"))),
        ("b.yaml".to_owned(), spec("db", Some("db"))),
        ("c.yaml".to_owned(), spec("web", None)),
        ("d.yaml".to_owned(), spec("other", Some("data"))),
    ];
    let found = duplicates(&set);
    let shown: Vec<_> = found
        .iter()
        .map(|duplicate| match &duplicate.claim {
            Claim::Name(name) => (name.as_str(), duplicate.by.clone()),
            Claim::Volume(volume) => (volume.as_str(), duplicate.by.clone()),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(shown, [("web", vec![0, 2]), ("data", vec![0, 3])]);
    let told = validate_set(&set);
    let shown: Vec<_> = told
        .iter()
        .map(|one| (one.code, one.file.as_str(), one.line))
        .collect();
    assert_eq!(
        shown,
        [
            (Code::DuplicateName, "c.yaml", 3),
            (Code::DuplicateVolume, "d.yaml", 6)
        ]
    );
    assert_eq!(
        told.first().unwrap().note.as_deref(),
        Some("held by `web`, a.yaml:1")
    );
}

#[test]
fn a_volume_mounted_twice_in_one_container_is_its_own() {
    assert_eq!(
        duplicates(&[("a.yaml".to_owned(), spec("web", Some("data")))]),
        []
    );
}

fn network(name: &str, network: &str) -> (String, specs::parse::Located) {
    let text = format!(
        "apiVersion: reconciler/v1\nkind: Container\nmetadata: {{name: {name}}}\nspec:\n  \
         rootfs: {{directory: /srv/a}}\n  network:\n    mode: isolated\n    {network}\n"
    );
    (format!("{name}.yaml"), taken(&text).remove(0))
}

/// What of a second container is refused beside a first one.
fn beside(first: &str, second: &str) -> Vec<(Code, u32)> {
    let set = [network("a", first), network("b", second)];
    let told = validate_set(&set);
    told.iter().map(|one| (one.code, one.line)).collect()
}

#[test]
fn a_port_of_the_host_and_an_address_have_one_owner() {
    let port = Code::DuplicatePort;
    for (first, second, wanted) in [
        (
            "ports: [{host: 80, address: 0.0.0.0}]",
            "ports: [{host: 80, address: 0.0.0.0}]",
            Some(port),
        ),
        (
            "ports: [{host: 80, address: 0.0.0.0}]",
            "ports: [{host: 81, address: 0.0.0.0}]",
            None,
        ),
        (
            "ports: [{host: 80, address: 0.0.0.0}]",
            "ports: [{host: 80, protocol: udp, address: 0.0.0.0}]",
            None,
        ),
        (
            "ports: [{host: 80, address: 0.0.0.0}]",
            "ports: [{host: 80, address: 127.0.0.1}]",
            Some(port),
        ),
        (
            "ports: [{host: 80, address: 0.0.0.0}]",
            "ports: [{host: 80, address: 0.0.0.0}]",
            Some(port),
        ),
        (
            "ports: [{host: 80, address: 192.0.2.1}]",
            "ports: [{host: 80, address: 127.0.0.1}]",
            None,
        ),
        (
            "address: 10.254.0.9",
            "address: 10.254.0.9",
            Some(Code::DuplicateAddress),
        ),
        ("address: 10.254.0.9", "address: 10.254.0.8", None),
    ] {
        let told = beside(first, second);
        let wanted: Vec<_> = wanted.into_iter().map(|code| (code, 8)).collect();
        assert_eq!(told, wanted, "{first} beside {second}");
    }
}

#[test]
fn a_circle_of_containers_is_told_at_the_last_of_them() {
    let spec = |name: &str, on: &str| {
        let text = format!(
            "apiVersion: reconciler/v1\nkind: Container\nmetadata: {{name: {name}}}\nspec:\n  \
             rootfs: {{directory: /srv/rootfs/a}}\n  dependsOn:\n    - {{container: nobody}}\n    \
             - {{container: {on}, condition: healthy}}\n"
        );
        (format!("{name}.yaml"), taken(&text).remove(0))
    };
    let set = [
        spec("web", "db"),
        spec("db", "cache"),
        spec("other", "web"),
        spec("cache", "web"),
    ];
    let told = validate_set(&set);
    let [told] = told.as_slice() else {
        panic!("{told:?}");
    };
    assert_eq!(told.code, Code::DependencyCycle);
    assert_eq!((told.file.as_str(), told.line), ("cache.yaml", 8));
    assert_eq!(
        told.message,
        "containers wait for each other: cache -> web -> db -> cache"
    );
    let note = told.note.as_deref().unwrap();
    assert!(
        note.contains("`db` waits for `cache` at db.yaml:8"),
        "{note}"
    );
}
