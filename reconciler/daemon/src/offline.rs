//! What an instance has while its daemon does not run.

use std::path::PathBuf;

use store::{Held, OpenError};

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
        let held = Held::take(&own.join("store")).map_err(|err| match err {
            OpenError::Locked { .. } => RunError::Locked(err),
            err => RunError::Store(err),
        })?;
        Ok(Self {
            runtime: settings.runtime,
            _held: held,
        })
    }
}
