use std::cell::Cell;
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use driver_api::{ProcessId, Wake};

use super::*;
use crate::cgroup::Group;
use crate::clock::wait_until;
use crate::links::tests::{mark, on_a_host, run, soon};
use crate::wake::Wakes;

/// Longest that a hint may take.
const HINT_WAIT: Duration = Duration::from_secs(1);
/// Lives whose hints come after those of all others that are due at the same time. They take
/// turns: one act can lead to a hint twice, and the second may come late.
const LAST: [&str; 2] = ["zzy", "zzz"];

/// A host with the device of a watched life, `web`, and what is heard of it.
struct Heeded {
    wakes: Wakes,
    hints: Receiver<Wake>,
    web: String,
    rounds: Cell<u8>,
}

fn hint(key: Option<&str>) -> Wake {
    Wake {
        key: key.map(|key| Key::new(key).unwrap()),
        reason: WakeReason::Network,
    }
}

fn pair(name: &str, other: &str) {
    run(&format!("ip link add {name} type veth peer name {other}"));
    for end in [name, other] {
        run(&format!("ip link set {end} up"));
    }
    for end in [name, other] {
        let up = || Ok::<_, ()>(run(&format!("ip link show {end}")).contains("state UP"));
        // It may take a second until the kernel says so, and then it does.
        assert!(wait_until(soon(), up).unwrap());
    }
}

impl Heeded {
    fn start() -> Self {
        let (told, hints) = channel();
        let told = Mutex::new(told);
        let wake = move |wake| drop(told.lock().unwrap().send(wake));
        // Some devices stand before anybody listens, one comes later.
        for last in LAST {
            pair(&mark(last).device(), &format!("{last}-in"));
        }
        let wakes = Wakes::start(&mark("web").instance, Arc::new(wake)).unwrap();
        let pid = std::process::id();
        let start = process::stat(pid).unwrap().unwrap().start;
        let group = Group { dirs: Vec::new() };
        for key in ["web", LAST[0], LAST[1]] {
            let init = Some(ProcessId { pid, start });
            wakes.watch(&mark(key), None, init, &group);
        }
        let web = mark("web").device();
        pair(&web, "inner");
        let heeded = Self {
            wakes,
            hints,
            web,
            rounds: Cell::new(0),
        };
        assert!(heeded.after("").contains(&hint(Some("web"))));
        heeded
    }

    /// Returns the hints that a command leads to, each once.
    fn after(&self, line: &str) -> Vec<Wake> {
        if !line.is_empty() {
            run(&line.replace('D', &self.web));
        }
        let round = self.rounds.get();
        self.rounds.set(round + 1);
        let last = LAST[usize::from(round % 2)];
        let device = mark(last).device();
        run(&format!("ip addr add 10.1.1.{round}/32 dev {device}"));
        let told = || self.hints.recv_timeout(HINT_WAIT).unwrap();
        let heard = std::iter::from_fn(|| Some(told()).filter(|told| *told != hint(Some(last))));
        let late = |told: &Wake| LAST.iter().any(|last| *told == hint(Some(last)));
        let mut heard: Vec<Wake> = heard.filter(|told| !late(told)).collect();
        heard.dedup();
        heard
    }
}

#[test]
fn what_is_done_to_a_device_of_ours_is_hinted_at() {
    on_a_host(|| {
        let heeded = Heeded::start();
        for line in [
            "ip addr add 169.254.1.1/32 dev D",
            "ip route add 10.254.0.5 dev D",
            "ip route del 10.254.0.5 dev D",
            "ip addr del 169.254.1.1/32 dev D",
            "ip link set D alias other",
            "ip link set D mtu 1300",
            "ip link set D down",
            "ip link set D name other",
            "ip link set other name D",
            "ip link del D",
        ] {
            assert_eq!(heeded.after(line), [hint(Some("web"))], "{line}");
        }
        heeded.wakes.forget(&mark("web"));
        assert_eq!(heeded.after("ip link add D type veth peer name x"), []);
    });
}

#[test]
fn what_is_done_to_the_devices_of_others_is_not() {
    on_a_host(|| {
        let heeded = Heeded::start();
        for line in [
            "ip link add other type veth peer name others",
            "ip link set other up",
            "ip addr add 10.9.0.1/24 dev other",
            "ip route add 10.8.0.0/24 dev other",
            "ip route del 10.8.0.0/24 dev other",
            "ip addr del 10.9.0.1/24 dev other",
            "ip link set others name rcnobodysdevic",
            "ip link del other",
            "ip link set lo up",
        ] {
            assert_eq!(heeded.after(line), [], "{line}");
        }
    });
}

