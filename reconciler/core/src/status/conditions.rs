//! The five statements with a reason.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use driver_api::{Fact, Life};
use specs::desired::Run;
use specs::status::{Condition, ConditionKind, Phase, Truth};

use super::{Basis, Tally};
use crate::explain;
use crate::plan::Obstacle;

/// Returns the conditions, in the order of their kinds.
pub(super) fn derive(
    basis: &Basis<'_>,
    life: Option<&Life>,
    tally: &Tally,
    phase: Phase,
) -> Vec<Condition> {
    let refusal = basis.wanted.and_then(|wanted| wanted.refusal.as_deref());
    let withdrawn = basis.wanted.and_then(|wanted| wanted.withdrawn.as_deref());
    let accepted = match (refusal, withdrawn) {
        (Some(refusal), _) => (Truth::False, "Refused", refusal.to_string()),
        (None, Some(why)) => (Truth::False, "Withdrawn", explain::withdrawn(why)),
        (None, None) => (
            Truth::True,
            "Accepted",
            String::from("its specification was taken"),
        ),
    };
    let gap = basis
        .plan
        .blocked
        .iter()
        .find(|obstacle| obstacle.kind == Obstacle::Unknown);
    let planned = match gap {
        None => (Truth::True, "Planned", String::from("the host was read")),
        Some(gap) => (Truth::False, "HostUnknown", explain::blocked(gap)),
    };
    let running = match life.map(|life| &life.init) {
        Some(Fact::Known(_)) => (Truth::True, "InitLives", "its init lives".into()),
        Some(Fact::Unknown(gap)) => (Truth::Unknown, "InitUnknown", gap.why.clone()),
        Some(Fact::Absent) | None => (Truth::False, "NoInit", "it has no init".into()),
    };
    let healthy = healthy(basis, tally);
    let settled = settled(basis, phase);
    let all = [
        (ConditionKind::Accepted, accepted),
        (ConditionKind::Planned, planned),
        (ConditionKind::Running, running),
        (ConditionKind::Healthy, healthy),
        (ConditionKind::Settled, settled),
    ];
    all.into_iter()
        .map(|(kind, said)| condition(basis, kind, said))
        .collect()
}

fn healthy(basis: &Basis<'_>, tally: &Tally) -> (Truth, &'static str, String) {
    let stopped = basis
        .wanted
        .is_none_or(|wanted| wanted.desired.run == Run::Stopped);
    let count = format!("{} of {} processes run", tally.running, tally.wanted);
    match () {
        () if tally.unknown => (Truth::Unknown, "ProcessesUnknown", count),
        () if stopped => (Truth::False, "Stopped", "it shall not run".into()),
        () if basis.plan.life.is_none() => (Truth::False, "NoLife", count),
        () if tally.is_healthy() && tally.done > 0 => {
            let well = format!("{count}, {} ended well", tally.done);
            (Truth::True, "ProcessesRun", well)
        }
        () if tally.is_healthy() => (Truth::True, "ProcessesRun", count),
        () if tally.oom_killed > 0 => {
            let words = format!("{count}, {} killed (out of memory)", tally.oom_killed);
            (Truth::False, "OOMKilled", words)
        }
        () => (Truth::False, "ProcessesDown", count),
    }
}

fn settled(basis: &Basis<'_>, phase: Phase) -> (Truth, &'static str, String) {
    let plan = basis.plan;
    if plan.is_settled() {
        return (Truth::True, "Settled", "nothing is left to do".into());
    }
    if let Some(obstacle) = plan.blocked.first() {
        let reason = match obstacle.kind {
            Obstacle::Unknown => "HostUnknown",
            Obstacle::Withheld => "Withheld",
            Obstacle::Impossible => "Impossible",
            Obstacle::Failed if phase == Phase::Failed => "Failed",
            Obstacle::Failed => "Retrying",
        };
        return (Truth::False, reason, explain::blocked(obstacle));
    }
    let Some(stage) = plan.stages.first() else {
        return (Truth::False, "Progressing", String::new());
    };
    match (stage.steps.first(), stage.awaits.first()) {
        (Some(step), _) => (Truth::False, "Progressing", explain::planned(step)),
        (None, Some(wait)) => {
            let words = format!("waits for {}", explain::awaited(wait));
            (Truth::False, "Waiting", words)
        }
        (None, None) => (Truth::False, "Progressing", String::new()),
    }
}

/// *Law:* `since` moves only when `status` does.
fn condition(
    basis: &Basis<'_>,
    kind: ConditionKind,
    (status, reason, message): (Truth, &str, String),
) -> Condition {
    let before = basis
        .before
        .into_iter()
        .flat_map(|before| &before.conditions);
    let same = before
        .into_iter()
        .find(|before| before.kind == kind && before.status == status);
    Condition {
        kind,
        status,
        reason: reason.to_string(),
        message,
        generation: basis.generation,
        since_ms: same.map_or(basis.now_wall_ms, |before| before.since_ms),
    }
}
