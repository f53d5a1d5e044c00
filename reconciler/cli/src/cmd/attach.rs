//! `reconciler attach`.

use reconciler_daemon::api::wire::AttachAsk;

use super::exec::{NotRun, told};
use super::{Exit, Failure, Session};
use crate::args::AttachArgs;
use crate::render::escape;

/// Takes part in a process, until it ends.
///
/// # Errors
/// When it does not run, or the connection breaks.
pub(crate) fn attach(session: &Session, args: &AttachArgs) -> Result<Exit, Failure> {
    let ask = AttachAsk {
        process: args.target.process.as_ref().map(ToString::to_string),
        input: args.interactive,
        tail: args.tail,
    };
    // What a container writes does not steer a terminal.
    let show = if session.out.is_terminal {
        visible
    } else {
        <[u8]>::to_vec
    };
    let outcome = session.client()?.attach(&args.target.key, &ask, show);
    told(outcome.map_err(NotRun)?)
}

fn visible(bytes: &[u8]) -> Vec<u8> {
    let text = String::from_utf8_lossy(bytes);
    escape::lines(&text).into_owned().into_bytes()
}
