//! A store as one text file, and back: `docs/formats/export.md`.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::check::{self, Report};
use crate::copy::{self, Copy, CopyError, End, Record};
use crate::disk;
use crate::engine::{EngineError, EngineKind, Tree};
use crate::frame;
use crate::home::Home;
use crate::image::Image;
use crate::outcome::OpenError;
use crate::read;
use crate::store::{Held, Options};
use crate::wire::{Meta, SCHEMA, SchemaOnly};

/// A store was not written to a file.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// It could not be looked at.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// Something is wrong with it, and an export has only what is whole.
    #[error("the store is not whole")]
    NotWhole(Box<Report>),
    /// There is such a file already.
    #[error("{} is there already", .0.display())]
    Occupied(PathBuf),
    /// The file could not be written.
    #[error("writing {}", .0.display())]
    Write(PathBuf, #[source] Box<dyn std::error::Error + Send + Sync>),
}

/// A store was not made from a file; nothing of it was.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// A newer version wrote it.
    #[error("it is of version {found}, and this program reads up to {known}")]
    Newer {
        /// Its version.
        found: u32,
        /// Ours.
        known: u32,
    },
    /// A line is not as it was written.
    #[error("line {line}: {what}")]
    Line {
        /// Which, from 1.
        line: usize,
        /// What is wrong with it.
        what: String,
    },
    /// There is a store already.
    #[error("{} holds a store already", .0.display())]
    Occupied(PathBuf),
    /// The directory.
    #[error("making the store in {}", .0.display())]
    Files(PathBuf, #[source] io::Error),
    /// The engine.
    #[error("filling the store")]
    Engine(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// Writes all records of a store that nobody has open to a file that is not there yet; the file
/// is there as a whole or not at all. Returns how many there are.
///
/// # Errors
/// When the store is not whole or somebody has it, when the file is there, when the system
/// refuses.
pub fn export(options: &Options, file: &Path) -> Result<u64, ExportError> {
    export_of(options, file, EngineKind::Sled)
}

pub(crate) fn export_of(
    options: &Options,
    file: &Path,
    kind: EngineKind,
) -> Result<u64, ExportError> {
    let looked = check::look(options, kind)?;
    let Some((engine, meta)) = looked.whole.as_ref().filter(|_| looked.report.is_sound()) else {
        return Err(ExportError::NotWhole(looked.report.into()));
    };
    let name = file.file_name().unwrap_or_default().to_string_lossy();
    let temporary = file.with_file_name(format!(".{name}.{}", std::process::id()));
    let failed = |source: CopyError| ExportError::Write(file.to_owned(), source.into());
    let written = copy::write_records(&temporary, engine.as_ref(), meta).map_err(failed);
    // A second name, and not a rename: that would put it over a file of somebody else's.
    let placed = written.and_then(|_| {
        fs::hard_link(&temporary, file).map_err(|source| match source.kind() {
            io::ErrorKind::AlreadyExists => ExportError::Occupied(file.to_owned()),
            _ => ExportError::Write(file.to_owned(), source.into()),
        })
    });
    drop(fs::remove_file(&temporary));
    placed?;
    let folder = file.parent().filter(|path| !path.as_os_str().is_empty());
    disk::sync_directory(folder.unwrap_or_else(|| Path::new(".")))
        .map_err(|source| ExportError::Write(file.to_owned(), source.into()))?;
    Ok(meta.count)
}

/// Makes a store of an export where there is none: as a whole or not at all. Returns how many
/// records it has.
///
/// # Errors
/// When a line is not as it was written, when there is a store, when the system refuses.
pub fn import(bytes: &[u8], options: &Options) -> Result<u64, ImportError> {
    import_as(bytes, options, EngineKind::Sled)
}

pub(crate) fn import_as(
    bytes: &[u8],
    options: &Options,
    kind: EngineKind,
) -> Result<u64, ImportError> {
    let (meta, image) = parse(bytes)?;
    let directory = &options.directory;
    let failed = |source| ImportError::Files(directory.clone(), source);
    let held = vacant(directory)?;
    let fresh = directory.with_file_name(format!("store.import-{}", std::process::id()));
    let made = make(&fresh, options, kind, &meta, &image).and_then(|()| {
        // Held until the new one is in its place: who opens the old lock is refused, and who makes
        // a new one is in the way. `rename(2)`: over a directory only if that is empty.
        if held.is_some() {
            disk::remove_if_there(&directory.join("lock")).map_err(failed)?;
        }
        fs::rename(&fresh, directory).map_err(|source| match source.kind() {
            io::ErrorKind::DirectoryNotEmpty | io::ErrorKind::AlreadyExists => {
                ImportError::Occupied(directory.clone())
            }
            _ => failed(source),
        })
    });
    if made.is_err() {
        drop(disk::remove_tree(&fresh));
    }
    made?;
    drop(held);
    let above = directory.parent().unwrap_or(directory);
    disk::sync_directory(above).map_err(failed)?;
    Ok(meta.count)
}

/// Holds a place that is there and has no store; nothing where there is not even a place.
fn vacant(directory: &Path) -> Result<Option<Held>, ImportError> {
    let occupied = || ImportError::Occupied(directory.to_owned());
    let names = match disk::names(directory) {
        Ok(names) => names,
        Err(source) if source.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(ImportError::Files(directory.to_owned(), source)),
    };
    if names.iter().any(|name| name != "lock") {
        return Err(occupied());
    }
    // Somebody who holds it is about to make one.
    Held::take(directory).map(Some).map_err(|_| occupied())
}

fn make(
    fresh: &Path,
    options: &Options,
    kind: EngineKind,
    meta: &Meta,
    image: &Image,
) -> Result<(), ImportError> {
    let failed = |source| ImportError::Files(fresh.to_owned(), source);
    let engine_failed = |error: EngineError| ImportError::Engine(error.into());
    disk::make_directory(fresh).map_err(failed)?;
    let _held = Held::take(fresh).map_err(|error| ImportError::Engine(error.into()))?;
    let home = Home {
        directory: fresh.to_owned(),
        witness_directory: fresh.to_owned(),
        kind,
        deadline_seconds: options.deadline_seconds,
        ballast_bytes: 0,
        reserve_bytes: 0,
    };
    let engine = home.fill(image, meta).map_err(engine_failed)?;
    home.write_witness(meta).map_err(failed)?;
    let copied = Copy::write(fresh, engine.as_ref(), meta);
    copied.map_err(|error| ImportError::Engine(error.into()))?;
    drop(engine);
    disk::sync_directory(fresh).map_err(failed)
}

fn at(line: usize, what: impl Into<String>) -> ImportError {
    let what = what.into();
    ImportError::Line { line, what }
}

/// Reads an export strictly: it is whole, or the line that is not is named.
pub(crate) fn parse(bytes: &[u8]) -> Result<(Meta, Image), ImportError> {
    let text = match std::str::from_utf8(bytes) {
        Ok(text) => text,
        Err(error) => {
            let good = bytes.get(..error.valid_up_to()).unwrap_or_default();
            let line = good.iter().filter(|byte| **byte == b'\n').count() + 1;
            return Err(at(line, "it is not text"));
        }
    };
    let number = text.lines().count().max(1);
    let Some(whole) = text.strip_suffix('\n') else {
        return Err(at(number, "it does not end: the file was cut short"));
    };
    let mut lines = Vec::new();
    for (index, line) in whole.split('\n').enumerate() {
        let json = frame::open_line(line);
        let altered = "its digits do not fit it: it was altered; take another export";
        lines.push(json.ok_or_else(|| at(index + 1, altered))?);
    }
    let [first, records @ .., last] = lines.as_slice() else {
        return Err(at(
            number,
            "the last line of an export is missing: the file was cut short",
        ));
    };
    let meta = head(first)?;
    let (image, places) = body(records)?;
    end(last, number, records.len(), whole)?;
    let tally = image.tally();
    if (tally.count, tally.sum) != (meta.count, meta.sum) {
        return Err(at(1, "the records are not those that it speaks of"));
    }
    let mut image = image;
    let state = copy::meta_op(&meta).ok_or_else(|| at(1, "it does not fit a record"))?;
    image.write(&[state]);
    let unreadable = read::damaged_places(&image);
    let unreadable = unreadable.map_err(|error| ImportError::Engine(error.into()))?;
    match unreadable.first().and_then(|place| places.get(place)) {
        Some(line) => Err(at(
            *line,
            "it is none of the records that this version knows",
        )),
        None => Ok((meta, image)),
    }
}

fn head(line: &str) -> Result<Meta, ImportError> {
    let foreign = |_| at(1, "it is not the first line of an export");
    let SchemaOnly { schema } = serde_json::from_str(line).map_err(foreign)?;
    if schema > SCHEMA {
        return Err(ImportError::Newer {
            found: schema,
            known: SCHEMA,
        });
    }
    serde_json::from_str(line).map_err(foreign)
}

/// Where each record was read.
type Places = BTreeMap<(Tree, Vec<u8>), usize>;

fn body(records: &[&str]) -> Result<(Image, Places), ImportError> {
    let mut places = Places::new();
    let mut ops = Vec::new();
    for (index, json) in records.iter().enumerate() {
        let line = index + 2;
        let record = serde_json::from_str::<Record>(json).ok().and_then(copy::op);
        let op = record.filter(|op| op.value.is_some() && op.tree != Tree::Meta);
        let op = op.ok_or_else(|| at(line, "it is no record"))?;
        let place = (op.tree, op.key.clone());
        if places
            .last_key_value()
            .is_some_and(|(before, _)| *before >= place)
        {
            return Err(at(
                line,
                "it does not come after the line before: it was moved or doubled",
            ));
        }
        places.insert(place, line);
        ops.push(op);
    }
    let mut image = Image::default();
    image.write(&ops);
    Ok((image, places))
}

fn end(last: &str, line: usize, records: usize, whole: &str) -> Result<(), ImportError> {
    let cut = "it is not the last line of an export: the file was cut short";
    let end: End = serde_json::from_str(last).map_err(|_| at(line, cut))?;
    let body = whole.rsplit_once('\n').map_or("", |(body, _)| body);
    let hashed = format!("{body}\n");
    let is_whole = u64::try_from(records) == Ok(end.records)
        && blake3::hash(hashed.as_bytes()).to_hex().as_str() == end.hash;
    if is_whole {
        Ok(())
    } else {
        Err(at(
            line,
            "what it says of the lines before does not hold: one is missing or too many",
        ))
    }
}
