//! From what is known to what is shown. Pure.

use std::collections::BTreeMap;

use driver_api::{ContainerObserved, Fact, Life, LimitsObserved};
use reconciler_core::plan::{Class, Plan};
use specs::change;
use specs::desired::Desired;
use specs::event::Event;
use specs::id::{Generation, Incarnation, Key};
use specs::status::{Condition, ConditionKind, Phase, Status, Truth};

use super::wire::{ContainerView, Detail, List, PlanContainer, PlanField, PlanStep};
use crate::keeper::{EntryView, View};
use crate::reading::Refusal;

/// Returns all containers: wanted ones, those being removed, and names whose only text was
/// refused.
pub(crate) fn list(
    view: &View,
    statuses: &BTreeMap<Key, Status>,
    selector: &BTreeMap<String, String>,
) -> List {
    let mut keys: Vec<&Key> = view.entries.keys().chain(statuses.keys()).collect();
    keys.extend(view.invalid.keys());
    keys.sort();
    keys.dedup();
    let containers = keys
        .into_iter()
        .filter_map(|key| container(view, statuses.get(key), key))
        .filter(|one| {
            selector
                .iter()
                .all(|(name, value)| one.labels.get(name) == Some(value))
        });
    List {
        containers: containers.collect(),
        refused: view.refused.clone(),
        notices: view.notices.clone(),
    }
}

/// Returns one container, if anybody knows it.
pub(crate) fn container(view: &View, status: Option<&Status>, key: &Key) -> Option<ContainerView> {
    let entry = view.entries.get(key);
    if let Some((path, refusal)) = view.invalid.get(key)
        && entry.is_none()
        && status.is_none()
    {
        return Some(ContainerView {
            status: invalid(key, refusal),
            labels: BTreeMap::new(),
            source: path.clone(),
            gone: false,
        });
    }
    let status = match (status, entry) {
        (Some(status), _) => status.clone(),
        (None, Some(entry)) => pending(key, entry),
        (None, None) => return None,
    };
    Some(ContainerView {
        status,
        labels: entry
            .map(|entry| entry.desired.labels.clone())
            .unwrap_or_default(),
        source: entry.map(|entry| entry.source.clone()).unwrap_or_default(),
        gone: false,
    })
}

/// Returns what stands for a container that is gone.
pub(crate) fn gone(key: &Key) -> ContainerView {
    ContainerView {
        status: blank(key, Generation(0), Phase::Stopped),
        labels: BTreeMap::new(),
        source: String::new(),
        gone: true,
    }
}

fn blank(key: &Key, generation: Generation, phase: Phase) -> Status {
    Status {
        key: key.clone(),
        generation,
        observed_generation: Generation(0),
        phase,
        conditions: Vec::new(),
        processes: Vec::new(),
        restarts: 0,
        pid: None,
        created_ms: None,
        next_retry_ms: None,
        usage: None,
        disk: None,
        network: None,
        last_error: None,
        override_note: None,
        drift: Vec::new(),
    }
}

fn pending(key: &Key, entry: &EntryView) -> Status {
    let phase = if entry.deleted {
        Phase::Stopping
    } else {
        Phase::Pending
    };
    let mut status = blank(key, entry.desired.generation, phase);
    status.override_note.clone_from(&entry.order);
    status
}

fn invalid(key: &Key, refusal: &Refusal) -> Status {
    let mut status = blank(key, Generation(0), Phase::Invalid);
    status.conditions.push(Condition {
        kind: ConditionKind::Accepted,
        status: Truth::False,
        reason: "SpecRefused".into(),
        message: refusal.line.clone(),
        generation: Generation(0),
        since_ms: 0,
    });
    status
}

/// Returns one container in full.
pub(crate) fn detail(
    view: ContainerView,
    entry: Option<&EntryView>,
    refusal: Option<&Refusal>,
    observed: Option<&ContainerObserved>,
    events: Vec<Event>,
) -> Detail {
    let life = observed.and_then(newest);
    let effective = entry.map(|entry| entry.desired.effective_json());
    Detail {
        view,
        effective: effective.unwrap_or(serde_json::Value::Null),
        mounts: life.map(mounts).unwrap_or_default(),
        limits: life.map(limits).unwrap_or_default(),
        events,
        refusal: refusal.map(|refusal| refusal.rendered.clone()),
        usage: None,
    }
}

/// Returns the newest life that has an init, or else the newest.
pub(super) fn newest(observed: &ContainerObserved) -> Option<&Life> {
    let lives = observed.lives.iter();
    let alive = lives
        .clone()
        .filter(|(_, life)| life.init.known().is_some());
    let by_age = |(incarnation, _): &(&Incarnation, &Life)| **incarnation;
    alive
        .max_by_key(by_age)
        .or_else(|| lives.max_by_key(by_age))
        .map(|(_, life)| life)
}

