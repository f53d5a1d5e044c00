//! Talks to a container's shim.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;

use driver_api::Mark;
use shim_proto::message::{Answer, Ask, ProcessReport};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum StartMode {
    Launch,
    Adopt,
}

#[derive(Debug, thiserror::Error)]
#[error("the shim could not be started")]
pub(crate) struct StartError(#[source] io::Error);

#[derive(Debug, thiserror::Error)]
pub(crate) enum ConnectError {
    #[error("no shim listens")]
    Absent,
    #[error("{what}: {why}")]
    Unknown { what: String, why: String },
}

#[derive(Debug, thiserror::Error)]
#[error("the shim did not answer")]
pub(crate) struct AskError(#[source] io::Error);

#[derive(Debug)]
pub(crate) struct ShimClient {
    stream: UnixStream,
}

pub(crate) fn start(
    _exe: BorrowedFd<'_>,
    _mark: &Mark,
    _directory: &Path,
    _mode: StartMode,
    _deadline_ms: u64,
) -> Result<(), StartError> {
    Err(StartError(io::Error::from_raw_os_error(libc::ENOSYS)))
}

impl ShimClient {
    pub(crate) fn connect(
        directory: &Path,
        _mark: &Mark,
        _deadline_ms: u64,
    ) -> Result<Self, ConnectError> {
        match UnixStream::connect(directory.join("shim.sock")) {
            Ok(stream) => Ok(Self { stream }),
            Err(err) => match err.raw_os_error() {
                Some(libc::ENOENT | libc::ECONNREFUSED) => Err(ConnectError::Absent),
                _ => Err(ConnectError::Unknown {
                    what: "connect to the shim".to_owned(),
                    why: err.to_string(),
                }),
            },
        }
    }

    pub(crate) fn ask(&mut self, _ask: Ask, _deadline_ms: u64) -> Result<Answer, AskError> {
        Err(AskError(io::Error::from_raw_os_error(libc::ENOSYS)))
    }

    pub(crate) fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}

pub(crate) fn read_exits(directory: &Path) -> Result<Vec<ProcessReport>, io::Error> {
    match std::fs::read(directory.join("exits")) {
        Ok(_) => Ok(Vec::new()),
        Err(err) if err.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(err) => Err(err),
    }
}
