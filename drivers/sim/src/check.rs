//! What must be true after every effect, and at the end.

mod depends;

use std::collections::{BTreeMap, BTreeSet};

use driver_api::{
    Action, ContainerObserved, ExitStatus, Fact, Life, Shim, ShimState, Step, files_mark,
};
use specs::desired::{Desired, File, Network, OnChange, RestartPolicy, Run, Writable};
use specs::id::{Digest, Incarnation, Key, ProcessName};

use crate::world::{SimLife, SimProcess, World, enforced, mounted};

pub use depends::{container_is, container_was_seen, waits};

/// Holds a step against the laws before it is done.
pub(crate) fn before(world: &mut World, step: &Step) {
    let name = format!("{}.{}: {}", step.key, step.incarnation, step.action.verb());
    if !world
        .records
        .contains(&(step.key.clone(), step.incarnation))
    {
        world.violated(format!("{name} before a durable record names the life"));
    }
    let told = world
        .told
        .alone
        .get(&step.key)
        .into_iter()
        .chain(&world.told.hosts);
    let mut refused = Vec::new();
    for observed in told {
        let said = observed
            .containers
            .get(&step.key)
            .cloned()
            .unwrap_or_default();
        match may(step, &said, observed.complete) {
            Ok(()) => return,
            Err(why) => refused.push(why),
        }
    }
    world.violated(format!("{name} although {}", refused.join(" and ")));
}

/// Whether what was told allows a step: nothing is created, killed, deleted or released on
/// what is unknown.
fn may(step: &Step, said: &ContainerObserved, complete: bool) -> Result<(), String> {
    let life = said.lives.get(&step.incarnation);
    let absent = |what: &str, holds: bool| {
        if holds {
            Ok(())
        } else {
            Err(format!("the {what} was not seen to be gone"))
        }
    };
    let init_gone = life.is_none_or(|life| life.init.is_absent());
    match &step.action {
        Action::PrepareBundle(_) | Action::StartShim(_) => {
            absent("rest of the listing", complete)?;
            let mut others = said
                .lives
                .iter()
                .filter(|(other, _)| **other != step.incarnation);
            absent(
                "other life's init",
                others.all(|(_, life)| life.init.is_absent()),
            )?;
            absent("init", init_gone)
        }
        Action::CreateCgroup(_) | Action::PrepareRoot(_) => absent("init", init_gone),
        Action::KillLife => {
            let known = |life: &Life| life.init.known().is_some();
            let strays = |life: &Life| {
                let populated = life.cgroup.known().is_some_and(|cgroup| cgroup.populated);
                life.init.is_absent() && populated
            };
            let seen = life.is_some_and(|life| known(life) || strays(life));
            if seen {
                Ok(())
            } else {
                Err("nothing was seen that lives".into())
            }
        }
        Action::KillShim => {
            let silent = |shim: &Shim| shim.state == ShimState::Silent;
            let shim = life.and_then(|life| life.shim.known());
            absent("answer", shim.is_some_and(silent))
        }
        Action::EndShim => absent("init", init_gone),
        Action::RemoveCgroup => {
            absent("init", init_gone)?;
            let empty = life.and_then(|life| life.cgroup.known());
            absent(
                "last process",
                empty.is_some_and(|cgroup| !cgroup.populated),
            )
        }
        Action::RemoveRoot => absent(
            "cgroup",
            life.is_some_and(|life| {
                life.init.is_absent() && life.shim.is_absent() && life.cgroup.is_absent()
            }),
        ),
        Action::RemoveBundle => absent(
            "upper layer",
            life.is_some_and(|life| {
                let dead = life.init.is_absent() && life.shim.is_absent();
                dead && life.cgroup.is_absent() && life.root.is_absent()
            }),
        ),
        Action::AdoptInit => absent("supervisor", life.is_some_and(|life| life.shim.is_absent())),
        Action::RejoinCgroup(_) => {
            let unknown = life.is_none_or(|life| life.cgroup.gap().is_some());
            absent("cgroup", !unknown)
        }
        Action::RemoveNetwork => absent(
            "init",
            // The last of it may have gone with the init: then there is nothing to take away.
            life.is_none_or(|life| life.init.is_absent() && life.shim.is_absent()),
        ),
        Action::StartProcess { desired, .. } if !is_ruled(desired, life) => {
            Err("the rules of its network are not known to be in force".into())
        }
        Action::StopProcess { .. } | Action::ForgetProcess(_) | Action::StartProcess { .. } => {
            let known = life.is_some_and(|life| life.processes.gap().is_none());
            match &step.action {
                _ if !known => Err("its processes are unknown".into()),
                Action::StartProcess { name, desired } => depends::may_start(name, desired, life),
                _ => Ok(()),
            }
        }
        Action::WriteFiles(_)
        | Action::RaiseLoopback
        | Action::SetRules(_)
        | Action::PublishPorts(_)
        | Action::ConnectNetwork(_)
        | Action::SignalProcess { .. }
        | Action::SetLimits(_)
        | Action::SetDisk(_)
        | Action::RestoreMount { .. }
        | Action::CoverPath { .. } => Ok(()),
    }
}

