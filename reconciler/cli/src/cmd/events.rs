//! `reconciler events`.

use std::cell::RefCell;

use specs::event::Event;

use super::follow::{Ended, follow};
use super::{Exit, Failure, Session};
use crate::args::{EventsArgs, StreamFormat};
use crate::client::with_query;
use crate::render::events;

/// Prints what happened.
///
/// # Errors
/// When the daemon gives no answer, or standard output takes nothing.
pub(crate) fn events(session: &mut Session, args: &EventsArgs) -> Result<Exit, Failure> {
    let client = session.client()?;
    let path = with_query(
        "/events",
        &[
            ("key", args.name.as_ref().map(ToString::to_string)),
            ("tail", Some(args.tail.to_string())),
            ("follow", args.watch.then(|| "true".to_owned())),
        ],
    );
    let lines = client.lines(&path)?;
    let grid = RefCell::new(events::grid());
    let take = |session: &mut Session, line: &str| {
        let event: Event = serde_json::from_str(line).map_err(Failure::Line)?;
        match args.output {
            StreamFormat::Json => session.out.json_line(&event)?,
            StreamFormat::Text => grid.borrow_mut().push(events::row(&event, &session.look())),
        }
        Ok(())
    };
    let print = |session: &mut Session| {
        let text = grid.borrow_mut().take_rows(session.out.paint);
        Ok(session.out.text(&text)?)
    };
    match follow(session, lines, take, print)? {
        Ended::ByDaemon if args.watch => Err(Failure::Ended),
        Ended::ByDaemon | Ended::ByReader => Ok(Exit::Done),
    }
}
