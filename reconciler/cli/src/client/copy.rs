//! Files on their way out of a container, or into it, as this program takes part.
//!
//! Who packs or unpacks here works on a thread of its own and is joined to the connection by
//! a few chunks: neither side runs ahead of the other.

use std::io::{self, Read, Write};

use hyper_util::rt::TokioIo;
use reconciler_daemon::api::frames::{
    BODY_BYTES_MAX, Ended, Frames, FromClient, FromDaemon, INPUT_WINDOW,
};
use reconciler_daemon::api::wire::CopyAsk;
use specs::id::Key;
use tokio::io::{AsyncReadExt as _, ReadHalf};
use tokio::sync::{Mutex, Semaphore, mpsc, oneshot};

use super::exec::{Writer, send};
use super::{AskError, Client};

/// Bytes read of the connection at once.
const CHUNK_BYTES: usize = 128 << 10;
/// Chunks that wait between the connection and the thread.
const CHUNKS: usize = 8;
/// Most bytes that are kept of what the other side says is wrong.
const WORDS_BYTES_MAX: usize = 16 << 10;

/// Files were not copied, or not all.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CopyError {
    /// The daemon gave no answer to use, or the connection broke.
    #[error(transparent)]
    Ask(AskError),
    /// On this side.
    #[error("{words}")]
    Here {
        /// What is wrong.
        words: String,
        /// Some was copied.
        is_partial: bool,
    },
    /// In the container.
    #[error("in the container: {words}")]
    There {
        /// What is wrong.
        words: String,
        /// Some was copied.
        is_partial: bool,
    },
}

impl CopyError {
    /// Says what is wrong on this side.
    pub(crate) fn here(err: archive::CopyError, is_partial: bool) -> Self {
        Self::Here {
            words: err.words(),
            is_partial,
        }
    }

    /// Returns what a person should know about it.
    pub(crate) fn help(&self) -> Option<String> {
        match self {
            Self::Ask(err) => err.help(),
            Self::Here { is_partial, .. } | Self::There { is_partial, .. } => is_partial
                .then(|| "the copy is not whole; what was copied until then is there".to_owned()),
        }
    }
}

/// An archive as it arrives.
#[derive(Debug)]
pub(crate) struct Parts {
    arriving: mpsc::Receiver<Vec<u8>>,
    part: Vec<u8>,
    taken: usize,
}

impl Read for Parts {
    fn read(&mut self, room: &mut [u8]) -> io::Result<usize> {
        if self.taken == self.part.len() {
            let Some(part) = self.arriving.blocking_recv() else {
                return Ok(0);
            };
            self.part = part;
            self.taken = 0;
        }
        let rest = self.part.get(self.taken..).unwrap_or_default();
        let count = rest.len().min(room.len());
        for (to, from) in room.iter_mut().zip(rest) {
            *to = *from;
        }
        self.taken += count;
        Ok(count)
    }
}

/// An archive as it leaves.
#[derive(Debug)]
pub(crate) struct Leaving {
    gathered: Vec<u8>,
    leaving: mpsc::Sender<Vec<u8>>,
}

impl Leaving {
    fn pass_on(&mut self) -> io::Result<()> {
        let part = std::mem::take(&mut self.gathered);
        let sent = self.leaving.blocking_send(part);
        sent.map_err(|_| io::ErrorKind::BrokenPipe.into())
    }
}

impl Write for Leaving {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let room = BODY_BYTES_MAX - self.gathered.len();
        let part = bytes.get(..room).unwrap_or(bytes);
        self.gathered.extend_from_slice(part);
        if self.gathered.len() == BODY_BYTES_MAX {
            self.pass_on()?;
        }
        Ok(part.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.gathered.is_empty() {
            return Ok(());
        }
        self.pass_on()
    }
}

/// What came of one side.
type Told = Result<(), archive::CopyError>;

impl Client {
    /// Has an archive of files of a container made, and taken by `take`.
    ///
    /// # Errors
    /// When not all of it came, or was taken.
    pub(crate) fn copy_out(
        &self,
        key: &Key,
        ask: &CopyAsk,
        take: impl FnOnce(Parts) -> Told + Send + 'static,
    ) -> Result<(), CopyError> {
        let body = body(ask)?;
        self.runtime.block_on(async {
            let upgraded = self
                .upgrade(key, "copy", body)
                .await
                .map_err(CopyError::Ask)?;
            let (reader, writer) = tokio::io::split(TokioIo::new(upgraded));
            let (parts, arriving) = mpsc::channel(CHUNKS);
            let taken = on_thread(move || {
                take(Parts {
                    arriving,
                    part: Vec::new(),
                    taken: 0,
                })
            });
            let mut hearer = Hearer {
                parts: Some(parts),
                ..Hearer::default()
            };
            let heard = hearer.hear(reader, &Semaphore::new(0)).await;
            // Held until here: an end of what is read would hang the other side up.
            drop(writer);
            let is_partial = hearer.bytes > 0;
            // Without more to come it ends, whole or not.
            hearer.parts = None;
            let here = ended(taken).await;
            match (heard, here) {
                // What was not taken is why the rest was not heard.
                (Ok(None), Err(err)) => Err(CopyError::here(err, is_partial)),
                (heard, here) => {
                    hearer.judge(heard, is_partial)?;
                    here.map_err(|err| CopyError::here(err, is_partial))
                }
            }
        })
    }

