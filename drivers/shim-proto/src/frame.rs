//! Frames: a four-byte little-endian length, then that many bytes.

use alloc::vec::Vec;

use crate::message::FRAME_BYTES_MAX;

/// Bytes of the length in front of every frame.
const HEAD_BYTES: usize = 4;
/// A buffer is given back once it is empty and larger than this.
const KEEP_BYTES: usize = 4096;

/// A message that does not fit a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a message of {bytes} bytes does not fit a frame of {FRAME_BYTES_MAX}")]
pub struct TooLong {
    /// Its length.
    pub bytes: usize,
}

/// Bytes that are no frame, or a frame that is no message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// The length in front says more than [`FRAME_BYTES_MAX`].
    #[error("a frame of {0} bytes is announced, {FRAME_BYTES_MAX} are allowed")]
    Oversized(u32),
    /// The frame does not decode.
    #[error("a frame does not decode")]
    Undecodable,
}

/// Appends a message as one frame.
///
/// # Errors
/// When it is longer than [`FRAME_BYTES_MAX`]; then nothing is appended.
pub fn encode<M: prost::Message>(message: &M, out: &mut Vec<u8>) -> Result<(), TooLong> {
    let bytes = message.encoded_len();
    let length = match u32::try_from(bytes) {
        Ok(length) if length <= FRAME_BYTES_MAX => length,
        _ => return Err(TooLong { bytes }),
    };
    out.reserve(HEAD_BYTES + bytes);
    out.extend_from_slice(&length.to_le_bytes());
    message.encode_raw(out);
    Ok(())
}

/// Bytes as they arrive, cut into frames.
///
/// *Guarantees:* holds at most what was pushed; memory is never set aside on the word of a
/// length that was announced.
#[derive(Debug, Default)]
pub struct Frames {
    bytes: Vec<u8>,
    taken: usize,
}

impl Frames {
    /// Adds bytes.
    pub fn push(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// Returns how many bytes wait to be taken.
    #[must_use]
    pub fn len(&self) -> usize {
        self.bytes.len() - self.taken
    }

    /// Returns whether nothing waits to be taken.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns how many bytes the next message still lacks, as far as is known; 0 if it is
    /// here. Who reads no more than this leaves what follows to be seen by others.
    #[must_use]
    pub fn lacking(&self) -> usize {
        let waiting = self.bytes.get(self.taken..).unwrap_or_default();
        let Some((head, rest)) = waiting.split_first_chunk::<HEAD_BYTES>() else {
            return HEAD_BYTES - waiting.len();
        };
        // An oversized frame is refused by its head; nothing more of it is needed.
        let length = u32::from_le_bytes(*head);
        if length > FRAME_BYTES_MAX {
            0
        } else {
            (length as usize).saturating_sub(rest.len())
        }
    }

    /// Takes the next message, if all of it is here.
    ///
    /// # Errors
    /// When the bytes cannot be a frame, or the frame is no such message. An undecodable
    /// frame is passed over; after an oversized one nothing can be taken any more.
    pub fn take<M: prost::Message + Default>(&mut self) -> Result<Option<M>, FrameError> {
        let waiting = self.bytes.get(self.taken..).unwrap_or_default();
        let Some((head, rest)) = waiting.split_first_chunk::<HEAD_BYTES>() else {
            return Ok(None);
        };
        let length = u32::from_le_bytes(*head);
        if length > FRAME_BYTES_MAX {
            return Err(FrameError::Oversized(length));
        }
        let length = length as usize;
        let Some(body) = rest.get(..length) else {
            return Ok(None);
        };
        let message = M::decode(body).map_err(|_| FrameError::Undecodable);
        self.taken += HEAD_BYTES + length;
        self.give_back();
        message.map(Some)
    }

    /// Moves what is left to the front, and returns memory that is not needed.
    fn give_back(&mut self) {
        if self.taken == self.bytes.len() {
            self.bytes.clear();
            self.taken = 0;
            if self.bytes.capacity() > KEEP_BYTES {
                self.bytes = Vec::new();
            }
        } else if self.taken > KEEP_BYTES {
            self.bytes.drain(..self.taken);
            self.taken = 0;
        }
    }
}

/// Bytes on their way out.
#[derive(Debug, Default)]
pub struct Outbox {
    bytes: Vec<u8>,
    sent: usize,
}

impl Outbox {
    /// Returns what is to be sent.
    #[must_use]
    pub fn pending(&self) -> &[u8] {
        self.bytes.get(self.sent..).unwrap_or_default()
    }

