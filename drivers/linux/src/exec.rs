//! Commands run in a living container, beside its processes.
//!
//! No step and no part of what is observed: nobody wants them, and nothing is left of them.

mod attach;

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};

use driver_api::{Deadline, Mark, StepError, StepFailure};
use rustix::process::{Signal, pidfd_send_signal};
use shim_proto::exec::{CopyTree, Exec, STATUS_BYTES, Way, Window as WireWindow, decode_status};
use shim_proto::message::{Answer, Ask, ExitKind, FailureKind};
use specs::desired::{NameOrId, Process, User};
use specs::id::{Incarnation, Key};
use specs::units::Secret;

use crate::clients::refused;
use crate::error::words;
use crate::host::LinuxHost;
use crate::launch;
use crate::shim_client::ShimClient;

pub use attach::{Attached, Attaching};

/// What is to be run, and where.
#[derive(Clone, Debug)]
pub struct Command {
    /// In which container.
    pub key: Key,
    /// In which of its lives.
    pub incarnation: Incarnation,
    /// What.
    pub program: Program,
    /// On a terminal of this size; else on pipes.
    pub terminal: Option<Window>,
    /// It can be written to; a terminal always can.
    pub input: bool,
}

/// What runs, and as whom; in the terms of [`Process`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Program {
    /// Program and arguments, exec'd as given.
    pub command: Vec<String>,
    /// Whom it runs as.
    pub user: User,
    /// Working directory inside the root.
    pub work_dir: String,
    /// Whole environment.
    pub env: BTreeMap<String, Secret>,
    /// Resource limits.
    pub rlimits: BTreeMap<String, (u64, u64)>,
}

/// A tree of files that is to be copied out of a container, or into it.
#[derive(Clone, Debug)]
pub struct Copying {
    /// In which container.
    pub key: Key,
    /// In which of its lives.
    pub incarnation: Incarnation,
    /// As whom.
    pub user: User,
    /// From where, or to where.
    pub path: String,
    /// Which way.
    pub way: CopyWay,
}

/// Which way a tree of files is copied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CopyWay {
    /// Out of the container.
    Out {
        /// If the path is a link: what it leads to.
        follow: bool,
    },
    /// Into the container.
    In {
        /// Whatever the archive holds, into a directory that is there.
        inside: bool,
    },
}

impl Program {
    /// Returns a command that runs as the container's root, with nothing around it.
    #[must_use]
    pub fn plain(command: Vec<String>) -> Self {
        Self {
            command,
            user: User {
                user: NameOrId::Id(0),
                group: None,
            },
            work_dir: "/".to_owned(),
            env: BTreeMap::new(),
            rlimits: BTreeMap::new(),
        }
    }
}

impl From<&Process> for Program {
    fn from(process: &Process) -> Self {
        Self {
            command: process.command.clone(),
            user: process.user.clone(),
            work_dir: process.work_dir.clone(),
            env: process.env.clone(),
            rlimits: process.rlimits.clone(),
        }
    }
}

/// The size of a terminal, in characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// Lines.
    pub rows: u16,
    /// Characters in a line.
    pub columns: u16,
}

/// A command whose program runs.
#[derive(Debug)]
pub struct Running {
    /// Who it is.
    pub handle: Handle,
    /// What it reads and writes; not blocking.
    pub ends: Ends,
}

/// A hold on a command. Without it the command is hung up.
#[derive(Debug)]
pub struct Handle {
    /// Host pid.
    pub pid: u32,
    pidfd: OwnedFd,
    status: OwnedFd,
}

/// Outer ends of what a command reads and writes.
#[derive(Debug)]
pub enum Ends {
    /// The outer end of its terminal.
    Terminal(OwnedFd),
    /// Pipes.
    Pipes {
        /// To its standard input.
        input: Option<OwnedFd>,
        /// From its standard output.
        output: OwnedFd,
        /// From its standard error.
        errors: OwnedFd,
    },
}

