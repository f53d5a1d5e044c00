//! A child of the init that copies files, instead of becoming a program.
//!
//! It is confined as a command is, stands in the container's root with the rights of a user
//! there, and holds three pipes. So every path that it opens is the container's, whoever
//! changes links meanwhile.

use std::io::{self, BufReader, BufWriter, Read, Write};
use std::os::fd::BorrowedFd;

use archive::{Destination, Landing, Side, Source};
use rustix::fs::Mode;
use shim_proto::exec::{CopyTree, Way};
use shim_proto::message::Failure;

use crate::fail::tolerate;
use crate::{fail, kernel};

/// The name `ps` shows.
const NAME: &std::ffi::CStr = c"reconciler-cp";
/// Bytes of an archive that are gathered.
const BUFFER_BYTES: usize = 64 << 10;
/// Exit code of a copy that is not whole; why is on standard error.
const FAILED: i32 = 1;

/// What is copied.
#[derive(Debug)]
pub(super) struct Copying {
    path: Vec<u8>,
    way: Way,
}

impl Copying {
    pub(super) fn new(wanted: &CopyTree) -> Result<Self, Failure> {
        let bad = |why: &str| fail::terminal("copy files", why);
        if wanted.path.is_empty() || wanted.path.contains(&0) {
            return Err(bad("it is no path"));
        }
        match wanted.way() {
            Way::None => Err(bad("which way is not said")),
            way => Ok(Self {
                path: wanted.path.clone(),
                way,
            }),
        }
    }

    /// Copies, tells why not, and ends.
    pub(super) fn run(&self) -> ! {
        tolerate(rustix::thread::set_name(NAME));
        rustix::process::umask(Mode::empty());
        let into = |landing| {
            let destination = Destination {
                side: Side::Container,
                path: &self.path,
                landing,
            };
            let input = BufReader::with_capacity(BUFFER_BYTES, Pipe(rustix::stdio::stdin()));
            destination.unpack(input).map(|_unpacked| ())
        };
        let out = |follow| {
            let source = Source::find(Side::Container, &self.path, follow)?;
            let output = Pipe(rustix::stdio::stdout());
            source.pack(BufWriter::with_capacity(BUFFER_BYTES, output))
        };
        let told = match self.way {
            Way::Out | Way::None => out(false),
            Way::OutFollowing => out(true),
            Way::In => into(Landing::As),
            Way::Inside => into(Landing::Inside),
        };
        let Err(err) = told else { kernel::exit_now(0) };
        let words = err.words();
        // Who asked may be gone.
        tolerate(rustix::io::write(rustix::stdio::stderr(), words.as_bytes()));
        kernel::exit_now(FAILED)
    }
}

/// An end of a pipe.
struct Pipe(BorrowedFd<'static>);

impl Read for Pipe {
    fn read(&mut self, room: &mut [u8]) -> io::Result<usize> {
        Ok(rustix::io::read(self.0, room)?)
    }
}

impl Write for Pipe {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Ok(rustix::io::write(self.0, bytes)?)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
