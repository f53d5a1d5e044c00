//! One entry of an archive, as a value, and its bytes.

use crate::block::{BLOCK, Block, OCTAL_7, OCTAL_11, field};
use crate::sparse::Sparse;

/// What an entry is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A regular file.
    File,
    /// Another name of a file earlier in the archive.
    Hard,
    /// A symbolic link.
    Symlink,
    /// A character device.
    Character,
    /// A block device.
    Block,
    /// A directory.
    Directory,
    /// A named pipe.
    Fifo,
}

impl Kind {
    /// Returns the letter that stands for it.
    fn letter(self) -> u8 {
        match self {
            Self::File => b'0',
            Self::Hard => b'1',
            Self::Symlink => b'2',
            Self::Character => b'3',
            Self::Block => b'4',
            Self::Directory => b'5',
            Self::Fifo => b'6',
        }
    }

    /// Returns what a letter stands for; none for what only some programs know.
    pub(crate) fn of(letter: u8) -> Option<Self> {
        Some(match letter {
            b'0' | b'7' | 0 | b'S' => Self::File,
            b'1' => Self::Hard,
            b'2' => Self::Symlink,
            b'3' => Self::Character,
            b'4' => Self::Block,
            b'5' => Self::Directory,
            b'6' => Self::Fifo,
            _ => return None,
        })
    }
}

/// One entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    /// Its name, from the top of the archive.
    pub(crate) path: Vec<u8>,
    /// What it is.
    pub(crate) kind: Kind,
    /// What a link leads to.
    pub(crate) link: Vec<u8>,
    /// Permission bits.
    pub(crate) mode: u32,
    /// Owner.
    pub(crate) uid: u32,
    /// Group.
    pub(crate) gid: u32,
    /// Bytes of data that follow, of a file with holes without them.
    pub(crate) size: u64,
    /// Seconds since 1970 and nanoseconds of its last change.
    pub(crate) mtime: (i64, u32),
    /// Major and minor number of a device.
    pub(crate) device: (u32, u32),
    /// Extended attributes.
    pub(crate) attributes: Vec<(Vec<u8>, Vec<u8>)>,
    /// Where a file has data, if it has holes.
    pub(crate) sparse: Option<Sparse>,
}

impl Entry {
    /// Returns its header as it stands in the archive, with all that goes before its data.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let map = self.sparse.as_ref().map(Sparse::map);
        let map_bytes = map.as_ref().map_or(0, Vec::len) as u64;
        let mut bytes = Vec::new();
        let records = self.records(self.size + map_bytes);
        if !records.is_empty() {
            let name = [b"PaxHeaders/".as_slice(), base(&self.path)].concat();
            let mut block = Block::new();
            block.put(field::NAME, first(&name, 99));
            block.put_number(field::MODE, 0o644);
            block.put_number(field::SIZE, records.len() as u64);
            for zero in [field::UID, field::GID, field::MTIME] {
                block.put_number(zero, 0);
            }
            block.put(field::KIND, b"x");
            block.seal();
            bytes.extend_from_slice(&block.0);
            bytes.extend_from_slice(&records);
            bytes.resize(bytes.len().next_multiple_of(BLOCK), 0);
        }
        bytes.extend_from_slice(&self.block(self.size + map_bytes).0);
        bytes.extend_from_slice(&map.unwrap_or_default());
        bytes
    }

    fn block(&self, size: u64) -> Block {
        let mut block = Block::new();
        let sparse_name;
        let path = if self.sparse.is_some() {
            sparse_name = [b"GNUSparseFile.0/".as_slice(), base(&self.path)].concat();
            &sparse_name
        } else {
            &self.path
        };
        block.put(field::NAME, first(path, field::NAME.1));
        block.put_number(field::MODE, u64::from(self.mode));
        block.put_number(field::UID, u64::from(self.uid).min(OCTAL_7));
        block.put_number(field::GID, u64::from(self.gid).min(OCTAL_7));
        block.put_number(field::SIZE, size.min(OCTAL_11));
        let seconds = u64::try_from(self.mtime.0).unwrap_or(0);
        block.put_number(field::MTIME, seconds.min(OCTAL_11));
        block.put(field::KIND, &[self.kind.letter()]);
        block.put(field::LINK, first(&self.link, field::LINK.1));
        block.put_number(field::MAJOR, u64::from(self.device.0).min(OCTAL_7));
        block.put_number(field::MINOR, u64::from(self.device.1).min(OCTAL_7));
        block.seal();
        block
    }

    /// Returns what does not fit a header of POSIX, as records of `pax(1)`.
    fn records(&self, size: u64) -> Vec<u8> {
        let mut all = Vec::new();
        let mut add = |key: &str, value: &[u8]| record(&mut all, key.as_bytes(), value);
        match &self.sparse {
            Some(sparse) => {
                add("GNU.sparse.major", b"1");
                add("GNU.sparse.minor", b"0");
                add("GNU.sparse.name", &self.path);
                add("GNU.sparse.realsize", sparse.size.to_string().as_bytes());
            }
            None if self.path.len() > field::NAME.1 => add("path", &self.path),
            None => {}
        }
        if self.link.len() > field::LINK.1 {
            add("linkpath", &self.link);
        }
        if size > OCTAL_11 {
            add("size", size.to_string().as_bytes());
        }
        for (key, id) in [("uid", self.uid), ("gid", self.gid)] {
            if u64::from(id) > OCTAL_7 {
                add(key, id.to_string().as_bytes());
            }
        }
        let (seconds, nanoseconds) = self.mtime;
        if nanoseconds != 0 || !u64::try_from(seconds).is_ok_and(|fits| fits <= OCTAL_11) {
            add("mtime", time(seconds, nanoseconds).as_bytes());
        }
        for (name, value) in &self.attributes {
            record(
                &mut all,
                &[b"SCHILY.xattr.", name.as_slice()].concat(),
                value,
            );
        }
        all
    }
}

/// Returns a time as decimal seconds; before 1970 the fraction counts the other way.
fn time(seconds: i64, nanoseconds: u32) -> String {
    if seconds < 0 && nanoseconds > 0 {
        let whole = (seconds + 1).unsigned_abs();
        return format!("-{whole}.{:09}", 1_000_000_000 - nanoseconds);
    }
    format!("{seconds}.{nanoseconds:09}")
}

/// Adds `LENGTH KEY=VALUE\n`, where the length counts itself.
fn record(all: &mut Vec<u8>, key: &[u8], value: &[u8]) {
    let rest = key.len() + value.len() + 3;
    let mut length = rest + 1;
    while length != rest + length.to_string().len() {
        length = rest + length.to_string().len();
    }
    all.extend_from_slice(format!("{length} ").as_bytes());
    all.extend_from_slice(key);
    all.push(b'=');
    all.extend_from_slice(value);
    all.push(b'\n');
}

fn first(bytes: &[u8], most: usize) -> &[u8] {
    bytes.get(..most).unwrap_or(bytes)
}

fn base(path: &[u8]) -> &[u8] {
    path.rsplit(|byte| *byte == b'/').next().unwrap_or(path)
}
