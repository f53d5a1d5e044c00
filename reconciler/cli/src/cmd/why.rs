//! `reconciler why`.

use reconciler_daemon::api::wire::Why;

use super::{Exit, Failure, Session};
use crate::args::OneArgs;
use crate::render::why;

/// Tells why a container is as it is.
///
/// # Errors
/// When the daemon gives no answer, or standard output takes nothing.
pub(crate) fn why(session: &mut Session, args: &OneArgs) -> Result<Exit, Failure> {
    let answer: Why = session
        .client()?
        .get(&format!("/containers/{}/why", args.name))?;
    session.print(args.output, &answer, |answer, look| {
        why::why(answer, look.paint)
    })?;
    Ok(Exit::Done)
}
