//! The command people type. Reads arguments and the environment, asks the daemon over its
//! socket, and renders the answer. `reconciler run` is the daemon.
#![forbid(unsafe_code)]

mod args;
mod client;
mod cmd;
mod out;
mod render;

use std::error::Error;
use std::io::{IsTerminal as _, Write as _};
use std::process::ExitCode;

use clap::Parser as _;
use clap::error::ErrorKind;

use args::{Cli, Command, When};
use cmd::{Exit, Failure, Session};
use out::Out;
use render::escape;
use render::paint::{Paint, Tone};

fn main() -> ExitCode {
    match cmd::completion::answer(std::env::args_os(), std::env::var_os("RECONCILER_SOCKET")) {
        Ok(false) => {}
        Ok(true) => return ExitCode::SUCCESS,
        Err(err) => return ExitCode::from(answer_usage(&err).code()),
    }
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(err) => return ExitCode::from(answer_usage(&err).code()),
    };
    let paint = |is_terminal| Paint {
        color: wants_color(cli.common.color, is_terminal),
    };
    let stderr_is_terminal = std::io::stderr().is_terminal();
    let stdout_is_terminal = std::io::stdout().is_terminal();
    let socket = cli.common.socket.clone();
    let out = match Out::new(paint(stdout_is_terminal)) {
        Ok(out) => out,
        Err(err) => {
            complain(&err, None, paint(stderr_is_terminal));
            return ExitCode::from(Exit::Failed.code());
        }
    };
    let mut session = Session {
        out,
        socket: socket.unwrap_or_else(|| args::DEFAULT_SOCKET.into()),
        is_dumb: terminal_is_dumb(),
        shows_progress: stdout_is_terminal && stderr_is_terminal && !terminal_is_dumb(),
    };
    let done = dispatch(&mut session, &cli);
    let flushed = session.out.flush().map_err(Failure::from);
    let exit = done
        .and_then(|exit| flushed.map(|()| exit))
        .unwrap_or_else(|failure| {
            complain(&failure, failure.help(), paint(stderr_is_terminal));
            failure.exit()
        });
    ExitCode::from(exit.code())
}

fn dispatch(session: &mut Session, cli: &Cli) -> Result<Exit, Failure> {
    match &cli.command {
        // The daemon's socket has its default in the configuration.
        Command::Run(args) => cmd::run::run(args, cli.common.socket.clone()),
        Command::Status(args) => cmd::status::status(session, args),
        Command::Capacity(args) => cmd::capacity::capacity(session, args),
        Command::Top(args) => cmd::top::top(session, args),
        Command::Describe(args) => cmd::describe::describe(session, args),
        Command::Why(args) => cmd::why::why(session, args),
        Command::Logs(args) => cmd::logs::logs(session, args),
        Command::Exec(args) => cmd::exec::exec(session, args),
        Command::Attach(args) => cmd::attach::attach(session, args),
        Command::Copy(args) => cmd::copy::copy(session, args),
        Command::Events(args) => cmd::events::events(session, args),
        Command::Plan(args) => cmd::plan::plan(session, args),
        Command::Validate(args) => cmd::validate::validate(session, args),
        Command::Schema(args) => cmd::explain::schema(session, args),
        Command::Explain(args) => cmd::explain::explain(session, args),
        Command::Doctor(args) => cmd::doctor::doctor(session, args),
        Command::Sync(args) => cmd::sync::sync(session, args),
        Command::Start(args) => cmd::order::order(session, "start", args),
        Command::Stop(args) => cmd::order::order(session, "stop", args),
        Command::Restart(args) => cmd::order::order(session, "restart", args),
        Command::Suspend(args) => cmd::order::order(session, "suspend", args),
        Command::Resume(args) => cmd::order::order(session, "resume", args),
        Command::Apply(args) => cmd::apply::apply(session, args),
        Command::Delete(args) => cmd::apply::delete(session, args),
        Command::Get(args) => cmd::apply::get(session, args),
        Command::History(args) => cmd::history::history(session, args),
        Command::Diff(args) => cmd::history::diff(session, args),
        Command::Rollback(args) => cmd::history::rollback(session, args),
        Command::Version(args) => cmd::version::version(session, args),
        Command::Drain(args) => cmd::drain::drain(session, args, cli.common.socket.clone()),
        Command::Store(args) => cmd::store::store(session, args),
        Command::Completion(args) => cmd::completion::script(session, args),
        Command::Man(args) => cmd::man::man(session, args),
    }
}

/// Prints what clap has to say: help and version to standard output, the rest as an error.
fn answer_usage(err: &clap::Error) -> Exit {
    let text = err.render();
    let form = |color: bool| {
        if color {
            text.ansi().to_string()
        } else {
            text.to_string()
        }
    };
    let is_answer = matches!(
        err.kind(),
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion
    );
    if is_answer {
        let color = wants_color(When::Auto, std::io::stdout().is_terminal());
        let print = |mut out: Out| out.text(&form(color)).and_then(|()| out.flush());
        let written = Out::new(Paint { color }).and_then(print);
        return if written.is_ok() {
            Exit::Done
        } else {
            Exit::Failed
        };
    }
    let color = wants_color(When::Auto, std::io::stderr().is_terminal());
    to_stderr(&escape::screen(&form(color), color));
    Exit::Usage
}

fn complain(err: &dyn Error, help: Option<String>, paint: Paint) {
    let mut text = format!(
        "{} {}",
        paint.put(Tone::Bad, "error:"),
        escape::lines(&err.to_string())
    );
    let mut cause = err.source();
    while let Some(err) = cause {
        text.push_str(&format!(": {}", escape::lines(&err.to_string())));
        cause = err.source();
    }
    text.push('\n');
    if let Some(help) = help {
        text.push_str(&format!(
            "{} {}\n",
            paint.put(Tone::Good, "help:"),
            escape::lines(&help)
        ));
    }
    to_stderr(&escape::screen(&text, paint.color));
}

/// Writes to standard error. Whom it cannot reach cannot be told that either: the exit code
/// says it.
fn to_stderr(text: &str) {
    std::io::stderr()
        .write_all(text.as_bytes())
        .unwrap_or_default();
}

fn wants_color(when: When, is_terminal: bool) -> bool {
    match when {
        When::Always => true,
        When::Never => false,
        When::Auto => {
            // no-color.org: any value but the empty one.
            let refused = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
            is_terminal && !refused && !terminal_is_dumb()
        }
    }
}

fn terminal_is_dumb() -> bool {
    std::env::var_os("TERM").is_none_or(|term| term.is_empty() || term == "dumb")
}
