//! An archive becomes a tree of files.

use std::io::Read;
use std::os::fd::OwnedFd;

use rustix::fs::{Mode, OFlags, mkdirat};
use rustix::io::Errno;

use crate::entry::{Entry, Kind};
use crate::error::{CopyError, Shown, Troubles};
use crate::place::{Base, Place, components};
use crate::reader::Reader;
use crate::resolve::{Side, Split, open_beneath};

/// How an archive lands where it is to go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Landing {
    /// As `cp -R` lands one file or directory: in a directory that is there, else under the
    /// new name.
    As,
    /// In a directory that is there, whatever the archive holds.
    Inside,
}

/// Where an archive is to go.
#[derive(Clone, Copy, Debug)]
pub struct Destination<'a> {
    /// On which side.
    pub side: Side,
    /// Where.
    pub path: &'a [u8],
    /// How it lands there.
    pub landing: Landing,
}

/// What was unpacked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Unpacked {
    /// Entries.
    pub entries: u64,
    /// Bytes of their data.
    pub bytes: u64,
}

impl Destination<'_> {
    /// Makes what an archive holds. Nothing is made before its first entry came, and nothing
    /// ever outside of where it goes.
    ///
    /// # Errors
    /// At the first thing that cannot be made, when the archive is cut or is none, and at the
    /// end when something was left out.
    pub fn unpack(&self, from: impl Read) -> Result<Unpacked, CopyError> {
        let mut reader = Reader::new(from);
        let mut told = Unpacked::default();
        let mut troubles = Troubles::default();
        let first = reader.next()?;
        let mut place = match (&first, self.landing) {
            (_, Landing::Inside) => Place::new(self.side, Base::whole(self.directory()?)),
            (Some(first), Landing::As) => self.land(first, &mut troubles)?,
            (None, Landing::As) => return Err(CopyError::Malformed("it holds nothing")),
        };
        let mut next = first;
        while let Some(entry) = next {
            told.entries += 1;
            told.bytes += entry.size;
            match place.make(&entry, &mut reader) {
                Err(err @ CopyError::Unfit { .. }) => troubles.note(&err),
                made => made?,
            }
            next = reader.next()?;
        }
        place.finish(&mut troubles)?;
        reader.drain()?;
        troubles.into_result().map(|()| told)
    }

    /// Decides by the first entry where an archive goes that is of one file or directory.
    fn land(&self, first: &Entry, troubles: &mut Troubles) -> Result<Place, CopyError> {
        let is_directory = first.kind == Kind::Directory;
        let names = components(&first.path)?;
        let top = match (names.as_slice(), is_directory) {
            ([], true) => None,
            ([top], _) => Some(*top),
            _ => return Err(CopyError::Malformed("it is not of one file or directory")),
        };
        let split = Split::new(self.path);
        let flags = OFlags::PATH | OFlags::DIRECTORY;
        let (directory, name) = match (self.side.open(self.path, flags), top, split.name) {
            // What is in a directory goes into a directory.
            (Ok(directory), None, _) => {
                return Ok(Place::new(self.side, Base::of(directory, None)));
            }
            (Ok(directory), Some(top), _) => (directory, top),
            (Err(Errno::NOENT), _, Some(name)) if is_directory || !split.must_be_directory => {
                (self.parent(&split)?, name)
            }
            (Err(Errno::NOTDIR), _, Some(name)) if !is_directory && !split.must_be_directory => {
                (self.parent(&split)?, name)
            }
            (Err(errno), ..) => return Err(self.refused(errno)),
        };
        if !is_directory {
            return Ok(Place::new(self.side, Base::single(directory, name)));
        }
        let is_new = match mkdirat(&directory, name, Mode::RWXU) {
            Ok(()) => true,
            Err(Errno::EXIST) => false,
            Err(errno) => return Err(CopyError::at("make the directory", self.path)(errno)),
        };
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW;
        let made = open_beneath(&directory, name, flags);
        let made = made.map_err(CopyError::at("enter the directory", name))?;
        let mut place = Place::new(self.side, Base::of(made, top));
        if is_new {
            match place.is_made(Vec::new(), first) {
                Err(err @ CopyError::Unfit { .. }) => troubles.note(&err),
                told => told?,
            }
        }
        Ok(place)
    }

    /// Opens where it goes, which has to be a directory.
    fn directory(&self) -> Result<OwnedFd, CopyError> {
        let flags = OFlags::PATH | OFlags::DIRECTORY;
        let opened = self.side.open(self.path, flags);
        opened.map_err(|errno| self.refused(errno))
    }

    /// Opens where its last name stands.
    fn parent(&self, split: &Split<'_>) -> Result<OwnedFd, CopyError> {
        let flags = OFlags::PATH | OFlags::DIRECTORY;
        let opened = self.side.open(split.parent, flags);
        opened.map_err(|errno| match errno {
            Errno::NOENT => CopyError::Missing(Shown::new(split.parent)),
            errno => CopyError::at("enter the directory", split.parent)(errno),
        })
    }

    fn refused(&self, errno: Errno) -> CopyError {
        match errno {
            Errno::NOENT => CopyError::Missing(Shown::new(self.path)),
            errno => CopyError::at("enter the directory", self.path)(errno),
        }
    }
}
