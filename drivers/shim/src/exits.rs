//! The file `exits`: see [`shim_proto::record`].

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{FallocateFlags, Mode, OFlags};
use rustix::io::{Errno, Result};
use shim_proto::init::PROCESSES_MAX;
use shim_proto::record::{self, Journal, Record, UNIT_BYTES, Unit};

/// The file grows by this, before it is needed.
const PAGE_BYTES: usize = 4096;
/// Most bytes the file can have.
const FILE_BYTES_MAX: usize = (2 + 2 * PROCESSES_MAX) * UNIT_BYTES;

/// The open file.
#[derive(Debug)]
pub(crate) struct Exits {
    file: OwnedFd,
    set_aside: usize,
}

impl Exits {
    /// Makes the file anew.
    pub(crate) fn create(directory: &Path) -> Result<Self> {
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::TRUNC;
        let mut exits = Self {
            file: open(directory, flags)?,
            set_aside: 0,
        };
        exits.set_aside(PAGE_BYTES)?;
        exits.write_unit(0, &record::header())?;
        exits.write_journal(&Journal::default())?;
        Ok(exits)
    }

    /// Opens the file of a life that goes on. Absent or of another form: an error.
    pub(crate) fn open(directory: &Path) -> Result<Self> {
        let file = open(directory, OFlags::RDWR)?;
        let length = usize::try_from(rustix::fs::fstat(&file)?.st_size).map_err(|_| Errno::FBIG)?;
        let exits = Self {
            file,
            set_aside: length,
        };
        let first = exits.read_unit(0)?;
        if record::is_header(&first) {
            Ok(exits)
        } else {
            Err(Errno::INVAL)
        }
    }

    /// Makes sure that no write to a place can fail for want of room.
    pub(crate) fn reserve(&mut self, slot: usize) -> Result<()> {
        let needed = (Record::unit_index(slot, 1) + 1) * UNIT_BYTES;
        self.set_aside(needed.next_multiple_of(PAGE_BYTES))
    }

    /// Writes a record into the half that its sequence number picks.
    pub(crate) fn write_record(&self, slot: usize, record: &Record) -> Result<()> {
        self.write_unit(Record::unit_index(slot, record.sequence), &record.encode())
    }

    /// Writes the journal of the log writer.
    pub(crate) fn write_journal(&self, journal: &Journal) -> Result<()> {
        self.write_unit(1, &journal.encode())
    }

    /// Returns the journal of the log writer; the plain one if there is none.
    pub(crate) fn read_journal(&self) -> Journal {
        self.read_unit(1)
            .ok()
            .and_then(|unit| Journal::decode(&unit))
            .unwrap_or_default()
    }

    /// Returns the newest record of each place.
    pub(crate) fn read_records(&self) -> Result<Vec<Option<Record>>> {
        let mut bytes = vec![0; FILE_BYTES_MAX];
        let mut length = 0;
        while let Some(room) = bytes.get_mut(length..).filter(|room| !room.is_empty()) {
            match rustix::io::pread(&self.file, room, length as u64) {
                Ok(0) => break,
                Ok(count) => length += count,
                Err(Errno::INTR) => {}
                Err(error) => return Err(error),
            }
        }
        bytes.truncate(length);
        Ok(record::read(&bytes))
    }

    /// Returns the highest sequence number that a place has seen.
    pub(crate) fn last_sequence(&self, slot: usize) -> u64 {
        let halves = [0, 1].map(|half| self.read_unit(Record::unit_index(slot, half)));
        let sequence = |unit: Result<Unit>| Record::decode(&unit.ok()?).map(|r| r.sequence);
        halves.into_iter().filter_map(sequence).max().unwrap_or(0)
    }

    /// Returns whether a place is free.
    pub(crate) fn is_free(&self, slot: u32) -> Result<bool> {
        let records = self.read_records()?;
        let index = usize::try_from(slot).unwrap_or(usize::MAX);
        Ok(records.get(index).is_none_or(Option::is_none))
    }

    fn set_aside(&mut self, bytes: usize) -> Result<()> {
        if bytes > self.set_aside {
            rustix::fs::fallocate(&self.file, FallocateFlags::empty(), 0, bytes as u64)?;
            self.set_aside = bytes;
        }
        Ok(())
    }

    fn read_unit(&self, index: usize) -> Result<Unit> {
        let mut unit = [0; UNIT_BYTES];
        rustix::io::pread(&self.file, &mut unit, (index * UNIT_BYTES) as u64)?;
        Ok(unit)
    }

    fn write_unit(&self, index: usize, unit: &Unit) -> Result<()> {
        loop {
            match rustix::io::pwrite(&self.file, unit, (index * UNIT_BYTES) as u64) {
                Ok(UNIT_BYTES) => return Ok(()),
                Ok(_) => return Err(Errno::NOSPC),
                Err(Errno::INTR) => {}
                Err(error) => return Err(error),
            }
        }
    }
}

impl AsFd for Exits {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

fn open(directory: &Path, flags: OFlags) -> Result<OwnedFd> {
    let mode = Mode::RUSR | Mode::WUSR;
    rustix::fs::open(
        directory.join("exits"),
        flags | OFlags::CLOEXEC | OFlags::NOFOLLOW,
        mode,
    )
}
