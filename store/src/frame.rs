//! The frame around every value, and the lines of the files beside the engine.
//!
//! Bytes: `docs/formats/store.md`.

use crate::engine::Tree;

/// Most bytes in one value.
pub(crate) const CONTENT_BYTES_MAX: usize = 64 * 1024;

const VERSION: u8 = 1;
const HEAD_BYTES: usize = 13;
const CHECK_BYTES: usize = 8;

/// What is wrong with a framed value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum FrameError {
    #[error("{0} bytes, and at most {CONTENT_BYTES_MAX} fit")]
    TooLarge(usize),
    #[error("shorter than a frame")]
    Short,
    #[error("frame version {0} is not known")]
    Version(u8),
    #[error("its length does not match its frame")]
    Length,
    #[error("its checksum does not match")]
    Checksum,
}

/// Returns the content with its frame.
pub(crate) fn seal(tree: Tree, key: &[u8], content: &[u8]) -> Result<Vec<u8>, FrameError> {
    let length = u32::try_from(content.len())
        .ok()
        .filter(|_| content.len() <= CONTENT_BYTES_MAX)
        .ok_or(FrameError::TooLarge(content.len()))?;
    let mut framed = Vec::with_capacity(HEAD_BYTES + content.len());
    framed.push(VERSION);
    framed.extend_from_slice(&length.to_le_bytes());
    framed.extend_from_slice(&checksum(tree, key, &framed, content));
    framed.extend_from_slice(content);
    Ok(framed)
}

/// Returns the content of a framed value.
pub(crate) fn open<'a>(tree: Tree, key: &[u8], framed: &'a [u8]) -> Result<&'a [u8], FrameError> {
    let (head, content) = framed
        .split_at_checked(HEAD_BYTES)
        .ok_or(FrameError::Short)?;
    let (length_head, check) = head.split_at_checked(5).ok_or(FrameError::Short)?;
    let (version, length) = length_head.split_first().ok_or(FrameError::Short)?;
    if *version != VERSION {
        return Err(FrameError::Version(*version));
    }
    let length = length
        .try_into()
        .map(u32::from_le_bytes)
        .map_err(|_| FrameError::Short)?;
    if usize::try_from(length) != Ok(content.len()) {
        return Err(FrameError::Length);
    }
    if checksum(tree, key, length_head, content) != check {
        return Err(FrameError::Checksum);
    }
    Ok(content)
}

fn checksum(tree: Tree, key: &[u8], head: &[u8], content: &[u8]) -> [u8; CHECK_BYTES] {
    let hash = located(tree, key).update(head).update(content).finalize();
    first(hash.as_bytes())
}

/// Returns what a record adds to the sum over all records.
pub(crate) fn term(tree: Tree, key: &[u8], framed: &[u8]) -> u128 {
    let hash = located(tree, key).update(framed).finalize();
    u128::from_le_bytes(first(hash.as_bytes()))
}

fn located(tree: Tree, key: &[u8]) -> blake3::Hasher {
    let mut hasher = blake3::Hasher::new();
    hasher
        .update(tree.name().as_bytes())
        .update(&[0])
        .update(key)
        .update(&[0]);
    hasher
}

fn first<const N: usize>(hash: &[u8; 32]) -> [u8; N] {
    let mut out = [0; N];
    for (to, from) in out.iter_mut().zip(hash) {
        *to = *from;
    }
    out
}

/// Returns a line that can be checked, its line feed included.
pub(crate) fn seal_line(json: &str) -> String {
    format!("{json} {}\n", line_check(json))
}

/// Returns what a line says, or nothing if it is not whole. Takes it without its line feed.
pub(crate) fn open_line(line: &str) -> Option<&str> {
    let (json, check) = line.rsplit_once(' ')?;
    (check == line_check(json)).then_some(json)
}

fn line_check(json: &str) -> String {
    let hash: [u8; CHECK_BYTES] = first(blake3::hash(json.as_bytes()).as_bytes());
    format!("{:016x}", u64::from_be_bytes(hash))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_with_any_one_bit_flipped_does_not_open() {
        let framed = seal(Tree::Lives, b"web/1", b"{\"generation\":7}").unwrap();
        assert_eq!(
            open(Tree::Lives, b"web/1", &framed),
            Ok(&b"{\"generation\":7}"[..])
        );
        for bit in 0..framed.len() * 8 {
            let mut bad = framed.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(open(Tree::Lives, b"web/1", &bad).is_err(), "bit {bit}");
        }
        for length in 0..framed.len() {
            assert!(
                open(Tree::Lives, b"web/1", &framed[..length]).is_err(),
                "length {length}"
            );
        }
    }

    #[test]
    fn a_record_does_not_open_in_another_ones_place() {
        let framed = seal(Tree::Lives, b"web/1", b"{}").unwrap();
        assert_eq!(
            open(Tree::Lives, b"web/2", &framed),
            Err(FrameError::Checksum)
        );
        assert_eq!(
            open(Tree::Desired, b"web/1", &framed),
            Err(FrameError::Checksum)
        );
    }

    #[test]
    fn content_above_the_limit_is_not_framed() {
        let most = vec![b'x'; CONTENT_BYTES_MAX];
        assert!(seal(Tree::History, b"a/1", &most).is_ok());
        let over = vec![b'x'; CONTENT_BYTES_MAX + 1];
        let refused = seal(Tree::History, b"a/1", &over);
        assert_eq!(refused, Err(FrameError::TooLarge(CONTENT_BYTES_MAX + 1)));
    }

    #[test]
    fn a_line_with_any_byte_changed_is_not_whole() {
        let line = seal_line("{\"a\": 1}");
        let line = line.trim_end();
        assert_eq!(open_line(line), Some("{\"a\": 1}"));
        for at in 0..line.len() {
            let mut bad = line.as_bytes().to_vec();
            bad[at] ^= 1;
            assert_eq!(
                open_line(std::str::from_utf8(&bad).unwrap()),
                None,
                "byte {at}"
            );
            assert_eq!(open_line(&line[..at]), None, "cut at {at}");
        }
    }

    /// The bytes of the document, so that a slip in the encoder shows.
    #[test]
    fn a_frame_is_laid_out_as_documented() {
        let framed = seal(Tree::Meta, b"state", b"hi").unwrap();
        assert_eq!(framed[..5], [1, 2, 0, 0, 0]);
        assert_eq!(framed[13..], *b"hi");
        let hash = blake3::hash(b"meta\0state\0\x01\x02\0\0\0hi");
        assert_eq!(framed[5..13], hash.as_bytes()[..8]);
    }
}
