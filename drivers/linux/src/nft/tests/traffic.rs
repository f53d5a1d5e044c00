//! Packets of a container's meet the rules.

use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};

use super::host::{Host, ip};
use super::*;
use crate::conntrack::{forget_address, settle_ports};

/// Longest wait for something that shall come.
const LONG: Duration = Duration::from_secs(5);
/// Longest wait for something that shall not come.
const SHORT: Duration = Duration::from_millis(300);

fn at(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

fn listen(address: &str) -> TcpListener {
    let listener = TcpListener::bind(address).unwrap();
    listener.set_nonblocking(true).unwrap();
    listener
}

fn udp(address: &str) -> UdpSocket {
    let socket = UdpSocket::bind(address).unwrap();
    socket.set_read_timeout(Some(LONG)).unwrap();
    socket
}

/// What comes first at a socket, and from where.
#[track_caller]
fn first(socket: &UdpSocket) -> (String, SocketAddr) {
    let mut bytes = [0; 64];
    let (length, from) = socket.recv_from(&mut bytes).unwrap();
    (String::from_utf8_lossy(&bytes[..length]).into_owned(), from)
}

fn dial(address: &str, wait: Duration) -> std::io::Result<SocketAddr> {
    TcpStream::connect_timeout(&at(address), wait)?.peer_addr()
}

/// Who is seen to dial, once a dialled connection is there to be accepted.
#[track_caller]
fn dialled(listener: &TcpListener) -> std::net::IpAddr {
    // The connection stands when the dialling side says so; this side has it by then.
    listener.accept().unwrap().1.ip()
}

fn allow(traffic: Traffic) -> Flow {
    Flow {
        to: range("192.0.2.0", "192.0.2.255"),
        traffic,
        log: false,
    }
}

fn life() -> Life {
    Life {
        ports: vec![
            port(8080, 80),
            Port {
                transport: Transport::Udp,
                ..port(5300, 53)
            },
        ],
        egress: Egress {
            deny: vec![range("192.0.2.77", "192.0.2.77")],
            allow: vec![
                allow(Traffic::Ports(Transport::Tcp, 443, 443)),
                allow(Traffic::Ports(Transport::Udp, 1, 65535)),
            ],
            otherwise_allow: false,
            host: false,
        },
        ..web()
    }
}

#[test]
fn a_container_speaks_where_it_may_and_nowhere_else() {
    apart(|| {
        let life = life();
        let host = Host::new(&life);
        let firewall = firewall();
        set(&firewall, &life);
        let [allowed, other] =
            ["443", "444"].map(|port| host.outside.within(|| listen(&format!("192.0.2.2:{port}"))));
        host.container.within(|| {
            dial("192.0.2.2:443", LONG).unwrap();
            let refused = dial("192.0.2.2:444", LONG).unwrap_err();
            assert_eq!(refused.raw_os_error(), Some(libc::EHOSTUNREACH));
        });
        assert_eq!(dialled(&allowed), Ipv4Addr::new(192, 0, 2, 1));
        other.accept().unwrap_err();

        // A source that is another's goes nowhere, though the destination is allowed.
        let heard = host.outside.within(|| udp("192.0.2.2:9"));
        host.container.within(|| {
            let send = |from: &str, what: &str| {
                udp(from)
                    .send_to(what.as_bytes(), at("192.0.2.2:9"))
                    .unwrap();
            };
            send("10.77.0.9:5000", "spoofed");
            send("10.77.0.2:5001", "own");
        });
        assert_eq!(first(&heard).0, "own");

        // Nor does anything while the life's chain has lost its rules.
        nft("flush chain inet reconciler-test out-web.3");
        host.container
            .within(|| dial("192.0.2.2:443", SHORT).unwrap_err());
        host.container
            .within(|| dial("192.0.2.1:443", SHORT).unwrap_err());
        set(&firewall, &life);

        // Nor does anything once the life has no rules, not even on a connection that stands.
        let speaking = host.container.within(|| udp("10.77.0.2:5002"));
        let speak = |what: &str| {
            speaking
                .send_to(what.as_bytes(), at("192.0.2.2:9"))
                .unwrap();
        };
        speak("mine");
        let (said, from) = first(&heard);
        assert_eq!(said, "mine");
        heard.send_to(b"yours", from).unwrap();
        assert_eq!(first(&speaking).0, "yours");
        set(&firewall, &db());
        assert!(firewall.remove(&life.leaf, PATIENCE).unwrap());
        speak("gone");
        udp("192.0.2.1:0")
            .send_to(b"host", at("192.0.2.2:9"))
            .unwrap();
        assert_eq!(first(&heard).0, "host");
        host.container
            .within(|| dial("192.0.2.2:443", SHORT).unwrap_err());
    });
}

#[test]
fn the_host_itself_is_reached_only_where_the_life_may() {
    apart(|| {
        let mut life = life();
        let host = Host::new(&life);
        let firewall = firewall();
        set(&firewall, &life);
        let own = listen("192.0.2.1:443");
        let dial_own = || host.container.within(|| dial("192.0.2.1:443", LONG));
        assert_eq!(
            dial_own().unwrap_err().raw_os_error(),
            Some(libc::EHOSTUNREACH)
        );
        life.egress.host = true;
        set(&firewall, &life);
        dial_own().unwrap();
        assert_eq!(dialled(&own), Ipv4Addr::new(10, 77, 0, 2));
    });
}

#[test]
fn the_hosts_loopback_is_not_reached_through_the_devices() {
    apart(|| {
        let mut life = life();
        life.egress.host = true;
        life.egress.otherwise_allow = true;
        let host = Host::new(&life);
        let firewall = firewall();
        let heard = udp("127.0.0.1:7");
        let send = |what: &'static str| {
            host.container.within(move || {
                udp("10.77.0.2:0")
                    .send_to(what.as_bytes(), at("127.0.0.1:7"))
                    .unwrap();
            });
        };
        host.container.within(|| {
            ip("route flush table local");
            ip("route add table local local 10.77.0.2 dev c0");
            ip("route add 127.0.0.1 via 10.77.0.1 dev c0");
        });
        set(&firewall, &life);
        send("filtered");
        nft("flush ruleset");
        send("let through");
        assert_eq!(first(&heard).0, "let through");
    });
}

