//! An archive on its way in.

use std::io::{self, Read};

use crate::block::{BLOCK, Block, field, number, padding};
use crate::entry::{Entry, Kind};
use crate::error::CopyError;
use crate::sparse::{MapReader, PARTS_MAX, Part, Sparse};

/// Most bytes of what goes before one header: names, attributes, numbers.
const RECORDS_BYTES_MAX: u64 = 1 << 20;

/// Reads entries one after another.
pub(crate) struct Reader<R> {
    from: R,
    /// Bytes of the entry's data that were not read yet.
    left: u64,
    /// Bytes behind them that fill a block up.
    padding: u64,
}

/// What was told of an entry before its header.
#[derive(Debug, Default)]
struct Told {
    path: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
    size: Option<u64>,
    uid: Option<u64>,
    gid: Option<u64>,
    mtime: Option<(i64, u32)>,
    attributes: Vec<(Vec<u8>, Vec<u8>)>,
    sparse_name: Option<Vec<u8>>,
    sparse_major: Option<Vec<u8>>,
    sparse_size: Option<u64>,
    is_older_sparse: bool,
}

impl<R: Read> Reader<R> {
    pub(crate) fn new(from: R) -> Self {
        Self {
            from,
            left: 0,
            padding: 0,
        }
    }

    /// Returns the next entry; none at the end of the archive.
    pub(crate) fn next(&mut self) -> Result<Option<Entry>, CopyError> {
        self.skip()?;
        let mut told = Told::default();
        loop {
            let block = self.block()?;
            if block.0.iter().all(|byte| *byte == 0) {
                return Ok(None);
            }
            block.check()?;
            let size = number(block.get(field::SIZE));
            let size = size.ok_or(CopyError::Malformed("a size is no number"))?;
            match block.get(field::KIND) {
                b"x" => told.records(&self.whole(size)?)?,
                b"g" => {
                    // Of the archive as a whole; nothing that we keep.
                    self.whole(size)?;
                }
                b"L" => told.path = Some(until_nul(self.whole(size)?)),
                b"K" => told.link = Some(until_nul(self.whole(size)?)),
                [letter] => {
                    let Some(kind) = Kind::of(*letter) else {
                        return Err(CopyError::Malformed("it has an entry of an unknown kind"));
                    };
                    return self.entry(&block, kind, told).map(Some);
                }
                _ => return Err(CopyError::Malformed("a header is too short")),
            }
        }
    }

    fn entry(&mut self, block: &Block, kind: Kind, told: Told) -> Result<Entry, CopyError> {
        let is_old_sparse = block.get(field::KIND) == b"S";
        let size = told.size.or_else(|| number(block.get(field::SIZE)));
        let size = size.ok_or(CopyError::Malformed("a size is no number"))?;
        // Links and the like may tell a size, and have no data.
        self.left = if kind == Kind::File { size } else { 0 };
        self.padding = padding(self.left);
        let prefix = if block.text(field::MAGIC) == b"ustar" {
            block.text(field::PREFIX)
        } else {
            b""
        };
        let short = [prefix, block.text(field::NAME)];
        let short = short.into_iter().filter(|part| !part.is_empty());
        let short: Vec<&[u8]> = short.collect();
        let path = told.path.unwrap_or_else(|| short.join(&b'/'));
        let kind = if kind == Kind::File && path.ends_with(b"/") {
            Kind::Directory
        } else {
            kind
        };
        let id = |told: Option<u64>, field| {
            let id = told.or_else(|| number(block.get(field)));
            let id = id.and_then(|id| u32::try_from(id).ok());
            // The last one means nobody (`chown(2)`).
            let id = id.filter(|id| *id != u32::MAX);
            id.ok_or(CopyError::Malformed(
                "an owner is no number that can be one",
            ))
        };
        let small = |field| number(block.get(field)).and_then(|number| u32::try_from(number).ok());
        let seconds = number(block.get(field::MTIME)).and_then(|time| i64::try_from(time).ok());
        let mut entry = Entry {
            path: told.sparse_name.unwrap_or(path),
            kind,
            link: told
                .link
                .unwrap_or_else(|| block.text(field::LINK).to_vec()),
            mode: small(field::MODE).unwrap_or(0) & 0o7777,
            uid: id(told.uid, field::UID)?,
            gid: id(told.gid, field::GID)?,
            size,
            mtime: told.mtime.unwrap_or((seconds.unwrap_or(0), 0)),
            device: (
                small(field::MAJOR).unwrap_or(0),
                small(field::MINOR).unwrap_or(0),
            ),
            attributes: told.attributes,
            sparse: None,
        };
        if told.is_older_sparse || told.sparse_major.is_some_and(|major| major != b"1") {
            return Err(CopyError::Malformed(
                "a file has holes in a form that is not known",
            ));
        }
        let parts = match told.sparse_size {
            Some(whole) => Some((whole, self.map()?)),
            None if is_old_sparse => Some(self.old_map(block)?),
            None => None,
        };
        if let Some((size, parts)) = parts {
            entry.sparse = Some(Sparse { size, parts }.checked(self.left)?);
        }
        entry.size = self.left;
        Ok(entry)
    }

