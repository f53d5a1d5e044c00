//! The state directory: where its parts are, and the acts on them that both an open and a
//! commit need.

use std::fs::File;
use std::io;
use std::ops::ControlFlow;
use std::path::PathBuf;

use crate::copy;
use crate::disk;
use crate::engine::{Engine, EngineError, EngineKind, Op, Tree};
use crate::frame;
use crate::image::{Image, Tally};
use crate::wire::{self, META_KEY, Meta, SCHEMA, SchemaOnly, Witness};

/// Bytes of one batch while an engine is filled.
const FILL_BYTES: usize = 4 << 20;

/// Where everything is, and the measures that go with it.
#[derive(Clone, Debug)]
pub(crate) struct Home {
    pub(crate) directory: PathBuf,
    pub(crate) witness_directory: PathBuf,
    pub(crate) kind: EngineKind,
    pub(crate) deadline_seconds: u64,
    pub(crate) ballast_bytes: u64,
    /// Free space below which nothing is begun.
    pub(crate) reserve_bytes: u64,
}

/// What the witness file says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Said {
    Nothing,
    Unreadable,
    Newer(u32),
    This(Witness),
}

/// What was found in an engine that opened.
#[derive(Debug)]
pub(crate) struct Examined {
    pub(crate) meta: Option<Meta>,
    /// Schema of the state record, if one could be made out.
    pub(crate) schema: Option<u32>,
    pub(crate) tally: Tally,
    pub(crate) damaged: Vec<(Tree, Vec<u8>)>,
}

impl Home {
    /// Takes the lock on the directory.
    pub(crate) fn lock(&self) -> Result<File, disk::LockError> {
        disk::lock(&self.directory)
    }

    fn witness_path(&self) -> PathBuf {
        self.witness_directory.join("witness")
    }

    pub(crate) fn read_witness(&self) -> io::Result<Said> {
        let Some(bytes) = disk::read_if_there(&self.witness_path())? else {
            return Ok(Said::Nothing);
        };
        let line = std::str::from_utf8(&bytes)
            .ok()
            .and_then(|text| text.strip_suffix('\n'));
        let Some(json) = line.and_then(frame::open_line) else {
            return Ok(Said::Unreadable);
        };
        match serde_json::from_str::<SchemaOnly>(json) {
            Ok(SchemaOnly { schema }) if schema > SCHEMA => Ok(Said::Newer(schema)),
            Ok(_) => Ok(serde_json::from_str(json).map_or(Said::Unreadable, Said::This)),
            Err(_) => Ok(Said::Unreadable),
        }
    }

    pub(crate) fn write_witness(&self, meta: &Meta) -> io::Result<()> {
        let json = serde_json::to_string(&meta.witness()).map_err(io::Error::other)?;
        disk::write_whole(&self.witness_path(), frame::seal_line(&json).as_bytes())
    }

    pub(crate) fn engine_path(&self) -> PathBuf {
        self.directory.join(self.kind.directory_name())
    }

    /// Opens the engine; gives the ballast back first where there is too little room.
    pub(crate) fn open_engine(&self) -> Result<Box<dyn Engine>, EngineError> {
        const WHAT: &str = "looking for room";
        let path = self.engine_path();
        let free = disk::free_bytes(&self.directory)
            .map_err(|source| EngineError::from_io(WHAT, source))?;
        if free < self.reserve_bytes {
            self.free_ballast()?;
        }
        match self.kind.open(&path, self.deadline_seconds) {
            Err(EngineError::Full { .. }) => {
                self.free_ballast()?;
                self.kind.open(&path, self.deadline_seconds)
            }
            result => result,
        }
    }

    fn free_ballast(&self) -> Result<(), EngineError> {
        disk::free_ballast(&self.directory)
            .map_err(|source| EngineError::from_io("giving the ballast back", source))
    }

    /// Takes the ballast again where there is room for it. Returns whether it is there.
    pub(crate) fn hold_ballast(&self) -> bool {
        let spare = self.reserve_bytes.saturating_mul(2);
        disk::hold_ballast(&self.directory, self.ballast_bytes, spare).unwrap_or(false)
    }

    /// Moves the engine's directory aside, if it is there; an empty path if it is not.
    pub(crate) fn move_engine_aside(&self) -> io::Result<PathBuf> {
        if disk::has_entries(&self.engine_path())? {
            disk::move_aside(&self.directory, self.kind.directory_name())
        } else {
            Ok(PathBuf::new())
        }
    }

    fn rebuilding(&self) -> PathBuf {
        self.directory.join("rebuilding")
    }

    /// Removes an engine whose filling was cut short. Returns whether there was one.
    pub(crate) fn remove_unfinished(&self) -> io::Result<bool> {
        let was_cut = self.rebuilding().exists();
        if was_cut {
            disk::remove_tree(&self.engine_path())?;
            disk::sync_directory(&self.directory)?;
        }
        Ok(was_cut)
    }

    /// Makes a new engine that holds the image and stands where `meta` says.
    pub(crate) fn fill(&self, image: &Image, meta: &Meta) -> Result<Box<dyn Engine>, EngineError> {
        const WHAT: &str = "filling a new engine";
        let failed = |source| EngineError::from_io(WHAT, source);
        self.remove_unfinished().map_err(failed)?;
        disk::write_whole(&self.rebuilding(), b"").map_err(failed)?;
        let engine = self.open_engine()?;
        let mut ops = image.ops_from(&Image::default());
        ops.retain(|op| op.tree != Tree::Meta);
        for batch in chunks(ops) {
            engine.apply(&batch)?;
        }
        // Last, so that an engine with a state record is a whole one.
        engine.apply(&[state_op(meta)])?;
        engine.make_durable()?;
        disk::remove_if_there(&self.rebuilding()).map_err(failed)?;
        disk::sync_directory(&self.directory).map_err(failed)?;
        Ok(engine)
    }
}

/// Returns the write of the state record.
pub(crate) fn state_op(meta: &Meta) -> Op {
    copy::meta_op(meta).expect("BUG: the state record does not fit its frame")
}

fn chunks(ops: Vec<Op>) -> Vec<Vec<Op>> {
    let mut chunks = vec![Vec::new()];
    let mut bytes = 0;
    for op in ops {
        let size = op.key.len() + op.value.as_ref().map_or(0, Vec::len);
        if bytes > FILL_BYTES {
            chunks.push(Vec::new());
            bytes = 0;
        }
        bytes += size;
        if let Some(last) = chunks.last_mut() {
            last.push(op);
        }
    }
    chunks
}

/// Reads everything an engine holds.
pub(crate) fn examine(engine: &dyn Engine) -> Result<Examined, EngineError> {
    let mut examined = Examined {
        meta: None,
        schema: None,
        tally: Tally::default(),
        damaged: Vec::new(),
    };
    for tree in Tree::ALL.into_iter().filter(|tree| *tree != Tree::Meta) {
        engine.scan(tree, b"", &mut |key, framed| {
            examined.tally.add(tree, key, framed);
            if frame::open(tree, key, framed).is_err() {
                examined.damaged.push((tree, key.to_vec()));
            }
            ControlFlow::Continue(())
        })?;
    }
    if let Some(framed) = engine.get(Tree::Meta, META_KEY)?
        && let Ok(content) = frame::open(Tree::Meta, META_KEY, &framed)
    {
        examined.schema = wire::from_json(content)
            .map(|SchemaOnly { schema }| schema)
            .ok();
        examined.meta = wire::from_json(content).ok();
    }
    Ok(examined)
}
