//! What an instance has while its daemon does not run.

use std::path::{Path, PathBuf};

use store::{ExportError, Held, ImportError, OpenError, Options};

pub use store::Report;

use crate::boot::RunError;
use crate::options::RunOptions;

/// An instance whose daemon does not run, and cannot start for as long as this is held.
#[derive(Debug)]
pub struct Offline {
    /// Where its sockets and adoption records are.
    pub runtime: PathBuf,
    _held: Held,
}

impl Offline {
    /// Takes the instance that `run` with these options would be.
    ///
    /// # Errors
    /// When the options are wrong, this is not root, or its daemon runs.
    pub fn take(options: &RunOptions) -> Result<Self, RunError> {
        if !rustix::process::geteuid().is_root() {
            return Err(RunError::NotRoot);
        }
        let settings = options.settle()?;
        let own = settings.state.join(settings.instance.as_str());
        let held = Held::take(&own.join("store")).map_err(opened)?;
        Ok(Self {
            runtime: settings.runtime,
            _held: held,
        })
    }
}

/// The store of an instance whose daemon does not run.
#[derive(Debug)]
pub struct OfflineStore(Options);

/// Something was not done with a store that nobody has open.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// It was not written to a file.
    #[error("nothing was exported")]
    Export(#[from] ExportError),
    /// It was not made from a file.
    #[error("nothing was imported")]
    Import(#[from] ImportError),
}

impl OfflineStore {
    /// Returns the store that `run` with these options would have. Nothing is looked at yet.
    ///
    /// # Errors
    /// When the options are wrong, or this is not root.
    pub fn of(options: &RunOptions) -> Result<Self, RunError> {
        if !rustix::process::geteuid().is_root() {
            return Err(RunError::NotRoot);
        }
        let settings = options.settle()?;
        let own = settings.state.join(settings.instance.as_str());
        Ok(Self(Options::new(own.join("store"))))
    }

    /// Returns where it is.
    #[must_use]
    pub fn directory(&self) -> &Path {
        &self.0.directory
    }

    /// Looks at all of it, and changes nothing.
    ///
    /// # Errors
    /// When there is none, its daemon runs, or the system refuses.
    pub fn check(&self) -> Result<Report, RunError> {
        store::check(&self.0).map_err(opened)
    }

    /// Writes all of it to a file that is not there yet; returns how many records.
    ///
    /// # Errors
    /// When it is not whole, its daemon runs, the file is there, or the system refuses.
    pub fn export(&self, file: &Path) -> Result<u64, StoreError> {
        Ok(store::export(&self.0, file)?)
    }

    /// Makes it of an export, where there is none yet; returns how many records.
    ///
    /// # Errors
    /// When a line of it is not as it was written, there is a store, or the system refuses.
    pub fn import(&self, bytes: &[u8]) -> Result<u64, StoreError> {
        let own = self.0.directory.parent().unwrap_or(Path::new("/"));
        std::fs::create_dir_all(own)
            .map_err(|source| ImportError::Files(own.to_owned(), source))?;
        Ok(store::import(bytes, &self.0)?)
    }
}

impl StoreError {
    /// Whether the daemon has the store.
    #[must_use]
    pub fn is_locked(&self) -> bool {
        let Self::Export(ExportError::Open(err)) = self else {
            return false;
        };
        matches!(err, OpenError::Locked { .. })
    }
}

fn opened(err: OpenError) -> RunError {
    match err {
        OpenError::Locked { .. } => RunError::Locked(err),
        err => RunError::Store(err),
    }
}
