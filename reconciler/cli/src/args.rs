//! The command line, as clap reads it. Help texts are part of the contract.

mod applied;
mod attach;
mod copy;
mod exec;
mod help;
mod papers;
mod plain;
mod run;
mod store;
mod top;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use specs::id::Key;

pub(crate) use applied::{ApplyArgs, DeleteArgs, DiffArgs, GetArgs, RollbackArgs};
pub(crate) use attach::AttachArgs;
pub(crate) use copy::CopyArgs;
pub(crate) use exec::ExecArgs;
use help::{
    APPLY_HELP, ATTACH_HELP, CAPACITY_HELP, COMPLETION_HELP, COPY_HELP, DELETE_HELP, DRAIN_HELP,
    EXEC_HELP, EXIT_CODES, LOGS_HELP, MAN_HELP, PLAN_HELP, ROLLBACK_HELP, RUN_HELP, STATUS_HELP,
    STORE_HELP, SYNC_HELP, TOP_HELP, VALIDATE_HELP, order_help,
};
pub(crate) use papers::{CompletionArgs, ManArgs, Shell};
pub(crate) use plain::{CapacityArgs, DoctorArgs, VersionArgs};
pub(crate) use run::{DrainArgs, RootAssembly, RunArgs};
pub(crate) use store::{StoreAct, StoreArgs};
pub(crate) use top::{SortBy, TopArgs};

use crate::cmd::target::{LogTarget, Moment, Selector, Span};

/// Socket of a daemon that was started without saying where.
pub(crate) const DEFAULT_SOCKET: &str = "/run/reconciler/reconciler.sock";
/// Where specs are looked for when nothing else is said.
pub(crate) const DEFAULT_SPECS: &str = "/etc/reconciler/specs.d";

/// Keeps the containers of this host as their specs say.
#[derive(Debug, Parser)]
#[command(name = "reconciler", version, after_help = EXIT_CODES, max_term_width = 100)]
#[command(disable_help_subcommand = false, subcommand_required = true)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) common: Common,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What every command takes.
#[derive(Debug, Args)]
pub(crate) struct Common {
    /// Socket of the daemon [default: /run/reconciler/reconciler.sock]
    #[arg(long, global = true, env = "RECONCILER_SOCKET", value_name = "PATH")]
    #[arg(hide_env_values = true, help_heading = "Options of every command")]
    pub(crate) socket: Option<PathBuf>,
    /// When to use colour; `auto` minds NO_COLOR, TERM=dumb and whether a terminal reads
    #[arg(long, global = true, value_enum, default_value_t = When::Auto, value_name = "WHEN")]
    #[arg(help_heading = "Options of every command")]
    pub(crate) color: When,
}

/// When to do something that is for terminals.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum When {
    /// When a terminal reads.
    Auto,
    /// Always.
    Always,
    /// Not.
    Never,
}

/// How a list of containers is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum ListFormat {
    /// Columns.
    Table,
    /// More columns.
    Wide,
    /// The daemon's answer; with -w one object a line.
    Json,
    /// The same as YAML.
    Yaml,
    /// Names, one a line.
    Name,
}

/// How anything else is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// For people.
    Text,
    /// For programs.
    Json,
    /// For both.
    Yaml,
}

