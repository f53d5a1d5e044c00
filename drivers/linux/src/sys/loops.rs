//! Loop devices (`loop(4)`) and the size of a mounted ext4.

use std::io;
use std::os::fd::{AsRawFd as _, BorrowedFd};

use super::check;

const LOOP_GET_STATUS64: libc::c_ulong = 0x4C05;
const LOOP_SET_CAPACITY: libc::c_ulong = 0x4C07;
/// `EXT4_IOC_RESIZE_FS`: `_IOW('f', 16, __u64)` (`fs/ext4/ext4.h`, Linux 3.3).
const EXT4_IOC_RESIZE_FS: libc::c_ulong = 0x4008_6610;

/// `struct loop_info64` of `linux/loop.h`, of which two fields are read.
#[repr(C)]
struct Info {
    device: u64,
    inode: u64,
    rest: [u64; 27],
}

/// Returns file system and inode number of a device's file, as `stat(2)` numbers them.
///
/// # Errors
/// `ENXIO` when it has none.
pub(crate) fn file_of(device: BorrowedFd<'_>) -> io::Result<(u64, u64)> {
    let mut info = Info {
        device: 0,
        inode: 0,
        rest: [0; 27],
    };
    // SAFETY: the descriptor is borrowed and so open; `info` is a place for the 232 bytes that
    // the call writes.
    // JUSTIFICATION: no crate binds it.
    let done = unsafe { libc::ioctl(device.as_raw_fd(), LOOP_GET_STATUS64, &raw mut info) };
    check(done.into()).map(|_| (info.device, info.inode))
}

/// Lets a device take on the present size of its file.
pub(crate) fn take_size(device: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: the descriptor is borrowed and so open; the call takes no argument.
    // JUSTIFICATION: no crate binds it.
    let done = unsafe { libc::ioctl(device.as_raw_fd(), LOOP_SET_CAPACITY) };
    check(done.into()).map(drop)
}

/// Grows a mounted ext4 to so many blocks. `directory` is one in it.
pub(crate) fn resize_ext4(directory: BorrowedFd<'_>, blocks: u64) -> io::Result<()> {
    let blocks = &raw const blocks;
    // SAFETY: the descriptor is borrowed and so open; the call reads the 8 bytes of `blocks`.
    // JUSTIFICATION: no crate binds it.
    let done = unsafe { libc::ioctl(directory.as_raw_fd(), EXT4_IOC_RESIZE_FS, blocks) };
    check(done.into()).map(drop)
}
