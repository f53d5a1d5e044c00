//! What the world does when told, whole, half or not at all.

use driver_api::{
    Action, Bundle, Expect, Outcome, ProcessId, Shim, ShimState, Step, StepError, StepFailure,
};
use specs::desired::{Desired, Limits, Writable};
use specs::id::{Incarnation, Key};

use crate::check;
use crate::network::SimNetwork;
use crate::world::{SimCgroup, SimInit, World, enforced, mounted};

mod disk;
mod process;

type Id<'a> = (&'a Key, Incarnation);

fn failure(what: &str, cause: &str) -> StepFailure {
    StepFailure {
        what: what.to_owned(),
        cause: cause.to_owned(),
        errno: Some(5),
        hint: None,
    }
}

fn retry(what: &str, cause: &str) -> StepError {
    StepError::Retry(failure(what, cause))
}

impl World {
    /// Does one step, as far as chance lets it.
    ///
    /// # Errors
    /// As the real driver, and whenever a fault was drawn.
    pub fn execute(&mut self, step: &Step) -> Result<Outcome, StepError> {
        check::before(self, step);
        let verb = step.action.verb();
        if self.rng.chance(self.chances.terminal) {
            return Err(StepError::Terminal(failure(verb, "a person must act")));
        }
        if self.rng.chance(self.chances.fail_before) {
            let failure = failure(verb, "nothing was done");
            return Err(match self.rng.below(4) {
                0 => StepError::Blocked {
                    on: "a lock".into(),
                    failure,
                },
                _ => StepError::Retry(failure),
            });
        }
        if let Err(stale) = self.precondition(step) {
            self.stale += 1;
            return Err(stale);
        }
        let half = self.rng.chance(self.chances.do_half);
        let result = self.act(step, half);
        if result.is_ok() {
            self.executed += 1;
        }
        self.sweep();
        check::after(self, step);
        if half && result.is_ok() {
            return Err(retry(verb, "it was done in part"));
        }
        if result.is_ok() && self.rng.chance(self.chances.lose_reply) {
            return Err(retry(verb, "the answer was lost"));
        }
        result
    }

    fn precondition(&self, step: &Step) -> Result<(), StepError> {
        let life = self.lives.get(&(step.key.clone(), step.incarnation));
        let init = life.and_then(|life| life.init.as_ref()).map(|init| init.id);
        let shim = life.and_then(|life| life.shim.as_ref()).map(|shim| shim.id);
        expect("init", step.precondition.init, init)?;
        expect("shim", step.precondition.shim, shim)?;
        if let Action::StartProcess { name, .. }
        | Action::StopProcess { name, .. }
        | Action::SignalProcess { name, .. } = &step.action
        {
            let process = life.and_then(|life| life.processes.get(name));
            expect(
                "starts",
                step.precondition.starts,
                process.map(|process| process.starts),
            )?;
        }
        Ok(())
    }

