//! The kernel's own packet filter, each test in a network namespace of its own.

mod edits;
mod host;
mod scale;
mod traffic;

use std::process::{Command, Stdio};

use nix::sched::{CloneFlags, unshare};
use proptest::prelude::*;
use specs::desired::{Flow, Range, Traffic, Transport};

use super::*;

const PATIENCE: Duration = Duration::from_secs(5);

/// Does something on a thread with a network namespace of its own.
fn apart<T: Send>(act: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            unshare(CloneFlags::CLONE_NEWNET).unwrap();
            act()
        });
        thread.join().unwrap()
    })
}

fn instance() -> Instance {
    Instance::new("test").unwrap()
}

fn firewall() -> Firewall {
    Firewall::new(&instance())
}

fn device(letter: char) -> String {
    format!("{}{letter}", Mark::device_prefix(&instance()))
}

/// Runs a program in this thread's namespace and returns what it said.
fn run(program: &str, arguments: &[&str]) -> String {
    let ran = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&ran.stdout).into_owned();
    let err = String::from_utf8_lossy(&ran.stderr);
    assert!(ran.status.success(), "{program} {arguments:?}: {err}");
    said
}

fn nft(command: &str) -> String {
    run("nft", &[command])
}

/// What one life wants, owned.
#[derive(Clone, Debug)]
struct Life {
    leaf: String,
    device: String,
    address: Ipv4Addr,
    ports: Vec<Port>,
    egress: Egress,
}

impl Life {
    fn rules(&self) -> LifeRules<'_> {
        LifeRules {
            leaf: &self.leaf,
            device: &self.device,
            address: self.address,
            ports: &self.ports,
            egress: &self.egress,
        }
    }

    fn observed(&self) -> LifeObserved {
        LifeObserved {
            device: Some(self.device.clone()),
            address: Some(self.address),
            ports: self.ports.iter().copied().collect(),
            egress: Some(self.egress.clone()),
        }
    }
}

fn port(host: u16, container: u16) -> Port {
    Port {
        transport: Transport::Tcp,
        address: None,
        host,
        container,
    }
}

fn range(first: &str, last: &str) -> Range {
    Range {
        first: first.parse().unwrap(),
        last: last.parse().unwrap(),
    }
}

fn web() -> Life {
    let flow = |to, traffic, log| Flow { to, traffic, log };
    let ten = range("10.0.0.0", "10.255.255.255");
    Life {
        leaf: "web.3".to_owned(),
        device: device('a'),
        address: Ipv4Addr::new(10, 77, 0, 2),
        ports: vec![
            port(8080, 80),
            Port {
                transport: Transport::Udp,
                address: Some(Ipv4Addr::new(192, 0, 2, 1)),
                ..port(53, 5353)
            },
        ],
        egress: Egress {
            deny: vec![range("169.254.0.0", "169.254.255.255")],
            allow: vec![
                flow(ten, Traffic::Ports(Transport::Tcp, 443, 443), true),
                flow(ten, Traffic::Ports(Transport::Udp, 1, 65535), false),
                flow(Range::ALL, Traffic::Icmp(Some(8), Some(0)), false),
                flow(Range::ALL, Traffic::Icmp(Some(3), None), true),
                flow(ten, Traffic::Icmp(None, None), false),
                flow(Range::one(Ipv4Addr::new(1, 1, 1, 1)), Traffic::All, false),
            ],
            otherwise_allow: false,
            host: true,
        },
    }
}

fn db() -> Life {
    Life {
        leaf: "db.1".to_owned(),
        device: device('b'),
        address: Ipv4Addr::new(10, 77, 0, 3),
        ports: vec![port(5432, 5432)],
        egress: Egress {
            otherwise_allow: true,
            ..Egress::default()
        },
    }
}

/// The table as the kernel has it at this moment.
fn stands() -> Option<Model> {
    let mut kernel = Conversation::open(PATIENCE).unwrap();
    let table = read::table(&mut kernel, &Mark::table(&instance())).unwrap();
    table.expect("nobody else is in this namespace")
}

fn observed(firewall: &Firewall) -> TableObserved {
    (*firewall.read(PATIENCE).unwrap()).clone()
}

