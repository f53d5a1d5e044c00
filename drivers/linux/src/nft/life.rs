//! The part of a table that is one life's: a chain, and elements of the shared sets.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use specs::desired::{Egress, Flow, Port, Range, Traffic, Transport};

use super::LifeRules;
use super::expr::{DEVICE_BYTES, Expressions, Field, IPV4, Is, Register, Tracked, Verdict};
use super::model::{Chain, Datum, Element, Rule, Set};
use super::shared::{chain_name, is_same};

/// `IPPROTO_ICMP`
const ICMP: u8 = 1;
/// Type of a comment among what the `nft` program writes beside rules and elements
/// (`NFTNL_UDATA_RULE_COMMENT`, `NFTNL_UDATA_SET_ELEM_COMMENT`).
const COMMENT: u8 = 0;

/// One rule of a life's chain, in the words of its comment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Line {
    /// A port of its own that it dials by way of the host.
    Own(Ipv4Addr),
    /// Refused whatever comes after.
    Deny(Range),
    /// Allowed.
    Allow(Flow),
    /// The last one.
    Otherwise { allow: bool, host: bool },
}

/// Returns the chain that a life shall have.
pub(super) fn chain(rules: &LifeRules<'_>) -> Chain {
    chain_for(rules.leaf, rules.address, rules.egress)
}

/// Returns the chain of a life with this address.
pub(super) fn chain_for(leaf: &str, own: Ipv4Addr, egress: &Egress) -> Chain {
    let lines = lines(own, egress);
    let rules = lines.iter().map(|line| line.rule(leaf)).collect();
    Chain { hook: None, rules }
}

/// Returns a chain that lets nothing pass, for a life whose rules nobody can read any more.
pub(super) fn closed() -> Chain {
    let rules = vec![Rule {
        userdata: Vec::new(),
        expressions: Expressions::default().verdict(&Verdict::Drop).finish(),
    }];
    Chain { hook: None, rules }
}

/// Returns whom a chain is for and what it allows; none when it holds a rule that we would
/// not have written there.
pub(super) fn read_chain(leaf: &str, chain: &Chain) -> Option<(Ipv4Addr, Egress)> {
    if chain.hook.is_some() {
        return None;
    }
    let mut own = None;
    let mut egress = Egress::default();
    let mut otherwise = None;
    for rule in &chain.rules {
        let line = comment(&rule.userdata).and_then(Line::parse)?;
        match line {
            Line::Own(address) => own = Some(address),
            Line::Deny(range) => egress.deny.push(range),
            Line::Allow(flow) => egress.allow.push(flow),
            Line::Otherwise { allow, host } => otherwise = Some((allow, host)),
        }
        if !is_same(rule, &line.rule(leaf)) {
            return None;
        }
    }
    (egress.otherwise_allow, egress.host) = otherwise?;
    // The same lines, but each where it belongs and none twice.
    let own = own?;
    let mut expected = lines(own, &egress).into_iter();
    let is_ordered = chain.rules.iter().all(|rule| {
        let found = comment(&rule.userdata).and_then(Line::parse);
        found.is_some() && found == expected.next()
    });
    (is_ordered && expected.next().is_none()).then_some((own, egress))
}

/// Returns the elements that a life shall have.
pub(super) fn elements(rules: &LifeRules<'_>) -> BTreeMap<(Set, Vec<u8>), Element> {
    let element = |datum| Element {
        leaf: Some(rules.leaf.to_owned()),
        datum,
    };
    let address = rules.address.octets();
    let speaker = speaker_key(rules.device, rules.address);
    let policy = Verdict::Goto(chain_name(rules.leaf));
    let mut all = BTreeMap::from([
        ((Set::Ours, address.to_vec()), element(Datum::None)),
        ((Set::Own, address.repeat(2)), element(Datum::None)),
        ((Set::Speakers, speaker.clone()), element(Datum::None)),
        (
            (Set::Policy, speaker.clone()),
            element(Datum::Verdict(policy)),
        ),
    ]);
    if rules.egress.host {
        all.insert((Set::Host, speaker), element(Datum::None));
    }
    for port in rules.ports {
        let mut target = address.to_vec();
        target.extend(port.container.to_be_bytes());
        target.extend([0; 2]);
        all.insert(port_key(port), element(Datum::Value(target)));
    }
    all
}

/// Returns the comment in what stands beside a rule or an element; none where there is
/// anything else.
pub(super) fn comment(userdata: &[u8]) -> Option<&str> {
    let (head, text) = userdata.split_first_chunk::<2>()?;
    let (last, text) = text.split_last()?;
    let is_comment =
        *head == [COMMENT, u8::try_from(text.len() + 1).ok()?] && *last == 0 && !text.is_empty();
    is_comment.then(|| std::str::from_utf8(text).ok())?
}

/// Returns a comment as the `nft` program writes it.
pub(super) fn userdata(text: &str) -> Vec<u8> {
    let length = u8::try_from(text.len() + 1).expect("BUG: a comment of 255 bytes");
    let mut bytes = vec![COMMENT, length];
    bytes.extend(text.as_bytes());
    bytes.push(0);
    bytes
}

/// Returns the number of a protocol (`IPPROTO_*`).
pub(crate) fn protocol(transport: Transport) -> u8 {
    match transport {
        Transport::Tcp => 6,
        Transport::Udp => 17,
    }
}

fn speaker_key(device: &str, address: Ipv4Addr) -> Vec<u8> {
    let mut key = device.as_bytes().to_vec();
    key.resize(DEVICE_BYTES, 0);
    key.extend(address.octets());
    key
}

