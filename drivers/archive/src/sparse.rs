//! Files with holes: which parts of them are data.

use std::os::fd::BorrowedFd;

use rustix::fs::{SeekFrom, seek};
use rustix::io::{Errno, Result as SysResult};

use crate::block::BLOCK;
use crate::error::CopyError;

/// Most parts of one file: beyond that its holes are copied as zeros.
pub(crate) const PARTS_MAX: usize = 1 << 16;
/// Most bytes of a map in an archive: two numbers a part and their line ends.
const MAP_BYTES_MAX: usize = PARTS_MAX * 42;

/// A stretch of data in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Part {
    /// First byte.
    pub(crate) offset: u64,
    /// Bytes.
    pub(crate) length: u64,
}

/// A file with holes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Sparse {
    /// Bytes of the whole file.
    pub(crate) size: u64,
    /// Where it has data, in order.
    pub(crate) parts: Vec<Part>,
}

impl Sparse {
    /// Finds the holes of a file; none if there are none, or the file system tells none.
    pub(crate) fn find(file: BorrowedFd<'_>, size: u64) -> SysResult<Option<Self>> {
        let mut parts = Vec::new();
        let mut at = 0;
        while at < size {
            let offset = match seek(file, SeekFrom::Data(at)) {
                Ok(offset) => offset,
                // Nothing but a hole to its end.
                Err(Errno::NXIO) => break,
                Err(Errno::INVAL) => return Ok(None),
                Err(errno) => return Err(errno),
            };
            if offset >= size {
                break;
            }
            let end = seek(file, SeekFrom::Hole(offset))?.min(size);
            let end = if parts.len() + 1 == PARTS_MAX {
                size
            } else {
                end
            };
            parts.push(Part {
                offset,
                length: end.saturating_sub(offset),
            });
            at = end;
        }
        let is_whole = parts.first().is_some_and(|part| part.length == size);
        Ok((!is_whole).then_some(Self { size, parts }))
    }

    /// Returns the bytes of data.
    pub(crate) fn data_bytes(&self) -> u64 {
        self.parts.iter().map(|part| part.length).sum()
    }

    /// Returns the map as it stands before the data (GNU sparse 1.0).
    pub(crate) fn map(&self) -> Vec<u8> {
        // As GNU does it, a hole at the end is told by a part of no bytes.
        let ends = self
            .parts
            .last()
            .map_or(0, |part| part.offset + part.length);
        let end = (ends < self.size).then_some(Part {
            offset: self.size,
            length: 0,
        });
        let parts = self.parts.iter().copied().chain(end);
        let mut text = format!("{}\n", parts.clone().count());
        for part in parts {
            text.push_str(&format!("{}\n{}\n", part.offset, part.length));
        }
        let mut bytes = text.into_bytes();
        bytes.resize(bytes.len().next_multiple_of(BLOCK), 0);
        bytes
    }

    /// Checks that the parts are in order, inside of the file, and as many bytes as follow.
    ///
    /// # Errors
    /// When they are not.
    pub(crate) fn checked(self, data_bytes: u64) -> Result<Self, CopyError> {
        let wrong = || CopyError::Malformed("a map of holes is wrong");
        let mut at = 0;
        let mut sum: u64 = 0;
        for part in &self.parts {
            let end = part.offset.checked_add(part.length).ok_or_else(wrong)?;
            if part.offset < at || end > self.size {
                return Err(wrong());
            }
            at = end;
            sum = sum.checked_add(part.length).ok_or_else(wrong)?;
        }
        if sum == data_bytes {
            Ok(self)
        } else {
            Err(wrong())
        }
    }
}

/// Reads a map (GNU sparse 1.0) number by number, block by block.
#[derive(Debug, Default)]
pub(crate) struct MapReader {
    numbers: Vec<u64>,
    digits: String,
    bytes: usize,
}

impl MapReader {
    /// Takes the next block. Returns the parts once all are there.
    ///
    /// # Errors
    /// When it is no map, or one too long.
    pub(crate) fn take(&mut self, block: &[u8]) -> Result<Option<Vec<Part>>, CopyError> {
        let wrong = || CopyError::Malformed("a map of holes is wrong");
        self.bytes += block.len();
        if self.bytes > MAP_BYTES_MAX {
            return Err(wrong());
        }
        for byte in block {
            if *byte == b'\n' {
                self.numbers.push(self.digits.parse().map_err(|_| wrong())?);
                self.digits.clear();
                if self.is_whole()? {
                    let numbers = self.numbers.get(1..).unwrap_or_default();
                    let pairs = numbers.as_chunks().0.iter();
                    let part = |[offset, length]: &[u64; 2]| Part {
                        offset: *offset,
                        length: *length,
                    };
                    return Ok(Some(pairs.map(part).collect()));
                }
            } else {
                self.digits.push(char::from(*byte));
            }
        }
        Ok(None)
    }

    fn is_whole(&self) -> Result<bool, CopyError> {
        let count = self.numbers.first().copied().unwrap_or(0);
        let count = usize::try_from(count).unwrap_or(usize::MAX);
        if count > PARTS_MAX + 1 {
            return Err(CopyError::Malformed("a file has too many holes"));
        }
        Ok(self.numbers.len() == 1 + 2 * count)
    }
}