fn all_of(lives: &[&Life]) -> TableObserved {
    let lives = lives.iter();
    TableObserved {
        shared: true,
        lives: lives
            .map(|life| (life.leaf.clone(), life.observed()))
            .collect(),
    }
}

#[track_caller]
fn set(firewall: &Firewall, life: &Life) {
    firewall.set(&life.rules(), PATIENCE).unwrap();
}

fn addresses() -> impl Strategy<Value = Range> {
    let drawn = (any::<u32>(), any::<u32>()).prop_map(|(one, other)| Range {
        first: one.min(other).into(),
        last: one.max(other).into(),
    });
    let one = any::<u32>().prop_map(|one| Range::one(one.into()));
    prop_oneof![drawn, one, Just(Range::ALL)]
}

fn transports() -> impl Strategy<Value = Transport> {
    prop_oneof![Just(Transport::Tcp), Just(Transport::Udp)]
}

fn flows() -> impl Strategy<Value = Flow> {
    let ports = (transports(), 1..=u16::MAX, 1..=u16::MAX).prop_map(|(transport, one, other)| {
        Traffic::Ports(transport, one.min(other), one.max(other))
    });
    let icmp = any::<Option<(u8, Option<u8>)>>().prop_map(|drawn| {
        let (kind, code) = drawn.unzip();
        Traffic::Icmp(kind, code.flatten())
    });
    let traffic = prop_oneof![Just(Traffic::All), ports, icmp];
    (addresses(), traffic, any::<bool>()).prop_map(|(to, traffic, log)| Flow { to, traffic, log })
}

fn egresses() -> impl Strategy<Value = Egress> {
    let lists = (
        proptest::collection::vec(addresses(), 0..4),
        proptest::collection::vec(flows(), 0..6),
    );
    (lists, any::<bool>(), any::<bool>()).prop_map(|((deny, allow), otherwise_allow, host)| {
        Egress {
            deny,
            allow,
            otherwise_allow,
            host,
        }
    })
}

fn ports() -> impl Strategy<Value = Vec<Port>> {
    let bound = proptest::option::of(any::<u32>().prop_map(Ipv4Addr::from));
    let key = (transports(), bound, 1..=u16::MAX);
    proptest::collection::btree_map(key, 1..=u16::MAX, 0..6).prop_map(|ports| {
        let ports = ports.into_iter();
        ports
            .map(|((transport, address, host), container)| Port {
                transport,
                address,
                host,
                container,
            })
            .collect()
    })
}

#[test]
fn what_was_set_is_read() {
    let drawn = proptest::collection::vec((ports(), egresses()), 1..4);
    proptest!(ProptestConfig { cases: 30, failure_persistence: None, ..ProptestConfig::default() },
        |(lives in drawn)| {
        let mut life = web();
        apart(|| {
            let warm = firewall();
            set(&warm, &db());
            for (ports, egress) in &lives {
                life.ports.clone_from(ports);
                life.egress.clone_from(egress);
                set(&warm, &life);
                let wanted = all_of(&[&life, &db()]);
                assert_eq!(observed(&firewall()), wanted);
                assert_eq!(observed(&warm), wanted);
            }
        });
    });
}

#[test]
fn the_nft_program_reads_what_was_set() {
    apart(|| {
        let web = web();
        set(&firewall(), &web);
        let text = nft("list table inet reconciler-test");
        for wanted in [
            r#"elements = { "DEV" . 10.77.0.2 comment "web.3" : goto out-web.3 }"#,
            r#"elements = { tcp . 8080 comment "web.3" : 10.77.0.2 . 80 }"#,
            r#"elements = { 192.0.2.1 . udp . 53 comment "web.3" : 10.77.0.2 . 5353 }"#,
            r#"ip daddr 10.77.0.2 accept comment "self 10.77.0.2""#,
            r#"reject with icmpx admin-prohibited comment "otherwise reject host""#,
            r#"meta l4proto tcp ct original proto-dst 443 log prefix "web.3: " accept"#,
            "ct original ip daddr 169.254.0.0-169.254.255.255 reject",
            "dnat ip to ip daddr . meta l4proto . th dport map @bound4",
            "iifname . ip saddr @host4 iifname . ip saddr vmap @policy4",
        ] {
            let wanted = wanted.replace("DEV", &web.device);
            assert!(text.contains(&wanted), "{wanted} is not in {text}");
        }
        let json = run("nft", &["-j", "list", "ruleset"]);
        let json: serde_json::Value = serde_json::from_str(&json).unwrap();
        assert!(json["nftables"].as_array().unwrap().len() > 40);
    });
}

