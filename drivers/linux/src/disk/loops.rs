//! Which loop device has a file. Asked of the kernel each time: numbers are used again.

use std::fs::File;
use std::io;
use std::os::fd::AsFd as _;
use std::os::unix::fs::MetadataExt as _;

use crate::sys::loops;
use crate::text;

/// A device that has the file, and keeps it while this is open.
pub(super) struct Device {
    pub(super) file: File,
    /// Its place in `/dev`.
    pub(super) node: String,
}

/// Returns the device of a file, if it has one.
///
/// # Errors
/// When the devices cannot be listed.
pub(super) fn of(file: &File) -> io::Result<Option<Device>> {
    let meta = file.metadata()?;
    let identity = (meta.dev(), meta.ino());
    for entry in std::fs::read_dir("/sys/block")? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if !name.starts_with("loop") {
            continue;
        }
        // A device without a file has no such place.
        let backing = text::read(&entry.path().join("loop/backing_file"));
        let is_image = |path: &String| path.contains(super::IMAGE);
        if !backing?.is_some_and(|path| is_image(&path)) {
            continue;
        }
        let node = format!("/dev/{name}");
        let file = match File::open(&node) {
            Ok(file) => file,
            // It has just gone.
            Err(err) if is_gone(&err) => continue,
            Err(err) => return Err(err),
        };
        // Asked of what is open: it cannot be given another file any more.
        match loops::file_of(file.as_fd()) {
            Ok(found) if found == identity => return Ok(Some(Device { file, node })),
            Ok(_) => {}
            Err(err) if is_gone(&err) => {}
            Err(err) => return Err(err),
        }
    }
    Ok(None)
}

fn is_gone(err: &io::Error) -> bool {
    matches!(err.raw_os_error(), Some(libc::ENOENT | libc::ENXIO))
}
