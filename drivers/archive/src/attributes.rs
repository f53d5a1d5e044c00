//! Extended attributes of files (`xattr(7)`): which go along.

use std::os::fd::BorrowedFd;

use rustix::io::Errno;

/// Longest list of names of extended attributes, and longest value (`xattr(7)`).
const ATTRIBUTE_BYTES_MAX: usize = 64 << 10;
/// Bytes that the names of most files fit in.
const SOME_BYTES: usize = 1024;

/// Returns the extended attributes that go along; none where there are none.
pub(crate) fn attributes(file: BorrowedFd<'_>) -> Vec<(Vec<u8>, Vec<u8>)> {
    // Most files have none.
    let mut some = [0; SOME_BYTES];
    let mut names = match rustix::fs::flistxattr(file, &mut some[..]) {
        Ok(length) => some.get(..length).unwrap_or_default().to_vec(),
        Err(Errno::RANGE) => vec![0; ATTRIBUTE_BYTES_MAX],
        Err(_) => return Vec::new(),
    };
    if names.len() == ATTRIBUTE_BYTES_MAX {
        let length = rustix::fs::flistxattr(file, &mut names[..]).unwrap_or(0);
        names.truncate(length);
    }
    let mut found = Vec::new();
    let names = names.split(|byte| *byte == 0);
    for name in names.filter(|name| is_kept(name)) {
        let mut value = vec![0; ATTRIBUTE_BYTES_MAX];
        if let Ok(length) = rustix::fs::fgetxattr(file, name, &mut value[..]) {
            value.truncate(length);
            found.push((name.to_vec(), value));
        }
    }
    found
}

/// Returns whether an extended attribute is copied: what users wrote, and capabilities.
pub(crate) fn is_kept(name: &[u8]) -> bool {
    name.starts_with(b"user.") || name == b"security.capability"
}
