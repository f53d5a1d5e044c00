//! Talks to a container's shim: starts it, connects to it, asks it. Everything is bounded in
//! bytes and in time, whatever sits at the other end.

use std::fs::File;
use std::io::{self, Read as _};
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};

use driver_api::Mark;
use prost::Message as _;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{FlockOperation, Mode, OFlags, flock};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketAddrUnix, SocketFlags, SocketType, sockopt,
};
use rustix::time::{ClockId, clock_gettime};
use shim_proto::end::{DaemonEnd, EndError, Heard, hello};
use shim_proto::init::PROCESSES_MAX;
use shim_proto::message::{Answer, Ask, Exit, ExitKind, Failure, Hello, ProcessReport};
use shim_proto::record::{self, UNIT_BYTES};

/// Most bytes of the file `exits`.
const EXITS_BYTES_MAX: u64 = ((2 + 2 * PROCESSES_MAX) * UNIT_BYTES) as u64;
/// Most bytes of the file `failure`.
const FAILURE_BYTES_MAX: u64 = 64 << 10;
/// How long between two looks at what gives no signal.
const LOOK_MS: u64 = 5;
/// Bytes taken from the socket at once.
const READ_BYTES: usize = 8192;

/// What a shim is started for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum StartMode {
    /// Make the container.
    Launch,
    /// Take over what there is.
    Adopt,
}

