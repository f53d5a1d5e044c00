//! When a thing is tried again. The shell draws delays; here is counted, held and released.

use alloc::collections::BTreeMap;
use alloc::string::String;

use driver_api::{ProcessObserved, ProcessState, Step};
use specs::desired::Process;
use specs::id::{Incarnation, ProcessName};
use specs::status::Failure;

use crate::plan::StepKey;
use crate::policy;

/// A try again after an error that only a person can mend, in case one did.
pub(crate) const TERMINAL_MS: u64 = 5 * 60_000;
/// The same step this often in a row, each time with success, is a fight with somebody.
const REPEATS_MAX: u32 = 5;
/// A step not needed for so long is not a repetition of the former.
const REPEAT_FORGET_MS: u64 = 3 * 60_000;
/// Looks on the driver's hint that may follow each other at once.
const LOOKS_BURST: u32 = 20;
/// One more such look is allowed each so often.
const LOOK_EVERY_MS: u64 = 250;

/// A delay that was asked for or drawn.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Timer {
    /// Failures in a row.
    pub(crate) attempt: u32,
    /// When it is over, milliseconds since boot; none until the shell has drawn it.
    pub(crate) due_ms: Option<u64>,
    /// The same on the wall clock, for display.
    pub(crate) due_wall_ms: Option<u64>,
}

impl Timer {
    pub(crate) fn is_over(&self, now_ms: u64) -> bool {
        self.due_ms.is_some_and(|due| due <= now_ms)
    }
}

/// A step that failed.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Held {
    /// What to tell.
    pub(crate) failure: Failure,
    /// What it waits on, if the driver named it.
    pub(crate) on: Option<String>,
    /// Only a person can mend it: when it is tried again all the same.
    pub(crate) terminal_until_ms: Option<u64>,
}

/// Restarts of one process.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Respawn {
    life: Incarnation,
    /// Starts up to which no failure counts any more.
    calm: u64,
    /// The end that is being waited out: the number of its start.
    ended: Option<u64>,
    pub(crate) timer: Timer,
}

/// Restarts of every process of one container.
pub(crate) type Respawns = BTreeMap<ProcessName, Respawn>;

impl Respawn {
    /// Notes a process that runs, or whose end asks for nothing.
    pub(crate) fn observe(&mut self, life: Incarnation, seen: &ProcessObserved) {
        if self.life != life {
            *self = Self {
                life,
                ..Self::default()
            };
        }
        if seen.last_exit.is_some_and(|run| run.asked) {
            self.calm = self.calm.max(seen.starts);
        }
    }

    /// Notes an end that the policy answers with a start; returns the number of failures in
    /// a row when it is a new one, so that a delay is asked for.
    pub(crate) fn ended(&mut self, wanted: &Process, seen: &ProcessObserved) -> Option<u32> {
        if self.ended == Some(seen.starts) {
            return None;
        }
        let failures = policy::failures(wanted, seen, self.calm);
        self.calm = seen.starts.saturating_sub(u64::from(failures));
        self.ended = Some(seen.starts);
        self.timer = Timer {
            attempt: failures,
            ..Timer::default()
        };
        Some(failures)
    }

    /// Returns whether the start must wait.
    pub(crate) fn is_held(&self, seen: &ProcessObserved, now_ms: u64) -> bool {
        self.ended == Some(seen.starts) && !self.timer.is_over(now_ms)
    }

    /// Forgets every failure: an edit, or a person's word.
    pub(crate) fn forgive(&mut self, life: Incarnation, seen: &ProcessObserved, now_ms: u64) {
        let over = seen.state == ProcessState::Ended;
        *self = Self {
            life,
            calm: if over {
                seen.starts
            } else {
                seen.starts.saturating_sub(1)
            },
            ended: over.then_some(seen.starts),
            timer: Timer {
                due_ms: Some(now_ms),
                ..Timer::default()
            },
        };
    }
}