    /// Reads the map that stands before the data (GNU sparse 1.0).
    fn map(&mut self) -> Result<Vec<Part>, CopyError> {
        let mut reader = MapReader::default();
        loop {
            if self.left < BLOCK as u64 {
                return Err(CopyError::Malformed("a map of holes is cut"));
            }
            let block = self.block()?;
            self.left -= BLOCK as u64;
            if let Some(parts) = reader.take(&block.0)? {
                return Ok(parts);
            }
        }
    }

    /// Reads the map of an entry of the kind `S`: four parts in its header, and more in blocks
    /// behind it.
    fn old_map(&mut self, header: &Block) -> Result<(u64, Vec<Part>), CopyError> {
        let wrong = || CopyError::Malformed("a map of holes is wrong");
        let size = number(header.get((483, 12))).ok_or_else(wrong)?;
        let mut parts = Vec::new();
        let mut block = header.clone();
        let (mut from, mut count, mut more) = (386, 4, 482);
        loop {
            for place in 0..count {
                let field = |at: usize| number(block.get((from + 24 * place + at, 12)));
                let (offset, length) = (field(0), field(12));
                let (offset, length) = offset.zip(length).ok_or_else(wrong)?;
                if (offset, length) != (0, 0) {
                    parts.push(Part { offset, length });
                }
            }
            if block.get((more, 1)) == [0] {
                return Ok((size, parts));
            }
            if parts.len() > PARTS_MAX {
                return Err(CopyError::Malformed("a file has too many holes"));
            }
            block = self.block()?;
            (from, count, more) = (0, 21, 504);
        }
    }

    /// Reads of the entry's data.
    pub(crate) fn data(&mut self, room: &mut [u8]) -> Result<usize, CopyError> {
        let most = usize::try_from(self.left).unwrap_or(usize::MAX);
        let most = most.min(room.len());
        let room = room.get_mut(..most).unwrap_or_default();
        if room.is_empty() {
            return Ok(0);
        }
        loop {
            match self.from.read(room) {
                Ok(0) => return Err(CopyError::Cut),
                Ok(count) => {
                    self.left -= count as u64;
                    return Ok(count);
                }
                Err(err) if err.kind() == io::ErrorKind::Interrupted => {}
                Err(err) => return Err(CopyError::Input(err)),
            }
        }
    }

    /// Passes over the rest of the entry.
    fn skip(&mut self) -> Result<(), CopyError> {
        self.left += std::mem::take(&mut self.padding);
        let mut room = [0; 16 * BLOCK];
        while self.data(&mut room)? > 0 {}
        Ok(())
    }

    /// Takes what comes behind the end, which writers fill up with zeros.
    pub(crate) fn drain(&mut self) -> Result<(), CopyError> {
        io::copy(&mut self.from, &mut io::sink())
            .map(|_| ())
            .map_err(CopyError::Input)
    }

    fn whole(&mut self, size: u64) -> Result<Vec<u8>, CopyError> {
        if size > RECORDS_BYTES_MAX {
            return Err(CopyError::Malformed("a header is longer than 1 MiB"));
        }
        let mut bytes = Vec::new();
        let filled = size + padding(size);
        let mut from = (&mut self.from).take(filled);
        from.read_to_end(&mut bytes).map_err(CopyError::Input)?;
        if bytes.len() as u64 != filled {
            return Err(CopyError::Cut);
        }
        bytes.truncate(usize::try_from(size).unwrap_or(0));
        Ok(bytes)
    }

