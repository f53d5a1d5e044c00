//! Ports of the host and addresses have one owner each.

use std::net::Ipv4Addr;

use super::*;

fn isolated(more: &str) -> String {
    format!("  network: {{mode: isolated{more}}}\n")
}

fn port(number: u16) -> String {
    isolated(&format!(", ports: [{{host: {number}, address: 0.0.0.0}}]"))
}

fn refused(world: &World, file: &str, says: &str) -> bool {
    let view = world.view();
    let of = view.refused.iter().find(|one| one.path.contains(file));
    of.is_some_and(|one| one.rendered.contains(says))
}

fn address(world: &World, key: &str) -> Option<Ipv4Addr> {
    let view = world.view();
    let entry = view.entries.get(&Key::new(key).unwrap())?;
    let network = entry.desired.container.network;
    network.isolated().map(|isolated| isolated.address)
}

fn ports(world: &World, key: &str) -> Vec<u16> {
    let view = world.view();
    let entry = view.entries.get(&Key::new(key).unwrap());
    let ports = entry.iter().flat_map(|entry| &entry.desired.ports);
    ports.map(|port| port.host).collect()
}

#[test]
fn a_port_belongs_to_one_container_passes_on_and_changes_places() {
    let world = World::new();
    world.write("a.yaml", &spec("a", &port(80)));
    world.wait_generation("a", 1);
    world.write("b.yaml", &spec("b", &port(80)));
    until("the refusal", || {
        refused(&world, "b.yaml", "the host's port 80/tcp belongs to a")
    });
    assert!(world.reasons().contains(&"PortContested".to_owned()));
    world.write("a.yaml", &spec("a", &port(81)));
    world.wait_generation("b", 1);
    assert_eq!(
        (ports(&world, "a"), ports(&world, "b")),
        (vec![81], vec![80])
    );
    world.write("a.yaml", &spec("a", &port(80)));
    world.write("b.yaml", &spec("b", &port(81)));
    until("the exchange", || {
        (ports(&world, "a"), ports(&world, "b")) == (vec![80], vec![81])
    });
}

#[test]
fn a_refused_file_keeps_what_its_new_text_lets_go_of() {
    let world = World::with("pools: {addresses: [10.254.0.0/24]}");
    world.write("a.yaml", &spec("a", &port(80)));
    world.wait_generation("a", 1);
    // Its text lets go of the port and cannot be taken for another reason.
    world.write("a.yaml", &spec("a", &isolated(", address: 192.0.2.7")));
    until("the refusal of the first", || {
        refused(
            &world,
            "a.yaml",
            "192.0.2.7 of a is not one that may be given out",
        )
    });
    world.write("b.yaml", &spec("b", &port(80)));
    until("the refusal of the second", || {
        refused(&world, "b.yaml", "belongs to a")
    });
    assert_eq!(world.generation("b"), None);
    assert_eq!(ports(&world, "a"), [80]);
}

#[test]
fn an_address_lasts_and_an_empty_pool_names_its_holders() {
    let mut world = World::with("pools: {addresses: [10.254.0.0/30]}");
    world.write("a.yaml", &spec("a", &isolated("")));
    world.wait_generation("a", 1);
    world.write("b.yaml", &spec("b", &isolated("")));
    world.wait_generation("b", 1);
    let both = (address(&world, "a"), address(&world, "b"));
    let [first, second] = [1, 2].map(|last| Some(Ipv4Addr::new(10, 254, 0, last)));
    assert_eq!(both, (first, second));
    world.write("c.yaml", &spec("c", &isolated("")));
    until("the refusal", || {
        refused(&world, "c.yaml", "is held by a, b;")
    });
    world.restart();
    until("the same addresses", || {
        (address(&world, "a"), address(&world, "b")) == both
    });
    // Addresses that are named change places, too, and others are not given by name.
    let named = |last: u8| isolated(&format!(", address: 10.254.0.{last}"));
    world.write("a.yaml", &spec("a", &named(2)));
    world.write("b.yaml", &spec("b", &named(1)));
    until("the exchange", || {
        (address(&world, "a"), address(&world, "b")) == (second, first)
    });
    world.write("a.yaml", &spec("a", ""));
    until("the next one to have it", || address(&world, "c") == second);
    assert_eq!(address(&world, "a"), None);
    world.look_twice();
    let generation = world.generation("a");
    world.look_twice();
    assert_eq!(
        world.generation("a"),
        generation,
        "nothing is written again and again"
    );
}

#[test]
fn an_address_whose_record_was_lost_moves_nobody() {
    let mut world = World::with("pools: {addresses: [10.254.0.0/24]}");
    world.write("a.yaml", &spec("a", &isolated("")));
    world.wait_generation("a", 1);
    world.write("b.yaml", &spec("b", &isolated("")));
    world.wait_generation("b", 1);
    let (a, before) = (Key::new("a").unwrap(), address(&world, "a"));
    let lost = store::model::Change::HoldAddress {
        key: a.clone(),
        address: None,
    };
    world.running().store.commit_durable(&[lost]).unwrap();
    world.found.addresses = before.map(|address| (a, address)).into_iter().collect();
    world.restart();
    world.look_twice();
    assert_eq!(address(&world, "a"), before);
    world.write("c.yaml", &spec("c", &isolated("")));
    world.wait_generation("c", 1);
    assert_ne!(address(&world, "c"), before);
    // It is written down again.
    world.found.addresses.clear();
    let held = world.running().store.contents().unwrap().addresses;
    assert!(held.contains(&(Key::new("a").unwrap(), before.unwrap())));
    world.restart();
    until("the same address", || address(&world, "a") == before);
}
