//! Containers that wait for each other.

use super::*;

fn on(others: &str) -> String {
    format!("  dependsOn: [{others}]\n")
}

fn refusal(world: &World, file: &str) -> Option<String> {
    let view = world.view();
    let of = view.refused.iter().find(|one| one.path.contains(file));
    of.map(|one| one.rendered.clone())
}

#[test]
fn whoever_closes_a_circle_is_refused_and_what_stands_stays() {
    let world = World::new();
    world.write("web.yaml", &spec("web", &on("{container: db}")));
    world.wait_generation("web", 1);
    world.write("db.yaml", &spec("db", &on("{container: cache}")));
    world.wait_generation("db", 1);
    world.write("cache.yaml", &spec("cache", &on("{container: web}")));
    until("the refusal", || refusal(&world, "cache.yaml").is_some());
    let why = refusal(&world, "cache.yaml").unwrap();
    assert!(why.contains("cache -> web -> db -> cache"), "{why}");
    assert!(why.contains("cache.yaml:1"), "{why}");
    assert_eq!(world.generation("cache"), None);
    assert_eq!(world.generation("db"), Some(1));
    // Once another one lets go, it is taken.
    world.write("db.yaml", &spec("db", ""));
    world.wait_generation("cache", 1);
    until("no refusal", || refusal(&world, "cache.yaml").is_none());
    // Two may turn around in one edit, and an edit that closes a circle leaves the old text.
    world.write("web.yaml", &spec("web", &on("{container: cache}")));
    until("the refusal", || refusal(&world, "web.yaml").is_some());
    assert_eq!(world.generation("web"), Some(1));
    world.write("cache.yaml", &spec("cache", ""));
    until("the turn", || refusal(&world, "web.yaml").is_none());
    world.wait_generation("web", 2);
}

#[test]
fn of_several_newcomers_the_first_path_stays_and_nobody_else_pays() {
    let world = World::new();
    world.write("b.yaml", &spec("b", &on("{container: a}")));
    world.write("c.yaml", &spec("c", ""));
    world.write(
        "a.yaml",
        &spec("a", &on("{container: b}, {container: nobody}")),
    );
    until("the refusal", || {
        refusal(&world, "a.yaml")
            .or(refusal(&world, "b.yaml"))
            .is_some()
    });
    world.wait_generation("c", 1);
    let stands = world.generation("a").or(world.generation("b"));
    assert_eq!(stands, Some(1));
    assert!(world.generation("a").is_none() || world.generation("b").is_none());
}
