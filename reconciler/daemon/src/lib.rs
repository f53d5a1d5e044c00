//! The shell around the core: the only crate with tokio. It reads clocks, watches
//! directories, runs the driver on bounded worker threads, keeps the store, and answers on a
//! socket. It holds no decision about a container: those are `reconciler-core`'s.
#![forbid(unsafe_code)]

pub mod api;

mod accept;
mod addresses;
mod board;
mod boot;
mod circles;
mod claims;
mod clock;
mod commit;
mod contest;
mod errors;
mod host;
mod keeper;
mod ledger;
mod listing;
mod logging;
mod offline;
mod options;
mod overrides;
mod profiles;
mod reading;
mod ready;
mod recover;
mod removal;
mod resolvers;
mod retry;
mod service;
mod shell;
mod source;
mod watch;
mod workers;

pub use boot::{RunError, run};
pub use offline::{Offline, OfflineStore, Report, StoreError};
pub use options::{Assembly, OptionsError, RunOptions};
