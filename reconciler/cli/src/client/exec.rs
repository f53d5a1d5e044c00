//! A command in a container, as this program takes part in it: what is typed goes in, what it
//! writes comes out, sizes and signals are passed on.

use std::convert::Infallible;
use std::future::pending;
use std::io;
use std::os::fd::AsFd;

use http_body_util::Full;
use hyper::upgrade::Upgraded;
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use reconciler_daemon::api::frames::{
    Ended, Frame as _, Frames, FromClient, FromDaemon, INPUT_WINDOW, UPGRADE,
};
use reconciler_daemon::api::wire::{AttachAsk, ExecAsk};
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr};
use specs::id::Key;
use tokio::io::{AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadHalf, WriteHalf};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{Mutex, Semaphore, mpsc};
use tokio::time::timeout;

use super::{ANSWER_WAIT, AskError, Client, connect, refusal};

/// Said where output is missing.
const GAP: &[u8] = b"\n[output is missing here: its log was rotated faster than it was read]\n";
/// Bytes moved at once.
const CHUNK_BYTES: usize = 32 << 10;
/// Chunks that were read and wait to be sent.
const CHUNKS: usize = 2;
/// Signals that are passed on to a command without a terminal: what a person or a supervisor
/// sends to end or to steer a program (`signal(7)`).
const PASSED: [i32; 6] = [
    number::HUP,
    number::INT,
    number::QUIT,
    number::USR1,
    number::USR2,
    number::TERM,
];

/// Numbers that are the same on every architecture that Linux has.
mod number {
    pub(super) const HUP: i32 = 1;
    pub(super) const INT: i32 = 2;
    pub(super) const QUIT: i32 = 3;
    pub(super) const USR1: i32 = 10;
    pub(super) const USR2: i32 = 12;
    pub(super) const TERM: i32 = 15;
}

pub(super) type Writer = Mutex<WriteHalf<TokioIo<Upgraded>>>;

/// What is made of what a command writes before it is shown.
pub(crate) type Show = fn(&[u8]) -> Vec<u8>;

/// How a command, or our part in it, ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// It ended.
    Ended(Ended),
    /// This program was sent that signal, and the command hung up.
    Interrupted(u8),
    /// Nobody reads what it writes any more.
    Closed,
}

impl Client {
    /// Runs a command in a container, joined to this program's own input and output.
    ///
    /// # Errors
    /// When it does not run, or the connection breaks.
    pub(crate) fn exec(&self, key: &Key, ask: &ExecAsk) -> Result<Outcome, AskError> {
        let body = serde_json::to_vec(ask).map_err(AskError::Foreign)?;
        self.runtime.block_on(async {
            let upgraded = self.upgrade(key, "exec", body).await?;
            // Where keys are not passed on, they go on meaning something here.
            let is_typed_on = ask.terminal.is_some() && ask.input;
            let raw = is_typed_on.then(Raw::take).transpose();
            let raw = raw.map_err(AskError::Terminal)?;
            let took_part = take_part(upgraded, ask).await;
            drop(raw);
            took_part
        })
    }

    /// Takes part in a process of a container: what it writes comes out here, and what is read
    /// here goes to it.
    ///
    /// # Errors
    /// When it does not run, or the connection breaks.
    pub(crate) fn attach(
        &self,
        key: &Key,
        ask: &AttachAsk,
        show: Show,
    ) -> Result<Outcome, AskError> {
        let body = serde_json::to_vec(ask).map_err(AskError::Foreign)?;
        self.runtime.block_on(async {
            let upgraded = self.upgrade(key, "attach", body).await?;
            let (reader, writer) = tokio::io::split(TokioIo::new(upgraded));
            let writer = Mutex::new(writer);
            let room = Semaphore::new(INPUT_WINDOW);
            let input = ask.input.then(read_input);
            tokio::select! {
                biased;
                outcome = hear(reader, &room, show) => outcome,
                never = pass_input(&writer, &room, input) => match never {},
            }
        })
    }

