//! Frames of a running command's connection (`docs/formats/api.md`): both ends, as values.

/// What a client asks to upgrade to.
pub const UPGRADE: &str = "reconciler-exec";
/// Most bytes of one frame behind its head.
pub const BODY_BYTES_MAX: usize = 64 << 10;
/// Most bytes of input that a client may have sent beyond what was taken.
pub const INPUT_WINDOW: usize = 256 << 10;

const HEAD_BYTES: usize = 5;

/// From client to daemon.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FromClient {
    /// Bytes for standard input.
    Input(Vec<u8>),
    /// The end of standard input.
    InputEnds,
    /// The terminal has another size: lines and columns.
    Window(u16, u16),
    /// A signal.
    Signal(u8),
}

/// From daemon to client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FromDaemon {
    /// Bytes of standard output, or of the terminal.
    Output(Vec<u8>),
    /// Bytes of standard error.
    Errors(Vec<u8>),
    /// So many more bytes of input were taken.
    Taken(u32),
    /// It ended.
    Ended(Ended),
    /// Output was lost here: its log was rotated faster than it was read.
    Gap,
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

/// Bytes that are no frame of that side.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("what came is no frame of this protocol")]
pub struct NoFrame;

/// A frame of one side.
pub trait Frame: Sized {
    /// Returns kind and body.
    fn parts(&self) -> (u8, Vec<u8>);

    /// Returns the frame of a kind and a body; none if there is no such.
    fn from_parts(kind: u8, body: &[u8]) -> Option<Self>;

    /// Returns it as it is sent. A body is at most [`BODY_BYTES_MAX`] long.
    fn encode(&self) -> Vec<u8> {
        let (kind, body) = self.parts();
        let length = u32::try_from(body.len()).unwrap_or(u32::MAX);
        let mut bytes = Vec::with_capacity(HEAD_BYTES + body.len());
        bytes.push(kind);
        bytes.extend_from_slice(&length.to_le_bytes());
        bytes.extend_from_slice(&body);
        bytes
    }
}

impl Frame for FromClient {
    fn parts(&self) -> (u8, Vec<u8>) {
        match self {
            Self::Input(bytes) => (0, bytes.clone()),
            Self::InputEnds => (1, Vec::new()),
            Self::Window(rows, columns) => {
                (2, [rows.to_le_bytes(), columns.to_le_bytes()].concat())
            }
            Self::Signal(number) => (3, vec![*number]),
        }
    }

    fn from_parts(kind: u8, body: &[u8]) -> Option<Self> {
        match (kind, body) {
            (0, bytes) => Some(Self::Input(bytes.to_vec())),
            (1, []) => Some(Self::InputEnds),
            (2, [a, b, c, d]) => Some(Self::Window(
                u16::from_le_bytes([*a, *b]),
                u16::from_le_bytes([*c, *d]),
            )),
            (3, [number]) => Some(Self::Signal(*number)),
            _ => None,
        }
    }
}

impl Frame for FromDaemon {
    fn parts(&self) -> (u8, Vec<u8>) {
        match self {
            Self::Output(bytes) => (16, bytes.clone()),
            Self::Errors(bytes) => (17, bytes.clone()),
            Self::Taken(count) => (18, count.to_le_bytes().to_vec()),
            Self::Ended(Ended::Code(code)) => (19, vec![0, *code]),
            Self::Ended(Ended::Signal(signal)) => (19, vec![1, *signal]),
            Self::Ended(Ended::Lost) => (19, vec![2, 0]),
            Self::Gap => (20, Vec::new()),
        }
    }