/// How an endless list is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum StreamFormat {
    /// For people.
    Text,
    /// One object a line.
    Json,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Be the daemon: watch specs and keep containers as they say
    #[command(after_help = RUN_HELP)]
    Run(RunArgs),
    /// List containers, or tell of one
    #[command(visible_alias = "ps", after_help = STATUS_HELP)]
    Status(StatusArgs),
    /// Show what containers use, busiest first
    #[command(after_help = TOP_HELP)]
    Top(TopArgs),
    /// Tell everything about one container
    #[command(after_help = "Examples:\n  reconciler describe web\n  \
        reconciler describe web -o json | jq .effective.limits\n\n\
        Exit codes: 0 done, 1 failed, 4 no such name, 5 no daemon answers")]
    Describe(OneArgs),
    /// Tell why a container is as it is: one causal chain
    #[command(after_help = "Examples:\n  reconciler why web\n\n\
        Exit codes: 0 done, 1 failed, 4 no such name, 5 no daemon answers")]
    Why(OneArgs),
    /// Print what a container's processes wrote
    #[command(after_help = LOGS_HELP)]
    Logs(LogsArgs),
    /// Run a command in a container
    #[command(after_help = EXEC_HELP)]
    Exec(ExecArgs),
    /// Take part in a process: see what it writes, write what it reads
    #[command(after_help = ATTACH_HELP)]
    Attach(AttachArgs),
    /// Copy files out of a container, or into it
    #[command(name = "cp", after_help = COPY_HELP)]
    Copy(CopyArgs),
    /// Print what happened
    #[command(
        after_help = "Examples:\n  reconciler events\n  reconciler events web -w\n  \
        reconciler events --tail 1000 -o json | jq 'select(.severity == \"warning\")'\n\n\
        Exit codes: 0 done, 1 failed, 5 no daemon answers"
    )]
    Events(EventsArgs),
    /// Show what would be done, and why; changes nothing
    #[command(after_help = PLAN_HELP)]
    Plan(PlanArgs),
    /// Give specs to the daemon, to be kept in its store
    #[command(after_help = APPLY_HELP)]
    Apply(ApplyArgs),
    /// Delete containers that were applied
    #[command(after_help = DELETE_HELP)]
    Delete(DeleteArgs),
    /// Print effective specs, every default filled
    #[command(after_help = "Examples:\n  reconciler get web\n  \
        reconciler get -o json | jq '.[].spec.limits'\n\n\
        Exit codes: 0 done, 1 failed, 4 no such name, 5 no daemon answers")]
    Get(GetArgs),
    /// List the generations of a container's spec
    #[command(after_help = "Examples:\n  reconciler history web\n\n\
        Exit codes: 0 done, 1 failed, 4 no such name, 5 no daemon answers")]
    History(OneArgs),
    /// Show what differs between two generations
    #[command(
        after_help = "Examples:\n  reconciler diff web            the newest and the one \
        before\n  reconciler diff web @3..@5\n\n\
        Exit codes: 0 done, 1 failed, 4 no such name or generation, 5 no daemon answers"
    )]
    Diff(DiffArgs),
    /// Have an earlier generation of an applied container back
    #[command(after_help = ROLLBACK_HELP)]
    Rollback(RollbackArgs),
    /// Check spec files; needs neither root nor a daemon
    #[command(after_help = VALIDATE_HELP)]
    Validate(ValidateArgs),
    /// Print the JSON Schema of a spec, for editors
    #[command(
        after_help = "Examples:\n  reconciler schema > reconciler.schema.json\n  \
        # first line of a spec, for editors with the YAML language server:\n  \
        # yaml-language-server: $schema=reconciler.schema.json\n\n\
        Exit codes: 0 done"
    )]
    Schema(SchemaArgs),
    /// Explain a field of the spec or the code of a diagnostic
    #[command(after_help = "Examples:\n  reconciler explain limits.memory\n  \
        reconciler explain E0107\n  reconciler explain           all fields\n\n\
        Exit codes: 0 done, 1 there is no such field or code")]
    Explain(ExplainArgs),
    /// Tell what this host has for containers, and what is left of it
    #[command(after_help = CAPACITY_HELP)]
    Capacity(CapacityArgs),
    /// Tell what this host can do, and what is done instead where it cannot
    #[command(
        after_help = "Examples:\n  reconciler doctor\n  reconciler doctor -o json\n\n\
        Exit codes: 0 done (also when something is missing), 1 failed, 5 no daemon answers"
    )]
    Doctor(DoctorArgs),
    /// Read the specs again and reconcile at once
    #[command(after_help = SYNC_HELP)]
    Sync(SyncArgs),
    /// Let containers run again that were stopped by hand
    #[command(after_help = order_help!("start"))]
    Start(OrderArgs),
    /// End a container's processes until `start`; remembered across restarts and reboots
    #[command(after_help = order_help!("stop"))]
    Stop(OrderArgs),
    /// Restart a container's processes once
    #[command(after_help = order_help!("restart"))]
    Restart(OrderArgs),
    /// Leave a container exactly as it is until `resume`
    #[command(after_help = order_help!("suspend"))]
    Suspend(OrderArgs),
    /// Take care of a suspended container again
    #[command(after_help = order_help!("resume"))]
    Resume(OrderArgs),
    /// Print the version of this command and of the daemon
    #[command(
        after_help = "Examples:\n  reconciler version\n  reconciler version -o json\n\n\
        Exit codes: 0 done (also when no daemon answers)"
    )]
    Version(VersionArgs),
    /// End every container while the daemon does not run; what was asked for stays
    #[command(after_help = DRAIN_HELP)]
    Drain(DrainArgs),
    /// Check, export or import the store while the daemon does not run
    #[command(after_help = STORE_HELP)]
    Store(StoreArgs),
    /// Print what makes a shell complete commands, options and names of containers
    #[command(after_help = COMPLETION_HELP)]
    Completion(CompletionArgs),
    /// Print the manual page, or write one for each command
    #[command(after_help = MAN_HELP)]
    Man(ManArgs),
}

