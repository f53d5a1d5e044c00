//! Commands that somebody runs beside the container's processes: nothing of them is kept,
//! and who asked for one holds its outer ends.

use std::os::fd::{AsFd as _, OwnedFd};

use rustix::event::{PollFd, PollFlags};
use rustix::fs::{Mode, OFlags};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{Pid, WaitStatus};
use rustix::pty::OpenptFlags;
use rustix::termios::Winsize;
use shim_proto::exec::{
    CopyTree, EXECS_MAX, Exec as Wanted, ExecGo, ExecWaits, Window, encode_status,
};
use shim_proto::init::{FromInit, Word};
use shim_proto::message::{ExitKind, Failure};

use super::Init;
use super::child::Streams;
use super::orders::{KILL, Told};
use super::plan::Plan;
use super::starts::{Waiting, give, input_pipe, output_pipe, read_trouble};
use crate::fail::tolerate;
use crate::{fail, host, kernel};

/// How long a command may take to end once nobody is left who asked for it.
const HANG_UP_MS: u64 = 10_000;

/// One command.
#[derive(Debug)]
pub(super) struct Exec {
    pid: u32,
    starting: Option<Starting>,
    /// Takes how it ended; without a reader nobody asks for it any more.
    status: OwnedFd,
    is_hung_up: bool,
    /// When it is killed; 0: not.
    kill_ms: u64,
}

/// A start under way.
#[derive(Debug)]
struct Starting {
    /// The order to be answered; 0 once nobody waits for it.
    order: u64,
    /// Says go; none once it was said.
    go: Option<OwnedFd>,
    trouble: OwnedFd,
    plan: Plan,
}

/// The ends of what a command reads and writes.
struct Ends {
    /// Outer ends, in the order in which they are handed out.
    outer: Vec<OwnedFd>,
    /// Input, output and errors of the command; one for all with a terminal.
    inner: Vec<OwnedFd>,
}

impl Init {
    /// Makes a command that waits for `ExecGo`, and hands its outer ends out.
    pub(super) fn exec(&mut self, order: u64, wanted: &Wanted) -> Told {
        let process = wanted.process.clone().unwrap_or_default();
        let what = format!("start {:?}", process.name);
        self.check_room(&what)?;
        let plan = Plan::new(&process)?;
        let ends = match &wanted.terminal {
            Some(window) => self.terminal(window, &plan, &what)?,
            None => pipes(&plan, wanted.input).map_err(|errno| fail::kernel(&*what, errno))?,
        };
        self.make_exec(order, plan, ends, &what)
    }

    /// Makes somebody who copies files, as a command that has three pipes.
    pub(super) fn copy(&mut self, order: u64, wanted: &CopyTree) -> Told {
        let what = "copy files";
        self.check_room(what)?;
        let plan = Plan::copy(wanted)?;
        let ends = pipes(&plan, true).map_err(|errno| fail::kernel(what, errno))?;
        self.make_exec(order, plan, ends, what)
    }

    fn check_room(&self, what: &str) -> Told {
        if self.execs.len() < EXECS_MAX {
            return Ok(());
        }
        let cause = format!("{EXECS_MAX} commands run in the container already");
        Err(fail::retry(what, cause))
    }

    fn make_exec(&mut self, order: u64, plan: Plan, ends: Ends, what: &str) -> Told {
        let refused = |errno| fail::kernel(what, errno);
        let (status_end, status) = pipe_with(PipeFlags::CLOEXEC).map_err(refused)?;
        let Waiting {
            pid,
            pidfd,
            go,
            trouble,
        } = self.fork(&plan, self.streams(&ends)).map_err(refused)?;
        let raise = plan.raise.clone();
        self.execs.push(Exec {
            pid,
            starting: Some(Starting {
                order,
                go: Some(go),
                trouble,
                plan,
            }),
            status,
            is_hung_up: false,
            kill_ms: 0,
        });
        let mut descriptors = vec![pidfd, status_end];
        descriptors.extend(ends.outer);
        let message = FromInit {
            descriptors: u32::try_from(descriptors.len()).unwrap_or(0),
            word: Some(Word::ExecWaits(ExecWaits {
                order,
                raise,
                run: None,
            })),
        };
        if let Some(link) = &mut self.link
            && link.push(&message, descriptors).is_err()
        {
            self.lose_shim();
        }
        Ok(())
    }

