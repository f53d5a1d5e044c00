//! An archive on its way out.

use std::io::Write;
use std::os::fd::BorrowedFd;

use rustix::io::{Errno, pread};

use crate::block::{BLOCK, padding};
use crate::entry::Entry;
use crate::error::CopyError;
use crate::sparse::Part;

/// Bytes read of a file at once.
const CHUNK_BYTES: usize = 256 << 10;

/// Writes entries one after another.
pub(crate) struct Writer<W> {
    to: W,
    chunk: Vec<u8>,
}

impl<W: Write> Writer<W> {
    pub(crate) fn new(to: W) -> Self {
        Self {
            to,
            chunk: vec![0; CHUNK_BYTES],
        }
    }

    /// Writes an entry and the bytes that it says follow.
    pub(crate) fn entry(&mut self, entry: &Entry, data: &[u8]) -> Result<(), CopyError> {
        self.send(&entry.encode())?;
        self.send(data)?;
        self.pad(data.len() as u64)
    }

    /// Writes an entry and the parts of a file. Returns whether all of them were still there;
    /// what is not is zeros.
    pub(crate) fn file(
        &mut self,
        entry: &Entry,
        file: BorrowedFd<'_>,
        parts: &[Part],
    ) -> Result<Result<(), Errno>, CopyError> {
        self.send(&entry.encode())?;
        let mut told = Ok(());
        for part in parts {
            let mut at = part.offset;
            let end = part.offset + part.length;
            while at < end {
                let wanted = usize::try_from(end - at).unwrap_or(CHUNK_BYTES);
                let wanted = wanted.min(CHUNK_BYTES);
                let room = self.chunk.get_mut(..wanted).unwrap_or_default();
                let count = match pread(file, &mut *room, at) {
                    Ok(0) => {
                        told = told.and(Err(Errno::NODATA));
                        room.fill(0);
                        wanted
                    }
                    Ok(count) => count,
                    Err(Errno::INTR) => continue,
                    Err(errno) => {
                        told = told.and(Err(errno));
                        room.fill(0);
                        wanted
                    }
                };
                let bytes = self.chunk.get(..count).unwrap_or_default();
                self.to.write_all(bytes).map_err(CopyError::Output)?;
                at += count as u64;
            }
        }
        self.pad(entry.size)?;
        Ok(told)
    }

    /// Writes the end.
    pub(crate) fn finish(mut self) -> Result<(), CopyError> {
        self.send(&[0; 2 * BLOCK])?;
        self.to.flush().map_err(CopyError::Output)
    }

    fn pad(&mut self, bytes: u64) -> Result<(), CopyError> {
        let count = usize::try_from(padding(bytes)).unwrap_or(0);
        self.send([0; BLOCK].get(..count).unwrap_or_default())
    }

    fn send(&mut self, bytes: &[u8]) -> Result<(), CopyError> {
        self.to.write_all(bytes).map_err(CopyError::Output)
    }
}
