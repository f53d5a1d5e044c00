//! Upper layers, work directories and volumes.

use std::fs::Permissions;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use driver_api::{Deadline, Fact, Mark, StepError, StepFailure};
use specs::desired::{Desired, MountSource, UserNamespace, Writable};

use crate::error::{During as _, failure, gap, terminal};
use crate::places::{PREPARED, Places, make_private};
use crate::remove::{self, RemoveError, Removed};
use crate::{disk, launch};

/// Makes the directories that a life's root needs, and its volumes.
///
/// *Guarantees:* what is there keeps its contents and, for volumes and persistent layers, its
/// owner; a life's own directory counts as prepared only when all of it is.
pub(crate) fn prepare(
    places: &Places,
    mark: &Mark,
    desired: &Desired,
    deadline: Deadline,
) -> Result<(), StepError> {
    let leaf = mark.leaf();
    let what = || format!("prepare the root of {leaf}");
    let mode = launch::lower_mode(desired)?;
    places.ephemeral.check().during(what)?;
    let own = places.root(mark);
    make_private(&own).during(what)?;
    let lasts = desired.container.rootfs.writable == Writable::Persistent;
    let owner = match desired.container.security.user_namespace {
        // Kept with ids as inside, so that it does not depend on the id range: the mount
        // maps them.
        _ if lasts => 0,
        UserNamespace::Own(range) => range.base,
        UserNamespace::Host => 0,
    };
    let directory = launch::layers(places, mark, desired);
    make_private(&directory).during(what)?;
    match desired.disk.zip(desired.container.rootfs.bound) {
        Some((bytes, bound)) => {
            refuse_plain(&directory, &leaf)?;
            let wanted = disk::Wanted {
                bytes: bytes.0,
                inodes: bound.inodes.map(|inodes| inodes.0),
                owner,
                mode,
                lasts,
            };
            disk::make(&directory, &leaf, wanted, deadline)?;
        }
        // What has an image stays in it.
        None if disk::has_image(&directory).during(what)? => {}
        None => layers(&directory, owner, mode).during(what)?,
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

/// A persistent layer that was made without a limit holds what a new image would hide.
fn refuse_plain(directory: &Path, leaf: &str) -> Result<(), StepError> {
    let what = || format!("enforce limits.disk of {leaf}");
    if !crate::cgroup::exists(&directory.join("upper")).during(what)? {
        return Ok(());
    }
    Err(terminal(
        what(),
        format!(
            "its persistent root in {} was made without a limit",
            directory.display()
        ),
        "drop limits.disk, or move what is in that directory away and copy it back inside",
    ))
}

fn layers(directory: &Path, owner: u32, mode: u32) -> io::Result<()> {
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
pub(crate) fn observe(places: &Places, mark: &Mark, layers: &Path) -> Fact<bool> {
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
        let there = |name: &str| crate::cgroup::exists(&layers.join(name));
        let is_whole = disk::has_image(layers)? || there("upper")? && there("work")?;
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
