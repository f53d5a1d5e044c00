//! What each command does. A command asks, renders, writes, and returns an exit code.

pub(crate) mod apply;
pub(crate) mod attach;
pub(crate) mod capacity;
pub(crate) mod completion;
pub(crate) mod copy;
pub(crate) mod describe;
pub(crate) mod doctor;
pub(crate) mod drain;
pub(crate) mod events;
pub(crate) mod exec;
pub(crate) mod explain;
pub(crate) mod follow;
pub(crate) mod history;
pub(crate) mod input;
pub(crate) mod logs;
pub(crate) mod man;
pub(crate) mod order;
pub(crate) mod plan;
pub(crate) mod run;
pub(crate) mod status;
pub(crate) mod store;
pub(crate) mod sync;
pub(crate) mod target;
pub(crate) mod top;
pub(crate) mod validate;
pub(crate) mod version;
pub(crate) mod wait;
pub(crate) mod why;

use std::io;
use std::path::PathBuf;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use reconciler_daemon::{RunError, StoreError};
use serde::Serialize;
use specs::id::Key;

use crate::args::Format;
use crate::client::copy::CopyError;
use crate::client::{AskError, Client};
use crate::out::{Out, OutError};
use crate::render::Look;

/// How a command ended; part of the contract with scripts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    /// As asked.
    Done,
    /// It failed, or a file is at fault.
    Failed,
    /// `plan --exit-code`: there is something to do.
    Changes,
    /// The container is not active, or was not in time.
    NotActive,
    /// No container has this name.
    NoSuchName,
    /// No daemon answers.
    NoDaemon,
    /// The command line is wrong.
    Usage,
    /// The daemon did not start, or had to end: its own code.
    Daemon(u8),
    /// What a command in a container ended with, or why it did not run.
    Command(u8),
}

impl Exit {
    /// Returns the number that the shell sees.
    pub(crate) fn code(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::Failed => 1,
            Self::Changes => 2,
            Self::NotActive => 3,
            Self::NoSuchName => 4,
            Self::NoDaemon => 5,
            Self::Usage => 64,
            Self::Daemon(code) | Self::Command(code) => code,
        }
    }
}

/// A command did not get to its end.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// The daemon gave no answer to use.
    #[error(transparent)]
    Ask(#[from] AskError),
    /// The daemon did not start, or had to end.
    #[error(transparent)]
    Run(#[from] RunError),
    /// Nothing was done with a store that nobody has open.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Standard output takes nothing.
    #[error(transparent)]
    Out(#[from] OutError),
    /// A file or directory could not be read.
    #[error("cannot read {path}", path = .0.display())]
    Read(PathBuf, #[source] io::Error),
    /// A file or directory could not be written.
    #[error("cannot write {path}", path = .0.display())]
    Write(PathBuf, #[source] io::Error),
    /// What the program tells of itself could not be put into words.
    #[error("cannot print this")]
    Render(#[source] io::Error),
    /// Another program could not be started.
    #[error("cannot start {path}", path = .0.display())]
    Start(PathBuf, #[source] io::Error),
    /// A file is longer than a spec may be.
    #[error("{path} has more than {1} bytes", path = .0.display())]
    TooLarge(PathBuf, u64),
    /// A text is not what specs are written in.
    #[error("{path} is not UTF-8 text", path = .0.display())]
    NotText(PathBuf),
    /// One line of a stream is none of the protocol.
    #[error("a line of the daemon's answer is not understood")]
    Line(#[source] serde_json::Error),
    /// The daemon ended while it was waited for.
    #[error("the daemon has ended, and with it the stream of its answers")]
    Ended,
    /// The daemon did not come to its first round within the time given.
    #[error("the daemon is still starting")]
    NotReady,
    /// Nobody has heard of the container within the time given.
    #[error("no container has the name `{0}`")]
    NoSuchName(Key),
    /// What is known of the container is no accepted spec.
    #[error("no spec of {0} was accepted; `reconciler why {0}` tells more")]
    NothingAccepted(Key),
    /// There is no such field and no such code; with what was perhaps meant.
    #[error("there is no field and no code `{0}`")]
    NothingToExplain(String, String),
    /// A command did not run.
    #[error(transparent)]
    Exec(#[from] exec::NotRun),
    /// Files were not copied, or not all.
    #[error(transparent)]
    Copy(#[from] CopyError),
    /// A command went with its container.
    #[error("the container has ended, and the command with it")]
    ContainerEnded,
    /// The arguments fit no situation.
    #[error("{0}")]
    Usage(&'static str),
}

impl Failure {
    /// Returns the exit code that stands for this.
    pub(crate) fn exit(&self) -> Exit {
        match self {
            Self::Ask(AskError::NoDaemon(..)) => Exit::NoDaemon,
            Self::Ask(err) if err.is_unknown_name() => Exit::NoSuchName,
            Self::NoSuchName(_) => Exit::NoSuchName,
            Self::NotReady => Exit::NotActive,
            Self::Run(err) => Exit::Daemon(err.exit_code()),
            Self::Exec(err) => Exit::Command(err.code()),
            Self::ContainerEnded => Exit::Command(137),
            Self::Store(err) if err.is_locked() => Exit::Daemon(75),
            Self::Usage(_) => Exit::Usage,
            _ => Exit::Failed,
        }
    }

    /// Returns what a person can do about it.
    pub(crate) fn help(&self) -> Option<String> {
        match self {
            Self::Ask(err) => err.help(),
            Self::Exec(err) => err.help(),
            Self::Copy(err) => err.help(),
            Self::NothingToExplain(_, help) => Some(help.clone()),
            _ => None,
        }
    }
}

/// What a command works with.
#[derive(Debug)]
pub(crate) struct Session {
    /// Standard output.
    pub(crate) out: Out,
    /// The daemon's socket.
    pub(crate) socket: PathBuf,
    /// The terminal, if there is one, can only take lines (`TERM=dumb`).
    pub(crate) is_dumb: bool,
    /// A person watches: long work may show that it goes on.
    pub(crate) shows_progress: bool,
}

impl Session {
    /// Returns a client of the daemon's socket.
    ///
    /// # Errors
    /// When the process may not have another event queue.
    pub(crate) fn client(&self) -> Result<Client, Failure> {
        Ok(Client::new(&self.socket)?)
    }

    /// Whether what was shown can be replaced by what is shown next.
    pub(crate) fn draws_in_place(&self) -> bool {
        self.out.is_terminal && !self.is_dumb
    }

    /// Returns what a rendering depends on, at this moment.
    pub(crate) fn look(&self) -> Look {
        Look {
            paint: self.out.paint,
            now_ms: now_ms(),
            zone: TimeZone::system(),
        }
    }

    /// Writes an answer: the rendering for people, or the value itself.
    ///
    /// # Errors
    /// When standard output takes nothing.
    pub(crate) fn print<T: Serialize>(
        &mut self,
        format: Format,
        value: &T,
        render: impl FnOnce(&T, &Look) -> String,
    ) -> Result<(), Failure> {
        match format {
            Format::Text => {
                let text = render(value, &self.look());
                self.out.text(&text)?;
            }
            Format::Json => self.out.json(value)?,
            Format::Yaml => self.out.yaml(value)?,
        }
        Ok(())
    }
}

/// Returns the wall clock, milliseconds since the epoch.
pub(crate) fn now_ms() -> u64 {
    u64::try_from(Timestamp::now().as_millisecond()).unwrap_or(0)
}
