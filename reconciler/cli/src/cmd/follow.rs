//! Reading a stream: lines that come together are printed together, nothing waits in a
//! buffer while the stream is quiet, and a reader that has left ends the reading.

use std::time::{Duration, Instant};

use super::{Failure, Session};
use crate::client::{Lines, Next};

/// Time within which a further line belongs to the same printing.
const BATCH_WAIT: Duration = Duration::from_millis(10);
/// Longest that a line waits for others while they keep coming.
const BATCH_WAIT_MAX: Duration = Duration::from_millis(200);
/// How often a quiet stream looks whether its reader is still there.
const QUIET_WAIT: Duration = Duration::from_millis(500);

/// How the reading ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    /// The daemon has no more to say.
    ByDaemon,
    /// Nobody reads what is printed.
    ByReader,
}

/// Hands each line to `take`, and calls `print` whenever what was taken should be seen.
///
/// # Errors
/// As `take` and `print` do, and when the connection breaks.
pub(crate) fn follow(
    session: &mut Session,
    mut lines: Lines<'_>,
    mut take: impl FnMut(&mut Session, &str) -> Result<(), Failure>,
    mut print: impl FnMut(&mut Session) -> Result<(), Failure>,
) -> Result<Ended, Failure> {
    let mut waiting_since: Option<Instant> = None;
    loop {
        let wait = if waiting_since.is_some() {
            BATCH_WAIT
        } else {
            QUIET_WAIT
        };
        let next = lines.next(wait)?;
        if let Next::Line(line) = &next {
            take(session, line)?;
            waiting_since.get_or_insert_with(Instant::now);
        }
        let full = waiting_since.is_some_and(|since| since.elapsed() > BATCH_WAIT_MAX);
        if full || !matches!(next, Next::Line(_)) {
            if waiting_since.take().is_some() {
                print(session)?;
            }
            session.out.flush()?;
            session.out.look_for_reader();
        }
        if session.out.is_closed() {
            return Ok(Ended::ByReader);
        }
        if next == Next::End {
            return Ok(Ended::ByDaemon);
        }
    }
}