#[test]
fn what_the_nft_program_reads_it_writes_the_same() {
    apart(|| {
        let firewall = firewall();
        set(&firewall, &web());
        let before = observed(&firewall);
        let text = nft("list ruleset");
        nft("flush ruleset");
        nft(&text);
        assert_eq!(observed(&firewall), before);
    });
}

#[test]
fn the_table_goes_with_the_last_life() {
    apart(|| {
        let firewall = firewall();
        assert!(!firewall.remove("web.3", PATIENCE).unwrap());
        set(&firewall, &web());
        set(&firewall, &db());
        assert!(firewall.remove("web.3", PATIENCE).unwrap());
        assert!(!firewall.remove("web.3", PATIENCE).unwrap());
        assert_eq!(observed(&firewall), all_of(&[&db()]));
        assert!(firewall.remove("db.1", PATIENCE).unwrap());
        assert_eq!(nft("list ruleset"), "");
        assert_eq!(observed(&firewall), TableObserved::default());
    });
}

#[test]
fn foreign_tables_stay_as_they_are() {
    apart(|| {
        nft(
            "add table inet reconciler-tes; add table ip reconciler-test; \
             add chain ip reconciler-test publish { type filter hook forward priority 0; }; \
             add rule ip reconciler-test publish counter drop; \
             add set inet reconciler-tes ours4 { type ipv4_addr; elements = { 10.77.0.2 } }",
        );
        let foreign = run("nft", &["-a", "list", "ruleset"]);
        let firewall = firewall();
        set(&firewall, &web());
        nft("insert rule inet reconciler-test forward accept");
        nft("add chain inet reconciler-test foreign");
        set(&firewall, &web());
        assert_eq!(observed(&firewall), all_of(&[&web()]));
        firewall.remove("web.3", PATIENCE).unwrap();
        assert_eq!(run("nft", &["-a", "list", "ruleset"]), foreign);
    });
}

#[test]
fn a_table_is_dumped_again_only_after_a_commit() {
    apart(|| {
        let firewall = firewall();
        set(&firewall, &web());
        let first = firewall.read(PATIENCE).unwrap();
        set(&firewall, &web());
        assert!(Arc::ptr_eq(&first, &firewall.read(PATIENCE).unwrap()));
        nft("add table inet foreign");
        let second = firewall.read(PATIENCE).unwrap();
        assert!(!Arc::ptr_eq(&first, &second));
        assert_eq!(first, second);
        apart(|| assert_eq!(observed(&firewall), TableObserved::default()));
        assert_eq!(observed(&firewall), *first);
    });
}

#[test]
fn two_lives_swap_a_port() {
    apart(|| {
        let firewall = firewall();
        let (mut web, mut db) = (web(), db());
        set(&firewall, &web);
        set(&firewall, &db);
        observed(&firewall);
        std::mem::swap(&mut web.ports, &mut db.ports);
        set(&firewall, &web);
        let between = observed(&firewall);
        assert_eq!(between, observed(&super::tests::firewall()));
        assert_eq!(between.lives["web.3"], web.observed());
        assert_eq!(between.lives["db.1"].ports, BTreeSet::new());
        set(&firewall, &db);
        assert_eq!(observed(&firewall), all_of(&[&web, &db]));
        assert_eq!(observed(&super::tests::firewall()), all_of(&[&web, &db]));
    });
}

#[test]
fn names_too_long_are_refused() {
    apart(|| {
        let long = Life {
            device: "0123456789abcdef".to_owned(),
            ..web()
        };
        let err = firewall().set(&long.rules(), PATIENCE).unwrap_err();
        assert_eq!(err.raw_os_error(), Some(libc::ENAMETOOLONG));
        assert_eq!(nft("list ruleset"), "");
    });
}
