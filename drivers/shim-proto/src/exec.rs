//! Commands that are run in a living container, beside its processes.
//!
//! `docs/formats/shim.md` tells how their descriptors travel and what becomes of them.

use alloc::string::String;
use alloc::vec::Vec;

use crate::init::Run;
use crate::launch::{Process, Rlimit};
use crate::message::{ExitKind, Failure};

/// Most commands that run in one container at once.
pub const EXECS_MAX: usize = 128;
/// Bytes that tell how a command ended.
pub const STATUS_BYTES: usize = 8;

/// Run a command.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Exec {
    /// What is run. Only command, environment, user, work directory and limits count; the
    /// name is for messages.
    #[prost(message, optional, tag = "1")]
    pub process: Option<Process>,
    /// On a terminal of this size; absent: on pipes.
    #[prost(message, optional, tag = "2")]
    pub terminal: Option<Window>,
    /// It gets a pipe as standard input; else `/dev/null`. A terminal is always read from.
    #[prost(bool, tag = "3")]
    pub input: bool,
}

/// Copy a tree of files. The init does it itself, confined as a command would be: nothing of
/// the image runs, and nothing on the host resolves a path of the container.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct CopyTree {
    /// As whom: `user[:group]`, names or numbers, looked up inside the root.
    #[prost(string, tag = "1")]
    pub user: String,
    /// From where, or to where.
    #[prost(bytes = "vec", tag = "2")]
    pub path: Vec<u8>,
    /// Which way, and how.
    #[prost(enumeration = "Way", tag = "3")]
    pub way: i32,
}

/// Take part in a process that runs: write what it reads, and hear of its end.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Attach {
    /// Which.
    #[prost(string, tag = "1")]
    pub name: String,
}

/// Which way a tree is copied.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, prost::Enumeration)]
#[repr(i32)]
pub enum Way {
    /// Not said; refused.
    None = 0,
    /// The archive comes out of its standard output.
    Out = 1,
    /// As `Out`; if the path is a link, what it leads to.
    OutFollowing = 2,
    /// The archive goes into its standard input: of one file or directory, which lands as
    /// `cp -R` lands it.
    In = 3,
    /// As `In`, whatever it holds, into a directory that is there.
    Inside = 4,
}

/// The size of a terminal, in characters (`ioctl_tty(2)`).
#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub struct Window {
    /// Lines.
    #[prost(uint32, tag = "1")]
    pub rows: u32,
    /// Characters in a line.
    #[prost(uint32, tag = "2")]
    pub columns: u32,
}

/// A command's program runs.
#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub struct Executing {
    /// Host pid.
    #[prost(uint32, tag = "1")]
    pub pid: u32,
    /// Field 22 of its `stat`.
    #[prost(uint64, tag = "2")]
    pub start: u64,
    /// How many descriptors come along.
    #[prost(uint32, tag = "3")]
    pub descriptors: u32,
}

/// Init to shim: a command exists and waits. Its pidfd comes along, and behind it what the
/// asker gets.
#[derive(Clone, PartialEq, prost::Message)]
pub struct ExecWaits {
    /// The order that it was made for.
    #[prost(uint64, tag = "1")]
    pub order: u64,
    /// Hard limits that only somebody outside can raise, to be set before it goes on.
    #[prost(message, repeated, tag = "2")]
    pub raise: Vec<Rlimit>,
    /// It does not wait but runs: it is this run of a process, which somebody attaches to.
    #[prost(message, optional, tag = "3")]
    pub run: Option<Run>,
}

/// Shim to init: what becomes of a command that waits.
#[derive(Clone, PartialEq, prost::Message)]
pub struct ExecGo {
    /// The order that it was made for.
    #[prost(uint64, tag = "1")]
    pub order: u64,
    /// Why it may not run; absent: it may.
    #[prost(message, optional, tag = "2")]
    pub refusal: Option<Failure>,
}

/// Returns how a command ended, as it goes through the status pipe.
#[must_use]
pub fn encode_status(kind: ExitKind, value: i32) -> [u8; STATUS_BYTES] {
    let [a, b, c, d] = (kind as i32).to_le_bytes();
    let [e, f, g, h] = value.to_le_bytes();
    [a, b, c, d, e, f, g, h]
}

/// Returns kind and code or signal of what came through the status pipe; none if it is
/// neither.
#[must_use]
pub fn decode_status(bytes: [u8; STATUS_BYTES]) -> Option<(ExitKind, i32)> {
    let [a, b, c, d, e, f, g, h] = bytes;
    let kind = ExitKind::try_from(i32::from_le_bytes([a, b, c, d])).ok()?;
    Some((kind, i32::from_le_bytes([e, f, g, h])))
}
