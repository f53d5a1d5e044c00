//! Running a command in a container, and copying files.

mod attach;
mod copy;
mod follower;
mod session;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use axum::Extension;
use axum::body::Body;
use axum::extract::{Path, Request, State};
use axum::http::header::{CONNECTION, UPGRADE};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse as _, Response};
use driver_api::{ContainerObserved, Deadline, Fact};
use hyper::upgrade::OnUpgrade;
use specs::desired::{Desired, User};
use specs::id::{Incarnation, Key, ProcessName};
use specs::units::Secret;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::auth::Peer;
use super::frames;
use super::problem::Refused;
use super::routes::{App, blocking, body, key};
use super::wire::{ExecAsk, TerminalAsk};
pub(super) use attach::attach;
pub(super) use copy::copy;

use crate::host::{Attach, Command, Exec, ExecError, Program, Running, Task, Window, boot_ms};

/// Commands that run at once, in all containers.
const SESSIONS_MAX: usize = 256;
/// Talks with one container's supervisor at once; a hanging one holds up no other.
const TALKS_MAX: usize = 4;
/// Time for a command to become its program.
const START_MS: u64 = 10_000;
/// Longest name of a kind of terminal.
const TERM_BYTES_MAX: usize = 64;

/// Commands that run.
pub(crate) struct Execs {
    exec: Exec,
    attach: Attach,
    places: Arc<Semaphore>,
    talks: Mutex<BTreeMap<Key, Arc<Semaphore>>>,
}

impl fmt::Debug for Execs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Execs").finish_non_exhaustive()
    }
}

impl Execs {
    /// Makes the desk for a host.
    pub(crate) fn new(exec: Exec, attach: Attach) -> Self {
        Self {
            exec,
            attach,
            places: Arc::new(Semaphore::new(SESSIONS_MAX)),
            talks: Mutex::default(),
        }
    }

    fn place(&self) -> Result<OwnedSemaphorePermit, Refused> {
        let place = Arc::clone(&self.places).try_acquire_owned();
        place.map_err(|_| not_now(format!("{SESSIONS_MAX} commands run already")))
    }

    async fn run(&self, task: Task) -> Result<Running, Refused> {
        let exec = Arc::clone(&self.exec);
        let key = task.key().clone();
        self.talk(key, move |deadline| exec(&task, deadline)).await
    }

    /// Talks with a supervisor; talks with one wait for each other, and for no other.
    async fn talk<T: Send + 'static>(
        &self,
        key: Key,
        talk: impl FnOnce(Deadline) -> Result<T, ExecError> + Send + 'static,
    ) -> Result<T, Refused> {
        let talks = {
            let mut all = self.talks.lock().unwrap_or_else(PoisonError::into_inner);
            all.retain(|_, talks| Arc::strong_count(talks) > 1);
            let fresh = || Arc::new(Semaphore::new(TALKS_MAX));
            Arc::clone(all.entry(key).or_insert_with(fresh))
        };
        let _talk = talks.acquire().await.map_err(|_| Refused::busy())?;
        let deadline = Deadline {
            at_ms: boot_ms() + START_MS,
        };
        let told = blocking(move || talk(deadline)).await?;
        told.map_err(|err| match err {
            ExecError::NoSuchCommand(why) => Refused(StatusCode::NOT_FOUND, "NoSuchCommand", why),
            ExecError::CannotInvoke(why) => Refused(StatusCode::CONFLICT, "CannotInvoke", why),
            ExecError::NotNow(why) => not_now(why),
        })
    }
}

fn not_now(why: String) -> Refused {
    Refused(StatusCode::SERVICE_UNAVAILABLE, "NotNow", why)
}

/// `POST /containers/NAME/exec`.
pub(super) async fn exec(
    State(app): State<Arc<App>>,
    Extension(peer): Extension<Peer>,
    Path(name): Path<String>,
    mut request: Request,
) -> Result<Response, Refused> {
    let key = key(&name)?;
    let upgrade = upgrade(&mut request)?;
    let ask: ExecAsk = body(request.into_body()).await?;
    let place = app.execs.place()?;
    let command = command(&app, &key, &ask).await?;
    let program = ask.command.first().cloned().unwrap_or_default();
    let running = app.execs.run(Task::Command(command)).await?;
    tracing::info!(%key, uid = peer.uid, pid = running.handle.pid, program, "exec");
    Ok(joined(upgrade, running, place))
}

