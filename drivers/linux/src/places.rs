//! Where the marks of one instance stand, and safe listing of those places.

use std::ffi::OsStr;
use std::fs::Permissions;
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use driver_api::Mark;
use specs::id::{Instance, Key};

/// Name of the file that says that an upper layer is complete.
pub(crate) const PREPARED: &str = "prepared";

/// The directories of the table in [`Mark`].
#[derive(Clone, Debug)]
pub(crate) struct Places {
    /// Whose.
    pub(crate) instance: Instance,
    /// `RUNTIME/INSTANCE`.
    pub(crate) runtime: Place,
    /// `STATE/INSTANCE/ephemeral`.
    pub(crate) ephemeral: Place,
    /// `STATE/INSTANCE/persistent`.
    pub(crate) persistent: PathBuf,
    /// `STATE/INSTANCE/volumes`.
    pub(crate) volumes: PathBuf,
    /// `LOG/INSTANCE`.
    pub(crate) logs: PathBuf,
}

/// A directory whose identity was noted when it was opened, so that one that was unmounted
/// or replaced is not mistaken for an empty one.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    /// Where.
    pub(crate) path: PathBuf,
    device: u64,
    inode: u64,
}

/// What a listing found.
#[derive(Debug, Default)]
pub(crate) struct Listed {
    /// Names that are marks of the instance, sorted.
    pub(crate) marks: Vec<Mark>,
}

impl Places {
    /// Makes whatever of the directories is missing, mode 0700.
    pub(crate) fn prepare(
        instance: &Instance,
        runtime: &Path,
        state: &Path,
        log: &Path,
    ) -> io::Result<Self> {
        let name = instance.as_str();
        let ours = state.join(name);
        let persistent = ours.join("persistent");
        let volumes = ours.join("volumes");
        let logs = log.join(name);
        for path in [&ours, &persistent, &volumes, &logs] {
            make_private(path)?;
        }
        Ok(Self {
            instance: instance.clone(),
            runtime: Place::prepare(runtime.join(name))?,
            ephemeral: Place::prepare(ours.join("ephemeral"))?,
            persistent,
            volumes,
            logs,
        })
    }

    /// Returns the runtime directory of a life.
    pub(crate) fn bundle(&self, mark: &Mark) -> PathBuf {
        self.runtime.path.join(mark.leaf())
    }

    /// Returns the directory of a life's ephemeral upper layer.
    pub(crate) fn root(&self, mark: &Mark) -> PathBuf {
        self.ephemeral.path.join(mark.leaf())
    }

    /// Returns the directory of a key's persistent upper layer.
    pub(crate) fn persistent(&self, key: &Key) -> PathBuf {
        self.persistent.join(key.as_str())
    }

    /// Returns the directory of a key's log files.
    pub(crate) fn logs(&self, key: &Key) -> PathBuf {
        self.logs.join(key.as_str())
    }
}

impl Place {
    fn prepare(path: PathBuf) -> io::Result<Self> {
        make_private(&path)?;
        let meta = std::fs::symlink_metadata(&path)?;
        Ok(Self {
            path,
            device: meta.dev(),
            inode: meta.ino(),
        })
    }

    /// Lists the marks in this place to the end.
    ///
    /// # Errors
    /// When the place is not the directory it was, or the listing stopped half way.
    pub(crate) fn list(&self, instance: &Instance) -> io::Result<Listed> {
        self.check()?;
        list_marks(&self.path, instance)
    }

    /// Checks that the place still is the directory that was opened.
    pub(crate) fn check(&self) -> io::Result<()> {
        let meta = std::fs::symlink_metadata(&self.path)?;
        if !meta.is_dir() {
            return Err(io::Error::from_raw_os_error(libc::ENOTDIR));
        }
        if (meta.dev(), meta.ino()) == (self.device, self.inode) {
            return Ok(());
        }
        Err(io::Error::other(
            "another directory stands where ours was (unmounted or replaced?)",
        ))
    }
}

/// Lists the names in a directory that are marks of the instance.
pub(crate) fn list_marks(directory: &Path, instance: &Instance) -> io::Result<Listed> {
    let mut marks = Vec::new();
    for entry in std::fs::read_dir(directory)? {
        let name = entry?.file_name();
        if let Some(mark) = mark_of(&name, instance) {
            marks.push(mark);
        }
    }
    marks.sort();
    Ok(Listed { marks })
}

/// Returns the mark that a name is, if it is one of the instance.
pub(crate) fn mark_of(name: &OsStr, instance: &Instance) -> Option<Mark> {
    Mark::from_leaf(instance, name.to_str()?).ok()
}

/// Makes a directory and its missing parents, mode 0700 whatever the umask.
///
/// # Errors
/// When something that is no directory stands in the way: a symbolic link does, too.
pub(crate) fn make_private(path: &Path) -> io::Result<()> {
    if let Some(parent) = path.parent()
        && !parent.as_os_str().is_empty()
        && !parent.exists()
    {
        make_private(parent)?;
    }
    match std::fs::DirBuilder::new().mode(0o700).create(path) {
        Ok(()) => {}
        Err(err) if err.kind() == io::ErrorKind::AlreadyExists => {}
        Err(err) => return Err(err),
    }
    let meta = std::fs::symlink_metadata(path)?;
    if !meta.is_dir() {
        return Err(io::Error::from_raw_os_error(libc::ENOTDIR));
    }
    if meta.permissions().mode() & 0o7777 != 0o700 {
        std::fs::set_permissions(path, Permissions::from_mode(0o700))?;
    }
    Ok(())
}
