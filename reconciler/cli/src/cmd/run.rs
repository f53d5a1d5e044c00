//! `reconciler run`: the daemon.

use std::path::PathBuf;

use reconciler_daemon::{Assembly, RunOptions};

use super::{Exit, Failure};
use crate::args::{RootAssembly, RunArgs};

/// Is the daemon until a signal ends it.
///
/// # Errors
/// When it cannot start, or has to end by itself.
pub(crate) fn run(args: &RunArgs, socket: Option<PathBuf>) -> Result<Exit, Failure> {
    reconciler_daemon::run(&options(args, socket))?;
    Ok(Exit::Done)
}

pub(super) fn options(args: &RunArgs, socket: Option<PathBuf>) -> RunOptions {
    RunOptions {
        specs: args.specs.clone(),
        config: args.config.clone(),
        state_dir: args.state_dir.clone(),
        runtime_dir: args.runtime_dir.clone(),
        log_dir: args.log_dir.clone(),
        socket,
        cgroup_parent: args.cgroup_parent.clone(),
        instance: args.instance.as_ref().map(ToString::to_string),
        shim: args.shim.clone(),
        assembly: match args.assembly {
            RootAssembly::Auto => Assembly::Auto,
            RootAssembly::Detached => Assembly::Detached,
            RootAssembly::Classic => Assembly::Classic,
        },
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::args::{Cli, Command};

    fn parsed(args: &[&str]) -> RunOptions {
        let cli = Cli::try_parse_from([&["reconciler", "run"], args].concat()).unwrap();
        let Command::Run(run) = &cli.command else {
            panic!("not run")
        };
        options(run, cli.common.socket.clone())
    }

    #[test]
    fn what_is_not_said_is_left_to_the_configuration() {
        let said = RunOptions {
            socket: None,
            ..parsed(&[])
        };
        assert_eq!(said, RunOptions::default());
    }

    #[test]
    fn every_flag_of_run_reaches_the_daemon() {
        let said = parsed(&[
            "--specs",
            "a",
            "--specs",
            "b",
            "--config",
            "c",
            "--state-dir",
            "d",
            "--runtime-dir",
            "e",
            "--log-dir",
            "f",
            "--socket",
            "g",
            "--cgroup-parent",
            "h",
            "--instance",
            "i",
            "--shim",
            "j",
            "--assembly",
            "classic",
        ]);
        let path = |text: &str| Some(PathBuf::from(text));
        let wanted = RunOptions {
            specs: vec!["a".into(), "b".into()],
            config: path("c"),
            state_dir: path("d"),
            runtime_dir: path("e"),
            log_dir: path("f"),
            socket: path("g"),
            cgroup_parent: Some("h".into()),
            instance: Some("i".into()),
            shim: path("j"),
            assembly: Assembly::Classic,
        };
        assert_eq!(said, wanted);
    }
}
