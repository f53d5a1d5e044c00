//! `reconciler doctor`.

use reconciler_daemon::api::wire::Doctor;

use super::{Exit, Failure, Session};
use crate::args::DoctorArgs;
use crate::render::doctor;

/// Tells what this host can do.
///
/// # Errors
/// When the daemon gives no answer, or standard output takes nothing.
pub(crate) fn doctor(session: &mut Session, args: &DoctorArgs) -> Result<Exit, Failure> {
    let answer: Doctor = session.client()?.get("/doctor")?;
    session.print(args.output, &answer, |answer, look| {
        doctor::doctor(answer, look.paint)
    })?;
    Ok(Exit::Done)
}
