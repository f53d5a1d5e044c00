//! Arguments of the commands about what lies in the store.

use std::path::PathBuf;

use clap::Args;
use specs::id::Key;

use super::{Format, WaitArgs};

#[derive(Debug, Args)]
pub(crate) struct ApplyArgs {
    /// Files, directories, or `-`: all of them are taken, or none
    #[arg(short = 'f', long = "file", required = true, value_name = "PATH", num_args = 1..)]
    pub(crate) files: Vec<PathBuf>,
    /// Only show what would be done
    #[arg(long, conflicts_with = "wait")]
    pub(crate) dry_run: bool,
    #[command(flatten)]
    pub(crate) wait: WaitArgs,
    /// How to print
    #[arg(short, long, value_enum, default_value_t = Format::Text, value_name = "FORMAT")]
    pub(crate) output: Format,
}

#[derive(Debug, Args)]
pub(crate) struct DeleteArgs {
    /// Which containers
    #[arg(required = true, value_name = "NAME")]
    pub(crate) names: Vec<Key>,
    #[command(flatten)]
    pub(crate) wait: WaitArgs,
}

#[derive(Debug, Args)]
pub(crate) struct GetArgs {
    /// Only this container
    pub(crate) name: Option<Key>,
    /// How to print
    #[arg(short, long, value_enum, default_value_t = Format::Yaml, value_name = "FORMAT")]
    pub(crate) output: Format,
}
