//! The daemon as a process, with the real driver, a real socket and real peers.

mod answers;
mod hostile;
mod peers;
mod starts;
mod world;
