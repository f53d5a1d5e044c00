//! How a process comes to be: made waiting, released or called off, and heard of.

use std::os::fd::{AsFd as _, OwnedFd};

use rustix::io::Errno;
use rustix::pipe::{PipeFlags, pipe_with};
use shim_proto::init::{PROCESSES_MAX, Run, is_process_name};
use shim_proto::launch::Process;
use shim_proto::message::{ExitKind, Failure};
use shim_proto::record::{DIGEST_BYTES, Record};

use super::Init;
use super::child::{Ends, Streams, TROUBLE_BYTES, Trouble};
use super::orders::Told;
use super::plan::Plan;
use super::table::{Slot, Starting};
use crate::kernel::{self, Clone, Cloned};
use crate::{fail, host};

impl Init {
    /// Makes a process that waits for `Go`.
    pub(super) fn spawn(&mut self, order: u64, process: &Process) -> Told {
        let what = format!("start {:?}", process.name);
        if !is_process_name(&process.name) {
            return Err(fail::terminal(what, "it is no name for a process"));
        }
        if process.digest.len() > DIGEST_BYTES || process.files.len() > DIGEST_BYTES {
            return Err(fail::unknown(what, "a digest of more than 16 bytes"));
        }
        let index = self.place_for(&process.name, &what)?;
        let before = self
            .slots
            .get(index)
            .and_then(Option::as_ref)
            .map(|slot| slot.record.clone());
        if before.as_ref().is_some_and(|record| record.pid != 0) {
            return Err(fail::stale(what, "it runs already"));
        }
        let plan = Plan::new(process)?;
        let refused = |errno| fail::kernel(&*what, errno);
        self.exits.reserve(index).map_err(refused)?;
        let born = self.make_child(&plan, process.input).map_err(refused)?;
        let mut slot = self.take_slot(index, process);
        slot.record.pid = born.waiting.pid;
        slot.keep(1, born.output);
        slot.keep(2, born.errors);
        slot.input = born.input;
        slot.starting = Some(Starting {
            order,
            go: Some(born.waiting.go),
            trouble: born.waiting.trouble,
            plan,
            before,
        });
        self.put_slot(index, slot);
        self.note(index);
        Ok(())
    }

    /// Returns the place of a process, or a free one.
    fn place_for(&mut self, name: &str, what: &str) -> Result<usize, Failure> {
        let held = |slot: &Option<Slot>| slot.as_ref().is_some_and(|slot| slot.record.name == name);
        let known = self.slots.iter().position(held);
        if let Some(index) = known.or_else(|| self.slots.iter().position(Option::is_none)) {
            return Ok(index);
        }
        if self.slots.len() >= PROCESSES_MAX {
            let cause = format!("the container has {PROCESSES_MAX} processes already");
            return Err(fail::terminal(what, cause));
        }
        self.slots.push(None);
        Ok(self.slots.len() - 1)
    }

    fn take_slot(&mut self, index: usize, process: &Process) -> Slot {
        let held = self.slots.get_mut(index).and_then(Option::take);
        // A free place may have been another process' before: its file units carry on from
        // there, or the older process would seem the newer.
        let last = self.exits.last_sequence(index);
        let mut slot = held.unwrap_or_else(|| {
            Slot::new(Record {
                sequence: last,
                ..Record::default()
            })
        });
        let record = &mut slot.record;
        record.name.clone_from(&process.name);
        record.digest.clone_from(&process.digest);
        record.files.clone_from(&process.files);
        record.restart_epoch = process.restart_epoch;
        record.starts += 1;
        record.started_ms = host::boot_ms();
        record.stopping_ms = 0;
        record.kill_ms = 0;
        record.logs = process.logs.unwrap_or_default();
        slot.told_pidfd = false;
        slot.is_gone = false;
        slot
    }

    fn put_slot(&mut self, index: usize, slot: Slot) {
        if let Some(place) = self.slots.get_mut(index) {
            *place = Some(slot);
        }
    }

    fn make_child(&self, plan: &Plan, has_input: bool) -> rustix::io::Result<Born> {
        let (output, output_end) = output_pipe(plan)?;
        let (errors, errors_end) = output_pipe(plan)?;
        let (input_end, input) = has_input.then(|| input_pipe(plan)).transpose()?.unzip();
        let waiting = self.fork(
            plan,
            Streams {
                input: input_end.as_ref().unwrap_or(&self.null).as_fd(),
                output: output_end.as_fd(),
                errors: errors_end.as_fd(),
                is_terminal: false,
            },
        )?;
        Ok(Born {
            waiting,
            output,
            errors,
            input,
        })
    }

    /// Makes a process that waits for a byte to become its program.
    pub(super) fn fork(&self, plan: &Plan, streams: Streams<'_>) -> rustix::io::Result<Waiting> {
        let (go_end, go) = pipe_with(PipeFlags::CLOEXEC)?;
        let (trouble, trouble_end) = pipe_with(PipeFlags::CLOEXEC)?;
        rustix::io::ioctl_fionbio(&trouble, true)?;
        match kernel::clone(Clone::default())? {
            Cloned::Parent(child) => {
                let pid = child.pid.as_raw_nonzero().get().unsigned_abs();
                Ok(Waiting {
                    pid,
                    pidfd: child.pidfd,
                    go,
                    trouble,
                })
            }
            Cloned::Child => {
                // Its own copy would keep the word from ever ending.
                drop(go);
                plan.run(
                    &self.profile,
                    &Ends {
                        streams,
                        go: &go_end,
                        trouble: &trouble_end,
                    },
                )
            }
        }
    }

