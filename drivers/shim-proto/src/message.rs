//! Requests of the daemon to a shim, and its answers.
//!
//! ```text
//! daemon                                     shim
//!   | -- Request{id, Hello} ------------------> |
//!   | <- Reply{id, Hello} --------------------- |   a refusal is Reply{id, Failure}
//!   | -- Request{id, Report | Start | ...} ---> |
//!   | <- Reply{id, ...} ----------------------- |
//!   | <- Reply{id: 0, Changed} ---------------- |   at any time: look again
//! ```

use alloc::string::String;
use alloc::vec::Vec;

pub use crate::aim::{Act, Aim};
use crate::exec::{Attach, CopyTree, Exec, Executing};
use crate::launch::{File, Mount, Process};

/// Version of the protocol this code speaks. Since 2 an order that ends something carries an
/// [`Aim`]; since 3 there is [`Exec`], since 4 [`CopyTree`] and
/// [`Attach`].
pub const PROTOCOL: u32 = 4;
/// Oldest version this code still understands.
pub const PROTOCOL_MIN: u32 = 1;
/// Most bytes one frame may carry after its four-byte little-endian length.
pub const FRAME_BYTES_MAX: u32 = 1 << 20;

/// What the daemon asks.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Request {
    /// Chosen by the daemon, not 0; the reply carries it.
    #[prost(uint64, tag = "1")]
    pub id: u64,
    /// What is asked.
    #[prost(oneof = "Ask", tags = "2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13")]
    pub ask: Option<Ask>,
    /// Whom and what it is meant for; without it nothing is ended.
    #[prost(message, optional, tag = "20")]
    pub aim: Option<Aim>,
}

/// What is asked.
#[derive(Clone, PartialEq, prost::Oneof)]
pub enum Ask {
    /// First on every connection.
    #[prost(message, tag = "2")]
    Hello(Hello),
    /// How is everything?
    #[prost(message, tag = "3")]
    Report(ReportAsk),
    /// Start this process, or start it again. Refused while it runs.
    #[prost(message, tag = "4")]
    Start(Process),
    /// Begin to end a process.
    #[prost(message, tag = "5")]
    Stop(Stop),
    /// Send a process a signal.
    #[prost(message, tag = "6")]
    Signal(Signal),
    /// Forget a process that has ended.
    #[prost(message, tag = "7")]
    Forget(Forget),
    /// Write a file into the root, atomically.
    #[prost(message, tag = "8")]
    WriteFile(File),
    /// Make a mount again.
    #[prost(message, tag = "9")]
    Mount(Mount),
    /// Go away: kill the init if it lives, flush logs, leave the records.
    #[prost(message, tag = "10")]
    End(End),
    /// Run a command beside the container's processes.
    #[prost(message, tag = "11")]
    Exec(Exec),
    /// Copy a tree of files out of the root, or into it.
    #[prost(message, tag = "12")]
    Copy(CopyTree),
    /// Take part in a process that runs.
    #[prost(message, tag = "13")]
    Attach(Attach),
}

/// First on every connection, in both directions.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Hello {
    /// Newest version spoken.
    #[prost(uint32, tag = "1")]
    pub protocol: u32,
    /// Oldest version spoken.
    #[prost(uint32, tag = "2")]
    pub protocol_min: u32,
    /// Name of the daemon.
    #[prost(string, tag = "3")]
    pub instance: String,
    /// Name of the container.
    #[prost(string, tag = "4")]
    pub key: String,
    /// Which of its lives.
    #[prost(uint64, tag = "5")]
    pub incarnation: u64,
}

/// How is everything?
#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub struct ReportAsk {}

/// Begin to end a process.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Stop {
    /// Which.
    #[prost(string, tag = "1")]
    pub name: String,
    /// First signal.
    #[prost(uint32, tag = "2")]
    pub signal: u32,
    /// Milliseconds until `KILL`; 0 is at once. A later `Stop` may only bring it nearer.
    #[prost(uint64, tag = "3")]
    pub grace_ms: u64,
    /// Starts so far that the asker saw; another number is refused as stale.
    #[prost(uint64, tag = "4")]
    pub starts: u64,
}

/// Send a process a signal.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Signal {
    /// Which.
    #[prost(string, tag = "1")]
    pub name: String,
    /// The signal.
    #[prost(uint32, tag = "2")]
    pub signal: u32,
    /// Starts so far that the asker saw; another number is refused as stale.
    #[prost(uint64, tag = "3")]
    pub starts: u64,
    /// Digest of the files it announces; reported from now on.
    #[prost(bytes = "vec", tag = "4")]
    pub files: Vec<u8>,
}

/// Forget a process that has ended.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Forget {
    /// Which.
    #[prost(string, tag = "1")]
    pub name: String,
}

/// Go away.
#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub struct End {}

/// What the shim answers.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Reply {
    /// The request's, or 0 for what was not asked.
    #[prost(uint64, tag = "1")]
    pub id: u64,
    /// The answer.
    #[prost(oneof = "Answer", tags = "2, 3, 4, 5, 6, 7")]
    pub answer: Option<Answer>,
}

