//! `reconciler sync`.

use reconciler_daemon::api::wire::{Detail, Done, List, Sync};
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
    let late = wait::report(session, &found)?;
    let refused = match &args.name {
        Some(name) => {
            let detail: Detail = client.get(&format!("/containers/{name}"))?;
            detail
                .refusal
                .map(|refusal| format!("{}\n", escape::lines(&refusal).trim_end()))
        }
        None => {
            let list: List = client.get("/containers")?;
            let text = status::refused(&list.refused, session.out.paint);
            (!text.is_empty()).then(|| text.trim_start_matches('\n').to_owned())
        }
    };
    let Some(refused) = refused else {
        return Ok(late.unwrap_or(Exit::Done));
    };
    if args.output == Format::Text {
        session.out.text(&refused)?;
    }
    Ok(Exit::Failed)
}
