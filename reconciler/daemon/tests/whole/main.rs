//! The daemon as a process, with the real driver, a real socket and real peers.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "what fails in a test fails the test"
)]

mod answers;
mod hostile;
mod manager;
mod peers;
mod starts;
mod world;
