//! The daemon's socket as this program uses it: blocking calls, each with a deadline.
//!
//! HTTP/1.1 over a path socket (`reconciler_daemon::api::wire`). hyper is asynchronous; the
//! runtime it needs stays inside this module.

pub(crate) mod copy;
pub(crate) mod exec;

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use http_body_util::{BodyExt as _, Full};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use reconciler_daemon::api::wire::Problem;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::net::UnixStream;
use tokio::runtime::Runtime;
use tokio::time::timeout;

/// Time for the daemon to take the connection; it only has to be alive.
const CONNECT_WAIT: Duration = Duration::from_secs(5);
/// Time for a whole answer; a plan of a thousand containers is observed first.
const ANSWER_WAIT: Duration = Duration::from_secs(60);
/// Longest answer, bytes: ten thousand containers in full.
const ANSWER_BYTES_MAX: usize = 256 << 20;
/// Longest line of a stream, bytes; above any status and any line of output.
const LINE_BYTES_MAX: usize = 16 << 20;

/// The daemon was asked and there is no answer to use.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AskError {
    /// Nothing stands at the socket's path, or nobody listens there.
    #[error("no daemon answers at {socket}", socket = .0.display())]
    NoDaemon(PathBuf, #[source] io::Error),
    /// The socket is there and this user may not use it.
    #[error("may not talk to the daemon at {socket}", socket = .0.display())]
    Forbidden(PathBuf, #[source] io::Error),
    /// The socket is there and connecting failed in another way.
    #[error("cannot connect to {socket}", socket = .0.display())]
    Connect(PathBuf, #[source] io::Error),
    /// The daemon took the connection and then said nothing in time.
    #[error("the daemon did not answer within {} s", .0.as_secs())]
    Slow(Duration),
    /// The connection broke.
    #[error("the connection to the daemon broke")]
    Broken(#[source] hyper::Error),
    /// The answer is larger than any should be.
    #[error("the daemon's answer is larger than {0} bytes")]
    TooLarge(usize),
    /// The answer is none of the protocol.
    #[error("the daemon's answer is not understood")]
    Foreign(#[source] serde_json::Error),
    /// The daemon refused, in its own words.
    #[error("{}", .problem.message)]
    Refused {
        /// HTTP status.
        status: StatusCode,
        /// What it said.
        problem: Problem,
    },
    /// The daemon refused without words.
    #[error("the daemon answered {0} and nothing else")]
    Wordless(StatusCode),
    /// The connection of a running command broke.
    #[error("lost the command")]
    Lost(#[source] io::Error),
    /// The terminal that is typed on cannot be handed over.
    #[error("cannot hand the terminal over")]
    Terminal(#[source] io::Error),
    /// Standard output or standard error takes nothing.
    #[error("cannot pass on what the command writes")]
    Output(#[source] io::Error),
    /// This process may not start what asking needs.
    #[error("cannot start the client")]
    Start(#[source] io::Error),
}

impl AskError {
    /// Returns what a person can do about it.
    pub(crate) fn help(&self) -> Option<String> {
        match self {
            Self::NoDaemon(..) => Some(
                "start it with `reconciler run`, or name the socket of a running one with \
                 --socket PATH or RECONCILER_SOCKET"
                    .to_owned(),
            ),
            Self::Forbidden(..) => {
                Some("run this as root, or as a member of the socket's group".to_owned())
            }
            Self::Foreign(_) | Self::Wordless(_) => Some(
                "daemon and command may be of different releases; `reconciler version` tells"
                    .to_owned(),
            ),
            Self::Slow(_) => Some("`reconciler doctor` and its journal tell more".to_owned()),
            _ => None,
        }
    }

    /// Whether the daemon does not know the name that was asked for.
    pub(crate) fn is_unknown_name(&self) -> bool {
        matches!(self, Self::Refused { status, .. } if *status == StatusCode::NOT_FOUND)
    }
}

/// A daemon's socket.
#[derive(Debug)]
pub(crate) struct Client {
    socket: PathBuf,
    /// Time for one whole answer.
    patience: Duration,
    runtime: Runtime,
}

/// What a stream gave.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// One line, without its end.
    Line(String),
    /// Nothing yet.
    Quiet,
    /// The daemon ended the stream.
    End,
}

/// Lines of an answer that may stay open.
#[derive(Debug)]
pub(crate) struct Lines<'a> {
    runtime: &'a Runtime,
    body: Incoming,
    buffer: Vec<u8>,
    /// How much of `buffer` was given out already.
    taken: usize,
    ended: bool,
}

impl Client {
    /// Returns a client of the socket. Nothing is sent yet.
    ///
    /// # Errors
    /// When the process may not have another event queue.
    pub(crate) fn new(socket: &Path) -> Result<Self, AskError> {
        Self::with_patience(socket, ANSWER_WAIT)
    }

    /// Returns a client that waits no longer than this for an answer.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub(crate) fn with_patience(socket: &Path, patience: Duration) -> Result<Self, AskError> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(AskError::Start)?;
        Ok(Self {
            socket: socket.to_owned(),
            patience,
            runtime,
        })
    }

    /// Asks for what stands at a path below `/v1`.
    ///
    /// # Errors
    /// As [`AskError`] lists.
    pub(crate) fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, AskError> {
        self.answer(Method::GET, path, Bytes::new())
    }

    /// Sends a body to a path below `/v1`.
    ///
    /// # Errors
    /// As [`AskError`] lists.
    pub(crate) fn post<B: Serialize, T: DeserializeOwned>(
        &self,
        path: &str,
        body: &B,
    ) -> Result<T, AskError> {
        let body = serde_json::to_vec(body).map_err(AskError::Foreign)?;
        self.answer(Method::POST, path, body.into())
    }

    /// Deletes what is at a path below `/v1`.
    ///
    /// # Errors
    /// As [`AskError`] lists.
    pub(crate) fn delete<T: DeserializeOwned>(&self, path: &str) -> Result<T, AskError> {
        self.answer(Method::DELETE, path, Bytes::new())
    }

    /// Opens a stream of lines at a path below `/v1`.
    ///
    /// # Errors
    /// As [`AskError`] lists.
    pub(crate) fn lines(&self, path: &str) -> Result<Lines<'_>, AskError> {
        let body = self.runtime.block_on(async {
            let response = send(&self.socket, Method::GET, path, Bytes::new()).await?;
            if response.status().is_success() {
                return Ok(response.into_body());
            }
            Err(refusal(response).await)
        })?;
        Ok(Lines {
            runtime: &self.runtime,
            body,
            buffer: Vec::new(),
            taken: 0,
            ended: false,
        })
    }

    fn answer<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Bytes,
    ) -> Result<T, AskError> {
        self.runtime.block_on(async {
            let whole = async {
                let response = send(&self.socket, method, path, body).await?;
                if !response.status().is_success() {
                    return Err(refusal(response).await);
                }
                let bytes = collect(response.into_body()).await?;
                serde_json::from_slice(&bytes).map_err(AskError::Foreign)
            };
            timeout(self.patience, whole)
                .await
                .map_err(|_| AskError::Slow(self.patience))?
        })
    }
}

impl Lines<'_> {
    /// Returns the next line, or that none came within the time.
    ///
    /// # Errors
    /// When the connection breaks or a line is longer than any should be.
    pub(crate) fn next(&mut self, wait: Duration) -> Result<Next, AskError> {
        loop {
            if let Some(line) = self.take_line()? {
                return Ok(Next::Line(line));
            }
            if self.ended {
                return Ok(Next::End);
            }
            let frame = async { timeout(wait, self.body.frame()).await };
            match self.runtime.block_on(frame) {
                Err(_) => return Ok(Next::Quiet),
                Ok(None) => self.ended = true,
                Ok(Some(frame)) => {
                    if let Ok(bytes) = frame.map_err(AskError::Broken)?.into_data() {
                        self.buffer.drain(..std::mem::take(&mut self.taken));
                        self.buffer.extend_from_slice(&bytes);
                    }
                }
            }
        }
    }

    fn take_line(&mut self) -> Result<Option<String>, AskError> {
        let rest = self.buffer.get(self.taken..).unwrap_or_default();
        let length = match rest.iter().position(|byte| *byte == b'\n') {
            Some(at) => at,
            None if self.ended && !rest.is_empty() => rest.len(),
            None if rest.len() > LINE_BYTES_MAX => {
                return Err(AskError::TooLarge(LINE_BYTES_MAX));
            }
            None => return Ok(None),
        };
        let (line, _) = rest.split_at(length);
        let line = String::from_utf8_lossy(line).into_owned();
        self.taken = (self.taken + length + 1).min(self.buffer.len());
        Ok(Some(line))
    }
}

async fn send(
    socket: &Path,
    method: Method,
    path: &str,
    body: Bytes,
) -> Result<Response<Incoming>, AskError> {
    let (mut sender, connection) = connect(socket).await?;
    // The connection's own task: it moves bytes while someone waits for an answer, and ends
    // with the socket. Its error reaches the waiting side as well.
    tokio::spawn(connection);
    let request = Request::builder()
        .method(method)
        .uri(format!("/v1{path}"))
        .header("host", "reconciler")
        .header("content-type", "application/json")
        .body(Full::new(body))
        .expect("a path made of escaped parts is a valid request");
    let answered = timeout(ANSWER_WAIT, sender.send_request(request)).await;
    answered
        .map_err(|_| AskError::Slow(ANSWER_WAIT))?
        .map_err(AskError::Broken)
}

type Connected = (
    http1::SendRequest<Full<Bytes>>,
    http1::Connection<TokioIo<UnixStream>, Full<Bytes>>,
);

async fn connect(socket: &Path) -> Result<Connected, AskError> {
    let connected = timeout(CONNECT_WAIT, UnixStream::connect(socket)).await;
    let stream = connected
        .map_err(|_| AskError::Slow(CONNECT_WAIT))?
        .map_err(|err| connect_error(socket, err))?;
    let shaken = http1::handshake(TokioIo::new(stream)).await;
    shaken.map_err(AskError::Broken)
}

fn connect_error(socket: &Path, err: io::Error) -> AskError {
    let socket = socket.to_owned();
    match err.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => {
            AskError::NoDaemon(socket, err)
        }
        io::ErrorKind::PermissionDenied => AskError::Forbidden(socket, err),
        _ => AskError::Connect(socket, err),
    }
}

async fn collect(mut body: Incoming) -> Result<Vec<u8>, AskError> {
    let mut bytes = Vec::new();
    while let Some(frame) = body.frame().await {
        if let Ok(part) = frame.map_err(AskError::Broken)?.into_data() {
            bytes.extend_from_slice(&part);
        }
        if bytes.len() > ANSWER_BYTES_MAX {
            return Err(AskError::TooLarge(ANSWER_BYTES_MAX));
        }
    }
    Ok(bytes)
}

async fn refusal(response: Response<Incoming>) -> AskError {
    let status = response.status();
    let bytes = match collect(response.into_body()).await {
        Ok(bytes) => bytes,
        Err(err) => return err,
    };
    match serde_json::from_slice(&bytes) {
        Ok(problem) => AskError::Refused { status, problem },
        Err(_) => AskError::Wordless(status),
    }
}

/// Returns a path with its query, each value escaped (RFC 3986); absent ones are left out.
pub(crate) fn with_query(path: &str, pairs: &[(&str, Option<String>)]) -> String {
    let mut out = path.to_owned();
    let mut joint = '?';
    for (key, value) in pairs {
        let Some(value) = value else { continue };
        out.push(joint);
        out.push_str(key);
        out.push('=');
        for byte in value.bytes() {
            if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
                out.push(char::from(byte));
            } else {
                out.push_str(&format!("%{byte:02X}"));
            }
        }
        joint = '&';
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_holds_only_what_was_asked_and_escapes_it() {
        assert_eq!(with_query("/events", &[("after", None)]), "/events");
        let pairs = [
            ("selector", Some("a=b,c=ü".to_owned())),
            ("x", None),
            ("y", Some("1".into())),
        ];
        assert_eq!(
            with_query("/c", &pairs),
            "/c?selector=a%3Db%2Cc%3D%C3%BC&y=1"
        );
    }
}
