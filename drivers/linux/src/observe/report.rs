//! What shims and exit records tell of processes and files.

use std::collections::BTreeMap;
use std::path::Path;

use driver_api::{ExitStatus, Fact, Gap, ProcessId, ProcessObserved, ProcessState, Run};
use shim_proto::message::{Exit, ExitKind, ProcessReport};
use specs::id::{Digest, ProcessName};

use super::peek::Peek;
use crate::bundle::Record;
use crate::error::words;
use crate::shim_client;

/// Returns the processes of a life, by whoever can be asked.
pub(super) fn observe_processes(
    peek: &Peek,
    directory: &Path,
    leaf: &str,
) -> Fact<BTreeMap<ProcessName, ProcessObserved>> {
    let what = || format!("read the processes of {leaf}");
    let unknown = |why: String| Fact::Unknown(Gap { what: what(), why });
    let reports = match (&peek.report, &peek.shim, &peek.init) {
        (Some(report), _, _) => report.processes.clone(),
        (None, Fact::Absent, Fact::Absent) => {
            if matches!(peek.record, Record::Absent) {
                return Fact::Absent;
            }
            match shim_client::read_exits(directory) {
                Ok(reports) => reports,
                Err(err) => return unknown(words(&err)),
            }
        }
        (None, Fact::Absent, Fact::Known(_)) => return unknown("its shim is gone".to_owned()),
        (None, Fact::Known(_), _) => return unknown("its shim does not answer".to_owned()),
        (None, Fact::Unknown(gap), _) | (None, _, Fact::Unknown(gap)) => {
            return Fact::Unknown(gap.clone());
        }
    };
    let is_over = peek.report.is_none();
    match reports
        .iter()
        .map(|report| observe_process(report, is_over))
        .collect()
    {
        Some(processes) => Fact::Known(processes),
        None => unknown("a report is not of the agreed form".to_owned()),
    }
}

fn observe_process(
    report: &ProcessReport,
    is_over: bool,
) -> Option<(ProcessName, ProcessObserved)> {
    let id = ProcessId {
        pid: report.pid,
        start: report.start,
    };
    let state = match (report.pid, report.stopping_ms) {
        (0, _) => ProcessState::Ended,
        _ if is_over => ProcessState::Ended,
        (_, 0) => ProcessState::Running {
            id,
            started_ms: report.started_ms,
        },
        (_, since_ms) => ProcessState::Stopping { id, since_ms },
    };
    let observed = ProcessObserved {
        digest: Digest(report.digest.as_slice().try_into().ok()?),
        restart_epoch: report.restart_epoch,
        starts: report.starts,
        state,
        last_exit: report.last_exit.as_ref().map(run),
        files: Digest(report.files.as_slice().try_into().ok()?),
    };
    Some((ProcessName::new(report.name.as_str()).ok()?, observed))
}

fn run(exit: &Exit) -> Run {
    let small = u8::try_from(exit.value).ok();
    let status = match (exit.kind(), small) {
        (ExitKind::Code, Some(code)) => ExitStatus::Code(code),
        (ExitKind::Signal, Some(signal)) => ExitStatus::Signal(signal),
        (ExitKind::NotStarted, _) => ExitStatus::NotStarted(exit.value),
        (ExitKind::Unseen | ExitKind::Code | ExitKind::Signal, _) => ExitStatus::Unseen,
    };
    Run {
        started_ms: exit.started_ms,
        ended_ms: exit.ended_ms,
        status,
        asked: exit.asked,
        oom_kills: exit.oom_kills,
        oom_killed: exit.oom_killed,
    }
}

/// Returns the files that were placed, by digest.
pub(super) fn observe_files(peek: &Peek, leaf: &str) -> Fact<BTreeMap<String, Digest>> {
    let what = || format!("read the files of {leaf}");
    let Some(report) = &peek.report else {
        if peek.shim.is_absent() && peek.init.is_absent() {
            return Fact::Absent;
        }
        let why = "its shim cannot be asked".to_owned();
        return Fact::Unknown(Gap { what: what(), why });
    };
    let files = report.files.iter().map(|file| {
        let digest = file.digest.as_slice().try_into().ok()?;
        Some((file.path.clone(), Digest(digest)))
    });
    match files.collect() {
        Some(files) => Fact::Known(files),
        None => {
            let why = "a digest has another length".to_owned();
            Fact::Unknown(Gap { what: what(), why })
        }
    }
}
