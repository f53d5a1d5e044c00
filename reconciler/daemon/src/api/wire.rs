//! Bodies of the socket's protocol, version 1 (`docs/formats/api.md`).
//!
//! Routes, all below `/v1`:
//!
//! | method and path | answers |
//! | --- | --- |
//! | `GET /version` | [`Version`] |
//! | `GET /containers?selector=a=b` | [`List`] |
//! | `GET /containers/NAME` | [`Detail`] |
//! | `GET /containers/NAME/why` | [`Why`] |
//! | `GET /containers/NAME/logs?process=&follow=&since_ms=&tail=` | lines of [`LogLine`] |
//! | `POST /containers/NAME/start`, `stop`, `restart`, `suspend`, `resume` | [`Done`] |
//! | `POST /containers/NAME/exec` with [`ExecAsk`] | `101`, then [`super::frames`] |
//! | `POST /containers/NAME/attach` with [`AttachAsk`] | `101`, then [`super::frames`] |
//! | `POST /containers/NAME/copy` with [`CopyAsk`] | `101`, then [`super::frames`] |
//! | `GET /containers/NAME/history` | [`History`] |
//! | `GET /containers/NAME/diff?from=&to=` | [`Difference`] |
//! | `POST /containers/NAME/rollback` with [`RollBack`] | [`Done`] |
//! | `DELETE /containers/NAME` | [`Done`] |
//! | `POST /apply` with [`ApplyAsk`] | [`Applied`] |
//! | `POST /sync` with [`Sync`] | [`Done`] |
//! | `POST /plan` with [`PlanAsk`] | [`PlanView`] |
//! | `GET /events?after=&key=&follow=&tail=` | lines of `specs::event::Event` |
//! | `GET /watch` | lines of [`ContainerView`], one for each that changes; first all of them |
//! | `GET /doctor` | [`Doctor`] |
//! | `GET /usage` | `specs::usage::UsageSample` |
//! | `GET /capacity` | `specs::capacity::Capacity` |
//!
//! An error is a [`Problem`] with status 400, 403, 404, 405, 409 or 503. `follow` keeps the
//! answer open, one JSON object a line.

mod exec;

use serde::{Deserialize, Serialize};
use specs::event::Event;
use specs::status::Status;
use specs::usage::ContainerUsage;

pub use exec::{AttachAsk, CopyAsk, CopyWay, ExecAsk, TerminalAsk};

/// Version of the protocol.
pub const PROTOCOL: u32 = 1;

/// Who answers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Version {
    /// The daemon's release.
    pub version: String,
    /// [`PROTOCOL`].
    pub protocol: u32,
    /// Its instance name.
    pub instance: String,
    /// Adoption and the first round are over.
    pub ready: bool,
    /// Why nothing is destroyed at present, if so.
    pub safe_mode: Option<String>,
    /// A mass deletion is held back: how many, and from where.
    pub held_deletes: Option<HeldDeletes>,
    /// What the start found: containers adopted and restarted.
    pub adopted: u64,
    /// Of these, restarted by the start.
    pub restarted: u64,
}

/// A mass deletion that waits for a person.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct HeldDeletes {
    /// Names that would go.
    pub names: Vec<String>,
    /// Directory they went from.
    pub source: String,
}

/// All containers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct List {
    /// Sorted by name.
    pub containers: Vec<ContainerView>,
    /// Files that were refused and stand for no running container.
    pub refused: Vec<RefusedFile>,
    /// Something a person should know before anything else, if so.
    pub notices: Vec<String>,
}

/// One container in a list.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ContainerView {
    /// Its status.
    pub status: Status,
    /// Its labels.
    pub labels: std::collections::BTreeMap<String, String>,
    /// `FILE:LINE` or `api`.
    pub source: String,
    /// It is gone from intent and host; only in `/watch`.
    #[serde(default)]
    pub gone: bool,
}

/// A file that was refused.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RefusedFile {
    /// Its path.
    pub path: String,
    /// Why, each as `specs::diagnostic` renders it for machines.
    pub diagnostics: Vec<serde_json::Value>,
    /// The same for people, without colour.
    pub rendered: String,
}

/// One container in full.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Detail {
    /// As in a list.
    pub view: ContainerView,
    /// The effective spec, every default filled; secrets as their length.
    pub effective: serde_json::Value,
    /// Mounts as observed, by path.
    pub mounts: std::collections::BTreeMap<String, String>,
    /// Limits as read back, in words.
    pub limits: std::collections::BTreeMap<String, String>,
    /// Newest events, oldest first.
    pub events: Vec<Event>,
    /// A refusal of the newest text, rendered.
    pub refusal: Option<String>,
    /// What its newest life uses, read for this answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub usage: Option<ContainerUsage>,
}

