//! The daemon's socket: HTTP/1.1 over a path socket, JSON bodies, one version in the path.

mod auth;
mod logs;
pub mod wire;
