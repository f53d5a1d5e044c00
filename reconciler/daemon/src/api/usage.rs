//! What containers use, read when somebody asks.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use specs::id::Key;
use specs::usage::{ContainerUsage, UsageSample};

use super::problem::Refused;
use super::routes::{Answer, App, Shared, blocking};
use crate::clock;

/// Answers with a sample of all.
pub(super) async fn all(State(app): Shared) -> Answer<UsageSample> {
    let read = Arc::clone(&app.usage);
    let sample = blocking(move || {
        let at_ms = clock::boot_ms();
        read(None).map(|containers| UsageSample { at_ms, containers })
    });
    let sample = sample.await?;
    sample
        .map(Json)
        .map_err(|err| Refused::unavailable(&crate::errors::chain(&err)))
}

/// Returns what one container uses; none if it has no life, or that cannot be told.
pub(super) async fn one(app: &App, key: Key) -> Option<ContainerUsage> {
    let read = Arc::clone(&app.usage);
    let found = blocking(move || read(Some(&key))).await.ok()?;
    found.ok()?.pop()
}
