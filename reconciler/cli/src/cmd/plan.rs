//! `reconciler plan`.

use std::path::PathBuf;

use reconciler_daemon::api::wire::{PlanAsk, PlanFile, PlanView};

use super::input::{self, Input};
use super::{Exit, Failure, Session};
use crate::args::PlanArgs;
use crate::render::plan;

/// Shows what would be done.
///
/// # Errors
/// When a file cannot be read, the daemon gives no answer, or standard output takes nothing.
pub(crate) fn plan(session: &mut Session, args: &PlanArgs) -> Result<Exit, Failure> {
    let ask = PlanAsk {
        files: files(&args.paths)?,
        applied: false,
    };
    let view: PlanView = session.client()?.post("/plan", &ask)?;
    session.print(args.output, &view, |view, look| {
        plan::plan(view, look.paint)
    })?;
    Ok(if !view.refused.is_empty() {
        Exit::Failed
    } else if args.exit_code && !plan::is_clean(&view) {
        Exit::Changes
    } else {
        Exit::Done
    })
}

/// Reads the texts that paths name.
///
/// # Errors
/// When one cannot be read, or is not text.
pub(super) fn files(paths: &[PathBuf]) -> Result<Vec<PlanFile>, Failure> {
    input::read(paths)?.into_iter().map(plan_file).collect()
}

fn plan_file(input: Input) -> Result<PlanFile, Failure> {
    let text =
        String::from_utf8(input.bytes).map_err(|_| Failure::NotText(input.name.clone().into()))?;
    Ok(PlanFile {
        path: input.name,
        text,
    })
}
