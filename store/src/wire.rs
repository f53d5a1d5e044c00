//! Records as they are written, and their way to and from [`model`].
//!
//! Fields: `docs/formats/store.md`. A new field is a new [`SCHEMA`].

use std::net::Ipv4Addr;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use specs::desired::IdRange;
use specs::event::{Event, KillsTold, Severity};
use specs::id::{Digest, Generation, Incarnation, Key};

use crate::model;

/// Version of everything in `docs/formats/store.md`.
pub(crate) const SCHEMA: u32 = 1;

/// Key of the one record in the tree `meta`.
pub(crate) const META_KEY: &[u8] = b"state";

/// A content that its checksum lets pass and that still says nothing known.
#[derive(Debug, thiserror::Error)]
pub(crate) enum WireError {
    #[error("its content is not what the format says")]
    Json(#[from] serde_json::Error),
    #[error("its content is not text")]
    Text,
    #[error("its first line does not end")]
    Line,
    #[error("its key is not what the format says")]
    Key,
}

/// Where the store stands; in the engine, the copy and every line of the tail.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Meta {
    pub(crate) schema: u32,
    pub(crate) id: String,
    pub(crate) revision: u64,
    pub(crate) count: u64,
    #[serde(with = "hex")]
    pub(crate) sum: u128,
    pub(crate) incarnation: u64,
    pub(crate) next_event: u64,
    pub(crate) doubt: Option<String>,
}

/// What the engine must hold, said outside it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Witness {
    pub(crate) schema: u32,
    pub(crate) id: String,
    pub(crate) revision: u64,
    pub(crate) count: u64,
    #[serde(with = "hex")]
    pub(crate) sum: u128,
    pub(crate) incarnation: u64,
    pub(crate) next_event: u64,
}

impl Meta {
    /// Returns the state of a store that holds nothing.
    pub(crate) fn empty(id: String) -> Self {
        Self {
            schema: SCHEMA,
            id,
            revision: 0,
            count: 0,
            sum: 0,
            incarnation: 0,
            next_event: 1,
            doubt: None,
        }
    }

    /// Returns what the witness says of this state.
    pub(crate) fn witness(&self) -> Witness {
        Witness {
            schema: self.schema,
            id: self.id.clone(),
            revision: self.revision,
            count: self.count,
            sum: self.sum,
            incarnation: self.incarnation,
            next_event: self.next_event,
        }
    }
}

/// Any version's first field: read before the rest is believed.
#[derive(Debug, Deserialize)]
pub(crate) struct SchemaOnly {
    pub(crate) schema: u32,
}

