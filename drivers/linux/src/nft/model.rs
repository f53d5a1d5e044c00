//! One instance's table as values, and the acts that change it.

use std::collections::BTreeMap;

use super::expr::Verdict;

/// The sets and maps of the shared part.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Set {
    /// Device and address, to the chain of their life.
    Policy,
    /// Device and address that may speak.
    Speakers,
    /// Addresses.
    Ours,
    /// Each address twice: a container that dials its own published port.
    Own,
    /// Device and address that may speak to the host itself.
    Host,
    /// Protocol and port of every address of the host, to address and port of a container.
    Any,
    /// Address, protocol and port of the host, to address and port of a container.
    Bound,
}

/// Numbers that describe a set, as `NEWSET` has them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Shape {
    /// `NFT_SET_*`: a map or none.
    pub(super) flags: u32,
    /// What the key is, in words of the `nft` program: six bits for each piece.
    pub(super) key_type: u32,
    /// Bytes.
    pub(super) key_length: u32,
    /// What the data are; zero where there are none.
    pub(super) data_type: u32,
    /// Bytes.
    pub(super) data_length: u32,
}

/// Types of the `nft` program (`enum datatypes` in its `datatype.h`).
const ADDRESS: u32 = 7;
const PROTOCOL: u32 = 12;
const SERVICE: u32 = 13;
const DEVICE: u32 = 41;
/// `NFT_DATA_VERDICT`
const VERDICT: u32 = 0xffff_ff00;
/// `NFT_SET_MAP`
const MAP: u32 = 8;

impl Set {
    /// All of them.
    pub(super) const ALL: [Self; 7] = [
        Self::Policy,
        Self::Speakers,
        Self::Ours,
        Self::Own,
        Self::Host,
        Self::Any,
        Self::Bound,
    ];

    /// Returns its name in the table.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Policy => "policy4",
            Self::Speakers => "speakers4",
            Self::Ours => "ours4",
            Self::Own => "self4",
            Self::Host => "host4",
            Self::Any => "any4",
            Self::Bound => "bound4",
        }
    }

    /// Returns the set of a name.
    pub(super) fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|set| set.name() == name)
    }

    /// Returns what it holds.
    pub(super) fn shape(self) -> Shape {
        let target = (ADDRESS << 6 | SERVICE, 8);
        let (flags, (key_type, key_length), (data_type, data_length)) = match self {
            Self::Policy => (MAP, (DEVICE << 6 | ADDRESS, 20), (VERDICT, 0)),
            Self::Speakers | Self::Host => (0, (DEVICE << 6 | ADDRESS, 20), (0, 0)),
            Self::Ours => (0, (ADDRESS, 4), (0, 0)),
            Self::Own => (0, (ADDRESS << 6 | ADDRESS, 8), (0, 0)),
            Self::Any => (MAP, (PROTOCOL << 6 | SERVICE, 8), target),
            Self::Bound => (MAP, (ADDRESS << 12 | PROTOCOL << 6 | SERVICE, 12), target),
        };
        Shape {
            flags,
            key_type,
            key_length,
            data_type,
            data_length,
        }
    }
}

/// What an element of a map leads to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Datum {
    /// It is one of a set.
    None,
    /// Bytes.
    Value(Vec<u8>),
    /// A verdict.
    Verdict(Verdict),
    /// Something that we write nowhere.
    Foreign,
}

/// One element of a set, without its key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Element {
    /// Its comment: the life it is for.
    pub(super) leaf: Option<String>,
    /// What it leads to.
    pub(super) datum: Datum,
}

/// One rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Rule {
    /// Its comment, as the `nft` program writes one; empty where there is none.
    pub(super) userdata: Vec<u8>,
    /// Its expressions, as the attributes of a list.
    pub(super) expressions: Vec<u8>,
}

/// Where a chain hangs in the kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Hook {
    /// `filter` or `nat`.
    pub(super) kind: String,
    /// `NF_INET_*`
    pub(super) number: u32,
    /// The lower, the earlier.
    pub(super) priority: i32,
    /// Code of the verdict on packets that no rule has one for.
    pub(super) policy: u32,
}

/// One chain.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Chain {
    /// None where only other chains lead to it.
    pub(super) hook: Option<Hook>,
    /// In order.
    pub(super) rules: Vec<Rule>,
}

/// The elements of one set, by their keys.
pub(super) type Elements = BTreeMap<Vec<u8>, Element>;

/// One instance's table.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Model {
    /// Something stands there that goes only with the table: flags of it, a set of another
    /// shape or name.
    pub(super) is_crooked: bool,
    /// By what they are for.
    pub(super) sets: BTreeMap<Set, Elements>,
    /// By their names.
    pub(super) chains: BTreeMap<String, Chain>,
}

/// One change of a table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Act {
    /// The table goes, with all in it.
    DropTable,
    /// An empty table comes.
    MakeTable,
    /// An empty set comes.
    MakeSet(Set),
    /// A chain without rules comes.
    MakeChain(String, Option<Hook>),
    /// All rules of a chain go.
    ClearChain(String),
    /// A chain that nothing leads to goes.
    DropChain(String),
    /// A rule comes, after those that its chain has.
    AddRule(String, Rule),
    /// An element goes.
    DropElement(Set, Vec<u8>),
    /// An element comes.
    AddElement(Set, Vec<u8>, Element),
}

/// Returns the table after an act that the kernel has done.
pub(super) fn after(model: Option<Model>, act: Act) -> Option<Model> {
    let mut model = match act {
        Act::DropTable => return None,
        _ => model.unwrap_or_default(),
    };
    match act {
        Act::DropTable | Act::MakeTable => {}
        Act::MakeSet(set) => {
            model.sets.entry(set).or_default();
        }
        Act::MakeChain(name, hook) => {
            let rules = Vec::new();
            model.chains.insert(name, Chain { hook, rules });
        }
        Act::ClearChain(name) => {
            if let Some(chain) = model.chains.get_mut(&name) {
                chain.rules.clear();
            }
        }
        Act::DropChain(name) => {
            model.chains.remove(&name);
        }
        Act::AddRule(name, rule) => {
            if let Some(chain) = model.chains.get_mut(&name) {
                chain.rules.push(rule);
            }
        }
        Act::DropElement(set, key) => {
            if let Some(elements) = model.sets.get_mut(&set) {
                elements.remove(&key);
            }
        }
        Act::AddElement(set, key, element) => {
            model.sets.entry(set).or_default().insert(key, element);
        }
    }
    Some(model)
}
