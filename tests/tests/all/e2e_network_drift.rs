//! What somebody changes by hand on the network comes back by itself, and is told.

use std::time::{Duration, Instant};

use tests::eventually::until;
use tests::world::SOON;

use crate::e2e_network::{finish, inside, page, wired};

/// How long a repair may take where the kernel tells of the change.
const TOLD: Duration = Duration::from_secs(2);

#[test]
fn what_is_changed_on_the_network_by_hand_is_restored_within_two_seconds() {
    let (mut world, host, neighbour) = wired();
    world.start();
    let network = ", ports: [{host: 8080, container: 80, address: 0.0.0.0}], \
                   egress: {allow: [{to: 192.0.2.9, ports: [8000]}]}";
    world.write("web.yaml", &page("web", network));
    world.wait_phase("web", "Running");
    let pid = world.pid("web", "web");
    let device = host.container_devices().pop().expect("it has a device");
    let table = format!("reconciler-{}", world.instance());
    let before = host.rules();
    let events = || String::from_utf8_lossy(&world.cli(&["events"]).stdout).into_owned();
    let port_leads = || neighbour.get("192.0.2.1:8080") == Some("page of web".into());
    assert!(port_leads());
    let leaf = {
        let from = before.find("out-web.").expect("it has a chain");
        let rest = &before[from + 4..];
        rest[..rest.find([' ', '\n', '{']).expect("an end")].to_owned()
    };
    let hands = [
        ("nft flush ruleset".to_owned(), "RulesRepaired"),
        (format!("nft delete table inet {table}"), "RulesRepaired"),
        (
            format!("nft flush chain inet {table} out-{leaf}"),
            "RulesRepaired",
        ),
        (
            format!("nft insert rule inet {table} forward accept"),
            "RulesRepaired",
        ),
        (
            format!("nft delete element inet {table} any4 {{ tcp . 8080 }}"),
            "PortsRepaired",
        ),
        (
            "sysctl -qw net.ipv4.ip_forward=0".to_owned(),
            "NetworkRepaired",
        ),
        (format!("ip link delete {device}"), "NetworkRepaired"),
    ];
    for (line, reason) in hands {
        let told = events().matches(reason).count();
        host.run(&line);
        let begun = Instant::now();
        until(&format!("{line} to be mended"), SOON, || {
            events().matches(reason).count() > told
        });
        let took = begun.elapsed();
        assert!(took < TOLD, "{line}: {took:?}");
        until("the port to lead to it", SOON, port_leads);
        assert_eq!(world.pid("web", "web"), pid, "{line}");
    }
    // The device is another pair under the same name.
    assert_eq!(host.container_devices(), std::slice::from_ref(&device));
    let hands = [
        format!("ip link set {device} down"),
        format!("ip addr flush dev {device}"),
        format!("ip route flush dev {device}"),
        format!("ip link set {device} mtu 900"),
    ];
    for line in hands {
        let told = events().matches("NetworkRepaired").count();
        host.run(&line);
        let begun = Instant::now();
        until(&format!("{line} to be mended"), SOON, || {
            events().matches("NetworkRepaired").count() > told
        });
        let took = begun.elapsed();
        assert!(took < TOLD, "{line}: {took:?}");
        until("the port to lead to it", SOON, port_leads);
    }
    // Inside nobody tells; the next look sees it.
    assert!(inside(&world, "web", "ip addr flush dev eth0").is_some());
    until(
        "its address to be back",
        Duration::from_secs(60),
        port_leads,
    );
    assert_eq!(world.pid("web", "web"), pid);
    assert_eq!(host.rules(), before, "not one rule more or less");
    finish(world, &host);
}

#[test]
fn what_others_have_in_the_packet_filter_and_among_the_devices_is_left_alone() {
    let (mut world, host, _neighbour) = wired();
    host.run("nft add table inet reconciler-other");
    host.run("nft add chain inet reconciler-other c '{ type filter hook forward priority 5; }'");
    host.run("nft add rule inet reconciler-other c counter comment '\"web.1\"'");
    host.run("ip link add rcother0000001 type veth peer name x0");
    // A policy of theirs that closes the host to everybody is told, and left as it is.
    host.run("nft add table ip theirs");
    host.run(
        "nft add chain ip theirs FORWARD '{ type filter hook forward priority 0; policy drop; }'",
    );
    let theirs = |host: &tests::network::Network| {
        let table = host.run("nft -s list table inet reconciler-other");
        (table, host.run("ip -br link show rcother0000001"))
    };
    let before = theirs(&host);
    world.start();
    let ports = ", ports: [{host: 8080, container: 80, address: 0.0.0.0}]";
    world.write("web.yaml", &page("web", ports));
    world.wait_phase("web", "Running");
    assert_eq!(theirs(&host), before);
    let doctor = String::from_utf8_lossy(&world.cli(&["doctor"]).stdout).into_owned();
    assert!(doctor.contains("chain FORWARD of table theirs"), "{doctor}");
    world.finish();
    assert_eq!(theirs(&host), before);
    host.run("nft delete table ip theirs; nft delete table inet reconciler-other; ip link delete rcother0000001");
    host.check_clean();
}

#[test]
fn a_pool_on_a_network_of_the_host_is_refused_with_the_reason() {
    let (mut world, host, _neighbour) = wired();
    host.run("ip link add other0 type veth peer name x0; ip link set other0 up");
    host.run("ip link set x0 up; ip route add 10.254.0.0/16 dev other0");
    world.start();
    world.write("web.yaml", &page("web", ""));
    until("the reason to be told", SOON, || {
        let why = String::from_utf8_lossy(&world.cli(&["why", "web"]).stdout).into_owned();
        why.contains("10.254.0.0/16") && why.contains("other0")
    });
    assert_eq!(world.pid("web", "web"), None, "nothing runs in it");
    host.run("ip link delete other0");
    until("it to run", Duration::from_secs(60), || {
        world.pid("web", "web").is_some()
    });
    finish(world, &host);
}

#[test]
fn a_container_that_was_made_anew_leaves_nothing_of_its_former_life() {
    let (mut world, host, neighbour) = wired();
    world.start();
    let network = |mtu: u32| {
        format!(", mtu: {mtu}, ports: [{{host: 8080, container: 80, address: 0.0.0.0}}]")
    };
    for mtu in 1400..1406 {
        world.write("web.yaml", &page("web", &network(mtu)));
        until("the new life to serve", SOON, || {
            let devices = host.container_devices();
            let shown = host.run("ip link show");
            let is_new = shown.contains(&format!("mtu {mtu}"));
            devices.len() == 1 && is_new && neighbour.get("192.0.2.1:8080").is_some()
        });
        world.wait_phase("web", "Running");
        assert_eq!(host.rules().matches("chain out-web.").count(), 1);
    }
    finish(world, &host);
}