/// How a command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// By itself, with this code.
    Code(u8),
    /// By this signal.
    Signal(u8),
    /// Its container ended.
    Lost,
}

/// Why a command does not run.
#[derive(Debug, thiserror::Error)]
pub enum ExecError {
    /// The container has no such command.
    #[error("{0}")]
    NoSuchCommand(String),
    /// There is something, and it cannot be run like this.
    #[error("{0}")]
    CannotInvoke(String),
    /// The container cannot run anything now.
    #[error("{0}")]
    NotNow(String),
}

impl LinuxHost {
    /// Runs a command in a container.
    ///
    /// # Errors
    /// When there is no such command, when it cannot be run, or when the container takes none.
    pub fn exec(&self, command: &Command, deadline: Deadline) -> Result<Running, ExecError> {
        let process = launch::command("exec", &command.program, self.open_files)
            .map_err(|err| ExecError::CannotInvoke(said(err)))?;
        let ask = Ask::Exec(Exec {
            process: Some(process),
            terminal: command.terminal.map(|window| WireWindow {
                rows: u32::from(window.rows),
                columns: u32::from(window.columns),
            }),
            input: command.input,
        });
        let life = (&command.key, command.incarnation);
        let shape = Shape {
            is_terminal: command.terminal.is_some(),
            has_input: command.input,
        };
        self.run(life, ask, deadline, |pid, ends| running(pid, ends, shape))
    }

    /// Copies a tree of files: its archive goes through standard input or output, and what is
    /// wrong is told on standard error.
    ///
    /// # Errors
    /// When it cannot be done like this, or the container takes no commands.
    pub fn copy(&self, copying: &Copying, deadline: Deadline) -> Result<Running, ExecError> {
        let way = match copying.way {
            CopyWay::Out { follow: false } => Way::Out,
            CopyWay::Out { follow: true } => Way::OutFollowing,
            CopyWay::In { inside: false } => Way::In,
            CopyWay::In { inside: true } => Way::Inside,
        };
        let ask = Ask::Copy(CopyTree {
            user: launch::user(&copying.user),
            path: copying.path.clone().into_bytes(),
            way: way.into(),
        });
        let life = (&copying.key, copying.incarnation);
        let shape = Shape {
            is_terminal: false,
            has_input: true,
        };
        self.run(life, ask, deadline, |pid, ends| running(pid, ends, shape))
    }

    fn run<T>(
        &self,
        (key, incarnation): (&Key, Incarnation),
        ask: Ask,
        deadline: Deadline,
        take: impl FnOnce(u32, Vec<OwnedFd>) -> io::Result<T>,
    ) -> Result<T, ExecError> {
        let mark = Mark {
            instance: self.places.instance.clone(),
            key: key.clone(),
            incarnation,
        };
        let is_new = !matches!(ask, Ask::Exec(_));
        let not_now = |why: String| ExecError::NotNow(format!("{key}: {why}"));
        // A connection of its own: what comes on the kept one is a hint to look.
        let directory = self.places.bundle(&mark);
        let mut client = ShimClient::connect(&directory, &mark, deadline.at_ms)
            .map_err(|err| not_now(words(&err)))?;
        match client.ask(ask, deadline.at_ms) {
            Ok(Answer::Executing(told)) => {
                let ends = client.take_descriptors();
                take(told.pid, ends).map_err(|err| not_now(words(&err)))
            }
            Ok(Answer::Failure(failure)) if is_new && failure.kind() == FailureKind::Unknown => {
                let why = "it was made by an older release, which cannot do this";
                Err(not_now(why.to_owned()))
            }
            Ok(Answer::Failure(failure)) => {
                let said = said(refused(&failure));
                Err(match failure.kind() {
                    _ if failure.no_such_command => ExecError::NoSuchCommand(said),
                    FailureKind::Terminal => ExecError::CannotInvoke(said),
                    FailureKind::Retry | FailureKind::Stale | FailureKind::Unknown => not_now(said),
                })
            }
            // Its run ended, or as many take part in it as may.
            Ok(Answer::Done(_)) => Err(not_now("nobody more can take part in it now".to_owned())),
            Ok(_) => Err(not_now("its shim answered something else".to_owned())),
            Err(err) => Err(not_now(words(&err))),
        }
    }
}

