//! Loop devices (`loop(4)`).
#![expect(unsafe_code, reason = "no library wraps the calls of loop devices")]

use std::os::fd::{AsRawFd, BorrowedFd};

use rustix::io::{Errno, Result};

const LOOP_GET_STATUS64: libc::c_ulong = 0x4C05;
/// Linux 5.8.
const LOOP_CONFIGURE: libc::c_ulong = 0x4C0A;
const LOOP_CTL_GET_FREE: libc::c_ulong = 0x4C82;
/// The device is cleared when its last user has gone.
const LO_FLAGS_AUTOCLEAR: u32 = 4;

/// `struct loop_info64` of `linux/loop.h`.
#[repr(C)]
#[derive(Clone, Copy)]
struct Info {
    device: u64,
    inode: u64,
    rdevice: u64,
    offset: u64,
    size_limit: u64,
    number: u32,
    encrypt_type: u32,
    encrypt_key_size: u32,
    flags: u32,
    file_name: [u8; 64],
    crypt_name: [u8; 64],
    encrypt_key: [u8; 32],
    init: [u64; 2],
}

impl Info {
    const NONE: Self = Self {
        device: 0,
        inode: 0,
        rdevice: 0,
        offset: 0,
        size_limit: 0,
        number: 0,
        encrypt_type: 0,
        encrypt_key_size: 0,
        flags: 0,
        file_name: [0; 64],
        crypt_name: [0; 64],
        encrypt_key: [0; 32],
        init: [0; 2],
    };
}

/// `struct loop_config`.
#[repr(C)]
struct Config {
    fd: u32,
    block_size: u32,
    info: Info,
    reserved: [u64; 8],
}

/// Returns the number of a device that has no file; one is made if need be.
///
/// # Errors
///
/// As `LOOP_CTL_GET_FREE` on `/dev/loop-control`.
pub(crate) fn free(control: BorrowedFd<'_>) -> Result<u32> {
    // SAFETY: the descriptor is borrowed and so open; the call takes no argument.
    // JUSTIFICATION: no library wraps it.
    let number = unsafe { libc::ioctl(control.as_raw_fd(), LOOP_CTL_GET_FREE) };
    u32::try_from(number).map_err(|_| last_error())
}

/// Gives a device its file, until nobody uses the device any more.
///
/// # Errors
///
/// As `LOOP_CONFIGURE`: `EBUSY` when somebody else was faster.
pub(crate) fn configure(device: BorrowedFd<'_>, file: BorrowedFd<'_>) -> Result<()> {
    let config = Config {
        fd: u32::try_from(file.as_raw_fd()).map_err(|_| Errno::BADF)?,
        block_size: 0,
        info: Info {
            flags: LO_FLAGS_AUTOCLEAR,
            ..Info::NONE
        },
        reserved: [0; 8],
    };
    // SAFETY: both descriptors are borrowed and so open; `config` is a whole block of the
    // kind that the call reads, and lives through it.
    // JUSTIFICATION: no library wraps it.
    let done = unsafe { libc::ioctl(device.as_raw_fd(), LOOP_CONFIGURE, &raw const config) };
    if done == -1 {
        Err(last_error())
    } else {
        Ok(())
    }
}

/// Returns file system and inode number of a device's file, as `stat(2)` numbers them.
///
/// # Errors
///
/// As `LOOP_GET_STATUS64`: `ENXIO` when it has none.
pub(crate) fn file_of(device: BorrowedFd<'_>) -> Result<(u64, u64)> {
    let mut info = Info::NONE;
    // SAFETY: the descriptor is borrowed and so open; `info` is a place for the block that
    // the call writes.
    // JUSTIFICATION: no library wraps it.
    let done = unsafe { libc::ioctl(device.as_raw_fd(), LOOP_GET_STATUS64, &raw mut info) };
    if done == -1 {
        Err(last_error())
    } else {
        Ok((info.device, info.inode))
    }
}

fn last_error() -> Errno {
    std::io::Error::last_os_error()
        .raw_os_error()
        .map_or(Errno::IO, Errno::from_raw_os_error)
}
