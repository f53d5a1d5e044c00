//! `reconciler sync`.

use reconciler_daemon::api::wire::{Done, List, Sync};
use specs::id::Key;

use super::wait::{self, Goal};
use super::{Exit, Failure, Session};
use crate::args::{Format, SyncArgs};
use crate::render::{escape, status};

/// Lets the daemon read and reconcile at once, and with `--wait` waits until it is settled.
///
/// # Errors
/// When the daemon gives no answer, or standard output takes nothing.
pub(crate) fn sync(session: &mut Session, args: &SyncArgs) -> Result<Exit, Failure> {
    let client = session.client()?;
    let name = args.name.as_ref().map(ToString::to_string);
    let ask = Sync {
        name,
        allow_deletes: args.allow_deletes,
    };
    let done: Done = client.post("/sync", &ask)?;
    session.print(args.output, &done, |done, _| {
        format!("{}\n", escape::line(&done.message))
    })?;
    session.out.flush()?;
    if !args.wait.wait {
        return Ok(Exit::Done);
    }
    let names: Vec<Key> = args.name.iter().cloned().collect();
    let wanted = |key: &Key| names.is_empty() || names.contains(key);
    let goal = Goal {
        wanted: &wanted,
        names: &names,
        after_order: true,
    };
    let found = wait::wait(session, &client, &goal, args.wait.timeout.0)?;
    if let Some(exit) = wait::report(session, &found)? {
        return Ok(exit);
    }
    let list: List = client.get("/containers")?;
    if list.refused.is_empty() {
        return Ok(Exit::Done);
    }
    if args.output == Format::Text {
        let text = status::refused(&list.refused, session.out.paint);
        session.out.text(text.trim_start_matches('\n'))?;
    }
    Ok(Exit::Failed)
}