    fn act(&mut self, step: &Step, half: bool) -> Result<Outcome, StepError> {
        let id = (&step.key, step.incarnation);
        match &step.action {
            Action::PrepareBundle(desired) => Ok(self.prepare_bundle(id, desired)),
            Action::CreateCgroup(limits) => Ok(self.create_cgroup(id, limits, half)),
            Action::PrepareRoot(desired) => {
                let life = self.life(id.0, id.1);
                if !half {
                    life.disk = life.disk.or_else(|| disk::imaged(desired));
                }
                if desired.container.rootfs.writable == Writable::Ephemeral {
                    self.life(id.0, id.1).root = Some(!half);
                }
                Ok(Outcome::Done)
            }
            Action::StartShim(desired) => self.start_shim(id, desired, half),
            Action::KillShim => Ok(self.kill_shim(id)),
            Action::AdoptInit => self.adopt(id),
            Action::WriteFiles(desired) => self.write_files(id, desired, half),
            Action::RaiseLoopback => {
                self.standing(id)?;
                self.life(id.0, id.1).loopback_up = true;
                Ok(Outcome::Done)
            }
            Action::SetRules(desired) => {
                self.set_rules(id, desired, half);
                Ok(Outcome::Done)
            }
            Action::PublishPorts(desired) => {
                self.publish(id, desired, half);
                Ok(Outcome::Done)
            }
            Action::ConnectNetwork(desired) => self.connect(id, desired, half),
            Action::RemoveNetwork => {
                self.life(id.0, id.1).network = SimNetwork::default();
                Ok(Outcome::Done)
            }
            Action::StartProcess { name, desired } => self.start_process(id, name, desired),
            Action::StopProcess { name, grace, .. } => self.stop_process(id, name, *grace),
            Action::SignalProcess { name, files, .. } => self.signal_process(id, name, *files),
            Action::ForgetProcess(name) => self.forget_process(id, name),
            Action::SetLimits(limits) => self.set_limits(id, limits, half),
            Action::SetDisk(desired) => self.set_disk(id, desired, half),
            Action::RejoinCgroup(limits) => {
                let outcome = self.create_cgroup(id, limits, false);
                if let Some(init) = &mut self.life(id.0, id.1).init {
                    init.in_cgroup = !half;
                }
                Ok(outcome)
            }
            Action::RestoreMount { path, desired } => self.restore_mount(id, path, desired),
            Action::CoverPath { path, .. } => {
                self.standing(id)?;
                self.life(id.0, id.1).exposed.remove(path);
                Ok(Outcome::Done)
            }
            Action::KillLife => Ok(self.kill_life(id, half)),
            Action::EndShim => {
                self.life(id.0, id.1).shim = None;
                Ok(Outcome::Done)
            }
            Action::RemoveCgroup => self.remove_cgroup(id),
            Action::RemoveRoot => {
                let life = self.life(id.0, id.1);
                (life.root, life.disk) = (None, None);
                Ok(Outcome::Done)
            }
            Action::RemoveBundle => {
                let life = self.life(id.0, id.1);
                life.bundle = None;
                life.processes.clear();
                Ok(Outcome::Done)
            }
        }
    }

    fn prepare_bundle(&mut self, id: Id<'_>, desired: &Desired) -> Outcome {
        let (boots, clock) = (self.boots, self.clock_ms);
        let life = self.life(id.0, id.1);
        if life.bundle.is_some() {
            return Outcome::AlreadyDone;
        }
        life.boot = boots;
        life.bundle = Some(Bundle {
            container: desired.container.digest(),
            generation: desired.generation,
            created_ms: clock,
            this_boot: true,
            launched: false,
        });
        Outcome::Done
    }

    fn create_cgroup(&mut self, id: Id<'_>, limits: &Limits, half: bool) -> Outcome {
        let life = self.life(id.0, id.1);
        let oom_kills = life.cgroup.as_ref().map_or(0, |cgroup| cgroup.oom_kills);
        life.cgroup = Some(SimCgroup {
            whole: !half,
            limits: enforced(limits),
            oom_kills,
        });
        Outcome::Done
    }

    fn start_shim(
        &mut self,
        id: Id<'_>,
        desired: &std::sync::Arc<Desired>,
        half: bool,
    ) -> Result<Outcome, StepError> {
        let digest = desired.container.digest();
        let life = self.life(id.0, id.1);
        if life.shim.is_some() {
            return Ok(Outcome::AlreadyDone);
        }
        let made_for = life.bundle.as_ref().map(|bundle| bundle.container);
        if life.cgroup.is_none() || made_for.is_none() {
            return Err(retry(
                "start the supervisor",
                "its cgroup or directory is missing",
            ));
        }
        if life.disk.is_none() && desired.disk.is_some() {
            return Err(retry("start the supervisor", "its image is missing"));
        }
        if made_for != Some(digest) {
            self.violated(format!(
                "{}.{}: launched from another specification",
                id.0, id.1
            ));
        }
        let shim = self.pid("fork the supervisor")?;
        self.life(id.0, id.1).shim = Some(Shim {
            id: shim,
            state: ShimState::Working,
        });
        let how = if half { self.rng.below(3) } else { 3 };
        match how {
            0 => {
                // The launch failed and the supervisor waits to be dismissed.
                self.life(id.0, id.1).shim = Some(Shim {
                    id: shim,
                    state: ShimState::Idle,
                });
            }
            1 => {
                // An init was made, failed, and took the supervisor along.
                let life = self.life(id.0, id.1);
                life.shim = None;
                life.launched();
            }
            how => {
                let init = self.pid("clone the init")?;
                let ready_at = (how == 2).then_some(self.clock_ms + 200);
                let life = self.life(id.0, id.1);
                life.launched();
                life.init = Some(SimInit {
                    id: init,
                    ready: ready_at.is_none(),
                    in_cgroup: true,
                    container: desired.container.clone(),
                    ready_at: ready_at.map(|at| (at, desired.clone())),
                });
                if ready_at.is_none() {
                    life.ready(desired);
                }
            }
        }
        Ok(Outcome::Done)
    }

