//! Where the entries of an archive are made, and nowhere else.

use std::io::Read;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::rc::Rc;

use rustix::fs::{
    AtFlags, FileType, Gid, Mode, OFlags, Uid, chownat, linkat, makedev, mkdirat, mknodat,
    symlinkat, utimensat,
};
use rustix::io::Errno;

use crate::entry::{Entry, Kind};
use crate::error::{CopyError, Shown, Troubles};
use crate::file::{self, Rights, put};
use crate::reader::Reader;
use crate::resolve::{Side, open_beneath};

/// Most bytes that are kept of the directories of one archive, whose modes and times are set at
/// the end: some 400000 of them.
const MADE_BYTES_MAX: usize = 128 << 20;
/// How a directory is opened to make things in.
const PLACE: OFlags = OFlags::PATH.union(OFlags::DIRECTORY);

/// Beneath what the entries of an archive are made.
#[derive(Debug)]
pub(crate) struct Base {
    directory: OwnedFd,
    scope: Scope,
}

/// Which entries may come.
#[derive(Debug)]
enum Scope {
    /// Any.
    Whole,
    /// Those of one tree; the name that begins theirs goes. None: they have none.
    Tree(Option<Vec<u8>>),
    /// One, which gets this name.
    Single(Option<Vec<u8>>),
}

impl Base {
    /// Takes any archive.
    pub(crate) fn whole(directory: OwnedFd) -> Self {
        let scope = Scope::Whole;
        Self { directory, scope }
    }

    /// Takes what is below one name of an archive.
    pub(crate) fn of(directory: OwnedFd, top: Option<&[u8]>) -> Self {
        let scope = Scope::Tree(top.map(<[u8]>::to_vec));
        Self { directory, scope }
    }

    /// Takes one entry, under this name.
    pub(crate) fn single(directory: OwnedFd, name: &[u8]) -> Self {
        let scope = Scope::Single(Some(name.to_vec()));
        Self { directory, scope }
    }

    /// Returns the names that lead from here to what an archive names.
    fn names(&mut self, path: &[u8]) -> Result<Vec<Vec<u8>>, CopyError> {
        let foreign = || CopyError::Malformed("it is not of one file or directory");
        let names: Vec<Vec<u8>> = components(path)?.iter().map(|name| name.to_vec()).collect();
        match &mut self.scope {
            Scope::Whole | Scope::Tree(None) => Ok(names),
            Scope::Tree(Some(top)) => {
                let below = names.strip_prefix(std::slice::from_ref(top));
                below.map(<[Vec<u8>]>::to_vec).ok_or_else(foreign)
            }
            Scope::Single(name) => Ok(vec![name.take().ok_or_else(foreign)?]),
        }
    }
}

/// Makes entries.
#[derive(Debug)]
pub(crate) struct Place {
    side: Side,
    base: Base,
    /// Root gives owners away.
    keeps_owners: bool,
    /// The directory that something was made in last.
    last: Option<(Vec<u8>, Rc<OwnedFd>)>,
    made: Vec<Made>,
    made_bytes: usize,
    chunk: Vec<u8>,
}

/// A directory that was made, and gets the rest at the end.
#[derive(Debug)]
struct Made {
    path: Vec<u8>,
    entry: Entry,
}

/// Returns the names in a path of an archive, from its top.
///
/// # Errors
/// When one of them is `..`, or no name.
pub(crate) fn components(path: &[u8]) -> Result<Vec<&[u8]>, CopyError> {
    let all = path.split(|byte| *byte == b'/');
    let names = all.filter(|name| !matches!(*name, b"" | b"."));
    let names: Vec<&[u8]> = names.collect();
    if names.contains(&b"..".as_slice()) {
        return Err(CopyError::Outside(Shown::new(path)));
    }
    if path.contains(&0) {
        return Err(CopyError::Malformed("a name has a NUL in it"));
    }
    Ok(names)
}

impl Place {
    pub(crate) fn new(side: Side, base: Base) -> Self {
        Self {
            side,
            base,
            keeps_owners: rustix::process::geteuid().is_root(),
            last: None,
            made: Vec::new(),
            made_bytes: 0,
            chunk: vec![0; file::CHUNK_BYTES],
        }
    }

