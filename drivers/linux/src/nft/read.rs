//! A table as the kernel has it.

use std::collections::BTreeMap;
use std::io;

use super::expr::{DATA_VALUE, DATA_VERDICT, VERDICT_CHAIN, VERDICT_CODE, Verdict};
use super::life::comment;
use super::model::{Chain, Datum, Element, Elements, Hook, Model, Rule, Set, Shape};
use super::socket::{Conversation, Dump, Question};
use super::wire::{Attributes, dig, find, number_of, text_of};

/// `NFNL_SUBSYS_NFTABLES`, in the upper byte of a message's type.
pub(super) const SUBSYSTEM: u16 = 10 << 8;
/// `NFPROTO_INET`
pub(super) const INET: u8 = 1;

/// `NFT_MSG_GET*`
const GET_TABLE: u16 = 1;
const GET_CHAIN: u16 = 4;
const GET_RULE: u16 = 7;
const GET_SET: u16 = 10;
const GET_ELEMENT: u16 = 13;
const GET_GENERATION: u16 = 16;

/// `NFT_CHAIN_BASE`: what the flags of a chain say that hangs on a hook.
const CHAIN_BASE: u32 = 1;
/// Dumps of one set until it has as many elements as the kernel says.
const COUNTS_MAX: usize = 4;
/// Attributes of an element that all of ours may have: key, data, comment, padding.
const ELEMENT_KNOWN: [u16; 4] = [1, 2, 6, 8];

/// Returns the number of the last transaction in this network namespace, anyone's.
pub(super) fn generation(kernel: &mut Conversation) -> io::Result<u32> {
    let answer = kernel.get(question(GET_GENERATION), |_| ())?;
    number_of(&answer, 1).ok_or_else(|| io::Error::from(io::ErrorKind::InvalidData))
}

/// Returns the table of a name as it was at one moment; the outer `None` when something
/// changed meanwhile, the inner one when there is none.
pub(super) fn table(kernel: &mut Conversation, name: &str) -> io::Result<Option<Option<Model>>> {
    let asked = kernel.get(question(GET_TABLE), |wire| wire.text(1, name));
    let answer = match asked {
        Ok(answer) => answer,
        Err(err) if err.raw_os_error() == Some(libc::ENOENT) => return Ok(Some(None)),
        Err(err) => return Err(err),
    };
    let mut reading = Reading::default();
    reading.model.is_crooked = number_of(&answer, 2).unwrap_or(0) != 0;
    let parts = [sets, chains, rules, elements];
    for part in parts {
        match part(kernel, name, &mut reading) {
            Ok(Dump::Whole) => {}
            Ok(Dump::Torn) => return Ok(None),
            // What a set or a table was dumped for went.
            Err(err) if matches!(err.raw_os_error(), Some(libc::ENOENT | libc::EINTR)) => {
                return Ok(None);
            }
            Err(err) => return Err(err),
        }
    }
    Ok(Some(Some(reading.model)))
}

/// What has been read up to now.
#[derive(Default)]
struct Reading {
    model: Model,
    /// How many elements sets have, where the kernel says so (`NFTA_SET_COUNT`, recent ones only).
    counts: BTreeMap<Set, usize>,
}

fn question(message: u16) -> Question {
    Question {
        kind: SUBSYSTEM | message,
        family: INET,
    }
}

fn sets(kernel: &mut Conversation, table: &str, reading: &mut Reading) -> io::Result<Dump> {
    kernel.dump(
        question(GET_SET),
        |wire| wire.text(1, table),
        |set| {
            if text_of(set, 1) != Some(table) {
                return;
            }
            let known = text_of(set, 2).and_then(Set::from_name);
            reading.model.is_crooked |= !known.is_some_and(|known| is_shaped(set, known.shape()));
            if let Some(known) = known {
                reading.model.sets.insert(known, Elements::new());
                let count = number_of(set, 20).and_then(|count| usize::try_from(count).ok());
                reading.counts.extend(count.map(|count| (known, count)));
            }
        },
    )
}

fn is_shaped(set: &[u8], shape: Shape) -> bool {
    let number = |kind| number_of(set, kind).unwrap_or(0);
    let found = Shape {
        flags: number(3),
        key_type: number(4),
        key_length: number(5),
        data_type: number(6),
        data_length: number(7),
    };
    // `NFTA_SET_DESC_SIZE`: most elements that it takes.
    let is_bounded = dig(set, &[9, 1]).is_some();
    // Timeout, expressions for each element.
    let has_more = [11, 17, 18].into_iter().any(|kind| {
        let payload = find(set, kind).unwrap_or(&[]);
        payload.iter().any(|byte| *byte != 0)
    });
    let is_same_data = shape.data_length == 0 || found.data_length == shape.data_length;
    let shape = Shape {
        data_length: found.data_length,
        ..shape
    };
    found == shape && is_same_data && !is_bounded && !has_more
}

