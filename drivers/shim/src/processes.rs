//! What the shim knows of the container's processes, and their output on its way to disk.

use std::os::fd::OwnedFd;

use rustix::pipe::{PipeFlags, pipe_with};
use shim_proto::exec::encode_status;
use shim_proto::init::{Drained, Pipe};
use shim_proto::message::{Exit, ExitKind, ProcessReport};
use shim_proto::record::Record;

use crate::exits::Exits;
use crate::fail::tolerate;
use crate::host::{self, ProcessId, is_deserted};
use crate::logs::{LogFile, Logs, Moved, Owner};

/// Most bytes moved for a process that ended before its end is told; what a pipe can hold
/// (`pipe(7)`) was written before.
const TAIL_BYTES_MAX: usize = 1 << 20;
/// Most who take part in one process.
const JOINED_MAX: usize = 64;

/// One process.
#[derive(Debug, Default)]
pub(crate) struct Process {
    /// As the init last told.
    pub(crate) record: Record,
    /// Who it is on the host, while it lives.
    pub(crate) host: Option<ProcessId>,
    /// Read ends of its output.
    pub(crate) pipes: Vec<Output>,
    /// Who takes part in which run: the end that tells of its end.
    joined: Vec<(u64, OwnedFd)>,
    file: LogFile,
    dropped: u64,
}

/// One pipe.
#[derive(Debug)]
pub(crate) struct Output {
    pub(crate) pipe: Pipe,
    pub(crate) end: OwnedFd,
}

/// All of them, by their place in the init's table.
#[derive(Debug, Default)]
pub(crate) struct Processes {
    all: Vec<Option<Process>>,
}

impl Processes {
    /// Takes over what the file says, for an init that is dead: what ran then has ended, and
    /// nobody saw how.
    pub(crate) fn from_records(records: Vec<Option<Record>>, exits: &Exits) -> Self {
        let make = |record| Process {
            record,
            ..Process::default()
        };
        let all = records.into_iter().map(|record| record.map(make)).collect();
        let mut processes = Self { all };
        processes.note_unseen(exits);
        processes
    }

    /// Returns the process in a place.
    pub(crate) fn get_mut(&mut self, slot: u32) -> Option<&mut Process> {
        self.all.get_mut(usize::try_from(slot).ok()?)?.as_mut()
    }

    /// Returns the process in a place, made if it is new there.
    pub(crate) fn get_or_make(&mut self, slot: u32) -> Option<&mut Process> {
        let index = usize::try_from(slot).ok()?;
        if index >= shim_proto::init::PROCESSES_MAX {
            return None;
        }
        if index >= self.all.len() {
            self.all.resize_with(index + 1, || None);
        }
        Some(
            self.all
                .get_mut(index)?
                .get_or_insert_with(Process::default),
        )
    }

    /// Empties a place.
    pub(crate) fn remove(&mut self, slot: u32) {
        if let Some(place) = usize::try_from(slot)
            .ok()
            .and_then(|index| self.all.get_mut(index))
        {
            *place = None;
        }
    }

