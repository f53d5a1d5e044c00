//! The few system calls that no safe wrapper offers.
#![expect(
    unsafe_code,
    reason = "clone3, exec, signals by number, seccomp: no safe wrapper"
)]

use std::ffi::{CStr, c_char};
use std::os::fd::{AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd, RawFd};

use rustix::io::{Errno, Result};
use rustix::process::Pid;

/// Every bit of the kernel's signal set.
const ALL_SIGNALS: u64 = u64::MAX;
/// Highest signal number (`signal(7)`).
pub(crate) const SIGNAL_MAX: u32 = 64;
/// Bytes of the kernel's signal set.
const SIGNAL_SET_BYTES: usize = 8;

/// What a clone is on its two sides.
#[derive(Debug)]
pub(crate) enum Cloned {
    /// In the new process.
    Child,
    /// In the old one.
    Parent(Child),
}

/// A process just made.
#[derive(Debug)]
pub(crate) struct Child {
    /// As the maker sees it.
    pub(crate) pid: Pid,
    /// Its pidfd.
    pub(crate) pidfd: OwnedFd,
}

/// How a process is to be made.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Clone<'a> {
    /// `CLONE_NEW*`.
    pub(crate) namespaces: u64,
    /// It becomes a child of the caller's parent.
    pub(crate) sibling: bool,
    /// The version 2 cgroup it begins in.
    pub(crate) cgroup: Option<BorrowedFd<'a>>,
}

/// Makes a process with a copy of this memory, as `fork(2)` does.
///
/// *Assumptions:* this program has one thread, so the copy holds no lock of another.
pub(crate) fn clone(how: Clone<'_>) -> Result<Cloned> {
    let mut pidfd: RawFd = -1;
    let parent = if how.sibling {
        libc::CLONE_PARENT as u64
    } else {
        0
    };
    let into = if how.cgroup.is_some() {
        CLONE_INTO_CGROUP
    } else {
        0
    };
    let args = libc::clone_args {
        flags: how.namespaces | parent | into | libc::CLONE_PIDFD as u64,
        pidfd: std::ptr::from_mut(&mut pidfd) as u64,
        child_tid: 0,
        parent_tid: 0,
        // With `CLONE_PARENT` the maker's own is taken over, and none may be named.
        exit_signal: if how.sibling { 0 } else { libc::SIGCHLD as u64 },
        stack: 0,
        stack_size: 0,
        tls: 0,
        set_tid: 0,
        set_tid_size: 0,
        cgroup: how.cgroup.map_or(0, |fd| fd.as_raw_fd() as u64),
    };
    let arguments = std::ptr::from_ref(&args);
    // SAFETY: the arguments are a whole `clone_args` of the length given, and `pidfd` a place
    // for one descriptor; no stack is named, so the child goes on with a copy of this one.
    // JUSTIFICATION: no wrapper offers clone3.
    let made = unsafe { libc::syscall(libc::SYS_clone3, arguments, size_of_val(&args)) };
    match made {
        -1 => Err(last_error()),
        0 => Ok(Cloned::Child),
        pid => {
            let pid = i32::try_from(pid)
                .ok()
                .and_then(Pid::from_raw)
                .ok_or(Errno::INVAL)?;
            // SAFETY: the kernel has just put a new descriptor there that nobody else owns.
            // JUSTIFICATION: it comes out of clone3 as a number.
            let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
            Ok(Cloned::Parent(Child { pid, pidfd }))
        }
    }
}

/// `CLONE_INTO_CGROUP` (Linux 5.7), a flag that `clone3` alone takes.
const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;

/// Ends this process without running anything on the way out.
pub(crate) fn exit_now(code: i32) -> ! {
    // SAFETY: it takes any code and does not come back.
    // JUSTIFICATION: after a clone no exit handler may run twice.
    unsafe { libc::_exit(code) }
}

/// Replaces this program; comes back only with the reason why it did not.
///
/// *Assumptions:* both lists are made of pointers to C strings and end in a null pointer.
pub(crate) fn exec(path: &CStr, argv: &[*const c_char], envp: &[*const c_char]) -> Errno {
    // SAFETY: `Plan` (its only maker) keeps the strings that both lists point to, and ends
    // the lists in null.
    // JUSTIFICATION: the safe wrappers allocate.
    unsafe { libc::execve(path.as_ptr(), argv.as_ptr(), envp.as_ptr()) };
    last_error()
}

