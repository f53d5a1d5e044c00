//! The init's table of processes.

use std::os::fd::OwnedFd;

use shim_proto::init::{Entry, FromInit, Pipe, Word};
use shim_proto::message::{Exit, ExitKind};
use shim_proto::record::Record;

use super::plan::Plan;
use crate::host;
use crate::link::DESCRIPTORS_MAX;

/// Most pipes kept for one process: of its present run, and of earlier ones that something
/// it left behind still writes to.
const PIPES_MAX: usize = 8;
const _: () = assert!(
    PIPES_MAX < DESCRIPTORS_MAX,
    "an entry carries a pidfd and all pipes"
);

/// One process.
#[derive(Debug)]
pub(crate) struct Slot {
    /// What is known of it, as it stands in the file.
    pub(crate) record: Record,
    /// How far a start has come.
    pub(crate) starting: Option<Starting>,
    /// Read ends of its output.
    pub(crate) pipes: Vec<Kept>,
    /// Write end of what the present run reads, if that stays open.
    pub(crate) input: Option<OwnedFd>,
    /// The shim was told of the present run's pidfd.
    pub(crate) told_pidfd: bool,
    /// The shim is to be told.
    pub(crate) is_dirty: bool,
    /// It was forgotten: once that is told the place is free.
    pub(crate) is_gone: bool,
}

/// A start under way.
#[derive(Debug)]
pub(crate) struct Starting {
    /// The order to be answered.
    pub(crate) order: u64,
    /// Says go; none once it was said.
    pub(crate) go: Option<OwnedFd>,
    /// Tells of trouble, and closes when the program runs.
    pub(crate) trouble: OwnedFd,
    /// For the words about trouble, and the limits to be raised.
    pub(crate) plan: Plan,
    /// What stood in the table before; none for a new process.
    pub(crate) before: Option<Record>,
}

/// A pipe's read end.
#[derive(Debug)]
pub(crate) struct Kept {
    pub(crate) pipe: Pipe,
    pub(crate) end: OwnedFd,
    pub(crate) is_told: bool,
}

impl Slot {
    /// Makes the place of a process that was never started.
    pub(crate) fn new(record: Record) -> Self {
        Self {
            record,
            starting: None,
            pipes: Vec::new(),
            input: None,
            told_pidfd: false,
            is_dirty: false,
            is_gone: false,
        }
    }

    /// Keeps the read end of a pipe; the oldest are let go when they are too many.
    pub(crate) fn keep(&mut self, stream: u32, end: OwnedFd) {
        let run = self.record.starts;
        self.pipes.push(Kept {
            pipe: Pipe { run, stream },
            end,
            is_told: false,
        });
        while self.pipes.len() > PIPES_MAX {
            self.pipes.remove(0);
        }
    }

    /// Notes how the present run ended.
    pub(crate) fn note_exit(&mut self, kind: ExitKind, value: i32) {
        let record = &mut self.record;
        record.last_exit = Some(Exit {
            started_ms: record.started_ms,
            ended_ms: host::boot_ms(),
            kind: kind as i32,
            value,
            asked: record.stopping_ms != 0,
            ..Exit::default()
        });
        record.pid = 0;
        record.stopping_ms = 0;
        record.kill_ms = 0;
        self.input = None;
        self.told_pidfd = false;
    }

    /// Forgets what a shim was told, for the next one.
    pub(crate) fn untell(&mut self) {
        self.told_pidfd = false;
        self.is_dirty = true;
        for kept in &mut self.pipes {
            kept.is_told = false;
        }
    }

    /// Returns what the shim is to be told, with descriptors it does not have yet.
    pub(crate) fn tell(&mut self, slot: u32) -> (FromInit, Vec<OwnedFd>) {
        self.is_dirty = false;
        let mut entry = Entry {
            slot,
            ..Entry::default()
        };
        let mut descriptors = Vec::new();
        if self.is_gone {
            return (entry_message(entry, &descriptors), descriptors);
        }
        entry.record = self.record.encode().to_vec();
        if let Some(starting) = &self.starting {
            entry.waits = starting.go.is_some();
            entry.raise.clone_from(&starting.plan.raise);
        }
        if !self.told_pidfd
            && let Some(pidfd) = open_pidfd(self.record.pid)
        {
            entry.pidfd = true;
            descriptors.push(pidfd);
            self.told_pidfd = true;
        }
        for kept in self.pipes.iter_mut().filter(|kept| !kept.is_told) {
            if let Ok(end) = kept.end.try_clone() {
                entry.pipes.push(kept.pipe);
                descriptors.push(end);
                kept.is_told = true;
            }
        }
        (entry_message(entry, &descriptors), descriptors)
    }
}

fn entry_message(entry: Entry, descriptors: &[OwnedFd]) -> FromInit {
    let descriptors = u32::try_from(descriptors.len()).unwrap_or(0);
    FromInit {
        descriptors,
        word: Some(Word::Entry(entry)),
    }
}

/// Returns a pidfd of a child that is not reaped yet, so that its pid is still its own.
pub(super) fn open_pidfd(pid: u32) -> Option<OwnedFd> {
    let pid = rustix::process::Pid::from_raw(i32::try_from(pid).ok()?)?;
    rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::NONBLOCK).ok()
}