#[test]
fn forwarding_that_is_turned_off_is_hinted_at() {
    on_a_host(|| {
        let switch = "/proc/sys/net/ipv4/ip_forward";
        std::fs::write(switch, "1").unwrap();
        let heeded = Heeded::start();
        std::fs::write(switch, "0").unwrap();
        let mut told = std::iter::from_fn(|| heeded.hints.recv_timeout(HINT_WAIT).ok());
        assert!(told.any(|told| told == hint(None)));
    });
}

#[test]
fn changes_of_our_table_are_hinted_at_and_those_of_others_not() {
    on_a_host(|| {
        let heeded = Heeded::start();
        let ours = [
            "nft add table inet reconciler-main",
            "nft add chain inet reconciler-main c",
            "nft add rule inet reconciler-main c drop",
            "nft add set inet reconciler-main s {type\tipv4_addr;}",
            "nft add element inet reconciler-main s {10.0.0.1}",
            "nft delete element inet reconciler-main s {10.0.0.1}",
        ];
        for line in ours {
            assert_eq!(heeded.after(line), [hint(None)], "{line}");
            let theirs = line.replace("reconciler-main", "other");
            assert_eq!(heeded.after(&theirs), [], "{theirs}");
        }
        assert_eq!(heeded.after("nft delete table inet other"), []);
        assert_eq!(heeded.after("nft flush ruleset"), [hint(None)]);
        assert_eq!(heeded.after("nft add table inet other"), []);
        assert_eq!(heeded.after("nft flush ruleset"), []);
    });
}

/// A message of the packet filter with one attribute.
fn message(kind: u16, attribute: u16, value: &[u8]) -> Vec<u8> {
    let short = |value: usize| u16::try_from(value).unwrap().to_ne_bytes();
    let mut body = vec![1, 0, 0, 0];
    body.extend(short(4 + value.len()));
    body.extend(attribute.to_ne_bytes());
    body.extend(value);
    body.resize(body.len().next_multiple_of(4), 0);
    let length = u32::try_from(16 + body.len()).unwrap();
    let mut bytes = length.to_ne_bytes().to_vec();
    bytes.extend(kind.to_ne_bytes());
    bytes.resize(16, 0);
    bytes.extend(body);
    bytes
}

#[test]
fn our_own_changes_of_our_table_are_no_hints() {
    let mut rules = Rules {
        table: "reconciler-main".into(),
        is_touched: false,
    };
    let mut check = |by: u32| {
        let table = message(SUBSYSTEM, NFTA_TABLE, b"reconciler-main\0");
        let end = message(NEWGEN, NFTA_GEN_PROC_PID, &by.to_be_bytes());
        let mut hints = Vec::new();
        each(&[table, end].concat(), |message| {
            rules.told(message, &mut hints);
        });
        hints.len()
    };
    assert_eq!(check(std::process::id()), 0);
    let (told, thread) = channel();
    let (end, ended) = channel::<()>();
    let other = std::thread::spawn(move || {
        told.send(rustix::thread::gettid()).unwrap();
        assert!(ended.recv().is_err());
    });
    let thread = u32::try_from(thread.recv().unwrap().as_raw_nonzero().get()).unwrap();
    assert_eq!(check(thread), 0);
    drop(end);
    other.join().unwrap();
    assert_eq!(check(1), 1);
}

#[test]
fn torn_messages_say_nothing() {
    let whole = message(SUBSYSTEM, NFTA_TABLE, b"reconciler-main\0");
    let mut seen = 0;
    for end in 0..whole.len() {
        each(&whole[..end], |_| seen += 1);
    }
    assert_eq!(seen, 0);
    for length in 0..=u8::MAX {
        let mut bent = whole.clone();
        bent[20] = length;
        each(&bent, |message| {
            let _any = message.attribute(4, 77);
            let _other = message.attribute(4, NFTA_TABLE);
        });
    }
}

#[test]
fn lost_messages_are_noticed() {
    on_a_host(|| {
        let mut ear = Ear::open(NETLINK_ROUTE, LINK).unwrap();
        ear.socket.set_rx_buf_sz::<libc::c_int>(1).unwrap();
        for at in 0..8 {
            run(&format!("ip link add a{at} type veth peer name b{at}"));
        }
        let heard = std::iter::from_fn(|| match ear.hear() {
            Heard::Nothing | Heard::Broken => None,
            heard => Some(heard),
        });
        assert!(heard.into_iter().any(|heard| matches!(heard, Heard::Lost)));
    });
}
