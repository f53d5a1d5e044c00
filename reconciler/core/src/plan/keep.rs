//! What a living container needs to be as it shall:
//!
//! ```text
//! supervisor, limits, ends ─▶ mounts, network ─▶ ends ─▶ files ─▶ signals ─▶ starts
//! ```
//!
//! Ends and starts have turns: what others depend on is ended after them and started before.

use alloc::collections::BTreeMap;
use alloc::format;
use alloc::sync::Arc;
use alloc::vec::Vec;

use driver_api::{Action, Cgroup, Fact, Init, Life};
use specs::desired::{Desired, Writable};
use specs::id::{Generation, Incarnation};

use super::make::start_all;
use super::subject::{Subject, against, odd};
use super::{Await, Blocked, Class, Drift, Note, Obstacle, Plan, Planned, Reason, Stage, shim};
use crate::diff::{self, Digests};
use crate::explain;
use crate::order;

/// Plans what a life with a live init needs.
pub(crate) fn keep(
    subject: &Subject<'_>,
    desired: &Arc<Desired>,
    digests: &Digests,
    (incarnation, life): (Incarnation, &Life),
    plan: &mut Plan,
) -> Vec<Stage> {
    let made = life
        .bundle
        .known()
        .map_or(Generation(0), |bundle| bundle.generation);
    let policy = subject.policy;
    let is_drift = !policy.edited && policy.settled.max(made) >= desired.generation;
    let class = if is_drift { Class::Repair } else { Class::Live };
    let mut keep = Keep {
        subject,
        desired,
        digests,
        incarnation,
        life,
        class,
        ruled: true,
        plan,
    };
    keep.all()
}

/// Returns the obstacle of a limit that this host has no control for.
pub(crate) fn impossible(field: &str) -> Blocked {
    Blocked {
        on: format!("limits.{field}"),
        why: explain::limit_impossible(field),
        kind: Obstacle::Impossible,
    }
}

pub(super) struct Keep<'a> {
    pub(super) subject: &'a Subject<'a>,
    pub(super) desired: &'a Arc<Desired>,
    pub(super) digests: &'a Digests,
    pub(super) incarnation: Incarnation,
    pub(super) life: &'a Life,
    /// What a repair that costs nothing is called: drift, or an edit brought about.
    pub(super) class: Class,
    /// What its network lets pass is known.
    ruled: bool,
    pub(super) plan: &'a mut Plan,
}

/// Stages by their turn.
pub(super) type InTurn = BTreeMap<usize, Stage>;

/// The stages in the order of the picture above.
#[derive(Default)]
pub(super) struct Parts {
    pub(super) first: Stage,
    places: Stage,
    pub(super) ends: InTurn,
    pub(super) files: Stage,
    pub(super) signals: Stage,
    pub(super) starts: InTurn,
}

