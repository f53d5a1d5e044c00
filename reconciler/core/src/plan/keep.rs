//! What a living container needs to be as it shall:
//!
//! ```text
//! supervisor, limits, ends ─▶ mounts, network ─▶ files ─▶ signals ─▶ starts
//! ```

use alloc::collections::BTreeMap;
use alloc::format;
use alloc::sync::Arc;
use alloc::vec::Vec;

use driver_api::{Action, Cgroup, Expect, Fact, Init, Life, Precondition, ProcessObserved};
use driver_api::{ProcessState, files_mark};
use specs::desired::{Desired, Run, Writable};
use specs::id::{Generation, Incarnation, ProcessName};

use super::end::stop_process;
use super::make::start_all;
use super::subject::{Subject, against, odd};
use super::{Await, Blocked, Class, Drift, Note, Obstacle, Plan, Planned, Reason, Stage, shim};
use crate::diff::{self, Digests, FilesDiff};
use crate::explain;
use crate::order;
use crate::policy::{Verdict, judge};

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

struct Keep<'a> {
    subject: &'a Subject<'a>,
    desired: &'a Arc<Desired>,
    digests: &'a Digests,
    incarnation: Incarnation,
    life: &'a Life,
    /// What a repair that costs nothing is called: drift, or an edit brought about.
    class: Class,
    /// What its network lets pass is known.
    ruled: bool,
    plan: &'a mut Plan,
}

/// The stages in the order of the picture above.
#[derive(Default)]
struct Parts {
    first: Stage,
    places: Stage,
    files: Stage,
    signals: Stage,
    starts: Stage,
}

