//! The binary as people meet it: real processes, a real socket, a real pseudo-terminal.
#![forbid(unsafe_code)]
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test's own set-up may panic; clippy only sees that in functions marked as tests"
)]

mod asking;
mod command_line;
mod daemon;
mod papers;
mod specs;
mod streams;
mod terminal;
mod waiting;
