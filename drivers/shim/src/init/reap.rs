//! Ends: processes that ended by themselves, and those that must.

use std::os::fd::{AsFd as _, OwnedFd};

use rustix::fs::{Dir, Mode, OFlags};
use rustix::process::{
    Pid, PidfdFlags, Signal, WaitOptions, WaitStatus, kill_process_group, pidfd_open,
    pidfd_send_signal, waitpid,
};
use shim_proto::message::ExitKind;

use super::Init;
use super::orders::KILL;
use crate::fail::tolerate;
use crate::host::{self, STAT_GROUP, STAT_SESSION};
use crate::{fail, kernel};

/// How often a session is looked through for processes that came while it was killed.
const SWEEPS_MAX: usize = 8;
/// Most bytes of a `stat` text that are looked at.
const STAT_BYTES: usize = 1024;

impl Init {
    /// Takes every child that has ended, ours and orphans.
    pub(super) fn reap(&mut self) {
        // One read takes all that is pending; which children ended is asked below.
        let mut pending = [0; 128];
        tolerate(rustix::io::read(&self.child_ends, &mut pending));
        while let Some(pid) = kernel::ended_child() {
            let raw = pid.as_raw_nonzero().get().unsigned_abs();
            let owner = self
                .slots
                .iter()
                .position(|slot| slot.as_ref().is_some_and(|slot| slot.record.pid == raw));
            // As long as it is not reaped its number names its session and nothing else.
            let is_stopping = owner.is_some_and(|index| self.is_stopping(index));
            if is_stopping || self.is_deserted_exec(raw) {
                self.kill_session(pid);
            }
            match waitpid(Some(pid), WaitOptions::NOHANG) {
                Ok(Some((_, status))) => match owner {
                    Some(index) => self.note_end(index, status),
                    None => {
                        self.note_end_of_another(raw, status);
                        self.note_exec_end(raw, status);
                    }
                },
                Ok(None) | Err(_) => return,
            }
        }
    }

    /// Returns when the next process is to be killed.
    pub(super) fn next_kill_ms(&self) -> Option<u64> {
        let all = self.slots.iter().flatten().map(|slot| slot.record.kill_ms);
        all.filter(|at| *at != 0 && *at != u64::MAX).min()
    }

    /// Kills what had its time to end, with its process group and session.
    pub(super) fn kill_overdue(&mut self) {
        let now = host::boot_ms();
        for index in 0..self.slots.len() {
            let Some(Some(slot)) = self.slots.get_mut(index) else {
                continue;
            };
            let due = slot.record.kill_ms != 0 && slot.record.kill_ms <= now;
            let pid = i32::try_from(slot.record.pid).ok().and_then(Pid::from_raw);
            if let Some(pid) = pid.filter(|_| due) {
                // Not again and again: `KILL` is not refused, at most it waits for a disk.
                slot.record.kill_ms = u64::MAX;
                tolerate(kernel::kill(pid.as_raw_nonzero().get(), KILL));
                self.kill_session(pid);
                self.note(index);
            }
        }
    }

    fn is_stopping(&self, index: usize) -> bool {
        self.slots.get(index).is_some_and(|slot| {
            slot.as_ref()
                .is_some_and(|slot| slot.record.stopping_ms != 0)
        })
    }

    /// An orphan or a command killed for memory accounts for a kill, which is then nobody
    /// else's.
    fn note_end_of_another(&mut self, pid: u32, status: WaitStatus) {
        let is_killed = status.terminating_signal().map(i32::unsigned_abs) == Some(KILL);
        if is_killed && !self.is_deserted_exec(pid) {
            self.kills.look(host::boot_ms());
            self.kills.claim();
        }
    }

    fn note_end(&mut self, index: usize, status: WaitStatus) {
        // Whether it ever became its program is decided before its end is noted.
        self.hear_trouble(index);
        let Some(Some(slot)) = self.slots.get_mut(index) else {
            return;
        };
        let never_released = slot.starting.take();
        if slot.record.pid == 0 {
            return;
        }
        let told = never_released.map(|starting| {
            let what = format!("start {:?}", slot.record.name);
            (
                starting.order,
                fail::retry(what, "it was killed before it ran"),
            )
        });
        let was_killed_by_us = slot.record.kill_ms == u64::MAX;
        let (kind, value) = match status.terminating_signal() {
            _ if told.is_some() => (ExitKind::NotStarted, 0),
            Some(signal) => (ExitKind::Signal, signal),
            None => (ExitKind::Code, status.exit_status().unwrap_or(-1)),
        };
        self.kills.look(host::boot_ms());
        let is_kill = status.terminating_signal().map(i32::unsigned_abs) == Some(KILL);
        let is_for_memory = is_kill && !was_killed_by_us && self.kills.claim();
        slot.note_exit(kind, value);
        if let Some(exit) = &mut slot.record.last_exit {
            exit.oom_kills = self.kills.count();
            exit.oom_killed = is_for_memory;
        }
        self.note(index);
        if let Some((order, failure)) = told {
            self.answer(order, Err(failure));
        }
    }

    /// Kills the process group and every member of the session of a process that is not
    /// reaped yet.
    pub(super) fn kill_session(&self, leader: Pid) {
        tolerate(kill_process_group(leader, Signal::KILL));
        let Some(proc) = &self.proc else { return };
        for _ in 0..SWEEPS_MAX {
            if !kill_members(proc, leader) {
                return;
            }
        }
    }
}

/// Kills what belongs to the session or group of a process; false if nothing did.
fn kill_members(proc: &OwnedFd, leader: Pid) -> bool {
    let Ok(directory) = Dir::read_from(proc) else {
        return false;
    };
    let mut found = false;
    for entry in directory.flatten() {
        let pid = entry
            .file_name()
            .to_str()
            .ok()
            .and_then(|name| name.parse::<i32>().ok());
        let Some(pid) = pid.and_then(Pid::from_raw).filter(|pid| *pid != leader) else {
            continue;
        };
        if pid == Pid::INIT || !is_member(proc, pid, leader) {
            continue;
        }
        // Asked again after the pidfd was opened: then it is the same process.
        if let Ok(pidfd) = pidfd_open(pid, PidfdFlags::empty())
            && is_member(proc, pid, leader)
            && pidfd_send_signal(pidfd.as_fd(), Signal::KILL).is_ok()
        {
            found = true;
        }
    }
    found
}

fn is_member(proc: &OwnedFd, pid: Pid, leader: Pid) -> bool {
    let path = format!("{}/stat", pid.as_raw_nonzero());
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    let Ok(file) = rustix::fs::openat(proc, path, flags, Mode::empty()) else {
        return false;
    };
    let mut bytes = [0; STAT_BYTES];
    let Ok(count) = rustix::io::read(&file, &mut bytes) else {
        return false;
    };
    let Some(text) = bytes.get(..count) else {
        return false;
    };
    // A name need not be UTF-8.
    let text = String::from_utf8_lossy(text);
    let is_zombie = text
        .rsplit_once(')')
        .is_some_and(|(_, rest)| rest.starts_with(" Z"));
    let leader = Some(u64::from(leader.as_raw_nonzero().get().unsigned_abs()));
    !is_zombie
        && [STAT_SESSION, STAT_GROUP]
            .iter()
            .any(|field| host::stat_field(&text, *field) == leader)
}
