//! The runtime directory of a life: what it was made from, and what its shim leaves there.

use std::io;
use std::path::Path;

use driver_api::{Bundle, Fact, Mark};
use prost::Message as _;
use shim_proto::launch::{self, LAUNCH_BYTES_MAX, Launch};
use specs::id::{Digest, Generation};

use crate::error::gap;
use crate::places::{Places, make_private};
use crate::{files, text};

/// Name of the launch description.
pub(crate) const LAUNCH: &str = "launch";
/// Names that begin so are half-made or half-removed directories.
pub(crate) const PARTIAL: &str = ".partial-";

/// What a runtime directory holds.
#[derive(Debug)]
pub(crate) enum Record {
    /// There is no such directory.
    Absent,
    /// It can't be read.
    Unknown(driver_api::Gap),
    /// Its launch description.
    Known(Box<Launch>),
}

/// Reads the launch description of a life. A directory without one is not understood: it is
/// made and removed as a whole, so somebody else must have been there.
pub(crate) fn read(directory: &Path, leaf: &str) -> Record {
    let what = || format!("read the launch description of {leaf}");
    match crate::cgroup::exists(directory) {
        Ok(false) => return Record::Absent,
        Ok(true) => {}
        Err(err) => return Record::Unknown(gap(what(), &err)),
    }
    let most = u64::try_from(LAUNCH_BYTES_MAX).unwrap_or(u64::MAX);
    let bytes = match text::read_bytes(&directory.join(LAUNCH), most) {
        Ok(bytes) => bytes,
        // Removed between the two looks?
        Err(err) if matches!(crate::cgroup::exists(directory), Ok(false)) => {
            let _gone = err;
            return Record::Absent;
        }
        Err(err) => return Record::Unknown(gap(what(), &err)),
    };
    match launch::read(&bytes) {
        Ok(launch) => Record::Known(Box::new(launch)),
        Err(err) => Record::Unknown(gap(what(), &err)),
    }
}

impl Record {
    /// Returns the description if it is known.
    pub(crate) fn launch(&self) -> Option<&Launch> {
        match self {
            Self::Known(launch) => Some(launch),
            Self::Absent | Self::Unknown(_) => None,
        }
    }

    /// Returns what is told of it.
    pub(crate) fn fact(&self, directory: &Path, mark: &Mark, boot_id: &str) -> Fact<Bundle> {
        let launch = match self {
            Self::Absent => return Fact::Absent,
            Self::Unknown(gap) => return Fact::Unknown(gap.clone()),
            Self::Known(launch) => launch,
        };
        let unknown = |why: &str| {
            let what = format!("read the launch description of {}", mark.leaf());
            Fact::Unknown(driver_api::Gap {
                what,
                why: why.to_owned(),
            })
        };
        let is_of_this = launch.instance == mark.instance.as_str()
            && launch.key == mark.key.as_str()
            && launch.incarnation == mark.incarnation.0;
        if !is_of_this {
            return unknown("it is of another life");
        }
        let Ok(container) = <[u8; 16]>::try_from(launch.container_digest.as_slice()) else {
            return unknown("its digest has another length");
        };
        let launched = match std::fs::symlink_metadata(directory.join("init.id")) {
            Ok(_) => true,
            Err(err) if err.kind() == io::ErrorKind::NotFound => false,
            Err(err) => {
                return Fact::Unknown(gap(format!("look at the init of {}", mark.leaf()), &err));
            }
        };
        Fact::Known(Bundle {
            container: Digest(container),
            generation: Generation(launch.generation),
            created_ms: launch.created_ms,
            this_boot: launch.boot_id == boot_id,
            launched,
        })
    }
}

/// Makes a runtime directory with its files, whole or not at all.
pub(crate) fn prepare(
    places: &Places,
    mark: &Mark,
    launch: &Launch,
    devices: &str,
) -> io::Result<()> {
    places.runtime.check()?;
    let partial = places
        .runtime
        .path
        .join(format!("{PARTIAL}{}", mark.leaf()));
    discard(&partial)?;
    make_private(&partial)?;
    files::replace(&partial, crate::cgroup::devices::FILE, devices.as_bytes())?;
    files::replace(&partial, LAUNCH, &launch.encode_to_vec())?;
    std::fs::rename(&partial, places.bundle(mark))
}

/// Writes a new launch description into a runtime directory.
pub(crate) fn rewrite(directory: &Path, launch: &Launch) -> io::Result<()> {
    files::replace(directory, LAUNCH, &launch.encode_to_vec())
}

/// Removes a runtime directory: taken away under its name first, so that a crash half way
/// does not leave one that is not understood.
pub(crate) fn remove(places: &Places, mark: &Mark) -> io::Result<bool> {
    places.runtime.check()?;
    let partial = places
        .runtime
        .path
        .join(format!("{PARTIAL}{}", mark.leaf()));
    discard(&partial)?;
    match std::fs::rename(places.bundle(mark), &partial) {
        Ok(()) => {}
        Err(err) if err.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(err) => return Err(err),
    }
    discard(&partial)?;
    Ok(true)
}

/// Removes half-made and half-removed directories that a crash left.
pub(crate) fn sweep(places: &Places) -> io::Result<()> {
    for entry in std::fs::read_dir(&places.runtime.path)? {
        let entry = entry?;
        if entry.file_name().to_string_lossy().starts_with(PARTIAL) {
            discard(&entry.path())?;
        }
    }
    Ok(())
}

/// Removes one directory of ours with the plain files in it. Never descends: nothing of
/// ours has directories there, and what is foreign stays and says so.
fn discard(directory: &Path) -> io::Result<()> {
    let entries = match std::fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(err) if err.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(err) => return Err(err),
    };
    for entry in entries {
        std::fs::remove_file(entry?.path())?;
    }
    std::fs::remove_dir(directory)
}
