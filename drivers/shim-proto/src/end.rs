//! Both ends of the dialogue between daemon and shim, as values: bytes in, bytes out.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use crate::frame::{FrameError, Frames, Outbox};
use crate::init::failure;
use crate::message::{
    Act, Aim, Answer, Ask, Changed, FRAME_BYTES_MAX, Failure, FailureKind, Hello, PROTOCOL,
    PROTOCOL_MIN, Reply, Request,
};

/// Most bytes an end takes in before a whole message must have been among them.
const INBOX_BYTES_MAX: usize = FRAME_BYTES_MAX as usize + 4;
/// A shim takes no further request from a client that left this much unread.
const UNREAD_BYTES_MAX: usize = 64 << 10;

/// Returns the greeting of this code's version.
#[must_use]
pub fn hello(instance: &str, key: &str, incarnation: u64) -> Hello {
    Hello {
        protocol: PROTOCOL,
        protocol_min: PROTOCOL_MIN,
        instance: instance.into(),
        key: key.into(),
        incarnation,
    }
}

/// Why a connection cannot go on.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EndError {
    /// The other end sent what is no message.
    #[error("the other end sent what is no message: {0}")]
    Frame(FrameError),
    /// The other end sent more than one message can have.
    #[error("the other end sent more than one message can have")]
    Flood,
    /// The other end refused the greeting.
    #[error("the other end refused: {}: {}", .0.what, .0.cause)]
    Refused(Failure),
    /// The other end speaks no version that this one understands, or is somebody else.
    #[error("the other end is not the one that was greeted: {0}")]
    Stranger(String),
    /// The other end answered what was not asked.
    #[error("the other end answered what was not asked")]
    Unasked,
    /// A request does not fit a frame.
    #[error("the request does not fit a frame")]
    TooLong,
}

/// The shim's end of one connection.
///
/// ```text
/// unknown --Hello--> greeted --request--> busy --reply--> greeted
///    \__anything else, a bad frame: a Failure, then closing
/// ```
#[derive(Debug)]
pub struct ShimEnd {
    me: Hello,
    frames: Frames,
    out: Outbox,
    greeted: bool,
    busy: Option<u64>,
    told: bool,
    closing: bool,
}

impl ShimEnd {
    /// Makes the end of a connection just accepted, by the shim of that greeting.
    #[must_use]
    pub fn new(me: Hello) -> Self {
        Self {
            me,
            frames: Frames::default(),
            out: Outbox::default(),
            greeted: false,
            busy: None,
            told: true,
            closing: false,
        }
    }

    /// Takes bytes that arrived.
    pub fn receive(&mut self, bytes: &[u8]) {
        if self.closing {
            return;
        }
        if self.frames.len() + bytes.len() > INBOX_BYTES_MAX + UNREAD_BYTES_MAX {
            self.refuse(
                0,
                FailureKind::Unknown,
                "more was sent than one message can have",
            );
            return;
        }
        self.frames.push(bytes);
    }

    /// Returns whether it has room for bytes; if not, the socket is left unread.
    #[must_use]
    pub fn wants_bytes(&self) -> bool {
        !self.closing && self.frames.len() <= INBOX_BYTES_MAX
    }

    /// Returns the next request, at most one until it is replied to. Greetings and what is
    /// no request are answered here.
    pub fn poll_request(&mut self) -> Option<Ask> {
        while !self.closing && self.busy.is_none() && self.out.pending().len() < UNREAD_BYTES_MAX {
            let request = match self.frames.take::<Request>() {
                Ok(Some(request)) => request,
                Ok(None) => return None,
                Err(error) => {
                    self.refuse(0, FailureKind::Unknown, &format!("{error}"));
                    return None;
                }
            };
            match request.ask {
                Some(Ask::Hello(hello)) => self.greet(request.id, &hello),
                Some(_) if !self.greeted => {
                    self.refuse(request.id, FailureKind::Unknown, "a greeting comes first");
                }
                Some(ask) => match self.check_aim(&ask, request.aim.as_ref()) {
                    Ok(()) => {
                        self.busy = Some(request.id);
                        return Some(ask);
                    }
                    Err(failure) => self.send(request.id, Answer::Failure(failure)),
                },
                None => {
                    let cause = "this version does not know it";
                    let failure = failure(FailureKind::Unknown, "read the request", cause);
                    self.send(request.id, Answer::Failure(failure));
                }
            }
        }
        None
    }

