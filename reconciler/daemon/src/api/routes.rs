//! What is answered on which path, and to whom.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, to_bytes};
use axum::extract::{FromRequestParts, Path, Query, Request, State};
use axum::http::StatusCode;
use axum::http::request::Parts;
use axum::middleware::{self, Next};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{delete, get, post};
use axum::{Extension, Json, Router};
use driver_api::Driver;
use reconciler_core::machine::{BootReport, Machine};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use specs::event::Event;
use specs::id::{Instance, Key};
use store::{EventQuery, Store};
use tokio::sync::{mpsc, oneshot, watch};

use super::auth::{Access, Peer, Right};
use super::exec::{self, Execs};
use super::problem::Refused;
use super::wire::{Check, Detail, Doctor, Done, List, PROTOCOL, Sync, Version, Why};
use super::{capacity, past, plans, stream, usage, views, why as reasons};
use crate::board::Board;
use crate::commit;
use crate::host::{Room, Use};
use crate::keeper::{Desk, Note, View};
use crate::overrides::Order;
use crate::shell::Message;

/// Largest body of a request, in bytes.
pub(crate) const BODY_BYTES_MAX: usize = 8 << 20;
/// Time for the whole body of a request.
const BODY: Duration = Duration::from_secs(20);
/// Time for an answer that needs the core or the keeper.
const ANSWER: Duration = Duration::from_secs(30);
/// Newest events shown with a container.
const EVENTS_SHOWN: usize = 20;

/// What the routes answer from.
pub(crate) struct App {
    /// This daemon's name.
    pub(crate) instance: Instance,
    /// Newest statuses.
    pub(crate) board: Arc<Board>,
    /// Intent.
    pub(crate) view: watch::Receiver<Arc<View>>,
    /// Number of the newest commit.
    pub(crate) commits: watch::Receiver<u64>,
    /// To the keeper.
    pub(crate) desk: Desk,
    /// To the pump.
    pub(crate) inbox: mpsc::Sender<Message>,
    /// For events.
    pub(crate) store: Arc<Store>,
    /// For previews on a fresh look.
    pub(crate) driver: Arc<dyn Driver>,
    /// What this host can do; blocks.
    pub(crate) doctor: Arc<dyn Fn() -> Vec<Check> + Send + std::marker::Sync>,
    /// What containers use; blocks.
    pub(crate) usage: Arc<Use>,
    /// What the host has for them; blocks.
    pub(crate) room: Arc<dyn Fn() -> Room + Send + std::marker::Sync>,
    /// Where a container's logs are.
    pub(crate) log_directory: Arc<dyn Fn(&Key) -> PathBuf + Send + std::marker::Sync>,
    /// Commands that run.
    pub(crate) execs: Execs,
    /// What the start found, once it is over.
    pub(crate) ready: watch::Receiver<Option<BootReport>>,
    /// Who may use the socket.
    pub(crate) access: Access,
}

impl App {
    /// Asks the core something.
    pub(super) async fn ask<T: Send + 'static>(
        &self,
        question: impl FnOnce(&Machine) -> T + Send + 'static,
    ) -> Result<T, Refused> {
        let (reply, answer) = oneshot::channel();
        let ask = Message::Ask(Box::new(move |machine| {
            // Who asked may have gone.
            reply.send(question(machine)).ok();
        }));
        let asked = async {
            self.inbox.send(ask).await.ok()?;
            answer.await.ok()
        };
        tokio::time::timeout(ANSWER, asked)
            .await
            .ok()
            .flatten()
            .ok_or_else(Refused::busy)
    }

    /// Asks the keeper something.
    pub(super) async fn keep<T>(
        &self,
        note: impl FnOnce(oneshot::Sender<T>) -> Note,
    ) -> Result<T, Refused> {
        let (reply, answer) = oneshot::channel();
        self.desk
            .leave(note(reply))
            .map_err(|why| Refused::unavailable(&why))?;
        let answer = tokio::time::timeout(ANSWER, answer).await;
        answer.ok().and_then(Result::ok).ok_or_else(Refused::busy)
    }

    /// Returns intent as it stands.
    pub(super) fn seen(&self) -> Arc<View> {
        Arc::clone(&self.view.borrow())
    }

    /// Reads events; blocks.
    pub(super) fn events(&self, query: &EventQuery) -> Result<Vec<Event>, Refused> {
        let read = self.store.events(query);
        read.map_err(|err| Refused::unavailable(&crate::errors::chain(&err)))
    }
}

/// The part of a path behind `?`; what cannot be read is told as a problem too.
pub(super) struct Asked<T>(pub(super) T);