/// Returns who is at the other end of a unix socket (`unix(7)`, `SO_PEERCRED`), as seen from
/// this process' namespaces: pid 0 for one that is not visible.
pub(crate) fn peer(socket: &OwnedFd) -> Result<libc::ucred> {
    let mut facts = libc::ucred {
        pid: -1,
        uid: u32::MAX,
        gid: u32::MAX,
    };
    let mut length = libc::socklen_t::try_from(size_of_val(&facts)).map_err(|_| Errno::INVAL)?;
    let (place, size) = (
        std::ptr::from_mut(&mut facts),
        std::ptr::from_mut(&mut length),
    );
    let (level, name) = (libc::SOL_SOCKET, libc::SO_PEERCRED);
    // SAFETY: `facts` is a place of the length given.
    // JUSTIFICATION: rustix' type cannot hold pid 0.
    check(unsafe { libc::getsockopt(socket.as_raw_fd(), level, name, place.cast(), size) })?;
    Ok(facts)
}

/// Returns a child that has ended, and leaves it to be reaped.
pub(crate) fn ended_child() -> Option<Pid> {
    let mut facts = std::mem::MaybeUninit::<libc::siginfo_t>::zeroed();
    let look = libc::WEXITED | libc::WNOHANG | libc::WNOWAIT;
    // SAFETY: `facts` is a place for a whole `siginfo_t`.
    // JUSTIFICATION: the safe wrapper does not tell the pid.
    check(unsafe { libc::waitid(libc::P_ALL, 0, facts.as_mut_ptr(), look) }).ok()?;
    // SAFETY: it was zeroed before and is plain numbers.
    // JUSTIFICATION: as above.
    let facts = unsafe { facts.assume_init() };
    // SAFETY: zeroed if no child has ended, else filled in for one that has.
    // JUSTIFICATION: as above.
    Pid::from_raw(unsafe { facts.si_pid() })
}

/// Sends a signal by number.
pub(crate) fn kill(pid: i32, signal: u32) -> Result<()> {
    let signal = i32::try_from(signal).map_err(|_| Errno::INVAL)?;
    // SAFETY: it reads no memory.
    // JUSTIFICATION: the safe wrapper takes no real-time signals.
    check(unsafe { libc::kill(pid, signal) })
}

/// Sets what a forked process must not pass on: all signals to their default, none blocked.
pub(crate) fn reset_signals() {
    let default = [0_u64; 4];
    for signal in 1..=SIGNAL_MAX {
        let (action, none) = (default.as_ptr(), std::ptr::null_mut::<u64>());
        // SAFETY: 32 zero bytes are the kernel's `sigaction` with the default handler; the
        // old one is not asked for. `KILL` and `STOP` answer an error and stay as they are.
        // JUSTIFICATION: libc hides signals 32 and 33, which an image's libc may need.
        unsafe {
            libc::syscall(
                libc::SYS_rt_sigaction,
                signal,
                action,
                none,
                SIGNAL_SET_BYTES,
            )
        };
    }
    set_signal_mask(0);
}

/// Blocks every signal that can be blocked.
pub(crate) fn block_signals() {
    set_signal_mask(ALL_SIGNALS);
}

fn set_signal_mask(mask: u64) {
    let (new, old) = (std::ptr::from_ref(&mask), std::ptr::null_mut::<u64>());
    // SAFETY: `mask` is a whole kernel signal set of the length given.
    // JUSTIFICATION: libc keeps signals 32 and 33 out of its own call.
    unsafe {
        libc::syscall(
            libc::SYS_rt_sigprocmask,
            libc::SIG_SETMASK,
            new,
            old,
            SIGNAL_SET_BYTES,
        )
    };
}