impl Keep<'_> {
    fn all(&mut self) -> Vec<Stage> {
        let mut parts = Parts::default();
        self.cgroup(&mut parts);
        self.disk(&mut parts);
        let own = self.desired.container.rootfs.writable == Writable::Ephemeral;
        if own && matches!(self.life.root, Fact::Absent | Fact::Known(false)) {
            // Nothing can be put under a mounted root; ending a healthy container is worse.
            self.plan.notes.push(Note(explain::upper_lost()));
        }
        let ready = self.life.init.known().is_some_and(|init: &Init| init.ready);
        let life = (self.incarnation, self.life);
        let replaced = shim::replace(self.subject, life, Class::Repair);
        match &self.life.shim {
            Fact::Absent => {
                let reason = Reason::new(Class::Repair, Drift::ShimGone);
                parts.first.steps.push(self.step(Action::AdoptInit, reason));
            }
            Fact::Unknown(gap) => self.plan.blocked.push(Blocked::unknown(gap)),
            Fact::Known(_) if !replaced.is_empty() => {
                let first = Some(parts.first).filter(|stage| !stage.is_empty());
                return order::abreast([first.into_iter().collect(), replaced]);
            }
            Fact::Known(_) if !ready => {
                let incarnation = self.incarnation;
                parts.first.awaits.push(Await::InitReady { incarnation });
                let rest = start_all(self.subject, self.desired, incarnation, Class::Create);
                return [parts.first].into_iter().chain(rest).collect();
            }
            Fact::Known(_) => {
                self.places(&mut parts);
                self.files_and_processes(&mut parts);
                // No process begins in a network of which nobody can say what it lets pass.
                for stage in parts.starts.values_mut() {
                    stage.steps.retain(|_| self.ruled);
                }
            }
        }
        [parts.first, parts.places]
            .into_iter()
            .chain(parts.ends.into_values())
            .chain([parts.files, parts.signals])
            .chain(parts.starts.into_values())
            .filter(|stage| !stage.is_empty())
            .collect()
    }

    pub(super) fn step(&self, action: Action, reason: Reason) -> Planned {
        self.subject
            .step(self.incarnation, against(self.life), action, reason)
    }

    fn cgroup(&mut self, parts: &mut Parts) {
        let inside = self.life.init.known().is_some_and(|init| init.in_cgroup);
        let drift = match &self.life.cgroup {
            Fact::Unknown(gap) => return self.plan.blocked.push(Blocked::unknown(gap)),
            Fact::Absent => Drift::CgroupGone,
            Fact::Known(cgroup) if !cgroup.whole => Drift::CgroupPartial,
            Fact::Known(_) if !inside => Drift::InitMoved,
            Fact::Known(cgroup) => return self.limits(cgroup, parts),
        };
        let action = Action::RejoinCgroup(self.desired.limits.clone());
        parts
            .first
            .steps
            .push(self.step(action, Reason::new(Class::Repair, drift)));
    }

    fn limits(&mut self, cgroup: &Cgroup, parts: &mut Parts) {
        let diff = diff::limits(&self.desired.limits, &cgroup.limits);
        self.plan
            .blocked
            .extend(diff.gaps.iter().map(Blocked::unknown));
        self.plan
            .blocked
            .extend(diff.impossible.iter().map(|field| impossible(field)));
        let unenforced = |field: &&'static str| Note(explain::limit_unenforced(field));
        self.plan
            .notes
            .extend(diff.unenforced.iter().map(unenforced));
        if !diff.differ.is_empty() {
            let action = Action::SetLimits(self.desired.limits.clone());
            let reason = Reason::new(self.class, Drift::Limits(diff.differ));
            parts.first.steps.push(self.step(action, reason));
        }
    }

    fn disk(&mut self, parts: &mut Parts) {
        let diff = diff::disk(self.desired, &self.life.disk);
        let blocked = &mut self.plan.blocked;
        blocked.extend(diff.gaps.iter().map(Blocked::unknown));
        blocked.extend(diff.impossible.iter().map(|field| impossible(field)));
        if !diff.differ.is_empty() {
            let action = Action::SetDisk(self.desired.clone());
            let reason = Reason::new(self.class, Drift::Limits(diff.differ));
            parts.first.steps.push(self.step(action, reason));
        }
    }

    fn places(&mut self, parts: &mut Parts) {
        match &self.life.mounts {
            Fact::Unknown(gap) => self.plan.blocked.push(Blocked::unknown(gap)),
            Fact::Absent => {
                let gap = odd("mount table", self.subject.key, self.incarnation);
                self.plan.blocked.push(Blocked::unknown(&gap));
            }
            Fact::Known(seen) => {
                let diff = diff::mounts(self.desired, seen);
                self.plan.notes.extend(diff.notes.into_iter().map(Note));
                let lost = diff
                    .lost
                    .into_iter()
                    .map(|path| (path.clone(), Drift::MountLost(path)));
                let mode = diff
                    .mode
                    .into_iter()
                    .map(|(path, read_only)| (path.clone(), Drift::MountMode { path, read_only }));
                for (path, drift) in lost.chain(mode) {
                    let action = Action::RestoreMount {
                        path,
                        desired: self.desired.clone(),
                    };
                    parts
                        .places
                        .steps
                        .push(self.step(action, Reason::new(Class::Repair, drift)));
                }
            }
        }
        match &self.life.exposed {
            Fact::Unknown(gap) => self.plan.blocked.push(Blocked::unknown(gap)),
            Fact::Absent => {}
            Fact::Known(exposed) => {
                for path in exposed {
                    let drift = Drift::Exposed(path.clone());
                    let action = Action::CoverPath {
                        path: path.clone(),
                        desired: self.desired.clone(),
                    };
                    let step = self.step(action, Reason::new(Class::Repair, drift));
                    parts.places.steps.push(step);
                }
            }
        }
        self.loopback(parts);
        let network = super::network::network(self.desired, self.life, self.class);
        self.ruled = network.blocked.is_empty();
        self.plan.blocked.extend(network.blocked);
        for (action, class, drift) in network.todo {
            let step = self.step(action, Reason::new(class, drift));
            parts.places.steps.push(step);
        }
    }

    fn loopback(&mut self, parts: &mut Parts) {
        if self.desired.container.network.is_own() {
            match &self.life.loopback_up {
                Fact::Known(false) => {
                    // Nothing ran in it yet: it is still being made.
                    let fresh = self.life.processes.known().is_some_and(BTreeMap::is_empty);
                    let class = if fresh { Class::Create } else { self.class };
                    let reason = Reason::new(class, Drift::LoopbackDown);
                    parts
                        .places
                        .steps
                        .push(self.step(Action::RaiseLoopback, reason));
                }
                Fact::Known(true) => {}
                Fact::Absent => self.plan.notes.push(Note("it has no loopback link".into())),
                Fact::Unknown(gap) => self.plan.blocked.push(Blocked::unknown(gap)),
            }
        }
    }
}