fn chains(kernel: &mut Conversation, table: &str, reading: &mut Reading) -> io::Result<Dump> {
    kernel.dump(
        question(GET_CHAIN),
        |wire| wire.text(1, table),
        |chain| {
            if text_of(chain, 1) == Some(table)
                && let Some(name) = text_of(chain, 3)
            {
                let hook = hook(chain);
                let flags = number_of(chain, 10).unwrap_or(0);
                if flags != hook.as_ref().map_or(0, |_| CHAIN_BASE) {
                    reading.model.is_crooked = true;
                }
                let rules = Vec::new();
                reading
                    .model
                    .chains
                    .insert(name.to_owned(), Chain { hook, rules });
            }
        },
    )
}

/// Returns the chains of other tables, in words, that drop by default what is passed on.
pub(super) fn closed_by_others(kernel: &mut Conversation, table: &str) -> io::Result<Vec<String>> {
    /// `NF_INET_FORWARD`, and `NF_DROP`.
    const FORWARD_AND_DROP: (u32, u32) = (2, 0);
    let every = Question {
        kind: SUBSYSTEM | GET_CHAIN,
        family: 0,
    };
    let mut found = Vec::new();
    kernel.dump(
        every,
        |_| (),
        |chain| {
            let of = text_of(chain, 1).unwrap_or_default();
            let closes = hook(chain).is_some_and(|hook| {
                hook.kind == "filter" && (hook.number, hook.policy) == FORWARD_AND_DROP
            });
            if closes && of != table {
                let name = text_of(chain, 3).unwrap_or_default();
                found.push(format!("chain {name} of table {of}"));
            }
        },
    )?;
    Ok(found)
}

fn hook(chain: &[u8]) -> Option<Hook> {
    let hook = find(chain, 4)?;
    let priority = find(hook, 2).and_then(|bytes| bytes.try_into().ok());
    Some(Hook {
        kind: text_of(chain, 7).unwrap_or_default().to_owned(),
        number: number_of(hook, 1).unwrap_or(u32::MAX),
        priority: priority.map_or(i32::MAX, i32::from_be_bytes),
        policy: number_of(chain, 5).unwrap_or(u32::MAX),
    })
}

fn rules(kernel: &mut Conversation, table: &str, reading: &mut Reading) -> io::Result<Dump> {
    kernel.dump(
        question(GET_RULE),
        |wire| wire.text(1, table),
        |rule| {
            let chain = text_of(rule, 2).and_then(|name| reading.model.chains.get_mut(name));
            if text_of(rule, 1) == Some(table)
                && let Some(chain) = chain
            {
                chain.rules.push(Rule {
                    userdata: find(rule, 7).unwrap_or(&[]).to_vec(),
                    expressions: find(rule, 4).unwrap_or(&[]).to_vec(),
                });
            }
        },
    )
}

fn elements(kernel: &mut Conversation, table: &str, reading: &mut Reading) -> io::Result<Dump> {
    for (set, elements) in &mut reading.model.sets {
        let count = reading.counts.get(set);
        for _ in 0..COUNTS_MAX {
            if elements_of(kernel, (table, set.name()), elements)? == Dump::Torn {
                return Ok(Dump::Torn);
            }
            // A table of hashes that grows while it is dumped may leave some out.
            if count.is_none_or(|count| *count == elements.len()) {
                break;
            }
        }
    }
    Ok(Dump::Whole)
}

/// Adds the elements of a set.
fn elements_of(
    kernel: &mut Conversation,
    (table, set): (&str, &str),
    elements: &mut Elements,
) -> io::Result<Dump> {
    kernel.dump(
        question(GET_ELEMENT),
        |wire| {
            wire.text(1, table);
            wire.text(2, set);
        },
        |list| {
            for one in Attributes(find(list, 3).unwrap_or(&[])) {
                if let Some(key) = dig(one.payload, &[1, DATA_VALUE]) {
                    elements.insert(key.to_vec(), element(one.payload));
                }
            }
        },
    )
}

fn element(attributes: &[u8]) -> Element {
    let has_more = Attributes(attributes).any(|one| {
        let is_empty = one.payload.iter().all(|byte| *byte == 0);
        !ELEMENT_KNOWN.contains(&one.kind) && !is_empty
    });
    let comment = find(attributes, 6).and_then(comment);
    Element {
        leaf: comment.map(str::to_owned),
        datum: if has_more {
            Datum::Foreign
        } else {
            datum(attributes)
        },
    }
}

fn datum(attributes: &[u8]) -> Datum {
    let Some(found) = find(attributes, 2) else {
        return Datum::None;
    };
    if let Some(value) = find(found, DATA_VALUE) {
        return Datum::Value(value.to_vec());
    }
    let verdict = find(found, DATA_VERDICT).and_then(|verdict| {
        let code = number_of(verdict, VERDICT_CODE)?;
        Verdict::from_code(code, text_of(verdict, VERDICT_CHAIN))
    });
    verdict.map_or(Datum::Foreign, Datum::Verdict)
}
