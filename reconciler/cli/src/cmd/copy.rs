//! `reconciler cp`.

use std::ffi::{OsStr, OsString};
use std::io::{self, IsTerminal as _, Write as _};
use std::os::unix::ffi::OsStrExt as _;

use archive::{Destination, Landing, Side, Source};
use reconciler_daemon::api::wire::{CopyAsk, CopyWay};
use specs::id::Key;

use super::{Exit, Failure, Session};
use crate::args::CopyArgs;
use crate::client::copy::{CopyError, Parts};

/// One end of a copy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum CopyEnd {
    /// A path in a container.
    Container(Key, String),
    /// A path of this host.
    Host(OsString),
    /// An archive on standard input or output.
    Stream,
}

impl From<OsString> for CopyEnd {
    /// Reads `-`, `NAME:PATH` or a path; what has a `/` before the `:` is a path.
    fn from(text: OsString) -> Self {
        if text == "-" {
            return Self::Stream;
        }
        let named = text.to_str().and_then(|text| text.split_once(':'));
        match named.and_then(|(name, path)| Some((Key::new(name).ok()?, path.to_owned()))) {
            Some((key, path)) => Self::Container(key, path),
            None => Self::Host(text),
        }
    }
}

/// Copies files out of a container, or into it.
///
/// # Errors
/// When not all of it was copied.
pub(crate) fn copy(session: &Session, args: &CopyArgs) -> Result<Exit, Failure> {
    let ask = |way, path: &str| CopyAsk {
        way: Some(way),
        path: path.to_owned(),
        follow: args.follow,
        inside: args.source == CopyEnd::Stream,
        user: args.user.clone(),
    };
    match (&args.source, &args.destination) {
        (CopyEnd::Container(..), CopyEnd::Container(..)) => Err(Failure::Usage(
            "one of both is in a container, and only one; copy through a pipe: \
             reconciler cp A:PATH - | reconciler cp - B:DIR",
        )),
        (CopyEnd::Container(_, path), _) | (_, CopyEnd::Container(_, path)) if path.is_empty() => {
            Err(Failure::Usage(
                "NAME: is followed by a path in the container",
            ))
        }
        (CopyEnd::Container(key, path), to) => {
            copy_out(session, key, &ask(CopyWay::Out, path), to.clone())
        }
        (from, CopyEnd::Container(key, path)) => {
            copy_in(session, key, &ask(CopyWay::In, path), from, args.follow)
        }
        _ => Err(Failure::Usage("neither SRC nor DST is NAME:PATH")),
    }
}

fn copy_out(session: &Session, key: &Key, ask: &CopyAsk, to: CopyEnd) -> Result<Exit, Failure> {
    if to == CopyEnd::Stream && session.out.is_terminal {
        return Err(Failure::Usage("an archive is not for a terminal to show"));
    }
    let taken = session
        .client()?
        .copy_out(key, ask, move |parts: Parts| match to {
            CopyEnd::Host(path) => {
                // Modes are those of what is copied, and set by descriptor.
                rustix::process::umask(rustix::fs::Mode::empty());
                let destination = Destination {
                    side: Side::Host,
                    path: path.as_bytes(),
                    landing: Landing::As,
                };
                destination.unpack(parts).map(|_unpacked| ())
            }
            CopyEnd::Stream | CopyEnd::Container(..) => write_out(parts),
        });
    told(taken)
}

/// Passes an archive on as it is.
fn write_out(mut parts: Parts) -> Result<(), archive::CopyError> {
    let mut output = io::stdout().lock();
    let copied = io::copy(&mut parts, &mut output).and_then(|_| output.flush());
    copied.map_err(archive::CopyError::Output)
}

fn copy_in(
    session: &Session,
    key: &Key,
    ask: &CopyAsk,
    from: &CopyEnd,
    follow: bool,
) -> Result<Exit, Failure> {
    let client = session.client()?;
    let given = match from {
        CopyEnd::Host(path) => {
            let source = found(path, follow)?;
            client.copy_in(key, ask, move |to| source.pack(to))
        }
        CopyEnd::Stream | CopyEnd::Container(..) => {
            if io::stdin().is_terminal() {
                let why = "an archive is not typed: standard input is a terminal";
                return Err(Failure::Usage(why));
            }
            client.copy_in(key, ask, |mut to| {
                let mut input = io::stdin().lock();
                let copied = io::copy(&mut input, &mut to).and_then(|_| to.flush());
                copied.map(|_| ()).map_err(archive::CopyError::Input)
            })
        }
    };
    told(given)
}

/// Finds what is to be copied, before anybody is asked anything.
fn found(path: &OsStr, follow: bool) -> Result<Source, Failure> {
    let source = Source::find(Side::Host, path.as_bytes(), follow);
    source.map_err(|err| CopyError::here(err, false).into())
}

fn told(copied: Result<(), CopyError>) -> Result<Exit, Failure> {
    match copied {
        Ok(()) => Ok(Exit::Done),
        Err(CopyError::Ask(err)) => Err(Failure::Ask(err)),
        Err(err) => Err(Failure::Copy(err)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_end_is_in_a_container_if_a_name_stands_before_the_colon() {
        let end = |text: &str| CopyEnd::from(OsString::from(text));
        let inside =
            |name: &str, path: &str| CopyEnd::Container(Key::new(name).unwrap(), path.to_owned());
        assert_eq!(end("web:/etc"), inside("web", "/etc"));
        assert_eq!(end("web:a:b"), inside("web", "a:b"));
        assert_eq!(end("web:"), inside("web", ""));
        assert_eq!(end("-"), CopyEnd::Stream);
        for host in ["./web:/etc", "/a:b", "web", "Web:/etc", "a b:/c"] {
            assert_eq!(end(host), CopyEnd::Host(host.into()), "{host}");
        }
    }
}
