//! Arguments of what is done with a store whose daemon does not run.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use specs::id::Instance;

use super::Format;

#[derive(Debug, Args)]
pub(crate) struct StoreArgs {
    /// What to do
    #[command(subcommand)]
    pub(crate) act: StoreAct,
    /// Configuration [default: /etc/reconciler/config.yaml if it is there]
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Where intent is kept [default: /var/lib/reconciler]
    #[arg(long, global = true, value_name = "DIR")]
    pub(crate) state_dir: Option<PathBuf>,
    /// Name of the daemon
    #[arg(long, global = true, value_name = "NAME")]
    pub(crate) instance: Option<Instance>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum StoreAct {
    /// Read every record and tell what is wrong; changes nothing
    #[command(after_help = "Examples:\n  reconciler store check\n\n\
        Exit codes: 0 nothing is wrong, 1 something is, or it failed, 71 the system refused\n\
        something, 75 the daemon runs, 77 not root, 78 configuration")]
    Check {
        /// How to print
        #[arg(short, long, value_enum, default_value_t = Format::Text, value_name = "FORMAT")]
        output: Format,
    },
    /// Write all of it to a text file that is not there yet
    #[command(after_help = "Examples:\n  reconciler store export backup.export\n\n\
        Exit codes: 0 done, 1 failed or the store is not whole, 75 the daemon runs, 77 not\n\
        root, 78 configuration")]
    Export {
        /// Where to
        file: PathBuf,
    },
    /// Make a store of an export where there is none: all of it, or nothing
    #[command(after_help = "Examples:\n  reconciler store import backup.export\n  \
        reconciler store import backup.export --state-dir /mnt/lib/reconciler\n\n\
        Exit codes: 0 done, 1 failed or a line is refused (then nothing was made), 77 not root,\n\
        78 configuration")]
    Import {
        /// What `store export` wrote
        file: PathBuf,
    },
}
