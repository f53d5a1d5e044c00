//! Upper layers, work directories and volumes.

use std::fs::Permissions;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use driver_api::{Deadline, Fact, Mark, StepError, StepFailure};
use specs::desired::{Desired, MountSource, UserNamespace, Writable};

use crate::error::{During as _, failure, gap};
use crate::launch;
use crate::places::{PREPARED, Places, make_private};
use crate::remove::{self, RemoveError, Removed};

/// Makes the directories that a life's root needs, and its volumes.
///
/// *Guarantees:* what is there keeps its contents and, for volumes and persistent layers, its
/// owner; a life's own directory counts as prepared only when all of it is.
pub(crate) fn prepare(places: &Places, mark: &Mark, desired: &Desired) -> Result<(), StepError> {
    let leaf = mark.leaf();
    let what = || format!("prepare the root of {leaf}");
    let mode = launch::lower_mode(desired)?;
    places.ephemeral.check().during(what)?;
    let own = places.root(mark);
    make_private(&own).during(what)?;
    let rootfs = &desired.container.rootfs;
    if rootfs.writable == Writable::Persistent {
        // Kept with ids as inside, so that it does not depend on the id range: the mount
        // maps them.
        layers(&places.persistent(&mark.key), 0, mode).during(what)?;
    } else {
        let base = match desired.container.security.user_namespace {
            UserNamespace::Own(range) => range.base,
            UserNamespace::Host => 0,
        };
        layers(&own, base, mode).during(what)?;
    }
    for mount in &desired.container.mounts {
        if let MountSource::Volume(name) = &mount.source {
            let path = places.volumes.join(name.as_str());
            make_once(&path, 0, 0o755).during(|| format!("make the volume {name}"))?;
        }
    }
    // A fixed file name in a directory that only root may enter.
    match std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .open(own.join(PREPARED))
    {
        Err(err) if err.kind() != io::ErrorKind::AlreadyExists => Err(err).during(what),
        _ => Ok(()),
    }
}

fn layers(directory: &Path, owner: u32, mode: u32) -> io::Result<()> {
    make_private(directory)?;
    make_once(&directory.join("upper"), owner, mode)?;
    make_once(&directory.join("work"), owner, 0o700)
}

/// Makes a directory with an owner and a mode; one that is there is left as it is.
fn make_once(path: &Path, owner: u32, mode: u32) -> io::Result<()> {
    match std::fs::symlink_metadata(path) {
        Ok(meta) if meta.is_dir() => return Ok(()),
        Ok(_) => return Err(io::Error::from_raw_os_error(libc::ENOTDIR)),
        Err(err) if err.kind() == io::ErrorKind::NotFound => {}
        Err(err) => return Err(err),
    }
    // Made beside and renamed, so that it is never there with a wrong owner or mode.
    let name = path
        .file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned();
    let partial = path.with_file_name(format!(".{name}.partial"));
    match std::fs::remove_dir(&partial) {
        Err(err) if err.kind() != io::ErrorKind::NotFound => return Err(err),
        _ => {}
    }
    make_private(&partial)?;
    std::os::unix::fs::chown(&partial, Some(owner), Some(owner))?;
    std::fs::set_permissions(&partial, Permissions::from_mode(mode))?;
    std::fs::rename(&partial, path)
}

/// Returns whether a life's own directory is prepared.
pub(crate) fn observe(places: &Places, mark: &Mark, layers: Option<(&str, &str)>) -> Fact<bool> {
    let own = places.root(mark);
    let look = || -> io::Result<Option<bool>> {
        places.ephemeral.check()?;
        if !crate::cgroup::exists(&own)? {
            return Ok(None);
        }
        let is_marked = match std::fs::symlink_metadata(own.join(PREPARED)) {
            Ok(_) => true,
            Err(err) if err.kind() == io::ErrorKind::NotFound => false,
            Err(err) => return Err(err),
        };
        let (upper, work) = match layers {
            Some((upper, work)) => (Path::new(upper).to_owned(), Path::new(work).to_owned()),
            None => (own.join("upper"), own.join("work")),
        };
        let is_whole = crate::cgroup::exists(&upper)? && crate::cgroup::exists(&work)?;
        Ok(Some(is_marked && is_whole))
    };
    match look() {
        Ok(Some(prepared)) => Fact::Known(prepared),
        Ok(None) => Fact::Absent,
        Err(err) => Fact::Unknown(gap(format!("look at the root of {}", mark.leaf()), &err)),
    }
}

/// Removes a life's own directory, or a part of it.
///
/// *Guarantees:* volumes and persistent layers are elsewhere and stay.
pub(crate) fn remove(
    places: &Places,
    mark: &Mark,
    deadline: Deadline,
) -> Result<Removed, StepError> {
    let leaf = mark.leaf();
    let what = || format!("remove the root of {leaf}");
    places.ephemeral.check().during(what)?;
    // First, so that half of it never counts as prepared.
    match std::fs::remove_file(places.root(mark).join(PREPARED)) {
        Err(err) if err.kind() != io::ErrorKind::NotFound => return Err(err).during(what),
        _ => {}
    }
    remove::remove(&places.ephemeral.path, &leaf, deadline).map_err(|err| match &err {
        RemoveError::Mounted(name) => StepError::Blocked {
            on: format!("the mount on {name}"),
            failure: StepFailure {
                hint: Some(format!(
                    "unmount it: see `findmnt -R {}`",
                    places.root(mark).display()
                )),
                ..failure(what(), crate::error::words(&err))
            },
        },
        RemoveError::Io { source, .. } => StepError::Retry(StepFailure {
            errno: source.raw_os_error(),
            hint: (source.raw_os_error() == Some(libc::EPERM))
                .then(|| "a file may be immutable: see lsattr(1)".to_owned()),
            ..failure(what(), crate::error::words(&err))
        }),
    })
}