mod hex {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub(super) fn serialize<S: Serializer>(value: &u128, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&format!("{value:032x}"))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<u128, D::Error> {
        u128::from_str_radix(&String::deserialize(from)?, 16).map_err(D::Error::custom)
    }
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Head {
    pub(crate) generation: Generation,
    pub(crate) first_accepted_ms: u64,
    pub(crate) deleted_at_ms: Option<u64>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct AcceptedLine {
    generation: Generation,
    digest: Digest,
    source: Source,
    at_ms: u64,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
enum Source {
    File { path: String, line: u32, uid: u32 },
    Api { uid: u32 },
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Range {
    base: u32,
    count: u32,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Address {
    address: Ipv4Addr,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Life {
    generation: Generation,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    kills_told: Option<KillsTold>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Override {
    stopped: bool,
    suspended: bool,
    restart_epoch: u64,
    given_over: (bool, bool),
    at_ms: u64,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    at_ms: u64,
    key: Option<Key>,
    generation: Generation,
    severity: Severity,
    reason: String,
    message: String,
}

/// Returns the JSON of a value of ours; these types have no map keys that could fail.
pub(crate) fn json(value: &impl Serialize) -> Result<Vec<u8>, WireError> {
    Ok(serde_json::to_vec(value)?)
}

/// Returns what the JSON says.
pub(crate) fn from_json<T: DeserializeOwned>(content: &[u8]) -> Result<T, WireError> {
    Ok(serde_json::from_slice(content)?)
}

pub(crate) fn accepted_content(accepted: &model::Accepted) -> Result<Vec<u8>, WireError> {
    let source = match accepted.source.clone() {
        model::Source::File { path, line, uid } => Source::File { path, line, uid },
        model::Source::Api { uid } => Source::Api { uid },
    };
    let mut content = json(&AcceptedLine {
        generation: accepted.generation,
        digest: accepted.digest,
        source,
        at_ms: accepted.at_ms,
    })?;
    content.push(b'\n');
    content.extend_from_slice(accepted.spec_json.as_bytes());
    Ok(content)
}

pub(crate) fn accepted(content: &[u8]) -> Result<model::Accepted, WireError> {
    let text = std::str::from_utf8(content).map_err(|_| WireError::Text)?;
    let (line, spec_json) = text.split_once('\n').ok_or(WireError::Line)?;
    let line: AcceptedLine = from_json(line.as_bytes())?;
    Ok(model::Accepted {
        generation: line.generation,
        spec_json: spec_json.to_owned(),
        digest: line.digest,
        source: match line.source {
            Source::File { path, line, uid } => model::Source::File { path, line, uid },
            Source::Api { uid } => model::Source::Api { uid },
        },
        at_ms: line.at_ms,
    })
}

pub(crate) fn range_content(range: IdRange) -> Result<Vec<u8>, WireError> {
    json(&Range {
        base: range.base,
        count: range.count,
    })
}

pub(crate) fn range(content: &[u8]) -> Result<IdRange, WireError> {
    let Range { base, count } = from_json(content)?;
    Ok(IdRange { base, count })
}

pub(crate) fn address_content(address: Ipv4Addr) -> Result<Vec<u8>, WireError> {
    json(&Address { address })
}

pub(crate) fn address(content: &[u8]) -> Result<Ipv4Addr, WireError> {
    let Address { address } = from_json(content)?;
    Ok(address)
}

pub(crate) fn life_content(life: &model::LifeRecord) -> Result<Vec<u8>, WireError> {
    json(&Life {
        generation: life.generation,
        kills_told: life.kills_told,
    })
}

pub(crate) fn life(key: &[u8], content: &[u8]) -> Result<model::LifeRecord, WireError> {
    let (owner, number) = numbered(key)?;
    let Life {
        generation,
        kills_told,
    } = from_json(content)?;
    Ok(model::LifeRecord {
        key: owner,
        incarnation: Incarnation(number),
        generation,
        kills_told,
    })
}

pub(crate) fn override_content(order: &model::Override) -> Result<Vec<u8>, WireError> {
    json(&Override {
        stopped: order.stopped,
        suspended: order.suspended,
        restart_epoch: order.restart_epoch,
        given_over: order.given_over,
        at_ms: order.at_ms,
    })
}

pub(crate) fn override_order(content: &[u8]) -> Result<model::Override, WireError> {
    let order: Override = from_json(content)?;
    Ok(model::Override {
        stopped: order.stopped,
        suspended: order.suspended,
        restart_epoch: order.restart_epoch,
        given_over: order.given_over,
        at_ms: order.at_ms,
    })
}

pub(crate) fn event_content(draft: &model::EventDraft) -> Result<Vec<u8>, WireError> {
    json(&Line {
        at_ms: draft.at_ms,
        key: draft.key.clone(),
        generation: draft.generation,
        severity: draft.severity,
        reason: draft.reason.clone(),
        message: draft.message.clone(),
    })
}

pub(crate) fn event(key: &[u8], content: &[u8]) -> Result<Event, WireError> {
    let line: Line = from_json(content)?;
    Ok(Event {
        seq: number(key)?,
        at_ms: line.at_ms,
        key: line.key,
        generation: line.generation,
        severity: line.severity,
        reason: line.reason,
        message: line.message,
    })
}

/// Returns the key of a record that has one for each container.
pub(crate) fn container(key: &[u8]) -> Result<Key, WireError> {
    let text = std::str::from_utf8(key).map_err(|_| WireError::Key)?;
    Key::new(text).map_err(|_| WireError::Key)
}

/// Returns the key of the `number`th record of a container.
pub(crate) fn numbered_key(key: &Key, number: u64) -> Vec<u8> {
    format!("{key}/{number:020}").into_bytes()
}

/// Returns what all keys of [`numbered_key`] of a container begin with.
pub(crate) fn numbered_prefix(key: &Key) -> Vec<u8> {
    format!("{key}/").into_bytes()
}

/// Returns container and number of a key of [`numbered_key`].
pub(crate) fn numbered(key: &[u8]) -> Result<(Key, u64), WireError> {
    let at = key
        .iter()
        .position(|byte| *byte == b'/')
        .ok_or(WireError::Key)?;
    let (owner, rest) = key.split_at(at);
    let digits = rest.get(1..).ok_or(WireError::Key)?;
    Ok((container(owner)?, number(digits)?))
}

/// Returns the key of an event.
pub(crate) fn number_key(number: u64) -> Vec<u8> {
    format!("{number:020}").into_bytes()
}

pub(crate) fn number(digits: &[u8]) -> Result<u64, WireError> {
    let text = std::str::from_utf8(digits).map_err(|_| WireError::Key)?;
    if text.len() != 20 || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(WireError::Key);
    }
    text.parse().map_err(|_| WireError::Key)
}