/// Steps that were done with success, to see when somebody undoes them again and again.
#[derive(Clone, Debug, Default)]
pub(crate) struct Repeats(BTreeMap<StepKey, Repeat>);

#[derive(Clone, Debug)]
struct Repeat {
    step: Step,
    count: u32,
    last_ms: u64,
    /// Its delay is over: it may be done once more.
    excused: bool,
}

impl Repeats {
    /// Notes a step that was done.
    pub(crate) fn done(&mut self, step: &Step, now_ms: u64) {
        self.0
            .retain(|_, repeat| now_ms.saturating_sub(repeat.last_ms) < REPEAT_FORGET_MS);
        let fresh = Repeat {
            step: step.clone(),
            count: 0,
            last_ms: now_ms,
            excused: false,
        };
        let repeat = self.0.entry(StepKey::of(step)).or_insert(fresh);
        if repeat.step != *step {
            repeat.step = step.clone();
            repeat.count = 0;
        }
        repeat.count = repeat.count.saturating_add(1);
        repeat.last_ms = now_ms;
        repeat.excused = false;
    }

    /// Returns how often a step was done beyond what may follow each other at once, the
    /// first being 1; nothing if it may go on.
    pub(crate) fn too_many(&self, step: &Step, now_ms: u64) -> Option<u32> {
        let repeat = self
            .0
            .get(&StepKey::of(step))
            .filter(|repeat| repeat.step == *step)?;
        let recent = now_ms.saturating_sub(repeat.last_ms) < REPEAT_FORGET_MS;
        let over = repeat.count.saturating_add(1).saturating_sub(REPEATS_MAX);
        (recent && over > 0 && !repeat.excused).then_some(over)
    }

    /// Lets a step be done once more.
    pub(crate) fn excuse(&mut self, step: &StepKey) {
        if let Some(repeat) = self.0.get_mut(step) {
            repeat.excused = true;
        }
    }
}

/// Looks that a driver's hints may cause.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Looks {
    left: u32,
    since_ms: u64,
}

impl Default for Looks {
    fn default() -> Self {
        Self {
            left: LOOKS_BURST,
            since_ms: 0,
        }
    }
}

