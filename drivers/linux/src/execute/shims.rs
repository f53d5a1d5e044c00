//! Steps about supervisors.

use std::os::fd::AsFd as _;

use driver_api::{Deadline, Fact, Outcome, ProcessId, StepError};
use shim_proto::launch::Root;
use shim_proto::message::{Ask, End, Report};
use specs::desired::Desired;

use super::Act;
use crate::clients::{Told, refused};
use crate::clock::{boot_ms, left_ms, wait_until};
use crate::error::{During as _, retry, words};
use crate::shim_client::{self, StartMode};
use crate::{bundle, cgroup, launch, process};

/// Longest wait for a shim to go by itself.
const END_MS_MAX: u64 = 3000;

impl Act<'_> {
    pub(super) fn start_shim(&self, desired: &Desired) -> Result<Outcome, StepError> {
        let launch = self.launch()?;
        if !launch::is_of(launch, desired) {
            return Err(StepError::Stale(format!(
                "{} was made from something else",
                self.leaf
            )));
        }
        let directory = self.host.places.bundle(&self.mark);
        match &self.peek.shim {
            Fact::Known(id) => {
                self.await_init(Some(*id))?;
                return Ok(Outcome::AlreadyDone);
            }
            Fact::Unknown(gap) => return Err(retry(gap.what.clone(), gap.why.clone())),
            Fact::Absent => {}
        }
        if let Fact::Known(_) = self.peek.init {
            return Err(StepError::Stale(format!(
                "{} has an init to be adopted",
                self.leaf
            )));
        }
        // Files, limits and the daemon's release may have changed since it was written.
        let fresh = self.build(desired, launch.cgroups.clone(), launch.created_ms)?;
        let in_image = |root: &Root| !root.image.is_empty();
        if desired.disk.is_some() && !fresh.root.as_ref().is_some_and(in_image) {
            // Without it nothing would hold back what is written.
            return Err(retry(
                format!("start the shim of {}", self.leaf),
                "its image is missing",
            ));
        }
        if fresh != *launch {
            bundle::rewrite(&directory, &fresh)
                .during(|| format!("write the launch description of {}", self.leaf))?;
        }
        self.start(StartMode::Launch)?;
        self.await_init(None)
    }

    pub(super) fn adopt_init(&self) -> Result<Outcome, StepError> {
        self.launch()?;
        match &self.peek.shim {
            Fact::Known(_) => return Ok(Outcome::AlreadyDone),
            Fact::Unknown(gap) => return Err(retry(gap.what.clone(), gap.why.clone())),
            Fact::Absent => {}
        }
        self.init()?;
        self.start(StartMode::Adopt)?;
        self.await_init(None)
    }

    fn start(&self, mode: StartMode) -> Result<(), StepError> {
        let directory = self.host.places.bundle(&self.mark);
        self.host.clients.forget(&self.mark);
        self.host.with_parents(|| {
            cgroup::create::create_shims(&self.host.layout)?;
            let exe = self.host.shim.as_fd();
            shim_client::start(exe, &self.mark, &directory, mode, self.deadline.at_ms)
                .map_err(|err| retry(format!("start the shim of {}", self.leaf), words(&err)))
        })
    }

    fn ask_report(&self) -> Told {
        let directory = self.host.places.bundle(&self.mark);
        self.host
            .clients
            .report(&self.mark, &directory, self.deadline, &self.host.wakes)
    }

    /// Waits until the init is ready, making it failed, or the deadline is near. `starting` is
    /// a shim that may not listen yet; without one it did.
    fn await_init(&self, starting: Option<ProcessId>) -> Result<Outcome, StepError> {
        let ready = wait_until(self.deadline, || match self.ask_report() {
            Told::Report(report) => is_over(&report),
            Told::Absent => match starting.map(process::is_alive) {
                Some(Ok(true)) => Ok(false),
                _ => Err(retry(
                    format!("wait for the init of {}", self.leaf),
                    "its shim has ended",
                )),
            },
            Told::Unknown(gap) => Err(retry(gap.what, gap.why)),
        })?;
        Ok(if ready {
            Outcome::Done
        } else {
            Outcome::Started
        })
    }

    pub(super) fn end_shim(&self) -> Result<Outcome, StepError> {
        let id = match &self.peek.shim {
            Fact::Absent => return Ok(Outcome::AlreadyDone),
            Fact::Unknown(gap) => return Err(retry(gap.what.clone(), gap.why.clone())),
            Fact::Known(id) => *id,
        };
        let directory = self.host.places.bundle(&self.mark);
        let half = boot_ms() + (left_ms(self.deadline) / 2).min(END_MS_MAX);
        let soft = Deadline { at_ms: half };
        let clients = &self.host.clients;
        let asked = clients.order(
            &self.mark,
            &directory,
            Ask::End(End {}),
            soft,
            &self.host.wakes,
        );
        clients.forget(&self.mark);
        // One that hangs, or does not understand, is ended all the same.
        let gone = match asked {
            Ok(()) => self.is_gone_by(id, soft)?,
            Err(_) => false,
        };
        if gone {
            Ok(Outcome::Done)
        } else {
            self.kill(id)
        }
    }

    /// Kills a supervisor that hangs. It is not asked for anything: what it would understand
    /// when it wakes may be the end of its container.
    pub(super) fn kill_shim(&self) -> Result<Outcome, StepError> {
        let id = match &self.peek.shim {
            Fact::Absent => return Ok(Outcome::AlreadyDone),
            Fact::Unknown(gap) => return Err(retry(gap.what.clone(), gap.why.clone())),
            Fact::Known(id) => *id,
        };
        if self.peek.report.is_some() {
            return Err(StepError::Stale(format!(
                "the shim of {} answers again",
                self.leaf
            )));
        }
        self.host.clients.forget(&self.mark);
        self.kill(id)
    }

    fn kill(&self, id: ProcessId) -> Result<Outcome, StepError> {
        let what = || format!("end the shim of {}", self.leaf);
        process::kill(id).during(what)?;
        if self.is_gone_by(id, self.deadline)? {
            Ok(Outcome::Done)
        } else {
            Err(retry(what(), "it is still there after SIGKILL"))
        }
    }

    fn is_gone_by(&self, id: ProcessId, deadline: Deadline) -> Result<bool, StepError> {
        wait_until(deadline, || process::is_alive(id).map(|alive| !alive))
            .during(|| format!("wait for the shim of {}", self.leaf))
    }
}

/// Returns whether there is nothing more to wait for, or why the init will not be ready. A shim
/// tells nothing before it has made one, so one that is not told has ended already: the next
/// look sees that.
fn is_over(report: &Report) -> Result<bool, StepError> {
    if let Some(failure) = &report.launch_failure {
        return Err(refused(failure));
    }
    Ok(report.init.is_none_or(|init| init.ready))
}
