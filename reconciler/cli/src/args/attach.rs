//! `attach`.

use clap::Args;

use crate::cmd::target::LogTarget;

#[derive(Debug, Args)]
pub(crate) struct AttachArgs {
    /// Pass standard input on; the process has to have `stdin: open`
    #[arg(short, long)]
    pub(crate) interactive: bool,
    /// Begin with so many lines that it wrote before
    #[arg(long, value_name = "LINES", default_value_t = 0)]
    pub(crate) tail: u32,
    /// In which container, and which of its processes, if it has several
    #[arg(value_name = "NAME[/PROCESS]")]
    pub(crate) target: LogTarget,
}
