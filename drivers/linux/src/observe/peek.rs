//! The few facts that all others and every precondition rest on.

use std::io;
use std::path::Path;

use driver_api::{Deadline, Fact, Gap, Mark, ProcessId};
use shim_proto::message::Report;

use crate::bundle::Record;
use crate::cgroup::Group;
use crate::clients::Told;
use crate::clock::boot_ms;
use crate::error::gap;
use crate::host::LinuxHost;
use crate::{bundle, process};

/// Longest wait for one shim while observing: a hung one must not use up the others' time.
const SHIM_MS_MAX: u64 = 1000;

/// What is known of a life before its parts are looked at one by one.
#[derive(Debug)]
pub(crate) struct Peek {
    /// Its runtime directory.
    pub(crate) record: Record,
    /// It is of this boot; true while that is not known.
    pub(crate) this_boot: bool,
    /// Its cgroup.
    pub(crate) group: Group,
    /// Its supervisor.
    pub(crate) shim: Fact<ProcessId>,
    /// Its init.
    pub(crate) init: Fact<ProcessId>,
    /// What the supervisor told.
    pub(crate) report: Option<Box<Report>>,
}

/// Looks at what other facts and every precondition rest on.
pub(crate) fn peek(host: &LinuxHost, mark: &Mark, found: &[ProcessId], deadline: Deadline) -> Peek {
    let leaf = mark.leaf();
    let directory = host.places.bundle(mark);
    let record = match host.places.runtime.check() {
        Ok(()) => bundle::read(&directory, &leaf),
        Err(err) => Record::Unknown(gap(
            format!("look at the runtime directory of {leaf}"),
            &err,
        )),
    };
    let this_boot = record
        .launch()
        .is_none_or(|launch| launch.boot_id == host.boot_id);
    let recorded = match record.launch() {
        Some(launch) if this_boot => launch.cgroups.as_slice(),
        _ => &[],
    };
    let group = Group::of(&host.layout, mark, recorded);
    let shim = observe_shim(&record, this_boot, &directory, mark, found);
    let by = Deadline {
        at_ms: deadline.at_ms.min(boot_ms() + SHIM_MS_MAX),
    };
    let mut report = None;
    let mut silence = None;
    if let Fact::Known(id) = &shim {
        match host.clients.report(mark, &directory, by, &host.wakes) {
            Told::Report(told) if told.shim_pid == id.pid => report = Some(told),
            Told::Report(_) => silence = Some("another process answers in its place".to_owned()),
            Told::Absent => silence = Some("it does not listen".to_owned()),
            Told::Unknown(gap) => silence = Some(gap.why),
        }
    }
    let init = match &report {
        Some(told) => told_init(told, &leaf),
        None => recorded_init(&record, this_boot, &directory, &leaf, &shim, silence),
    };
    Peek {
        record,
        this_boot,
        group,
        shim,
        init,
        report,
    }
}

/// The supervisor: the one that `shim.id` names, while it lives; else one found by its
/// command line; else, while somebody holds the lock, one that is not known.
fn observe_shim(
    record: &Record,
    this_boot: bool,
    directory: &Path,
    mark: &Mark,
    found: &[ProcessId],
) -> Fact<ProcessId> {
    let what = || format!("look for the shim of {}", mark.leaf());
    let otherwise = || match found.first() {
        Some(id) => Fact::Known(*id),
        None => Fact::Absent,
    };
    if matches!(record, Record::Absent) || !this_boot {
        return otherwise();
    }
    let id = match process::read_id(&directory.join("shim.id")) {
        Ok(id) => id,
        Err(err) => return Fact::Unknown(gap(what(), &err)),
    };
    if let Some(id) = id {
        match process::is_alive(id) {
            Ok(true) => return Fact::Known(id),
            Ok(false) => {}
            Err(err) => return Fact::Unknown(gap(what(), &err)),
        }
    }
    if !found.is_empty() {
        return otherwise();
    }
    match is_locked(&directory.join("shim.lock")) {
        Ok(false) => Fact::Absent,
        Ok(true) => {
            let why = "somebody holds its lock; it is starting".to_owned();
            Fact::Unknown(Gap { what: what(), why })
        }
        Err(err) => Fact::Unknown(gap(what(), &err)),
    }
}

/// Returns whether somebody holds the lock. Asked only when no living shim is known, since
/// asking means to hold a shared lock for an instant.
pub(crate) fn is_locked(path: &Path) -> io::Result<bool> {
    use rustix::fs::FlockOperation;
    let file = match std::fs::File::open(path) {
        Ok(file) => file,
        Err(err) if err.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(err) => return Err(err),
    };
    match rustix::fs::flock(&file, FlockOperation::NonBlockingLockShared) {
        Ok(()) => Ok(false),
        Err(rustix::io::Errno::WOULDBLOCK) => Ok(true),
        Err(err) => Err(err.into()),
    }
}

fn told_init(told: &Report, leaf: &str) -> Fact<ProcessId> {
    let Some(init) = told.init else {
        return Fact::Absent;
    };
    let id = ProcessId {
        pid: init.pid,
        start: init.start,
    };
    alive(id, leaf)
}

fn alive(id: ProcessId, leaf: &str) -> Fact<ProcessId> {
    match process::is_alive(id) {
        Ok(true) => Fact::Known(id),
        Ok(false) => Fact::Absent,
        Err(err) => Fact::Unknown(gap(format!("look for the init of {leaf}"), &err)),
    }
}

fn recorded_init(
    record: &Record,
    this_boot: bool,
    directory: &Path,
    leaf: &str,
    shim: &Fact<ProcessId>,
    silence: Option<String>,
) -> Fact<ProcessId> {
    if matches!(record, Record::Absent) || !this_boot {
        return Fact::Absent;
    }
    let what = || format!("look for the init of {leaf}");
    match process::read_id(&directory.join("init.id")) {
        Err(err) => Fact::Unknown(gap(what(), &err)),
        Ok(Some(id)) => alive(id, leaf),
        // It may be in the making, and only the shim would know.
        Ok(None) => match (shim, silence) {
            (Fact::Absent, _) => Fact::Absent,
            (Fact::Unknown(gap), _) => Fact::Unknown(gap.clone()),
            (Fact::Known(_), why) => Fact::Unknown(Gap {
                what: what(),
                why: why.unwrap_or_default(),
            }),
        },
    }
}
