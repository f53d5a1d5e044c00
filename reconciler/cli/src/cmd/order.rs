//! `reconciler start`, `stop`, `restart`, `suspend`, `resume`.

use reconciler_daemon::api::wire::Done;

use super::{Exit, Failure, Session, wait};
use crate::args::OrderArgs;
use crate::render::escape;

/// Gives an order for each container, and with `--wait` waits until it is carried out.
///
/// # Errors
/// When the daemon refuses an order; those before it were given.
pub(crate) fn order(session: &mut Session, verb: &str, args: &OrderArgs) -> Result<Exit, Failure> {
    let client = session.client()?;
    for name in &args.names {
        let done: Done = client.post(&format!("/containers/{name}/{verb}"), &())?;
        session.out.line(&escape::line(&done.message))?;
    }
    session.out.flush()?;
    wait::settle(session, &client, &args.names, &args.wait)
}
