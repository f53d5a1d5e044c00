//! The daemon's socket: HTTP/1.1 over a path socket, JSON bodies, one version in the path.

pub mod wire;
