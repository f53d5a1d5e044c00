//! From a process' pipes to its log file, each byte once, whoever is killed when.
//!
//! ```text
//!  process pipe --splice--> holding pipe --tee--> scratch pipe --read--> lines --write--> log
//!                                \--splice--> /dev/null, once they are in the log
//! ```
//!
//! The init has both ends of the holding pipe too. What a shim took from a process and did
//! not finish is therefore still there for the next, and nobody adds to it meanwhile; the
//! [`Journal`] says how much of it the log has already.

mod file;
mod line;

use std::mem::take;
use std::os::fd::OwnedFd;
use std::path::PathBuf;

use rustix::buffer::spare_capacity;
use rustix::io::{Errno, Result};
use rustix::pipe::{PipeFlags, SpliceFlags, pipe_with, splice, tee};
use shim_proto::launch;
use shim_proto::record::{Journal, Phase};

use crate::exits::Exits;
use crate::init::Hold;
use crate::kernel;
pub(crate) use file::LogFile;

/// Bytes moved at once, the length of a pipe (`pipe(7)`).
pub(crate) const CHUNK_BYTES: usize = 64 << 10;
/// Buffers that grew beyond this are given back when there is nothing to do.
const KEEP_BYTES: usize = 4 << 10;

/// Moves output.
#[derive(Debug)]
pub(crate) struct Logs {
    directory: PathBuf,
    hold: Hold,
    scratch: Hold,
    void: OwnedFd,
    journal: Journal,
    /// The disk refused what is held.
    is_stuck: bool,
    /// What an earlier shim left in the holding pipe was dealt with.
    is_settled: bool,
    input: Vec<u8>,
    lines: Vec<u8>,
}

/// Whose output it is.
#[derive(Debug)]
pub(crate) struct Owner<'a> {
    /// Its place in the table.
    pub(crate) slot: u32,
    /// Its name.
    pub(crate) name: &'a str,
    /// What becomes of its output.
    pub(crate) logs: launch::Logs,
    /// Its file.
    pub(crate) file: &'a mut LogFile,
    /// Bytes dropped so far.
    pub(crate) dropped: &'a mut u64,
}

/// What came of moving output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Moved {
    /// That many bytes; there may be more.
    Some(usize),
    /// Nothing is there now.
    Nothing,
    /// No writer is left and the pipe is empty.
    End,
    /// The disk refuses; the process waits.
    Stuck,
}

impl Logs {
    /// Makes what moves output through a holding pipe.
    pub(crate) fn new(directory: PathBuf, hold: Hold, exits: &Exits) -> Result<Self> {
        let (reader, writer) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?;
        let flags = rustix::fs::OFlags::WRONLY | rustix::fs::OFlags::CLOEXEC;
        Ok(Self {
            directory,
            hold,
            scratch: Hold { reader, writer },
            void: rustix::fs::open("/dev/null", flags, rustix::fs::Mode::empty())?,
            journal: exits.read_journal(),
            is_stuck: false,
            is_settled: false,
            input: Vec::new(),
            lines: Vec::new(),
        })
    }

    /// Returns whose output is held and not in the log.
    pub(crate) fn holds_of(&self) -> Option<u32> {
        (self.held() > 0).then_some(self.journal.slot)
    }

    /// Returns whether output has to wait; it is worth trying to settle it later.
    pub(crate) fn is_stuck(&self) -> bool {
        self.is_stuck || !self.is_settled
    }

    /// Returns whether what an earlier shim left was dealt with.
    pub(crate) fn has_settled(&self) -> bool {
        self.is_settled
    }

    /// Notes that nothing of an earlier shim is left to be dealt with.
    pub(crate) fn settled(&mut self) {
        self.is_stuck = false;
        self.is_settled = true;
    }

    /// Moves at most [`CHUNK_BYTES`] of a pipe's output on.
    pub(crate) fn pump(
        &mut self,
        pipe: &OwnedFd,
        stream: u32,
        owner: Owner<'_>,
        exits: &Exits,
    ) -> Moved {
        if owner.logs.discard {
            return self.pour_away(pipe).0;
        }
        if !self.is_settled {
            return Moved::Stuck;
        }
        if self.held() > 0 {
            // Another process' disk trouble is this one's too: the same directory.
            if !owner.logs.drop {
                return Moved::Stuck;
            }
            let (moved, count) = self.pour_away(pipe);
            *owner.dropped += count as u64;
            return moved;
        }
        self.journal = Journal {
            slot: owner.slot,
            stream,
            ..Journal::default()
        };
        if exits.write_journal(&self.journal).is_err() {
            self.is_stuck = true;
            return Moved::Stuck;
        }
        match splice(pipe, None, &self.hold.writer, None, CHUNK_BYTES, flags()) {
            Ok(0) => Moved::End,
            Ok(count) => {
                self.settle(owner, exits);
                if self.is_stuck {
                    Moved::Stuck
                } else {
                    Moved::Some(count)
                }
            }
            Err(Errno::AGAIN | Errno::INTR) => Moved::Nothing,
            Err(_) => Moved::End,
        }
    }