#[derive(Debug, Args)]
pub(crate) struct WaitArgs {
    /// Wait until settled, or until it cannot go on without a person
    #[arg(long)]
    pub(crate) wait: bool,
    /// How long to wait at most
    #[arg(long, value_name = "TIME", default_value = "60s", requires = "wait")]
    pub(crate) timeout: Span,
}

#[derive(Debug, Args)]
pub(crate) struct StatusArgs {
    /// Only this container
    pub(crate) name: Option<Key>,
    /// Go on and print what changes
    #[arg(short, long, conflicts_with = "wait")]
    pub(crate) watch: bool,
    /// Only containers with these labels: a=b,c=d
    #[arg(short = 'l', long, value_name = "LABELS", conflicts_with = "name")]
    pub(crate) selector: Option<Selector>,
    /// How to print
    #[arg(short, long, value_enum, default_value_t = ListFormat::Table, value_name = "FORMAT")]
    pub(crate) output: ListFormat,
    #[command(flatten)]
    pub(crate) wait: WaitArgs,
}

#[derive(Debug, Args)]
pub(crate) struct OneArgs {
    /// Which container
    pub(crate) name: Key,
    /// How to print
    #[arg(short, long, value_enum, default_value_t = Format::Text, value_name = "FORMAT")]
    pub(crate) output: Format,
}

#[derive(Debug, Args)]
pub(crate) struct LogsArgs {
    /// Which container, and perhaps which of its processes
    #[arg(value_name = "NAME[/PROCESS]")]
    pub(crate) target: LogTarget,
    /// Go on as more is written
    #[arg(short, long)]
    pub(crate) follow: bool,
    /// Only what is newer: 10m, 2h30m, or 2026-01-31T12:00:00Z
    #[arg(long, value_name = "TIME")]
    pub(crate) since: Option<Moment>,
    /// Only the last so many lines
    #[arg(long, value_name = "LINES")]
    pub(crate) tail: Option<u64>,
    /// Put the time before each line
    #[arg(short, long)]
    pub(crate) timestamps: bool,
    /// Print control characters as they are; not to a terminal
    #[arg(long, conflicts_with = "output")]
    pub(crate) raw: bool,
    /// How to print
    #[arg(short, long, value_enum, default_value_t = StreamFormat::Text, value_name = "FORMAT")]
    pub(crate) output: StreamFormat,
}

