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
