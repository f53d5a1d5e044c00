//! From options to a running daemon, and its orderly end.
//!
//! Order: config, then the store with its lock (a second daemon ends here, before it touched
//! anything), then the host, a first look at it, the socket, the sources, and at last the
//! core. Nothing is decided before all of intent was handed in.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use driver_api::Wake;
use nix::sys::stat::{Mode as FileMode, umask};
use reconciler_core::machine::{BootReport, Machine, MachineConfig};
use specs::id::Key;
use specs::units::Millis;
use store::{Health, Options as StoreOptions, Store};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, watch};

use crate::api::auth::Access;
use crate::api::exec::Execs;
use crate::api::routes::App;
use crate::api::server::{self, ListenError};
use crate::board::Board;
use crate::host::{self, Host};
use crate::keeper::{Beginning, Desk, Keeper, NOTHING, Note, View};
use crate::ledger::Ledger;
use crate::options::{OptionsError, RunOptions, Settings};
use crate::profiles::Profiles;
use crate::recover::{self, Found};
use crate::service::{self, Reload};
use crate::shell::{INBOX, Message, Pump, PumpError};
use crate::watch::Hint;
use crate::{listing, logging, ready};

/// Delay after the first failure of a container's step.
const RETRY_INITIAL: Millis = Millis(500);
/// Longest delay between tries of a container's step.
const RETRY_MAX: Millis = Millis(60_000);
/// Threads of the runtime; what blocks runs elsewhere.
const RUNTIME_THREADS: usize = 2;
/// Threads for what blocks beside the driver: reading events and logs, looking up groups.
const BLOCKING_THREADS: usize = 32;
/// Time for steps that were begun to end before the daemon goes without them.
const DRAIN: Duration = Duration::from_secs(3);

