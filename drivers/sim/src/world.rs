//! What is there.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use driver_api::{
    Bundle, DiskObserved, ExitStatus, LimitsObserved, MountObserved, Observed, ProcessId, Run, Shim,
};
use specs::desired::{Container, Desired, Limits, MountSource, Process};
use specs::id::{Digest, Incarnation, Key, ProcessName};

use crate::faults::{Chances, Rng};
use crate::network::SimNetwork;

/// Pids are 2 to this number, so that they are used again all the time.
const PID_MAX: u32 = 90;

/// Everything there is.
#[derive(Debug)]
pub struct World {
    pub(crate) rng: Rng,
    pub(crate) chances: Chances,
    /// Milliseconds since boot.
    pub clock_ms: u64,
    /// Counts boots of the host.
    pub boots: u64,
    /// Every life that has left a trace.
    pub lives: BTreeMap<(Key, Incarnation), SimLife>,
    /// Things that are not ours: by name, with a content that must never change.
    pub strangers: BTreeMap<String, u64>,
    pub(crate) stranger_pids: BTreeSet<u32>,
    next_pid: u32,
    next_start: u64,
    /// Containers whose processes do not fail any more.
    pub calm: bool,
    /// Steps answered with stale.
    pub stale: u64,
    /// Steps that changed something.
    pub executed: u64,
    /// The host passes packets on.
    pub forwarding: bool,
    /// What was violated, in words.
    pub violations: Vec<String>,
    /// Lives that have a durable record; written by the test's store.
    pub records: BTreeSet<(Key, Incarnation)>,
    /// What the daemon was told last.
    pub(crate) told: Told,
}

/// What the daemon was told last.
#[derive(Clone, Debug, Default)]
pub(crate) struct Told {
    /// Of one key alone.
    pub(crate) alone: BTreeMap<Key, Observed>,
    /// In the last looks at the whole host: a daemon may rest on one of them for a key that
    /// was in hand when a later one came.
    pub(crate) hosts: VecDeque<Observed>,
}

/// One life.
#[derive(Clone, Debug, Default)]
pub struct SimLife {
    /// The runtime directory's record.
    pub bundle: Option<Bundle>,
    /// The boot it was made under.
    pub boot: u64,
    /// The cgroup.
    pub cgroup: Option<SimCgroup>,
    /// The ephemeral upper layer, and whether it is prepared.
    pub root: Option<bool>,
    /// What limits the writes to its root.
    pub disk: Option<DiskObserved>,
    /// The supervisor.
    pub shim: Option<Shim>,
    /// Pid 1.
    pub init: Option<SimInit>,
    /// Something runs in the cgroup that is no child of the init any more.
    pub strays: bool,
    /// The mount table.
    pub mounts: BTreeMap<String, MountObserved>,
    /// Covered paths that stand open.
    pub exposed: BTreeSet<String>,
    /// The loopback link.
    pub loopback_up: bool,
    /// What connects it.
    pub network: SimNetwork,
    /// Processes ever started and not forgotten.
    pub processes: BTreeMap<ProcessName, SimProcess>,
    /// Files as last written.
    pub files: BTreeMap<String, Digest>,
}

/// A cgroup.
#[derive(Clone, Debug)]
pub struct SimCgroup {
    /// It is there in every hierarchy.
    pub whole: bool,
    /// What is enforced.
    pub limits: LimitsObserved,
    /// Kills for memory.
    pub oom_kills: u64,
}

/// Pid 1.
#[derive(Clone, Debug)]
pub struct SimInit {
    /// Which process.
    pub id: ProcessId,
    /// It stands in its root.
    pub ready: bool,
    /// It is in its cgroup.
    pub in_cgroup: bool,
    /// What it was really made from.
    pub container: Container,
    /// When it will stand, if its launch still goes on.
    pub(crate) ready_at: Option<(u64, Arc<Desired>)>,
}

/// One process.
#[derive(Clone, Debug)]
pub struct SimProcess {
    /// What it was started from.
    pub digest: Digest,
    /// Under which order of a person.
    pub restart_epoch: u64,
    /// Starts so far.
    pub starts: u64,
    /// Marks of the files it knows of.
    pub files: Digest,
    /// While it runs.
    pub running: Option<SimRun>,
    /// The last run that is over.
    pub last_exit: Option<Run>,
}

