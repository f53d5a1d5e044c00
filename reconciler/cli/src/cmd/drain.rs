//! `reconciler drain`: end every container of an instance whose daemon does not run.
//!
//! A daemon of the same instance is started with a store of its own that is empty, and without
//! specs. To it each container on the host is in no spec; those it keeps until a person lets them
//! go, which is done here. The real store is neither opened nor written, and is held, so that the
//! real daemon cannot start meanwhile.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use std::{fs, thread};

use reconciler_daemon::Offline;
use reconciler_daemon::api::wire::{Done, List, Sync, Version};
use rustix::process::{Pid, Signal, kill_process};
use specs::id::Key;

use super::{Exit, Failure, Session, run};
use crate::args::{DrainArgs, RootAssembly, RunArgs};
use crate::client::{AskError, Client};

/// How often is looked.
const PAUSE: Duration = Duration::from_millis(200);
/// How many containers are let go: all there can be.
const ALL: u64 = u64::MAX;

/// Ends every container.
///
/// # Errors
/// When the daemon runs, the options are wrong, or the host refuses.
pub(crate) fn drain(
    session: &mut Session,
    args: &DrainArgs,
    socket: Option<PathBuf>,
) -> Result<Exit, Failure> {
    let held = Offline::take(&run::options(&args.run, socket))?;
    let own = held.runtime.join(format!("drain.{}", std::process::id()));
    let place = Place::make(own)?;
    let mut stand_in = StandIn::start(&args.run, &place)?;
    let client = Client::new(&place.socket())?;
    let until = Instant::now() + args.timeout.0;
    let mut left = BTreeSet::new();
    loop {
        match look(&client)? {
            Some(list) => {
                let now: BTreeSet<Key> = list
                    .containers
                    .into_iter()
                    .map(|view| view.status.key)
                    .collect();
                for gone in left.difference(&now) {
                    session.out.line(&format!("{gone}: ended"))?;
                    session.out.flush()?;
                }
                if now.is_empty() {
                    return Ok(Exit::Done);
                }
                left = now;
                let all = Sync {
                    name: None,
                    allow_deletes: Some(ALL),
                };
                // Refused while directories are still being compared: asked again.
                match client.post::<_, Done>("/sync", &all) {
                    Ok(_) | Err(AskError::Refused { .. }) => {}
                    Err(err) => return Err(err.into()),
                }
            }
            None => stand_in.lives()?,
        }
        let is_late = Instant::now() > until;
        if is_late {
            for name in &left {
                session.out.line(&format!("{name}: not ended in time"))?;
            }
            return Ok(Exit::NotActive);
        }
        thread::sleep(PAUSE);
    }
}

/// What is there; nothing as long as the stand-in is not ready.
fn look(client: &Client) -> Result<Option<List>, Failure> {
    let ready = match client.get::<Version>("/version") {
        Ok(version) => version.ready,
        Err(AskError::NoDaemon(..)) => false,
        Err(err) => return Err(err.into()),
    };
    Ok(if ready {
        Some(client.get("/containers")?)
    } else {
        None
    })
}

/// A directory that is there for as long as this is.
struct Place(PathBuf);

impl Place {
    fn make(path: PathBuf) -> Result<Self, Failure> {
        fs::create_dir_all(path.join("specs")).map_err(|err| Failure::Write(path.clone(), err))?;
        Ok(Self(path))
    }

    fn socket(&self) -> PathBuf {
        self.0.join("sock")
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).ok();
    }
}

/// The daemon that knows nothing.
struct StandIn(Child);

impl StandIn {
    fn start(args: &RunArgs, place: &Place) -> Result<Self, Failure> {
        let own = Path::new("/proc/self/exe");
        let mut command = Command::new(own);
        command
            .arg("run")
            .arg("--specs")
            .arg(place.0.join("specs"))
            .arg("--state-dir")
            .arg(place.0.join("state"))
            .arg("--socket")
            .arg(place.socket());
        let paths = [
            ("--config", &args.config),
            ("--runtime-dir", &args.runtime_dir),
            ("--log-dir", &args.log_dir),
            ("--shim", &args.shim),
        ];
        for (option, path) in paths {
            if let Some(path) = path {
                command.arg(option).arg(path);
            }
        }
        if let Some(parent) = &args.cgroup_parent {
            command.arg("--cgroup-parent").arg(parent);
        }
        if let Some(instance) = &args.instance {
            command.arg("--instance").arg(instance.as_str());
        }
        command.arg("--assembly").arg(match args.assembly {
            RootAssembly::Auto => "auto",
            RootAssembly::Detached => "detached",
            RootAssembly::Classic => "classic",
        });
        // Nobody's service: it must not speak for the one that starts this.
        command
            .env_remove("NOTIFY_SOCKET")
            .env_remove("WATCHDOG_USEC");
        command.stdin(Stdio::null()).stdout(Stdio::null());
        let child = command
            .spawn()
            .map_err(|err| Failure::Start(own.to_owned(), err))?;
        Ok(Self(child))
    }

    /// Fails when it has ended by itself, which it said why on standard error.
    fn lives(&mut self) -> Result<(), Failure> {
        match self.0.try_wait() {
            Ok(Some(_)) => Err(Failure::Ended),
            Ok(None) => Ok(()),
            Err(err) => Err(Failure::Start(PathBuf::from("/proc/self/exe"), err)),
        }
    }
}

impl Drop for StandIn {
    fn drop(&mut self) {
        if let Some(pid) = i32::try_from(self.0.id()).ok().and_then(Pid::from_raw)
            && matches!(self.0.try_wait(), Ok(None))
        {
            kill_process(pid, Signal::TERM).ok();
        }
        self.0.wait().ok();
    }
}
