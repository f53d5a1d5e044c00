//! `reconciler store`: a store whose daemon does not run.

use std::fs;

use reconciler_daemon::{OfflineStore, Report, RunOptions};
use serde_json::{Value, json};

use super::{Exit, Failure, Session};
use crate::args::{StoreAct, StoreArgs};
use crate::render::{Look, escape, paint::Tone};

/// Checks, exports or imports.
///
/// # Errors
/// When the daemon runs, the options are wrong, a file is at fault, or the system refuses.
pub(crate) fn store(session: &mut Session, args: &StoreArgs) -> Result<Exit, Failure> {
    let store = OfflineStore::of(&RunOptions {
        config: args.config.clone(),
        state_dir: args.state_dir.clone(),
        instance: args.instance.as_ref().map(ToString::to_string),
        ..RunOptions::default()
    })?;
    match &args.act {
        StoreAct::Check { output } => {
            let report = store.check()?;
            session.print(*output, &value(&report), |_, look| text(&report, look))?;
            Ok(if report.is_sound() {
                Exit::Done
            } else {
                Exit::Failed
            })
        }
        StoreAct::Export { file } => {
            let count = store.export(file)?;
            let file = file.display();
            session
                .out
                .line(&format!("{count} records were written to {file}"))?;
            Ok(Exit::Done)
        }
        StoreAct::Import { file } => {
            let bytes = fs::read(file).map_err(|err| Failure::Read(file.clone(), err))?;
            let count = store.import(&bytes)?;
            let place = store.directory().display();
            session
                .out
                .line(&format!("{place} was made, with {count} records"))?;
            Ok(Exit::Done)
        }
    }
}

fn value(report: &Report) -> Value {
    let records: serde_json::Map<String, Value> = report
        .records
        .iter()
        .map(|(tree, count)| ((*tree).to_owned(), (*count).into()))
        .collect();
    json!({
        "sound": report.is_sound(),
        "id": report.id,
        "revision": report.revision,
        "records": records,
        "copy": report.copy,
        "damaged": report.damaged,
        "faults": report.faults,
    })
}

fn text(report: &Report, look: &Look) -> String {
    let mut out = String::new();
    for wrong in report.faults.iter().chain(&report.damaged) {
        let wrong = escape::line(wrong);
        out.push_str(&format!(
            "{} {wrong}\n",
            look.paint.put(Tone::Bad, "wrong:")
        ));
    }
    let all: u64 = report.records.iter().map(|(_, count)| count).sum();
    let parts: Vec<String> = report
        .records
        .iter()
        .filter(|(_, count)| *count > 0)
        .map(|(tree, count)| format!("{tree} {count}"))
        .collect();
    out.push_str(&format!(
        "commit {}, {all} records: {}\n",
        report.revision,
        parts.join(", ")
    ));
    if report.is_sound() {
        out.push_str("nothing is wrong\n");
    } else {
        out.push_str(match report.copy {
            Some(_) => "a start of the daemon mends it, from the copy where it must, and says what is lost\n",
            None => "a start of the daemon goes on with what is whole, and destroys nothing; there is no copy to mend from\n",
        });
    }
    out
}