#[test]
fn published_ports_are_reached_from_everywhere() {
    apart(|| {
        let life = life();
        let host = Host::new(&life);
        set(&firewall(), &life);
        let [published, inner] = ["80", "81"].map(|port| {
            host.container
                .within(|| listen(&format!("10.77.0.2:{port}")))
        });
        host.outside.within(|| {
            dial("192.0.2.1:8080", LONG).unwrap();
            dial("10.77.0.2:81", SHORT).unwrap_err();
        });
        assert_eq!(dialled(&published), Ipv4Addr::new(192, 0, 2, 2));
        inner.accept().unwrap_err();

        dial("127.0.0.1:8080", LONG).unwrap();
        assert_eq!(dialled(&published), Ipv4Addr::new(10, 77, 0, 1));
        dial("192.0.2.1:8080", LONG).unwrap();
        dialled(&published);
        host.container
            .within(|| dial("192.0.2.1:8080", LONG).unwrap());
        assert_eq!(dialled(&published), Ipv4Addr::new(10, 77, 0, 1));
    });
}

#[test]
fn no_ipv6_passes_either_way() {
    apart(|| {
        let mut life = life();
        life.egress.host = true;
        life.egress.otherwise_allow = true;
        let host = Host::new(&life);
        let firewall = firewall();
        set(&firewall, &life);
        let heard = udp("[::]:7");
        host.container.within(|| {
            udp("[fd00::2]:0")
                .send_to(b"six", at("[fd00::1]:7"))
                .unwrap();
            udp("10.77.0.2:0")
                .send_to(b"four", at("10.77.0.1:7"))
                .unwrap();
        });
        assert_eq!(first(&heard).0, "four");
        let inside = host.container.within(|| udp("[::]:7"));
        let refused = udp("[fd00::1]:0")
            .send_to(b"six", at("[fd00::2]:7"))
            .unwrap_err();
        assert_eq!(refused.raw_os_error(), Some(libc::EPERM));
        udp("10.77.0.1:0")
            .send_to(b"four", at("10.77.0.2:7"))
            .unwrap();
        assert_eq!(first(&inside).0, "four");
    });
}

#[test]
fn what_the_kernel_remembers_of_a_port_is_forgotten() {
    apart(|| {
        let life = life();
        let [tcp_port, udp_port] = life.ports[..] else {
            unreachable!()
        };
        let host = Host::new(&life);
        let firewall = firewall();
        set(&firewall, &life);
        let asked = host.container.within(|| udp("10.77.0.2:53"));
        let asker = host.outside.within(|| udp("192.0.2.2:6000"));
        let ask = |what: &str| {
            asker
                .send_to(what.as_bytes(), at("192.0.2.1:5300"))
                .unwrap();
        };
        ask("first");
        assert_eq!(first(&asked).0, "first");

        // The kernel still leads to where the port led, until it forgets.
        let mut moved = life.clone();
        moved.ports = vec![Port {
            container: 54,
            ..udp_port
        }];
        let next = host.container.within(|| udp("10.77.0.2:54"));
        set(&firewall, &moved);
        ask("second");
        assert_eq!(first(&asked).0, "second");
        let settle = |ports: &[Port], address: [u8; 4], others: &[[u8; 4]]| {
            let others = others.iter().copied().map(Ipv4Addr::from).collect();
            settle_ports(ports, address.into(), &others, PATIENCE).unwrap()
        };
        let (own, other) = ([10, 77, 0, 2], [10, 77, 0, 3]);
        let bound = |address: [u8; 4]| Port {
            address: Some(address.into()),
            ..udp_port
        };
        assert_eq!(settle(&[udp_port], own, &[]), 0, "it leads where it shall");
        assert_eq!(settle(&[bound([192, 0, 2, 1])], own, &[]), 0, "so it does");
        assert_eq!(settle(&[], other, &[]), 0, "another's");
        assert_eq!(settle(&[udp_port], other, &[]), 0, "a stranger answers");
        assert_eq!(settle(&[tcp_port], other, &[own]), 0, "another port");
        assert_eq!(
            settle(&[udp_port], other, &[own]),
            1,
            "the port is another's now"
        );
        ask("once more");
        assert_eq!(first(&next).0, "once more");
        assert_eq!(
            settle(&[bound([192, 0, 2, 9])], own, &[]),
            1,
            "a port no more"
        );
        assert_eq!(settle(&[], own, &[]), 0);
        ask("third");
        assert_eq!(first(&next).0, "third");

        // One that it began, one that it answers.
        let heard = host.outside.within(|| udp("192.0.2.2:9"));
        host.container.within(|| {
            udp("10.77.0.2:0")
                .send_to(b"own", at("192.0.2.2:9"))
                .unwrap();
        });
        assert_eq!(first(&heard).0, "own");
        assert_eq!(
            forget_address(Ipv4Addr::new(10, 77, 0, 3), PATIENCE).unwrap(),
            0
        );
        assert_eq!(forget_address(life.address, PATIENCE).unwrap(), 2);
        assert_eq!(forget_address(life.address, PATIENCE).unwrap(), 0);
    });
}
