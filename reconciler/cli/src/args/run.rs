//! Arguments of the daemon.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use specs::id::Instance;

use crate::cmd::target::Span;

#[derive(Debug, Args)]
pub(crate) struct RunArgs {
    /// Directory with specs; may be given several times [default: the configuration's]
    #[arg(long, value_name = "DIR")]
    pub(crate) specs: Vec<PathBuf>,
    /// Configuration [default: /etc/reconciler/config.yaml if it is there]
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Where intent is kept [default: /var/lib/reconciler]
    #[arg(long, value_name = "DIR")]
    pub(crate) state_dir: Option<PathBuf>,
    /// Where sockets and adoption records live [default: /run/reconciler]
    #[arg(long, value_name = "DIR")]
    pub(crate) runtime_dir: Option<PathBuf>,
    /// Where output of containers goes [default: /var/log/reconciler]
    #[arg(long, value_name = "DIR")]
    pub(crate) log_dir: Option<PathBuf>,
    /// Cgroup below which containers' cgroups are made
    #[arg(long, value_name = "PATH")]
    pub(crate) cgroup_parent: Option<String>,
    /// Name of this daemon, part of every mark, so that several can live on one host
    #[arg(long, value_name = "NAME")]
    pub(crate) instance: Option<Instance>,
    /// The supervisor's binary [default: reconciler-shim beside this program, else in
    /// ../libexec/reconciler]
    #[arg(long, value_name = "FILE")]
    pub(crate) shim: Option<PathBuf>,
    /// How root file systems are put together
    #[arg(long, value_enum, default_value_t = RootAssembly::Auto, value_name = "HOW")]
    pub(crate) assembly: RootAssembly,
}

/// How root file systems are put together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum RootAssembly {
    /// As the kernel can: detached if it may be, else classic.
    Auto,
    /// As a mount tree that stands nowhere until the container has it.
    Detached,
    /// With mounts in the container's own namespace, as kernels before 6.15 need.
    Classic,
}

#[derive(Debug, Args)]
pub(crate) struct DrainArgs {
    #[command(flatten)]
    pub(crate) run: RunArgs,
    /// How long it may take
    #[arg(long, value_name = "TIME", default_value = "5m")]
    pub(crate) timeout: Span,
}