    /// Writes what is held to its owner's log, or drops it, as the owner wants.
    pub(crate) fn settle(&mut self, mut owner: Owner<'_>, exits: &Exits) {
        self.settled();
        if self.finish_cut_short(&mut owner, exits).is_err() {
            self.is_stuck = true;
            return;
        }
        while self.held() > 0 {
            if let Err(_refused) = self.write_piece(&mut owner, exits) {
                owner.file.close();
                if !owner.logs.drop {
                    self.is_stuck = true;
                    return;
                }
                let held = self.held();
                *owner.dropped += held as u64;
                self.pour_out(held);
                self.journal.phase = Phase::Held;
            }
        }
        // Only in the phase `Held`, with nothing held, may the next output be taken.
        self.journal.phase = Phase::Held;
    }

    /// Throws away what is held of a process that is not in the table any more.
    pub(crate) fn disown(&mut self, exits: &Exits) {
        self.pour_out(self.held());
        self.journal = Journal::default();
        self.is_settled = true;
        self.is_stuck = exits.write_journal(&self.journal).is_err();
    }

    /// Gives memory back. Call it when there is nothing to do.
    pub(crate) fn rest(&mut self) {
        if self.input.capacity() > KEEP_BYTES || self.lines.capacity() > KEEP_BYTES {
            drop(take(&mut self.input));
            drop(take(&mut self.lines));
            kernel::trim_memory();
        }
    }

    /// Finishes the piece that a killed shim, or a full disk, cut short.
    fn finish_cut_short(&mut self, owner: &mut Owner<'_>, exits: &Exits) -> Result<()> {
        match self.journal.phase {
            Phase::Held => return Ok(()),
            Phase::Writing => {
                owner.file.open(&self.directory, owner.name)?;
                owner.file.cut(self.journal.log_bytes)?;
            }
            Phase::Written => {
                let taken = self.journal.held.saturating_sub(self.held() as u64);
                let left = self.journal.piece.saturating_sub(taken);
                self.pour_out(usize::try_from(left).unwrap_or(CHUNK_BYTES));
            }
        }
        self.journal.phase = Phase::Held;
        exits.write_journal(&self.journal)
    }

    fn write_piece(&mut self, owner: &mut Owner<'_>, exits: &Exits) -> Result<()> {
        let held = self.held();
        self.look(held)?;
        let stream = self.journal.stream;
        self.lines.clear();
        let piece = line::write_lines(stream, &line::now(), &self.input, &mut self.lines);
        let log_bytes = owner
            .file
            .make_ready(&self.directory, owner.name, owner.logs)?;
        self.journal = Journal {
            phase: Phase::Writing,
            held: held as u64,
            piece: piece as u64,
            log_bytes,
            ..self.journal
        };
        exits.write_journal(&self.journal)?;
        if let Err(refused) = owner.file.append(&self.lines) {
            // What got in comes out again, now or when the disk lets us.
            if owner.file.cut(log_bytes).is_ok() {
                self.journal.phase = Phase::Held;
                exits.write_journal(&self.journal)?;
            }
            return Err(refused);
        }
        self.journal.phase = Phase::Written;
        exits.write_journal(&self.journal)?;
        self.pour_out(piece);
        Ok(())
    }

    /// Fills the input with what is held, without taking it.
    fn look(&mut self, held: usize) -> Result<()> {
        self.input.clear();
        self.input.reserve(held);
        let seen = tee(&self.hold.reader, &self.scratch.writer, held, flags())?;
        while self.input.len() < seen {
            rustix::io::read(&self.scratch.reader, spare_capacity(&mut self.input))?;
        }
        Ok(())
    }

    fn held(&self) -> usize {
        let count = rustix::io::ioctl_fionread(&self.hold.reader).unwrap_or(0);
        usize::try_from(count).unwrap_or(0)
    }

    fn pour_out(&self, mut count: usize) {
        while count > 0 {
            match splice(&self.hold.reader, None, &self.void, None, count, flags()) {
                Ok(0) | Err(_) => return,
                Ok(moved) => count = count.saturating_sub(moved),
            }
        }
    }

    fn pour_away(&self, pipe: &OwnedFd) -> (Moved, usize) {
        match splice(pipe, None, &self.void, None, CHUNK_BYTES, flags()) {
            Ok(0) => (Moved::End, 0),
            Ok(count) => (Moved::Some(count), count),
            Err(Errno::AGAIN | Errno::INTR) => (Moved::Nothing, 0),
            Err(_) => (Moved::End, 0),
        }
    }
}

fn flags() -> SpliceFlags {
    SpliceFlags::NONBLOCK | SpliceFlags::MOVE
}

#[cfg(test)]
mod tests;