/// The answer.
#[derive(Clone, PartialEq, prost::Oneof)]
pub enum Answer {
    /// To `Hello`.
    #[prost(message, tag = "2")]
    Hello(Hello),
    /// To `Report`.
    #[prost(message, tag = "3")]
    Report(Report),
    /// Done, or begun.
    #[prost(message, tag = "4")]
    Done(Done),
    /// Not done.
    #[prost(message, tag = "5")]
    Failure(Failure),
    /// Something changed: look again. Sent unasked after `Hello`, at most one until the
    /// next `Report`.
    #[prost(message, tag = "6")]
    Changed(Changed),
    /// To `Exec`, `Copy` and `Attach`: it runs. Descriptors come along with the first byte.
    #[prost(message, tag = "7")]
    Executing(Executing),
}

/// Done, or begun.
#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub struct Done {}

/// Something changed.
#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub struct Changed {}

/// Not done.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Failure {
    /// How to take it.
    #[prost(enumeration = "FailureKind", tag = "1")]
    pub kind: i32,
    /// What was attempted, on what.
    #[prost(string, tag = "2")]
    pub what: String,
    /// `errno`, 0 for none.
    #[prost(int32, tag = "3")]
    pub errno: i32,
    /// The cause in words, where `errno` does not say it.
    #[prost(string, tag = "4")]
    pub cause: String,
    /// There is no such command in the root; told of [`Exec`] only.
    #[prost(bool, tag = "5")]
    pub no_such_command: bool,
}

/// How a failure is to be taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, prost::Enumeration)]
#[repr(i32)]
pub enum FailureKind {
    /// It may work later.
    Retry = 0,
    /// The asker's picture is old.
    Stale = 1,
    /// A person must act: the command does not exist, the user is unknown, ...
    Terminal = 2,
    /// The request was not understood.
    Unknown = 3,
}

/// How everything is.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Report {
    /// The shim's own host pid.
    #[prost(uint32, tag = "1")]
    pub shim_pid: u32,
    /// The init, while it lives.
    #[prost(message, optional, tag = "2")]
    pub init: Option<InitReport>,
    /// Why there is no init, when making it failed.
    #[prost(message, optional, tag = "3")]
    pub launch_failure: Option<Failure>,
    /// Every process ever started in this life and not forgotten.
    #[prost(message, repeated, tag = "4")]
    pub processes: Vec<ProcessReport>,
    /// Files as last written.
    #[prost(message, repeated, tag = "5")]
    pub files: Vec<FileReport>,
}

/// The container's init.
#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub struct InitReport {
    /// Host pid.
    #[prost(uint32, tag = "1")]
    pub pid: u32,
    /// Field 22 of its `stat`.
    #[prost(uint64, tag = "2")]
    pub start: u64,
    /// It stands in its root and takes orders.
    #[prost(bool, tag = "3")]
    pub ready: bool,
}

/// One process.
#[derive(Clone, PartialEq, prost::Message)]
pub struct ProcessReport {
    /// Which.
    #[prost(string, tag = "1")]
    pub name: String,
    /// As given at the last start.
    #[prost(bytes = "vec", tag = "2")]
    pub digest: Vec<u8>,
    /// As given at the last start or signal.
    #[prost(bytes = "vec", tag = "3")]
    pub files: Vec<u8>,
    /// As given at the last start.
    #[prost(uint64, tag = "4")]
    pub restart_epoch: u64,
    /// Starts so far in this life.
    #[prost(uint64, tag = "5")]
    pub starts: u64,
    /// Host pid while it lives, else 0.
    #[prost(uint32, tag = "6")]
    pub pid: u32,
    /// Field 22 of its `stat` while it lives.
    #[prost(uint64, tag = "7")]
    pub start: u64,
    /// When the present run began, `CLOCK_BOOTTIME` milliseconds.
    #[prost(uint64, tag = "8")]
    pub started_ms: u64,
    /// When it was asked to end, `CLOCK_BOOTTIME` milliseconds; 0 if it was not.
    #[prost(uint64, tag = "9")]
    pub stopping_ms: u64,
    /// How the last run that is over ended.
    #[prost(message, optional, tag = "10")]
    pub last_exit: Option<Exit>,
    /// Log lines dropped so far because the disk or the reader was too slow.
    #[prost(uint64, tag = "11")]
    pub dropped_bytes: u64,
}

/// One run that is over.
#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub struct Exit {
    /// `CLOCK_BOOTTIME` milliseconds.
    #[prost(uint64, tag = "1")]
    pub started_ms: u64,
    /// `CLOCK_BOOTTIME` milliseconds.
    #[prost(uint64, tag = "2")]
    pub ended_ms: u64,
    /// How.
    #[prost(enumeration = "ExitKind", tag = "3")]
    pub kind: i32,
    /// Code, signal or `errno`, by kind.
    #[prost(int32, tag = "4")]
    pub value: i32,
    /// It was ended on the daemon's word.
    #[prost(bool, tag = "5")]
    pub asked: bool,
    /// Kills for memory in the container when the end was seen; absent if nobody could read
    /// that, or an older init reaped it.
    #[prost(uint64, optional, tag = "6")]
    pub oom_kills: Option<u64>,
    /// The kernel killed it for memory.
    #[prost(bool, tag = "7")]
    pub oom_killed: bool,
}

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, prost::Enumeration)]
#[repr(i32)]
pub enum ExitKind {
    /// Nobody saw it.
    Unseen = 0,
    /// By itself, with a code.
    Code = 1,
    /// By a signal.
    Signal = 2,
    /// It never came to run.
    NotStarted = 3,
}

/// One placed file.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct FileReport {
    /// Path inside the root.
    #[prost(string, tag = "1")]
    pub path: String,
    /// As given when it was written.
    #[prost(bytes = "vec", tag = "2")]
    pub digest: Vec<u8>,
}
