//! A tree of files becomes an archive.

use std::collections::HashMap;
use std::ffi::CStr;
use std::io::Write;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{
    AtFlags, Dir, FileType, Mode, OFlags, Statx, StatxFlags, fstatfs, openat, readlinkat, statx,
};
use rustix::io::{Errno, pread};

use crate::attributes::attributes;
use crate::entry::{Entry, Kind};
use crate::error::{CopyError, Troubles};
use crate::resolve::{Side, Split};
use crate::sparse::{Part, Sparse};
use crate::write::Writer;

/// Deepest directory in a tree: each one on the way is held open.
const DEPTH_MAX: usize = 512;
/// Most files with several names that are told apart; of those beyond, each name is a copy.
const LINKED_MAX: usize = 1 << 17;
/// A file of at most so many bytes is read before its header is written. Files of the kernel
/// say 0 bytes or 4096, and have others.
const SMALL_BYTES: usize = 64 << 10;
/// File systems that show the kernel and hold nothing (`linux/magic.h`): proc, sysfs, cgroup,
/// cgroup2, devpts, debugfs, tracefs, securityfs, bpf.
const KERNELS_OWN: [u64; 9] = [
    0x9fa0,
    0x6265_6572,
    0x0027_e0eb,
    0x6367_7270,
    0x1cd1,
    0x6462_6720,
    0x7472_6163,
    0x7363_6673,
    0xcafe_4a11,
];

/// What is to be copied: found, and not yet read.
#[derive(Debug)]
pub struct Source {
    start: Start,
    /// The name it has in the archive.
    name: Vec<u8>,
    path: Vec<u8>,
}

/// Where a copy begins.
#[derive(Debug)]
enum Start {
    /// At a name in a directory.
    Named(OwnedFd, Vec<u8>),
    /// At a directory.
    Directory(OwnedFd),
    /// At a file that a link leads to.
    File(OwnedFd),
}

impl Source {
    /// Finds what is to be copied. A path that ends in `/.` stands for what is in a directory;
    /// with `follow`, or a `/` at its end, a link stands for what it leads to.
    ///
    /// # Errors
    /// When it is not there or cannot be reached.
    pub fn find(side: Side, path: &[u8], follow: bool) -> Result<Self, CopyError> {
        let split = Split::new(path);
        let name = split.name.unwrap_or(b".").to_vec();
        let refused = |errno| match errno {
            Errno::NOENT => CopyError::Missing(crate::error::Shown::new(path)),
            errno => CopyError::at("open", path)(errno),
        };
        let directory = OFlags::RDONLY | OFlags::DIRECTORY;
        let start = match split.name {
            Some(last) if !follow && !split.must_be_directory => {
                let flags = OFlags::PATH | OFlags::DIRECTORY;
                let parent = side.open(split.parent, flags).map_err(refused)?;
                facts(parent.as_fd(), last).map_err(refused)?;
                Start::Named(parent, last.to_vec())
            }
            Some(_) if follow && !split.must_be_directory => {
                let found = side.open(path, OFlags::PATH).map_err(refused)?;
                let found = facts(found.as_fd(), b"").map_err(refused)?;
                match kind(&found) {
                    FileType::Directory => {
                        Start::Directory(side.open(path, directory).map_err(refused)?)
                    }
                    FileType::RegularFile => {
                        Start::File(side.open(path, READING).map_err(refused)?)
                    }
                    _ => return Err(CopyError::unfit(path, "leads to no file and no directory")),
                }
            }
            _ => Start::Directory(side.open(path, directory).map_err(refused)?),
        };
        Ok(Self {
            start,
            name,
            path: path.to_vec(),
        })
    }

    /// Writes it as an archive.
    ///
    /// # Errors
    /// When nobody takes it, when it cannot be begun, and at the end when some of it could not
    /// be read; what could be was written then.
    pub fn pack(self, to: impl Write) -> Result<(), CopyError> {
        let mut packer = Packer {
            writer: Writer::new(to),
            linked: HashMap::new(),
            troubles: Troubles::default(),
            path: self.name,
        };
        match self.start {
            Start::Named(parent, name) => packer.named(parent.as_fd(), &name, 0, 0),
            Start::Directory(directory) => facts(directory.as_fd(), b"")
                .map_err(CopyError::at("read", &self.path))
                .and_then(|found| packer.directory(directory, &found, 0)),
            Start::File(file) => facts(file.as_fd(), b"")
                .map_err(CopyError::at("read", &self.path))
                .and_then(|found| packer.file(file.as_fd(), &found)),
        }?;
        packer.writer.finish()?;
        packer.troubles.into_result()
    }
}

