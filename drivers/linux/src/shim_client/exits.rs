//! What a life's processes did, when nobody is left who could be asked.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;

use shim_proto::init::PROCESSES_MAX;
use shim_proto::message::{Exit, ExitKind, ProcessReport};
use shim_proto::record::{self, UNIT_BYTES};

/// Most bytes of the file `exits`.
const EXITS_BYTES_MAX: u64 = ((2 + 2 * PROCESSES_MAX) * UNIT_BYTES) as u64;

/// Returns what the file `exits` of a life tells, when neither its shim nor its init lives:
/// what ran last has ended, and nobody saw how. Empty if there is no such file.
///
/// # Errors
/// When it cannot be read, or is not of the form known here.
pub(crate) fn read_exits(directory: &Path) -> io::Result<Vec<ProcessReport>> {
    let file = match File::open(directory.join("exits")) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        file => file?,
    };
    let mut bytes = Vec::new();
    file.take(EXITS_BYTES_MAX).read_to_end(&mut bytes)?;
    if !record::is_header(bytes.get(..UNIT_BYTES).unwrap_or_default()) {
        let what = "the file exits is not of the form known here";
        return Err(io::Error::new(io::ErrorKind::InvalidData, what));
    }
    let mut reports: Vec<ProcessReport> = record::read(&bytes)
        .into_iter()
        .flatten()
        .map(report)
        .collect();
    reports.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(reports)
}

fn report(record: record::Record) -> ProcessReport {
    let unseen = Exit {
        started_ms: record.started_ms,
        ended_ms: record.started_ms,
        kind: ExitKind::Unseen as i32,
        value: 0,
        asked: record.stopping_ms != 0,
        ..Exit::default()
    };
    let last_exit = if record.pid == 0 {
        record.last_exit
    } else {
        Some(unseen)
    };
    ProcessReport {
        name: record.name,
        digest: record.digest,
        files: record.files,
        restart_epoch: record.restart_epoch,
        starts: record.starts,
        started_ms: record.started_ms,
        last_exit,
        ..ProcessReport::default()
    }
}
