//! Texts that clients send: previews, made from a look at the host and writing nothing, and
//! what is applied.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::{Extension, Json};
use driver_api::{Deadline, Scope};
use reconciler_core::io::{Intent, Wanted};
use reconciler_core::plan::{Hold, Plan, PlanPolicy, Unmet, plan as plan_for};
use specs::desired::{Condition, Desired};
use specs::id::{Generation, Incarnation, Key};
use specs::status::{ConditionKind, Status, Truth};

use super::auth::Peer;
use super::problem::Refused;
use super::routes::{Answer, App, blocking, body};
use super::views;
use super::wire::{Applied, AppliedContainer, ApplyAsk, PlanAsk, PlanView, RefusedFile};
use crate::accept::Origin;
use crate::clock;
use crate::keeper::{Effect, Note, Texts};
use crate::reading::Refusal;

/// Time for a look at one container.
const LOOK_MS: u64 = 5_000;

type Standing = (Option<Arc<Desired>>, Arc<Desired>);

/// `POST /plan`.
pub(super) async fn plan(
    State(app): State<Arc<App>>,
    Extension(peer): Extension<Peer>,
    ask: Body,
) -> Answer<PlanView> {
    let ask: PlanAsk = body(ask).await?;
    let texts = Texts {
        files: ask.files,
        uid: peer.uid,
        origin: if ask.applied {
            Origin::Socket
        } else {
            Origin::Directory
        },
    };
    let preview = app.keep(|reply| Note::Preview(texts, reply)).await?;
    let mut view = PlanView {
        containers: Vec::new(),
        kept: 0,
        refused: refused(preview.refused),
    };
    let names: Vec<Key> = preview.containers.keys().cloned().collect();
    let wanted = preview.containers.values().map(|(_, new)| Arc::clone(new));
    let wanted: Vec<Arc<Desired>> = wanted.collect();
    let (next, mut unmet) = app
        .ask(move |machine| (next_incarnations(machine, &names), unmet(machine, &wanted)))
        .await?;
    for (key, standing) in preview.containers {
        let (looker, looked) = (Arc::clone(&app), key.clone());
        let status = app.board.one(&key);
        let incarnation = next.get(&key).copied().unwrap_or_default();
        let of = standing.clone();
        let unmet = unmet.remove(&key).unwrap_or_default();
        let plan = blocking(move || {
            let seen = (status.as_ref(), unmet);
            fresh(&looker, &looked, &of, seen, incarnation)
        });
        let plan = plan.await?;
        let shown = views::plan(&key, standing.0.as_deref(), &standing.1, Some(&plan));
        let nothing = plan.is_settled() && shown.fields.is_empty() && standing.0.is_some();
        if nothing {
            view.kept += 1;
        } else {
            view.containers.push(shown);
        }
    }
    Ok(Json(view))
}

/// `POST /apply`.
pub(super) async fn apply(
    State(app): State<Arc<App>>,
    Extension(peer): Extension<Peer>,
    ask: Body,
) -> Answer<Applied> {
    let ask: ApplyAsk = body(ask).await?;
    if ask.files.is_empty() {
        return Err(Refused::bad("there is no text to apply".into()));
    }
    tracing::info!(uid = peer.uid, texts = ask.files.len(), "apply");
    let texts = Texts {
        files: ask.files,
        uid: peer.uid,
        origin: Origin::Socket,
    };
    let applied = app.keep(|reply| Note::Apply(texts, reply)).await??;
    let containers = applied.containers.into_iter();
    let containers = containers.map(|(key, (generation, effect))| AppliedContainer {
        name: key.to_string(),
        generation: generation.0,
        effect: match effect {
            Effect::Created => "created",
            Effect::Configured => "configured",
            Effect::Unchanged => "unchanged",
        }
        .to_owned(),
    });
    Ok(Json(Applied {
        containers: containers.collect(),
        refused: refused(applied.refused),
    }))
}

fn refused(all: BTreeMap<String, Refusal>) -> Vec<RefusedFile> {
    let file = |(path, refusal): (String, Refusal)| RefusedFile {
        path,
        diagnostics: refusal.diagnostics,
        rendered: refusal.rendered,
    };
    all.into_iter().map(file).collect()
}

/// Returns a name for the life that would be next; for display.
fn next_incarnations(
    machine: &reconciler_core::machine::Machine,
    names: &[Key],
) -> BTreeMap<Key, Incarnation> {
    let newest = |key: &Key| {
        let observed = machine.observed(key)?;
        observed
            .lives
            .keys()
            .max()
            .map(|incarnation| incarnation.next())
    };
    let named = names
        .iter()
        .map(|key| (key.clone(), newest(key).unwrap_or(Incarnation(1))));
    named.collect()
}

/// Containers that each would wait for.
fn unmet(
    machine: &reconciler_core::machine::Machine,
    wanted: &[Arc<Desired>],
) -> BTreeMap<Key, Vec<(Unmet, Condition)>> {
    let of = |desired: &Arc<Desired>| (desired.key.clone(), machine.unmet(desired));
    wanted.iter().map(of).collect()
}

/// Looks, then plans.
fn fresh(
    app: &App,
    key: &Key,
    (old, new): &Standing,
    (status, unmet): (Option<&Status>, Vec<(Unmet, Condition)>),
    next_incarnation: Incarnation,
) -> Plan {
    let deadline = Deadline {
        at_ms: clock::boot_ms().saturating_add(LOOK_MS),
    };
    let mut observed = app.driver.observe(&Scope::Container(key.clone()), deadline);
    let complete = observed.complete;
    let of_key = observed.containers.remove(key).unwrap_or_default();
    let seen = app.seen();
    let stands = seen.entries.get(key).filter(|entry| entry.desired == *new);
    let intent = Intent::Present(Box::new(Wanted {
        desired: Arc::clone(new),
        refusal: None,
        override_note: None,
        // A new text was judged a moment ago.
        withdrawn: stands.and_then(|entry| entry.withdrawn.clone()),
    }));
    let policy = PlanPolicy {
        mode: seen.mode,
        next_incarnation,
        settled: status.map(settled).unwrap_or_default(),
        edited: false,
        hung: std::collections::BTreeSet::new(),
        former: old.clone(),
        unmet,
        hold: Hold::default(),
    };
    plan_for(key, &intent, &of_key, complete, &policy)
}

fn settled(status: &Status) -> Generation {
    let is_settled = status
        .conditions
        .iter()
        .any(|one| one.kind == ConditionKind::Settled && one.status == Truth::True);
    if is_settled {
        status.observed_generation
    } else {
        Generation(0)
    }
}
