//! The launch description: everything a shim needs to make one container, written by the
//! daemon into the runtime directory (file `launch`, mode 0600) before the shim is started.

use alloc::string::String;
use alloc::vec::Vec;

/// One container to be made.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Launch {
    /// Version of this description; see [`crate::message::PROTOCOL`].
    #[prost(uint32, tag = "1")]
    pub protocol: u32,
    /// Name of the daemon.
    #[prost(string, tag = "2")]
    pub instance: String,
    /// Name of the container.
    #[prost(string, tag = "3")]
    pub key: String,
    /// Which of its lives.
    #[prost(uint64, tag = "4")]
    pub incarnation: u64,
    /// Generation of the intent it was made from.
    #[prost(uint64, tag = "5")]
    pub generation: u64,
    /// Digest of the part that cannot change in a life, 16 bytes.
    #[prost(bytes = "vec", tag = "6")]
    pub container_digest: Vec<u8>,
    /// `/proc/sys/kernel/random/boot_id` when it was written.
    #[prost(string, tag = "7")]
    pub boot_id: String,
    /// Milliseconds since the epoch when it was written.
    #[prost(uint64, tag = "8")]
    pub created_ms: u64,
    /// Host name inside.
    #[prost(string, tag = "9")]
    pub hostname: String,
    /// Own user namespace: ids 0.. inside are `id_base`.. on the host. Absent: the host's.
    #[prost(message, optional, tag = "10")]
    pub user_namespace: Option<IdRange>,
    /// Shares the host's network namespace.
    #[prost(bool, tag = "11")]
    pub host_network: bool,
    /// The root file system.
    #[prost(message, optional, tag = "12")]
    pub root: Option<Root>,
    /// Mounts below it, parents before children.
    #[prost(message, repeated, tag = "13")]
    pub mounts: Vec<Mount>,
    /// Devices beside the standard ones, by path on the host and inside.
    #[prost(string, repeated, tag = "14")]
    pub devices: Vec<String>,
    /// Paths made read-only.
    #[prost(string, repeated, tag = "15")]
    pub read_only_paths: Vec<String>,
    /// Paths hidden.
    #[prost(string, repeated, tag = "16")]
    pub masked_paths: Vec<String>,
    /// Kernel settings of the container's namespaces: dotted name and value.
    #[prost(message, repeated, tag = "17")]
    pub sysctls: Vec<Pair>,
    /// Capability bits kept by processes (bounding, permitted, effective), as in `capset(2)`.
    #[prost(uint64, tag = "18")]
    pub capabilities: u64,
    /// Classic BPF programs for `seccomp(2)`, each a run of 8-byte `sock_filter`, installed
    /// in this order. None: unconfined.
    #[prost(bytes = "vec", repeated, tag = "19")]
    pub seccomp: Vec<Vec<u8>>,
    /// `PR_SET_NO_NEW_PRIVS` for every process.
    #[prost(bool, tag = "20")]
    pub no_new_privileges: bool,
    /// Nothing is masked, all devices are there.
    #[prost(bool, tag = "21")]
    pub privileged: bool,
    /// Directories of the container's cgroup, already made: first the version 2 one if there
    /// is any, then each version 1 hierarchy.
    #[prost(message, repeated, tag = "22")]
    pub cgroups: Vec<CgroupDirectory>,
    /// Directories of the cgroup that shims live in.
    #[prost(message, repeated, tag = "23")]
    pub shim_cgroups: Vec<CgroupDirectory>,
    /// Files placed in the root before the first process.
    #[prost(message, repeated, tag = "24")]
    pub files: Vec<File>,
    /// Host directory of the log files, made by the daemon, mode 0700.
    #[prost(string, tag = "25")]
    pub log_directory: String,
    /// `oom_score_adj` for the container's processes, where the host allows it.
    #[prost(sint32, optional, tag = "26")]
    pub oom_score_adj: Option<i32>,
    /// How the root is put together.
    #[prost(enumeration = "Assembly", tag = "27")]
    pub assembly: i32,
    /// The daemon connects its network namespace to the host's.
    #[prost(bool, tag = "28")]
    pub isolated: bool,
    /// Always true, and the last bytes of the file: one cut short between two fields would
    /// otherwise decode to a container with fewer restrictions. Later fields get lower tags.
    #[prost(bool, tag = "500")]
    pub complete: bool,
}

/// Most bytes a launch description may have.
pub const LAUNCH_BYTES_MAX: usize = 16 << 20;

/// How the root is put together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, prost::Enumeration)]
#[repr(i32)]
pub enum Assembly {
    /// Detached if the kernel can, else classic.
    Auto = 0,
    /// As a detached mount tree in the shim, handed over as one descriptor (Linux 6.15).
    Detached = 1,
    /// In a private mount namespace with `mount(2)`.
    Classic = 2,
}

/// Ids 0 to `count - 1` inside are `base` to `base + count - 1` on the host.
#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub struct IdRange {
    /// First id on the host.
    #[prost(uint32, tag = "1")]
    pub base: u32,
    /// How many.
    #[prost(uint32, tag = "2")]
    pub count: u32,
}

