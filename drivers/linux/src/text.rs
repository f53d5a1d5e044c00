//! Bounded reads of small text files, with "not there" told apart from "cannot be read".

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

/// Most bytes read from one file of the kernel's.
pub(crate) const TEXT_BYTES_MAX: u64 = 8 << 20;

/// Returns a file's text; `None` when the path does not exist, or when the thing behind it
/// went while it was read (`ENODEV` from cgroup files, `ESRCH` from `/proc`).
///
/// # Errors
/// Anything else, also a text longer than [`TEXT_BYTES_MAX`]. Bytes that are not UTF-8 are
/// replaced, since a container chooses some of them.
pub(crate) fn read(path: &Path) -> io::Result<Option<String>> {
    let bytes = match read_bytes(path, TEXT_BYTES_MAX) {
        Ok(bytes) => bytes,
        Err(err) if is_gone(&err) => return Ok(None),
        Err(err) => return Err(err),
    };
    Ok(Some(match String::from_utf8(bytes) {
        Ok(text) => text,
        Err(err) => String::from_utf8_lossy(err.as_bytes()).into_owned(),
    }))
}

/// Returns a file's bytes, at most `most`.
pub(crate) fn read_bytes(path: &Path, most: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(most + 1).read_to_end(&mut bytes)?;
    if u64::try_from(bytes.len()).unwrap_or(u64::MAX) > most {
        return Err(io::Error::new(
            io::ErrorKind::FileTooLarge,
            format!("more than {most} bytes"),
        ));
    }
    Ok(bytes)
}

/// Returns whether an error says that the thing is not there.
pub(crate) fn is_gone(err: &io::Error) -> bool {
    matches!(
        err.raw_os_error(),
        Some(libc::ENOENT | libc::ENODEV | libc::ESRCH)
    )
}