    /// Returns the places that are taken, with what is in them.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (u32, &Process)> {
        (0..)
            .zip(&self.all)
            .filter_map(|(slot, process)| Some((slot, process.as_ref()?)))
    }

    /// Returns the place of a process by its name.
    pub(crate) fn find(&self, name: &str) -> Option<u32> {
        self.iter()
            .find(|(_, process)| process.record.name == name)
            .map(|(slot, _)| slot)
    }

    /// Returns the whole of it for the daemon, in the order of names.
    pub(crate) fn report(&self) -> Vec<ProcessReport> {
        let mut reports: Vec<ProcessReport> =
            self.iter().map(|(_, process)| process.report()).collect();
        reports.sort_by(|a, b| a.name.cmp(&b.name));
        reports
    }

    /// Moves one chunk of one pipe. Returns what to tell the init when it came to its end.
    pub(crate) fn pump(
        &mut self,
        slot: u32,
        pipe: Pipe,
        logs: &mut Logs,
        exits: &Exits,
    ) -> (Moved, Option<Drained>) {
        let Some(process) = self.get_mut(slot) else {
            return (Moved::Nothing, None);
        };
        let Some(place) = process.pipes.iter().position(|output| output.pipe == pipe) else {
            return (Moved::Nothing, None);
        };
        let Some(Output { end, .. }) = process.pipes.get(place) else {
            return (Moved::Nothing, None);
        };
        let owner = Owner {
            slot,
            name: &process.record.name,
            logs: process.record.logs,
            file: &mut process.file,
            dropped: &mut process.dropped,
        };
        let moved = logs.pump(end, pipe.stream, owner, exits);
        if moved != Moved::End {
            return (moved, None);
        }
        process.pipes.remove(place);
        if process.pipes.is_empty() && process.record.pid == 0 {
            process.file.close();
        }
        (
            moved,
            Some(Drained {
                slot,
                run: pipe.run,
                stream: pipe.stream,
            }),
        )
    }

    /// Moves what a process had written when it ended.
    pub(crate) fn pump_tail(&mut self, slot: u32, logs: &mut Logs, exits: &Exits) -> Vec<Drained> {
        let Some(process) = self.get_mut(slot) else {
            return Vec::new();
        };
        let pipes: Vec<Pipe> = process.pipes.iter().map(|output| output.pipe).collect();
        let mut drained = Vec::new();
        for pipe in pipes {
            let mut moved_bytes = 0;
            while moved_bytes < TAIL_BYTES_MAX {
                let (moved, end) = self.pump(slot, pipe, logs, exits);
                drained.extend(end);
                match moved {
                    Moved::Some(count) => moved_bytes += count,
                    Moved::Nothing | Moved::End | Moved::Stuck => break,
                }
            }
        }
        drained
    }

    /// Finishes with what is held, as its owner wants; an owner who is not there any more
    /// wants nothing.
    pub(crate) fn settle(&mut self, logs: &mut Logs, exits: &Exits) {
        let Some(slot) = logs.holds_of() else {
            logs.settled();
            return;
        };
        match self.get_mut(slot) {
            None if exits.is_free(slot) == Ok(true) => logs.disown(exits),
            // The init has yet to tell of it.
            None => {}
            Some(process) => {
                let owner = Owner {
                    slot,
                    name: &process.record.name,
                    logs: process.record.logs,
                    file: &mut process.file,
                    dropped: &mut process.dropped,
                };
                logs.settle(owner, exits);
            }
        }
    }

    /// Notes the end of everything that ran: the init is dead and took it along.
    pub(crate) fn note_unseen(&mut self, exits: &Exits) {
        for (index, process) in self.all.iter_mut().enumerate() {
            let Some(process) = process.as_mut().filter(|process| process.record.pid != 0) else {
                continue;
            };
            let record = &mut process.record;
            record.last_exit = Some(Exit {
                started_ms: record.started_ms,
                ended_ms: host::boot_ms(),
                kind: ExitKind::Unseen as i32,
                value: 0,
                asked: record.stopping_ms != 0,
                ..Exit::default()
            });
            (record.pid, record.stopping_ms, record.kill_ms) = (0, 0, 0);
            record.sequence += 1;
            process.host = None;
            process.joined.clear();
            // It stands in memory all the same, and would be found out anew.
            tolerate(exits.write_record(index, record));
        }
    }
}

impl Process {
    /// Returns what tells somebody how the present run ends; none if too many want to know.
    pub(crate) fn join(&mut self) -> Option<OwnedFd> {
        self.joined.retain(|(_, end)| !is_deserted(end));
        if self.joined.len() >= JOINED_MAX {
            return None;
        }
        let (told, end) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK).ok()?;
        self.joined.push((self.record.starts, end));
        Some(told)
    }

    /// Returns whether somebody waits to be told of a run that is over.
    pub(crate) fn has_joined_of_ended_run(&self) -> bool {
        let record = &self.record;
        let is_over = |run: u64| record.pid == 0 || record.starts != run;
        self.joined.iter().any(|(run, _)| is_over(*run))
    }

    /// Tells how runs that are over ended. Who cannot be told, because another run began and
    /// ended too, hears the end of the pipe.
    pub(crate) fn tell_joined(&mut self) {
        let (starts, runs) = (self.record.starts, self.record.pid != 0);
        let last = starts - u64::from(runs && starts > 0);
        for (run, end) in std::mem::take(&mut self.joined) {
            if runs && run == starts {
                self.joined.push((run, end));
            } else if run == last
                && let Some(exit) = self.record.last_exit
            {
                // Into an empty pipe. Who asked may be gone.
                let word = encode_status(exit.kind(), exit.value);
                tolerate(rustix::io::write(&end, &word));
            }
        }
    }

    fn report(&self) -> ProcessReport {
        let record = &self.record;
        let host = self.host.filter(|_| record.pid != 0);
        ProcessReport {
            name: record.name.clone(),
            digest: record.digest.clone(),
            files: record.files.clone(),
            restart_epoch: record.restart_epoch,
            starts: record.starts,
            pid: host.map_or(0, |id| id.pid),
            start: host.map_or(0, |id| id.start),
            started_ms: record.started_ms,
            stopping_ms: record.stopping_ms,
            last_exit: record.last_exit,
            dropped_bytes: self.dropped,
        }
    }
}
