//! Paths become descriptors here.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, openat2};
use rustix::io::{Errno, Result as SysResult};

/// Looks before a path that is being renamed under us counts as moving.
const TRIES: u32 = 64;

/// On which side of a copy this runs, and so what it may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// As the user of a client: never makes devices, and never gives a file the rights of its
    /// owner (set-user-id, set-group-id, capabilities), which would be rights on the host.
    Host,
    /// Inside of a container, with its rights: paths are never followed through `/proc` to
    /// what a process holds open.
    Container,
}

impl Side {
    /// Opens a path that a person named.
    pub(crate) fn open(self, path: &[u8], flags: OFlags) -> SysResult<OwnedFd> {
        let resolve = match self {
            Self::Host => ResolveFlags::empty(),
            Self::Container => ResolveFlags::NO_MAGICLINKS,
        };
        let path = if path.is_empty() { b"." } else { path };
        retry(CWD, path, flags, resolve)
    }
}

/// Opens a path that an archive named, beneath the directory it is unpacked in: no link, no
/// `..` and nobody who moves things meanwhile leads out of it.
pub(crate) fn open_beneath(directory: impl AsFd, path: &[u8], flags: OFlags) -> SysResult<OwnedFd> {
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
    let path = if path.is_empty() { b"." } else { path };
    retry(directory.as_fd(), path, flags, resolve)
}

fn retry(
    directory: BorrowedFd<'_>,
    path: &[u8],
    flags: OFlags,
    resolve: ResolveFlags,
) -> SysResult<OwnedFd> {
    let mut tries = 0;
    loop {
        let flags = flags | OFlags::CLOEXEC;
        match openat2(directory, path, flags, Mode::empty(), resolve) {
            Err(Errno::AGAIN | Errno::INTR) if tries < TRIES => tries += 1,
            told => return told,
        }
    }
}

/// A path that a person named, cut where its last name begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Split<'a> {
    /// The directory that it stands in; empty: the current one.
    pub(crate) parent: &'a [u8],
    /// Its last name; none for `/`, and for what ends in `.` or `..`: what is in there.
    pub(crate) name: Option<&'a [u8]>,
    /// It ends in `/`: it has to be a directory.
    pub(crate) must_be_directory: bool,
}

impl<'a> Split<'a> {
    pub(crate) fn new(path: &'a [u8]) -> Self {
        let mut whole = path;
        while let Some((b'/', rest)) = whole.split_last() {
            whole = rest;
        }
        let must_be_directory = whole.len() < path.len();
        let cut = whole.iter().rposition(|byte| *byte == b'/');
        let (parent, name) = whole.split_at(cut.map_or(0, |at| at + 1));
        Self {
            parent,
            name: (!matches!(name, b"" | b"." | b"..")).then_some(name),
            must_be_directory,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_cut_where_its_last_name_begins() {
        let cut = |path: &'static str| {
            let Split {
                parent,
                name,
                must_be_directory,
            } = Split::new(path.as_bytes());
            let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
            (text(parent), name.map(text), must_be_directory)
        };
        let some = |text: &str| Some(text.to_owned());
        assert_eq!(cut("/a/b"), ("/a/".into(), some("b"), false));
        assert_eq!(cut("a//"), (String::new(), some("a"), true));
        assert_eq!(cut("/a"), ("/".into(), some("a"), false));
        assert_eq!(cut("/a/."), ("/a/".into(), None, false));
        assert_eq!(cut("/"), (String::new(), None, true));
        assert_eq!(cut("..").1, None);
    }
}
