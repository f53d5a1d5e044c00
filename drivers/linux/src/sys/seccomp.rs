//! `seccomp(2)`: what the kernel can do, and installing a filter on the calling thread.

use std::io;

use super::check;

const SET_MODE_FILTER: libc::c_uint = 1;
const GET_ACTION_AVAIL: libc::c_uint = 2;

/// Returns whether the kernel knows an action.
pub(crate) fn has_action(action: u32) -> bool {
    // SAFETY: the third argument points to a live u32, which is all that is read.
    // JUSTIFICATION: neither rustix nor nix has seccomp(2).
    let result = unsafe {
        libc::syscall(
            libc::SYS_seccomp,
            GET_ACTION_AVAIL,
            0,
            std::ptr::from_ref(&action),
        )
    };
    check(result).is_ok()
}

/// Installs a filter on the calling thread alone, for good. `no_new_privs` must be set, or
/// the caller be privileged.
#[cfg_attr(
    not(test),
    expect(dead_code, reason = "containers get theirs from the shim")
)]
pub(crate) fn install(program: &[libc::sock_filter]) -> io::Result<()> {
    let block = libc::sock_fprog {
        len: u16::try_from(program.len()).map_err(|_| io::Error::from_raw_os_error(libc::E2BIG))?,
        filter: program.as_ptr().cast_mut(),
    };
    // SAFETY: `block` describes exactly `program`, which outlives the call; the kernel reads it.
    // JUSTIFICATION: neither rustix nor nix has seccomp(2).
    let result = unsafe {
        libc::syscall(
            libc::SYS_seccomp,
            SET_MODE_FILTER,
            0,
            std::ptr::from_ref(&block),
        )
    };
    check(result).map(drop)
}

/// Makes a system call by number with small numbers as arguments; returns its `errno`.
///
/// For tests of filters: the numbers are chosen so that no call that gets through does harm.
#[cfg(test)]
pub(crate) fn try_call(number: i64, args: [u64; 6]) -> Option<i32> {
    let [a, b, c, d, e, f] = args;
    // SAFETY: the tests pass no valid addresses and only calls that such arguments make fail
    // or that read a property of the process.
    // JUSTIFICATION: a filter can only be tried by raw calls.
    let result = unsafe { libc::syscall(number, a, b, c, d, e, f) };
    check(result).err().and_then(|err| err.raw_os_error())
}
