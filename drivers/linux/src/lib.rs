//! The kernel behind the seam.
//!
//! [`LinuxHost`] observes containers in `/proc`, cgroups, mount tables and over netlink, and
//! does the steps that bring about what is desired. It keeps no memory that a decision could
//! rest on.

mod bundle;
mod caps;
mod cgroup;
mod clients;
mod clock;
mod conntrack;
mod covers;
mod disk;
mod doctor;
mod error;
mod exec;
mod execute;
mod files;
mod host;
mod launch;
mod links;
mod listings;
mod mounts;
mod nft;
mod observe;
mod places;
mod ports;
mod process;
mod remove;
mod room;
mod rootdirs;
mod seccomp;
mod shim_client;
mod sys;
mod text;
mod usage;
mod wake;

pub use clock::boot_ms;
pub use doctor::{Check, CheckResult};
pub use exec::{
    Attached, Attaching, Command, CopyWay, Copying, Ended, Ends, ExecError, Handle, Program,
    Running, Window, resize,
};
pub use host::{CgroupsError, HostOptions, LinuxHost, OpenError};
pub use room::Room;