    fn streams<'a>(&'a self, ends: &'a Ends) -> Streams<'a> {
        let (input, output, errors) = match ends.inner.as_slice() {
            [terminal] => (terminal, terminal, terminal),
            [output, errors] => (&self.null, output, errors),
            [output, errors, input, ..] => (input, output, errors),
            [] => (&self.null, &self.null, &self.null),
        };
        Streams {
            input: input.as_fd(),
            output: output.as_fd(),
            errors: errors.as_fd(),
            is_terminal: ends.inner.len() == 1,
        }
    }

    /// Makes a terminal of the container's own. The inner end is asked of the outer one: a
    /// path below `/dev` is the container's to change.
    fn terminal(&self, window: &Window, plan: &Plan, what: &str) -> Result<Ends, Failure> {
        let none = || {
            fail::terminal(
                what,
                "this container has no terminals: no devpts of its own",
            )
        };
        let pts = self.pts.as_ref().ok_or_else(none)?;
        let make = || {
            let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
            let outer = rustix::fs::openat(pts, "ptmx", flags, Mode::empty())?;
            rustix::pty::unlockpt(&outer)?;
            let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
            let inner = rustix::pty::ioctl_tiocgptpeer(&outer, flags)?;
            give(&inner, plan)?;
            rustix::termios::tcsetwinsize(&outer, size(window))?;
            Ok((outer, inner))
        };
        let (outer, inner) =
            make().map_err(|errno| fail::kernel(format!("{what}: make its terminal"), errno))?;
        Ok(Ends {
            outer: vec![outer],
            inner: vec![inner],
        })
    }

    /// Lets a command that waits become its program, or calls it off.
    pub(super) fn exec_go(&mut self, word: ExecGo) {
        let waits = |exec: &&mut Exec| {
            let starting = exec.starting.as_ref();
            starting.is_some_and(|start| start.order == word.order && start.go.is_some())
        };
        let Some(exec) = self.execs.iter_mut().find(waits) else {
            return;
        };
        let Some(starting) = &mut exec.starting else {
            return;
        };
        let go = starting.go.take();
        let refusal = word.refusal.or_else(|| {
            let said = go.map(|go| rustix::io::write(&go, &[1]));
            let errno = said.and_then(Result::err)?;
            Some(fail::kernel("let a command run", errno))
        });
        if let Some(refusal) = refusal {
            // Without the word it ends by itself and is reaped.
            exec.starting = None;
            self.answer(word.order, Err(refusal));
        }
    }