fn port_key(port: &Port) -> (Set, Vec<u8>) {
    let mut key = Vec::new();
    key.extend(port.address.iter().flat_map(Ipv4Addr::octets));
    key.extend([protocol(port.transport), 0, 0, 0]);
    key.extend(port.host.to_be_bytes());
    key.extend([0; 2]);
    let set = if port.address.is_some() {
        Set::Bound
    } else {
        Set::Any
    };
    (set, key)
}

fn lines(own: Ipv4Addr, egress: &Egress) -> Vec<Line> {
    let mut lines = vec![Line::Own(own)];
    lines.extend(egress.deny.iter().copied().map(Line::Deny));
    lines.extend(egress.allow.iter().copied().map(Line::Allow));
    lines.push(Line::Otherwise {
        allow: egress.otherwise_allow,
        host: egress.host,
    });
    lines
}

impl Line {
    fn text(&self) -> String {
        match self {
            Self::Own(address) => format!("self {address}"),
            Self::Deny(Range { first, last }) => format!("deny {first}-{last}"),
            Self::Allow(flow) => {
                let Range { first, last } = flow.to;
                let log = if flow.log { " log" } else { "" };
                let number = |one: Option<u8>| one.map_or("any".to_owned(), |one| one.to_string());
                match flow.traffic {
                    Traffic::All => format!("allow all {first}-{last}{log}"),
                    Traffic::Ports(transport, from, to) => {
                        let name = transport.name();
                        format!("allow {name} {first}-{last} {from}-{to}{log}")
                    }
                    Traffic::Icmp(kind, code) => {
                        let (kind, code) = (number(kind), number(code));
                        format!("allow icmp {first}-{last} {kind}/{code}{log}")
                    }
                }
            }
            Self::Otherwise { allow, host } => {
                let verdict = if *allow { "accept" } else { "reject" };
                let host = if *host { " host" } else { "" };
                format!("otherwise {verdict}{host}")
            }
        }
    }

    fn parse(text: &str) -> Option<Self> {
        let mut words = text.split(' ');
        let line = match words.next()? {
            "self" => Self::Own(words.next()?.parse().ok()?),
            "deny" => Self::Deny(range(words.next()?)?),
            "allow" => Self::Allow(flow(&mut words)?),
            "otherwise" => Self::Otherwise {
                allow: words.next()? == "accept",
                host: words.next() == Some("host"),
            },
            _ => return None,
        };
        (line.text() == text).then_some(line)
    }

    fn rule(&self, leaf: &str) -> Rule {
        let any = Expressions::default;
        let expressions = match self {
            Self::Own(address) => any()
                .family(IPV4)
                .payload(Field::TARGET, Register::First)
                .compare(Is::Equal, &address.octets())
                .verdict(&Verdict::Accept),
            Self::Deny(range) => to(any(), *range).reject(),
            Self::Allow(flow) => {
                let matched = carrying(to(any(), flow.to), flow.traffic);
                let logged = if flow.log {
                    matched.log(&format!("{leaf}: "))
                } else {
                    matched
                };
                logged.verdict(&Verdict::Accept)
            }
            Self::Otherwise { allow: true, .. } => any().verdict(&Verdict::Accept),
            Self::Otherwise { allow: false, .. } => any().reject(),
        };
        Rule {
            userdata: userdata(&self.text()),
            expressions: expressions.finish(),
        }
    }
}

fn to(expressions: Expressions, range: Range) -> Expressions {
    if range == Range::ALL {
        return expressions;
    }
    expressions.dialled(range.first, range.last)
}

fn carrying(expressions: Expressions, traffic: Traffic) -> Expressions {
    match traffic {
        Traffic::All => expressions,
        Traffic::Ports(transport, first, last) => expressions
            .protocol(protocol(transport))
            .tracked(Tracked::OriginalPort)
            .between(&first.to_be_bytes(), &last.to_be_bytes()),
        Traffic::Icmp(kind, code) => {
            let (field, bytes) = match (kind, code) {
                (None, None) => return expressions.protocol(ICMP),
                (Some(kind), None) => (Field::ICMP_TYPE, vec![kind]),
                (None, Some(code)) => (Field::ICMP_CODE, vec![code]),
                // One piece, as the `nft` program joins them.
                (Some(kind), Some(code)) => (Field::ICMP_BOTH, vec![kind, code]),
            };
            expressions
                .family(IPV4)
                .protocol(ICMP)
                .payload(field, Register::First)
                .compare(Is::Equal, &bytes)
        }
    }
}

fn range(text: &str) -> Option<Range> {
    let (first, last) = text.split_once('-')?;
    Some(Range {
        first: first.parse().ok()?,
        last: last.parse().ok()?,
    })
}

fn flow<'a>(words: &mut impl Iterator<Item = &'a str>) -> Option<Flow> {
    let what = words.next()?;
    let to = range(words.next()?)?;
    let traffic = match what {
        "all" => Traffic::All,
        "tcp" => ports(Transport::Tcp, words.next()?)?,
        "udp" => ports(Transport::Udp, words.next()?)?,
        "icmp" => {
            let (kind, code) = words.next()?.split_once('/')?;
            Traffic::Icmp(kind.parse().ok(), code.parse().ok())
        }
        _ => return None,
    };
    let log = words.next() == Some("log");
    Some(Flow { to, traffic, log })
}

fn ports(transport: Transport, text: &str) -> Option<Traffic> {
    let (first, last) = text.split_once('-')?;
    let (first, last) = (first.parse().ok()?, last.parse().ok()?);
    Some(Traffic::Ports(transport, first, last))
}
