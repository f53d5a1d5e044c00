//! `reconciler top`.

use clap::{Args, ValueEnum};

use super::Format;
use crate::cmd::target::Span;

/// By what containers are sorted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum SortBy {
    /// Processor time.
    Cpu,
    /// Working set.
    Memory,
    /// Tasks.
    Pids,
    /// Bytes in and out.
    Net,
}

#[derive(Debug, Args)]
pub(crate) struct TopArgs {
    /// Busiest first, by this
    #[arg(long, value_enum, default_value_t = SortBy::Cpu, value_name = "BY")]
    pub(crate) sort: SortBy,
    /// At most so many containers
    #[arg(short = 'n', long, value_name = "COUNT")]
    pub(crate) count: Option<usize>,
    /// Time between two samples
    #[arg(long, default_value = "2s", value_name = "SPAN")]
    pub(crate) interval: Span,
    /// One table, and the end
    #[arg(long)]
    pub(crate) once: bool,
    /// How to print; json and yaml end after one table
    #[arg(short, long, value_enum, default_value_t = Format::Text, value_name = "FORMAT")]
    pub(crate) output: Format,
}