    /// Notes a directory that was made, to be finished. Its attributes, of which there may be
    /// many, are set at once.
    ///
    /// # Errors
    /// When there are too many directories (or `Unfit`: not all attributes were taken).
    pub(crate) fn is_made(&mut self, path: Vec<u8>, entry: &Entry) -> Result<(), CopyError> {
        let mut told = Ok(());
        if !entry.attributes.is_empty() {
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW;
            let made = open_beneath(&self.base.directory, &path, flags)
                .map_err(|errno| outside(errno, "enter the directory", &entry.path))?;
            told = file::give_attributes(made.as_fd(), entry, self.side);
        }
        self.made_bytes += 2 * path.len() + size_of::<Made>();
        if self.made_bytes > MADE_BYTES_MAX {
            return Err(CopyError::Malformed("it has too many directories"));
        }
        let entry = Entry {
            attributes: Vec::new(),
            ..entry.clone()
        };
        self.made.push(Made { path, entry });
        told
    }

    /// Makes an entry.
    ///
    /// # Errors
    /// When it leads out, when it may not be made here (`Unfit`), or the kernel refuses.
    pub(crate) fn make(
        &mut self,
        entry: &Entry,
        reader: &mut Reader<impl Read>,
    ) -> Result<(), CopyError> {
        let names = self.base.names(&entry.path)?;
        let Some((name, above)) = names.split_last() else {
            // Where we stand; it is there.
            return if entry.kind == Kind::Directory {
                Ok(())
            } else {
                Err(CopyError::Malformed("its top is no directory"))
            };
        };
        let parent = self.go_to(above, &entry.path)?;
        let parent = parent.as_fd();
        match entry.kind {
            Kind::Directory => self.directory(parent, &names, entry),
            Kind::File => {
                let owner = self.keeps_owners.then_some((entry.uid, entry.gid));
                let rights = Rights {
                    side: self.side,
                    owner,
                };
                file::make(parent, name, entry, rights, reader, &mut self.chunk)
            }
            Kind::Hard => self.link(parent, name, entry),
            Kind::Symlink => {
                let make = |name: &[u8]| symlinkat(entry.link.as_slice(), parent, name);
                put(parent, name, &entry.path, make)?;
                self.dress(parent, name, entry)
            }
            Kind::Fifo | Kind::Character | Kind::Block => {
                self.node(parent, name, entry)?;
                self.dress(parent, name, entry)
            }
        }
    }

    /// Opens the directory that something is to be made in, and makes what is missing on the
    /// way to it.
    fn go_to(&mut self, above: &[Vec<u8>], shown: &[u8]) -> Result<Rc<OwnedFd>, CopyError> {
        let path = above.join(&b'/');
        if let Some((last, directory)) = &self.last
            && *last == path
        {
            return Ok(Rc::clone(directory));
        }
        let refused = |errno| outside(errno, "go to the directory of", shown);
        let opened = match open_beneath(&self.base.directory, &path, PLACE) {
            Err(Errno::NOENT) => {
                let mut here = open_beneath(&self.base.directory, b"", PLACE).map_err(refused)?;
                for name in above {
                    match mkdirat(&here, name.as_slice(), Mode::from_raw_mode(0o755)) {
                        Ok(()) | Err(Errno::EXIST) => {}
                        Err(errno) => return Err(refused(errno)),
                    }
                    here = open_beneath(&here, name, PLACE).map_err(refused)?;
                }
                here
            }
            opened => opened.map_err(refused)?,
        };
        let opened = Rc::new(opened);
        self.last = Some((path, Rc::clone(&opened)));
        Ok(opened)
    }