#[derive(Debug, Args)]
pub(crate) struct EventsArgs {
    /// Only of this container
    pub(crate) name: Option<Key>,
    /// Go on as more happens
    #[arg(short, long)]
    pub(crate) watch: bool,
    /// How many of the newest to begin with
    #[arg(long, value_name = "COUNT", default_value_t = 50)]
    pub(crate) tail: u64,
    /// How to print
    #[arg(short, long, value_enum, default_value_t = StreamFormat::Text, value_name = "FORMAT")]
    pub(crate) output: StreamFormat,
}

#[derive(Debug, Args)]
pub(crate) struct PlanArgs {
    /// Files, directories, or `-`: plan as if they were in place
    #[arg(value_name = "PATH")]
    pub(crate) paths: Vec<PathBuf>,
    /// Exit with 2 when there is something to do
    #[arg(long)]
    pub(crate) exit_code: bool,
    /// How to print
    #[arg(short, long, value_enum, default_value_t = Format::Text, value_name = "FORMAT")]
    pub(crate) output: Format,
}

#[derive(Debug, Args)]
pub(crate) struct ValidateArgs {
    /// Files, directories, or `-` [default: /etc/reconciler/specs.d]
    #[arg(value_name = "PATH")]
    pub(crate) paths: Vec<PathBuf>,
    /// Check this configuration too, and what its policy says to the specs
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// How to print
    #[arg(short, long, value_enum, default_value_t = Format::Text, value_name = "FORMAT")]
    pub(crate) output: Format,
}

#[derive(Debug, Args)]
pub(crate) struct SchemaArgs {
    /// The schema of config.yaml instead
    #[arg(long)]
    pub(crate) config: bool,
}

#[derive(Debug, Args)]
pub(crate) struct ExplainArgs {
    /// A field (`limits.memory`) or a code (`E0107`); nothing: all fields
    #[arg(value_name = "FIELD|CODE")]
    pub(crate) what: Option<String>,
    /// A field of config.yaml instead
    #[arg(long)]
    pub(crate) config: bool,
    /// How to print
    #[arg(short, long, value_enum, default_value_t = Format::Text, value_name = "FORMAT")]
    pub(crate) output: Format,
}

#[derive(Debug, Args)]
pub(crate) struct SyncArgs {
    /// Only this container
    pub(crate) name: Option<Key>,
    /// Let a held-back deletion of at most so many containers go on
    #[arg(long, value_name = "COUNT", conflicts_with = "name")]
    pub(crate) allow_deletes: Option<u64>,
    #[command(flatten)]
    pub(crate) wait: WaitArgs,
    /// How to print
    #[arg(short, long, value_enum, default_value_t = Format::Text, value_name = "FORMAT")]
    pub(crate) output: Format,
}

#[derive(Debug, Args)]
pub(crate) struct OrderArgs {
    /// Which containers
    #[arg(required = true, value_name = "NAME")]
    pub(crate) names: Vec<Key>,
    #[command(flatten)]
    pub(crate) wait: WaitArgs,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_well_formed() {
        Cli::command().debug_assert();
    }

    #[test]
    fn the_document_tells_every_command_and_every_option() {
        let document = include_str!("../../../docs/cli.md");
        for command in Cli::command().get_subcommands() {
            let name = command.get_name();
            let is_heading = |line: &&str| {
                let words = line.strip_prefix("## ").unwrap_or_default();
                words.split([' ', ',']).any(|word| word == name)
            };
            let at = document.lines().position(|line| is_heading(&line));
            let at = at.unwrap_or_else(|| panic!("docs/cli.md has no heading for `{name}`"));
            let mut section = document
                .lines()
                .skip(at + 1)
                .take_while(|l| !l.starts_with("## "));
            let section = section.by_ref().collect::<Vec<_>>().join("\n");
            let own = command.get_arguments().filter(|arg| !arg.is_global_set());
            for option in own.filter_map(clap::Arg::get_long) {
                let told = section.contains(&format!("--{option}"));
                let by_letter = option == "output" && section.contains("[-o ");
                assert!(
                    told || by_letter || option == "help",
                    "`{name}`: --{option}"
                );
            }
        }
    }
}
