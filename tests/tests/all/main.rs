//! One binary, one link. A file that is in this folder but not below fails `tidy`.
#![forbid(unsafe_code)]
#![expect(
    clippy::indexing_slicing,
    reason = "a test may panic, and a JSON value gives null for what is not there"
)]
#![expect(
    clippy::print_stdout,
    reason = "seeds and skips are told on standard output"
)]

mod e2e_apply;
mod e2e_attach;

mod e2e_config;
mod e2e_copy;
mod e2e_depends;
mod e2e_disk;
mod e2e_drain;
mod e2e_drift;
mod e2e_examples;
mod e2e_exec;
mod e2e_life;
mod e2e_network;
mod e2e_network_drift;
mod e2e_oom;
mod e2e_packages;
mod e2e_quota;
mod e2e_recovery;
mod e2e_security;
mod e2e_source;
mod e2e_store;
mod e2e_usage;
mod packaging;
mod sim;
mod tidy;
mod tidy_fields;