    /// Makes a directory. One that is there, or that a link beneath leads to, stays as it is.
    fn directory(
        &mut self,
        parent: BorrowedFd<'_>,
        names: &[Vec<u8>],
        entry: &Entry,
    ) -> Result<(), CopyError> {
        let name = names.last().map(Vec::as_slice).unwrap_or_default();
        match mkdirat(parent, name, Mode::RWXU) {
            Ok(()) => {}
            Err(Errno::EXIST) => {
                let path = names.join(&b'/');
                return open_beneath(&self.base.directory, &path, PLACE)
                    .map(|_there| ())
                    .map_err(|errno| outside(errno, "make the directory", &entry.path));
            }
            Err(errno) => return Err(CopyError::at("make the directory", &entry.path)(errno)),
        }
        self.is_made(names.join(&b'/'), entry)
    }

    /// Gives a file of this archive another name.
    fn link(
        &mut self,
        parent: BorrowedFd<'_>,
        name: &[u8],
        entry: &Entry,
    ) -> Result<(), CopyError> {
        let target = self.base.names(&entry.link)?;
        let foreign = || CopyError::Malformed("a link to the top of the archive");
        let (target, above) = target.split_last().ok_or_else(foreign)?;
        let above = open_beneath(&self.base.directory, &above.join(&b'/'), PLACE)
            .map_err(|errno| outside(errno, "link to", &entry.link))?;
        let target = target.as_slice();
        let make = |name: &[u8]| linkat(&above, target, parent, name, AtFlags::empty());
        put(parent, name, &entry.path, make)
    }

    /// Makes a named pipe or a device.
    fn node(&self, parent: BorrowedFd<'_>, name: &[u8], entry: &Entry) -> Result<(), CopyError> {
        let (shape, device) = match entry.kind {
            Kind::Fifo => (FileType::Fifo, 0),
            _ if self.side == Side::Host => {
                return Err(CopyError::unfit(
                    &entry.path,
                    "is a device, and not made here",
                ));
            }
            Kind::Block => (
                FileType::BlockDevice,
                makedev(entry.device.0, entry.device.1),
            ),
            _ => {
                let device = makedev(entry.device.0, entry.device.1);
                (FileType::CharacterDevice, device)
            }
        };
        // With its mode from birth: set by its name later, it could be that of another.
        let mode = Mode::from_raw_mode(entry.mode & 0o777);
        let make = |name: &[u8]| mknodat(parent, name, shape, mode, device);
        match put(parent, name, &entry.path, make) {
            Err(CopyError::Act {
                errno: Errno::PERM, ..
            }) if entry.kind != Kind::Fifo => {
                let why = "is a device, which this container may not make";
                Err(CopyError::unfit(&entry.path, why))
            }
            told => told,
        }
    }

    /// Gives what is no file its owner and its time; a link is not followed.
    fn dress(&self, parent: BorrowedFd<'_>, name: &[u8], entry: &Entry) -> Result<(), CopyError> {
        let itself = AtFlags::SYMLINK_NOFOLLOW;
        if self.keeps_owners {
            let (uid, gid) = (Uid::from_raw(entry.uid), Gid::from_raw(entry.gid));
            chownat(parent, name, Some(uid), Some(gid), itself)
                .map_err(CopyError::at("give its owner to", &entry.path))?;
        }
        utimensat(parent, name, &file::times(entry), itself)
            .map_err(CopyError::at("set the time of", &entry.path))
    }

    /// Gives the directories that were made what would have been in the way before.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub(crate) fn finish(self, troubles: &mut Troubles) -> Result<(), CopyError> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW;
        for Made { path, entry } in self.made.iter().rev() {
            let directory = open_beneath(&self.base.directory, path, flags)
                .map_err(|errno| outside(errno, "enter the directory", &entry.path))?;
            let owner = self.keeps_owners.then_some((entry.uid, entry.gid));
            let rights = Rights {
                side: self.side,
                owner,
            };
            match file::dress(directory.as_fd(), entry, rights) {
                Err(err @ CopyError::Unfit { .. }) => troubles.note(&err),
                told => told?,
            }
        }
        Ok(())
    }
}

/// Says of a path that leads out of the base that it does.
fn outside(errno: Errno, act: &'static str, path: &[u8]) -> CopyError {
    match errno {
        Errno::XDEV | Errno::LOOP => CopyError::Outside(Shown::new(path)),
        errno => CopyError::at(act, path)(errno),
    }
}
