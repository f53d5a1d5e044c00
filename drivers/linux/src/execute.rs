//! Does one step. Every act checks first whether it is done, so twice equals once.

mod cgroups;
mod network;
mod processes;
mod shims;

use driver_api::{
    Action, Deadline, Expect, Fact, Mark, Outcome, Precondition, ProcessId, Step, StepError,
};
use shim_proto::launch::Launch;
use specs::desired::Desired;
use specs::id::ProcessName;

use crate::bundle::Record;
use crate::cgroup::Group;
use crate::cgroup::devices::Filter;
use crate::error::{During as _, retry, words};
use crate::host::LinuxHost;
use crate::launch::{self, Sources};
use crate::observe::peek::{Peek, peek};
use crate::places::make_private;
use crate::remove::Removed;
use crate::{bundle, cgroup, clock, disk, rootdirs};

/// A step with what was seen right before it.
struct Act<'a> {
    host: &'a LinuxHost,
    mark: Mark,
    leaf: String,
    peek: Peek,
    expected: &'a Precondition,
    deadline: Deadline,
}

/// Executes a step.
pub(crate) fn execute(
    host: &LinuxHost,
    step: &Step,
    deadline: Deadline,
) -> Result<Outcome, StepError> {
    let mark = host.mark(step);
    let leaf = mark.leaf();
    let found =
        crate::observe::shims::of_life(host, &mark).map_err(|gap| retry(gap.what, gap.why))?;
    let peek = peek(host, &mark, &found, deadline);
    check(&leaf, &peek, &step.precondition, &step.action)?;
    let act = Act {
        host,
        mark,
        leaf,
        peek,
        expected: &step.precondition,
        deadline,
    };
    act.perform(&step.action)
}

/// Returns what the action's process is called, for preconditions about it.
fn process_of(action: &Action) -> Option<&ProcessName> {
    match action {
        Action::StartProcess { name, .. }
        | Action::StopProcess { name, .. }
        | Action::SignalProcess { name, .. }
        | Action::ForgetProcess(name) => Some(name),
        _ => None,
    }
}

/// Checks what the step was planned against.
fn check(
    leaf: &str,
    peek: &Peek,
    expected: &Precondition,
    action: &Action,
) -> Result<(), StepError> {
    expect(leaf, "init", expected.init, &peek.init)?;
    expect(leaf, "shim", expected.shim, &peek.shim)?;
    let (Some(name), true) = (process_of(action), expected.starts != Expect::Any) else {
        return Ok(());
    };
    let Some(report) = &peek.report else {
        return Err(StepError::Stale(format!(
            "nobody can be asked about process {name} of {leaf}"
        )));
    };
    let seen = report
        .processes
        .iter()
        .find(|process| process.name == name.as_str());
    let starts = seen.map_or(Fact::Absent, |process| Fact::Known(process.starts));
    expect(
        leaf,
        &format!("count of starts of process {name}"),
        expected.starts,
        &starts,
    )
}

fn expect<T: PartialEq>(
    leaf: &str,
    what: &str,
    expected: Expect<T>,
    seen: &Fact<T>,
) -> Result<(), StepError> {
    match (expected, seen) {
        (Expect::Any, _) | (Expect::Absent, Fact::Absent) => Ok(()),
        (Expect::Is(wanted), Fact::Known(found)) if wanted == *found => Ok(()),
        (_, Fact::Unknown(gap)) => Err(StepError::Stale(format!(
            "the {what} of {leaf} cannot be read: {}",
            gap.why
        ))),
        _ => Err(StepError::Stale(format!(
            "the {what} of {leaf} is another than planned for"
        ))),
    }
}

