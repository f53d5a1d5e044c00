//! What the tests share: the world a test lives in, bounded waits, and the leak oracle.
#![forbid(unsafe_code)]
#![expect(
    clippy::indexing_slicing,
    reason = "a JSON value gives null for what is not there, and a test may panic"
)]

mod cgroups;
pub mod eventually;
pub mod golden;
pub mod host;
pub mod inventory;
pub mod network;
mod root;
pub mod world;

/// Says that a part of a test could not be done on this host, and why. `xtask test` lists
/// these lines at its end.
pub fn skip(why: &str) {
    use std::io::Write as _;
    writeln!(std::io::stdout(), "skipped: {why}").ok();
}