/// The root file system.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Root {
    /// Host path of the shared lower layer.
    #[prost(string, tag = "1")]
    pub lower: String,
    /// Host path of the upper layer, already made.
    #[prost(string, tag = "2")]
    pub upper: String,
    /// Host path of overlay's work directory, already made, on the upper's file system.
    #[prost(string, tag = "3")]
    pub work: String,
    /// The finished root is read-only.
    #[prost(bool, tag = "4")]
    pub read_only: bool,
    /// The upper outlives the container: it is id-mapped, so that what it holds does not
    /// depend on the id range, and is not mounted `volatile`.
    #[prost(bool, tag = "5")]
    pub persistent: bool,
    /// Host path of an ext4 image that holds `upper` and `work`, which then are names in its
    /// root; empty: they are directories of the host.
    #[prost(string, tag = "6")]
    pub image: String,
}

/// One mount below the root.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Mount {
    /// Absolute path inside the root.
    #[prost(string, tag = "1")]
    pub path: String,
    /// No writes through it.
    #[prost(bool, tag = "2")]
    pub read_only: bool,
    /// What it is.
    #[prost(oneof = "MountSource", tags = "3, 4, 5")]
    pub source: Option<MountSource>,
}

/// What a mount is.
#[derive(Clone, PartialEq, prost::Oneof)]
pub enum MountSource {
    /// A host directory or file; volumes too.
    #[prost(message, tag = "3")]
    Bind(Bind),
    /// Memory.
    #[prost(message, tag = "4")]
    Tmpfs(Tmpfs),
    /// The path itself, covered again; never part of a launch.
    #[prost(message, tag = "5")]
    Cover(Cover),
}

/// What is laid over a path that stands open.
#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub struct Cover {
    /// Hidden; else read-only.
    #[prost(bool, tag = "1")]
    pub hide: bool,
}

impl Launch {
    /// Returns whether a path of [`Self::masked_paths`] or [`Self::read_only_paths`] is
    /// covered: for a privileged container the kernel's own file systems stay as they are.
    #[must_use]
    pub fn is_covered(&self, path: &str) -> bool {
        let is_below = |top: &str| {
            path.strip_prefix(top)
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        !(self.privileged && (is_below("/proc") || is_below("/sys")))
    }
}

/// How many inodes the file system has that hidden directories lie under: its root and one
/// more. By it both sides know it from one that shows something.
pub const COVER_INODES: u64 = 2;

/// A host directory or file.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Bind {
    /// Absolute host path.
    #[prost(string, tag = "1")]
    pub source: String,
    /// With the mounts below it.
    #[prost(bool, tag = "2")]
    pub recursive: bool,
    /// Later mounts on the host side appear inside.
    #[prost(bool, tag = "3")]
    pub slave: bool,
    /// Show its ids through the container's user namespace.
    #[prost(bool, tag = "4")]
    pub id_mapped: bool,
    /// The source is resolved below this root and may not leave it (a policy's allowed
    /// root); empty: from `/`.
    #[prost(string, tag = "5")]
    pub beneath: String,
}

/// Memory as a file system.
#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub struct Tmpfs {
    /// Size limit in bytes.
    #[prost(uint64, tag = "1")]
    pub bytes: u64,
    /// Permission bits of its root.
    #[prost(uint32, tag = "2")]
    pub mode: u32,
}

/// A name and a value.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Pair {
    /// The name.
    #[prost(string, tag = "1")]
    pub name: String,
    /// The value.
    #[prost(string, tag = "2")]
    pub value: String,
}

/// One cgroup directory.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct CgroupDirectory {
    /// Absolute host path.
    #[prost(string, tag = "1")]
    pub path: String,
    /// It is of version 2, so `clone3(CLONE_INTO_CGROUP)` and `cgroup.kill` work on it.
    #[prost(bool, tag = "2")]
    pub unified: bool,
}

/// A file to be placed in the root.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct File {
    /// Absolute path inside the root; missing parents are made, mode 0755, container's root.
    #[prost(string, tag = "1")]
    pub path: String,
    /// What it holds.
    #[prost(bytes = "vec", tag = "2")]
    pub content: Vec<u8>,
    /// Permission bits.
    #[prost(uint32, tag = "3")]
    pub mode: u32,
    /// `user[:group]`, names or numbers, looked up inside the root.
    #[prost(string, tag = "4")]
    pub user: String,
    /// Digest of path, content, mode and user, 16 bytes; told back in reports.
    #[prost(bytes = "vec", tag = "5")]
    pub digest: Vec<u8>,
}

