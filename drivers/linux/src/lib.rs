//! The kernel behind the seam.

mod caps;
mod cgroup;
mod clock;
mod error;
mod files;
mod mounts;
mod places;
mod process;
mod seccomp;
mod shim_client;
mod sys;
mod text;

pub use clock::boot_ms;
