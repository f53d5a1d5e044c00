//! Answers that go on: one JSON object a line, until the client has enough.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::{Path, State};
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse as _, Response};
use futures_util::stream;
use serde::{Deserialize, Serialize};
use specs::id::{Key, ProcessName};
use store::EventQuery;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::mpsc;

use super::logs::{Ask, Reader, TAIL_MAX};
use super::problem::Refused;
use super::routes::{App, Asked, blocking, key};
use super::views;

/// Lines that may wait for a slow client; beyond it the giver waits, and nobody else.
const LINES: usize = 256;
/// A client that takes nothing for so long is left.
const STALLED: Duration = Duration::from_secs(60);
/// How often a followed log is looked at.
const POLL: Duration = Duration::from_millis(200);
/// Events read at once.
const PAGE: usize = 500;
/// An event follower looks at least this often, whatever it is told.
const FOLLOW: Duration = Duration::from_secs(5);

/// Gives lines to one client.
struct Lines(mpsc::Sender<Bytes>);

impl Lines {
    fn channel() -> (Self, Response) {
        let (send, receive) = mpsc::channel(LINES);
        let lines = stream::unfold(receive, async |mut receive: mpsc::Receiver<Bytes>| {
            let line = receive.recv().await?;
            Some((Ok::<_, std::convert::Infallible>(line), receive))
        });
        let body = Body::from_stream(Box::pin(lines));
        (
            Self(send),
            ([(CONTENT_TYPE, "application/x-ndjson")], body).into_response(),
        )
    }

    /// Returns whether the client still listens.
    async fn give(&self, line: &impl Serialize) -> bool {
        let Some(line) = encode(line) else {
            return true;
        };
        matches!(
            tokio::time::timeout(STALLED, self.0.send(line)).await,
            Ok(Ok(()))
        )
    }

    async fn gone(&self) {
        self.0.closed().await;
    }
}

fn encode(line: &impl Serialize) -> Option<Bytes> {
    let mut bytes = serde_json::to_vec(line).ok()?;
    bytes.push(b'\n');
    Some(bytes.into())
}

#[derive(Deserialize)]
pub(super) struct LogsAsk {
    process: Option<String>,
    #[serde(default)]
    follow: bool,
    since_ms: Option<u64>,
    tail: Option<usize>,
}

/// `GET /containers/NAME/logs`.
pub(super) async fn logs(
    State(app): State<Arc<App>>,
    Path(name): Path<String>,
    Asked(ask): Asked<LogsAsk>,
) -> Result<Response, Refused> {
    let key = key(&name)?;
    if ask.tail.is_some_and(|tail| tail > TAIL_MAX) {
        return Err(Refused::bad(format!("`tail` is at most {TAIL_MAX}")));
    }
    let directory = (app.log_directory)(&key);
    let view = app.seen();
    let process = match ask.process {
        None => None,
        Some(process) => Some(wanted_process(&view, &key, &process)?),
    };
    let known = view.entries.contains_key(&key) || app.board.one(&key).is_some();
    if !known
        && !blocking({
            let directory = directory.clone();
            move || directory.is_dir()
        })
        .await?
    {
        return Err(Refused::unknown(&name));
    }
    let wanted = Ask {
        process,
        since_ms: ask.since_ms,
        tail: ask.tail,
    };
    let (lines, response) = Lines::channel();
    let follow = ask.follow;
    let mut reader = Reader::new(directory, wanted);
    // A thread of its own: a client may take hours to read what there is.
    let work = move || loop {
        let read = reader
            .read(|line| encode(&line).is_none_or(|line| lines.0.blocking_send(line).is_ok()));
        if let Err(err) = read {
            tracing::warn!(%key, err = %err, "read logs");
            return;
        }
        if !follow || lines.0.is_closed() {
            return;
        }
        std::thread::sleep(POLL);
    };
    let spawned = std::thread::Builder::new().name("logs".into()).spawn(work);
    spawned.map_err(|err| Refused::unavailable(&format!("no thread to read logs: {err}")))?;
    Ok(response)
}