/// Why the daemon did not start, or did not go on.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// It has to be root.
    #[error("the daemon makes namespaces, mounts and cgroups and has to run as root")]
    NotRoot,
    /// Options or config.
    #[error("the daemon was not started")]
    Options(#[from] OptionsError),
    /// The groups of the socket.
    #[error("the daemon was not started: {0}")]
    Groups(String),
    /// Another daemon has the state directory.
    #[error("another daemon runs on this state directory; nothing was touched")]
    Locked(#[source] store::OpenError),
    /// The store.
    #[error("the daemon was not started, nothing was touched")]
    Store(#[source] store::OpenError),
    /// What the store holds cannot be read.
    #[error("the daemon was not started: read the store")]
    Contents(#[source] store::ReadError),
    /// The host.
    #[error("the daemon was not started: open the host")]
    Host(#[source] driver_linux::OpenError),
    /// The socket.
    #[error("the daemon was not started")]
    Socket(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// Threads, signals, the runtime.
    #[error("the daemon was not started: {0}")]
    System(&'static str, #[source] std::io::Error),
    /// The core broke one of its own laws.
    #[error("the daemon ends; containers go on running")]
    Core(#[source] Box<dyn std::error::Error + Send + Sync>),
}

impl RunError {
    /// Returns the exit status that says what kind of failure it was (`sysexits.h`): 77 not
    /// root, 78 config, 75 another daemon is there, 70 a bug, 71 the system.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::NotRoot => 77,
            Self::Options(_) | Self::Groups(_) => 78,
            Self::Locked(_) => 75,
            Self::Core(_) => 70,
            Self::Store(_)
            | Self::Contents(_)
            | Self::Host(_)
            | Self::Socket(_)
            | Self::System(..) => 71,
        }
    }
}

/// Runs the daemon until it is told to stop; containers go on without it.
///
/// # Errors
/// When it cannot start, or has to end by itself.
pub fn run(options: &RunOptions) -> Result<(), RunError> {
    if !rustix::process::geteuid().is_root() {
        return Err(RunError::NotRoot);
    }
    let settings = options.settle()?;
    let access = Access::from_config(&settings.config.api).map_err(RunError::Groups)?;
    logging::begin();
    // Whatever the caller's was: nothing of ours is made readable by accident.
    umask(FileMode::from_bits_truncate(0o077));
    let own = settings.state.join(settings.instance.as_str());
    let (store, opened) =
        Store::open(&StoreOptions::new(own.join("store"))).map_err(|err| match err {
            store::OpenError::Locked { .. } => RunError::Locked(err),
            err => RunError::Store(err),
        })?;
    match &opened.health {
        Health::Sound => {}
        Health::Suspect(why) => tracing::error!(err = why, "the store is in doubt"),
        Health::Rebuilt { why, moved_to } => {
            tracing::error!(err = why, moved_to = %moved_to.display(), "the store was rebuilt");
        }
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(RUNTIME_THREADS)
        .max_blocking_threads(BLOCKING_THREADS)
        .thread_name("shell")
        .enable_all()
        .build()
        .map_err(|err| RunError::System("start the runtime", err))?;
    let (inbox, taken) = mpsc::channel(INBOX);
    let hinted = inbox.clone();
    let wake = move |wake: Wake| {
        // A full inbox may lose a hint: the next look at everything is never far.
        drop(hinted.try_send(Message::Wake(wake)));
    };
    // Before the driver, whose own directories may lie there and are nobody else's.
    server::make_way(&settings.socket, &access)
        .map_err(|err: ListenError| RunError::Socket(err.into()))?;
    let host = host::open(&settings, Arc::new(wake)).map_err(RunError::Host)?;
    let found = recover::look(&*host.driver);
    // The driver has a runtime of its own, which may not end inside this one.
    let driver = Arc::clone(&host.driver);
    let start = Start {
        options: options.clone(),
        settings,
        access,
        own,
        store: Arc::new(store),
        is_fresh: opened.fresh,
        host,
        found,
        inbox,
    };
    let ended = runtime.block_on(start.go(taken));
    runtime.shutdown_timeout(Duration::from_secs(1));
    drop(driver);
    ended
}

struct Start {
    options: RunOptions,
    settings: Settings,
    access: Access,
    own: PathBuf,
    store: Arc<Store>,
    is_fresh: bool,
    host: Host,
    found: Found,
    inbox: mpsc::Sender<Message>,
}

impl Start {
    async fn go(self, taken: mpsc::Receiver<Message>) -> Result<(), RunError> {
        let socket = server::listen(&self.settings.socket, &self.access)
            .map_err(|err: ListenError| RunError::Socket(err.into()))?;
        let contents = self.store.contents().map_err(RunError::Contents)?;
        for damaged in &contents.damaged {
            tracing::error!(record = damaged, "a record of the store is damaged");
        }
        let machine = self.machine(&contents);
        let (stop, stopped) = watch::channel(false);
        let (desk, notes) = Desk::channel();
        let (keeper, view, commits) = self.keeper(contents, &desk)?;
        let board = Arc::new(Board::new());
        let driver = Arc::clone(&self.host.driver);
        let inbox = self.inbox.clone();
        let pump = Pump::new(machine, driver, desk.clone(), Arc::clone(&board), inbox);
        let pump = tokio::spawn(pump.run(taken, stopped.clone(), DRAIN));
        let keeping = std::thread::Builder::new()
            .name("keeper".into())
            .spawn(move || keeper.run(&notes))
            .map_err(|err| RunError::System("start the keeper", err))?;
        let (report, is_ready) = watch::channel(None);
        let announced = tokio::spawn(ready::announce(
            self.inbox.clone(),
            view.clone(),
            desk.clone(),
            report,
            stopped.clone(),
        ));
        let watchdog = tokio::spawn(service::watchdog(self.inbox.clone(), stopped.clone()));
        let (options, settings) = (self.options.clone(), self.settings.clone());
        let reload = Reload::new(options, settings, desk.clone(), is_ready.clone());
        let app = self.app((board, view, commits), desk.clone(), is_ready);
        let served = tokio::spawn(server::serve(socket, Arc::new(app), stopped));
        let ended = Self::until_told(pump, &reload, &stop).await;
        stop.send_replace(true);
        drop(tokio::join!(served, announced, watchdog));
        if desk.leave_patiently(Note::Close) && keeping.join().is_err() {
            tracing::error!("BUG: the keeper panicked");
        }
        // The path may be a later daemon's already only if it answered there: not while the
        // store is ours.
        drop(std::fs::remove_file(&self.settings.socket));
        tracing::info!("stopped; containers go on running");
        ended
    }

    fn keeper(&self, contents: store::model::Contents, desk: &Desk) -> Result<Kept, RunError> {
        let doubt = recover::doubt(self.store.condition().doubt, self.is_fresh, &self.found);
        if let Some(why) = &doubt {
            tracing::error!(err = why, "safe mode: nothing is destroyed");
        }
        let profiles = Profiles::new(&self.own);
        let config = Arc::new(self.settings.config.clone());
        let (readers, heard) = watch::channel(Arc::clone(&config));
        let mut sources = Vec::new();
        for path in &self.settings.specs {
            let (hint, hints) = Hint::channel();
            sources.push((path.clone(), hint.clone()));
            listing::spawn(path.clone(), heard.clone(), desk.clone(), (hint, hints))
                .map_err(|err| RunError::System("start a source", err))?;
        }
        Ok(Keeper::new(Beginning {
            incarnation: contents.incarnation,
            ledger: Ledger::load(contents, &config, &profiles, &self.found),
            config,
            readers,
            store: Arc::clone(&self.store),
            profiles,
            state: self.own.clone(),
            sources,
            doubt,
            found: self.found.clone(),
            found_generations: self.found.generations.clone(),
            found_all: self.found.complete,
            out: self.inbox.clone(),
        }))
    }

    fn app(
        &self,
        (board, view, commits): (Arc<Board>, watch::Receiver<Arc<View>>, watch::Receiver<u64>),
        desk: Desk,
        ready: watch::Receiver<Option<BootReport>>,
    ) -> App {
        App {
            instance: self.settings.instance.clone(),
            board,
            view,
            commits,
            desk,
            inbox: self.inbox.clone(),
            store: Arc::clone(&self.store),
            driver: Arc::clone(&self.host.driver),
            doctor: Arc::clone(&self.host.doctor),
            usage: Arc::clone(&self.host.usage),
            room: Arc::clone(&self.host.room),
            log_directory: Arc::clone(&self.host.log_directory),
            execs: Execs::new(Arc::clone(&self.host.exec), Arc::clone(&self.host.attach)),
            ready,
            access: self.access.clone(),
        }
    }

    fn machine(&self, contents: &store::model::Contents) -> Machine {
        let lives = contents.lives.iter();
        let told = lives.clone().filter_map(|life| {
            let at = (life.key.clone(), life.incarnation);
            Some((at, life.kills_told?))
        });
        let reconcile = self.settings.config.reconcile;
        Machine::new(MachineConfig {
            concurrency: usize::try_from(reconcile.workers).unwrap_or(1).max(1),
            resync: reconcile.resync,
            retry_initial: RETRY_INITIAL,
            retry_max: RETRY_MAX,
            next_incarnation: contents.incarnation.max(self.found.incarnation).next(),
            lives: lives
                .map(|life| (life.key.clone(), life.incarnation, life.generation))
                .collect::<Vec<(Key, _, _)>>(),
            kills_told: told.collect(),
            mode: NOTHING,
        })
    }
    /// Waits for a signal that ends the daemon, or for the core to give up.
    async fn until_told(
        pump: tokio::task::JoinHandle<Result<(), PumpError>>,
        reload: &Reload,
        stop: &watch::Sender<bool>,
    ) -> Result<(), RunError> {
        let failed = |err| RunError::System("wait for signals", err);
        let mut terminate = signal(SignalKind::terminate()).map_err(failed)?;
        let mut interrupt = signal(SignalKind::interrupt()).map_err(failed)?;
        let mut hang_up = signal(SignalKind::hangup()).map_err(failed)?;
        let mut pump = pump;
        loop {
            tokio::select! {
                ended = &mut pump => {
                    service::stopping();
                    return core(ended);
                }
                _ = terminate.recv() => break,
                _ = interrupt.recv() => break,
                _ = hang_up.recv() => reload.begin(),
            }
        }
        tracing::info!("stopping; containers go on running");
        service::stopping();
        stop.send_replace(true);
        core(pump.await)
    }
}

/// A keeper, what it shows, and the number of its newest commit.
type Kept = (Keeper, watch::Receiver<Arc<View>>, watch::Receiver<u64>);

fn core(ended: Result<Result<(), PumpError>, tokio::task::JoinError>) -> Result<(), RunError> {
    match ended {
        Ok(Ok(())) => Ok(()),
        Ok(Err(err)) => Err(RunError::Core(err.into())),
        Err(err) => Err(RunError::Core(err.into())),
    }
}
