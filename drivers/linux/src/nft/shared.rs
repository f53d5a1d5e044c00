//! The part of a table that all lives share.

use super::expr::{
    DEVICE_BYTES, ESTABLISHED, EXPR_DATA, EXPR_NAME, Expressions, Field, INVALID, IPV4, IPV6, Is,
    Meta, NEW, PUBLISHED, RELATED, Register, Tracked, Verdict,
};
use super::model::{Chain, Hook, Rule, Set};
use super::wire::{Attributes, contains, find};

/// What the names of lives' chains begin with.
const LIFE_CHAIN: &str = "out-";

/// First byte of the addresses of a loopback.
const LOOPBACK_NET: u8 = 127;

/// A chain and its name.
pub(super) type Named = (&'static str, Chain);

/// Returns the chains that a table shall have beside those of lives.
///
/// `prefix` is what the names of the lives' devices begin with.
pub(super) fn chains(prefix: &str) -> Vec<Named> {
    let ours = Ours(prefix);
    vec![
        ("raw", hooked("filter", 0, -300, ours.raw())),
        ("dstnat", hooked("nat", 0, -100, publishes_to_others())),
        ("localnat", hooked("nat", 3, -100, publishes())),
        ("publish", plain(publish())),
        ("srcnat", hooked("nat", 4, 100, ours.srcnat())),
        ("forward", hooked("filter", 2, -1, ours.forward())),
        ("from", plain(from())),
        ("to", plain(to())),
        ("input", hooked("filter", 1, -1, ours.input())),
        ("host", plain(host())),
        ("output", hooked("filter", 3, -1, ours.output())),
    ]
}

/// Returns the name of a life's chain.
pub(super) fn chain_name(leaf: &str) -> String {
    format!("{LIFE_CHAIN}{leaf}")
}

/// Returns the life that a chain's name speaks of.
pub(super) fn leaf_of(chain: &str) -> Option<&str> {
    chain
        .strip_prefix(LIFE_CHAIN)
        .filter(|leaf| !leaf.is_empty())
}

/// Returns whether a rule that was read is the one that is wanted.
pub(super) fn is_same(found: &Rule, wanted: &Rule) -> bool {
    if found.userdata != wanted.userdata {
        return false;
    }
    let mut have = Attributes(&found.expressions);
    let mut want = Attributes(&wanted.expressions);
    loop {
        match (have.next(), want.next()) {
            (None, None) => return true,
            (Some(one), Some(other)) => {
                let name = |attributes| find(attributes, EXPR_NAME);
                let body = |attributes| find(attributes, EXPR_DATA).unwrap_or(&[]);
                let is_same = name(one.payload) == name(other.payload)
                    && contains(body(one.payload), body(other.payload));
                if !is_same {
                    return false;
                }
            }
            (Some(_), None) | (None, Some(_)) => return false,
        }
    }
}

/// Returns whether the rules that were read are those that are wanted, in order.
pub(super) fn are_same(found: &[Rule], wanted: &[Rule]) -> bool {
    let mut pairs = found.iter().zip(wanted);
    found.len() == wanted.len() && pairs.all(|(found, wanted)| is_same(found, wanted))
}

fn hooked(kind: &str, number: u32, priority: i32, rules: Vec<Rule>) -> Chain {
    let hook = Some(Hook {
        kind: kind.to_owned(),
        number,
        priority,
        policy: Verdict::Accept.code(),
    });
    Chain { hook, rules }
}

fn plain(rules: Vec<Rule>) -> Chain {
    Chain { hook: None, rules }
}

fn rule(expressions: Expressions) -> Rule {
    Rule {
        userdata: Vec::new(),
        expressions: expressions.finish(),
    }
}

fn any() -> Expressions {
    Expressions::default()
}

fn jump(chain: &str) -> Verdict {
    Verdict::Jump(chain.to_owned())
}

/// What the names of our devices begin with.
struct Ours<'a>(&'a str);