impl Handle {
    /// Sends it a signal by its number.
    ///
    /// # Errors
    /// When it has ended, or there is no such signal.
    pub fn signal(&self, number: u8) -> io::Result<()> {
        let unknown = || io::Error::new(io::ErrorKind::InvalidInput, "there is no such signal");
        let signal = Signal::from_named_raw(i32::from(number)).ok_or_else(unknown)?;
        Ok(pidfd_send_signal(&self.pidfd, signal)?)
    }

    /// Reads how it ended, once this is readable.
    ///
    /// # Errors
    /// [`io::ErrorKind::WouldBlock`] while it runs.
    pub fn ended(&self) -> io::Result<Ended> {
        let mut bytes = [0; STATUS_BYTES];
        let count = rustix::io::read(&self.status, &mut bytes)?;
        let told = decode_status(bytes).filter(|_| count == STATUS_BYTES);
        Ok(match told {
            Some((ExitKind::Code, value)) => u8::try_from(value).map_or(Ended::Lost, Ended::Code),
            Some((ExitKind::Signal, value)) => {
                u8::try_from(value).map_or(Ended::Lost, Ended::Signal)
            }
            Some((ExitKind::Unseen | ExitKind::NotStarted, _)) | None => Ended::Lost,
        })
    }
}

/// Readable once the command has ended; not blocking.
impl AsRawFd for Handle {
    fn as_raw_fd(&self) -> RawFd {
        self.status.as_raw_fd()
    }
}

/// Tells a terminal of another size.
///
/// # Errors
/// When the kernel refuses.
pub fn resize(terminal: impl AsFd, window: Window) -> io::Result<()> {
    let size = rustix::termios::Winsize {
        ws_row: window.rows,
        ws_col: window.columns,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    Ok(rustix::termios::tcsetwinsize(terminal, size)?)
}

/// Which outer ends a command has.
#[derive(Clone, Copy)]
struct Shape {
    is_terminal: bool,
    has_input: bool,
}

/// Puts the descriptors in their places, in the order of `docs/formats/shim.md`.
fn running(pid: u32, descriptors: Vec<OwnedFd>, shape: Shape) -> io::Result<Running> {
    let missing = || io::Error::new(io::ErrorKind::InvalidData, "its shim sent too little along");
    let mut descriptors = descriptors.into_iter();
    let mut next = || descriptors.next().ok_or_else(missing);
    let (pidfd, status) = (next()?, next()?);
    let ends = if shape.is_terminal {
        Ends::Terminal(next()?)
    } else {
        Ends::Pipes {
            input: shape.has_input.then(&mut next).transpose()?,
            output: next()?,
            errors: next()?,
        }
    };
    let all = match &ends {
        Ends::Terminal(end) => vec![end],
        Ends::Pipes {
            input,
            output,
            errors,
        } => input.iter().chain([output, errors]).collect(),
    };
    for end in all.into_iter().chain([&status]) {
        rustix::io::ioctl_fionbio(end.as_fd(), true)?;
    }
    let handle = Handle { pid, pidfd, status };
    Ok(Running { handle, ends })
}

fn said(err: StepError) -> String {
    match err {
        StepError::Stale(why) => why,
        StepError::Retry(told) | StepError::Terminal(told) => words_of(&told),
        StepError::Blocked { failure, .. } => words_of(&failure),
    }
}

fn words_of(told: &StepFailure) -> String {
    match &told.hint {
        Some(hint) => format!("{}: {} ({hint})", told.what, told.cause),
        None => format!("{}: {}", told.what, told.cause),
    }
}