    fn kill_shim(&mut self, id: Id<'_>) -> Outcome {
        let now = self.clock_ms;
        let life = self.life(id.0, id.1);
        life.end_shim(now);
        Outcome::Done
    }

    fn adopt(&mut self, id: Id<'_>) -> Result<Outcome, StepError> {
        if self.life(id.0, id.1).shim.is_some() {
            return Ok(Outcome::AlreadyDone);
        }
        let shim = self.pid("fork the supervisor")?;
        self.life(id.0, id.1).shim = Some(Shim {
            id: shim,
            state: ShimState::Working,
        });
        Ok(Outcome::Done)
    }

    fn pid(&mut self, what: &str) -> Result<ProcessId, StepError> {
        self.spawn().ok_or_else(|| retry(what, "no pid is free"))
    }

    /// Fails unless there is a supervisor to ask and an init that stands.
    fn standing(&mut self, id: Id<'_>) -> Result<(), StepError> {
        let life = self.life(id.0, id.1);
        let ready = life.init.as_ref().is_some_and(|init| init.ready);
        if ready && life.answers() {
            Ok(())
        } else {
            Err(retry("ask the supervisor", "it cannot be reached"))
        }
    }

    fn write_files(
        &mut self,
        id: Id<'_>,
        desired: &Desired,
        half: bool,
    ) -> Result<Outcome, StepError> {
        self.standing(id)?;
        let life = self.life(id.0, id.1);
        let files = &mut life.files;
        let differing: Vec<_> = desired
            .files
            .iter()
            .filter(|file| files.get(&file.path) != Some(&file.digest()))
            .collect();
        let count = if half { 1 } else { differing.len() };
        for file in differing.into_iter().take(count) {
            files.insert(file.path.clone(), file.digest());
        }
        Ok(Outcome::Done)
    }

    fn set_limits(
        &mut self,
        id: Id<'_>,
        limits: &Limits,
        half: bool,
    ) -> Result<Outcome, StepError> {
        let Some(cgroup) = &mut self.life(id.0, id.1).cgroup else {
            return Err(retry("write limits", "there is no cgroup"));
        };
        let after = enforced(limits);
        if half {
            cgroup.limits.memory = after.memory;
            cgroup.limits.swap = after.swap;
        } else {
            cgroup.limits = after;
        }
        Ok(Outcome::Done)
    }

    fn restore_mount(
        &mut self,
        id: Id<'_>,
        path: &str,
        desired: &Desired,
    ) -> Result<Outcome, StepError> {
        self.standing(id)?;
        let Some(mount) = desired
            .container
            .mounts
            .iter()
            .find(|mount| mount.path == path)
        else {
            return Err(retry("mount", "it is not in the specification"));
        };
        let made = mounted(&mount.source, mount.read_only);
        self.life(id.0, id.1).mounts.insert(path.to_owned(), made);
        Ok(Outcome::Done)
    }

    fn kill_life(&mut self, id: Id<'_>, half: bool) -> Outcome {
        let now = self.clock_ms;
        let life = self.life(id.0, id.1);
        life.end_init(now);
        life.strays = half && life.cgroup.is_some();
        life.dismiss_shim();
        Outcome::Done
    }

    fn remove_cgroup(&mut self, id: Id<'_>) -> Result<Outcome, StepError> {
        let life = self.life(id.0, id.1);
        if life.init.is_some() || life.strays {
            return Err(retry("rmdir the cgroup", "device or resource busy"));
        }
        life.cgroup = None;
        Ok(Outcome::Done)
    }
}

fn expect<T: PartialEq + std::fmt::Debug>(
    what: &str,
    wanted: Expect<T>,
    found: Option<T>,
) -> Result<(), StepError> {
    let holds = match &wanted {
        Expect::Any => true,
        Expect::Absent => found.is_none(),
        Expect::Is(value) => found.as_ref() == Some(value),
    };
    if holds {
        Ok(())
    } else {
        Err(StepError::Stale(format!(
            "{what} is {found:?}, expected {wanted:?}"
        )))
    }
}
