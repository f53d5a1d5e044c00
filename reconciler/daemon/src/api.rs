//! The daemon's socket: HTTP/1.1 over a path socket, JSON bodies, one version in the path.

pub(crate) mod auth;
mod capacity;
pub(crate) mod exec;
pub mod frames;
mod logs;
mod past;
mod plans;
mod problem;
pub(crate) mod routes;
pub(crate) mod server;
mod stream;
mod usage;
mod views;
mod why;
pub mod wire;