impl Act<'_> {
    fn perform(&self, action: &Action) -> Result<Outcome, StepError> {
        match action {
            Action::PrepareBundle(desired) => self.prepare_bundle(desired),
            Action::CreateCgroup(limits) => self.create_cgroup(limits),
            Action::PrepareRoot(desired) => {
                let deadline = self.deadline;
                rootdirs::prepare(&self.host.places, &self.mark, desired, deadline)?;
                Ok(Outcome::Done)
            }
            Action::StartShim(desired) => self.start_shim(desired),
            Action::AdoptInit => self.adopt_init(),
            Action::WriteFiles(desired) => self.write_files(desired),
            Action::RaiseLoopback => self.raise_loopback(),
            Action::SetRules(desired) => self.set_rules(desired),
            Action::PublishPorts(desired) => self.publish_ports(desired),
            Action::ConnectNetwork(desired) => self.connect_network(desired),
            Action::RemoveNetwork => self.remove_network(),
            Action::StartProcess { name, desired } => self.start_process(name, desired),
            Action::StopProcess {
                name,
                signal,
                grace,
            } => self.stop_process(name, signal.0, grace.0),
            Action::SignalProcess {
                name,
                signal,
                files,
            } => self.signal_process(name, signal.0, *files),
            Action::ForgetProcess(name) => self.forget_process(name),
            Action::SetLimits(limits) => self.set_limits(limits),
            Action::SetDisk(desired) => self.set_disk(desired),
            Action::RejoinCgroup(limits) => self.rejoin_cgroup(limits),
            Action::RestoreMount { path, desired } => self.restore_mount(path, desired),
            Action::CoverPath { path, desired } => self.cover_path(path, desired),
            Action::KillLife => self.kill_life(),
            Action::KillShim => self.kill_shim(),
            Action::EndShim => self.end_shim(),
            Action::RemoveCgroup => self.remove_cgroup(),
            Action::RemoveRoot => self.remove_root(),
            Action::RemoveBundle => self.remove_bundle(),
        }
    }

    /// Returns the init that lives.
    fn init(&self) -> Result<ProcessId, StepError> {
        match &self.peek.init {
            Fact::Known(id) => Ok(*id),
            Fact::Absent => Err(StepError::Stale(format!("{} has no init", self.leaf))),
            Fact::Unknown(gap) => Err(retry(gap.what.clone(), gap.why.clone())),
        }
    }

    /// Refuses to take away what a living or perhaps living container stands on.
    fn refuse_alive(&self, what: &str) -> Result<(), StepError> {
        for (name, fact) in [("init", &self.peek.init), ("shim", &self.peek.shim)] {
            match fact {
                Fact::Absent => {}
                Fact::Known(_) => {
                    let why = format!("the {name} of {} lives; its {what} stays", self.leaf);
                    return Err(StepError::Stale(why));
                }
                Fact::Unknown(gap) => return Err(retry(gap.what.clone(), gap.why.clone())),
            }
        }
        Ok(())
    }

    /// Returns the launch description that the bundle holds.
    fn launch(&self) -> Result<&Launch, StepError> {
        match &self.peek.record {
            Record::Known(launch) if self.peek.this_boot => Ok(launch),
            Record::Known(_) => Err(StepError::Stale(format!(
                "{} is of an earlier boot",
                self.leaf
            ))),
            Record::Absent => Err(StepError::Stale(format!("{} has no bundle", self.leaf))),
            Record::Unknown(gap) => Err(retry(gap.what.clone(), gap.why.clone())),
        }
    }

    fn prepare_bundle(&self, desired: &Desired) -> Result<Outcome, StepError> {
        match &self.peek.record {
            Record::Known(launch) if self.peek.this_boot && launch::is_of(launch, desired) => {
                return Ok(Outcome::AlreadyDone);
            }
            Record::Known(_) => {
                let why = format!("{} was made from something else", self.leaf);
                return Err(StepError::Stale(why));
            }
            Record::Unknown(gap) => return Err(retry(gap.what.clone(), gap.why.clone())),
            Record::Absent => {}
        }
        let places = &self.host.places;
        let filter = Filter::of(&desired.container.security)?;
        let group = Group::of(&self.host.layout, &self.mark, &[]);
        let has_cpu_set = desired.limits.cpu_set.is_some();
        let cgroups = launch::directories(group.wanted(has_cpu_set))?;
        let launch = self.build(desired, cgroups, clock::wall_ms())?;
        let logs = places.logs(&self.mark.key);
        make_private(&logs).during(|| format!("make {}", logs.display()))?;
        bundle::prepare(places, &self.mark, &launch, &filter.print())
            .during(|| format!("make the runtime directory of {}", self.leaf))?;
        Ok(Outcome::Done)
    }

    fn build(
        &self,
        desired: &Desired,
        cgroups: Vec<shim_proto::launch::CgroupDirectory>,
        now_ms: u64,
    ) -> Result<Launch, StepError> {
        let layout = &self.host.layout;
        let shims: Vec<cgroup::Dir> = layout
            .used()
            .filter(|at| layout.is_required(at))
            .map(cgroup::create::shims)
            .collect();
        let sources = Sources {
            places: &self.host.places,
            filters: &self.host.filters,
            assembly: self.host.assembly,
            boot_id: &self.host.boot_id,
            now_ms,
            cgroups,
            shim_cgroups: launch::directories(shims.iter())?,
        };
        launch::build(sources, &self.mark, desired)
    }

    fn raise_loopback(&self) -> Result<Outcome, StepError> {
        let init = self.init()?;
        if self
            .peek
            .record
            .launch()
            .is_none_or(|launch| launch.host_network)
        {
            let why = format!("{} has no network namespace of its own", self.leaf);
            return Err(StepError::Stale(why));
        }
        let raised = self
            .host
            .links
            .raise_loopback(init, &self.leaf, self.deadline)?;
        Ok(if raised {
            Outcome::Done
        } else {
            Outcome::AlreadyDone
        })
    }

    fn set_disk(&self, desired: &Desired) -> Result<Outcome, StepError> {
        self.init()?;
        let Some((bytes, bound)) = desired.disk.zip(desired.container.rootfs.bound) else {
            return Ok(Outcome::AlreadyDone);
        };
        let directory = launch::layers(&self.host.places, &self.mark, desired);
        let inodes = bound.inodes.map(|inodes| inodes.0);
        disk::grow(&directory, &self.leaf, bytes.0, inodes)
    }

    fn remove_root(&self) -> Result<Outcome, StepError> {
        self.refuse_alive("root")?;
        match rootdirs::remove(&self.host.places, &self.mark, self.deadline)? {
            Removed::Nothing => Ok(Outcome::AlreadyDone),
            Removed::All => Ok(Outcome::Done),
            Removed::Part => Ok(Outcome::Started),
        }
    }

    fn remove_bundle(&self) -> Result<Outcome, StepError> {
        self.refuse_alive("bundle")?;
        self.host.clients.forget(&self.mark);
        self.host.wakes.forget(&self.mark);
        let what = || format!("remove the runtime directory of {}", self.leaf);
        let removed = bundle::remove(&self.host.places, &self.mark).map_err(|err| {
            retry(
                what(),
                format!("{}; remove what is foreign in it by hand", words(&err)),
            )
        })?;
        Ok(if removed {
            Outcome::Done
        } else {
            Outcome::AlreadyDone
        })
    }
}
