//! Taking part in a process: what it writes comes from its log, so that many may read it,
//! late ones catch up, and nobody who is slow makes it wait; what it reads is one pipe for all.

use std::io;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::Duration;

use axum::Extension;
use axum::extract::{Path, Request, State};
use axum::http::StatusCode;
use axum::response::Response;
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use specs::desired::Desired;
use specs::id::ProcessName;
use tokio::io::AsyncWriteExt as _;
use tokio::sync::{Mutex, mpsc};

use super::follower::{Follower, Piece};
use super::session::{Listener, Writer, feed, send, until_ended, watch};
use super::{life, not_now, switch, upgrade};
use crate::api::auth::Peer;
use crate::api::frames::{self, BODY_BYTES_MAX, FromDaemon};
use crate::api::problem::Refused;
use crate::api::routes::{App, blocking, body, key};
use crate::api::wire::AttachAsk;
use crate::host::{Attached, Attaching, Ended, Handle};

/// How often the log is looked at.
const POLL: Duration = Duration::from_millis(50);

/// `POST /containers/NAME/attach`.
pub(in crate::api) async fn attach(
    State(app): State<Arc<App>>,
    Extension(peer): Extension<Peer>,
    Path(name): Path<String>,
    mut request: Request,
) -> Result<Response, Refused> {
    let key = key(&name)?;
    let upgrade = upgrade(&mut request)?;
    let ask: AttachAsk = body(request.into_body()).await?;
    let view = app.seen();
    let entry = view.entries.get(&key);
    let entry = entry.ok_or_else(|| Refused::unknown(key.as_str()))?;
    let process = process(&entry.desired, &ask)?;
    let place = app.execs.place()?;
    let directory = (app.log_directory)(&key);
    let (followed, lines) = (process.clone(), ask.tail);
    let follower = blocking(move || Follower::open(directory, followed, lines)).await?;
    let follower = follower.map_err(|err| not_now(format!("its log cannot be read: {err}")))?;
    let asked = Attaching {
        key: key.clone(),
        incarnation: life(&app, &key).await?,
        process,
    };
    let attach = Arc::clone(&app.execs.attach);
    let process = asked.process.clone();
    let talk = app
        .execs
        .talk(key.clone(), move |deadline| attach(&asked, deadline));
    let mut attached = talk.await?;
    if !ask.input {
        attached.input = None;
    } else if attached.input.is_none() {
        let why = format!("{process} of {key} runs without an open standard input");
        return Err(Refused(StatusCode::CONFLICT, "CannotInvoke", why));
    }
    let pid = attached.handle.pid;
    tracing::info!(%key, %process, uid = peer.uid, pid, input = ask.input, "attach");
    tokio::spawn(async move {
        match upgrade.await {
            Ok(connection) => {
                if let Err(err) = serve(connection, attached, follower).await {
                    tracing::debug!(pid, err = %err, "who took part in a process went");
                }
            }
            Err(err) => tracing::debug!(err = %err, "take over a connection"),
        }
        drop(place);
    });
    Ok(switch())
}

/// Returns which process is meant, if one can take part in it.
fn process(desired: &Desired, ask: &AttachAsk) -> Result<ProcessName, Refused> {
    let cannot = |why: String| Refused(StatusCode::CONFLICT, "CannotInvoke", why);
    let key = &desired.key;
    let (name, process) = match &ask.process {
        Some(name) => {
            let known = ProcessName::new(name).ok();
            let known = known.and_then(|name| desired.processes.get_key_value(&name));
            known.ok_or_else(|| {
                let name = specs::diagnostic::plain(name);
                let why = format!("{key} has no process {name}");
                Refused(StatusCode::NOT_FOUND, "UnknownName", why)
            })?
        }
        None => {
            let mut all = desired.processes.iter();
            match (all.next(), all.next()) {
                (Some(only), None) => only,
                (None, _) => return Err(cannot(format!("{key} has no processes"))),
                _ => {
                    let names: Vec<&str> =
                        desired.processes.keys().map(ProcessName::as_str).collect();
                    let names = names.join(", ");
                    return Err(cannot(format!("{key} has several processes: {names}")));
                }
            }
        }
    };
    if process.logs.discard {
        let why = format!("what {name} of {key} writes is thrown away (`logs.discard`)");
        return Err(cannot(why));
    }
    if ask.input && !process.has_open_stdin {
        let why = format!("{name} of {key} reads nothing; its spec has to say `stdin: open`");
        return Err(cannot(why));
    }
    Ok(name.clone())
}

/// Serves until the process has ended and that was told, or the client goes.
async fn serve(connection: Upgraded, attached: Attached, follower: Follower) -> io::Result<()> {
    let (reader, writer) = tokio::io::split(TokioIo::new(connection));
    let writer = Mutex::new(writer);
    let input = attached.input.map(|end| watch(end).map(Arc::new));
    let input = input.transpose()?;
    let (bytes, arriving) = mpsc::unbounded_channel();
    let under_way = AtomicUsize::new(0);
    let handle = watch(attached.handle)?;
    let listener = Listener {
        handle: handle.get_ref(),
        terminal: None,
        input: input.is_some().then_some(bytes),
        under_way: &under_way,
    };
    tokio::select! {
        told = tell(&handle, follower, &writer) => told,
        gone = listener.listen(reader) => gone,
        failed = feed(input, arriving, &writer, &under_way) => Err(failed),
    }
}

/// Tells what the process writes, and how it ended. What it wrote is in its log by then.
async fn tell(
    handle: &tokio::io::unix::AsyncFd<Handle>,
    mut follower: Follower,
    writer: &Writer,
) -> io::Result<()> {
    let mut ended = None;
    loop {
        let (back, read) = blocking(move || {
            let read = follower.read();
            (follower, read)
        })
        .await
        .map_err(|_| io::Error::other("the daemon is busy"))?;
        follower = back;
        let pieces = read?;
        let was_quiet = pieces.is_empty();
        for piece in pieces {
            match piece {
                Piece::Output(bytes) => pass_on(&bytes, FromDaemon::Output, writer).await?,
                Piece::Errors(bytes) => pass_on(&bytes, FromDaemon::Errors, writer).await?,
                Piece::Gap => send(writer, &FromDaemon::Gap).await?,
            }
        }
        match ended {
            Some(ended) if was_quiet => {
                send(writer, &FromDaemon::Ended(ended)).await?;
                return writer.lock().await.shutdown().await;
            }
            None if was_quiet => {
                tokio::select! {
                    told = until_ended(handle) => ended = Some(end(told?)),
                    () = tokio::time::sleep(POLL) => {}
                }
            }
            _ => {}
        }
    }
}

async fn pass_on(
    bytes: &[u8],
    frame: fn(Vec<u8>) -> FromDaemon,
    writer: &Writer,
) -> io::Result<()> {
    for part in bytes.chunks(BODY_BYTES_MAX) {
        send(writer, &frame(part.to_vec())).await?;
    }
    Ok(())
}

fn end(ended: Ended) -> frames::Ended {
    match ended {
        Ended::Code(code) => frames::Ended::Code(code),
        Ended::Signal(signal) => frames::Ended::Signal(signal),
        Ended::Lost => frames::Ended::Lost,
    }
}
