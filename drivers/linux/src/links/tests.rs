use std::net::Ipv4Addr;
use std::process::{Child, Command, Stdio};

use driver_api::{LinkObserved, Mark};
use nix::sched::{CloneFlags, unshare};
use specs::id::{Incarnation, Instance, Key};

use super::*;
use crate::clock::{boot_ms, wait_until};

mod around;

const ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 254, 0, 5);
const MTU: u32 = 1400;

pub(crate) fn mark(key: &str) -> Mark {
    Mark {
        instance: Instance::new("main").unwrap(),
        key: Key::new(key).unwrap(),
        incarnation: Incarnation(3),
    }
}

pub(crate) fn soon() -> Deadline {
    Deadline {
        at_ms: boot_ms() + 10_000,
    }
}

/// Runs on a thread whose network namespace is nobody else's: the host of the test.
pub(crate) fn on_a_host(test: impl FnOnce() + Send + 'static) {
    let ran = std::thread::spawn(|| {
        unshare(CloneFlags::CLONE_NEWNET).unwrap();
        test();
    });
    if let Err(panic) = ran.join() {
        std::panic::resume_unwind(panic);
    }
}

/// Runs a command in the namespace of the calling thread.
pub(crate) fn run(line: &str) -> String {
    let mut words = line.split(' ');
    let ran = Command::new(words.next().unwrap()).args(words).output();
    let ran = ran.unwrap();
    let said = String::from_utf8_lossy(&ran.stderr);
    assert!(ran.status.success(), "{line}: {said}");
    String::from_utf8(ran.stdout).unwrap()
}

/// A process in a network namespace of its own.
pub(crate) struct Container {
    child: Child,
    pub(crate) init: ProcessId,
}

impl Container {
    pub(crate) fn start() -> Self {
        let child = Command::new("busybox")
            .args(["unshare", "-n", "sleep", "60"])
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        let pid = child.id();
        let name = process::proc_path(pid, "comm");
        let slept = wait_until(soon(), || {
            std::fs::read_to_string(&name).map(|name| name.trim() == "sleep")
        });
        // Of a busybox the name may be the applet's before the namespace is a new one.
        let here = std::fs::read_link("/proc/thread-self/ns/net").unwrap();
        let there = process::proc_path(pid, "ns/net");
        let moved = wait_until(soon(), || std::fs::read_link(&there).map(|ns| ns != here));
        assert!(slept.unwrap() && moved.unwrap());
        let start = process::stat(pid).unwrap().unwrap().start;
        let init = ProcessId { pid, start };
        Self { child, init }
    }

    pub(crate) fn run(&self, line: &str) -> String {
        run(&format!("nsenter -t {} -n {line}", self.init.pid))
    }

    fn enter<T: Send>(&self, act: impl FnOnce() -> T + Send) -> T {
        let space = namespace(self.init).unwrap();
        std::thread::scope(|scope| {
            let inside = scope.spawn(|| {
                let kind = Some(LinkNameSpaceType::Network);
                move_into_link_name_space(space.as_fd(), kind).unwrap();
                act()
            });
            inside.join().unwrap()
        })
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        let _gone = self.child.kill();
        let _reaped = self.child.wait();
    }
}

/// A container and the pair that it shall have.
pub(crate) struct Net {
    pub(crate) links: Links,
    pub(crate) container: Container,
    pub(crate) device: String,
    alias: String,
}

impl Net {
    pub(crate) fn new(key: &str) -> Self {
        Self {
            links: Links::new().unwrap(),
            container: Container::start(),
            device: mark(key).device(),
            alias: mark(key).alias(),
        }
    }

    fn connect_as(&self, address: Ipv4Addr, mtu: u32) -> Result<bool, StepError> {
        let wire = Wire {
            device: &self.device,
            alias: &self.alias,
            address,
            mtu,
        };
        self.links
            .connect(self.container.init, &wire, "web.3", soon())
    }

    pub(crate) fn connect(&self) -> bool {
        self.connect_as(ADDRESS, MTU).unwrap()
    }

    fn link(&self) -> Fact<LinkObserved> {
        let init = Some(self.container.init);
        self.links
            .link(init, &self.device, &self.alias, "web.3", soon())
    }

    fn disconnect(&self) -> Result<bool, StepError> {
        self.links
            .disconnect(&self.device, &self.alias, "web.3", soon())
    }

    fn indexes(&self) -> (String, String) {
        let index = |text: String| text.split(':').next().unwrap().to_owned();
        let outer = index(run(&format!("ip -o link show {}", self.device)));
        (outer, index(self.container.run("ip -o link show eth0")))
    }
}

fn whole(address: Ipv4Addr, mtu: u32) -> Fact<LinkObserved> {
    Fact::Known(LinkObserved {
        address: Some(address),
        mtu: Some(mtu),
        whole: true,
    })
}

