//! The shell around the core: the only crate with tokio. It reads clocks, watches
//! directories, runs the driver on bounded worker threads, keeps the store, and answers on a
//! socket. It holds no decision about a container: those are `reconciler-core`'s.
#![forbid(unsafe_code)]

pub mod api;

mod board;
mod clock;
mod overrides;
mod removal;
mod retry;
mod shell;
mod source;
mod watch;
mod workers;
