//! The daemon without the command line around it: `daemon DIRECTORY SHIM [CONFIG]`, with
//! everything below the directory.

use std::path::PathBuf;
use std::process::ExitCode;

use reconciler_daemon::{RunOptions, run};

fn main() -> ExitCode {
    let mut arguments = std::env::args_os().skip(1);
    let (Some(directory), Some(shim)) = (arguments.next(), arguments.next()) else {
        return ExitCode::from(64);
    };
    let directory = PathBuf::from(directory);
    let name = directory
        .file_name()
        .map(|name| name.to_string_lossy().to_lowercase());
    let options = RunOptions {
        specs: vec![directory.join("specs")],
        config: arguments.next().map(PathBuf::from),
        state_dir: Some(directory.join("state")),
        runtime_dir: Some(directory.join("run")),
        log_dir: Some(directory.join("log")),
        socket: Some(directory.join("sock")),
        instance: name,
        shim: Some(PathBuf::from(shim)),
        ..RunOptions::default()
    };
    match run(&options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(err) => {
            let mut words = err.to_string();
            let mut cause = std::error::Error::source(&err);
            while let Some(err) = cause {
                words.push_str(": ");
                words.push_str(&err.to_string());
                cause = err.source();
            }
            tracing::error!(err = words, "ended");
            std::io::Write::write_all(&mut std::io::stderr(), format!("{words}\n").as_bytes()).ok();
            ExitCode::from(err.exit_code())
        }
    }
}
