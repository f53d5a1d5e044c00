//! What was accepted over time.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Path, State};
use axum::{Extension, Json};
use serde::Deserialize;
use specs::change;
use specs::desired::Desired;
use specs::id::Generation;

use super::auth::Peer;
use super::problem::Refused;
use super::routes::{Answer, App, Asked, body, key};
use super::wire::{Difference, Done, GenerationView, History, PlanField, RollBack};
use crate::keeper::{Note, Past};
use crate::ledger;

/// `GET /containers/NAME/history`.
pub(super) async fn history(
    State(app): State<Arc<App>>,
    Path(name): Path<String>,
) -> Answer<History> {
    let key = key(&name)?;
    let past = app.keep(|reply| Note::Past(key, reply)).await??;
    let before = std::iter::once(None).chain(past.iter().map(Some));
    let generations = past.iter().zip(before).map(|(one, before)| GenerationView {
        generation: one.accepted.generation.0,
        at_ms: one.accepted.at_ms,
        source: ledger::place(&one.accepted),
        current: one.is_current,
        changed: before.and_then(|before| fields(before, one)),
    });
    Ok(Json(History {
        generations: generations.collect(),
    }))
}

#[derive(Deserialize)]
pub(super) struct Between {
    from: Option<u64>,
    to: Option<u64>,
}

/// `GET /containers/NAME/diff`.
pub(super) async fn diff(
    State(app): State<Arc<App>>,
    Path(name): Path<String>,
    Asked(between): Asked<Between>,
) -> Answer<Difference> {
    let key = key(&name)?;
    let past = app.keep(|reply| Note::Past(key, reply)).await??;
    let to = between.to.map_or_else(|| newest(&past), Generation);
    let earlier = past.iter().rev().map(|one| one.accepted.generation);
    let from = between.from.map(Generation);
    let from = from.or_else(|| earlier.into_iter().find(|one| *one < to));
    let from = from.unwrap_or(to);
    let find = |wanted: Generation| {
        let found = past.iter().find(|one| one.accepted.generation == wanted);
        found.ok_or_else(|| {
            Refused::from(crate::keeper::Denied::Unknown(format!(
                "{name} has no generation {wanted} in its history"
            )))
        })
    };
    let (from, to) = (find(from)?, find(to)?);
    let fields = fields(from, to).ok_or_else(|| {
        Refused::unavailable("one of the two cannot be resolved with the config of today")
    })?;
    Ok(Json(Difference {
        from: from.accepted.generation.0,
        to: to.accepted.generation.0,
        fields,
    }))
}

/// `POST /containers/NAME/rollback`.
pub(super) async fn roll_back(
    State(app): State<Arc<App>>,
    Extension(peer): Extension<Peer>,
    Path(name): Path<String>,
    ask: Body,
) -> Answer<Done> {
    let key = key(&name)?;
    let ask: RollBack = body(ask).await?;
    tracing::info!(%key, uid = peer.uid, to = ask.to, "rollback");
    let to = ask.to.map(Generation);
    let message = app
        .keep(|reply| Note::RollBack(key, to, peer.uid, reply))
        .await??;
    Ok(Json(Done { message }))
}

fn newest(past: &[Past]) -> Generation {
    past.last()
        .map_or(Generation(0), |one| one.accepted.generation)
}

/// Returns what differs; none if that cannot be told.
fn fields(from: &Past, to: &Past) -> Option<Vec<PlanField>> {
    let of = |past: &Past| past.desired.clone();
    let (from, to): (Arc<Desired>, Arc<Desired>) = (of(from)?, of(to)?);
    let changes = change::changes(&from, &to);
    Some(changes.into_iter().map(PlanField::from).collect())
}
