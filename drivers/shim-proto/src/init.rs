//! What a shim and the init of its container say to each other, over `init.sock`.
//!
//! ```text
//! shim                                      init
//!   | <- Failed{failure} ------------------- |   it could not enter its root, and ends
//!   | <- Ready{} --------------------------- |   + both ends of the holding pipe
//!   | <- Entry{record} for each process ---- |   + pidfd and output pipes
//!   | -- Spawn{process} -------------------> |
//!   | <- Entry{record, waits} -------------- |   the child exists and waits
//!   | -- Go{slot, run} | Cancel -----------> |   its limits are raised
//!   | <- Entry{record} --------------------- |   it runs, or never came to
//!   | <- Answer{id, failure?} -------------- |
//!   | -- Drained{slot, run, stream} -------> |   no writer is left: let go of the pipe
//!   | -- Exec{command} --------------------> |
//!   | <- ExecWaits{order} ------------------ |   + pidfd, status pipe and outer ends
//!   | -- ExecGo{order, refusal?} ----------> |
//!   | <- Answer{id, failure?} -------------- |   its program runs, or never came to
//! ```
//!
//! An init serves one shim at a time. Entries carry whole records, so that what is lost with
//! a killed shim is told again to the next.

use alloc::string::String;
use alloc::vec::Vec;

use crate::launch::Process;
use crate::message::Failure;

/// From shim to init.
#[derive(Clone, PartialEq, prost::Message)]
pub struct ToInit {
    /// Chosen by the shim; the answer carries it. 0: no answer is wanted.
    #[prost(uint64, tag = "1")]
    pub id: u64,
    /// The order.
    #[prost(oneof = "Order", tags = "2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12")]
    pub order: Option<Order>,
}

/// An order to the init.
#[derive(Clone, PartialEq, prost::Oneof)]
pub enum Order {
    /// Make a process that waits for `Go`.
    #[prost(message, tag = "2")]
    Spawn(Process),
    /// Let it run.
    #[prost(message, tag = "3")]
    Go(Run),
    /// Do not let it run.
    #[prost(message, tag = "4")]
    Cancel(Cancel),
    /// Begin to end a process.
    #[prost(message, tag = "5")]
    Stop(crate::message::Stop),
    /// Send a process a signal.
    #[prost(message, tag = "6")]
    Signal(crate::message::Signal),
    /// Forget a process that has ended.
    #[prost(message, tag = "7")]
    Forget(crate::message::Forget),
    /// Let go of a pipe that has no writer left.
    #[prost(message, tag = "8")]
    Drained(Drained),
    /// Make a command that waits for `ExecGo`.
    #[prost(message, tag = "9")]
    Exec(crate::exec::Exec),
    /// Let it run, or not.
    #[prost(message, tag = "10")]
    ExecGo(crate::exec::ExecGo),
    /// As `Exec`, for a tree of files to be copied.
    #[prost(message, tag = "11")]
    Copy(crate::exec::CopyTree),
    /// Hand out what a process that runs reads from.
    #[prost(message, tag = "12")]
    Attach(crate::exec::Attach),
}

/// One run of one process.
#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub struct Run {
    /// Its place in the table.
    #[prost(uint32, tag = "1")]
    pub slot: u32,
    /// Which of its starts, from 1.
    #[prost(uint64, tag = "2")]
    pub run: u64,
}

/// A run that may not be.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Cancel {
    /// Which.
    #[prost(message, optional, tag = "1")]
    pub run: Option<Run>,
    /// Why.
    #[prost(message, optional, tag = "2")]
    pub why: Option<Failure>,
}

/// A pipe that has no writer left.
#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub struct Drained {
    /// Its place in the table.
    #[prost(uint32, tag = "1")]
    pub slot: u32,
    /// Which of its starts, from 1.
    #[prost(uint64, tag = "2")]
    pub run: u64,
    /// 1 or 2.
    #[prost(uint32, tag = "3")]
    pub stream: u32,
}

/// From init to shim.
#[derive(Clone, PartialEq, prost::Message)]
pub struct FromInit {
    /// How many descriptors were sent along.
    #[prost(uint32, tag = "1")]
    pub descriptors: u32,
    /// The word.
    #[prost(oneof = "Word", tags = "2, 3, 4, 5, 6")]
    pub word: Option<Word>,
}

/// A word of the init.
#[derive(Clone, PartialEq, prost::Oneof)]
pub enum Word {
    /// It stands in its root and takes orders. With the holding pipe: read end, write end.
    #[prost(message, tag = "2")]
    Ready(Ready),
    /// It could not enter its root.
    #[prost(message, tag = "3")]
    Failed(Failure),
    /// A process is now like this.
    #[prost(message, tag = "4")]
    Entry(Entry),
    /// To an order that wants one.
    #[prost(message, tag = "5")]
    Answer(OrderAnswer),
    /// A command waits.
    #[prost(message, tag = "6")]
    ExecWaits(crate::exec::ExecWaits),
}

/// It stands in its root.
#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub struct Ready {
    /// Version of this dialogue; see [`crate::message::PROTOCOL`].
    #[prost(uint32, tag = "1")]
    pub protocol: u32,
}

/// A process is now like this.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Entry {
    /// Its place in the table.
    #[prost(uint32, tag = "1")]
    pub slot: u32,
    /// [`crate::record::Record`] as bytes; empty: the place is free now.
    #[prost(bytes = "vec", tag = "2")]
    pub record: Vec<u8>,
    /// A pidfd is the first descriptor.
    #[prost(bool, tag = "3")]
    pub pidfd: bool,
    /// The pipes whose read ends follow, in this order.
    #[prost(message, repeated, tag = "4")]
    pub pipes: Vec<Pipe>,
    /// The child waits for `Go`.
    #[prost(bool, tag = "5")]
    pub waits: bool,
    /// Hard limits that only somebody outside can raise, to be set before `Go`.
    #[prost(message, repeated, tag = "6")]
    pub raise: Vec<crate::launch::Rlimit>,
}

/// One output pipe.
#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub struct Pipe {
    /// Which start of the process it belongs to.
    #[prost(uint64, tag = "1")]
    pub run: u64,
    /// 1 or 2.
    #[prost(uint32, tag = "2")]
    pub stream: u32,
}

/// To an order that wants one.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct OrderAnswer {
    /// The order's.
    #[prost(uint64, tag = "1")]
    pub id: u64,
    /// Absent: done, or begun.
    #[prost(message, optional, tag = "2")]
    pub failure: Option<Failure>,
}

/// Longest name of a process, in bytes.
pub const NAME_BYTES_MAX: usize = 63;
/// Most processes one container can have.
pub const PROCESSES_MAX: usize = 64;

/// Returns whether a text may name a process: a DNS label (RFC 1123).
#[must_use]
pub fn is_process_name(name: &str) -> bool {
    let edge = |byte: Option<&u8>| byte.is_some_and(|b| *b != b'-');
    name.len() <= NAME_BYTES_MAX
        && edge(name.as_bytes().first())
        && edge(name.as_bytes().last())
        && name
            .bytes()
            .all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'-'))
}

/// Makes a failure.
#[must_use]
pub fn failure(
    kind: crate::message::FailureKind,
    what: impl Into<String>,
    cause: impl Into<String>,
) -> Failure {
    Failure {
        kind: kind as i32,
        what: what.into(),
        errno: 0,
        cause: cause.into(),
        no_such_command: false,
    }
}
