//! `cp`.

use clap::Args;

use crate::cmd::copy::CopyEnd;

#[derive(Debug, Args)]
pub(crate) struct CopyArgs {
    /// If SRC is a link, copy what it leads to
    #[arg(short = 'L', long)]
    pub(crate) follow: bool,
    /// Read or write as whom in the container: USER or USER:GROUP [default: its root]
    #[arg(short, long, value_name = "USER")]
    pub(crate) user: Option<String>,
    /// From where: NAME:PATH, PATH, or `-` for an archive on standard input
    #[arg(value_name = "SRC")]
    pub(crate) source: CopyEnd,
    /// To where: NAME:PATH, PATH, or `-` for an archive on standard output
    #[arg(value_name = "DST")]
    pub(crate) destination: CopyEnd,
}
