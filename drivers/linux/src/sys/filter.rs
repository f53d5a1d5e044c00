//! Socket filters (`socket(7)`, `SO_ATTACH_FILTER`).

use std::io;
use std::os::fd::{AsRawFd as _, BorrowedFd};

use super::check;

/// Lets a socket drop every packet that it would be given.
pub(crate) fn drop_all(socket: BorrowedFd<'_>) -> io::Result<()> {
    // `ret #0`: keep no byte of it.
    let mut code = libc::sock_filter {
        code: 0x06,
        jt: 0,
        jf: 0,
        k: 0,
    };
    let program = libc::sock_fprog {
        len: 1,
        filter: &raw mut code,
    };
    let length = libc::socklen_t::try_from(size_of::<libc::sock_fprog>())
        .map_err(|_| io::Error::from_raw_os_error(libc::EINVAL))?;
    // SAFETY: the descriptor is borrowed and so open; the program and its one instruction
    // outlive the call, which copies both, and `length` is the program's size.
    // JUSTIFICATION: neither rustix nor nix attaches classic filters.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_ATTACH_FILTER,
            (&raw const program).cast(),
            length,
        )
    };
    check(result.into()).map(|_| ())
}