/// Why no shim came up.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StartError {
    /// The program could not be executed.
    #[error("execute the shim")]
    Execute(#[source] io::Error),
    /// The program did not detach itself.
    #[error("the shim ended with {0} before it began")]
    Ended(ExitStatus),
    /// It could not make the container, and says why.
    #[error("{}", words(.0))]
    Refused(Failure),
    /// It did not answer in time.
    #[error("the shim did not answer in time")]
    Late(#[source] ConnectError),
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConnectError {
    /// No shim lives: nobody holds the lock.
    #[error("no shim lives")]
    Absent,
    /// One may live, but it cannot be asked.
    #[error("{what}: {why}")]
    Unknown {
        /// What was attempted.
        what: String,
        /// Why it did not work.
        why: String,
    },
}

/// Why there is no answer. The connection is of no more use.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AskError {
    /// It did not come in time.
    #[error("the shim did not answer in time")]
    Late,
    /// The connection broke.
    #[error("talk to the shim")]
    Broken(#[source] io::Error),
    /// What came is no answer, or what was asked is too long.
    #[error("understand the shim")]
    Nonsense(#[source] EndError),
}

/// A connection to a shim that was greeted.
#[derive(Debug)]
pub(crate) struct ShimClient {
    socket: OwnedFd,
    end: DaemonEnd,
}

/// Starts a shim and waits until it answers, or says why it cannot.
///
/// # Errors
/// When it did not come up; whether something of it lives then shows in what is observed.
pub(crate) fn start(
    exe: BorrowedFd<'_>,
    mark: &Mark,
    directory: &Path,
    mode: StartMode,
    deadline_ms: u64,
) -> Result<(), StartError> {
    if mode == StartMode::Launch
        && let Err(error) = std::fs::remove_file(directory.join("failure"))
        && error.kind() != io::ErrorKind::NotFound
    {
        return Err(StartError::Execute(error));
    }
    let word = match mode {
        StartMode::Launch => "launch",
        StartMode::Adopt => "adopt",
    };
    let mut launcher = Command::new(format!("/proc/self/fd/{}", exe.as_raw_fd()))
        .arg0("reconciler-shim")
        .args([mark.instance.as_str(), &mark.leaf()])
        .arg(directory)
        .arg(word)
        .env_clear()
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .map_err(StartError::Execute)?;
    let status = wait_for_exit(&mut launcher, deadline_ms).map_err(StartError::Execute)?;
    if !status.success() {
        return Err(StartError::Ended(status));
    }
    loop {
        let refused = match ShimClient::connect(directory, mark, deadline_ms) {
            Ok(_) => return Ok(()),
            Err(error) => error,
        };
        if mode == StartMode::Launch
            && let Some(failure) = read_failure(directory)
        {
            return Err(StartError::Refused(failure));
        }
        if !nap(deadline_ms) {
            return Err(StartError::Late(refused));
        }
    }
}

impl ShimClient {
    /// Connects to the shim of a life and greets it.
    ///
    /// # Errors
    /// [`ConnectError::Absent`] only if nobody holds the shim's lock; everything else, a shim
    /// that hangs among it, is unknown.
    pub(crate) fn connect(
        directory: &Path,
        mark: &Mark,
        deadline_ms: u64,
    ) -> Result<Self, ConnectError> {
        let unknown = |why: String| ConnectError::Unknown {
            what: format!("connect to the shim of {}", mark.leaf()),
            why,
        };
        let opened = match open_directory(directory) {
            Err(Errno::NOENT) => return Err(ConnectError::Absent),
            opened => opened.map_err(|errno| unknown(errno.to_string()))?,
        };
        let lives = is_locked(&opened).map_err(|errno| unknown(errno.to_string()))?;
        if !lives {
            return Err(ConnectError::Absent);
        }
        let socket = open_socket(&opened).map_err(|errno| unknown(errno.to_string()))?;
        // Who listens was noted when it began to; the directory is root's alone, so anybody
        // else in there is a mistake (`unix(7)`, `SO_PEERCRED`).
        let peer = sockopt::socket_peercred(&socket).map_err(|errno| unknown(errno.to_string()))?;
        if !peer.uid.is_root() {
            return Err(unknown(format!("user {} listens there", peer.uid.as_raw())));
        }
        let end = DaemonEnd::new(greeting(mark)).map_err(|error| unknown(error.to_string()))?;
        let mut client = Self { socket, end };
        match client.hear(deadline_ms) {
            Ok(_) => Ok(client),
            Err(AskError::Late) => Err(unknown("it does not answer".to_owned())),
            Err(AskError::Broken(error)) => Err(unknown(error.to_string())),
            Err(AskError::Nonsense(error)) => Err(unknown(error.to_string())),
        }
    }

    /// Asks, and waits for the answer.
    ///
    /// # Errors
    /// When none came; whether it was done is then not known.
    pub(crate) fn ask(&mut self, ask: Ask, deadline_ms: u64) -> Result<Answer, AskError> {
        let asked = self.end.ask(ask).map_err(AskError::Nonsense)?;
        loop {
            match self.hear(deadline_ms)? {
                Heard::Answer(id, answer) if id == asked => return Ok(answer),
                // Whoever asks looks anyway; and an earlier answer that came too late is no
                // answer to this.
                Heard::Answer(..) | Heard::Changed | Heard::Greeted => {}
            }
        }
    }

    /// Becomes readable when the shim has something to say: look again.
    pub(crate) fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    fn hear(&mut self, deadline_ms: u64) -> Result<Heard, AskError> {
        loop {
            if let Some(heard) = self.end.poll_heard().map_err(AskError::Nonsense)? {
                return Ok(heard);
            }
            self.exchange(deadline_ms)?;
        }
    }

    /// Sends and receives what the socket takes and gives, at least something.
    fn exchange(&mut self, deadline_ms: u64) -> Result<(), AskError> {
        let broken = |errno: Errno| AskError::Broken(errno.into());
        let out = if self.end.pending().is_empty() {
            PollFlags::empty()
        } else {
            PollFlags::OUT
        };
        let mut watched = [PollFd::new(&self.socket, PollFlags::IN | out)];
        let left = left(deadline_ms).ok_or(AskError::Late)?;
        match poll(&mut watched, Some(&left)) {
            Ok(0) => return Err(AskError::Late),
            Ok(_) => {}
            Err(Errno::INTR) => return Ok(()),
            Err(errno) => return Err(broken(errno)),
        }
        if !self.end.pending().is_empty() {
            let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
            match rustix::net::send(&self.socket, self.end.pending(), flags) {
                Ok(count) => self.end.sent(count),
                Err(Errno::AGAIN | Errno::INTR) => {}
                // What was refused may be said in what it left to read.
                Err(Errno::PIPE) => self.end.sent(usize::MAX),
                Err(errno) => return Err(broken(errno)),
            }
        }
        let mut bytes = [0; READ_BYTES];
        // One message and no more: a change behind it stays in the socket, to be seen there.
        let lacking = self.end.lacking().clamp(1, READ_BYTES);
        let room = bytes.get_mut(..lacking).unwrap_or_default();
        match rustix::net::recv(&self.socket, room, RecvFlags::DONTWAIT) {
            Ok((0, _)) => Err(broken(Errno::CONNRESET)),
            Ok((count, _)) => {
                let got = bytes.get(..count).unwrap_or_default();
                self.end.receive(got).map_err(AskError::Nonsense)
            }
            Err(Errno::AGAIN | Errno::INTR) => Ok(()),
            Err(errno) => Err(broken(errno)),
        }
    }
}

/// Returns what the file `exits` of a life tells, when neither its shim nor its init lives:
/// what ran last has ended, and nobody saw how. Empty if there is no such file.
///
/// # Errors
/// When it cannot be read, or is not of the form known here.
pub(crate) fn read_exits(directory: &Path) -> io::Result<Vec<ProcessReport>> {
    let file = match File::open(directory.join("exits")) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        file => file?,
    };
    let mut bytes = Vec::new();
    file.take(EXITS_BYTES_MAX).read_to_end(&mut bytes)?;
    if !record::is_header(bytes.get(..UNIT_BYTES).unwrap_or_default()) {
        let what = "the file exits is not of the form known here";
        return Err(io::Error::new(io::ErrorKind::InvalidData, what));
    }
    let mut reports: Vec<ProcessReport> = record::read(&bytes)
        .into_iter()
        .flatten()
        .map(report)
        .collect();
    reports.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(reports)
}

fn report(record: record::Record) -> ProcessReport {
    let unseen = Exit {
        started_ms: record.started_ms,
        ended_ms: record.started_ms,
        kind: ExitKind::Unseen as i32,
        value: 0,
        asked: record.stopping_ms != 0,
    };
    let last_exit = if record.pid == 0 {
        record.last_exit
    } else {
        Some(unseen)
    };
    ProcessReport {
        name: record.name,
        digest: record.digest,
        files: record.files,
        restart_epoch: record.restart_epoch,
        starts: record.starts,
        started_ms: record.started_ms,
        last_exit,
        ..ProcessReport::default()
    }
}

fn greeting(mark: &Mark) -> Hello {
    hello(
        mark.instance.as_str(),
        mark.key.as_str(),
        mark.incarnation.0,
    )
}

fn open_directory(directory: &Path) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    rustix::fs::open(directory, flags, Mode::empty())
}

/// Returns whether a shim lives. A shared lock is asked for, which two that look at the same
/// time can both have; a shim that begins at this very moment tries again.
fn is_locked(directory: &OwnedFd) -> Result<bool, Errno> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let lock = match rustix::fs::openat(directory, "shim.lock", flags, Mode::empty()) {
        Err(Errno::NOENT) => return Ok(false),
        lock => lock?,
    };
    match flock(&lock, FlockOperation::NonBlockingLockShared) {
        Ok(()) => Ok(false),
        Err(Errno::WOULDBLOCK) => Ok(true),
        Err(errno) => Err(errno),
    }
}

