//! The few system calls that neither rustix nor nix has: the only unsafe code of this crate.
#![expect(
    unsafe_code,
    reason = "bpf, seccomp, socket filters, loop devices, clone3 and mount_setattr have no binding"
)]

pub(crate) mod bpf;
pub(crate) mod filter;
pub(crate) mod loops;
pub(crate) mod probe;
pub(crate) mod seccomp;

use std::io;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};

/// Turns a system call's result into a descriptor.
fn descriptor(result: libc::c_long) -> io::Result<OwnedFd> {
    let number = check(result)?;
    let raw = RawFd::try_from(number).map_err(|_| io::Error::from_raw_os_error(libc::EBADF))?;
    // SAFETY: the callers pass the result of a call that returns a new descriptor, which
    // nobody else knows, and the result was not negative.
    // JUSTIFICATION: there is no safe way to own a descriptor that a raw call returned.
    Ok(unsafe { OwnedFd::from_raw_fd(raw) })
}

/// Turns a system call's result into a number.
fn check(result: libc::c_long) -> io::Result<libc::c_long> {
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(result)
    }
}