/// Returns a descriptor that becomes readable when a child ends.
pub(crate) fn child_signals() -> Result<OwnedFd> {
    let mask: u64 = 1 << (libc::SIGCHLD - 1);
    let flags = libc::SFD_CLOEXEC | libc::SFD_NONBLOCK;
    let mask = std::ptr::from_ref(&mask);
    // SAFETY: `mask` is a whole kernel signal set of the length given.
    // JUSTIFICATION: rustix has no signalfd.
    let made = unsafe { libc::syscall(libc::SYS_signalfd4, -1, mask, SIGNAL_SET_BYTES, flags) };
    let made = RawFd::try_from(made).map_err(|_| Errno::INVAL)?;
    check(made)?;
    // SAFETY: the kernel has just made it and nobody else owns it.
    // JUSTIFICATION: it comes out of the call as a number.
    Ok(unsafe { OwnedFd::from_raw_fd(made) })
}

/// Installs a seccomp program for this process and what it becomes (`seccomp(2)`).
pub(crate) fn install_seccomp(program: &[libc::sock_filter]) -> Result<()> {
    let len = u16::try_from(program.len()).map_err(|_| Errno::INVAL)?;
    let program = libc::sock_fprog {
        len,
        filter: program.as_ptr().cast_mut(),
    };
    let argument = std::ptr::from_ref(&program);
    // SAFETY: the program is a live run of `len` instructions, which the kernel only reads.
    // JUSTIFICATION: no wrapper offers it.
    let done = unsafe {
        libc::syscall(
            libc::SYS_seccomp,
            libc::SECCOMP_SET_MODE_FILTER,
            0,
            argument,
        )
    };
    check(if done == 0 { 0 } else { -1 })
}

/// Removes a capability from the bounding set.
pub(crate) fn drop_bounding(capability: u32) -> Result<()> {
    // SAFETY: it reads no memory.
    // JUSTIFICATION: the safe wrapper panics on a bit it does not know.
    check(unsafe { libc::prctl(libc::PR_CAPBSET_DROP, u64::from(capability), 0, 0, 0) })
}

/// Joins a new session keyring without a name (`keyctl(2)`). A kernel without keyrings has
/// none to be shared.
pub(crate) fn new_session_keyring() -> Result<()> {
    const KEYCTL_JOIN_SESSION_KEYRING: i32 = 1;
    let nameless = std::ptr::null::<c_char>();
    // SAFETY: a null name is allowed.
    // JUSTIFICATION: no wrapper offers it.
    let made = unsafe { libc::syscall(libc::SYS_keyctl, KEYCTL_JOIN_SESSION_KEYRING, nameless) };
    match made {
        -1 if last_error() == Errno::NOSYS => Ok(()),
        -1 => Err(last_error()),
        _ => Ok(()),
    }
}

/// Sets one resource limit of a process, 0 being this one.
pub(crate) fn set_limit(pid: u32, limit: &shim_proto::launch::Rlimit) -> Result<()> {
    let new = libc::rlimit64 {
        rlim_cur: limit.soft,
        rlim_max: limit.hard,
    };
    let (new, old) = (
        std::ptr::from_ref(&new),
        std::ptr::null_mut::<libc::rlimit64>(),
    );
    // SAFETY: `new` is a whole `rlimit64`; the old one is not asked for.
    // JUSTIFICATION: the safe wrapper takes no limit by number.
    let done = unsafe { libc::syscall(libc::SYS_prlimit64, pid, limit.resource, new, old) };
    check(if done == 0 { 0 } else { -1 })
}

/// Returns this process' hard limit of a resource.
pub(crate) fn hard_limit(resource: u32) -> Result<u64> {
    let mut old = libc::rlimit64 {
        rlim_cur: 0,
        rlim_max: 0,
    };
    let (none, place) = (
        std::ptr::null::<libc::rlimit64>(),
        std::ptr::from_mut(&mut old),
    );
    // SAFETY: `old` is a place for a whole `rlimit64`.
    // JUSTIFICATION: the safe wrapper takes no limit by number.
    let done = unsafe { libc::syscall(libc::SYS_prlimit64, 0, resource, none, place) };
    check(if done == 0 { 0 } else { -1 })?;
    Ok(old.rlim_max)
}