fn wanted_process(
    view: &crate::keeper::View,
    key: &Key,
    process: &str,
) -> Result<ProcessName, Refused> {
    let no_such = || {
        let process = specs::diagnostic::plain(process);
        Refused(
            axum::http::StatusCode::NOT_FOUND,
            "UnknownProcess",
            format!("{key} has no process {process}"),
        )
    };
    let name = ProcessName::new(process).map_err(|_| no_such())?;
    match view.entries.get(key) {
        Some(entry) if !entry.desired.processes.contains_key(&name) => Err(no_such()),
        Some(_) | None => Ok(name),
    }
}

#[derive(Deserialize)]
pub(super) struct EventsAsk {
    after: Option<u64>,
    key: Option<String>,
    #[serde(default)]
    follow: bool,
    tail: Option<usize>,
}

/// `GET /events`.
pub(super) async fn events(
    State(app): State<Arc<App>>,
    Asked(ask): Asked<EventsAsk>,
) -> Result<Response, Refused> {
    let mut query = EventQuery {
        after: ask.after,
        key: ask.key.as_deref().map(key).transpose()?,
        // To follow from now on one has to know where now is.
        last: ask.tail.map(|tail| tail.max(1)),
        limit: PAGE,
    };
    let mut skip_first = ask.tail == Some(0);
    let follow = ask.follow;
    let (lines, response) = Lines::channel();
    let mut commits = app.commits.clone();
    tokio::spawn(async move {
        loop {
            commits.borrow_and_update();
            let (reader, asked) = (Arc::clone(&app), query.clone());
            let page = blocking(move || reader.events(&asked)).await;
            let Ok(Ok(page)) = page else { return };
            let full = page.len() >= PAGE;
            // From now on everything after what was given, however much that is.
            query.last = None;
            query.after = page
                .last()
                .map(|event| event.seq)
                .or(query.after)
                .or(Some(0));
            for event in page.iter().filter(|_| !std::mem::take(&mut skip_first)) {
                if !lines.give(event).await {
                    return;
                }
            }
            if full {
                continue;
            }
            if !follow {
                return;
            }
            tokio::select! {
                changed = commits.changed() => if changed.is_err() { return },
                () = tokio::time::sleep(FOLLOW) => {}
                () = lines.gone() => return,
            }
        }
    });
    Ok(response)
}

/// `GET /watch`.
pub(super) async fn watch(State(app): State<Arc<App>>) -> Response {
    let (lines, response) = Lines::channel();
    let mut changes = app.board.watch();
    let mut intents = app.view.clone();
    tokio::spawn(async move {
        let mut shown: BTreeSet<Key> = BTreeSet::new();
        if !show_all(&app, &lines, &mut shown).await {
            return;
        }
        loop {
            let goes_on = tokio::select! {
                changed = changes.recv() => match changed {
                    Ok(key) => show(&app, &lines, &mut shown, key).await,
                    Err(RecvError::Lagged(_)) => show_all(&app, &lines, &mut shown).await,
                    Err(RecvError::Closed) => false,
                },
                changed = intents.changed() => {
                    changed.is_ok() && show_all(&app, &lines, &mut shown).await
                }
                () = lines.gone() => false,
            };
            if !goes_on {
                return;
            }
        }
    });
    response
}

async fn show_all(app: &App, lines: &Lines, shown: &mut BTreeSet<Key>) -> bool {
    let view = app.seen();
    let statuses = app.board.all();
    let list = views::list(&view, &statuses, &std::collections::BTreeMap::new());
    let now: BTreeSet<Key> = list
        .containers
        .iter()
        .map(|one| one.status.key.clone())
        .collect();
    for one in &list.containers {
        if !lines.give(one).await {
            return false;
        }
    }
    for key in shown.difference(&now) {
        if !lines.give(&views::gone(key)).await {
            return false;
        }
    }
    *shown = now;
    true
}

async fn show(app: &App, lines: &Lines, shown: &mut BTreeSet<Key>, key: Key) -> bool {
    let status = app.board.one(&key);
    match views::container(&app.seen(), status.as_ref(), &key) {
        Some(view) => {
            shown.insert(key);
            lines.give(&view).await
        }
        None if shown.remove(&key) => lines.give(&views::gone(&key)).await,
        None => true,
    }
}