/// *Law:* no process begins in a network whose rules were not seen in force.
fn is_ruled(desired: &Desired, life: Option<&Life>) -> bool {
    let Some(isolated) = desired.container.network.isolated() else {
        return true;
    };
    let rules = life.and_then(|life| life.network.rules.known());
    rules.is_some_and(|rules| {
        let speaks = rules.address == Some(isolated.address);
        speaks && rules.shared && rules.egress.as_ref() == Some(&desired.egress)
    })
}

/// Holds the world against the laws after a step.
pub(crate) fn after(world: &mut World, step: &Step) {
    let mut live: BTreeMap<Key, usize> = BTreeMap::new();
    for ((key, _), life) in &world.lives {
        *live.entry(key.clone()).or_default() += usize::from(life.init.is_some());
    }
    let twins: Vec<Key> = live
        .into_iter()
        .filter(|(_, inits)| *inits > 1)
        .map(|(key, _)| key)
        .collect();
    for key in twins {
        world.violated(format!(
            "{key} has two live inits after {}",
            step.action.verb()
        ));
    }
    strangers(world);
    records(world);
}

/// *Law:* nothing without our mark is touched.
fn strangers(world: &mut World) {
    let fresh = World::new(0);
    if world.strangers != fresh.strangers || world.stranger_pids != fresh.stranger_pids {
        world.violated("something of a stranger was touched".into());
    }
}

/// *Law:* whatever is on the host has a durable record.
pub fn records(world: &mut World) {
    let unrecorded: BTreeSet<_> = world
        .lives
        .keys()
        .filter(|id| !world.records.contains(id))
        .cloned()
        .collect();
    for (key, incarnation) in unrecorded {
        world.violated(format!(
            "{key}.{incarnation} is on the host without a record"
        ));
    }
}

/// Returns whether a step about to be issued harms what is as it is wanted: the newest life
/// that lives and was made from what is wanted, or a process of it that is what is wanted.
pub fn collateral(world: &World, step: &Step, wanted: Option<&Desired>) -> Option<String> {
    let wanted = wanted.filter(|wanted| !wanted.suspend)?;
    let digest = wanted.container.digest();
    let lives = world.lives.iter().filter(|((key, _), life)| {
        let bundle = life.bundle.as_ref();
        let fits = bundle.is_some_and(|bundle| bundle.container == digest);
        *key == step.key && life.init.is_some() && fits && life.boot == world.boots
    });
    let (_, kept) = lives.map(|((_, life), at)| (life, at)).next_back()?;
    let newest = world.lives.get(&(step.key.clone(), step.incarnation))?;
    if !std::ptr::eq(kept, newest) {
        return None;
    }
    match &step.action {
        Action::KillLife | Action::EndShim => {
            Some(format!("{} would end a life that is as wanted", step.key))
        }
        Action::StopProcess { name, .. } => {
            let process = kept.processes.get(name)?;
            let spec = wanted.processes.get(name)?;
            let same = process.digest == spec.digest()
                && process.restart_epoch >= wanted.restart_epoch
                && process.files.0[..8] == files_mark(wanted).0[..8]
                && wanted.run == Run::Running;
            same.then(|| format!("{}/{name} would be ended although as wanted", step.key))
        }
        _ => None,
    }
}

/// Returns how the world differs from what is wanted of one key, in every field.
///
/// `held` says that another container which it waits for is not as it is needed.
///
/// # Errors
/// Names the first difference.
pub fn matches(
    world: &World,
    key: &Key,
    wanted: Option<&Desired>,
    held: bool,
) -> Result<(), String> {
    let mut lives = world.lives.iter().filter(|((of, _), _)| of == key);
    let first = lives.next();
    if let Some(((_, incarnation), _)) = lives.next() {
        return Err(format!("{key}.{incarnation} is there beside another life"));
    }
    match (wanted, first) {
        (None, None) => Ok(()),
        (None, Some(((_, incarnation), _))) => Err(format!("{key}.{incarnation} is left over")),
        // It is kept if it was made before it was stopped, and not made to be stopped.
        (Some(wanted), None) if wanted.run == Run::Stopped => Ok(()),
        (Some(_), None) => Err(format!("{key} is not there")),
        (Some(wanted), Some(((_, incarnation), life))) => life_matches(world, life, wanted, held)
            .map_err(|why| format!("{key}.{incarnation}: {why}")),
    }
}

fn same<T: PartialEq + std::fmt::Debug>(what: &str, is: T, shall: T) -> Result<(), String> {
    if is == shall {
        Ok(())
    } else {
        Err(format!("{what} is {is:?}, shall be {shall:?}"))
    }
}