impl Keep<'_> {
    fn all(&mut self) -> Vec<Stage> {
        let mut parts = Parts::default();
        self.cgroup(&mut parts);
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
                parts.starts.steps.retain(|_| self.ruled);
            }
        }
        [
            parts.first,
            parts.places,
            parts.files,
            parts.signals,
            parts.starts,
        ]
        .into_iter()
        .filter(|stage| !stage.is_empty())
        .collect()
    }

    fn step(&self, action: Action, reason: Reason) -> Planned {
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

    fn files_and_processes(&mut self, parts: &mut Parts) {
        let none = BTreeMap::new();
        let files = match &self.life.files {
            Fact::Known(seen) => diff::files(self.desired, seen),
            Fact::Absent => diff::files(self.desired, &BTreeMap::new()),
            Fact::Unknown(_) if self.desired.files.is_empty() => FilesDiff::default(),
            Fact::Unknown(gap) => return self.plan.blocked.push(Blocked::unknown(gap)),
        };
        if !files.paths.is_empty() {
            let reason = Reason::new(self.class, Drift::Files(files.paths));
            let write = self.step(Action::WriteFiles(self.desired.clone()), reason);
            parts.files.steps.push(write);
        }
        let processes = match &self.life.processes {
            Fact::Known(processes) => processes,
            Fact::Absent => &none,
            Fact::Unknown(gap) => return self.plan.blocked.push(Blocked::unknown(gap)),
        };
        for (name, seen) in processes {
            if !self.desired.processes.contains_key(name) {
                self.extra(name, seen, parts);
            }
        }
        for (name, wanted) in &self.desired.processes {
            let seen = processes.get(name);
            match (self.desired.run, seen) {
                (Run::Stopped, None) => {}
                (Run::Stopped, Some(seen)) => self.end(name, seen, Drift::Stopped, parts),
                (Run::Running, seen) => {
                    let verdict = judge(self.desired, name, wanted, self.digests, seen);
                    self.process(name, seen, verdict, parts);
                }
            }
        }
        if files.restart {
            // Nothing still running shall read the new text of a file it is restarted for.
            let ends = |wait: &Await| matches!(wait, Await::ProcessEnds { .. });
            let (ends, rest) = parts.starts.awaits.drain(..).partition(ends);
            parts.first.awaits = ends;
            parts.starts.awaits = rest;
        }
    }

    fn process(
        &mut self,
        name: &ProcessName,
        seen: Option<&ProcessObserved>,
        verdict: Verdict,
        parts: &mut Parts,
    ) {
        let start = |keep: &Self, drift: Drift| {
            let starts = seen.map_or(Expect::Absent, |seen| Expect::Is(seen.starts));
            let precondition = Precondition {
                starts,
                ..against(keep.life)
            };
            let (name, desired) = (name.clone(), keep.desired.clone());
            let action = Action::StartProcess { name, desired };
            let reason = Reason::new(Class::Process, drift);
            keep.subject
                .step(keep.incarnation, precondition, action, reason)
        };
        match (verdict, seen) {
            (Verdict::Keep, Some(seen)) => self.signal(name, seen, parts),
            (Verdict::Keep | Verdict::Rest, _) => {}
            (Verdict::Replace(drift), Some(seen)) => {
                self.end(name, seen, drift.clone(), parts);
                parts.starts.steps.push(start(self, drift));
            }
            (Verdict::Ending { .. }, Some(seen)) => {
                self.end(name, seen, Drift::ProcessChanged, parts);
            }
            (Verdict::Again(_), _) if self.subject.policy.hold.processes.contains(name) => {
                let process = Some(name.clone());
                parts.starts.awaits.push(Await::Backoff { process });
            }
            (Verdict::Again(status), _) => {
                parts
                    .starts
                    .steps
                    .push(start(self, Drift::ProcessEnded(status)));
            }
            (Verdict::Start(drift) | Verdict::Replace(drift), _) => {
                parts.starts.steps.push(start(self, drift));
            }
            (Verdict::Ending { .. }, None) => {}
        }
    }

    fn extra(&mut self, name: &ProcessName, seen: &ProcessObserved, parts: &mut Parts) {
        if seen.state == ProcessState::Ended {
            let reason = Reason::new(Class::Process, Drift::ProcessExtra);
            parts
                .files
                .steps
                .push(self.step(Action::ForgetProcess(name.clone()), reason));
        } else {
            self.end(name, seen, Drift::ProcessExtra, parts);
        }
    }

    fn end(&mut self, name: &ProcessName, seen: &ProcessObserved, drift: Drift, parts: &mut Parts) {
        match seen.state {
            ProcessState::Running { .. } => {
                let life = (self.incarnation, self.life);
                let reason = Reason::new(Class::Process, drift);
                let stop = stop_process(self.subject, life, (name, seen.starts), reason);
                parts.first.steps.push(stop);
            }
            ProcessState::Stopping { since_ms, .. } => {
                let (incarnation, name) = (self.incarnation, name.clone());
                parts.starts.awaits.push(Await::ProcessEnds {
                    incarnation,
                    name,
                    since_ms,
                });
            }
            ProcessState::Ended => {}
        }
    }

    /// Tells a process of new files. All but the last of several signals leave it the mark
    /// it had, so that a crash between them sends all of them again rather than too few.
    fn signal(&mut self, name: &ProcessName, seen: &ProcessObserved, parts: &mut Parts) {
        if !self.digests.signal_due(&seen.files) {
            return;
        }
        let last = self.digests.signals.len().saturating_sub(1);
        for (at, signal) in self.digests.signals.iter().enumerate() {
            let files = if at == last {
                files_mark(self.desired)
            } else {
                seen.files
            };
            let starts = Expect::Is(seen.starts);
            let precondition = Precondition {
                starts,
                ..against(self.life)
            };
            let action = Action::SignalProcess {
                name: name.clone(),
                signal: *signal,
                files,
            };
            let reason = Reason::new(self.class, Drift::SignalFiles);
            let step = self
                .subject
                .step(self.incarnation, precondition, action, reason);
            parts.signals.steps.push(step);
        }
    }
}