/// One process to be started.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Process {
    /// Its name.
    #[prost(string, tag = "1")]
    pub name: String,
    /// Program and arguments.
    #[prost(string, repeated, tag = "2")]
    pub command: Vec<String>,
    /// Whole environment, in the form the kernel takes it: `NAME=value`.
    #[prost(string, repeated, tag = "3")]
    pub env: Vec<String>,
    /// `user[:group]`, names or numbers, looked up inside the root.
    #[prost(string, tag = "4")]
    pub user: String,
    /// Working directory inside the root.
    #[prost(string, tag = "5")]
    pub work_dir: String,
    /// Resource limits.
    #[prost(message, repeated, tag = "6")]
    pub rlimits: Vec<Rlimit>,
    /// What becomes of its output.
    #[prost(message, optional, tag = "7")]
    pub logs: Option<Logs>,
    /// Digest of the desired process, 16 bytes; told back in reports.
    #[prost(bytes = "vec", tag = "8")]
    pub digest: Vec<u8>,
    /// Digest of the files it starts with, 16 bytes; told back in reports.
    #[prost(bytes = "vec", tag = "9")]
    pub files: Vec<u8>,
    /// `restart_epoch` it starts under; told back in reports.
    #[prost(uint64, tag = "10")]
    pub restart_epoch: u64,
    /// Its standard input is a pipe that the init keeps open; else `/dev/null`.
    #[prost(bool, tag = "11")]
    pub input: bool,
}

/// One resource limit, `RLIM_INFINITY` being `u64::MAX`.
#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub struct Rlimit {
    /// `RLIMIT_*` number of this architecture.
    #[prost(uint32, tag = "1")]
    pub resource: u32,
    /// Soft limit.
    #[prost(uint64, tag = "2")]
    pub soft: u64,
    /// Hard limit.
    #[prost(uint64, tag = "3")]
    pub hard: u64,
}

/// What becomes of output.
#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub struct Logs {
    /// Size at which a file is rotated.
    #[prost(uint64, tag = "1")]
    pub max_bytes: u64,
    /// Files kept, the current one included.
    #[prost(uint32, tag = "2")]
    pub max_files: u32,
    /// Drop and count instead of waiting.
    #[prost(bool, tag = "3")]
    pub drop: bool,
    /// Read and throw away.
    #[prost(bool, tag = "4")]
    pub discard: bool,
}

/// Bytes that are no launch description to act on.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LaunchError {
    /// Longer than [`LAUNCH_BYTES_MAX`].
    #[error("it has {0} bytes, {LAUNCH_BYTES_MAX} are allowed")]
    TooLong(usize),
    /// It does not decode.
    #[error("it does not decode")]
    Undecodable,
    /// Its end is missing.
    #[error("its end is missing")]
    Torn,
    /// Of a version that this code does not understand.
    #[error("it is of version {0}")]
    Version(u32),
    /// It names no root.
    #[error("it names no root file system")]
    NoRoot,
    /// A seccomp program is no run of instructions, or has more than 4096 (`BPF_MAXINSNS`).
    #[error("seccomp program {0} has {1} bytes")]
    Seccomp(usize, usize),
}

/// Returns the launch description that a file holds, whole or not at all.
///
/// # Errors
/// When it was cut short anywhere, or is not one this code can act on.
pub fn read(bytes: &[u8]) -> Result<Launch, LaunchError> {
    use crate::message::{PROTOCOL, PROTOCOL_MIN};
    if bytes.len() > LAUNCH_BYTES_MAX {
        return Err(LaunchError::TooLong(bytes.len()));
    }
    let launch = <Launch as prost::Message>::decode(bytes).map_err(|_| LaunchError::Undecodable)?;
    if !launch.complete {
        return Err(LaunchError::Torn);
    }
    if !(PROTOCOL_MIN..=PROTOCOL).contains(&launch.protocol) {
        return Err(LaunchError::Version(launch.protocol));
    }
    if launch.root.is_none() {
        return Err(LaunchError::NoRoot);
    }
    for (place, program) in launch.seccomp.iter().enumerate() {
        if program.is_empty() || program.len() % 8 != 0 || program.len() > 4096 * 8 {
            return Err(LaunchError::Seccomp(place, program.len()));
        }
    }
    Ok(launch)
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;
    use prost::Message as _;

    fn launch() -> Launch {
        Launch {
            protocol: crate::message::PROTOCOL,
            instance: "main".into(),
            root: Some(Root {
                lower: "/lower".into(),
                ..Root::default()
            }),
            seccomp: vec![vec![0; 16]],
            no_new_privileges: true,
            assembly: Assembly::Classic as i32,
            complete: true,
            ..Launch::default()
        }
    }

    #[test]
    fn a_launch_torn_at_any_offset_is_no_launch() {
        let whole = launch().encode_to_vec();
        assert_eq!(read(&whole), Ok(launch()));
        for torn in 0..whole.len() {
            assert!(read(&whole[..torn]).is_err(), "torn at {torn}");
        }
    }

    #[test]
    fn a_launch_that_cannot_be_acted_on_is_refused() {
        let bad = |change: fn(&mut Launch)| {
            let mut launch = launch();
            change(&mut launch);
            read(&launch.encode_to_vec())
        };
        assert_eq!(bad(|l| l.protocol = 99), Err(LaunchError::Version(99)));
        assert_eq!(bad(|l| l.root = None), Err(LaunchError::NoRoot));
        assert_eq!(
            bad(|l| l.seccomp.push(vec![0; 7])),
            Err(LaunchError::Seccomp(1, 7))
        );
        let long = vec![0; LAUNCH_BYTES_MAX + 1];
        assert_eq!(read(&long), Err(LaunchError::TooLong(long.len())));
    }
}