    /// Watches starts under way, and whether anybody is left who asked.
    pub(super) fn watch_execs<'a>(&'a self, watched: &mut Vec<PollFd<'a>>) -> Vec<u32> {
        let mut pids = Vec::new();
        for exec in &self.execs {
            if let Some(starting) = exec.starting.as_ref().filter(|start| start.go.is_none()) {
                watched.push(PollFd::new(&starting.trouble, PollFlags::IN));
                pids.push(exec.pid);
            }
            if !exec.is_hung_up {
                // Nothing is asked for: that no reader is left is told all the same.
                watched.push(PollFd::new(&exec.status, PollFlags::empty()));
                pids.push(exec.pid);
            }
        }
        pids
    }

    /// Looks after a command that something was told of.
    pub(super) fn tend_exec(&mut self, pid: u32) {
        self.hear_exec(pid);
        let Some(exec) = self.execs.iter_mut().find(|exec| exec.pid == pid) else {
            return;
        };
        if exec.is_hung_up || !host::is_deserted(&exec.status) {
            return;
        }
        exec.is_hung_up = true;
        exec.kill_ms = host::boot_ms().saturating_add(HANG_UP_MS);
        if let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) {
            // As the end of a terminal does: the session's leader and its group.
            tolerate(kernel::kill(
                pid.as_raw_nonzero().get(),
                libc::SIGHUP as u32,
            ));
            let hang_up = rustix::process::Signal::HUP;
            tolerate(rustix::process::kill_process_group(pid, hang_up));
        }
    }

    /// Hears whether a released command became its program.
    fn hear_exec(&mut self, pid: u32) {
        let Some(exec) = self.execs.iter_mut().find(|exec| exec.pid == pid) else {
            return;
        };
        let released = exec.starting.as_ref().filter(|start| start.go.is_none());
        let Some(trouble) = released.and_then(|start| read_trouble(&start.trouble)) else {
            return;
        };
        let Some(Starting { order, plan, .. }) = exec.starting.take() else {
            return;
        };
        let told = trouble.map_or(Ok(()), |trouble| Err(plan.explain("exec", trouble)));
        self.answer(order, told);
    }

    /// Returns when the next command is to be killed.
    pub(super) fn next_exec_kill_ms(&self) -> Option<u64> {
        let all = self.execs.iter().map(|exec| exec.kill_ms);
        all.filter(|at| *at != 0).min()
    }

    /// Kills commands that had their time to end, with their process groups and sessions.
    pub(super) fn kill_overdue_execs(&mut self) {
        let now = host::boot_ms();
        let mut overdue = Vec::new();
        for exec in &mut self.execs {
            if exec.kill_ms != 0 && exec.kill_ms <= now {
                // Not again and again: `KILL` is not refused, at most it waits for a disk.
                exec.kill_ms = 0;
                overdue.push(exec.pid);
            }
        }
        for pid in overdue {
            if let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) {
                tolerate(kernel::kill(pid.as_raw_nonzero().get(), KILL));
                self.kill_session(pid);
            }
        }
    }

    /// Returns whether a child that has ended is a command that nobody asks for any more.
    pub(super) fn is_deserted_exec(&self, pid: u32) -> bool {
        let mut execs = self.execs.iter();
        execs.any(|exec| exec.pid == pid && exec.is_hung_up)
    }

    /// Tells who asked how a command ended.
    pub(super) fn note_exec_end(&mut self, pid: u32, status: WaitStatus) {
        self.hear_exec(pid);
        let Some(place) = self.execs.iter().position(|exec| exec.pid == pid) else {
            return;
        };
        let exec = self.execs.swap_remove(place);
        if let Some(starting) = exec.starting {
            let lost = fail::retry("start a command", "it was killed before it ran");
            self.answer(starting.order, Err(lost));
            return;
        }
        let word = match status.terminating_signal() {
            Some(signal) => encode_status(ExitKind::Signal, signal),
            None => encode_status(ExitKind::Code, status.exit_status().unwrap_or(-1)),
        };
        // Into an empty pipe. Who asked may be gone.
        tolerate(rustix::io::write(&exec.status, &word));
    }

    /// Calls off what a lost shim had not released; nobody waits for the rest to be answered.
    pub(super) fn lose_exec_orders(&mut self) {
        for exec in &mut self.execs {
            match &mut exec.starting {
                Some(starting) if starting.go.is_none() => starting.order = 0,
                _ => exec.starting = None,
            }
        }
    }
}

fn pipes(plan: &Plan, has_input: bool) -> rustix::io::Result<Ends> {
    let (output, output_end) = output_pipe(plan)?;
    let (errors, errors_end) = output_pipe(plan)?;
    let mut outer = vec![output, errors];
    let mut inner = vec![output_end, errors_end];
    if has_input {
        let (input_end, input) = input_pipe(plan)?;
        outer.insert(0, input);
        inner.push(input_end);
    }
    Ok(Ends { outer, inner })
}

fn size(window: &Window) -> Winsize {
    let fit = |count: u32| u16::try_from(count).unwrap_or(u16::MAX);
    Winsize {
        ws_row: fit(window.rows),
        ws_col: fit(window.columns),
        ws_xpixel: 0,
        ws_ypixel: 0,
    }
}