fn mounts(life: &Life) -> BTreeMap<String, String> {
    match &life.mounts {
        Fact::Known(mounts) => mounts
            .iter()
            .map(|(path, mount)| {
                let access = if mount.read_only { "ro" } else { "rw" };
                let over = match mount.stacked {
                    0 | 1 => String::new(),
                    more => format!(", {more} on top of each other"),
                };
                let from = format!("{} {}", mount.device, mount.root);
                (
                    path.clone(),
                    format!("{} {access} from {from}{over}", mount.fs_type),
                )
            })
            .collect(),
        Fact::Absent => BTreeMap::new(),
        Fact::Unknown(gap) => [("?".to_owned(), format!("unknown: {}", gap.why))].into(),
    }
}

fn limits(life: &Life) -> BTreeMap<String, String> {
    let mut words = match &life.cgroup {
        Fact::Known(cgroup) => limit_words(&cgroup.limits),
        Fact::Absent => BTreeMap::new(),
        Fact::Unknown(gap) => [("?".to_owned(), format!("unknown: {}", gap.why))].into(),
    };
    let disk = match &life.disk {
        Fact::Known(disk) => {
            let inodes = disk.inodes.map(|count| format!(", {count} inodes"));
            let inodes = inodes.unwrap_or_default();
            Some(format!(
                "{} bytes{inodes} ({})",
                disk.bytes,
                disk.backend.as_str()
            ))
        }
        Fact::Absent => None,
        Fact::Unknown(gap) => Some(format!("unknown: {}", gap.why)),
    };
    words.extend(disk.map(|disk| ("disk".to_owned(), disk)));
    words
}

fn limit_words(limits: &LimitsObserved) -> BTreeMap<String, String> {
    fn word<T>(fact: &Fact<Option<T>>, show: impl Fn(&T) -> String) -> String {
        match fact {
            Fact::Known(Some(value)) => show(value),
            Fact::Known(None) => "not limited".into(),
            Fact::Absent => "this host has no such control".into(),
            Fact::Unknown(gap) => format!("unknown: {}", gap.why),
        }
    }
    let bytes = |value: &u64| format!("{value} bytes");
    let ranges = |ranges: &Vec<(u32, u32)>| {
        let parts = ranges.iter().map(|(first, last)| match first == last {
            true => first.to_string(),
            false => format!("{first}-{last}"),
        });
        parts.collect::<Vec<_>>().join(",")
    };
    [
        ("memory", word(&limits.memory, bytes)),
        ("swap", word(&limits.swap, bytes)),
        ("memoryLow", word(&limits.memory_low, bytes)),
        ("cpu", word(&limits.cpu, |milli| format!("{milli}m"))),
        ("cpuWeight", word(&limits.cpu_weight, ToString::to_string)),
        ("cpuSet", word(&limits.cpu_set, ranges)),
        ("pids", word(&limits.pids, ToString::to_string)),
    ]
    .into_iter()
    .map(|(name, word)| (name.to_owned(), word))
    .collect()
}

/// Returns what would be done to one container.
pub(crate) fn plan(
    key: &Key,
    old: Option<&Desired>,
    new: &Desired,
    plan: Option<&Plan>,
) -> PlanContainer {
    let fields = old.map(|old| change::changes(old, new)).unwrap_or_default();
    let stages = plan.map(stages).unwrap_or_default();
    let blocked = match plan {
        Some(plan) => plan
            .blocked
            .iter()
            .map(reconciler_core::explain::blocked)
            .collect(),
        None => vec!["the host was not looked at yet".to_owned()],
    };
    PlanContainer {
        name: key.to_string(),
        class: class(old, &fields, plan).into(),
        fields: fields.into_iter().map(PlanField::from).collect(),
        stages,
        blocked,
    }
}

fn stages(plan: &Plan) -> Vec<Vec<PlanStep>> {
    let steps = |stage: &reconciler_core::plan::Stage| {
        let steps = stage.steps.iter().map(|planned| PlanStep {
            step: reconciler_core::explain::step(&planned.step),
            reason: reconciler_core::explain::reason(&planned.reason),
        });
        steps.collect()
    };
    plan.stages.iter().map(steps).collect()
}

fn class(
    old: Option<&Desired>,
    fields: &[change::FieldChange],
    plan: Option<&Plan>,
) -> &'static str {
    if old.is_none() {
        return "create";
    }
    if let Some(worst) = fields.iter().map(|field| field.class).max() {
        return worst.as_str();
    }
    let Some(plan) = plan else { return "blocked" };
    match plan.steps().map(|planned| planned.reason.class).max() {
        Some(Class::Create) => "create",
        Some(Class::Recreate) => "recreate",
        Some(Class::Delete | Class::Prune) => "delete",
        Some(Class::Process) => "process",
        Some(Class::Live) => "live",
        Some(Class::Repair) => "repair",
        None if plan.blocked.is_empty() => "none",
        None => "blocked",
    }
}