impl Ours<'_> {
    fn is_from(&self) -> Expressions {
        any()
            .meta(Meta::From, Register::First)
            .compare(Is::Equal, self.0.as_bytes())
    }

    fn is_to(&self) -> Expressions {
        any()
            .meta(Meta::To, Register::First)
            .compare(Is::Equal, self.0.as_bytes())
    }

    /// Before connections are tracked: nobody speaks but from an address of its own.
    fn raw(&self) -> Vec<Rule> {
        let to_loopback = self
            .is_from()
            .family(IPV4)
            .payload(Field::TARGET_NET, Register::First)
            .compare(Is::Equal, &[LOOPBACK_NET]);
        let speaks = self
            .is_from()
            .family(IPV4)
            .speaker()
            .lookup(Set::Speakers.name());
        vec![
            rule(to_loopback.verdict(&Verdict::Drop)),
            rule(speaks.verdict(&Verdict::Accept)),
            rule(self.is_from().verdict(&Verdict::Drop)),
        ]
    }

    fn srcnat(&self) -> Vec<Rule> {
        let mut loopback = [0; DEVICE_BYTES];
        loopback
            .iter_mut()
            .zip(b"lo")
            .for_each(|(to, from)| *to = *from);
        let leaves = any()
            .family(IPV4)
            .payload(Field::SOURCE, Register::First)
            .lookup(Set::Ours.name())
            .meta(Meta::To, Register::First)
            .compare(Is::Other, self.0.as_bytes())
            .meta(Meta::To, Register::First)
            .compare(Is::Other, &loopback);
        let from_loopback = self
            .is_to()
            .family(IPV4)
            .payload(Field::SOURCE_NET, Register::First)
            .compare(Is::Equal, &[LOOPBACK_NET]);
        let to_itself = self
            .is_to()
            .family(IPV4)
            .payload(Field::SOURCE, Register::First)
            .payload(Field::TARGET, Register::Second)
            .lookup(Set::Own.name());
        vec![
            rule(leaves.masquerade()),
            rule(from_loopback.masquerade()),
            rule(to_itself.masquerade()),
        ]
    }

    fn forward(&self) -> Vec<Rule> {
        vec![
            rule(self.is_from().verdict(&jump("from"))),
            // A life's chain without its last rule leads back here.
            rule(self.is_from().verdict(&Verdict::Drop)),
            rule(self.is_to().verdict(&Verdict::Goto("to".to_owned()))),
        ]
    }

    fn input(&self) -> Vec<Rule> {
        vec![
            rule(self.is_from().verdict(&jump("host"))),
            rule(self.is_from().verdict(&Verdict::Drop)),
        ]
    }

    /// The host speaks IPv4 with containers and nothing else.
    fn output(&self) -> Vec<Rule> {
        vec![rule(self.is_to().family(IPV6).verdict(&Verdict::Drop))]
    }
}

/// The same from outside, but for 127.0.0.0/8: who sends there from another host means what is
/// for this one alone.
fn publishes_to_others() -> Vec<Rule> {
    let from_outside = any()
        .family(IPV4)
        .payload(Field::TARGET_NET, Register::First)
        .compare(Is::Other, &[LOOPBACK_NET])
        .dialling_host();
    vec![rule(from_outside.verdict(&jump("publish")))]
}

/// What is dialled to an address of the host's may be dialled to a container.
fn publishes() -> Vec<Rule> {
    vec![rule(any().dialling_host().verdict(&jump("publish")))]
}

fn publish() -> Vec<Rule> {
    let bound = any()
        .family(IPV4)
        .payload(Field::TARGET, Register::First)
        .meta(Meta::Transport, Register::Second)
        .payload(Field::TARGET_PORT, Register::Third)
        .map(Set::Bound.name(), Register::First);
    let every = any()
        .family(IPV4)
        .meta(Meta::Transport, Register::First)
        .payload(Field::TARGET_PORT, Register::Second)
        .map(Set::Any.name(), Register::First);
    vec![rule(bound.publish()), rule(every.publish())]
}

/// What a container answers passes; what it began itself is held against its rules again and
/// again, so that new rules hold for what goes on. What belongs to no connection does not pass.
fn answers() -> [Rule; 3] {
    let related = any().any_of(Tracked::State, RELATED);
    let answer = any().any_of(Tracked::State, ESTABLISHED).answering();
    let invalid = any().any_of(Tracked::State, INVALID);
    [
        rule(related.verdict(&Verdict::Accept)),
        rule(answer.verdict(&Verdict::Accept)),
        rule(invalid.verdict(&Verdict::Drop)),
    ]
}

fn no_ipv6() -> Rule {
    rule(any().family(IPV6).verdict(&Verdict::Drop))
}

/// What leaves a container for anywhere but the host.
fn from() -> Vec<Rule> {
    let policy = any()
        .family(IPV4)
        .speaker()
        .map(Set::Policy.name(), Register::Verdict);
    let mut rules = vec![no_ipv6()];
    rules.extend(answers());
    rules.push(rule(policy));
    rules.push(rule(any().verdict(&Verdict::Drop)));
    rules
}

/// What reaches a container from outside: published ports only.
fn to() -> Vec<Rule> {
    let known = any().any_of(Tracked::State, ESTABLISHED | RELATED);
    let published = any()
        .any_of(Tracked::State, NEW)
        .any_of(Tracked::Status, PUBLISHED);
    vec![
        no_ipv6(),
        rule(known.verdict(&Verdict::Accept)),
        rule(published.verdict(&Verdict::Accept)),
        rule(any().verdict(&Verdict::Drop)),
    ]
}

/// What a container says to the host itself.
fn host() -> Vec<Rule> {
    let policy = any()
        .family(IPV4)
        .speaker()
        .lookup(Set::Host.name())
        .speaker()
        .map(Set::Policy.name(), Register::Verdict);
    let mut rules = Vec::from(answers());
    rules.push(rule(policy));
    rules.push(rule(any().reject()));
    rules
}
