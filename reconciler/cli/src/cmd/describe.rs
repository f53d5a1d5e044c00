//! `reconciler describe`.

use reconciler_daemon::api::wire::Detail;

use super::{Exit, Failure, Session};
use crate::args::OneArgs;
use crate::render::describe;

/// Tells everything about one container.
///
/// # Errors
/// When the daemon gives no answer, or standard output takes nothing.
pub(crate) fn describe(session: &mut Session, args: &OneArgs) -> Result<Exit, Failure> {
    let detail: Detail = session
        .client()?
        .get(&format!("/containers/{}", args.name))?;
    session.print(args.output, &detail, describe::describe)?;
    Ok(Exit::Done)
}