/// How a file is opened that may turn out to be something else: without waiting for anybody.
const READING: OFlags = OFlags::RDONLY
    .union(OFlags::NONBLOCK)
    .union(OFlags::NOCTTY)
    .union(OFlags::CLOEXEC);

struct Packer<W> {
    writer: Writer<W>,
    /// Names of files that have several.
    linked: HashMap<(u32, u32, u64), Vec<u8>>,
    troubles: Troubles,
    /// Where we are, from the top of the archive.
    path: Vec<u8>,
}

impl<W: Write> Packer<W> {
    /// Packs what has a name in a directory. Where the copy began everything is fatal; below,
    /// only that nobody takes the archive.
    fn named(
        &mut self,
        parent: BorrowedFd<'_>,
        name: &[u8],
        depth: usize,
        device: u64,
    ) -> Result<(), CopyError> {
        match self.try_named(parent, name, depth, device) {
            Err(err @ CopyError::Output(_)) => Err(err),
            Err(err) if depth > 0 => {
                self.troubles.note(&err);
                Ok(())
            }
            told => told,
        }
    }

    fn try_named(
        &mut self,
        parent: BorrowedFd<'_>,
        name: &[u8],
        depth: usize,
        device: u64,
    ) -> Result<(), CopyError> {
        let found = match facts(parent, name) {
            Ok(found) => found,
            // Gone since its directory was read: it is not there.
            Err(Errno::NOENT) if depth > 0 => return Ok(()),
            Err(errno) => return Err(CopyError::at("read", &self.path)(errno)),
        };
        let shape = match kind(&found) {
            FileType::Directory => {
                return self.enter(parent, name, &found, depth, device);
            }
            FileType::RegularFile => {
                let flags = READING | OFlags::NOFOLLOW;
                let file = openat(parent, name, flags, Mode::empty())
                    .map_err(CopyError::at("open", &self.path))?;
                let found = facts(file.as_fd(), b"").map_err(CopyError::at("read", &self.path))?;
                if kind(&found) != FileType::RegularFile {
                    return Err(CopyError::unfit(&self.path, "changed while it was read"));
                }
                return self.file(file.as_fd(), &found);
            }
            FileType::Symlink => Kind::Symlink,
            FileType::CharacterDevice => Kind::Character,
            FileType::BlockDevice => Kind::Block,
            FileType::Fifo => Kind::Fifo,
            // What it leads to is a program that listens, and cannot be copied.
            FileType::Socket | FileType::Unknown => return Ok(()),
        };
        let mut entry = self.entry(&found, shape);
        if shape == Kind::Symlink {
            let target = readlinkat(parent, name, Vec::new());
            entry.link = target
                .map_err(CopyError::at("read", &self.path))?
                .into_bytes();
        } else {
            entry.device = (found.stx_rdev_major, found.stx_rdev_minor);
        }
        if let Some(first) = self.other_name(&found) {
            entry.kind = Kind::Hard;
            entry.link = first;
        }
        self.writer.entry(&entry, &[])
    }

