//! The daemon's own log: to standard error, fields and not sentences.

use std::io::IsTerminal as _;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;

/// Starts logging. `RECONCILER_LOG` chooses what is told, as `tracing`'s directives do;
/// without it everything from `info` on. A log that somebody else began is left as it is.
pub(crate) fn begin() {
    let filter = EnvFilter::builder()
        .with_default_directive(LevelFilter::INFO.into())
        .with_env_var("RECONCILER_LOG")
        .from_env_lossy();
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_target(false)
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr);
    // Fails only if there is one already.
    drop(log.try_init());
}
