//! Headers of 512 bytes: ustar and what GNU made of it (`tar(5)`).

use crate::error::CopyError;

/// Bytes of a header, and what data is filled up to.
pub(crate) const BLOCK: usize = 512;
/// Largest number that eleven octal digits hold.
pub(crate) const OCTAL_11: u64 = 0o777_7777_7777;
/// Largest number that seven octal digits hold.
pub(crate) const OCTAL_7: u64 = 0o777_7777;

/// Where the fields stand: first byte and length.
pub(crate) mod field {
    type Field = (usize, usize);
    pub(crate) const NAME: Field = (0, 100);
    pub(crate) const MODE: Field = (100, 8);
    pub(crate) const UID: Field = (108, 8);
    pub(crate) const GID: Field = (116, 8);
    pub(crate) const SIZE: Field = (124, 12);
    pub(crate) const MTIME: Field = (136, 12);
    pub(crate) const SUM: Field = (148, 8);
    pub(crate) const KIND: Field = (156, 1);
    pub(crate) const LINK: Field = (157, 100);
    pub(crate) const MAGIC: Field = (257, 8);
    pub(crate) const MAJOR: Field = (329, 8);
    pub(crate) const MINOR: Field = (337, 8);
    pub(crate) const PREFIX: Field = (345, 155);
}

/// One header.
#[derive(Clone)]
pub(crate) struct Block(pub(crate) [u8; BLOCK]);

impl Block {
    /// Returns an empty header of POSIX.
    pub(crate) fn new() -> Self {
        let mut block = Self([0; BLOCK]);
        block.put(field::MAGIC, b"ustar\x0000");
        block
    }

    /// Returns the bytes of a field.
    pub(crate) fn get(&self, (from, length): (usize, usize)) -> &[u8] {
        self.0.get(from..from + length).unwrap_or_default()
    }

    /// Returns the bytes of a field up to the first NUL.
    pub(crate) fn text(&self, field: (usize, usize)) -> &[u8] {
        let bytes = self.get(field);
        bytes.split(|byte| *byte == 0).next().unwrap_or_default()
    }

    /// Fills a field, as far as it goes.
    pub(crate) fn put(&mut self, (from, length): (usize, usize), bytes: &[u8]) {
        let place = self.0.get_mut(from..from + length).unwrap_or_default();
        for (to, from) in place.iter_mut().zip(bytes) {
            *to = *from;
        }
    }

    /// Fills a field with an octal number that fits it.
    pub(crate) fn put_number(&mut self, field: (usize, usize), number: u64) {
        let text = format!("{number:0width$o}", width = field.1 - 1);
        self.put(field, text.as_bytes());
    }

    /// Returns what the checksum has to be: of all bytes, its own taken as spaces.
    fn sum(&self) -> u64 {
        let all: u64 = self.0.iter().copied().map(u64::from).sum();
        let own: u64 = self.get(field::SUM).iter().copied().map(u64::from).sum();
        all - own + 8 * u64::from(b' ')
    }

    /// Fills the checksum in; nothing may change after it.
    pub(crate) fn seal(&mut self) {
        let text = format!("{:06o}\0 ", self.sum());
        self.put(field::SUM, text.as_bytes());
    }

    /// Checks the checksum.
    ///
    /// # Errors
    /// When it is wrong, or this is something else.
    pub(crate) fn check(&self) -> Result<(), CopyError> {
        if number(self.get(field::SUM)) == Some(self.sum()) {
            return Ok(());
        }
        let is = |magic: &[u8]| self.0.starts_with(magic);
        let is_compressed = is(&[0x1f, 0x8b]) || is(&[0x28, 0xb5, 0x2f, 0xfd]) || is(b"BZh");
        Err(CopyError::Malformed(if is_compressed || is(b"\xfd7zXZ") {
            "it is compressed"
        } else {
            "the checksum of a header is wrong"
        }))
    }
}

/// Reads a number: octal digits, or with the first bit set bytes of 256 (GNU). None if it is
/// neither, or negative.
pub(crate) fn number(field: &[u8]) -> Option<u64> {
    let (first, rest) = field.split_first()?;
    if first & 0x80 != 0 {
        let begin = u64::from(first & 0x7f);
        let add = |value: u64, byte: &u8| Some(value.checked_mul(256)? | u64::from(*byte));
        return rest.iter().try_fold(begin, add);
    }
    let is_digit = |byte: &&u8| !matches!(byte, b' ' | 0);
    let digits = field.iter().skip_while(|byte| **byte == b' ');
    digits.take_while(is_digit).try_fold(0, |value: u64, byte| {
        let digit = (b'0'..=b'7').contains(byte).then(|| byte - b'0')?;
        value.checked_mul(8)?.checked_add(u64::from(digit))
    })
}

/// Returns how many bytes fill this many up to a whole block.
pub(crate) fn padding(bytes: u64) -> u64 {
    bytes.next_multiple_of(BLOCK as u64) - bytes
}
