//! What others do to the world: chance, and people with a shell.

use driver_api::{ExitStatus, Fact, ShimState};
use specs::id::{Incarnation, Key};

use crate::world::{SimLife, World};

/// One thing that happens without the daemon.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Hand {
    /// A process is killed.
    ProcessDies,
    /// A supervisor is killed.
    ShimDies,
    /// A supervisor stops to answer.
    ShimHangs,
    /// Pid 1 is killed.
    InitDies,
    /// The kernel kills a process for memory.
    OutOfMemory,
    /// The kernel kills something a process started, for memory.
    ChildOutOfMemory,
    /// Somebody writes another limit.
    Limits,
    /// Somebody unmounts something.
    MountLost,
    /// Somebody remounts something.
    MountMode,
    /// Somebody unmounts what covers a path.
    PathExposed,
    /// Somebody removes a cgroup, moving what is in it away.
    CgroupGone,
    /// Somebody removes it in one hierarchy.
    CgroupPartial,
    /// Somebody moves the init out.
    InitMoved,
    /// Somebody sets the loopback link down.
    LoopbackDown,
    /// Somebody flushes the packet filter.
    RulesFlushed,
    /// Somebody edits a rule of the container.
    RulesEdited,
    /// Somebody takes a published port away.
    PortsLost,
    /// Somebody deletes its devices.
    LinkLost,
    /// Somebody deletes a route or an address.
    LinkBroken,
    /// Somebody turns forwarding off.
    ForwardingOff,
    /// The host is started anew.
    Reboot,
}

impl Hand {
    /// Every one but the reboot, which is no matter of one container.
    pub const SMALL: [Self; 20] = [
        Self::ProcessDies,
        Self::ShimDies,
        Self::ShimHangs,
        Self::InitDies,
        Self::OutOfMemory,
        Self::ChildOutOfMemory,
        Self::Limits,
        Self::MountLost,
        Self::MountMode,
        Self::PathExposed,
        Self::CgroupGone,
        Self::CgroupPartial,
        Self::InitMoved,
        Self::LoopbackDown,
        Self::RulesFlushed,
        Self::RulesEdited,
        Self::PortsLost,
        Self::LinkLost,
        Self::LinkBroken,
        Self::ForwardingOff,
    ];
}

impl SimLife {
    /// Kills for memory so far, as the init reads them.
    pub(crate) fn kills(&self) -> Option<u64> {
        self.cgroup.as_ref().map(|cgroup| cgroup.oom_kills)
    }
}

impl World {
    /// Lays a hand on some life; returns whose, if it changed anything.
    pub fn lay(&mut self, hand: Hand) -> Option<Key> {
        if hand == Hand::Reboot {
            self.reboot();
            return None;
        }
        let ids: Vec<(Key, Incarnation)> = self.lives.keys().cloned().collect();
        let at = self.rng.index(ids.len());
        let (key, incarnation) = ids.get(at)?.clone();
        self.lay_on(hand, &key, incarnation).then_some(key)
    }

