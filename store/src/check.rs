//! A look at a store that nobody has open, which changes nothing of it.
//!
//! An engine may mend or compact what it opens, so it is given a copy of its files.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::copy;
use crate::disk;
use crate::engine::{Engine, EngineKind, Tree};
use crate::home::{self, Home, Said};
use crate::outcome::{OpenError, words};
use crate::read;
use crate::seal::place;
use crate::store::{Held, Options};
use crate::wire::{Meta, SCHEMA};

/// What a look found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Identity of the store; empty when it cannot be told.
    pub id: String,
    /// Number of its newest commit.
    pub revision: u64,
    /// How many records each tree has.
    pub records: Vec<(&'static str, u64)>,
    /// Newest commit that the copy beside the engine has, from which a start would mend.
    pub copy: Option<u64>,
    /// Records that cannot be read, by name, with what is wrong.
    pub damaged: Vec<String>,
    /// What else is wrong with it.
    pub faults: Vec<String>,
}

impl Report {
    /// Whether nothing is wrong.
    #[must_use]
    pub fn is_sound(&self) -> bool {
        self.damaged.is_empty() && self.faults.is_empty()
    }
}

/// An engine, and where it says it stands.
type Whole = (Box<dyn Engine>, Meta);

/// A store as it lies there, open in a copy.
#[derive(Debug)]
pub(crate) struct Looked {
    pub(crate) report: Report,
    /// What it holds, if its engine opens and says where it stands.
    pub(crate) whole: Option<Whole>,
    _scratch: Scratch,
    _held: Held,
}

/// A directory that goes with this.
#[derive(Debug)]
struct Scratch(PathBuf);

impl Drop for Scratch {
    fn drop(&mut self) {
        drop(disk::remove_tree(&self.0));
    }
}

/// Looks at the store in a directory.
///
/// # Errors
/// When there is none, when another process has it, when a newer version wrote it, and when the
/// system does not let it be read. Damage is no error.
pub fn check(options: &Options) -> Result<Report, OpenError> {
    look(options, EngineKind::Sled).map(|looked| looked.report)
}

pub(crate) fn look(options: &Options, kind: EngineKind) -> Result<Looked, OpenError> {
    let directory = &options.directory;
    let failed = |source| OpenError::Files(directory.clone(), source);
    if !directory.is_dir() {
        return Err(failed(io::ErrorKind::NotFound.into()));
    }
    let held = Held::take(directory)?;
    // One name: whoever holds the store is alone, and takes away what a killed look left.
    let scratch = Scratch(directory.with_file_name("store.look"));
    disk::remove_tree(&scratch.0).map_err(failed)?;
    let witness_directory = options.witness_directory.as_ref().unwrap_or(directory);
    let home = Home {
        directory: scratch.0.clone(),
        witness_directory: witness_directory.clone(),
        kind,
        deadline_seconds: options.deadline_seconds,
        ballast_bytes: 0,
        reserve_bytes: 0,
    };
    let said = home.read_witness().map_err(failed)?;
    let mut report = Report::default();
    let recovered = copy::recover(directory).map_err(failed)?;
    report.copy = recovered.map(|found| found.meta.revision);
    let engine = directory.join(kind.directory_name());
    let whole = if disk::has_entries(&engine).map_err(failed)? {
        disk::make_directory(&scratch.0).map_err(failed)?;
        copy_tree(&engine, &home.engine_path()).map_err(failed)?;
        open(&home, &mut report)?
    } else {
        report.faults.push("the engine's files are gone".into());
        None
    };
    compare(&said, whole.as_ref().map(|(_, meta)| meta), &mut report)?;
    Ok(Looked {
        report,
        whole,
        _scratch: scratch,
        _held: held,
    })
}

fn open(home: &Home, report: &mut Report) -> Result<Option<Whole>, OpenError> {
    let opened = home.open_engine().and_then(|engine| {
        let examined = home::examine(engine.as_ref())?;
        Ok((engine, examined))
    });
    let (engine, examined) = match opened {
        Ok(both) => both,
        Err(error) if error.is_damage() => {
            report
                .faults
                .push(format!("the engine does not open: {}", words(&error)));
            return Ok(None);
        }
        Err(error) => return Err(OpenError::Engine(error.into())),
    };
    if let Some(found) = examined.schema.filter(|schema| *schema > SCHEMA) {
        return Err(newer(found));
    }
    for tree in Tree::ALL.into_iter().filter(|tree| *tree != Tree::Meta) {
        let mut count = 0;
        let counted = engine.scan(tree, b"", &mut |_, _| {
            count += 1;
            std::ops::ControlFlow::Continue(())
        });
        counted.map_err(|error| OpenError::Engine(error.into()))?;
        report.records.push((tree.name(), count));
    }
    let unreadable = examined.damaged.iter().map(|(tree, key)| place(*tree, key));
    let Some(meta) = examined.meta else {
        report
            .damaged
            .extend(unreadable.map(|place| format!("{place}: it is damaged")));
        report
            .faults
            .push("it does not say where it stands (meta state)".into());
        return Ok(None);
    };
    let contents = read::contents(engine.as_ref(), &meta);
    let contents = contents.map_err(|error| OpenError::Engine(error.into()))?;
    report.damaged = contents.damaged;
    let tally = examined.tally;
    if (tally.count, tally.sum) != (meta.count, meta.sum) {
        report.faults.push(format!(
            "records are missing, doubled or altered: there are {}, and it says {}",
            tally.count, meta.count
        ));
    }
    Ok(Some((engine, meta)))
}

/// Compares what the engine says with what is said outside it.
fn compare(said: &Said, meta: Option<&Meta>, report: &mut Report) -> Result<(), OpenError> {
    let faults = &mut report.faults;
    if let Some(meta) = meta {
        report.id.clone_from(&meta.id);
        report.revision = meta.revision;
        if let Some(doubt) = &meta.doubt {
            faults.push(format!("it is in doubt since a start: {doubt}"));
        }
    }
    match (said, meta) {
        (Said::Newer(found), _) => return Err(newer(*found)),
        (Said::Nothing, _) => faults.push("its witness is gone".into()),
        (Said::Unreadable, _) => faults.push("its witness is damaged".into()),
        (Said::This(witness), Some(meta)) if witness.id != meta.id => {
            faults.push("its witness speaks of another store".into());
        }
        (Said::This(witness), Some(meta)) if witness.revision > meta.revision => {
            let (has, wants) = (meta.revision, witness.revision);
            faults.push(format!("it is older than it was: commit {has} of {wants}"));
        }
        (Said::This(_), _) => {}
    }
    Ok(())
}

fn newer(found: u32) -> OpenError {
    OpenError::Newer {
        found,
        known: SCHEMA,
    }
}

fn copy_tree(from: &Path, to: &Path) -> io::Result<()> {
    disk::make_directory(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let to = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy_tree(&entry.path(), &to)?;
        } else {
            fs::copy(entry.path(), &to)?;
        }
    }
    Ok(())
}