    /// Answers the request that was last returned.
    pub fn reply(&mut self, answer: Answer) {
        if let Some(id) = self.busy.take() {
            if matches!(answer, Answer::Report(_)) {
                self.told = false;
            }
            self.send(id, answer);
        }
    }

    /// Says that something changed, unless that was said since the last report.
    pub fn changed(&mut self) {
        if self.greeted && !self.told && !self.closing {
            self.told = true;
            self.send(0, Answer::Changed(Changed {}));
        }
    }

    /// Returns the bytes to be sent.
    #[must_use]
    pub fn pending(&self) -> &[u8] {
        self.out.pending()
    }

    /// Notes that the first bytes of [`ShimEnd::pending`] were sent.
    pub fn sent(&mut self, count: usize) {
        self.out.sent(count);
    }

    /// Returns whether the connection is to be closed once nothing is pending.
    #[must_use]
    pub fn is_closing(&self) -> bool {
        self.closing
    }

    /// Refuses an order to end something that is not for this life, or is another than it
    /// says.
    fn check_aim(&self, ask: &Ask, aim: Option<&Aim>) -> Result<(), Failure> {
        let what = "take the order";
        let me = &self.me;
        match (ask.act(), aim) {
            (Act::None, _) => Ok(()),
            (_, None) => {
                let cause = "it does not say which life it is for";
                Err(failure(FailureKind::Unknown, what, cause))
            }
            (act, Some(aim)) if aim.act != act as i32 => {
                let cause = "it says that it is another order";
                Err(failure(FailureKind::Unknown, what, cause))
            }
            (_, Some(aim)) if (&aim.key, aim.incarnation) != (&me.key, me.incarnation) => {
                let cause = format!(
                    "it is for {}.{}, this is {}.{}",
                    aim.key, aim.incarnation, me.key, me.incarnation
                );
                Err(failure(FailureKind::Stale, what, cause))
            }
            (_, Some(_)) => Ok(()),
        }
    }

    fn greet(&mut self, id: u64, hello: &Hello) {
        if hello.protocol < PROTOCOL_MIN || hello.protocol_min > PROTOCOL {
            let cause = format!("versions {PROTOCOL_MIN} to {PROTOCOL} are spoken here");
            self.refuse(id, FailureKind::Terminal, &cause);
        } else if (&hello.instance, &hello.key, hello.incarnation)
            != (&self.me.instance, &self.me.key, self.me.incarnation)
        {
            let me = &self.me;
            let cause = format!("this is {}/{}.{}", me.instance, me.key, me.incarnation);
            self.refuse(id, FailureKind::Stale, &cause);
        } else {
            self.greeted = true;
            self.told = false;
            self.send(id, Answer::Hello(self.me.clone()));
        }
    }

    fn refuse(&mut self, id: u64, kind: FailureKind, cause: &str) {
        self.send(
            id,
            Answer::Failure(failure(kind, "take the request", cause)),
        );
        self.closing = true;
        self.frames = Frames::default();
    }

    fn send(&mut self, id: u64, answer: Answer) {
        let reply = Reply {
            id,
            answer: Some(answer),
        };
        if self.out.push(&reply).is_err() {
            let cause = "it does not fit a frame";
            let failure = failure(FailureKind::Terminal, "send the answer", cause);
            let short = Reply {
                id,
                answer: Some(Answer::Failure(failure)),
            };
            if self.out.push(&short).is_err() {
                self.closing = true;
            }
        }
    }
}

/// What the daemon's end heard.
#[derive(Clone, Debug, PartialEq)]
pub enum Heard {
    /// The greeting was taken; requests may follow.
    Greeted,
    /// The answer to the request of that id.
    Answer(u64, Answer),
    /// Something changed: look again.
    Changed,
}

/// The daemon's end of one connection.
#[derive(Debug)]
pub struct DaemonEnd {
    expected: Hello,
    frames: Frames,
    out: Outbox,
    last_id: u64,
    greeted: bool,
    waiting: Vec<u64>,
}

/// The id of the greeting.
const HELLO_ID: u64 = 1;