/// Takes what a request's connection becomes.
fn upgrade(request: &mut Request) -> Result<OnUpgrade, Refused> {
    let wants = |value: &HeaderValue| value.as_bytes() == frames::UPGRADE.as_bytes();
    let is_asked = request.headers().get(UPGRADE).is_some_and(wants);
    let upgrade = request.extensions_mut().remove::<OnUpgrade>();
    upgrade
        .filter(|_| is_asked)
        .ok_or_else(|| Refused::bad(format!("this path takes `Upgrade: {}`", frames::UPGRADE)))
}

/// Joins what runs to the client, and answers it.
fn joined(upgrade: OnUpgrade, running: Running, place: OwnedSemaphorePermit) -> Response {
    tokio::spawn(async move {
        match upgrade.await {
            Ok(connection) => session::serve(connection, running).await,
            Err(err) => tracing::debug!(err = %err, "take over the connection of a command"),
        }
        drop(place);
    });
    switch()
}

/// Answers that the connection is another from here on.
fn switch() -> Response {
    let head = [(CONNECTION, "upgrade"), (UPGRADE, frames::UPGRADE)];
    (StatusCode::SWITCHING_PROTOCOLS, head, Body::empty()).into_response()
}

/// Says what is to be run, and in which life of the container.
async fn command(app: &App, key: &Key, ask: &ExecAsk) -> Result<Command, Refused> {
    let view = app.seen();
    let entry = view.entries.get(key);
    let entry = entry.ok_or_else(|| Refused::unknown(key.as_str()))?;
    let program = program(&entry.desired, ask)?;
    Ok(Command {
        key: key.clone(),
        incarnation: life(app, key).await?,
        program,
        terminal: ask.terminal.as_ref().map(|terminal| Window {
            rows: terminal.rows,
            columns: terminal.columns,
        }),
        input: ask.input,
    })
}

/// Returns the life of a container that takes commands.
async fn life(app: &App, key: &Key) -> Result<Incarnation, Refused> {
    let asked = key.clone();
    let observed = app
        .ask(move |machine| machine.observed(&asked).cloned())
        .await?;
    observed.as_ref().and_then(running_life).ok_or_else(|| {
        not_now(format!(
            "{key} does not run; `reconciler status {key}` and `reconciler why {key}` tell more"
        ))
    })
}

/// Returns the newest life whose init takes commands.
fn running_life(observed: &ContainerObserved) -> Option<Incarnation> {
    let mut lives = observed.lives.iter().rev();
    let running = lives.find(|(_, life)| matches!(&life.init, Fact::Known(init) if init.ready));
    running.map(|(incarnation, _)| *incarnation)
}

/// Returns what to run: as the named process of the container runs, or the first by name,
/// but for what is asked otherwise.
fn program(desired: &Desired, ask: &ExecAsk) -> Result<Program, Refused> {
    if ask.command.first().is_none_or(String::is_empty) {
        return Err(Refused::bad("there is no command to run".to_owned()));
    }
    let like = match &ask.process {
        None => desired.processes.values().next(),
        Some(name) => {
            let known = ProcessName::new(name).ok();
            let known = known.and_then(|name| desired.processes.get(&name));
            Some(known.ok_or_else(|| {
                let name = specs::diagnostic::plain(name);
                let why = format!("{} has no process {name}", desired.key);
                Refused(StatusCode::NOT_FOUND, "UnknownName", why)
            })?)
        }
    };
    let mut program = Program::plain(Vec::new());
    if let Some(like) = like {
        program = Program::from(like);
    }
    program.command.clone_from(&ask.command);
    if let Some(terminal) = &ask.terminal {
        program
            .env
            .entry("TERM".to_owned())
            .or_insert_with(|| Secret(term(terminal)));
    }
    for (name, value) in &ask.env {
        if name.is_empty() || name.contains(['=', '\0']) || value.contains('\0') {
            let name = specs::diagnostic::plain(name);
            return Err(Refused::bad(format!("{name} is no name of a variable")));
        }
        program.env.insert(name.clone(), Secret(value.clone()));
    }
    if let Some(user) = &ask.user {
        let parsed: Result<User, _> = user.parse();
        program.user = parsed.map_err(|err| Refused::bad(format!("the user: {err}")))?;
    }
    if let Some(directory) = &ask.work_dir {
        program.work_dir.clone_from(directory);
    }
    Ok(program)
}

/// Returns the client's kind of terminal, if it looks like the name of one.
fn term(terminal: &TerminalAsk) -> String {
    let kind = terminal.kind.as_deref().unwrap_or_default();
    let is_name = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.+".contains(&byte);
    let fits = !kind.is_empty() && kind.len() <= TERM_BYTES_MAX && kind.bytes().all(is_name);
    if fits { kind } else { "xterm" }.to_owned()
}
