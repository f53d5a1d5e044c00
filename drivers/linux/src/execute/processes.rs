//! Steps about processes, files and mounts inside a container: all by its shim.

use driver_api::{Expect, Outcome, StepError};
use shim_proto::launch::{Cover, Mount, MountSource};
use shim_proto::message::{Ask, FRAME_BYTES_MAX, Forget, ProcessReport, Report, Signal, Stop};
use specs::desired::{Desired, File, UserNamespace};
use specs::id::{Digest, ProcessName};

use super::Act;
use crate::error::{retry, terminal};
use crate::launch;

impl Act<'_> {
    fn order(&self, ask: Ask) -> Result<(), StepError> {
        let directory = self.host.places.bundle(&self.mark);
        let clients = &self.host.clients;
        clients.order(&self.mark, &directory, ask, self.deadline, &self.host.wakes)
    }

    /// Returns what the shim just told.
    fn report(&self) -> Result<&Report, StepError> {
        self.peek.report.as_deref().ok_or_else(|| {
            let what = format!("ask the shim of {}", self.leaf);
            match (&self.peek.shim, self.peek.init.gap()) {
                (driver_api::Fact::Absent, _) => {
                    StepError::Stale(format!("{} has no shim", self.leaf))
                }
                (_, Some(gap)) => retry(what, gap.why.clone()),
                _ => retry(what, "it does not answer"),
            }
        })
    }

    fn process(&self, name: &ProcessName) -> Result<Option<&ProcessReport>, StepError> {
        Ok(self
            .report()?
            .processes
            .iter()
            .find(|process| process.name == name.as_str()))
    }

    /// Returns the count of starts that an order is meant for.
    fn starts(&self, seen: &ProcessReport) -> u64 {
        match self.expected.starts {
            Expect::Is(starts) => starts,
            Expect::Any | Expect::Absent => seen.starts,
        }
    }

    pub(super) fn write_files(&self, desired: &Desired) -> Result<Outcome, StepError> {
        let report = self.report()?;
        let mut did = false;
        for file in &desired.files {
            let digest = file.digest().0;
            let is_there = report
                .files
                .iter()
                .any(|there| there.path == file.path && there.digest == digest);
            if !is_there {
                check_size(file)?;
                self.order(Ask::WriteFile(launch::file(file)))?;
                did = true;
            }
        }
        Ok(if did {
            Outcome::Done
        } else {
            Outcome::AlreadyDone
        })
    }

    pub(super) fn start_process(
        &self,
        name: &ProcessName,
        desired: &Desired,
    ) -> Result<Outcome, StepError> {
        let wanted = launch::process(name, desired, self.host.open_files)?;
        if let Some(seen) = self.process(name)?
            && seen.pid != 0
        {
            let is_it = seen.digest == wanted.digest
                && seen.files == wanted.files
                && seen.restart_epoch == wanted.restart_epoch
                && seen.stopping_ms == 0;
            if is_it {
                return Ok(Outcome::AlreadyDone);
            }
            return Err(StepError::Stale(format!(
                "process {name} of {} runs",
                self.leaf
            )));
        }
        self.order(Ask::Start(wanted))?;
        Ok(Outcome::Done)
    }

    pub(super) fn stop_process(
        &self,
        name: &ProcessName,
        signal: u8,
        grace_ms: u64,
    ) -> Result<Outcome, StepError> {
        let Some(seen) = self.process(name)?.filter(|seen| seen.pid != 0) else {
            return Ok(Outcome::AlreadyDone);
        };
        let starts = self.starts(seen);
        let stop = Stop {
            name: name.to_string(),
            signal: u32::from(signal),
            grace_ms,
            starts,
        };
        self.order(Ask::Stop(stop))?;
        Ok(Outcome::Started)
    }

    pub(super) fn signal_process(
        &self,
        name: &ProcessName,
        signal: u8,
        files: Digest,
    ) -> Result<Outcome, StepError> {
        let Some(seen) = self.process(name)?.filter(|seen| seen.pid != 0) else {
            return Err(StepError::Stale(format!(
                "process {name} of {} does not run",
                self.leaf
            )));
        };
        if seen.files == files.0 {
            return Ok(Outcome::AlreadyDone);
        }
        let starts = self.starts(seen);
        let files = files.0.to_vec();
        let order = Signal {
            name: name.to_string(),
            signal: u32::from(signal),
            starts,
            files,
        };
        self.order(Ask::Signal(order))?;
        Ok(Outcome::Done)
    }

    pub(super) fn forget_process(&self, name: &ProcessName) -> Result<Outcome, StepError> {
        if self.process(name)?.is_none() {
            return Ok(Outcome::AlreadyDone);
        }
        self.order(Ask::Forget(Forget {
            name: name.to_string(),
        }))?;
        Ok(Outcome::Done)
    }

    pub(super) fn restore_mount(
        &self,
        path: &str,
        desired: &Desired,
    ) -> Result<Outcome, StepError> {
        self.report()?;
        let Some(wanted) = desired
            .container
            .mounts
            .iter()
            .find(|mount| mount.path == path)
        else {
            return Err(StepError::Stale(format!(
                "{} has no mount on {path}",
                self.leaf
            )));
        };
        let security = &desired.container.security;
        let is_mapped = matches!(security.user_namespace, UserNamespace::Own(_));
        let mount = launch::mount(&self.host.places, wanted, is_mapped)?;
        self.order(Ask::Mount(mount))?;
        Ok(Outcome::Done)
    }

    pub(super) fn cover_path(&self, path: &str, desired: &Desired) -> Result<Outcome, StepError> {
        self.report()?;
        let security = &desired.container.security;
        let is_among = |paths: &[String]| paths.iter().any(|one| one == path);
        let hide = is_among(&security.masked_paths);
        if !hide && !is_among(&security.read_only_paths) {
            return Err(StepError::Stale(format!(
                "{} covers nothing at {path}",
                self.leaf
            )));
        }
        self.order(Ask::Mount(Mount {
            path: path.to_owned(),
            read_only: true,
            source: Some(MountSource::Cover(Cover { hide })),
        }))?;
        Ok(Outcome::Done)
    }
}

/// Refuses a file that no message can carry, before the shim hangs up on it.
fn check_size(file: &File) -> Result<(), StepError> {
    /// Room for everything of a message but the contents.
    const ROOM: usize = 64 << 10;
    let most = usize::try_from(FRAME_BYTES_MAX)
        .unwrap_or(usize::MAX)
        .saturating_sub(ROOM);
    if file.content.0.len() <= most {
        return Ok(());
    }
    Err(terminal(
        format!("write the file {}", file.path),
        format!(
            "it has {} bytes, a running container takes at most {most}",
            file.content.0.len()
        ),
        "bind-mount it instead",
    ))
}