/// One run that is not over.
#[derive(Clone, Copy, Debug)]
pub struct SimRun {
    /// Which process.
    pub id: ProcessId,
    /// When it began.
    pub started_ms: u64,
    /// When it was asked to end.
    pub stopping_ms: Option<u64>,
    /// When it ends, and how.
    pub ends: Option<(u64, ExitStatus)>,
}

impl World {
    /// Returns a world with strangers and nothing of ours.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        let strangers = [
            "cgroup reconciler-other/web.1",
            "cgroup web.1",
            "process reconciler-shim other web.1",
            "directory other/web.1",
            "directory main/not-a-mark",
        ];
        Self {
            rng: Rng::new(seed),
            chances: Chances::none(),
            clock_ms: 10_000,
            boots: 1,
            lives: BTreeMap::new(),
            strangers: (7..)
                .step_by(3)
                .zip(strangers)
                .map(|(v, k)| (k.into(), v))
                .collect(),
            stranger_pids: [3, 5, 8, 13, 21].into(),
            next_pid: 2,
            next_start: 1_000,
            calm: false,
            stale: 0,
            executed: 0,
            forwarding: false,
            violations: Vec::new(),
            records: BTreeSet::new(),
            told: Told::default(),
        }
    }

    /// Notes something that may never happen.
    pub fn violated(&mut self, what: String) {
        self.violations.push(what);
    }

    fn pids(&self) -> BTreeSet<u32> {
        let lives = self.lives.values();
        let ours = lives.flat_map(|life| {
            let processes = life
                .processes
                .values()
                .filter_map(|process| process.running);
            let shim = life.shim.as_ref().map(|shim| shim.id);
            let init = life.init.as_ref().map(|init| init.id);
            processes.map(|run| run.id).chain(shim).chain(init)
        });
        ours.map(|id| id.pid)
            .chain(self.stranger_pids.iter().copied())
            .collect()
    }

    /// Gives out a pid that nobody has now, though somebody may have had it.
    pub(crate) fn spawn(&mut self) -> Option<ProcessId> {
        let taken = self.pids();
        self.next_start += 1;
        for _ in 0..PID_MAX {
            self.next_pid = if self.next_pid >= PID_MAX {
                2
            } else {
                self.next_pid + 1
            };
            if !taken.contains(&self.next_pid) {
                return Some(ProcessId {
                    pid: self.next_pid,
                    start: self.next_start,
                });
            }
        }
        None
    }

    /// Lets time pass: runs end and launches are over when it is their time. Returns whose
    /// containers changed.
    pub fn advance(&mut self, ms: u64) -> BTreeSet<Key> {
        self.clock_ms += ms;
        let now = self.clock_ms;
        let mut changed = BTreeSet::new();
        for ((key, _), life) in &mut self.lives {
            let launching = life.init.as_mut().and_then(|init| {
                let due = init.ready_at.as_ref().is_some_and(|(at, _)| *at <= now);
                if due { init.ready_at.take() } else { None }
            });
            if let Some((_, desired)) = launching {
                life.init.iter_mut().for_each(|init| init.ready = true);
                life.ready(&desired);
                changed.insert(key.clone());
            }
            let kills = life.kills();
            for process in life.processes.values_mut() {
                let Some(run) = process.running else { continue };
                if let Some((_, status)) = run.ends.filter(|(at, _)| *at <= now) {
                    process.end(status, now, kills);
                    changed.insert(key.clone());
                }
            }
        }
        changed
    }

    /// Returns whether something that was begun is not over: a launch, or the end of a process.
    #[must_use]
    pub fn is_busy(&self) -> bool {
        self.lives.values().any(|life| {
            let launching = life.init.as_ref().is_some_and(|init| !init.ready);
            let mut runs = life.processes.values().filter_map(|one| one.running);
            launching || runs.any(|run| run.stopping_ms.is_some())
        })
    }

    /// Returns when something will next change by itself.
    #[must_use]
    pub fn next_change(&self) -> Option<u64> {
        let ends = |life: &SimLife| {
            let runs = life
                .processes
                .values()
                .filter_map(|process| process.running);
            let ends = runs.filter_map(|run| run.ends).map(|(at, _)| at).min();
            let launch = life.init.as_ref().and_then(|init| init.ready_at.as_ref());
            [ends, launch.map(|(at, _)| *at)]
                .into_iter()
                .flatten()
                .min()
        };
        self.lives.values().filter_map(ends).min()
    }

    /// Draws how a run goes, from what it is told to do.
    pub(crate) fn fate(&mut self, process: &Process) -> Option<(u64, ExitStatus)> {
        let now = self.clock_ms;
        match process.command.first().map(String::as_str) {
            Some("once") => Some((now + 50, ExitStatus::Code(0))),
            Some("fail") => Some((now + 30, ExitStatus::Code(1))),
            Some("flaky") if !self.calm => {
                let code = if self.rng.below(2) == 0 { 0 } else { 3 };
                Some((now + 10 + self.rng.below(400), ExitStatus::Code(code)))
            }
            Some("missing") => Some((now, ExitStatus::NotStarted(2))),
            _ => None,
        }
    }

    pub(crate) fn life(&mut self, key: &Key, incarnation: Incarnation) -> &mut SimLife {
        self.lives.entry((key.clone(), incarnation)).or_default()
    }

    /// Drops lives of which nothing is left.
    pub(crate) fn sweep(&mut self) {
        self.lives.retain(|_, life| life.is_something());
    }
}