fn life_matches(world: &World, life: &SimLife, wanted: &Desired, held: bool) -> Result<(), String> {
    let bundle = life.bundle.as_ref().ok_or("it has no runtime directory")?;
    same("the digest", bundle.container, wanted.container.digest())?;
    same("the boot", life.boot, world.boots)?;
    let init = life.init.as_ref().ok_or("its init is dead")?;
    same("the container", &init.container, &wanted.container)?;
    same("ready", init.ready, true)?;
    same("in its cgroup", init.in_cgroup, true)?;
    let cgroup = life.cgroup.as_ref().ok_or("it has no cgroup")?;
    same("the cgroup's wholeness", cgroup.whole, true)?;
    let mut limits = cgroup.limits.clone();
    let mut shall = enforced(&wanted.limits);
    // The kernel's own weight is 100 (`cgroup-v2.rst`): not set is the same.
    for weight in [&mut limits.cpu_weight, &mut shall.cpu_weight] {
        if *weight == Fact::Known(None) {
            *weight = Fact::Known(Some(100));
        }
    }
    if wanted.limits.memory.is_none() {
        limits.swap = Fact::Known(None);
    }
    same("limits", limits, shall)?;
    let disk = life.disk.map(|disk| disk.bytes);
    let shall = wanted.disk.map(|bytes| bytes.0 / 4096 * 4096);
    same("the disk limit", disk, shall)?;
    let own = wanted.container.rootfs.writable == Writable::Ephemeral;
    same("the upper layer", life.root, own.then_some(true))?;
    if life.shim.is_none() {
        return Err("its supervisor is dead".into());
    }
    let mounts = wanted.container.mounts.iter();
    let shall = mounts.map(|mount| (mount.path.clone(), mounted(&mount.source, mount.read_only)));
    same("mounts", &life.mounts, &shall.collect())?;
    same("exposed paths", &life.exposed, &BTreeSet::new())?;
    if wanted.container.network == Network::None {
        same("loopback", life.loopback_up, true)?;
    }
    for file in &wanted.files {
        same(&file.path, life.files.get(&file.path), Some(&file.digest()))?;
    }
    processes_match(&life.processes, wanted, &files_mark(wanted), held)
}

fn processes_match(
    processes: &BTreeMap<ProcessName, SimProcess>,
    wanted: &Desired,
    mark: &Digest,
    held: bool,
) -> Result<(), String> {
    if let Some(extra) = processes
        .keys()
        .find(|name| !wanted.processes.contains_key(*name))
    {
        return Err(format!("{extra} is wanted no more"));
    }
    let announced = |file: &File| matches!(file.on_change, OnChange::Signal(_));
    let has_announced = wanted.files.iter().any(announced);
    for (name, spec) in &wanted.processes {
        let process = processes.get(name);
        let running = process.is_some_and(|process| process.running.is_some());
        if wanted.run == Run::Stopped {
            same(&format!("{name} runs"), running, false)?;
            continue;
        }
        if !running && (held || depends::waits_in(processes, wanted, name)) {
            continue;
        }
        let process = process.ok_or_else(|| format!("{name} was never started"))?;
        same(&format!("{name}'s digest"), process.digest, spec.digest())?;
        if process.restart_epoch < wanted.restart_epoch {
            return Err(format!("{name} was not restarted as a person asked"));
        }
        same(
            &format!("{name}'s files"),
            &process.files.0[..8],
            &mark.0[..8],
        )?;
        // With nothing left to be signalled about, what it remembers of that is no matter.
        if running && has_announced {
            same(&format!("{name}'s signalled files"), &process.files, mark)?;
        }
        let may_rest = match (spec.restart.policy, process.last_exit.map(|run| run.status)) {
            (RestartPolicy::Always, _) | (_, Some(ExitStatus::NotStarted(_)) | None) => false,
            (RestartPolicy::OnFailure, status) => status == Some(ExitStatus::Code(0)),
            (RestartPolicy::Never, _) => true,
        };
        let asked = process.last_exit.is_some_and(|run| run.asked);
        if !running && (!may_rest || asked) {
            return Err(format!("{name} does not run: {:?}", process.last_exit));
        }
    }
    Ok(())
}

/// Returns whether a process of a container has ended badly and is left so.
#[must_use]
pub fn rests_badly(world: &World, key: &Key) -> bool {
    let lives = world.lives.iter().filter(|((of, _), _)| of == key);
    let mut processes = lives.flat_map(|(_, life)| life.processes.values());
    processes.any(|process| {
        let status = process.last_exit.map(|run| run.status);
        process.running.is_none() && status != Some(ExitStatus::Code(0))
    })
}

/// Returns the identity of the init of each live life.
#[must_use]
pub fn inits(world: &World) -> BTreeMap<(Key, Incarnation), driver_api::ProcessId> {
    let lives = world.lives.iter();
    lives
        .filter_map(|(id, life)| Some((id.clone(), life.init.as_ref()?.id)))
        .collect()
}