impl Looks {
    /// Returns when the look that is hinted at may take place.
    pub(crate) fn take(&mut self, now_ms: u64) -> u64 {
        let earned = now_ms.saturating_sub(self.since_ms) / LOOK_EVERY_MS;
        if earned > 0 {
            let earned = u32::try_from(earned).unwrap_or(u32::MAX);
            self.left = self.left.saturating_add(earned).min(LOOKS_BURST);
            self.since_ms = now_ms;
        }
        if let Some(left) = self.left.checked_sub(1) {
            self.left = left;
            now_ms
        } else {
            self.since_ms.saturating_add(LOOK_EVERY_MS)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::{SERVER, desired, ended, name, running};
    use alloc::vec::Vec;
    use driver_api::{Action, ExitStatus, Precondition};
    use specs::id::Key;

    const LIFE: Incarnation = Incarnation(1);

    /// One run of a process: how long it lasted, and whether it was ended on our word.
    fn run(starts: u64, lasted_ms: u64, asked: bool) -> ProcessObserved {
        let desired = desired(1, SERVER);
        let mut seen = ended(&desired, &name("server"), ExitStatus::Code(1), asked);
        seen.starts = starts;
        seen.last_exit
            .iter_mut()
            .for_each(|run| run.ended_ms = run.started_ms + lasted_ms);
        seen
    }

    fn server() -> Process {
        desired(1, SERVER).processes[&name("server")].clone()
    }

    /// Returns the failures in a row after each of these runs.
    fn failures(runs: &[(u64, u64, bool)]) -> Vec<Option<u32>> {
        let mut respawn = Respawn::default();
        let each = |(starts, lasted_ms, asked): &(u64, u64, bool)| {
            let seen = run(*starts, *lasted_ms, *asked);
            respawn.observe(LIFE, &seen);
            if *asked {
                None
            } else {
                respawn.ended(&server(), &seen)
            }
        };
        runs.iter().map(each).collect()
    }

    #[test]
    fn failures_in_a_row_count_up_and_each_is_counted_once() {
        let runs = [
            (1, 10, false),
            (1, 10, false),
            (2, 10, false),
            (3, 10, false),
        ];
        assert_eq!(failures(&runs), [Some(1), None, Some(2), Some(3)]);
    }

    #[test]
    fn a_long_run_forgets_the_failures_before_it() {
        let long = server().restart.reset_after.0;
        let runs = [
            (1, 10, false),
            (2, 10, false),
            (3, long, false),
            (4, 10, false),
        ];
        assert_eq!(failures(&runs), [Some(1), Some(2), Some(1), Some(2)]);
    }

    #[test]
    fn an_end_on_our_word_forgets_the_failures_before_it() {
        let runs = [(1, 10, false), (2, 10, true), (3, 10, false)];
        assert_eq!(failures(&runs), [Some(1), None, Some(1)]);
    }

    #[test]
    fn a_new_daemon_takes_the_count_from_the_host() {
        assert_eq!(failures(&[(9, 10, false)]), [Some(9)]);
    }

    #[test]
    fn an_edit_forgets_every_failure_whatever_was_known_of_them() {
        let desired = desired(1, SERVER);
        let mut up = running(&desired, &name("server"));
        up.starts = 9;
        let mut respawn = Respawn::default();
        respawn.forgive(LIFE, &up, 50);
        assert_eq!(respawn.ended(&server(), &run(9, 10, false)), Some(1));
        let mut respawn = Respawn::default();
        let down = run(9, 10, false);
        assert_eq!(respawn.ended(&server(), &down), Some(9));
        assert!(respawn.is_held(&down, 50));
        respawn.forgive(LIFE, &down, 50);
        assert!(!respawn.is_held(&down, 50));
        assert_eq!(respawn.ended(&server(), &run(10, 10, false)), Some(1));
    }

    #[test]
    fn a_start_waits_until_its_delay_was_drawn_and_is_over() {
        let mut respawn = Respawn::default();
        let down = run(1, 10, false);
        respawn.ended(&server(), &down);
        assert!(respawn.is_held(&down, u64::MAX));
        respawn.timer.due_ms = Some(100);
        assert!(respawn.is_held(&down, 99));
        assert!(!respawn.is_held(&down, 100));
    }

    fn step(action: Action) -> Step {
        let key = Key::new("web").expect("a label");
        Step {
            key,
            incarnation: LIFE,
            precondition: Precondition::default(),
            action,
        }
    }

    #[test]
    fn what_is_undone_again_and_again_waits_longer_each_time() {
        let mut repeats = Repeats::default();
        let raise = step(Action::RaiseLoopback);
        let mut over = Vec::new();
        for at in 0..7 {
            over.push(repeats.too_many(&raise, at));
            repeats.excuse(&StepKey::of(&raise));
            assert_eq!(repeats.too_many(&raise, at), None);
            repeats.done(&raise, at);
        }
        assert_eq!(over, [None, None, None, None, None, Some(1), Some(2)]);
        assert_eq!(repeats.too_many(&step(Action::AdoptInit), 7), None);
        assert_eq!(repeats.too_many(&raise, 7 + REPEAT_FORGET_MS), None);
    }

    #[test]
    fn hints_come_in_bursts_and_then_at_a_steady_rate() {
        let mut looks = Looks::default();
        let at_once = (0..100).filter(|_| looks.take(1_000) == 1_000).count();
        assert_eq!(at_once, LOOKS_BURST as usize);
        assert!(looks.take(1_000) > 1_000);
        assert_eq!(looks.take(1_000 + LOOK_EVERY_MS), 1_000 + LOOK_EVERY_MS);
    }
}
