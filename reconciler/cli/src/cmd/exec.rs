//! `reconciler exec`.

use std::error::Error;
use std::fmt;
use std::io::IsTerminal as _;

use reconciler_daemon::api::frames::Ended;
use reconciler_daemon::api::wire::{ExecAsk, TerminalAsk};

use super::{Exit, Failure, Session};
use crate::args::ExecArgs;
use crate::client::AskError;
use crate::client::exec::{Outcome, size};

/// What a shell says of a command that a signal ended: this and the signal's number.
const SIGNALLED: u8 = 128;
/// The signal of a writer without readers (`signal(7)`).
const PIPE: u8 = 13;

/// A command does not run. Told by an exit code of its own, as shells do, so that it cannot
/// be taken for the command's.
#[derive(Debug)]
pub(crate) struct NotRun(pub(super) AskError);

impl NotRun {
    /// Returns 127 when there is no such command, 126 when it cannot be run, else 125.
    pub(crate) fn code(&self) -> u8 {
        match &self.0 {
            AskError::Refused { problem, .. } if problem.code == "NoSuchCommand" => 127,
            AskError::Refused { problem, .. } if problem.code == "CannotInvoke" => 126,
            _ => 125,
        }
    }

    /// Returns what a person can do about it.
    pub(crate) fn help(&self) -> Option<String> {
        self.0.help()
    }
}

impl fmt::Display for NotRun {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Error for NotRun {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.0.source()
    }
}

/// Runs a command in a container.
///
/// # Errors
/// When it does not run, or the connection to it breaks.
pub(crate) fn exec(session: &Session, args: &ExecArgs) -> Result<Exit, Failure> {
    if args.tty && !std::io::stdin().is_terminal() {
        return Err(Failure::Usage(
            "--tty hands a terminal over, and standard input is none",
        ));
    }
    let terminal = args.tty.then(|| {
        let (rows, columns) = size().unwrap_or_default();
        let kind = std::env::var("TERM").ok();
        TerminalAsk {
            rows,
            columns,
            kind,
        }
    });
    let ask = ExecAsk {
        command: args.command.clone(),
        process: args.target.process.as_ref().map(ToString::to_string),
        env: args
            .env
            .iter()
            .map(|Variable(name, value)| (name.clone(), value.clone()))
            .collect(),
        user: args.user.clone(),
        work_dir: args.workdir.clone(),
        terminal,
        input: args.interactive,
    };
    let client = session.client()?;
    let outcome = client.exec(&args.target.key, &ask);
    told(outcome.map_err(NotRun)?)
}

/// Returns how this program ends with a command.
pub(super) fn told(outcome: Outcome) -> Result<Exit, Failure> {
    Ok(Exit::Command(match outcome {
        Outcome::Ended(Ended::Code(code)) => code,
        Outcome::Ended(Ended::Signal(number)) | Outcome::Interrupted(number) => {
            SIGNALLED.saturating_add(number)
        }
        Outcome::Ended(Ended::Lost) => return Err(Failure::ContainerEnded),
        Outcome::Closed => SIGNALLED + PIPE,
    }))
}

/// A variable for a command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Variable(pub(crate) String, pub(crate) String);

impl std::str::FromStr for Variable {
    type Err = String;

    /// Reads `NAME=VALUE`, or `NAME` for the value that this program has.
    fn from_str(text: &str) -> Result<Self, String> {
        let (name, value) = match text.split_once('=') {
            Some((name, value)) => (name, value.to_owned()),
            None => {
                let value = std::env::var(text);
                (
                    text,
                    value.map_err(|_| format!("there is no variable {text} here"))?,
                )
            }
        };
        if name.is_empty() {
            return Err("a variable has a name: NAME=VALUE".to_owned());
        }
        Ok(Self(name.to_owned(), value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_variable_has_a_value_here_or_there() {
        let read = |text: &str| text.parse::<Variable>();
        assert_eq!(read("A=b=c"), Ok(Variable("A".into(), "b=c".into())));
        assert_eq!(read("A="), Ok(Variable("A".into(), String::new())));
        assert_eq!(read("PATH").unwrap().0, "PATH");
        assert!(read("=x").is_err());
        assert!(read("NO_SUCH_VARIABLE_HERE").is_err());
    }
}
