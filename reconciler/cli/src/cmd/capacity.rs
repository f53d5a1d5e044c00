//! `reconciler capacity`.

use specs::capacity::Capacity;

use super::{Exit, Failure, Session};
use crate::args::CapacityArgs;
use crate::render::capacity;

/// Tells what this host has for containers, and what is left of it.
///
/// # Errors
/// When the daemon gives no answer, or standard output takes nothing.
pub(crate) fn capacity(session: &mut Session, args: &CapacityArgs) -> Result<Exit, Failure> {
    let answer: Capacity = session.client()?.get("/capacity")?;
    session.print(args.output, &answer, |answer, look| {
        capacity::capacity(answer, look.paint)
    })?;
    Ok(Exit::Done)
}
