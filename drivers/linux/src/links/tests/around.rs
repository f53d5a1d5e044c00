//! Pairs among what else there is: packets, foreign devices, networks of the host.

use crate::links::pair::GATEWAY;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddrV4, TcpListener, TcpStream};

use super::*;

fn talk(listener: TcpListener, connect: impl FnOnce(u16) -> TcpStream) {
    let port = listener.local_addr().unwrap().port();
    let told = std::thread::spawn(move || {
        let (mut socket, _) = listener.accept().unwrap();
        let mut text = String::new();
        socket.read_to_string(&mut text).unwrap();
        text
    });
    connect(port).write_all(b"hello").unwrap();
    assert_eq!(told.join().unwrap(), "hello");
}

#[test]
fn packets_flow_both_ways_and_nothing_is_asked_on_the_wire() {
    on_a_host(|| {
        let net = Net::new("web");
        net.connect();
        let inside = net
            .container
            .enter(|| TcpListener::bind((ADDRESS, 0)).unwrap());
        let to = |address: Ipv4Addr, port: u16| {
            let to = SocketAddrV4::new(address, port).into();
            TcpStream::connect_timeout(&to, Duration::from_secs(5)).unwrap()
        };
        talk(inside, |port| to(ADDRESS, port));
        let outside = TcpListener::bind((GATEWAY, 0)).unwrap();
        talk(outside, |port| net.container.enter(|| to(GATEWAY, port)));
        for neighbours in [run("ip -4 neigh"), net.container.run("ip -4 neigh")] {
            assert_eq!(neighbours.lines().count(), 1, "{neighbours}");
            assert!(neighbours.contains("PERMANENT"), "{neighbours}");
        }
    });
}

#[test]
fn a_pair_goes_by_either_end_and_with_the_namespace() {
    on_a_host(|| {
        let net = Net::new("web");
        assert!(!net.disconnect().unwrap());
        net.connect();
        assert!(net.disconnect().unwrap());
        assert!(!net.disconnect().unwrap());
        assert_eq!(net.link(), Fact::Absent);
        assert!(!net.container.run("ip -o link").contains("eth0"));
        // Under another name it is found by its alias.
        net.connect();
        run(&format!("ip link set {} down", net.device));
        run(&format!("ip link set {} name other", net.device));
        assert!(net.disconnect().unwrap());
        net.connect();
        let Net {
            links,
            container,
            device,
            alias,
        } = net;
        let init = container.init;
        drop(container);
        let gone = wait_until(soon(), || {
            Ok::<_, ()>(links.link(Some(init), &device, &alias, "web.3", soon()) == Fact::Absent)
        });
        assert!(gone.unwrap());
        assert!(!run("ip -o link").contains(&device));
        let wire = Wire {
            device: &device,
            alias: &alias,
            address: ADDRESS,
            mtu: MTU,
        };
        let late = links.connect(init, &wire, "web.3", soon());
        assert!(matches!(late, Err(StepError::Stale(_))), "{late:?}");
    });
}

#[test]
fn a_foreign_device_of_our_name_is_left_alone() {
    on_a_host(|| {
        let net = Net::new("web");
        run(&format!("ip link add {} type veth peer name x", net.device));
        run(&format!("ip link set {} alias theirs", net.device));
        let before = run("ip -o link");
        assert_eq!(net.link(), Fact::Absent);
        for refused in [net.connect_as(ADDRESS, MTU), net.disconnect()] {
            assert!(
                matches!(refused, Err(StepError::Terminal(_))),
                "{refused:?}"
            );
        }
        assert_eq!(run("ip -o link"), before);
        run(&format!("ip link del {}", net.device));
        run(&format!("ip tuntap add {} mode tun", net.device));
        assert_eq!(net.link(), Fact::Absent);
        assert!(net.disconnect().is_err());
    });
}

#[test]
fn a_foreign_eth0_inside_is_left_alone() {
    on_a_host(|| {
        let net = Net::new("web");
        net.container.run("ip link add eth0 type veth peer name x");
        assert_eq!(net.link(), Fact::Absent);
        let refused = net.connect_as(ADDRESS, MTU);
        assert!(matches!(refused, Err(StepError::Retry(_))), "{refused:?}");
        assert!(net.container.run("ip -o link").contains("eth0"));
        assert_eq!(net.link(), Fact::Absent);
    });
}

#[test]
fn only_our_devices_are_listed() {
    on_a_host(|| {
        let net = Net::new("web");
        net.connect();
        run("ip link add x type veth peer name xp");
        run("ip link add y type veth peer name yp");
        run("ip link set y alias reconciler-main2/web.3");
        run("ip link add z type veth peer name zp");
        run("ip link set z alias reconciler-main/not-a-mark");
        let listed = net.links.devices(&mark("web").instance, soon()).unwrap();
        assert_eq!(listed, [mark("web")]);
    });
}

#[test]
fn a_network_of_the_host_that_covers_the_address_is_found() {
    on_a_host(|| {
        let net = Net::new("web");
        let taken = || net.links.taken(ADDRESS, &net.device, soon()).unwrap();
        assert_eq!(taken(), None);
        run("ip link add d0 type veth peer name d0p");
        run("ip link set d0 up");
        run("ip link set d0p up");
        run("ip route add default dev d0");
        assert_eq!(taken(), None);
        run("ip route add 10.254.0.0/16 dev d0");
        assert_eq!(taken().as_deref(), Some("10.254.0.0/16 dev d0"));
        net.connect();
        assert_eq!(taken(), None);
        assert!(net.disconnect().unwrap());
        run("ip route replace blackhole 10.254.0.0/16");
        assert_eq!(taken(), None);
        run("ip route del 10.254.0.0/16");
        run("ip addr add 10.254.0.5/24 dev d0");
        assert!(taken().is_some());
    });
}

#[test]
fn many_pairs_are_made_at_once_and_have_one_gateway() {
    on_a_host(|| {
        let nets = ["a", "b", "c", "d"].map(Net::new);
        let links = Links::new().unwrap();
        std::thread::scope(|scope| {
            for (last, net) in (10..).zip(&nets) {
                let links = &links;
                scope.spawn(move || {
                    let address = Ipv4Addr::new(10, 254, 0, last);
                    let wire = Wire {
                        device: &net.device,
                        alias: &net.alias,
                        address,
                        mtu: MTU,
                    };
                    let init = net.container.init;
                    assert!(links.connect(init, &wire, "a.3", soon()).unwrap());
                    assert_eq!(net.link(), whole(address, MTU));
                });
            }
        });
        let listed = links.devices(&mark("a").instance, soon()).unwrap();
        assert_eq!(listed, ["a", "b", "c", "d"].map(mark));
    });
}

#[test]
fn forwarding_is_seen_and_turned_on() {
    on_a_host(|| {
        std::fs::write("/proc/sys/net/ipv4/ip_forward", "0").unwrap();
        assert!(!forwarding().unwrap());
        assert!(forward().unwrap());
        assert!(forwarding().unwrap());
        assert!(!forward().unwrap());
    });
}