impl DaemonEnd {
    /// Makes the end of a connection just made, to the shim that answers with that greeting.
    ///
    /// # Errors
    /// When the names in the greeting do not fit a frame.
    pub fn new(expected: Hello) -> Result<Self, EndError> {
        let mut out = Outbox::default();
        let greeting = Request {
            id: HELLO_ID,
            ask: Some(Ask::Hello(expected.clone())),
            aim: None,
        };
        out.push(&greeting).map_err(|_| EndError::TooLong)?;
        let frames = Frames::default();
        Ok(Self {
            expected,
            frames,
            out,
            last_id: HELLO_ID,
            greeted: false,
            waiting: Vec::new(),
        })
    }

    /// Queues a request and returns its id. One that ends something says that it is for the
    /// life that was greeted.
    ///
    /// # Errors
    /// When it does not fit a frame; then nothing is queued.
    pub fn ask(&mut self, ask: Ask) -> Result<u64, EndError> {
        let id = self.last_id + 1;
        let act = ask.act();
        let aim = (act != Act::None).then(|| Aim {
            key: self.expected.key.clone(),
            incarnation: self.expected.incarnation,
            act: act as i32,
        });
        let ask = Some(ask);
        self.out
            .push(&Request { id, ask, aim })
            .map_err(|_| EndError::TooLong)?;
        self.last_id = id;
        self.waiting.push(id);
        Ok(id)
    }

    /// Takes bytes that arrived.
    ///
    /// # Errors
    /// When they are more than one message can have; heard messages must be taken first.
    pub fn receive(&mut self, bytes: &[u8]) -> Result<(), EndError> {
        if self.frames.len() + bytes.len() > 2 * INBOX_BYTES_MAX {
            return Err(EndError::Flood);
        }
        self.frames.push(bytes);
        Ok(())
    }

    /// Returns how many bytes the next message still lacks, as far as is known. A daemon that
    /// takes no more than this leaves a change that was told behind an answer in the socket,
    /// where it can be waited for.
    #[must_use]
    pub fn lacking(&self) -> usize {
        self.frames.lacking()
    }

    /// Returns what was heard next, if all of it is here.
    ///
    /// # Errors
    /// When the connection cannot go on.
    pub fn poll_heard(&mut self) -> Result<Option<Heard>, EndError> {
        let Some(reply) = self.frames.take::<Reply>().map_err(EndError::Frame)? else {
            return Ok(None);
        };
        if !self.greeted {
            return self.check_greeting(reply).map(Some);
        }
        match (reply.id, reply.answer) {
            (0, Some(Answer::Changed(_))) => Ok(Some(Heard::Changed)),
            (0, Some(Answer::Failure(failure))) => Err(EndError::Refused(failure)),
            (id, Some(answer)) => {
                let place = self.waiting.iter().position(|waiting| *waiting == id);
                self.waiting.swap_remove(place.ok_or(EndError::Unasked)?);
                Ok(Some(Heard::Answer(id, answer)))
            }
            (_, None) => Err(EndError::Unasked),
        }
    }

    /// Returns the bytes to be sent.
    #[must_use]
    pub fn pending(&self) -> &[u8] {
        self.out.pending()
    }

    /// Notes that the first bytes of [`DaemonEnd::pending`] were sent.
    pub fn sent(&mut self, count: usize) {
        self.out.sent(count);
    }

    fn check_greeting(&mut self, reply: Reply) -> Result<Heard, EndError> {
        match reply.answer {
            Some(Answer::Hello(hello)) if reply.id == HELLO_ID => {
                let same = (&hello.instance, &hello.key, hello.incarnation)
                    == (
                        &self.expected.instance,
                        &self.expected.key,
                        self.expected.incarnation,
                    );
                if !same {
                    let who = format!("{}/{}.{}", hello.instance, hello.key, hello.incarnation);
                    return Err(EndError::Stranger(who));
                }
                if hello.protocol < PROTOCOL_MIN || hello.protocol_min > PROTOCOL {
                    return Err(EndError::Stranger(format!("speaks {}", hello.protocol)));
                }
                self.greeted = true;
                Ok(Heard::Greeted)
            }
            Some(Answer::Failure(failure)) => Err(EndError::Refused(failure)),
            _ => Err(EndError::Unasked),
        }
    }
}

#[cfg(test)]
mod tests;