    /// Has an archive unpacked in a container that `give` makes.
    ///
    /// # Errors
    /// When not all of it was given, or unpacked.
    pub(crate) fn copy_in(
        &self,
        key: &Key,
        ask: &CopyAsk,
        give: impl FnOnce(Leaving) -> Told + Send + 'static,
    ) -> Result<(), CopyError> {
        let body = body(ask)?;
        self.runtime.block_on(async {
            let upgraded = self
                .upgrade(key, "copy", body)
                .await
                .map_err(CopyError::Ask)?;
            let (reader, writer) = tokio::io::split(TokioIo::new(upgraded));
            let writer = Mutex::new(writer);
            let room = Semaphore::new(INPUT_WINDOW);
            let (leaving, parts) = mpsc::channel(CHUNKS);
            let gathered = Vec::new();
            let given = on_thread(move || give(Leaving { gathered, leaving }));
            let mut hearer = Hearer::default();
            let mut here = Ok(());
            let give = async {
                here = pass_on(&writer, &room, parts, given).await;
                if matches!(&here, Err(err) if !matches!(err, archive::CopyError::Partly(_))) {
                    return;
                }
                std::future::pending().await
            };
            let heard = tokio::select! {
                biased;
                heard = hearer.hear(reader, &room) => heard,
                () = give => Ok(None),
            };
            match heard {
                Ok(None) => {}
                heard => hearer.judge(heard, true)?,
            }
            here.map_err(|err| CopyError::here(err, true))
        })
    }
}

fn body(ask: &CopyAsk) -> Result<Vec<u8>, CopyError> {
    serde_json::to_vec(ask).map_err(|err| CopyError::Ask(AskError::Foreign(err)))
}

fn on_thread(work: impl FnOnce() -> Told + Send + 'static) -> oneshot::Receiver<Told> {
    let (done, told) = oneshot::channel();
    std::thread::spawn(move || {
        // Who waits may have gone: the other side has said why.
        done.send(work()).unwrap_or_default();
    });
    told
}

async fn ended(work: oneshot::Receiver<Told>) -> Told {
    let lost = |_| archive::CopyError::Output(io::Error::other("the thread ended"));
    work.await.map_err(lost)?
}

/// Sends an archive as it is taken. Its end is said only if it came to one.
async fn pass_on(
    writer: &Writer,
    room: &Semaphore,
    mut parts: mpsc::Receiver<Vec<u8>>,
    given: oneshot::Receiver<Told>,
) -> Told {
    while let Some(part) = parts.recv().await {
        let wanted = u32::try_from(part.len()).unwrap_or(u32::MAX);
        let Ok(taken) = room.acquire_many(wanted).await else {
            break;
        };
        taken.forget();
        // A connection that broke is heard elsewhere.
        if send(writer, &FromClient::Input(part)).await.is_err() {
            break;
        }
    }
    let told = ended(given).await;
    if matches!(told, Ok(()) | Err(archive::CopyError::Partly(_))) {
        send(writer, &FromClient::InputEnds)
            .await
            .unwrap_or_default();
    }
    told
}

/// What takes the daemon's frames.
#[derive(Debug, Default)]
struct Hearer {
    /// Where the archive goes.
    parts: Option<mpsc::Sender<Vec<u8>>>,
    /// Bytes of it that came.
    bytes: u64,
    /// What the other side says is wrong.
    words: Vec<u8>,
}

impl Hearer {
    /// Hears until the other side has ended; none if nobody takes the archive any more.
    async fn hear(
        &mut self,
        mut reader: ReadHalf<TokioIo<hyper::upgrade::Upgraded>>,
        room: &Semaphore,
    ) -> Result<Option<Ended>, AskError> {
        let mut frames = Frames::default();
        let mut bytes = vec![0; CHUNK_BYTES];
        loop {
            let count = reader.read(&mut bytes).await.map_err(AskError::Lost)?;
            if count == 0 {
                let why = "it has ended, and the copy with it";
                return Err(AskError::Lost(io::Error::other(why)));
            }
            frames.push(bytes.get(..count).unwrap_or_default());
            while let Some(frame) = frames
                .take()
                .map_err(|err| AskError::Lost(io::Error::other(err)))?
            {
                match frame {
                    FromDaemon::Output(part) => {
                        self.bytes += part.len() as u64;
                        if let Some(parts) = &self.parts
                            && parts.send(part).await.is_err()
                        {
                            return Ok(None);
                        }
                    }
                    FromDaemon::Errors(part) => {
                        let room = WORDS_BYTES_MAX.saturating_sub(self.words.len());
                        self.words.extend(part.into_iter().take(room));
                    }
                    FromDaemon::Taken(count) => {
                        let count = usize::try_from(count).unwrap_or(0);
                        room.add_permits(count.min(INPUT_WINDOW));
                    }
                    FromDaemon::Ended(ended) => return Ok(Some(ended)),
                    FromDaemon::Gap => {}
                }
            }
        }
    }

    /// Says what the other side's end means.
    fn judge(
        &self,
        heard: Result<Option<Ended>, AskError>,
        is_partial: bool,
    ) -> Result<(), CopyError> {
        let ended = heard.map_err(|err| match err {
            AskError::Lost(err) => CopyError::Here {
                words: format!("lost the connection to the daemon: {err}"),
                is_partial,
            },
            err => CopyError::Ask(err),
        })?;
        let words = match ended {
            None | Some(Ended::Code(0)) => return Ok(()),
            Some(Ended::Code(_)) => String::from_utf8_lossy(&self.words).into_owned(),
            Some(Ended::Signal(signal)) => format!("who copied was ended by signal {signal}"),
            Some(Ended::Lost) => "it has ended, and the copy with it".to_owned(),
        };
        Err(CopyError::There { words, is_partial })
    }
}
