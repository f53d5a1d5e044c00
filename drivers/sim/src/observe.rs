//! What the world says when asked, with gaps.

use std::collections::BTreeMap;

use driver_api::{
    Cgroup, ContainerObserved, Fact, Gap, Init, Life, NetworkObserved, Observed, ProcessObserved,
    ProcessState, Scope, UsageObserved,
};
use specs::id::{Incarnation, Key};

use crate::faults::{Ratio, Rng};
use crate::world::{SimLife, SimProcess, World};

impl World {
    /// Returns what is there, in one scope.
    pub fn observe(&mut self, scope: &Scope) -> Observed {
        let mut rng = self.rng.clone();
        let chances = self.chances;
        let complete = !rng.chance(chances.incomplete);
        let mut observed = Observed {
            complete,
            ..Observed::default()
        };
        for ((key, incarnation), life) in &self.lives {
            if matches!(scope, Scope::Container(only) if only != key) || !life.is_something() {
                continue;
            }
            if !complete && rng.below(3) == 0 {
                continue;
            }
            let said = say(
                life,
                (self.boots, self.forwarding),
                (key, *incarnation),
                &mut Draw(&mut rng, chances.gap),
            );
            let container: &mut ContainerObserved =
                observed.containers.entry(key.clone()).or_default();
            container.lives.insert(*incarnation, said);
        }
        if !complete {
            let gap = Gap {
                what: "list the runtime directory".into(),
                why: "EIO".into(),
            };
            observed.gaps.push(gap);
        }
        self.rng = rng;
        observed
    }
}

struct Draw<'a>(&'a mut Rng, Ratio);

impl Draw<'_> {
    fn fact<T>(&mut self, what: &str, value: Option<T>) -> Fact<T> {
        if self.0.chance(self.1) {
            let gap = Gap {
                what: format!("read {what}"),
                why: "EIO".into(),
            };
            return Fact::Unknown(gap);
        }
        value.map_or(Fact::Absent, Fact::Known)
    }
}

fn say(
    life: &SimLife,
    (boots, forwarding): (u64, bool),
    (key, incarnation): (&Key, Incarnation),
    draw: &mut Draw<'_>,
) -> Life {
    let of = |what: &str| format!("{what} of {key}.{incarnation}");
    let nobody = || Gap {
        what: of("processes"),
        why: "there is no supervisor that answers".into(),
    };
    let told = life.shim.is_some();
    let ready = life.init.as_ref().filter(|init| init.ready);
    let own_net = ready.filter(|init| init.container.network.is_own());
    let bundle = life.bundle.clone().map(|mut bundle| {
        bundle.this_boot = life.boot == boots;
        bundle
    });
    let populated = life.init.is_some() || life.strays;
    let cgroup = life.cgroup.as_ref().map(|cgroup| Cgroup {
        populated,
        whole: cgroup.whole,
        limits: cgroup.limits.clone(),
        usage: UsageObserved {
            memory_bytes: Some(4096),
            cpu_usec: None,
            pids: Some(1),
        },
        oom_kills: Some(cgroup.oom_kills),
        memory_peak: (cgroup.oom_kills > 0).then_some(8 << 20),
    });
    let init = life.init.as_ref().map(|init| Init {
        id: init.id,
        ready: init.ready,
        in_cgroup: init.in_cgroup && life.cgroup.is_some(),
    });
    let processes: BTreeMap<_, _> = life
        .processes
        .iter()
        .map(|(name, process)| (name.clone(), seen(process)))
        .collect();
    let (processes, files) = if told {
        let processes = draw.fact(&of("processes"), Some(processes));
        (processes, draw.fact(&of("files"), Some(life.files.clone())))
    } else if life.init.is_some() {
        (Fact::Unknown(nobody()), Fact::Unknown(nobody()))
    } else {
        (Fact::Absent, Fact::Absent)
    };
    Life {
        bundle: draw.fact(&of("bundle"), bundle),
        cgroup: draw.fact(&of("cgroup"), cgroup),
        root: draw.fact(&of("root"), life.root),
        disk: draw.fact(&of("disk"), life.disk),
        shim: draw.fact(&of("shim"), life.shim.clone()),
        init: draw.fact(&of("init"), init),
        mounts: draw.fact(&of("mounts"), ready.map(|_| life.mounts.clone())),
        exposed: draw.fact(&of("exposed"), ready.map(|_| life.exposed.clone())),
        loopback_up: draw.fact(&of("loopback"), own_net.map(|_| life.loopback_up)),
        network: NetworkObserved {
            link: draw.fact(&of("link"), life.network.link),
            rules: draw.fact(&of("rules"), life.network.rules.clone()),
            forwarding: draw.fact(&of("forwarding"), life.network.link.map(|_| forwarding)),
        },
        processes,
        files,
    }
}

fn seen(process: &SimProcess) -> ProcessObserved {
    let state = match process.running {
        Some(run) => match run.stopping_ms {
            Some(since_ms) => ProcessState::Stopping {
                id: run.id,
                since_ms,
            },
            None => ProcessState::Running {
                id: run.id,
                started_ms: run.started_ms,
            },
        },
        None => ProcessState::Ended,
    };
    ProcessObserved {
        digest: process.digest,
        restart_epoch: process.restart_epoch,
        starts: process.starts,
        state,
        last_exit: process.last_exit,
        files: process.files,
    }
}