    /// Notes that the first bytes of [`Outbox::pending`] were sent.
    pub fn sent(&mut self, count: usize) {
        self.sent = self.sent.saturating_add(count).min(self.bytes.len());
        if self.sent == self.bytes.len() {
            self.sent = 0;
            self.bytes.clear();
            if self.bytes.capacity() > KEEP_BYTES {
                self.bytes = Vec::new();
            }
        }
    }

    /// Adds a message.
    ///
    /// # Errors
    /// When it does not fit a frame; then nothing is added.
    pub fn push<M: prost::Message>(&mut self, message: &M) -> Result<(), TooLong> {
        encode(message, &mut self.bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::{Ask, Forget, Request};
    use alloc::string::String;
    use alloc::vec;
    use proptest::prelude::*;

    fn request(id: u64, name: &str) -> Request {
        let name = String::from(name);
        Request {
            id,
            ask: Some(Ask::Forget(Forget { name })),
            aim: None,
        }
    }

    fn framed(requests: &[Request]) -> Vec<u8> {
        let mut out = Vec::new();
        for request in requests {
            encode(request, &mut out).unwrap();
        }
        out
    }

    #[test]
    fn frames_survive_any_cut() {
        let sent = [
            request(1, "a"),
            request(2, ""),
            request(3, &"x".repeat(9000)),
        ];
        let bytes = framed(&sent);
        for cut in (0..bytes.len()).step_by(if bytes.len() > 500 { 7 } else { 1 }) {
            let mut frames = Frames::default();
            let mut got = Vec::new();
            for piece in [&bytes[..cut], &bytes[cut..]] {
                frames.push(piece);
                while let Some(request) = frames.take::<Request>().unwrap() {
                    got.push(request);
                }
            }
            assert_eq!(got, sent, "cut at {cut}");
            assert!(frames.is_empty());
        }
    }

    #[test]
    fn what_is_lacking_is_exactly_one_message() {
        let bytes = framed(&[request(1, "abc"), request(2, "d")]);
        let mut frames = Frames::default();
        let mut at = 0;
        while frames.lacking() > 0 {
            let step = frames.lacking().min(3);
            frames.push(&bytes[at..at + step]);
            at += step;
        }
        assert_eq!(frames.take::<Request>(), Ok(Some(request(1, "abc"))));
        assert!(frames.is_empty());
        frames.push(&(FRAME_BYTES_MAX + 1).to_le_bytes());
        assert_eq!(frames.lacking(), 0);
    }

    #[test]
    fn an_announced_length_sets_no_memory_aside() {
        let mut frames = Frames::default();
        frames.push(&FRAME_BYTES_MAX.to_le_bytes());
        assert_eq!(frames.take::<Request>(), Ok(None));
        assert!(frames.bytes.capacity() < 64);
    }

    #[test]
    fn an_oversized_frame_is_refused_by_its_head() {
        let mut frames = Frames::default();
        frames.push(&(FRAME_BYTES_MAX + 1).to_le_bytes());
        assert_eq!(
            frames.take::<Request>(),
            Err(FrameError::Oversized(FRAME_BYTES_MAX + 1))
        );
        let long = request(1, &"x".repeat(FRAME_BYTES_MAX as usize));
        let mut out = vec![7];
        assert!(encode(&long, &mut out).is_err());
        assert_eq!(out, [7], "nothing was appended");
    }

    proptest! {
        #[test]
        fn hostile_bytes_never_panic_and_never_loop(
            bytes in prop::collection::vec(any::<u8>(), 0..2048),
        ) {
            let mut frames = Frames::default();
            frames.push(&bytes);
            for _ in 0..=bytes.len() {
                match frames.take::<Request>() {
                    Ok(None) | Err(FrameError::Oversized(_)) => return Ok(()),
                    Ok(Some(_)) | Err(FrameError::Undecodable) => {}
                }
            }
            prop_assert!(frames.is_empty());
        }
    }
}
