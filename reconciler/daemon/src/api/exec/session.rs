//! One running command and the client that asked for it.
//!
//! ```text
//! client ──frames──▶ listen ──bytes──▶ feed ──▶ standard input, terminal
//!                      └── size, signals
//! client ◀──frames── pump ◀── standard output, standard error, terminal
//! ```
//!
//! Each of these waits for its own two ends only: a command that reads nothing still gets its
//! signals, and a client that reads nothing makes the command wait.

use std::future::pending;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use rustix::io::Errno;
use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, ReadHalf, WriteHalf};
use tokio::sync::{Mutex, mpsc, watch as latest};

use crate::api::frames::{self, BODY_BYTES_MAX, Frame as _, Frames, FromClient, FromDaemon};
use crate::host::{Ended, Ends, Handle, Running, Window, resize};

/// Bytes moved at once.
const CHUNK_BYTES: usize = 32 << 10;
const _: () = assert!(CHUNK_BYTES <= BODY_BYTES_MAX, "a chunk fits a frame");
/// Most bytes that are still read from each stream once the command has ended: a pipe holds
/// no more (`pipe(7)`), and what it left behind may go on writing.
const TAIL_BYTES_MAX: usize = 1 << 20;

pub(super) type End = Arc<AsyncFd<OwnedFd>>;
pub(super) type Writer = Mutex<WriteHalf<TokioIo<Upgraded>>>;

/// What a command reads and writes, as the runtime waits for it.
struct Streams {
    output: End,
    errors: Option<End>,
    input: Option<End>,
    terminal: Option<End>,
}

impl Streams {
    fn new(ends: Ends) -> io::Result<Self> {
        let end = |fd| watch(fd).map(Arc::new);
        Ok(match ends {
            Ends::Terminal(terminal) => {
                let terminal = end(terminal)?;
                Self {
                    output: Arc::clone(&terminal),
                    errors: None,
                    input: Some(Arc::clone(&terminal)),
                    terminal: Some(terminal),
                }
            }
            Ends::Pipes {
                input,
                output,
                errors,
            } => Self {
                output: end(output)?,
                errors: Some(end(errors)?),
                input: input.map(end).transpose()?,
                terminal: None,
            },
        })
    }
}

/// Lets the runtime wait for a descriptor.
#[expect(
    deprecated,
    reason = "its successor is unsafe for what could swap its descriptor; these own theirs"
)]
pub(super) fn watch<T: AsRawFd>(end: T) -> io::Result<AsyncFd<T>> {
    AsyncFd::new(end)
}

/// Serves until the command has ended and that was told, or until the client goes; what runs
/// then is hung up.
pub(super) async fn serve(connection: Upgraded, running: Running) {
    let pid = running.handle.pid;
    if let Err(err) = try_serve(connection, running).await {
        tracing::debug!(pid, err = %err, "a command's client went");
    }
}

async fn try_serve(connection: Upgraded, running: Running) -> io::Result<()> {
    let handle = watch(running.handle)?;
    let streams = Streams::new(running.ends)?;
    let (reader, writer) = tokio::io::split(TokioIo::new(connection));
    let writer = Mutex::new(writer);
    let (bytes, input) = mpsc::unbounded_channel();
    let under_way = AtomicUsize::new(0);
    let listener = Listener {
        handle: handle.get_ref(),
        terminal: streams.terminal.as_deref(),
        input: streams.input.is_some().then_some(bytes),
        under_way: &under_way,
    };
    tokio::select! {
        told = tell(&handle, &streams.output, streams.errors.as_deref(), &writer) => told,
        gone = listener.listen(reader) => gone,
        failed = feed(streams.input, input, &writer, &under_way) => Err(failed),
    }
}

/// Tells what the command writes, and how it ended.
async fn tell(
    handle: &AsyncFd<Handle>,
    output: &AsyncFd<OwnedFd>,
    errors: Option<&AsyncFd<OwnedFd>>,
    writer: &Writer,
) -> io::Result<()> {
    let (over, is_over) = latest::channel(false);
    let end = async {
        let ended = until_ended(handle).await?;
        over.send_replace(true);
        Ok(ended)
    };
    let errors = async {
        match errors {
            Some(errors) => pump(errors, FromDaemon::Errors, is_over.clone(), writer).await,
            None => Ok(()),
        }
    };
    let output = pump(output, FromDaemon::Output, is_over.clone(), writer);
    let (ended, (), ()) = tokio::try_join!(end, output, errors)?;
    let ended = match ended {
        Ended::Code(code) => frames::Ended::Code(code),
        Ended::Signal(signal) => frames::Ended::Signal(signal),
        Ended::Lost => frames::Ended::Lost,
    };
    send(writer, &FromDaemon::Ended(ended)).await?;
    writer.lock().await.shutdown().await
}

pub(super) async fn until_ended(handle: &AsyncFd<Handle>) -> io::Result<Ended> {
    loop {
        let mut ready = handle.readable().await?;
        if let Ok(ended) = ready.try_io(|handle| handle.get_ref().ended()) {
            return ended;
        }
    }
}

pub(super) async fn send(writer: &Writer, frame: &FromDaemon) -> io::Result<()> {
    let bytes = frame.encode();
    let mut writer = writer.lock().await;
    writer.write_all(&bytes).await?;
    writer.flush().await
}

