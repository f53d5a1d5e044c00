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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seccomp::tests::{denying, under};

    #[test]
    fn what_may_not_be_read_is_not_absent() {
        let eacces = u16::try_from(libc::EACCES).unwrap();
        let filter = denying(
            &["open", "openat", "openat2", "stat", "statx", "newfstatat"],
            eacces,
        );
        let (found, missing, group, place) = under(&filter, || {
            (
                read(Path::new("/proc/self/stat")),
                read(Path::new("/no/such/file")),
                crate::cgroup::exists(Path::new("/sys/fs/cgroup")),
                crate::process::stat(1),
            )
        });
        for err in [found.err(), missing.err(), group.err(), place.err()] {
            assert_eq!(err.and_then(|err| err.raw_os_error()), Some(libc::EACCES));
        }
        assert_eq!(read(Path::new("/no/such/file")).unwrap(), None);
    }

    #[test]
    fn a_file_in_the_way_is_not_absent() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("file"), "x").unwrap();
        assert!(read(&dir.path().join("file/inside")).is_err());
        assert!(read(dir.path()).is_err(), "a directory is no text");
        assert!(crate::cgroup::exists(&dir.path().join("file")).is_err());
    }

    #[test]
    fn long_texts_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("file"), "12345").unwrap();
        assert!(read_bytes(&dir.path().join("file"), 4).is_err());
        assert_eq!(read_bytes(&dir.path().join("file"), 5).unwrap(), b"12345");
    }
}