impl<T: DeserializeOwned, S: Send + std::marker::Sync> FromRequestParts<S> for Asked<T> {
    type Rejection = Refused;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Refused> {
        match Query::try_from_uri(&parts.uri) {
            Ok(Query(asked)) => Ok(Self(asked)),
            Err(err) => Err(Refused::bad(err.body_text())),
        }
    }
}

pub(super) type Answer<T> = Result<Json<T>, Refused>;
pub(super) type Shared = State<Arc<App>>;

/// Returns every route. The layers that say who asks are put around it.
pub(crate) fn router(app: Arc<App>) -> Router {
    let read = Router::new()
        .route("/v1/version", get(version))
        .route("/v1/containers", get(list))
        .route("/v1/containers/{name}", get(detail))
        .route("/v1/containers/{name}/why", get(why))
        .route("/v1/containers/{name}/logs", get(stream::logs))
        .route("/v1/containers/{name}/history", get(past::history))
        .route("/v1/containers/{name}/diff", get(past::diff))
        .route("/v1/plan", post(plans::plan))
        .route("/v1/events", get(stream::events))
        .route("/v1/watch", get(stream::watch))
        .route("/v1/doctor", get(doctor))
        .route("/v1/usage", get(usage::all))
        .route("/v1/capacity", get(capacity::capacity))
        .route_layer(middleware::from_fn(may_read));
    let write = Router::new()
        .route("/v1/containers/{name}/{order}", post(order))
        .route("/v1/containers/{name}/exec", post(exec::exec))
        .route("/v1/containers/{name}/copy", post(exec::copy))
        .route("/v1/containers/{name}/attach", post(exec::attach))
        .route("/v1/containers/{name}/rollback", post(past::roll_back))
        .route("/v1/containers/{name}", delete(remove))
        .route("/v1/apply", post(plans::apply))
        .route("/v1/sync", post(sync))
        .route_layer(middleware::from_fn(may_write));
    read.merge(write)
        .method_not_allowed_fallback(async || {
            let message = "this path is asked in another way".to_owned();
            Refused(StatusCode::METHOD_NOT_ALLOWED, "WrongMethod", message)
        })
        .fallback(async || {
            let message = "there is nothing here; is the client newer than the daemon?".to_owned();
            Refused(StatusCode::NOT_FOUND, "UnknownPath", message)
        })
        .with_state(app)
}

async fn may_read(
    Extension(right): Extension<Right>,
    Extension(peer): Extension<Peer>,
    request: Request,
    next: Next,
) -> Response {
    may(right >= Right::Read, peer, request, next).await
}

async fn may_write(
    Extension(right): Extension<Right>,
    Extension(peer): Extension<Peer>,
    request: Request,
    next: Next,
) -> Response {
    may(right >= Right::Write, peer, request, next).await
}

async fn may(allowed: bool, peer: Peer, request: Request, next: Next) -> Response {
    if allowed {
        return next.run(request).await;
    }
    tracing::warn!(
        uid = peer.uid,
        gid = peer.gid,
        path = request.uri().path(),
        "forbidden"
    );
    let message = format!(
        "user {} may not do this; root, and the groups named below `api` in the config, may",
        peer.uid
    );
    Refused(StatusCode::FORBIDDEN, "Forbidden", message).into_response()
}

/// Reads a body of bounded size in bounded time.
pub(super) async fn body<T: DeserializeOwned + Default>(body: Body) -> Result<T, Refused> {
    let read = tokio::time::timeout(BODY, to_bytes(body, BODY_BYTES_MAX)).await;
    let slow = || {
        Refused::bad(format!(
            "the request did not come within {} s",
            BODY.as_secs()
        ))
    };
    let large = |_| {
        Refused::bad(format!(
            "a request has at most {} MiB",
            BODY_BYTES_MAX >> 20
        ))
    };
    let bytes = read.map_err(|_| slow())?.map_err(large)?;
    if bytes.is_empty() {
        return Ok(T::default());
    }
    serde_json::from_slice(&bytes).map_err(|err| Refused::bad(format!("the request: {err}")))
}

pub(super) fn key(name: &str) -> Result<Key, Refused> {
    Key::new(name).map_err(|_| Refused::unknown(name))
}

async fn version(State(app): Shared) -> Json<Version> {
    let view = app.seen();
    let report = *app.ready.borrow();
    Json(Version {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        protocol: PROTOCOL,
        instance: app.instance.to_string(),
        ready: report.is_some(),
        safe_mode: view.safe_mode.clone(),
        held_deletes: view.held.clone(),
        adopted: report.map_or(0, |report| report.adopted),
        restarted: report.map_or(0, |report| report.restarted),
    })
}

#[derive(Deserialize)]
struct ListAsk {
    selector: Option<String>,
}

async fn list(State(app): Shared, Asked(ask): Asked<ListAsk>) -> Answer<List> {
    let selector = selector(ask.selector.as_deref().unwrap_or_default())?;
    Ok(Json(views::list(&app.seen(), &app.board.all(), &selector)))
}

