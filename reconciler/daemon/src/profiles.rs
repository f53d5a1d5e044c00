//! Seccomp profiles as they were when the spec that names them was accepted.
//!
//! A profile is read once, with the text of the spec, and kept beside the store before the
//! spec is: after a restart the same spec is the same container, whatever became of the file.

use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use specs::id::{Generation, Key};

/// The directory of kept profiles.
#[derive(Clone, Debug)]
pub(crate) struct Profiles(PathBuf);

impl Profiles {
    /// Returns the profiles kept below a state directory.
    pub(crate) fn new(state: &Path) -> Self {
        Self(state.join("profiles"))
    }

    /// Keeps a profile, durably.
    ///
    /// # Errors
    /// When it could not be written and synced.
    pub(crate) fn keep(&self, key: &Key, generation: Generation, text: &str) -> io::Result<()> {
        write_durable(&self.0, &name(key, generation), text.as_bytes())
    }

    /// Returns a kept profile.
    ///
    /// # Errors
    /// When there is none, or it cannot be read.
    pub(crate) fn get(&self, key: &Key, generation: Generation) -> io::Result<String> {
        std::fs::read_to_string(self.0.join(name(key, generation)))
    }
}

fn name(key: &Key, generation: Generation) -> String {
    format!("{key}.{generation}.json")
}

/// Puts a file in place whole or not at all, and syncs it and its directory.
///
/// # Errors
/// When any of that failed; the file is then as it was.
pub(crate) fn write_durable(directory: &Path, name: &str, bytes: &[u8]) -> io::Result<()> {
    std::fs::create_dir_all(directory)?;
    let temporary = directory.join(format!(".{name}.new"));
    let mut file = std::fs::File::create(&temporary)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    std::fs::rename(&temporary, directory.join(name))?;
    std::fs::File::open(directory)?.sync_all()
}
