//! One binary, one link. A file that is in this folder but not below fails `tidy`.
#![forbid(unsafe_code)]

mod e2e_drift;
mod e2e_life;
mod e2e_packages;
mod e2e_recovery;
mod e2e_security;
mod e2e_source;
mod sim;
mod tidy;