/// Reads `a=b,c=d`.
pub(super) fn selector(text: &str) -> Result<BTreeMap<String, String>, Refused> {
    let parts = text.split(',').filter(|part| !part.is_empty());
    parts
        .map(|part| match part.split_once('=') {
            Some((name, value)) => Ok((name.trim().to_owned(), value.trim().to_owned())),
            None => Err(Refused::bad("a selector reads NAME=VALUE,…".into())),
        })
        .collect()
}

async fn detail(State(app): Shared, Path(name): Path<String>) -> Answer<Detail> {
    let key = key(&name)?;
    let view = app.seen();
    let status = app.board.one(&key);
    let Some(container) = views::container(&view, status.as_ref(), &key) else {
        return Err(Refused::unknown(&name));
    };
    let asked = key.clone();
    let observed = app
        .ask(move |machine| machine.observed(&asked).cloned())
        .await?;
    let query = EventQuery {
        after: None,
        key: Some(key.clone()),
        last: Some(EVENTS_SHOWN),
        limit: EVENTS_SHOWN,
    };
    let reader = Arc::clone(&app);
    let events = blocking(move || reader.events(&query)).await??;
    let entry = view.entries.get(&key);
    let refusal = entry.and_then(|entry| entry.refusal.as_ref());
    let refusal = refusal.or_else(|| view.invalid.get(&key).map(|(_, refusal)| refusal));
    let mut detail = views::detail(container, entry, refusal, observed.as_ref(), events);
    detail.usage = usage::one(&app, key.clone()).await;
    Ok(Json(detail))
}

async fn why(State(app): Shared, Path(name): Path<String>) -> Answer<Why> {
    let key = key(&name)?;
    let view = app.seen();
    let status = app.board.one(&key);
    let Some(container) = views::container(&view, status.as_ref(), &key) else {
        return Err(Refused::unknown(&name));
    };
    let asked = key.clone();
    let observed = app
        .ask(move |machine| machine.observed(&asked).cloned())
        .await?;
    let entry = view.entries.get(&key);
    let file = entry.and_then(|entry| entry.file.clone());
    let commit = match file {
        Some(file) => blocking(move || commit::newest(&file)).await?,
        None => None,
    };
    Ok(Json(reasons::why(
        &container,
        entry,
        observed.as_ref(),
        &view.notices,
        commit.as_ref(),
    )))
}

async fn doctor(State(app): Shared) -> Answer<Doctor> {
    let doctor = Arc::clone(&app.doctor);
    let checks = blocking(move || doctor()).await?;
    Ok(Json(Doctor { checks }))
}

async fn order(
    State(app): Shared,
    Extension(peer): Extension<Peer>,
    Path((name, order)): Path<(String, String)>,
) -> Answer<Done> {
    let key = key(&name)?;
    let order = match order.as_str() {
        "start" => Order::Start,
        "stop" => Order::Stop,
        "restart" => Order::Restart,
        "suspend" => Order::Suspend,
        "resume" => Order::Resume,
        _ => {
            let message = "there is no such order".to_owned();
            return Err(Refused(StatusCode::NOT_FOUND, "UnknownPath", message));
        }
    };
    tracing::info!(%key, uid = peer.uid, order = ?order, "order");
    let message = app.keep(|reply| Note::Order(key, order, reply)).await??;
    Ok(Json(Done { message }))
}

async fn remove(
    State(app): Shared,
    Extension(peer): Extension<Peer>,
    Path(name): Path<String>,
) -> Answer<Done> {
    let key = key(&name)?;
    tracing::info!(%key, uid = peer.uid, "delete");
    let message = app
        .keep(|reply| Note::Delete(key, peer.uid, reply))
        .await??;
    Ok(Json(Done { message }))
}

async fn sync(State(app): Shared, ask: Body) -> Answer<Done> {
    let ask: Sync = body(ask).await?;
    if let Some(name) = &ask.name {
        let key = key(name)?;
        let status = app.board.one(&key);
        if views::container(&app.seen(), status.as_ref(), &key).is_none() {
            return Err(Refused::unknown(name));
        }
        let look = Message::Look(Some(key));
        app.inbox.send(look).await.map_err(|_| Refused::busy())?;
    }
    let message = app
        .keep(|reply| Note::Sync(ask.allow_deletes, reply))
        .await??;
    Ok(Json(Done { message }))
}

/// Runs something that blocks on the runtime's bounded pool for such things.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Refused> {
    let work = tokio::task::spawn_blocking(work);
    let done = tokio::time::timeout(ANSWER, work).await;
    done.ok().and_then(Result::ok).ok_or_else(Refused::busy)
}