impl SimProcess {
    /// Ends the run that goes on.
    pub(crate) fn end(&mut self, status: ExitStatus, now_ms: u64, kills: Option<u64>) {
        if let Some(run) = self.running.take() {
            self.last_exit = Some(Run {
                started_ms: run.started_ms,
                ended_ms: now_ms,
                status,
                asked: run.stopping_ms.is_some(),
                oom_kills: kills,
                oom_killed: false,
            });
        }
    }
}

impl SimLife {
    /// Whether anything of it is on the host.
    #[must_use]
    pub fn is_something(&self) -> bool {
        self.bundle.is_some()
            || self.cgroup.is_some()
            || self.root.is_some()
            || self.shim.is_some()
            || self.init.is_some()
            || self.network.rules.is_some()
    }

    pub(crate) fn launched(&mut self) {
        if let Some(bundle) = &mut self.bundle {
            bundle.launched = true;
        }
    }

    /// Ends pid 1, and with it the whole pid namespace (`pid_namespaces(7)`).
    pub(crate) fn end_init(&mut self, now_ms: u64) {
        self.init = None;
        self.mounts.clear();
        self.exposed.clear();
        self.loopback_up = false;
        self.network.link = None;
        for process in self.processes.values_mut() {
            // Whoever could have counted is dead too.
            process.end(ExitStatus::Unseen, now_ms, None);
        }
    }

    /// Stands up what an init has when it is ready.
    pub(crate) fn ready(&mut self, desired: &Desired) {
        for mount in &desired.container.mounts {
            self.mounts
                .insert(mount.path.clone(), mounted(&mount.source, mount.read_only));
        }
        self.files = desired
            .files
            .iter()
            .map(|file| (file.path.clone(), file.digest()))
            .collect();
        self.loopback_up = !desired.container.network.is_own();
    }
}

pub(crate) fn mounted(source: &MountSource, read_only: bool) -> MountObserved {
    let (fs_type, root) = match source {
        MountSource::Tmpfs { .. } => ("tmpfs", "/".to_owned()),
        MountSource::Bind { source, .. } => ("ext4", source.clone()),
        MountSource::Volume(volume) => ("ext4", format!("/volumes/{volume}")),
    };
    let device = "0:42".to_owned();
    MountObserved {
        fs_type: fs_type.to_owned(),
        read_only,
        root,
        device,
        inodes: None,
        stacked: 1,
    }
}

/// Returns limits as the kernel would read back: memory in whole pages.
pub(crate) fn enforced(limits: &Limits) -> LimitsObserved {
    use driver_api::Fact::Known;
    let pages = |bytes: u64| bytes / 4096 * 4096;
    LimitsObserved {
        memory: Known(limits.memory.map(|bytes| pages(bytes.0))),
        swap: Known(limits.memory.map(|_| pages(limits.swap.0))),
        memory_low: Known(limits.memory_low.map(|bytes| pages(bytes.0))),
        cpu: Known(limits.cpu.map(|cpu| cpu.0)),
        cpu_weight: Known(limits.cpu_weight),
        cpu_set: Known(limits.cpu_set.clone()),
        pids: Known(limits.pids),
    }
}