fn is_whole(link: &Fact<LinkObserved>) -> bool {
    match link {
        Fact::Known(link) => link.whole,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_pair_is_made_whole_from_nothing_and_then_left_alone() {
    on_a_host(|| {
        let net = Net::new("web");
        assert_eq!(net.link(), Fact::Absent);
        assert!(net.connect());
        assert_eq!(net.link(), whole(ADDRESS, MTU));
        assert!(!net.connect(), "whole, and yet changed");
        let outer = run(&format!("ip -o -d link show {}", net.device));
        assert!(outer.contains(&net.alias), "{outer}");
        assert_eq!(run("ip -6 -o addr show"), "");
        assert_eq!(net.container.run("ip -6 -o addr show"), "");
    });
}

/// What may be done by hand; `D` is the host's end, `I` in front acts inside.
const DAMAGE: [&str; 22] = [
    "ip link set D down",
    "ip link set D mtu 1300",
    "ip route del 10.254.0.5 dev D",
    "ip route replace 10.254.0.5 dev D src 169.254.1.1 scope global",
    "ip neigh del 10.254.0.5 dev D",
    "ip neigh replace 10.254.0.5 lladdr 02:00:00:00:00:01 nud permanent dev D",
    "ip addr del 169.254.1.1/32 dev D",
    "ip addr flush dev D",
    "ip link set D address 02:00:00:00:00:07",
    "I ip link set eth0 down",
    "I ip link set eth0 mtu 1300",
    "I ip link set eth0 name eth7",
    "I ip link set eth0 alias other",
    "I ip link set eth0 address 02:00:00:00:00:08",
    "I ip route del default",
    "I ip route del 169.254.1.1",
    "I ip route flush table main",
    "I ip neigh del 169.254.1.1 dev eth0",
    "I ip addr add 10.9.9.9/24 dev eth0",
    "I ip addr del 10.254.0.5/32 dev eth0",
    "I ip addr add 10.254.0.5/24 dev eth0",
    "I ip addr flush dev eth0",
];

#[test]
fn damage_by_hand_is_seen_and_mended_without_a_new_pair() {
    on_a_host(|| {
        let net = Net::new("web");
        net.connect();
        let made = net.indexes();
        for line in DAMAGE {
            let line = line.replace(" D", &format!(" {}", net.device));
            match line.strip_prefix("I ") {
                Some(inside) => net.container.run(inside),
                None => run(&line),
            };
            assert!(!is_whole(&net.link()), "not seen: {line}");
            assert!(net.connect(), "not mended: {line}");
            assert_eq!(net.link(), whole(ADDRESS, MTU), "{line}");
            assert!(!net.connect(), "mended twice: {line}");
            assert_eq!(net.indexes(), made, "{line}");
        }
        for switch in [
            format!("ipv4/conf/{}/route_localnet", net.device),
            format!("ipv6/conf/{}/disable_ipv6", net.device),
        ] {
            let path = format!("/proc/sys/net/{switch}");
            if std::fs::write(&path, "0").is_err() {
                continue;
            }
            assert!(!is_whole(&net.link()), "not seen: {switch}");
            assert!(net.connect(), "not mended: {switch}");
            assert_eq!(net.link(), whole(ADDRESS, MTU), "{switch}");
        }
    });
}

#[test]
fn another_address_and_size_are_taken_on_by_the_same_pair() {
    on_a_host(|| {
        let net = Net::new("web");
        net.connect();
        let made = net.indexes();
        let other = Ipv4Addr::new(10, 254, 0, 6);
        assert!(net.connect_as(other, 1500).unwrap());
        assert_eq!(net.link(), whole(other, 1500));
        assert!(!net.connect_as(other, 1500).unwrap());
        assert_eq!(net.indexes(), made);
    });
}

#[test]
fn ends_that_parted_are_made_anew() {
    on_a_host(|| {
        let net = Net::new("web");
        // Its other end is at home, as if nobody had moved it.
        run(&format!("ip link add {} type veth peer name x", net.device));
        assert!(!is_whole(&net.link()));
        assert!(net.connect());
        assert_eq!(net.link(), whole(ADDRESS, MTU));
        // Its other end is elsewhere.
        let other = Container::start();
        net.container
            .run(&format!("ip link set eth0 netns {}", other.init.pid));
        assert!(!is_whole(&net.link()));
        assert!(net.connect());
        assert_eq!(net.link(), whole(ADDRESS, MTU));
        // The host's end has another name.
        run(&format!("ip link set {} down", net.device));
        run(&format!("ip link set {} name other", net.device));
        assert!(!is_whole(&net.link()));
        assert!(net.connect());
        assert_eq!(net.link(), whole(ADDRESS, MTU));
        assert!(!run("ip -o link show").contains("other"));
    });
}

#[test]
fn a_pair_that_a_crash_left_bare_is_finished() {
    on_a_host(|| {
        let net = Net::new("web");
        let pid = net.container.init.pid;
        run(&format!(
            "ip link add {} type veth peer name eth0 netns {pid}",
            net.device
        ));
        let made = net.indexes();
        assert!(!is_whole(&net.link()));
        assert!(net.connect());
        assert_eq!(net.link(), whole(ADDRESS, MTU));
        assert_eq!(net.indexes(), made);
    });
}
