//! The main job on a small real root, each step printed as the command a person would type.

use anyhow::{Result, bail};

/// Runs the quickstart.
pub(crate) fn run() -> Result<()> {
    bail!("not yet")
}
