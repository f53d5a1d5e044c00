//! What the daemon, a container's shim and its init say to each other. No I/O.
//!
//! Messages are protocol buffers (`prost`), so that a daemon and a shim of different
//! releases understand each other: a field is never renumbered or given another meaning,
//! new ones are optional, unknown ones are skipped. `docs/formats/shim.md` is the reference.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

mod aim;
pub mod end;
pub mod exec;
pub mod frame;
pub mod init;
pub mod launch;
pub mod message;
pub mod record;