    fn from_parts(kind: u8, body: &[u8]) -> Option<Self> {
        match (kind, body) {
            (16, bytes) => Some(Self::Output(bytes.to_vec())),
            (17, bytes) => Some(Self::Errors(bytes.to_vec())),
            (18, [a, b, c, d]) => Some(Self::Taken(u32::from_le_bytes([*a, *b, *c, *d]))),
            (19, [0, code]) => Some(Self::Ended(Ended::Code(*code))),
            (19, [1, signal]) => Some(Self::Ended(Ended::Signal(*signal))),
            (19, [2, 0]) => Some(Self::Ended(Ended::Lost)),
            (20, []) => Some(Self::Gap),
            _ => None,
        }
    }
}

/// Bytes as they arrive, cut into frames.
///
/// *Guarantees:* no memory is set aside on the word of a length; what is held is at most one
/// frame and what was pushed last.
#[derive(Debug, Default)]
pub struct Frames {
    bytes: Vec<u8>,
    taken: usize,
}

impl Frames {
    /// Adds bytes.
    pub fn push(&mut self, bytes: &[u8]) {
        self.bytes.drain(..std::mem::take(&mut self.taken));
        self.bytes.extend_from_slice(bytes);
    }

    /// Takes the next frame, if all of it is here.
    ///
    /// # Errors
    /// When the bytes are no frame of that side; nothing more can be taken then.
    pub fn take<F: Frame>(&mut self) -> Result<Option<F>, NoFrame> {
        let waiting = self.bytes.get(self.taken..).unwrap_or_default();
        let Some((head, rest)) = waiting.split_first_chunk::<HEAD_BYTES>() else {
            return Ok(None);
        };
        let [kind, a, b, c, d] = *head;
        let length = u32::from_le_bytes([a, b, c, d]);
        let length = usize::try_from(length).map_err(|_| NoFrame)?;
        if length > BODY_BYTES_MAX {
            return Err(NoFrame);
        }
        let Some(body) = rest.get(..length) else {
            return Ok(None);
        };
        let frame = F::from_parts(kind, body).ok_or(NoFrame)?;
        self.taken += HEAD_BYTES + length;
        Ok(Some(frame))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn back<F: Frame + std::fmt::Debug + PartialEq>(frames: &[F]) {
        let bytes: Vec<u8> = frames.iter().flat_map(Frame::encode).collect();
        let mut at = Frames::default();
        let mut got = Vec::new();
        // However the bytes are cut.
        for byte in bytes {
            at.push(&[byte]);
            got.extend(at.take::<F>().unwrap());
        }
        assert_eq!(got, frames);
    }

    #[test]
    fn frames_come_back_as_they_were() {
        back(&[
            FromClient::Input(b"hello".to_vec()),
            FromClient::Input(Vec::new()),
            FromClient::Window(65535, 1),
            FromClient::Signal(9),
            FromClient::InputEnds,
        ]);
        back(&[
            FromDaemon::Output(vec![0; BODY_BYTES_MAX]),
            FromDaemon::Errors(b"x".to_vec()),
            FromDaemon::Taken(u32::MAX),
            FromDaemon::Ended(Ended::Code(255)),
            FromDaemon::Ended(Ended::Signal(15)),
            FromDaemon::Ended(Ended::Lost),
            FromDaemon::Gap,
        ]);
    }

    #[test]
    fn what_is_no_frame_is_refused() {
        let take = |bytes: &[u8]| {
            let mut frames = Frames::default();
            frames.push(bytes);
            frames.take::<FromClient>()
        };
        assert_eq!(take(&[0, 0, 0, 0]), Ok(None));
        assert_eq!(take(&[0, 1, 0, 0, 0]), Ok(None));
        assert_eq!(take(&[0, 1, 0, 1, 0]), Err(NoFrame), "longer than any");
        assert_eq!(take(&[9, 0, 0, 0, 0]), Err(NoFrame), "no such kind");
        assert_eq!(take(&[16, 0, 0, 0, 0]), Err(NoFrame), "the other side's");
        assert_eq!(
            take(&[3, 0, 0, 0, 0]),
            Err(NoFrame),
            "a signal has a number"
        );
    }
}
