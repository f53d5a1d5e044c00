//! Starts, ends and signals of single processes.

use driver_api::{ExitStatus, Outcome, StepError, files_mark};
use specs::desired::Desired;
use specs::id::{Digest, ProcessName};
use specs::units::Millis;

use super::{Id, failure, retry};
use crate::world::{SimProcess, SimRun, World};

impl World {
    pub(super) fn start_process(
        &mut self,
        id: Id<'_>,
        name: &ProcessName,
        desired: &Desired,
    ) -> Result<Outcome, StepError> {
        self.standing(id)?;
        let Some(wanted) = desired.processes.get(name) else {
            return Err(retry(
                "start a process",
                "it is not in its own specification",
            ));
        };
        let before = self.life(id.0, id.1).processes.get(name).cloned();
        if before
            .as_ref()
            .is_some_and(|process| process.running.is_some())
        {
            self.stale += 1;
            return Err(StepError::Stale("it runs".into()));
        }
        let pid = self.pid("fork a process")?;
        let ends = self.fate(wanted);
        let now = self.clock_ms;
        let starts = before.as_ref().map_or(0, |process| process.starts) + 1;
        let mut process = SimProcess {
            digest: wanted.digest(),
            restart_epoch: desired.restart_epoch,
            starts,
            files: files_mark(desired),
            running: Some(SimRun {
                id: pid,
                started_ms: now,
                stopping_ms: None,
                ends,
            }),
            last_exit: before.and_then(|process| process.last_exit),
        };
        let missing = match ends {
            Some((_, status @ ExitStatus::NotStarted(_))) => {
                process.end(status, now, None);
                true
            }
            _ => false,
        };
        self.life(id.0, id.1)
            .processes
            .insert(name.clone(), process);
        if missing {
            let failure = failure("exec missing", "no such file or directory");
            return Err(StepError::Terminal(failure));
        }
        Ok(Outcome::Done)
    }

    pub(super) fn stop_process(
        &mut self,
        id: Id<'_>,
        name: &ProcessName,
        grace: Millis,
    ) -> Result<Outcome, StepError> {
        self.standing(id)?;
        let now = self.clock_ms;
        let after = self.rng.below(grace.0.saturating_add(1));
        let code = ExitStatus::Code(u8::from(self.rng.below(2) == 0));
        let process = self.life(id.0, id.1).processes.get_mut(name);
        let Some(run) = process.and_then(|process| process.running.as_mut()) else {
            return Ok(Outcome::AlreadyDone);
        };
        if run.stopping_ms.is_some() {
            return Ok(Outcome::AlreadyDone);
        }
        run.stopping_ms = Some(now);
        let status = if after == grace.0 {
            ExitStatus::Signal(9)
        } else {
            code
        };
        run.ends = Some((now + after, status));
        Ok(Outcome::Started)
    }

    pub(super) fn signal_process(
        &mut self,
        id: Id<'_>,
        name: &ProcessName,
        files: Digest,
    ) -> Result<Outcome, StepError> {
        self.standing(id)?;
        match self.life(id.0, id.1).processes.get_mut(name) {
            Some(process) if process.running.is_some() => {
                process.files = files;
                Ok(Outcome::Done)
            }
            _ => Err(StepError::Stale("it does not run".into())),
        }
    }

    pub(super) fn forget_process(
        &mut self,
        id: Id<'_>,
        name: &ProcessName,
    ) -> Result<Outcome, StepError> {
        self.standing(id)?;
        let life = self.life(id.0, id.1);
        match life.processes.get(name) {
            None => Ok(Outcome::AlreadyDone),
            Some(process) if process.running.is_some() => Err(StepError::Stale("it runs".into())),
            Some(_) => {
                life.processes.remove(name);
                Ok(Outcome::Done)
            }
        }
    }
}