/// Closes, or marks to be closed by an exec, all descriptors from `first` to `last`.
pub(crate) fn close_range(first: u32, last: u32, at_exec: bool) -> Result<()> {
    let flags = if at_exec {
        libc::CLOSE_RANGE_CLOEXEC
    } else {
        0
    };
    // SAFETY: callers name ranges in which no descriptor has a living owner, or ask for a
    // mark that changes no ownership.
    // JUSTIFICATION: stray descriptors have no owner that could be dropped.
    let done = unsafe { libc::syscall(libc::SYS_close_range, first, last, flags) };
    check(if done == 0 { 0 } else { -1 })
}

/// Closes every descriptor above 2 that is not in the list, which it sorts.
pub(crate) fn close_all_but(keep: &mut [RawFd]) -> Result<()> {
    keep.sort_unstable();
    let mut first = 3;
    for fd in keep.iter().filter_map(|fd| u32::try_from(*fd).ok()) {
        if fd > first {
            close_range(first, fd - 1, false)?;
        }
        first = first.max(fd + 1);
    }
    close_range(first, u32::MAX, false)
}

/// Leaves the cgroup namespace for a new one, rooted where this process stands.
pub(crate) fn new_cgroup_namespace() -> Result<()> {
    // SAFETY: it reads no memory; this program has one thread.
    // JUSTIFICATION: rustix counts it as unsafe too.
    check(unsafe { libc::unshare(libc::CLONE_NEWCGROUP) })
}

/// Writes the current directory into the buffer and returns its first byte, `/` if it is
/// below the root (`getcwd(2)`: else the text begins with `(unreachable)`).
pub(crate) fn first_byte_of_cwd(buffer: &mut [u8]) -> Result<u8> {
    // SAFETY: the buffer has the length given.
    // JUSTIFICATION: the safe wrappers allocate.
    let got = unsafe { libc::syscall(libc::SYS_getcwd, buffer.as_mut_ptr(), buffer.len()) };
    if got < 1 {
        Err(last_error())
    } else {
        buffer.first().copied().ok_or(Errno::INVAL)
    }
}

/// Gives memory that is not in use back to the kernel.
pub(crate) fn trim_memory() {
    // SAFETY: it touches the allocator's free memory only.
    // JUSTIFICATION: the standard library has no such call.
    unsafe { libc::malloc_trim(0) };
}

/// Replaces the program's name, as shown by `ps`, by one of the same length, and blanks what
/// follows the first `keep` arguments.
pub(crate) fn rename_program(name: &[u8], keep: usize, arguments: &[Vec<u8>]) {
    unsafe extern "C" {
        /// Points to the first argument as the kernel laid it out (`program_invocation_name(3)`).
        static program_invocation_name: *mut c_char;
    }
    if arguments
        .first()
        .is_none_or(|first| first.len() != name.len())
    {
        return;
    }
    // SAFETY: the C library sets it before main and nobody changes it.
    // JUSTIFICATION: the arguments' own memory is reachable in no other way.
    let mut place = unsafe { program_invocation_name }.cast::<u8>();
    for (index, argument) in arguments.iter().enumerate() {
        let text: &[u8] = if index == 0 { name } else { argument };
        let kept = index <= keep;
        for byte in text {
            // SAFETY: the kernel lays the arguments out one behind the other, each with its
            // closing zero, and they are as long as when they were read.
            // JUSTIFICATION: as above.
            unsafe { place.write(if kept { *byte } else { 0 }) };
            // SAFETY: at most the closing zero is reached.
            // JUSTIFICATION: as above.
            place = unsafe { place.add(1) };
        }
        // SAFETY: one past the closing zero of an argument the next one begins, or the
        // environment.
        // JUSTIFICATION: as above.
        place = unsafe { place.add(1) };
    }
}

fn check(result: i32) -> Result<()> {
    if result == -1 {
        Err(last_error())
    } else {
        Ok(())
    }
}

fn last_error() -> Errno {
    // SAFETY: it returns the address of this thread's own number.
    // JUSTIFICATION: the standard library's way is the same with an allocation behind it.
    let place = unsafe { libc::__errno_location() };
    // SAFETY: the address is valid for as long as the thread lives.
    // JUSTIFICATION: as above.
    Errno::from_raw_os_error(unsafe { *place })
}
