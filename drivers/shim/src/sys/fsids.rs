//! The ids a thread makes files with, `setfsuid(2)` and `setfsgid(2)`.
#![expect(unsafe_code, reason = "rustix has no setfsuid")]

use rustix::io::{Errno, Result};

/// Value that `setfsuid` refuses to take and so answers with the present one.
const ASK: libc::uid_t = libc::uid_t::MAX;

/// Makes files as `uid` and `gid` from now on. Capabilities that concern files leave the
/// effective set with a change from 0 to another id (`capabilities(7)`).
///
/// # Errors
///
/// `EPERM` when the kernel kept the old ids; the call itself never says so.
pub(crate) fn set_file_ids(uid: u32, gid: u32) -> Result<()> {
    set_gid(gid);
    if current_gid() != gid {
        return Err(Errno::PERM);
    }
    set_uid(uid);
    if current_uid() != uid {
        return Err(Errno::PERM);
    }
    Ok(())
}

/// The uid files are made with.
pub(crate) fn current_uid() -> u32 {
    set_uid(ASK)
}

/// The gid files are made with.
pub(crate) fn current_gid() -> u32 {
    set_gid(ASK)
}

fn set_uid(uid: u32) -> u32 {
    // SAFETY: takes and gives a plain number.
    // JUSTIFICATION: a libc function without a safe wrapper.
    let previous = unsafe { libc::setfsuid(uid) };
    previous.cast_unsigned()
}

fn set_gid(gid: u32) -> u32 {
    // SAFETY: takes and gives a plain number.
    // JUSTIFICATION: a libc function without a safe wrapper.
    let previous = unsafe { libc::setfsgid(gid) };
    previous.cast_unsigned()
}
