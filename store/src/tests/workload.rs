//! What the writers write: known from the seed and the number alone, so that a reader can
//! say what must be there.

use std::path::Path;

use specs::desired::IdRange;
use specs::event::Severity;
use specs::id::{Generation, Incarnation};

use super::model::{Model, accepted, key};
use super::world::Dice;
use crate::engine::{Op, Tree};
use crate::frame;
use crate::image::Image;
use crate::model::{Change, EventDraft, LifeRecord, Override};

/// Returns a text whose size is at most `most` bytes and depends on seed and number.
fn text(seed: u64, number: u64, most: u64) -> String {
    let mut dice = Dice(seed ^ number.wrapping_mul(0x0101_0101_0101));
    let size = usize::try_from(most / 8 + dice.below(most - most / 8)).unwrap();
    let mut text = String::with_capacity(size + 20);
    while text.len() < size {
        text.push_str(&format!("{:016x} ", dice.next()));
    }
    text.truncate(size);
    text
}

/// Returns the changes of commit `number`, from 1.
pub(super) fn changes(seed: u64, number: u64, most: u64) -> Vec<Change> {
    let slot = number % 16;
    let owner = key(slot);
    let event = Change::Event(EventDraft {
        at_ms: number,
        key: Some(owner.clone()),
        generation: Generation(number),
        severity: Severity::Normal,
        reason: "Written".to_owned(),
        message: format!("commit {number}"),
    });
    match number % 8 {
        5 => vec![
            Change::Delete {
                key: owner,
                at_ms: number,
            },
            event,
        ],
        6 => {
            let before = key(slot - 1);
            let ended = Change::LifeEnded {
                key: key(slot - 2),
                incarnation: Incarnation(number - 2),
            };
            vec![
                Change::Clean {
                    key: before,
                    keep_range: slot < 8,
                },
                ended,
                event,
            ]
        }
        7 => {
            let order = Override {
                stopped: slot < 8,
                restart_epoch: number,
                ..Override::default()
            };
            let base = u32::try_from(slot).unwrap() * 65_536;
            vec![
                Change::Override {
                    key: owner.clone(),
                    order: Some(order),
                },
                Change::HoldRange {
                    key: owner.clone(),
                    range: IdRange {
                        base,
                        count: 65_536,
                    },
                },
                Change::HoldAddress {
                    key: owner,
                    address: Some(std::net::Ipv4Addr::from_bits(0x0afe_0000 + base / 65_536)),
                },
            ]
        }
        _ => {
            let life = LifeRecord {
                key: owner.clone(),
                incarnation: Incarnation(number),
                generation: Generation(number),
                kills_told: None,
            };
            let accepted = accepted(number, &text(seed, number, most));
            let begins = Change::LifeBegins(life);
            vec![
                Change::Accept {
                    key: owner,
                    accepted,
                },
                begins,
                event,
            ]
        }
    }
}

/// Returns what the store must hold after `count` commits.
pub(super) fn model(seed: u64, count: u64, most: u64) -> Model {
    let mut model = Model::default();
    for number in 1..=count {
        assert!(
            model.commit(&changes(seed, number, most)),
            "commit {number} may not be"
        );
    }
    model
}

/// Returns batch `number`, from 1, of a writer that uses the engine alone.
pub(super) fn ops(seed: u64, number: u64, most: u64) -> Vec<Op> {
    let value = text(seed, number, most);
    let put = |tree: Tree, key: String, value: &str| Op {
        tree,
        value: Some(frame::seal(tree, key.as_bytes(), value.as_bytes()).unwrap()),
        key: key.into_bytes(),
    };
    let mut ops = vec![
        put(Tree::History, format!("{:06}", number % 4096), &value),
        put(Tree::Desired, format!("{:06}", number % 48), &value),
        put(Tree::Events, format!("{number:020}"), "written"),
        put(Tree::Meta, "number".to_owned(), &number.to_string()),
    ];
    if number > 200 {
        ops.push(Op {
            tree: Tree::Events,
            key: format!("{:020}", number - 200).into_bytes(),
            value: None,
        });
    }
    ops
}

/// Returns what the engine must hold after `count` batches.
pub(super) fn image(seed: u64, count: u64, most: u64) -> Image {
    let mut image = Image::default();
    for number in 1..=count {
        image.write(&ops(seed, number, most));
    }
    image
}

/// Returns the number of the newest batch in an engine's image.
pub(super) fn reached(image: &Image) -> Option<u64> {
    use crate::engine::Engine;
    let Some(framed) = image.get(Tree::Meta, b"number").unwrap() else {
        return Some(0);
    };
    let content = frame::open(Tree::Meta, b"number", &framed).ok()?;
    std::str::from_utf8(content).ok()?.parse().ok()
}

/// Returns where a writer keeps its store.
pub(super) fn place(mount: &Path) -> std::path::PathBuf {
    mount.join("state")
}