    fn find_run(&mut self, run: Run) -> Option<(usize, &mut Slot)> {
        let index = usize::try_from(run.slot).ok()?;
        let slot = self.slots.get_mut(index)?.as_mut()?;
        (slot.record.starts == run.run).then_some((index, slot))
    }

    /// Lets a process that waits become its program.
    pub(super) fn release(&mut self, run: Run) -> Told {
        let stale = || fail::stale("let a process run", "it does not wait");
        let (_, slot) = self.find_run(run).ok_or_else(stale)?;
        let starting = slot.starting.as_mut().ok_or_else(stale)?;
        let go = starting.go.take().ok_or_else(stale)?;
        rustix::io::write(&go, &[1])
            .map(|_| ())
            .map_err(|errno| fail::kernel("let a process run", errno))
    }

    /// Ends a process that waits, and notes that it never came to run.
    pub(super) fn call_off(&mut self, run: Run, why: Failure) {
        let Some((index, slot)) = self.find_run(run) else {
            return;
        };
        let waits = slot
            .starting
            .as_ref()
            .is_some_and(|starting| starting.go.is_some());
        if waits && let Some(starting) = slot.starting.take() {
            slot.note_exit(ExitKind::NotStarted, why.errno);
            self.note(index);
            self.answer(starting.order, Err(why));
        }
    }

    /// Undoes a start that nobody released.
    pub(super) fn take_back(&mut self, index: usize) {
        let Some(place) = self.slots.get_mut(index) else {
            return;
        };
        let Some(slot) = place else { return };
        if slot
            .starting
            .as_ref()
            .is_none_or(|starting| starting.go.is_none())
        {
            return;
        }
        let before = slot.starting.take().and_then(|starting| starting.before);
        let sequence = slot.record.sequence;
        let run = slot.record.starts;
        slot.pipes.retain(|kept| kept.pipe.run != run);
        slot.input = None;
        slot.record = before.unwrap_or_default();
        slot.record.sequence = sequence;
        self.note(index);
        if let Some(place) = self.slots.get_mut(index)
            && place
                .as_ref()
                .is_some_and(|slot| slot.record.name.is_empty())
        {
            *place = None;
        }
    }

    /// Hears whether a released process became its program.
    pub(super) fn hear_trouble(&mut self, index: usize) {
        let Some(Some(slot)) = self.slots.get_mut(index) else {
            return;
        };
        let Some(starting) = slot
            .starting
            .as_ref()
            .filter(|starting| starting.go.is_none())
        else {
            return;
        };
        let Some(trouble) = read_trouble(&starting.trouble) else {
            return;
        };
        let Some(starting) = slot.starting.take() else {
            return;
        };
        let told = match trouble {
            None => Ok(()),
            Some(trouble) => {
                let failure = starting.plan.explain(&slot.record.name, trouble);
                slot.note_exit(ExitKind::NotStarted, trouble.errno());
                Err(failure)
            }
        };
        self.note(index);
        self.answer(starting.order, told);
    }
}

/// A process just made, seen from the init.
#[derive(Debug)]
struct Born {
    waiting: Waiting,
    output: OwnedFd,
    errors: OwnedFd,
    input: Option<OwnedFd>,
}

/// A process that waits to become its program.
#[derive(Debug)]
pub(super) struct Waiting {
    pub(super) pid: u32,
    pub(super) pidfd: OwnedFd,
    /// A byte says go; its end says do not.
    pub(super) go: OwnedFd,
    /// Tells of trouble, and closes when the program runs.
    pub(super) trouble: OwnedFd,
}

/// Returns what a released process said of trouble; none while that is open.
pub(super) fn read_trouble(pipe: &OwnedFd) -> Option<Option<Trouble>> {
    let mut bytes = [0; TROUBLE_BYTES];
    match rustix::io::read(pipe, &mut bytes) {
        Err(Errno::AGAIN | Errno::INTR) => None,
        Ok(TROUBLE_BYTES) => Some(Some(Trouble::decode(&bytes))),
        // Closed: by the exec, or by an end that is reaped as any other.
        Ok(_) | Err(_) => Some(None),
    }
}

/// Makes a pipe whose write end belongs to the process' user, so that it can open its own
/// `/dev/stdout`.
pub(super) fn output_pipe(plan: &Plan) -> rustix::io::Result<(OwnedFd, OwnedFd)> {
    let (reader, writer) = pipe_with(PipeFlags::CLOEXEC)?;
    rustix::io::ioctl_fionbio(&reader, true)?;
    give(&writer, plan)?;
    Ok((reader, writer))
}

/// Makes a pipe that a process reads: its end, then ours.
pub(super) fn input_pipe(plan: &Plan) -> rustix::io::Result<(OwnedFd, OwnedFd)> {
    let (reader, writer) = pipe_with(PipeFlags::CLOEXEC)?;
    give(&writer, plan)?;
    Ok((reader, writer))
}

/// Gives a pipe or a terminal to the user of a process.
pub(super) fn give(end: &OwnedFd, plan: &Plan) -> rustix::io::Result<()> {
    use rustix::fs::{Gid, Uid};
    let (uid, gid) = (Uid::from_raw(plan.user.uid), Gid::from_raw(plan.user.gid));
    match rustix::fs::fchown(end, Some(uid), Some(gid)) {
        // An id out of range is told in words when the process takes it on.
        Ok(()) | Err(Errno::INVAL) => Ok(()),
        Err(errno) => Err(errno),
    }
}