    /// Asks for something to be run in a container; the connection is then its own.
    pub(super) async fn upgrade(
        &self,
        key: &Key,
        what: &str,
        body: Vec<u8>,
    ) -> Result<Upgraded, AskError> {
        let (mut sender, connection) = connect(&self.socket).await?;
        tokio::spawn(connection.with_upgrades());
        let request = Request::builder()
            .method(Method::POST)
            .uri(format!("/v1/containers/{key}/{what}"))
            .header("host", "reconciler")
            .header("content-type", "application/json")
            .header("connection", "upgrade")
            .header("upgrade", UPGRADE)
            .body(Full::new(body.into()))
            .expect("a name is part of a valid path");
        let answered = timeout(ANSWER_WAIT, sender.send_request(request)).await;
        let response = answered
            .map_err(|_| AskError::Slow(ANSWER_WAIT))?
            .map_err(AskError::Broken)?;
        if response.status() != StatusCode::SWITCHING_PROTOCOLS {
            return Err(refusal(response).await);
        }
        let upgraded = hyper::upgrade::on(response).await;
        upgraded.map_err(AskError::Broken)
    }
}

async fn take_part(connection: Upgraded, ask: &ExecAsk) -> Result<Outcome, AskError> {
    let (reader, writer) = tokio::io::split(TokioIo::new(connection));
    let writer = Mutex::new(writer);
    let room = Semaphore::new(INPUT_WINDOW);
    let input = ask.input.then(read_input);
    tokio::select! {
        // Signals first: what is shown may be answered by one.
        biased;
        number = pass_signals(&writer, ask.terminal.is_some()) => Ok(Outcome::Interrupted(number?)),
        outcome = hear(reader, &room, <[u8]>::to_vec) => outcome,
        never = pass_input(&writer, &room, input) => match never {},
    }
}

/// Writes what the command writes, until it has ended.
async fn hear(
    mut reader: ReadHalf<TokioIo<Upgraded>>,
    room: &Semaphore,
    show: Show,
) -> Result<Outcome, AskError> {
    let (mut output, mut errors) = (tokio::io::stdout(), tokio::io::stderr());
    let mut frames = Frames::default();
    let mut bytes = vec![0; CHUNK_BYTES];
    loop {
        let count = reader.read(&mut bytes).await.map_err(AskError::Lost)?;
        if count == 0 {
            let why = "the daemon has ended, and with it what was under way";
            return Err(AskError::Lost(io::Error::other(why)));
        }
        frames.push(bytes.get(..count).unwrap_or_default());
        while let Some(frame) = frames
            .take()
            .map_err(|err| AskError::Lost(io::Error::other(err)))?
        {
            let written = match frame {
                FromDaemon::Output(part) => write(&mut output, &show(&part)).await,
                FromDaemon::Errors(part) => write(&mut errors, &show(&part)).await,
                FromDaemon::Gap => write(&mut errors, GAP).await,
                FromDaemon::Taken(count) => {
                    room.add_permits(usize::try_from(count).unwrap_or(0).min(INPUT_WINDOW));
                    Ok(())
                }
                FromDaemon::Ended(ended) => return Ok(Outcome::Ended(ended)),
            };
            match written {
                Ok(()) => {}
                Err(err) if err.kind() == io::ErrorKind::BrokenPipe => return Ok(Outcome::Closed),
                Err(err) => return Err(AskError::Output(err)),
            }
        }
    }
}

async fn write(to: &mut (impl AsyncWrite + Unpin), bytes: &[u8]) -> io::Result<()> {
    to.write_all(bytes).await?;
    to.flush().await
}