    fn enter(
        &mut self,
        parent: BorrowedFd<'_>,
        name: &[u8],
        found: &Statx,
        depth: usize,
        device: u64,
    ) -> Result<(), CopyError> {
        if depth >= DEPTH_MAX {
            return Err(CopyError::unfit(
                &self.path,
                "lies deeper than 512 directories",
            ));
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let directory = openat(parent, name, flags, Mode::empty())
            .map_err(CopyError::at("open", &self.path))?;
        let is_other = depth > 0 && device_of(found) != device;
        if is_other && is_kernels_own(directory.as_fd()) {
            let entry = self.entry(found, Kind::Directory);
            return self.writer.entry(&entry, &[]);
        }
        self.directory(directory, found, depth)
    }

    /// Packs a directory and all that is in it.
    fn directory(
        &mut self,
        directory: OwnedFd,
        found: &Statx,
        depth: usize,
    ) -> Result<(), CopyError> {
        let mut entry = self.entry(found, Kind::Directory);
        entry.path.push(b'/');
        entry.attributes = attributes(directory.as_fd());
        self.writer.entry(&entry, &[])?;
        let listing = Dir::read_from(&directory).map_err(CopyError::at("list", &self.path))?;
        let length = self.path.len();
        for listed in listing {
            let listed = match listed {
                Ok(listed) => listed,
                Err(errno) => {
                    self.troubles
                        .note(&CopyError::at("list", &self.path)(errno));
                    break;
                }
            };
            let name: &CStr = listed.file_name();
            if matches!(name.to_bytes(), b"." | b"..") {
                continue;
            }
            self.path.push(b'/');
            self.path.extend_from_slice(name.to_bytes());
            let device = device_of(found);
            let told = self.named(directory.as_fd(), name.to_bytes(), depth + 1, device);
            self.path.truncate(length);
            told?;
        }
        Ok(())
    }

    fn file(&mut self, file: BorrowedFd<'_>, found: &Statx) -> Result<(), CopyError> {
        let mut entry = self.entry(found, Kind::File);
        if let Some(first) = self.other_name(found) {
            entry.kind = Kind::Hard;
            entry.link = first;
            return self.writer.entry(&entry, &[]);
        }
        entry.attributes = attributes(file);
        let has_holes = found.stx_blocks.saturating_mul(512) < found.stx_size;
        if found.stx_size <= SMALL_BYTES as u64 && !(has_holes && found.stx_size > 4096) {
            let data = small(file).map_err(CopyError::at("read", &self.path))?;
            if let Some(data) = data {
                entry.size = data.len() as u64;
                return self.writer.entry(&entry, &data);
            }
            if found.stx_size == 0 {
                let why = "does not tell its size, and is larger than 64 KiB";
                return Err(CopyError::unfit(&self.path, why));
            }
        }
        let whole = [Part {
            offset: 0,
            length: found.stx_size,
        }];
        entry.size = found.stx_size;
        if has_holes {
            entry.sparse = Sparse::find(file, found.stx_size)
                .map_err(CopyError::at("look for holes in", &self.path))?;
        }
        if let Some(sparse) = &entry.sparse {
            entry.size = sparse.data_bytes();
        }
        let parts = entry
            .sparse
            .as_ref()
            .map_or(&whole[..], |sparse| &sparse.parts);
        match self.writer.file(&entry, file, parts)? {
            Ok(()) => Ok(()),
            Err(Errno::NODATA) => Err(CopyError::unfit(
                &self.path,
                "became shorter while it was read",
            )),
            Err(errno) => Err(CopyError::at("read", &self.path)(errno)),
        }
    }

    fn entry(&self, found: &Statx, kind: Kind) -> Entry {
        Entry {
            path: self.path.clone(),
            kind,
            link: Vec::new(),
            mode: u32::from(found.stx_mode) & 0o7777,
            uid: found.stx_uid,
            gid: found.stx_gid,
            size: 0,
            mtime: (found.stx_mtime.tv_sec, found.stx_mtime.tv_nsec),
            device: (0, 0),
            attributes: Vec::new(),
            sparse: None,
        }
    }

    /// Returns the name under which a file is in the archive already.
    fn other_name(&mut self, found: &Statx) -> Option<Vec<u8>> {
        if found.stx_nlink < 2 {
            return None;
        }
        let file = (found.stx_dev_major, found.stx_dev_minor, found.stx_ino);
        if let Some(first) = self.linked.get(&file) {
            return Some(first.clone());
        }
        if self.linked.len() < LINKED_MAX {
            self.linked.insert(file, self.path.clone());
        }
        None
    }
}

/// Reads a whole file, if it is a small one.
fn small(file: BorrowedFd<'_>) -> rustix::io::Result<Option<Vec<u8>>> {
    let mut bytes = vec![0; SMALL_BYTES + 1];
    let mut length = 0;
    while let Some(room) = bytes.get_mut(length..).filter(|room| !room.is_empty()) {
        match pread(file, room, length as u64) {
            Ok(0) => {
                bytes.truncate(length);
                return Ok(Some(bytes));
            }
            Ok(count) => length += count,
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(None)
}

/// Returns what is known of a name in a directory, or of the descriptor if there is none.
fn facts(at: BorrowedFd<'_>, name: &[u8]) -> rustix::io::Result<Statx> {
    let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::EMPTY_PATH | AtFlags::NO_AUTOMOUNT;
    statx(at, name, flags, StatxFlags::BASIC_STATS)
}

fn kind(found: &Statx) -> FileType {
    FileType::from_raw_mode(found.stx_mode.into())
}

fn device_of(found: &Statx) -> u64 {
    u64::from(found.stx_dev_major) << 32 | u64::from(found.stx_dev_minor)
}

fn is_kernels_own(directory: BorrowedFd<'_>) -> bool {
    let magic = fstatfs(directory).map(|facts| u64::try_from(facts.f_type).unwrap_or(0));
    magic.is_ok_and(|magic| KERNELS_OWN.contains(&magic))
}
