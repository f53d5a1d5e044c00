//! `reconciler logs`.

use reconciler_daemon::api::wire::{Detail, LogLine};

use super::follow::follow;
use super::{Exit, Failure, Session, now_ms};
use crate::args::{LogsArgs, StreamFormat};
use crate::client::{AskError, Client, with_query};
use crate::render::escape;
use crate::render::paint::Tone;

/// Prints what a container's processes wrote.
///
/// # Errors
/// When the daemon gives no answer, or standard output takes nothing.
pub(crate) fn logs(session: &mut Session, args: &LogsArgs) -> Result<Exit, Failure> {
    if args.raw && session.out.is_terminal {
        return Err(Failure::Usage(
            "--raw lets a container steer the terminal; send the output to a file or a pipe",
        ));
    }
    let client = session.client()?;
    let mut printer = Printer {
        raw: args.raw,
        timestamps: args.timestamps,
        names: args.target.process.is_none() && has_several(&client, args)?,
        open: None,
    };
    let path = with_query(
        &format!("/containers/{}/logs", args.target.key),
        &[
            (
                "process",
                args.target.process.as_ref().map(ToString::to_string),
            ),
            ("follow", args.follow.then(|| "true".to_owned())),
            (
                "since_ms",
                args.since.map(|since| since.to_ms(now_ms()).to_string()),
            ),
            ("tail", args.tail.map(|tail| tail.to_string())),
        ],
    );
    let lines = client.lines(&path)?;
    let take = |session: &mut Session, line: &str| {
        let line: LogLine = serde_json::from_str(line).map_err(Failure::Line)?;
        match args.output {
            StreamFormat::Json => Ok(session.out.json_line(&line)?),
            StreamFormat::Text => printer.print(session, &line),
        }
    };
    follow(session, lines, take, |_| Ok(()))?;
    printer.finish(session)
}

/// Whether the container has more than one process, so that lines need a name. Output of a
/// container that is gone can still be there, and then nobody knows.
fn has_several(client: &Client, args: &LogsArgs) -> Result<bool, Failure> {
    let asked: Result<Detail, AskError> = client.get(&format!("/containers/{}", args.target.key));
    match asked {
        Ok(detail) => Ok(detail.view.status.processes.len() > 1),
        Err(err) if err.is_unknown_name() => Ok(true),
        Err(err) => Err(err.into()),
    }
}

/// Puts records together to lines.
struct Printer {
    raw: bool,
    timestamps: bool,
    names: bool,
    /// Whose line has not ended yet: process and stream.
    open: Option<(String, String)>,
}

impl Printer {
    fn print(&mut self, session: &mut Session, line: &LogLine) -> Result<(), Failure> {
        let from = (line.process.clone(), line.stream.clone());
        if self.open.as_ref() != Some(&from) {
            if self.open.take().is_some() {
                session.out.text("\n")?;
            }
            let prefix = self.prefix(session, line);
            session.out.text(&prefix)?;
        }
        if self.raw {
            session.out.raw(line.text.as_bytes())?;
        } else {
            // A tab is a container's ordinary output and moves right only.
            let text = escape::lines(&line.text).replace('\n', "\\n");
            session.out.text(&text)?;
        }
        if line.partial {
            self.open = Some(from);
        } else {
            self.open = None;
            session.out.text("\n")?;
        }
        Ok(())
    }

    fn prefix(&self, session: &Session, line: &LogLine) -> String {
        let mut prefix = String::new();
        if self.timestamps {
            prefix.push_str(&escape::line(&line.at));
            prefix.push(' ');
        }
        if self.names {
            prefix.push_str(&format!("{} | ", escape::line(&line.process)));
        }
        session.out.paint.put(Tone::Dim, &prefix)
    }

    fn finish(self, session: &mut Session) -> Result<Exit, Failure> {
        if self.open.is_some() {
            session.out.text("\n")?;
        }
        Ok(Exit::Done)
    }
}
