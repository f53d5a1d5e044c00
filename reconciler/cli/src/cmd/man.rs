//! `reconciler man`: manual pages, made of what `--help` is made of.

use std::fs;
use std::io::{self, Write as _};
use std::path::Path;

use clap::{Command, CommandFactory as _};
use clap_mangen::Man;
use clap_mangen::roff::{Roff, bold, roman};

use super::{Exit, Failure, Session};
use crate::args::{Cli, ManArgs};

/// Prints the main page, or writes all pages into a directory.
///
/// # Errors
/// When standard output takes nothing, or a file could not be written.
pub(crate) fn man(session: &mut Session, args: &ManArgs) -> Result<Exit, Failure> {
    let mut whole = Cli::command().disable_help_subcommand(true);
    // Gives each command what it inherits, and its full name.
    whole.build();
    let Some(directory) = &args.directory else {
        let text = page(&whole).map_err(Failure::Render)?;
        session.out.raw(&text)?;
        return Ok(Exit::Done);
    };
    let failed = |path: &Path| {
        let path = path.to_owned();
        |err| Failure::Write(path, err)
    };
    fs::create_dir_all(directory).map_err(failed(directory))?;
    let inner = whole
        .get_subcommands()
        .flat_map(|one| one.get_subcommands());
    for command in std::iter::once(&whole)
        .chain(whole.get_subcommands())
        .chain(inner)
    {
        let text = page(command).map_err(Failure::Render)?;
        let path = directory.join(format!("{}.1", name(command)));
        fs::write(&path, text).map_err(failed(&path))?;
        session.out.line(&path.display().to_string())?;
    }
    Ok(Exit::Done)
}

fn name(command: &Command) -> &str {
    let full = command.get_display_name();
    full.unwrap_or_else(|| command.get_name())
}

fn page(command: &Command) -> io::Result<Vec<u8>> {
    // The library leaves an empty date out, and all that follows would be taken for it.
    let title = name(command).to_uppercase();
    let release = env!("CARGO_PKG_VERSION");
    let mut text = Vec::new();
    writeln!(
        text,
        ".TH \"{title}\" 1 \"\" \"reconciler {release}\" \"Reconciler Manual\""
    )?;
    let man = Man::new(command.clone());
    man.render_name_section(&mut text)?;
    man.render_synopsis_section(&mut text)?;
    man.render_description_section(&mut text)?;
    man.render_options_section(&mut text)?;
    if command.has_subcommands() {
        man.render_subcommands_section(&mut text)?;
    }
    let mut roff = Roff::new();
    let said = command.get_after_help().map(ToString::to_string);
    remarks(&mut roff, &said.unwrap_or_default());
    see_also(&mut roff, command);
    roff.to_writer(&mut text)?;
    Ok(text)
}

/// What stands below the options in the help, each kind below its usual heading; examples and
/// tables keep their lines.
fn remarks(roff: &mut Roff, said: &str) {
    let (mut examples, mut codes, mut notes) = (Vec::new(), Vec::new(), Vec::new());
    for paragraph in said.split("\n\n") {
        let (head, rest) = paragraph.split_once('\n').unwrap_or((paragraph, ""));
        if head.starts_with("Example") {
            examples.push(rest);
        } else if let Some(inline) = head.strip_prefix("Exit codes:") {
            codes.push(format!("{}\n{rest}", inline.trim_start()));
        } else if head.starts_with("Exit codes,") {
            codes.push(paragraph.to_owned());
        } else if !paragraph.is_empty() {
            notes.push(paragraph);
        }
    }
    if !notes.is_empty() {
        roff.control("SH", ["NOTES"]);
    }
    for (at, note) in notes.into_iter().enumerate() {
        if at > 0 {
            roff.control("PP", []);
        }
        verbatim_or_text(roff, note);
    }
    if !codes.is_empty() {
        roff.control("SH", ["EXIT STATUS"]);
    }
    for code in &codes {
        verbatim_or_text(roff, code.trim_matches('\n'));
    }
    if !examples.is_empty() {
        roff.control("SH", ["EXAMPLES"]);
    }
    for example in examples {
        verbatim(roff, example);
    }
}

fn verbatim_or_text(roff: &mut Roff, text: &str) {
    if text.lines().any(|line| line.starts_with("  ")) {
        return verbatim(roff, text);
    }
    for line in text.lines() {
        roff.text([roman(line)]);
    }
}

fn verbatim(roff: &mut Roff, text: &str) {
    roff.control("nf", []);
    for line in text.lines() {
        roff.text([roman(line.strip_prefix("  ").unwrap_or(line))]);
    }
    roff.control("fi", []);
}

fn see_also(roff: &mut Roff, command: &Command) {
    roff.control("SH", ["SEE ALSO"]);
    if command.has_subcommands() {
        let names: Vec<&str> = command.get_subcommands().map(name).collect();
        for (at, name) in names.iter().enumerate() {
            let mark = if at + 1 < names.len() { "(1)," } else { "(1)" };
            roff.text([bold(*name), roman(mark)]);
        }
    } else {
        roff.text([bold("reconciler"), roman("(1)")]);
    }
}
