//! `reconciler completion`, and the answers that the shells then ask for.
//!
//! The script that a shell is given knows nothing of the command line: at each use it runs
//! this program again, with [`ASKED`] in the environment, and shows what that says. So it is
//! as true as the program, and names of containers are the daemon's of this moment.

use std::any::TypeId;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Arg, Command, CommandFactory as _};
use clap_complete::CompleteEnv;
use clap_complete::engine::{ArgValueCandidates, CompletionCandidate};
use clap_complete::env::{Bash, EnvCompleter, Fish, Zsh};
use reconciler_daemon::api::wire::{ContainerView, List};
use specs::explain::{config_fields, fields};
use specs::id::Key;

use super::target::LogTarget;
use super::{Exit, Failure, Session};
use crate::args::{self, Cli, CompletionArgs, Shell};
use crate::client::Client;

/// Variable that holds the name of the shell that asks.
const ASKED: &str = "RECONCILER_COMPLETE";
/// As the program is called, and as the shell finds it.
const PROGRAM: &str = "reconciler";
/// Time the daemon has to answer: somebody has a finger on the key.
const PATIENCE: Duration = Duration::from_millis(500);
/// An autoloaded function of zsh that only defines others says nothing at its first use.
const ZSH_FIRST_USE: &str = "
if [ \"$funcstack[1]\" = \"_reconciler\" ]; then
    _clap_dynamic_completer_reconciler \"$@\"
fi
";

/// Prints the script for a shell.
///
/// # Errors
/// When standard output takes nothing.
pub(crate) fn script(session: &mut Session, args: &CompletionArgs) -> Result<Exit, Failure> {
    let shell: &dyn EnvCompleter = match args.shell {
        Shell::Bash => &Bash,
        Shell::Zsh => &Zsh,
        Shell::Fish => &Fish,
    };
    let mut text = Vec::new();
    let written = shell.write_registration(ASKED, PROGRAM, PROGRAM, PROGRAM, &mut text);
    written.map_err(Failure::Render)?;
    if args.shell == Shell::Zsh {
        text.extend_from_slice(ZSH_FIRST_USE.as_bytes());
    }
    // The text is the library's and ours: nothing in it comes from a spec or a container.
    session.out.raw(text.trim_ascii_start())?;
    Ok(Exit::Done)
}

/// Answers a shell that asks. Returns whether one did.
///
/// # Errors
/// When it is none that is known, or standard output takes nothing.
pub(crate) fn answer(
    arguments: impl Iterator<Item = OsString>,
    socket: Option<OsString>,
) -> Result<bool, clap::Error> {
    let socket = socket.map_or_else(|| PathBuf::from(args::DEFAULT_SOCKET), PathBuf::from);
    let shells: [&dyn EnvCompleter; 3] = [&Bash, &Zsh, &Fish];
    CompleteEnv::with_factory(|| with_candidates(Cli::command(), &socket))
        .var(ASKED)
        .bin(PROGRAM)
        .completer(PROGRAM)
        .shells(clap_complete::env::Shells(&shells))
        .try_complete(arguments, None)
}

/// Adds to each argument, by the type of its value, who knows what it may be.
fn with_candidates(command: Command, socket: &Path) -> Command {
    let add = |arg: Arg| {
        let value = arg.get_value_parser().type_id();
        let socket = socket.to_owned();
        if value == TypeId::of::<Key>() {
            arg.add(ArgValueCandidates::new(move || names(&socket)))
        } else if value == TypeId::of::<LogTarget>() {
            arg.add(ArgValueCandidates::new(move || processes(&socket)))
        } else {
            arg
        }
    };
    let explained = |arg: Arg| match arg.get_id().as_str() {
        "what" => arg.add(ArgValueCandidates::new(explained)),
        _ => arg,
    };
    command.mut_subcommands(|one| {
        let one = one.mut_args(add);
        if one.get_name() == "explain" {
            one.mut_args(explained)
        } else {
            one
        }
    })
}

/// What is there now; nothing where no daemon answers in time.
fn list(socket: &Path) -> List {
    let client = Client::with_patience(socket, PATIENCE);
    let found = client.and_then(|client| client.get("/containers"));
    found.unwrap_or_else(|_| List {
        containers: Vec::new(),
        refused: Vec::new(),
        notices: Vec::new(),
    })
}

fn names(socket: &Path) -> Vec<CompletionCandidate> {
    list(socket).containers.iter().map(candidate).collect()
}

fn candidate(view: &ContainerView) -> CompletionCandidate {
    let phase = format!("{:?}", view.status.phase);
    CompletionCandidate::new(view.status.key.as_str()).help(Some(phase.into()))
}

/// Containers, and each process where there are several.
fn processes(socket: &Path) -> Vec<CompletionCandidate> {
    let mut found = Vec::new();
    for view in list(socket).containers {
        found.push(candidate(&view));
        if view.status.processes.len() > 1 {
            let key = &view.status.key;
            let all = view.status.processes.iter();
            found.extend(all.map(|one| CompletionCandidate::new(format!("{key}/{}", one.name))));
        }
    }
    found
}

/// Fields, short where `explain` takes them short.
fn explained() -> Vec<CompletionCandidate> {
    let short = |path: &'static str| path.strip_prefix("spec.").unwrap_or(path);
    let of_spec = fields().iter().map(|doc| short(&doc.path));
    let of_config = config_fields().iter().map(|doc| doc.path.as_str());
    let codes = specs::diagnostic::Code::ALL
        .iter()
        .map(|code| code.as_str());
    let all = of_spec.chain(of_config).chain(codes);
    all.map(CompletionCandidate::new).collect()
}
