//! `reconciler history`, `diff`, `rollback`.

use reconciler_daemon::api::wire::{Difference, Done, History, RollBack};

use super::{Exit, Failure, Session, wait};
use crate::args::{DiffArgs, OneArgs, RollbackArgs};
use crate::render::{escape, history as shown};

/// Shows what was accepted over time.
///
/// # Errors
/// When the daemon gives no answer, or standard output takes nothing.
pub(crate) fn history(session: &mut Session, args: &OneArgs) -> Result<Exit, Failure> {
    let path = format!("/containers/{}/history", args.name);
    let history: History = session.client()?.get(&path)?;
    session.print(args.output, &history, shown::history)?;
    Ok(Exit::Done)
}

/// Shows what differs between two generations.
///
/// # Errors
/// When the daemon gives no answer, or standard output takes nothing.
pub(crate) fn diff(session: &mut Session, args: &DiffArgs) -> Result<Exit, Failure> {
    let between = args.between.as_ref();
    let query = between.map_or_else(String::new, |one| {
        format!("?from={}&to={}", one.from, one.to)
    });
    let path = format!("/containers/{}/diff{query}", args.name);
    let found: Difference = session.client()?.get(&path)?;
    session.print(args.output, &found, |found, look| {
        shown::difference(found, look.paint)
    })?;
    Ok(Exit::Done)
}

/// Has an earlier generation back.
///
/// # Errors
/// When the daemon refuses it, or standard output takes nothing.
pub(crate) fn rollback(session: &mut Session, args: &RollbackArgs) -> Result<Exit, Failure> {
    let client = session.client()?;
    let path = format!("/containers/{}/rollback", args.name);
    let done: Done = client.post(&path, &RollBack { to: args.to })?;
    session.out.line(&escape::line(&done.message))?;
    session.out.flush()?;
    wait::settle(
        session,
        &client,
        std::slice::from_ref(&args.name),
        &args.wait,
    )
}
