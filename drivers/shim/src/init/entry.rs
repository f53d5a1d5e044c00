//! On the way in: from a copy of the shim to pid 1 in its root.

use std::os::fd::{BorrowedFd, OwnedFd};

use rustix::fs::{Mode, OFlags};
use shim_proto::launch::Launch;
use shim_proto::message::Failure;

use super::child::Profile;
use crate::fail::tolerate;
use crate::{fail, kernel, root};

/// The name `ps` shows; as long as the shim's, whose place it takes.
const NAME: &std::ffi::CStr = c"reconciler-init";
/// What `statfs(2)` says of devpts (`linux/magic.h`).
const DEVPTS_SUPER_MAGIC: rustix::fs::FsWord = 0x1cd1;
/// Instance and mark; what follows is the host's business.
const ARGUMENTS_SHOWN: usize = 2;

/// Shows as what it is, and not the host's path to everybody in the container.
pub(super) fn take_own_name() {
    use std::os::unix::ffi::OsStringExt;
    let arguments: Vec<Vec<u8>> = std::env::args_os().map(OsStringExt::into_vec).collect();
    kernel::rename_program(NAME.to_bytes(), ARGUMENTS_SHOWN, &arguments);
    tolerate(rustix::thread::set_name(NAME));
}

pub(super) fn enter(
    launch: &Launch,
    prepared: &root::Prepared,
    needs_cgroup_namespace: bool,
) -> Result<(), Failure> {
    use rustix::thread::{Gid, Uid};
    if needs_cgroup_namespace {
        kernel::new_cgroup_namespace()
            .map_err(|errno| fail::kernel("make a cgroup namespace", errno))?;
    }
    let (uid, gid) = (Uid::ROOT, Gid::ROOT);
    let become_root = || {
        rustix::thread::set_thread_groups(&[])?;
        rustix::thread::set_thread_res_gid(gid, gid, gid)?;
        rustix::thread::set_thread_res_uid(uid, uid, uid)?;
        let never = rustix::process::DumpableBehavior::NotDumpable;
        rustix::process::set_dumpable_behavior(never)
    };
    become_root().map_err(|errno| fail::kernel("become root of the container", errno))?;
    root::enter(launch, prepared).map_err(fail::of_root)?;
    kernel::new_session_keyring()
        .map_err(|errno| fail::kernel("join a new session keyring", errno))?;
    if !launch.hostname.is_empty() {
        rustix::system::sethostname(launch.hostname.as_bytes())
            .map_err(|errno| fail::kernel("set the host name", errno))?;
    }
    Ok(())
}

/// Returns what the launch description confines processes to. Capabilities that this host
/// does not have cannot be given.
pub(super) fn profile(launch: &Launch) -> rustix::io::Result<Profile> {
    let held = rustix::thread::capabilities(None)?.permitted.bits();
    let instruction = |bytes: &[u8; 8]| {
        let [a, b, jt, jf, k0, k1, k2, k3] = *bytes;
        libc::sock_filter {
            code: u16::from_ne_bytes([a, b]),
            jt,
            jf,
            k: u32::from_ne_bytes([k0, k1, k2, k3]),
        }
    };
    let program = |bytes: &Vec<u8>| bytes.as_chunks().0.iter().map(instruction).collect();
    Ok(Profile {
        capabilities: launch.capabilities & held,
        no_new_privileges: launch.no_new_privileges,
        seccomp: launch.seccomp.iter().map(program).collect(),
    })
}

/// Opens what processes read from: the root's own `/dev/null` if it is one, else the one
/// inherited as descriptor 0.
pub(super) fn open_null() -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::RDWR | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NOCTTY;
    if let Ok(null) = rustix::fs::open("/dev/null", flags | OFlags::NONBLOCK, Mode::empty())
        && rustix::fs::fstat(&null).is_ok_and(|facts| is_null(&facts))
        && rustix::fs::fcntl_setfl(&null, OFlags::empty()).is_ok()
    {
        rustix::stdio::dup2_stdin(&null)?;
        rustix::stdio::dup2_stdout(&null)?;
        rustix::stdio::dup2_stderr(&null)?;
        return Ok(null);
    }
    let inherited: BorrowedFd<'static> = rustix::stdio::stdin();
    rustix::io::fcntl_dupfd_cloexec(inherited, 3)
}

fn is_null(facts: &rustix::fs::Stat) -> bool {
    let is_device =
        rustix::fs::FileType::from_raw_mode(facts.st_mode) == rustix::fs::FileType::CharacterDevice;
    let (major, minor) = (
        rustix::fs::major(facts.st_rdev),
        rustix::fs::minor(facts.st_rdev),
    );
    is_device && (major, minor) == (1, 3)
}

/// Opens the container's own `/proc`.
pub(super) fn open_proc() -> Option<OwnedFd> {
    open_own(c"/proc", rustix::fs::PROC_SUPER_MAGIC)
}

/// Opens the directory of the container's own terminals.
pub(super) fn open_pts() -> Option<OwnedFd> {
    open_own(c"/dev/pts", DEVPTS_SUPER_MAGIC)
}

/// Opens a directory, if it is of that kind of file system.
fn open_own(path: &std::ffi::CStr, magic: rustix::fs::FsWord) -> Option<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let directory = rustix::fs::open(path, flags, Mode::empty()).ok()?;
    let facts = rustix::fs::fstatfs(&directory).ok()?;
    (facts.f_type == magic).then_some(directory)
}