/// One causal chain, outermost first.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Why {
    /// The answer in one sentence.
    pub summary: String,
    /// `spec FILE:LINE`, `generation 3`, `step CreateCgroup`, `write ...: No space`, `next retry`.
    pub chain: Vec<Link>,
}

/// One link of a chain.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Link {
    /// `spec`, `generation`, `override`, `step`, `cause`, `hint`, `retry`.
    pub kind: String,
    /// What it says.
    pub text: String,
}

/// One line of a process' output.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LogLine {
    /// Which process.
    pub process: String,
    /// `stdout` or `stderr`.
    pub stream: String,
    /// RFC 3339 with nanoseconds.
    pub at: String,
    /// The text; bytes that are no UTF-8 are replaced.
    pub text: String,
    /// The line goes on in the next record.
    pub partial: bool,
}

/// Look again at once.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Sync {
    /// Only this container.
    pub name: Option<String>,
    /// Let a held-back deletion of at most so many go on.
    pub allow_deletes: Option<u64>,
}

/// Preview.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PlanAsk {
    /// Texts to plan as if they were the whole of what is wanted for the names they hold;
    /// none: the accepted ones.
    pub files: Vec<PlanFile>,
    /// As if they were applied, and not put into a directory.
    #[serde(default)]
    pub applied: bool,
}

/// Take these texts as what is wanted.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ApplyAsk {
    /// All of them are taken, or none.
    pub files: Vec<PlanFile>,
}

/// What became of applied texts.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Applied {
    /// By name.
    pub containers: Vec<AppliedContainer>,
    /// Refused texts; if there is one, nothing was taken.
    pub refused: Vec<RefusedFile>,
}

/// What an applied text means for one container.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AppliedContainer {
    /// Which.
    pub name: String,
    /// Its newest generation.
    pub generation: u64,
    /// `created`, `configured` or `unchanged`.
    pub effect: String,
}

/// One text.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PlanFile {
    /// Name for diagnostics.
    pub path: String,
    /// Its content.
    pub text: String,
}

/// What would be done, and why.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PlanView {
    /// By container.
    pub containers: Vec<PlanContainer>,
    /// Containers with nothing to do.
    pub kept: u64,
    /// Refused texts.
    pub refused: Vec<RefusedFile>,
}

/// What would be done to one container.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PlanContainer {
    /// Which.
    pub name: String,
    /// `create`, `live`, `process`, `recreate`, `delete`, `blocked`, `repair`.
    pub class: String,
    /// Changed fields: path, class, from, to.
    pub fields: Vec<PlanField>,
    /// Steps by stage.
    pub stages: Vec<Vec<PlanStep>>,
    /// What it waits on.
    pub blocked: Vec<String>,
}

/// One changed field.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PlanField {
    /// Dotted path in the spec.
    pub path: String,
    /// `live`, `process` or `recreate`.
    pub class: String,
    /// Old value in words; secrets as their length.
    pub from: String,
    /// New value in words.
    pub to: String,
}

impl From<specs::change::FieldChange> for PlanField {
    fn from(field: specs::change::FieldChange) -> Self {
        Self {
            path: field.path,
            class: field.class.as_str().to_owned(),
            from: field.from,
            to: field.to,
        }
    }
}

/// What was accepted of one container, oldest first.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct History {
    /// At most the newest hundred.
    pub generations: Vec<GenerationView>,
}

/// One accepted generation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct GenerationView {
    /// Its number.
    pub generation: u64,
    /// When it was accepted, milliseconds since the epoch.
    pub at_ms: u64,
    /// `FILE:LINE` or `api`.
    pub source: String,
    /// It is what is wanted now.
    pub current: bool,
    /// What differs from the one before; none for the first, and where it cannot be told.
    pub changed: Option<Vec<PlanField>>,
}

/// What differs between two generations.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Difference {
    /// The older one's number, if asked that way round.
    pub from: u64,
    /// The newer one's.
    pub to: u64,
    /// Changed fields.
    pub fields: Vec<PlanField>,
}

/// Have an earlier generation back.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RollBack {
    /// Which; none: the newest that differs from what stands.
    pub to: Option<u64>,
}

/// One step.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PlanStep {
    /// Verb.
    pub step: String,
    /// Why.
    pub reason: String,
}

/// What this host can do.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Doctor {
    /// One row a feature.
    pub checks: Vec<Check>,
}

/// One feature.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Check {
    /// What was tried.
    pub name: String,
    /// `ok`, `fallback`, `missing`.
    pub result: String,
    /// What was found.
    pub detail: String,
    /// What to do about it.
    pub remedy: Option<String>,
}

/// It was done, or is under way.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Done {
    /// In words.
    pub message: String,
}

/// It was not done.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Problem {
    /// Stable word.
    pub code: String,
    /// What happened, what was done instead, what to do.
    pub message: String,
}
