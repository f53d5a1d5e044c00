//! Small things on the host.

use nix::sys::signal::Signal;

/// Kills a process by the id that a status named a moment ago.
///
/// # Panics
/// When it can't be signalled.
pub fn kill(pid: u64) {
    signal(pid, Signal::SIGKILL);
}

/// Sends a signal to a process that was started or named a moment ago.
///
/// # Panics
/// When it can't be signalled.
pub fn signal(pid: u64, signal: Signal) {
    let pid = i32::try_from(pid).expect("a pid fits");
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), signal).expect("signal a process");
}

/// Returns a port of 127.0.0.1 that nobody listens on at this moment.
///
/// # Panics
/// When none can be bound.
#[must_use]
pub fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("bind a port");
    listener.local_addr().expect("an address").port()
}
