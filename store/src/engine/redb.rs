//! redb: the second engine, which shows that the first could go.

use std::fs::{self, File};
use std::io;
use std::ops::ControlFlow;
use std::path::Path;

use ::redb::{Database, ReadableDatabase, TableDefinition};

use super::{Engine, EngineError, Op, Tree, Visit, guarded};

#[derive(Debug)]
struct Redb {
    /// None only while it is dropped.
    db: Option<Database>,
}

/// Opens or makes a redb in `directory`.
pub(super) fn open(directory: &Path) -> Result<Box<dyn Engine>, EngineError> {
    guarded("redb's open", || open_here(directory))
}

fn open_here(directory: &Path) -> Result<Box<dyn Engine>, EngineError> {
    const WHAT: &str = "redb's open";
    fs::create_dir_all(directory).map_err(|source| EngineError::from_io(WHAT, source))?;
    let db = Database::create(directory.join("data.redb")).map_err(|error| named(WHAT, error))?;
    let write = db.begin_write().map_err(|error| named(WHAT, error))?;
    for tree in Tree::ALL {
        write
            .open_table(table(tree))
            .map_err(|error| named(WHAT, error))?;
    }
    write.commit().map_err(|error| named(WHAT, error))?;
    sync_names(directory).map_err(|source| EngineError::from_io(WHAT, source))?;
    Ok(Box::new(Redb { db: Some(db) }))
}

fn sync_names(directory: &Path) -> io::Result<()> {
    File::open(directory)?.sync_all()?;
    match directory.parent() {
        Some(parent) => File::open(parent)?.sync_all(),
        None => Ok(()),
    }
}

fn table(tree: Tree) -> TableDefinition<'static, &'static [u8], &'static [u8]> {
    TableDefinition::new(tree.name())
}

impl Engine for Redb {
    fn get(&self, tree: Tree, key: &[u8]) -> Result<Option<Vec<u8>>, EngineError> {
        guarded("redb's get", || self.get_here(tree, key))
    }

    fn scan(&self, tree: Tree, prefix: &[u8], visit: &mut Visit<'_>) -> Result<(), EngineError> {
        guarded("redb's scan", || self.scan_here(tree, prefix, visit))
    }

    fn apply(&self, batch: &[Op]) -> Result<(), EngineError> {
        guarded("redb's transaction", || self.apply_here(batch))
    }

    fn make_durable(&self) -> Result<(), EngineError> {
        Ok(())
    }
}

impl Drop for Redb {
    fn drop(&mut self) {
        // What was damaged may show in its close only.
        let db = self.db.take();
        drop(guarded("redb's close", || {
            drop(db);
            Ok(())
        }));
    }
}

impl Redb {
    fn db(&self) -> &Database {
        self.db
            .as_ref()
            .expect("BUG: it is closed only when it is dropped")
    }

    fn get_here(&self, tree: Tree, key: &[u8]) -> Result<Option<Vec<u8>>, EngineError> {
        const WHAT: &str = "redb's get";
        let read = self.db().begin_read().map_err(|error| named(WHAT, error))?;
        let table = read
            .open_table(table(tree))
            .map_err(|error| named(WHAT, error))?;
        let value = table.get(key).map_err(|error| named(WHAT, error))?;
        Ok(value.map(|value| value.value().to_vec()))
    }

    fn scan_here(
        &self,
        tree: Tree,
        prefix: &[u8],
        visit: &mut Visit<'_>,
    ) -> Result<(), EngineError> {
        const WHAT: &str = "redb's scan";
        let read = self.db().begin_read().map_err(|error| named(WHAT, error))?;
        let table = read
            .open_table(table(tree))
            .map_err(|error| named(WHAT, error))?;
        for record in table.range(prefix..).map_err(|error| named(WHAT, error))? {
            let (key, value) = record.map_err(|error| named(WHAT, error))?;
            if !key.value().starts_with(prefix)
                || visit(key.value(), value.value()) == ControlFlow::Break(())
            {
                break;
            }
        }
        Ok(())
    }

    fn apply_here(&self, batch: &[Op]) -> Result<(), EngineError> {
        const WHAT: &str = "redb's transaction";
        let write = self
            .db()
            .begin_write()
            .map_err(|error| named(WHAT, error))?;
        for op in batch {
            let mut table = write
                .open_table(table(op.tree))
                .map_err(|error| named(WHAT, error))?;
            let key = op.key.as_slice();
            match &op.value {
                Some(value) => table.insert(key, value.as_slice()),
                None => table.remove(key),
            }
            .map_err(|error| named(WHAT, error))?;
        }
        // Durable at once: redb's default.
        write.commit().map_err(|error| named(WHAT, error))
    }
}

fn named(what: &'static str, error: impl Into<::redb::Error>) -> EngineError {
    match error.into() {
        ::redb::Error::Io(source)
            if source.kind() != io::ErrorKind::InvalidData
                && source.kind() != io::ErrorKind::UnexpectedEof =>
        {
            EngineError::from_io(what, source)
        }
        other => EngineError::Damaged {
            what,
            how: other.to_string(),
        },
    }
}