    fn block(&mut self) -> Result<Block, CopyError> {
        let mut block = Block([0; BLOCK]);
        match self.from.read_exact(&mut block.0) {
            Ok(()) => Ok(block),
            Err(err) if err.kind() == io::ErrorKind::UnexpectedEof => Err(CopyError::Cut),
            Err(err) => Err(CopyError::Input(err)),
        }
    }
}

impl Told {
    /// Takes records of `pax(1)`: `LENGTH KEY=VALUE\n` each.
    fn records(&mut self, mut bytes: &[u8]) -> Result<(), CopyError> {
        let wrong = || CopyError::Malformed("a record is wrong");
        while !bytes.is_empty() {
            let space = bytes.iter().position(|byte| *byte == b' ');
            let (length, _) = bytes
                .split_at_checked(space.ok_or_else(wrong)?)
                .ok_or_else(wrong)?;
            let digits = length.len();
            let length = decimal(length).ok_or_else(wrong)?;
            let length = usize::try_from(length).map_err(|_| wrong())?;
            let (record, rest) = bytes.split_at_checked(length).ok_or_else(wrong)?;
            bytes = rest;
            let record = record
                .get(digits + 1..)
                .and_then(|all| all.strip_suffix(b"\n"));
            let record = record.ok_or_else(wrong)?;
            let equals = record
                .iter()
                .position(|byte| *byte == b'=')
                .ok_or_else(wrong)?;
            let (key, value) = record.split_at(equals);
            self.record(key, value.get(1..).unwrap_or_default())?;
        }
        Ok(())
    }

    fn record(&mut self, key: &[u8], value: &[u8]) -> Result<(), CopyError> {
        let wrong = || CopyError::Malformed("a number in a record is wrong");
        let number = || decimal(value).map(Some).ok_or_else(wrong);
        match key {
            b"path" => self.path = Some(value.to_vec()),
            b"linkpath" => self.link = Some(value.to_vec()),
            b"size" => self.size = number()?,
            b"uid" => self.uid = number()?,
            b"gid" => self.gid = number()?,
            b"mtime" => self.mtime = Some(time(value).ok_or_else(wrong)?),
            b"GNU.sparse.major" => self.sparse_major = Some(value.to_vec()),
            b"GNU.sparse.name" => self.sparse_name = Some(value.to_vec()),
            b"GNU.sparse.realsize" => self.sparse_size = number()?,
            b"GNU.sparse.map" | b"GNU.sparse.offset" => self.is_older_sparse = true,
            key => {
                if let Some(name) = key.strip_prefix(b"SCHILY.xattr.") {
                    self.attributes.push((name.to_vec(), value.to_vec()));
                }
            }
        }
        Ok(())
    }
}

fn decimal(text: &[u8]) -> Option<u64> {
    let is_number = !text.is_empty() && text.iter().all(u8::is_ascii_digit);
    std::str::from_utf8(text)
        .ok()
        .filter(|_| is_number)?
        .parse()
        .ok()
}

/// Reads decimal seconds, of which more than nanoseconds are cut off.
fn time(text: &[u8]) -> Option<(i64, u32)> {
    let (text, is_before) = match text.strip_prefix(b"-") {
        Some(rest) => (rest, true),
        None => (text, false),
    };
    let mut halves = text.splitn(2, |byte| *byte == b'.');
    let seconds = i64::try_from(decimal(halves.next()?)?).ok()?;
    let mut nanoseconds = 0;
    let fraction = halves.next().unwrap_or_default();
    for place in 0..9 {
        let digit = fraction.get(place).copied().unwrap_or(b'0');
        nanoseconds = nanoseconds * 10 + u32::from(digit.is_ascii_digit().then(|| digit - b'0')?);
    }
    Some(match (is_before, nanoseconds) {
        (false, _) => (seconds, nanoseconds),
        (true, 0) => (-seconds, 0),
        (true, _) => (-seconds - 1, 1_000_000_000 - nanoseconds),
    })
}

fn until_nul(mut bytes: Vec<u8>) -> Vec<u8> {
    let end = bytes.iter().position(|byte| *byte == 0);
    bytes.truncate(end.unwrap_or(bytes.len()));
    bytes
}
