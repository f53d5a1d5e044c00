//! Questions to the kernel that `doctor` asks and that have no safe binding.

use std::io;
use std::mem::size_of;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

use super::{check, descriptor};

/// `struct clone_args` up to `cgroup` (Linux 5.7).
#[repr(C)]
#[derive(Default)]
struct CloneArgs {
    flags: u64,
    pidfd: u64,
    child_tid: u64,
    parent_tid: u64,
    exit_signal: u64,
    stack: u64,
    stack_size: u64,
    tls: u64,
    set_tid: u64,
    set_tid_size: u64,
    cgroup: u64,
}

#[repr(C)]
struct MountAttr {
    set: u64,
    clear: u64,
    propagation: u64,
    userns_fd: u64,
}

const MOUNT_ATTR_IDMAP: u64 = 0x0010_0000;
const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;
const CLONE_PIDFD: u64 = 0x1000;

/// Returns whether `clone3(2)` can start a process inside a cgroup: asked with a descriptor
/// that is none, a kernel that can says `EBADF` and one that cannot something else.
pub(crate) fn can_clone_into_cgroup() -> bool {
    let args = CloneArgs {
        flags: CLONE_INTO_CGROUP,
        exit_signal: u64::from(libc::SIGCHLD.unsigned_abs()),
        cgroup: u64::from(u32::MAX >> 1),
        ..CloneArgs::default()
    };
    // SAFETY: `args` is a live block of the size passed; the descriptor in it does not exist,
    // so no process is made.
    // JUSTIFICATION: no crate binds clone3(2).
    let result = unsafe {
        libc::syscall(
            libc::SYS_clone3,
            std::ptr::from_ref(&args),
            size_of::<CloneArgs>(),
        )
    };
    check(result).is_err_and(|err| err.raw_os_error() == Some(libc::EBADF))
}

/// Starts a process in a new user namespace that does nothing until it is killed. Returns
/// its pid and a descriptor of it.
pub(crate) fn start_idle_in_user_namespace() -> io::Result<(u32, OwnedFd)> {
    let mut pidfd: libc::c_int = -1;
    let args = CloneArgs {
        flags: u64::from(libc::CLONE_NEWUSER.unsigned_abs()) | CLONE_PIDFD,
        pidfd: u64::try_from(std::ptr::from_mut(&mut pidfd).addr()).unwrap_or(0),
        exit_signal: u64::from(libc::SIGCHLD.unsigned_abs()),
        ..CloneArgs::default()
    };
    // SAFETY: `args` is a live block of the size passed and `pidfd` outlives the call. The
    // child has a copy of our memory and only this thread; see below for what it does.
    // JUSTIFICATION: no crate binds clone3(2), and a user namespace cannot be entered by a
    // process with several threads.
    let result = unsafe {
        libc::syscall(
            libc::SYS_clone3,
            std::ptr::from_ref(&args),
            size_of::<CloneArgs>(),
        )
    };
    if result == 0 {
        idle();
    }
    let pid = check(result)?;
    let pidfd = descriptor(libc::c_long::from(pidfd))?;
    Ok((u32::try_from(pid).unwrap_or(0), pidfd))
}

/// The child's whole life: it waits for a signal, allocates nothing and takes no lock.
fn idle() -> ! {
    loop {
        // SAFETY: ppoll without descriptors and without a time limit only waits.
        // JUSTIFICATION: between clone and exit nothing but raw calls is allowed.
        unsafe { libc::syscall(libc::SYS_ppoll, 0, 0, 0, 0, 0) };
    }
}

/// Maps the ids of a detached mount through a user namespace (`mount_setattr(2)`).
pub(crate) fn map_ids(mount: BorrowedFd<'_>, namespace: BorrowedFd<'_>) -> io::Result<()> {
    let attr = MountAttr {
        set: MOUNT_ATTR_IDMAP,
        clear: 0,
        propagation: 0,
        userns_fd: u64::try_from(namespace.as_raw_fd()).unwrap_or(u64::MAX),
    };
    // SAFETY: the path is an empty static string, `attr` a live block of the size passed.
    // JUSTIFICATION: neither rustix nor nix has mount_setattr(2).
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_raw_fd(),
            c"".as_ptr(),
            libc::AT_EMPTY_PATH,
            std::ptr::from_ref(&attr),
            size_of::<MountAttr>(),
        )
    };
    check(result).map(drop)
}
