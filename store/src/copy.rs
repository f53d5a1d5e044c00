//! The second holding: a copy of all records now and then, and a tail of what came after.
//!
//! Lines and files: `docs/formats/store.md`.

use std::fs::{self, File};
use std::io::{self, BufWriter, Read, Seek, Write};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::disk;
use crate::engine::{Engine, EngineError, Op, Tree};
use crate::frame;
use crate::image::Image;
use crate::wire::{self, META_KEY, Meta, SCHEMA};

const COPY: &str = "copy-";
const TAIL: &str = "tail-";
/// Copies kept with their tails.
const KEPT: usize = 2;

/// Why a copy or a line of its tail was not written.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CopyError {
    #[error("writing {}", .0.display())]
    Write(PathBuf, #[source] io::Error),
    #[error("reading the records")]
    Read(#[from] EngineError),
    #[error("a record is damaged, and a copy has only good ones")]
    Record,
}

/// The newest copy, and its tail open for another line.
#[derive(Debug)]
pub(crate) struct Copy {
    tail: File,
    tail_path: PathBuf,
    copy_bytes: u64,
    tail_bytes: u64,
    commits: u64,
}

/// What copies and tails say, as of the newest line that can be believed.
#[derive(Debug)]
pub(crate) struct Recovered {
    pub(crate) meta: Meta,
    pub(crate) image: Image,
    /// The files as they can go on being written; none if some line was bad.
    pub(crate) copy: Option<Copy>,
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Record {
    t: String,
    k: String,
    v: Option<String>,
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct End {
    pub(crate) records: u64,
    pub(crate) hash: String,
}

#[derive(Debug, Serialize, Deserialize)]
struct Commit {
    meta: Meta,
    ops: Vec<Record>,
}

impl Copy {
    /// Writes a new copy of what the engine holds, and removes what it makes superfluous.
    pub(crate) fn write(
        directory: &Path,
        engine: &dyn Engine,
        meta: &Meta,
    ) -> Result<Self, CopyError> {
        let path = directory.join(format!("{COPY}{:020}", meta.revision));
        let tail_path = directory.join(format!("{TAIL}{:020}", meta.revision));
        let temporary = path.with_extension("tmp");
        let written = write_records(&temporary, engine, meta);
        let failed = |at: &Path| {
            let at = at.to_owned();
            move |source| CopyError::Write(at, source)
        };
        let copy_bytes = match written {
            Ok(bytes) => bytes,
            Err(error) => {
                // The cause is the error that is returned; this only gives the room back.
                drop(fs::remove_file(&temporary));
                return Err(error);
            }
        };
        // An older tail of this very revision belongs to a copy that is being replaced.
        let tail = disk::create(&tail_path).map_err(failed(&tail_path))?;
        tail.sync_all().map_err(failed(&tail_path))?;
        fs::rename(&temporary, &path).map_err(failed(&path))?;
        disk::sync_directory(directory).map_err(failed(directory))?;
        remove_old(directory).map_err(failed(directory))?;
        Ok(Self {
            tail,
            tail_path,
            copy_bytes,
            tail_bytes: 0,
            commits: 0,
        })
    }

    /// Appends one commit, durably.
    pub(crate) fn append(&mut self, meta: &Meta, batch: &[Op]) -> Result<(), CopyError> {
        let ops = batch
            .iter()
            .filter(|op| op.tree != Tree::Meta)
            .map(|op| record(op.tree, &op.key, op.value.as_deref()))
            .collect::<Result<_, _>>()?;
        let line = line(&Commit {
            meta: meta.clone(),
            ops,
        })?;
        self.tail
            .write_all(line.as_bytes())
            .and_then(|()| self.tail.sync_data())
            .map_err(|source| CopyError::Write(self.tail_path.clone(), source))?;
        self.tail_bytes = self.tail_bytes.saturating_add(bytes_of(line.len()));
        self.commits = self.commits.saturating_add(1);
        Ok(())
    }

    /// Returns whether a new copy would be the cheaper way on.
    pub(crate) fn is_due(&self, export_every: u64) -> bool {
        self.commits >= export_every && self.tail_bytes >= self.copy_bytes / 4
    }
}

fn bytes_of(length: usize) -> u64 {
    u64::try_from(length).unwrap_or(u64::MAX)
}

pub(crate) fn write_records(
    path: &Path,
    engine: &dyn Engine,
    meta: &Meta,
) -> Result<u64, CopyError> {
    let failed = |source| CopyError::Write(path.to_owned(), source);
    let mut out = BufWriter::new(disk::create(path).map_err(failed)?);
    let mut hasher = blake3::Hasher::new();
    let mut bytes: u64 = 0;
    let mut put = |text: &str| {
        hasher.update(text.as_bytes());
        bytes = bytes.saturating_add(bytes_of(text.len()));
        out.write_all(text.as_bytes()).map_err(failed)
    };
    put(&line(meta)?)?;
    let mut records: u64 = 0;
    for tree in Tree::ALL.into_iter().filter(|tree| *tree != Tree::Meta) {
        let mut outcome = Ok(());
        engine.scan(tree, b"", &mut |key, framed| {
            records += 1;
            outcome = record(tree, key, Some(framed))
                .and_then(|record| line(&record))
                .and_then(|line| put(&line));
            match outcome {
                Ok(()) => ControlFlow::Continue(()),
                Err(_) => ControlFlow::Break(()),
            }
        })?;
        outcome?;
    }
    let end = line(&End {
        records,
        hash: hasher.finalize().to_hex().to_string(),
    })?;
    out.write_all(end.as_bytes()).map_err(failed)?;
    let file = out
        .into_inner()
        .map_err(|error| failed(error.into_error()))?;
    file.sync_all().map_err(failed)?;
    Ok(bytes.saturating_add(bytes_of(end.len())))
}

fn record(tree: Tree, key: &[u8], framed: Option<&[u8]>) -> Result<Record, CopyError> {
    let text = |bytes: &[u8]| match std::str::from_utf8(bytes) {
        Ok(text) => Ok(text.to_owned()),
        Err(_) => Err(CopyError::Record),
    };
    let content = match framed {
        Some(framed) => {
            let content = frame::open(tree, key, framed).map_err(|_| CopyError::Record)?;
            Some(text(content)?)
        }
        None => None,
    };
    Ok(Record {
        t: tree.name().to_owned(),
        k: text(key)?,
        v: content,
    })
}

fn line(value: &impl Serialize) -> Result<String, CopyError> {
    match serde_json::to_string(value) {
        Ok(json) => Ok(frame::seal_line(&json)),
        Err(_) => Err(CopyError::Record),
    }
}

fn remove_old(directory: &Path) -> io::Result<()> {
    let names = disk::names(directory)?;
    let copies: Vec<&str> = names
        .iter()
        .filter_map(|name| revision_text(name, COPY))
        .collect();
    let Some(oldest_kept) = copies.len().checked_sub(KEPT).and_then(|at| copies.get(at)) else {
        return Ok(());
    };
    for name in &names {
        let revision = revision_text(name, COPY).or_else(|| revision_text(name, TAIL));
        if revision.is_some_and(|revision| revision < *oldest_kept) {
            disk::remove_if_there(&directory.join(name))?;
        }
    }
    Ok(())
}

fn revision_text<'a>(name: &'a str, prefix: &str) -> Option<&'a str> {
    name.strip_prefix(prefix)
        .filter(|rest| rest.len() == 20 && rest.bytes().all(|byte| byte.is_ascii_digit()))
}

/// Returns the newest image that copies and tails agree on, if there is any.
pub(crate) fn recover(directory: &Path) -> io::Result<Option<Recovered>> {
    let names = disk::names(directory)?;
    let mut copies: Vec<&str> = names
        .iter()
        .filter_map(|name| revision_text(name, COPY))
        .collect();
    let newest = copies.last().copied();
    while let Some(revision) = copies.pop() {
        let Some(bytes) = disk::read_if_there(&directory.join(format!("{COPY}{revision}")))? else {
            continue;
        };
        let Some((meta, image)) = parse_copy(&bytes) else {
            continue;
        };
        let mut found = Recovered {
            meta,
            image,
            copy: None,
        };
        // With the newest copy damaged, the tail before it leads up to its own tail.
        for tail in names.iter().filter_map(|name| revision_text(name, TAIL)) {
            if tail >= revision {
                let copy_bytes = bytes_of(bytes.len());
                let copy = follow(&mut found, directory, tail, copy_bytes)?;
                found.copy = copy.filter(|_| newest == Some(revision) && tail == revision);
            }
        }
        return Ok(Some(found));
    }
    Ok(None)
}

fn parse_copy(bytes: &[u8]) -> Option<(Meta, Image)> {
    let text = std::str::from_utf8(bytes).ok()?.strip_suffix('\n')?;
    let (body, last) = text.rsplit_once('\n')?;
    let end: End = serde_json::from_str(frame::open_line(last)?).ok()?;
    let hashed = bytes.get(..body.len().checked_add(1)?)?;
    if blake3::hash(hashed).to_hex().as_str() != end.hash {
        return None;
    }
    let mut lines = body.split('\n');
    let meta: Meta = serde_json::from_str(frame::open_line(lines.next()?)?).ok()?;
    if meta.schema != SCHEMA {
        return None;
    }
    let ops: Vec<Op> = lines
        .map(|line| op(serde_json::from_str(frame::open_line(line)?).ok()?))
        .collect::<Option<_>>()?;
    let mut image = Image::default();
    image.write(&ops);
    image.write(&[meta_op(&meta)?]);
    (bytes_of(ops.len()) == end.records && image.is(&meta)).then_some((meta, image))
}

pub(crate) fn op(record: Record) -> Option<Op> {
    let tree = Tree::named(&record.t)?;
    let key = record.k.into_bytes();
    let value = match record.v {
        Some(content) => Some(frame::seal(tree, &key, content.as_bytes()).ok()?),
        None => None,
    };
    Some(Op { tree, key, value })
}

/// Returns the write of the state record.
pub(crate) fn meta_op(meta: &Meta) -> Option<Op> {
    let content = wire::json(meta).ok()?;
    Some(Op {
        tree: Tree::Meta,
        key: META_KEY.to_vec(),
        value: Some(frame::seal(Tree::Meta, META_KEY, &content).ok()?),
    })
}

/// Applies the lines of one tail that follow on what was found. Returns the files for going
/// on, unless some bytes at the end are no whole line.
fn follow(
    found: &mut Recovered,
    directory: &Path,
    revision: &str,
    copy_bytes: u64,
) -> io::Result<Option<Copy>> {
    let tail_path = directory.join(format!("{TAIL}{revision}"));
    let mut tail = match File::options().read(true).write(true).open(&tail_path) {
        Ok(tail) => tail,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let mut bytes = Vec::new();
    tail.read_to_end(&mut bytes)?;
    let mut commits = 0;
    let mut tally = found.image.tally();
    let mut rest = bytes.as_slice();
    while let Some(at) = rest.iter().position(|byte| *byte == b'\n') {
        let (line, after) = rest.split_at(at);
        let Some((meta, ops)) = parse_commit(line) else {
            break;
        };
        // Lines before the copy are in it already; a gap ends what can be believed.
        if meta.revision > found.meta.revision {
            if meta.id != found.meta.id || meta.revision != found.meta.revision + 1 {
                break;
            }
            let Ok(next) = tally.after(&found.image, &ops) else {
                break;
            };
            if (next.count, next.sum) != (meta.count, meta.sum) {
                break;
            }
            let Some(state) = meta_op(&meta) else {
                break;
            };
            found.image.write(&ops);
            found.image.write(&[state]);
            found.meta = meta;
            tally = next;
        }
        commits += 1;
        rest = after.get(1..).unwrap_or_default();
    }
    if !rest.is_empty() {
        return Ok(None);
    }
    tail.seek(io::SeekFrom::End(0))?;
    Ok(Some(Copy {
        tail,
        tail_path,
        copy_bytes,
        tail_bytes: bytes_of(bytes.len()),
        commits,
    }))
}

fn parse_commit(line: &[u8]) -> Option<(Meta, Vec<Op>)> {
    let json = frame::open_line(std::str::from_utf8(line).ok()?)?;
    let commit: Commit = serde_json::from_str(json).ok()?;
    let ops = commit.ops.into_iter().map(op).collect::<Option<_>>()?;
    Some((commit.meta, ops))
}
