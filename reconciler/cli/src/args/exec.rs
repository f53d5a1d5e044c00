//! `exec`.

use clap::Args;

use crate::cmd::exec::Variable;
use crate::cmd::target::LogTarget;

#[derive(Debug, Args)]
pub(crate) struct ExecArgs {
    /// Pass standard input on
    #[arg(short, long)]
    pub(crate) interactive: bool,
    /// Give it a terminal; with -i it is yours
    #[arg(short, long)]
    pub(crate) tty: bool,
    /// As whom: USER or USER:GROUP, names or numbers inside [default: as the process]
    #[arg(short, long, value_name = "USER")]
    pub(crate) user: Option<String>,
    /// A variable more, or with another value; NAME alone: with the value it has here
    #[arg(short, long, value_name = "NAME[=VALUE]")]
    pub(crate) env: Vec<Variable>,
    /// In which directory [default: the process' own]
    #[arg(short, long, value_name = "DIR")]
    pub(crate) workdir: Option<String>,
    /// In which container, and like which of its processes [default: the first by name]
    #[arg(value_name = "NAME[/PROCESS]")]
    pub(crate) target: LogTarget,
    /// What to run; `--` before it if you like
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
    #[arg(value_name = "COMMAND")]
    pub(crate) command: Vec<String>,
}