    /// Lays a hand on one life; returns whether it changed anything.
    pub fn lay_on(&mut self, hand: Hand, key: &Key, incarnation: Incarnation) -> bool {
        let now = self.clock_ms;
        let pick = self.rng.index(7);
        let Some(life) = self.lives.get_mut(&(key.clone(), incarnation)) else {
            return false;
        };
        match hand {
            Hand::ChildOutOfMemory => {
                let cgroup = life.cgroup.as_mut().filter(|_| life.init.is_some());
                cgroup.map(|cgroup| cgroup.oom_kills += 1).is_some()
            }
            Hand::ProcessDies | Hand::OutOfMemory => {
                let mut running = life
                    .processes
                    .values_mut()
                    .filter(|process| process.running.is_some());
                let Some(process) = running.next() else {
                    return false;
                };
                let is_for_memory = hand == Hand::OutOfMemory && life.cgroup.is_some();
                if let Some(cgroup) = life.cgroup.as_mut().filter(|_| is_for_memory) {
                    cgroup.oom_kills += 1;
                }
                let kills = life.cgroup.as_ref().map(|cgroup| cgroup.oom_kills);
                process.end(ExitStatus::Signal(9), now, kills);
                if let Some(run) = &mut process.last_exit {
                    run.oom_killed = is_for_memory;
                }
                true
            }
            Hand::ShimDies => {
                let lived = life.shim.is_some();
                life.end_shim(now);
                lived
            }
            Hand::ShimHangs => life
                .shim
                .as_mut()
                .map(|shim| shim.state = ShimState::Silent)
                .is_some(),
            Hand::InitDies => {
                let lived = life.init.is_some();
                life.end_init(now);
                life.strays = lived && pick == 0 && life.cgroup.is_some();
                lived
            }
            Hand::Limits => {
                let Some(cgroup) = &mut life.cgroup else {
                    return false;
                };
                match pick {
                    0 => cgroup.limits.memory = Fact::Known(None),
                    1 => cgroup.limits.memory = Fact::Known(Some(1 << 20)),
                    2 => cgroup.limits.pids = Fact::Known(Some(0)),
                    3 => cgroup.limits.cpu = Fact::Known(Some(10)),
                    4 => cgroup.limits.cpu_weight = Fact::Known(Some(7)),
                    5 => cgroup.limits.swap = Fact::Known(None),
                    _ => cgroup.limits.cpu_set = Fact::Known(Some(vec![(0, 0)])),
                }
                true
            }
            Hand::MountLost => life.mounts.pop_first().is_some(),
            Hand::MountMode => {
                let Some(mut mount) = life.mounts.first_entry() else {
                    return false;
                };
                mount.get_mut().read_only ^= true;
                true
            }
            Hand::PathExposed => {
                let Some(init) = life.init.as_ref().filter(|init| init.ready) else {
                    return false;
                };
                let security = &init.container.security;
                let mut covered = security
                    .masked_paths
                    .iter()
                    .chain(&security.read_only_paths);
                let path = covered.nth(pick % 3).cloned();
                path.is_some_and(|path| life.exposed.insert(path))
            }
            Hand::CgroupGone => {
                if let Some(init) = &mut life.init {
                    init.in_cgroup = false;
                }
                life.strays = false;
                life.cgroup.take().is_some()
            }
            Hand::CgroupPartial => life
                .cgroup
                .as_mut()
                .map(|cgroup| cgroup.whole = false)
                .is_some(),
            Hand::InitMoved => life
                .init
                .as_mut()
                .map(|init| init.in_cgroup = false)
                .is_some(),
            Hand::LoopbackDown => core::mem::take(&mut life.loopback_up),
            Hand::RulesFlushed => life.network.rules.take().is_some(),
            Hand::RulesEdited | Hand::PortsLost => {
                let Some(rules) = &mut life.network.rules else {
                    return false;
                };
                match (hand, pick) {
                    (Hand::PortsLost, _) => return rules.ports.pop_first().is_some(),
                    (_, 0..2) => rules.shared = false,
                    (_, 2..4) => rules.address = None,
                    _ => rules.egress = None,
                }
                true
            }
            Hand::LinkLost => life.network.link.take().is_some(),
            Hand::LinkBroken => life
                .network
                .link
                .as_mut()
                .map(|link| link.whole = false)
                .is_some(),
            Hand::ForwardingOff => {
                let connected = life.network.link.is_some();
                self.forwarding &= !connected;
                connected
            }
            Hand::Reboot => false,
        }
    }

    /// Starts the host anew: nothing lives; what was on disk stays.
    fn reboot(&mut self) {
        self.boots += 1;
        self.clock_ms = 5_000;
        self.forwarding = false;
        for life in self.lives.values_mut() {
            life.end_init(0);
            life.shim = None;
            life.cgroup = None;
            life.strays = false;
            life.network.rules = None;
            life.files.clear();
            // The runtime directory lies in memory on most hosts, on disk on some.
            if self.boots.is_multiple_of(2) {
                life.bundle = None;
                life.processes.clear();
            }
        }
        self.sweep();
    }
}