/// Moves what comes out of one stream, to its end; once the command is over, only what it
/// holds.
async fn pump(
    end: &AsyncFd<OwnedFd>,
    frame: fn(Vec<u8>) -> FromDaemon,
    mut over: latest::Receiver<bool>,
    writer: &Writer,
) -> io::Result<()> {
    let mut bytes = vec![0; CHUNK_BYTES];
    let mut tail_bytes = 0;
    loop {
        let is_over = *over.borrow_and_update();
        let read = if is_over {
            rustix::io::read(end.get_ref(), &mut bytes).map_err(io::Error::from)
        } else {
            tokio::select! {
                ready = end.readable() => {
                    let read = |end: &AsyncFd<OwnedFd>| {
                        Ok(rustix::io::read(end.get_ref(), &mut bytes)?)
                    };
                    let Ok(read) = ready?.try_io(read) else { continue };
                    read
                }
                _ = over.changed() => continue,
            }
        };
        let count = match read {
            Ok(0) => return Ok(()),
            Ok(count) => count,
            // A terminal that no program has open any more.
            Err(err) if err.raw_os_error() == Some(Errno::IO.raw_os_error()) => return Ok(()),
            Err(err) if err.kind() == io::ErrorKind::WouldBlock && is_over => return Ok(()),
            Err(err) if err.kind() == io::ErrorKind::Interrupted => continue,
            Err(err) => return Err(err),
        };
        let part = bytes.get(..count).unwrap_or_default().to_vec();
        send(writer, &frame(part)).await?;
        if is_over {
            tail_bytes += count;
            if tail_bytes >= TAIL_BYTES_MAX {
                return Ok(());
            }
        }
    }
}

/// What takes the client's frames.
pub(super) struct Listener<'a> {
    pub(super) handle: &'a Handle,
    pub(super) terminal: Option<&'a AsyncFd<OwnedFd>>,
    pub(super) input: Option<mpsc::UnboundedSender<Vec<u8>>>,
    /// Bytes that came and were not yet taken: bounded by the protocol.
    pub(super) under_way: &'a AtomicUsize,
}

impl Listener<'_> {
    /// Listens until the client goes.
    pub(super) async fn listen(
        mut self,
        mut reader: ReadHalf<TokioIo<Upgraded>>,
    ) -> io::Result<()> {
        let mut frames = Frames::default();
        let mut bytes = vec![0; CHUNK_BYTES];
        loop {
            let count = reader.read(&mut bytes).await?;
            if count == 0 {
                return Ok(());
            }
            frames.push(bytes.get(..count).unwrap_or_default());
            while let Some(frame) = frames.take().map_err(io::Error::other)? {
                self.obey(frame)?;
            }
        }
    }

    fn obey(&mut self, frame: FromClient) -> io::Result<()> {
        match frame {
            FromClient::Input(bytes) => {
                let count = bytes.len();
                let before = self.under_way.fetch_add(count, Ordering::Relaxed);
                let input = self.input.as_ref();
                let input = input.filter(|_| before + count <= frames::INPUT_WINDOW);
                // More than may be, or where nothing may be: no client of this protocol.
                let input = input.ok_or(io::ErrorKind::InvalidData)?;
                input.send(bytes).map_err(io::Error::other)
            }
            FromClient::InputEnds => {
                self.input = None;
                Ok(())
            }
            FromClient::Window(rows, columns) => {
                if let Some(terminal) = self.terminal {
                    resize(terminal.get_ref(), Window { rows, columns })?;
                }
                Ok(())
            }
            FromClient::Signal(number) => {
                // It may have ended meanwhile, which is told anyway.
                self.handle.signal(number).or(Ok(()))
            }
        }
    }
}

/// Feeds the command what came for it, and says what was taken; ends only when that cannot be
/// said.
pub(super) async fn feed(
    input: Option<End>,
    mut bytes: mpsc::UnboundedReceiver<Vec<u8>>,
    writer: &Writer,
    under_way: &AtomicUsize,
) -> io::Error {
    let mut input = input;
    while let Some(part) = bytes.recv().await {
        if let Some(end) = &input
            && write_all(end, &part).await.is_err()
        {
            // It reads no more. The rest is taken and thrown away, as by a closed pipe.
            input = None;
        }
        let count = part.len();
        under_way.fetch_sub(count, Ordering::Relaxed);
        let count = u32::try_from(count).unwrap_or(u32::MAX);
        if let Err(err) = send(writer, &FromDaemon::Taken(count)).await {
            return err;
        }
    }
    // The end of what the command reads; a terminal stays with those who read from it.
    drop(input);
    pending().await
}

async fn write_all(end: &AsyncFd<OwnedFd>, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        let mut ready = end.writable().await?;
        match ready.try_io(|end| Ok(rustix::io::write(end.get_ref(), bytes)?)) {
            Ok(Ok(count)) => bytes = bytes.get(count..).unwrap_or_default(),
            Ok(Err(err)) if err.kind() == io::ErrorKind::Interrupted => {}
            Ok(Err(err)) => return Err(err),
            Err(_would_block) => {}
        }
    }
    Ok(())
}
