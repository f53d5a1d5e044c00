//! Talks to a container's shim: starts it, connects to it, asks it. Everything is bounded in
//! bytes and in time, whatever sits at the other end.

mod exits;
mod start;

use std::io::{self, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd};
use std::path::Path;

use driver_api::Mark;
use rustix::cmsg_space;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{FlockOperation, Mode, OFlags, flock};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendFlags,
    SocketAddrUnix, SocketFlags, SocketType, recvmsg, sockopt,
};
use rustix::time::{ClockId, clock_gettime};
use shim_proto::end::{DaemonEnd, EndError, Heard, hello};
use shim_proto::message::{Answer, Ask, Hello};

pub(crate) use exits::read_exits;
pub(crate) use start::{StartMode, start};

/// Bytes taken from the socket at once.
const READ_BYTES: usize = 8192;
/// Most descriptors that come with one answer.
const DESCRIPTORS_MAX: usize = 8;

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
    arrived: Vec<OwnedFd>,
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
        let mut client = Self {
            socket,
            end,
            arrived: Vec::new(),
        };
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
        self.arrived.clear();
        loop {
            match self.hear(deadline_ms)? {
                Heard::Answer(id, answer) if id == asked => return Ok(answer),
                // Whoever asks looks anyway; and an earlier answer that came too late is no
                // answer to this.
                Heard::Answer(..) | Heard::Changed | Heard::Greeted => {}
            }
        }
    }

    /// Takes the descriptors that came with the last answer.
    pub(crate) fn take_descriptors(&mut self) -> Vec<OwnedFd> {
        std::mem::take(&mut self.arrived)
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
        match receive(&self.socket, room, &mut self.arrived) {
            Ok(0) => Err(broken(Errno::CONNRESET)),
            Ok(count) => {
                let got = bytes.get(..count).unwrap_or_default();
                self.end.receive(got).map_err(AskError::Nonsense)
            }
            Err(Errno::AGAIN | Errno::INTR) => Ok(()),
            Err(errno) => Err(broken(errno)),
        }
    }
}

/// Receives what is there, and the descriptors that came along.
fn receive(
    socket: &OwnedFd,
    bytes: &mut [u8],
    descriptors: &mut Vec<OwnedFd>,
) -> Result<usize, Errno> {
    let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(DESCRIPTORS_MAX))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let flags = RecvFlags::CMSG_CLOEXEC | RecvFlags::DONTWAIT;
    let got = recvmsg(socket, &mut [IoSliceMut::new(bytes)], &mut control, flags)?;
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(arrived) = message {
            descriptors.extend(arrived);
        }
    }
    if descriptors.len() > DESCRIPTORS_MAX || got.flags.contains(ReturnFlags::CTRUNC) {
        return Err(Errno::TOOMANYREFS);
    }
    Ok(got.bytes)
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

#[cfg(test)]
mod tests;
