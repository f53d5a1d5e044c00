//! What the processes of a living container need: ends, files, signals, starts.

use alloc::collections::{BTreeMap, BTreeSet};

use driver_api::{Action, Expect, Fact, Precondition, ProcessObserved, ProcessState, files_mark};
use specs::desired::Run;
use specs::id::ProcessName;

use super::end::stop_process;
use super::keep::{InTurn, Keep, Parts};
use super::subject::against;
use super::waits::{Standing, Starts, end_turns};
use super::{Await, Blocked, Class, Drift, Planned, Reason};
use crate::diff::{self, FilesDiff};
use crate::policy::{Verdict, judge};

/// Processes of one container that are to end, with why.
type Ends<'a> = BTreeMap<&'a ProcessName, (&'a ProcessObserved, Drift)>;

impl<'a> Keep<'a> {
    pub(super) fn files_and_processes(&mut self, parts: &mut Parts) {
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
        let life = self.life;
        let none = BTreeMap::new();
        let processes = match &life.processes {
            Fact::Known(processes) => processes,
            Fact::Absent => &none,
            Fact::Unknown(gap) => return self.plan.blocked.push(Blocked::unknown(gap)),
        };
        let verdicts = self.verdicts(processes);
        self.ends(processes, &verdicts, files.restart, parts);
        self.starts(processes, &verdicts, parts);
    }

    /// Judges each wanted process; nothing of a container that shall be stopped.
    fn verdicts(
        &self,
        processes: &BTreeMap<ProcessName, ProcessObserved>,
    ) -> BTreeMap<&'a ProcessName, Verdict> {
        if self.desired.run == Run::Stopped {
            return BTreeMap::new();
        }
        let judged = |(name, wanted)| {
            let seen = processes.get(name);
            (name, judge(self.desired, name, wanted, self.digests, seen))
        };
        self.desired.processes.iter().map(judged).collect()
    }

    /// Ends what shall not run or not as it is, and forgets what is wanted no more.
    fn ends(
        &mut self,
        processes: &BTreeMap<ProcessName, ProcessObserved>,
        verdicts: &BTreeMap<&ProcessName, Verdict>,
        restart: bool,
        parts: &mut Parts,
    ) {
        let mut ends: Ends<'_> = BTreeMap::new();
        for (name, seen) in processes {
            let drift = match verdicts.get(name) {
                Some(Verdict::Replace(drift)) => drift.clone(),
                Some(Verdict::Ending { .. }) => Drift::ProcessChanged,
                Some(Verdict::Keep | Verdict::Rest | Verdict::Start(_) | Verdict::Again(_)) => {
                    continue;
                }
                None if self.desired.processes.contains_key(name) => Drift::Stopped,
                None if seen.state == ProcessState::Ended => {
                    let reason = Reason::new(Class::Process, Drift::ProcessExtra);
                    let forget = self.step(Action::ForgetProcess(name.clone()), reason);
                    parts.files.steps.push(forget);
                    continue;
                }
                None => Drift::ProcessExtra,
            };
            if seen.state != ProcessState::Ended {
                ends.insert(name, (seen, drift));
            }
        }
        self.end_in_turn(&ends, restart, parts);
    }

    /// Nothing still running shall read the new text of a file it is restarted for, and nothing
    /// is asked to end before what depends on it has ended.
    fn end_in_turn(&mut self, ends: &Ends<'_>, restart: bool, parts: &mut Parts) {
        let ending: BTreeSet<&ProcessName> = ends.keys().copied().collect();
        let turns = end_turns(self.subject, &ending);
        let in_turn = turns.values().any(|turn| *turn > 0);
        for (name, (seen, drift)) in ends {
            let turn = turns.get(name).copied().unwrap_or_default();
            match seen.state {
                ProcessState::Running { .. } => {
                    let life = (self.incarnation, self.life);
                    let reason = Reason::new(Class::Process, drift.clone());
                    let stop = stop_process(self.subject, life, (name, seen.starts), reason);
                    match turn {
                        0 => parts.first.steps.push(stop),
                        turn => parts.ends.entry(turn).or_default().steps.push(stop),
                    }
                }
                ProcessState::Stopping { since_ms, .. } => {
                    let wait = Await::ProcessEnds {
                        incarnation: self.incarnation,
                        name: (*name).clone(),
                        since_ms,
                    };
                    let stage = if restart || in_turn {
                        parts.ends.entry(turn).or_default()
                    } else {
                        parts.starts.entry(0).or_default()
                    };
                    stage.awaits.push(wait);
                }
                ProcessState::Ended => {}
            }
        }
    }

    fn starts(
        &mut self,
        processes: &BTreeMap<ProcessName, ProcessObserved>,
        verdicts: &BTreeMap<&'a ProcessName, Verdict>,
        parts: &mut Parts,
    ) {
        let standing = |(name, verdict): (&&ProcessName, &Verdict)| {
            let name = *name;
            (name.clone(), Standing::of(verdict, processes.get(name)))
        };
        let standings = verdicts.iter().map(standing).collect();
        let starts = Starts::new(self.subject, self.desired, standings);
        for (name, verdict) in verdicts {
            let seen = processes.get(*name);
            let drift = match (verdict, seen) {
                (Verdict::Keep, Some(seen)) => {
                    self.signal(name, seen, parts);
                    continue;
                }
                (Verdict::Keep | Verdict::Rest | Verdict::Ending { .. }, _) => continue,
                (Verdict::Again(_), _) if self.subject.policy.hold.processes.contains(name) => {
                    let process = Some((*name).clone());
                    parts
                        .starts
                        .entry(0)
                        .or_default()
                        .awaits
                        .push(Await::Backoff { process });
                    continue;
                }
                (Verdict::Again(status), _) => Drift::ProcessEnded(*status),
                (Verdict::Start(drift) | Verdict::Replace(drift), _) => drift.clone(),
            };
            let start = self.start(name, seen, drift);
            start_in_turn(&mut parts.starts, &starts, name, start);
        }
    }

    fn start(&self, name: &ProcessName, seen: Option<&ProcessObserved>, drift: Drift) -> Planned {
        let starts = seen.map_or(Expect::Absent, |seen| Expect::Is(seen.starts));
        let precondition = Precondition {
            starts,
            ..against(self.life)
        };
        let (name, desired) = (name.clone(), self.desired.clone());
        let action = Action::StartProcess { name, desired };
        let reason = Reason::new(Class::Process, drift);
        self.subject
            .step(self.incarnation, precondition, action, reason)
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

/// Puts a start into the stage that its turn is, and what it waits for into the one before: no
/// stage is over while something of it is waited for.
pub(super) fn start_in_turn(
    stages: &mut InTurn,
    starts: &Starts<'_>,
    name: &ProcessName,
    start: Planned,
) {
    let turn = starts.turn(name);
    if let Some(before) = turn.checked_sub(1) {
        let before = stages.entry(before).or_default();
        before.awaits.extend(starts.waits(name));
    }
    stages.entry(turn).or_default().steps.push(start);
}
