//! The driver on this machine's kernel. Every object has its own instance name and its own
//! cgroup parent, and is removed again; what a kernel lacks is probed for and said.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test that meets the unexpected fails"
)]

mod cgroups;
mod disk;
mod launch;
mod links;
mod marks;
mod removal;
mod unknown;
mod wakes;
mod world;
