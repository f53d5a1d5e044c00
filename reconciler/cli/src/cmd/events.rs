//! `reconciler events`.

use std::time::Duration;

use specs::event::Event;

use super::{Exit, Failure, Session};
use crate::args::{EventsArgs, StreamFormat};
use crate::client::{Next, with_query};
use crate::render::events;

/// Time within which further lines belong to the same printing.
const BATCH_WAIT: Duration = Duration::from_millis(30);
/// How often a quiet stream looks whether its reader is still there.
const QUIET_WAIT: Duration = Duration::from_millis(500);

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
    let mut lines = client.lines(&path)?;
    let mut grid = events::grid();
    let mut pending = false;
    loop {
        let next = lines.next(if pending { BATCH_WAIT } else { QUIET_WAIT })?;
        match &next {
            Next::Line(line) => {
                let event: Event = serde_json::from_str(line).map_err(Failure::Line)?;
                if args.output == StreamFormat::Json {
                    session.out.json_line(&event)?;
                } else {
                    grid.push(events::row(&event, &session.look()));
                    pending = true;
                }
            }
            Next::Quiet | Next::End => {
                if std::mem::take(&mut pending) {
                    let text = grid.take(session.out.paint);
                    session.out.text(&text)?;
                }
                session.out.flush()?;
            }
        }
        if next == Next::End || session.out.is_closed() {
            return Ok(Exit::Done);
        }
    }
}