/// Connects by descriptor, because a directory's own path may be longer than an address
/// (`unix(7)`: 107 bytes), and without waiting for a place in the queue.
fn open_socket(directory: &OwnedFd) -> Result<OwnedFd, Errno> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    let path = format!("/proc/self/fd/{}/shim.sock", directory.as_raw_fd());
    rustix::net::connect(&socket, &SocketAddrUnix::new(path)?)?;
    Ok(socket)
}

fn read_failure(directory: &Path) -> Option<Failure> {
    let mut bytes = Vec::new();
    let file = File::open(directory.join("failure")).ok()?;
    file.take(FAILURE_BYTES_MAX).read_to_end(&mut bytes).ok()?;
    Failure::decode(bytes.as_slice()).ok()
}

/// Waits for the launcher, which detaches its work and ends; one that does not is killed.
fn wait_for_exit(launcher: &mut Child, deadline_ms: u64) -> io::Result<ExitStatus> {
    loop {
        if let Some(status) = launcher.try_wait()? {
            return Ok(status);
        }
        if !nap(deadline_ms) {
            launcher.kill()?;
            return launcher.wait();
        }
    }
}

/// Sleeps for a moment; false once the deadline has passed.
fn nap(deadline_ms: u64) -> bool {
    let Some(left) = left(deadline_ms) else {
        return false;
    };
    let step = timespec(LOOK_MS);
    let nap = if left.tv_sec == 0 && left.tv_nsec < step.tv_nsec {
        left
    } else {
        step
    };
    // An interrupted sleep is a short one.
    match poll(&mut [], Some(&nap)) {
        Ok(_) | Err(_) => true,
    }
}

/// Returns the time that is left; none if the deadline has passed.
fn left(deadline_ms: u64) -> Option<Timespec> {
    let now = clock_gettime(ClockId::Boottime);
    let now_ms = u64::try_from(now.tv_sec).unwrap_or(0) * 1000
        + u64::try_from(now.tv_nsec).unwrap_or(0) / 1_000_000;
    let left = deadline_ms.checked_sub(now_ms).filter(|left| *left > 0)?;
    Some(timespec(left))
}

fn timespec(ms: u64) -> Timespec {
    Timespec {
        tv_sec: i64::try_from(ms / 1000).unwrap_or(i64::MAX),
        tv_nsec: i64::try_from(ms % 1000 * 1_000_000).unwrap_or(0),
    }
}

fn words(failure: &Failure) -> String {
    let cause = match failure.cause.as_str() {
        "" if failure.errno != 0 => io::Error::from_raw_os_error(failure.errno).to_string(),
        cause => cause.to_owned(),
    };
    format!("{}: {cause}", failure.what)
}

#[cfg(test)]
mod tests;
