//! Acts as one transaction.

use std::io;

use super::expr::{DATA_VALUE, LIST_ELEM};
use super::life::userdata;
use super::model::{Act, Datum, Element, Hook, Rule, Set};
use super::read::{INET, SUBSYSTEM};
use super::socket::Conversation;
use super::wire::{Heading, Writer};

/// `NFNL_MSG_BATCH_BEGIN`
const BEGIN: u16 = 0x10;
/// `NFNL_MSG_BATCH_END`
const END: u16 = 0x11;
/// What a batch is for (`NFNL_SUBSYS_NFTABLES`).
const RESOURCE: u16 = SUBSYSTEM >> 8;

const NLM_F_REQUEST: u16 = 1;
const NLM_F_ACK: u16 = 4;
const NLM_F_EXCL: u16 = 0x200;
const NLM_F_CREATE: u16 = 0x400;
const NLM_F_APPEND: u16 = 0x800;

/// `NFT_MSG_NEW*` and `NFT_MSG_DEL*`
const NEW_TABLE: u16 = 0;
const DEL_TABLE: u16 = 2;
const NEW_CHAIN: u16 = 3;
const DEL_CHAIN: u16 = 5;
const NEW_RULE: u16 = 6;
const DEL_RULE: u16 = 8;
const NEW_SET: u16 = 9;
const NEW_ELEMENT: u16 = 12;
const DEL_ELEMENT: u16 = 14;

/// Does acts on a table, all or none.
///
/// # Errors
/// `ERESTART` when somebody has committed since `generation`, where that is given.
pub(super) fn commit(
    kernel: &mut Conversation,
    table: &str,
    acts: &[Act],
    generation: Option<u32>,
) -> io::Result<()> {
    let mut batch = Batch {
        wire: Writer::default(),
        table,
        sequence: 1,
    };
    batch.frame(BEGIN, generation);
    let last = acts.len();
    for (at, act) in (1..).zip(acts) {
        batch.act(act, at == last);
    }
    let asked = batch.sequence - 1;
    batch.frame(END, None);
    kernel.transact(&batch.wire.finish(), asked)
}

/// A batch under construction.
struct Batch<'a> {
    wire: Writer,
    table: &'a str,
    sequence: u32,
}

/// One message of a batch.
struct Entry {
    message: u16,
    flags: u16,
    is_last: bool,
}

impl Batch<'_> {
    /// Writes what begins or ends a batch.
    fn frame(&mut self, kind: u16, generation: Option<u32>) {
        let heading = Heading {
            kind,
            flags: NLM_F_REQUEST,
            sequence: self.sequence,
            // `AF_UNSPEC`
            family: 0,
            resource: RESOURCE,
        };
        self.sequence += 1;
        self.wire.message(heading, |wire| {
            if let Some(generation) = generation {
                // `NFNL_BATCH_GENID`
                wire.number(1, generation);
            }
        });
    }

    fn entry(&mut self, entry: &Entry, body: impl FnOnce(&mut Writer)) {
        let ack = if entry.is_last { NLM_F_ACK } else { 0 };
        let heading = Heading {
            kind: SUBSYSTEM | entry.message,
            flags: NLM_F_REQUEST | entry.flags | ack,
            sequence: self.sequence,
            family: INET,
            resource: 0,
        };
        self.sequence += 1;
        let table = self.table;
        self.wire.message(heading, |wire| {
            wire.text(1, table);
            body(wire);
        });
    }

    fn act(&mut self, act: &Act, is_last: bool) {
        let sequence = self.sequence;
        let entry = |message, flags| Entry {
            message,
            flags,
            is_last,
        };
        let fresh = NLM_F_CREATE | NLM_F_EXCL;
        match act {
            Act::DropTable => self.entry(&entry(DEL_TABLE, 0), |_| ()),
            Act::MakeTable => self.entry(&entry(NEW_TABLE, fresh), |wire| wire.number(2, 0)),
            Act::MakeSet(set) => self.entry(&entry(NEW_SET, fresh), |wire| {
                make_set(wire, *set, sequence);
            }),
            Act::MakeChain(name, hook) => self.entry(&entry(NEW_CHAIN, fresh), |wire| {
                make_chain(wire, name, hook.as_ref());
            }),
            Act::ClearChain(name) => self.entry(&entry(DEL_RULE, 0), |wire| wire.text(2, name)),
            Act::DropChain(name) => self.entry(&entry(DEL_CHAIN, 0), |wire| wire.text(3, name)),
            Act::AddRule(chain, rule) => {
                let entry = entry(NEW_RULE, NLM_F_CREATE | NLM_F_APPEND);
                self.entry(&entry, |wire| add_rule(wire, chain, rule));
            }
            Act::DropElement(set, key) => self.entry(&entry(DEL_ELEMENT, 0), |wire| {
                element(wire, *set, key, None);
            }),
            Act::AddElement(set, key, added) => self.entry(&entry(NEW_ELEMENT, fresh), |wire| {
                element(wire, *set, key, Some(added));
            }),
        }
    }
}

fn make_set(wire: &mut Writer, set: Set, id: u32) {
    let shape = set.shape();
    wire.text(2, set.name());
    wire.number(3, shape.flags);
    wire.number(4, shape.key_type);
    wire.number(5, shape.key_length);
    let is_map = shape.data_type != 0;
    if is_map {
        wire.number(6, shape.data_type);
        wire.number(7, shape.data_length);
    }
    // Unique within the batch.
    wire.number(10, id);
    // How the `nft` program shall read keys and data: an address alone is in the network's
    // order, the others are pieces.
    let order: u32 = if set == Set::Ours { 2 } else { 0 };
    let mut words = vec![0, 4];
    words.extend(order.to_ne_bytes());
    if is_map {
        words.extend([1, 4, 0, 0, 0, 0]);
    }
    wire.attr(13, &words);
}

fn make_chain(wire: &mut Writer, name: &str, hook: Option<&Hook>) {
    wire.text(3, name);
    if let Some(hook) = hook {
        wire.text(7, &hook.kind);
        wire.number(5, hook.policy);
        wire.nest(4, |wire| {
            wire.number(1, hook.number);
            wire.attr(2, &hook.priority.to_be_bytes());
        });
    }
}

fn add_rule(wire: &mut Writer, chain: &str, rule: &Rule) {
    wire.text(2, chain);
    wire.nest(4, |wire| wire.raw(&rule.expressions));
    if !rule.userdata.is_empty() {
        wire.attr(7, &rule.userdata);
    }
}

fn element(wire: &mut Writer, set: Set, key: &[u8], added: Option<&Element>) {
    wire.text(2, set.name());
    wire.nest(3, |wire| {
        wire.nest(LIST_ELEM, |wire| {
            wire.nest(1, |wire| wire.attr(DATA_VALUE, key));
            match added.map(|added| &added.datum) {
                None | Some(Datum::None | Datum::Foreign) => {}
                Some(Datum::Value(value)) => wire.nest(2, |wire| wire.attr(DATA_VALUE, value)),
                Some(Datum::Verdict(verdict)) => wire.nest(2, |wire| verdict.write(wire)),
            }
            if let Some(leaf) = added.and_then(|added| added.leaf.as_deref()) {
                wire.attr(6, &userdata(leaf));
            }
        });
    });
}