/// Reads standard input on a thread of its own: a read of a terminal cannot be called off,
/// and ends with the program.
fn read_input() -> mpsc::Receiver<Vec<u8>> {
    let (send, receive) = mpsc::channel(CHUNKS);
    std::thread::spawn(move || {
        let mut bytes = vec![0; CHUNK_BYTES];
        loop {
            match rustix::io::read(rustix::stdio::stdin(), &mut bytes) {
                Ok(count) if count > 0 => {
                    let part = bytes.get(..count).unwrap_or_default().to_vec();
                    if send.blocking_send(part).is_err() {
                        return;
                    }
                }
                Err(rustix::io::Errno::INTR) => {}
                // A terminal that went away is the end of it too.
                Ok(_) | Err(_) => return,
            }
        }
    });
    receive
}

/// Sends what was read, as the command takes it. A connection that broke is heard elsewhere.
async fn pass_input(
    writer: &Writer,
    room: &Semaphore,
    input: Option<mpsc::Receiver<Vec<u8>>>,
) -> Infallible {
    if let Some(mut input) = input {
        while let Some(part) = input.recv().await {
            let wanted = u32::try_from(part.len()).unwrap_or(u32::MAX);
            let Ok(taken) = room.acquire_many(wanted).await else {
                break;
            };
            taken.forget();
            if send(writer, &FromClient::Input(part)).await.is_err() {
                break;
            }
        }
        send(writer, &FromClient::InputEnds)
            .await
            .unwrap_or_default();
    }
    pending().await
}

pub(super) async fn send(writer: &Writer, frame: &FromClient) -> io::Result<()> {
    let bytes = frame.encode();
    let mut writer = writer.lock().await;
    writer.write_all(&bytes).await?;
    writer.flush().await
}

/// Passes signals on, or sizes of the terminal: on a terminal, keys are the command's own
/// business, and what ends this program hangs the command up. Returns which did.
async fn pass_signals(writer: &Writer, on_terminal: bool) -> Result<u8, AskError> {
    let (found, mut numbers) = mpsc::channel(PASSED.len());
    let kinds = PASSED.iter().map(|number| SignalKind::from_raw(*number));
    for kind in kinds.chain(on_terminal.then(SignalKind::window_change)) {
        let mut arrivals = signal(kind).map_err(AskError::Start)?;
        let found = found.clone();
        tokio::spawn(async move {
            while arrivals.recv().await.is_some() {
                if found.send(kind).await.is_err() {
                    return;
                }
            }
        });
    }
    // It may have changed before its change was listened for.
    if on_terminal {
        pass_size(writer).await;
    }
    while let Some(kind) = numbers.recv().await {
        if kind == SignalKind::window_change() {
            pass_size(writer).await;
            continue;
        }
        let number = u8::try_from(kind.as_raw_value()).unwrap_or(0);
        if on_terminal {
            return Ok(number);
        }
        // Too late for one that has ended, which is told anyway.
        send(writer, &FromClient::Signal(number))
            .await
            .unwrap_or_default();
    }
    pending().await
}

async fn pass_size(writer: &Writer) {
    if let Some((rows, columns)) = size() {
        let frame = FromClient::Window(rows, columns);
        send(writer, &frame).await.unwrap_or_default();
    }
}

/// Returns lines and columns of the terminal that is typed on.
pub(crate) fn size() -> Option<(u16, u16)> {
    let size = tcgetwinsize(rustix::stdio::stdin()).ok()?;
    Some((size.ws_row, size.ws_col))
}

/// The terminal in raw mode: every key goes to the command. As before once dropped.
#[derive(Debug)]
struct Raw(Termios);

impl Raw {
    fn take() -> io::Result<Self> {
        let stdin = rustix::stdio::stdin();
        let before = tcgetattr(stdin.as_fd())?;
        let mut raw = before.clone();
        raw.make_raw();
        tcsetattr(stdin, OptionalActions::Now, &raw)?;
        Ok(Self(before))
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        // A terminal that is gone needs nothing back.
        tcsetattr(rustix::stdio::stdin(), OptionalActions::Now, &self.0).unwrap_or_default();
    }
}
