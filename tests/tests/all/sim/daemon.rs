//! A shell around the machine that does everything a shell must not count on: late, out of
//! order between containers, and dead in the middle.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use driver_api::{Action, Deadline, Driver, Scope, Step};
use driver_sim::{Chances, Hand, Ratio, Rng, SimHost, check};
use reconciler_core::explain;
use reconciler_core::io::{Cause, Effect, Input, Intent, Mode, Now, Record};
use reconciler_core::machine::{Machine, MachineConfig};
use reconciler_core::order::is_destructive;
use specs::desired::{Desired, Run};
use specs::event::KillsTold;
use specs::id::{Generation, Incarnation, Key};
use specs::status::{ConditionKind, Truth};
use specs::units::Millis;

use super::wanted;

/// Things that happen in the wild phase.
const WILD_STEPS: u64 = 260;
/// Virtual time in which everything must be settled once nothing fails any more. The
/// longest delay is that of an error only a person can mend: 5 minutes.
const SETTLE_MS: u64 = 8 * 60_000;
/// Virtual time that must pass without a step after that.
const QUIET_MS: u64 = 2 * 60_000;
/// Steps that one container may need once nothing fails: two lives ended, one made.
const STEPS_MAX: u64 = 60;
/// Effects of all containers in one such time: a look each 15 s and what is to do.
const EFFECTS_MAX: u64 = 3_000;
const NO_DEADLINE: Deadline = Deadline { at_ms: u64::MAX };

/// What a store would hold.
#[derive(Debug, Default)]
pub(crate) struct Store {
    pub(crate) intents: BTreeMap<Key, Intent>,
    pub(crate) lives: BTreeMap<(Key, Incarnation), Generation>,
    /// How far kills for memory were told.
    pub(crate) kills_told: BTreeMap<(Key, Incarnation), KillsTold>,
    pub(crate) highest: Incarnation,
    used: BTreeSet<Incarnation>,
    generations: u64,
    append_fails: Option<Ratio>,
}

impl Store {
    pub(crate) fn fail_appends(&mut self, ratio: Ratio) {
        self.append_fails = Some(ratio);
    }
}

pub(crate) struct Daemon {
    rng: Rng,
    pub(crate) host: SimHost,
    pub(crate) machine: Machine,
    pub(crate) store: Store,
    mode: Mode,
    pub(crate) effects: Vec<Effect>,
    /// Done, and not yet told to the machine.
    answers: Vec<(Option<Scope>, Input)>,
    told: bool,
    pub(crate) executes: u64,
    executes_of: BTreeMap<Key, u64>,
    pub(crate) events: Vec<(Option<Key>, &'static str, String)>,
    /// Delays asked for: container, process, attempt.
    pub(crate) delays: Vec<(Key, Option<String>, u32)>,
    faults: Vec<String>,
    /// Nothing of this container is ever answered.
    pub(crate) stuck: Option<Key>,
    /// Looks asked for.
    pub(crate) looks: u64,
    /// Statuses and events published.
    pub(crate) published: u64,
}

fn config(store: &Store, mode: Mode) -> MachineConfig {
    MachineConfig {
        concurrency: 3,
        resync: Millis(30_000),
        retry_initial: Millis(250),
        retry_max: Millis(60_000),
        next_incarnation: store.highest.next(),
        lives: store
            .lives
            .iter()
            .map(|((key, incarnation), generation)| (key.clone(), *incarnation, *generation))
            .collect(),
        kills_told: store.kills_told.clone(),
        mode,
    }
}

impl Daemon {
    pub(crate) fn new(seed: u64, told: bool) -> Self {
        let mut rng = Rng::new(seed);
        let host = SimHost::new(rng.next_u64());
        let store = Store::default();
        let mode = Mode {
            destroy: true,
            prune: true,
        };
        let mut daemon = Self {
            machine: Machine::new(config(&store, mode)),
            rng,
            host,
            store,
            mode,
            effects: Vec::new(),
            answers: Vec::new(),
            told,
            executes: 0,
            executes_of: BTreeMap::new(),
            events: Vec::new(),
            delays: Vec::new(),
            faults: Vec::new(),
            stuck: None,
            looks: 0,
            published: 0,
        };
        daemon.boot();
        daemon
    }

    fn say(&self, what: impl FnOnce() -> String) {
        if self.told {
            println!("{}", what());
        }
    }

    fn now(&self) -> Now {
        let boot_ms = self.host.world().clock_ms;
        Now {
            boot_ms,
            wall_ms: 1_700_000_000_000 + boot_ms,
        }
    }

    /// Begins anew, from what the store holds.
    pub(crate) fn boot(&mut self) {
        self.effects.clear();
        self.answers.clear();
        self.host.daemon_died();
        self.machine = Machine::new(config(&self.store, self.mode));
        let heads = self.store.intents.iter();
        let heads = heads
            .map(|(key, intent)| (key.clone(), intent.clone()))
            .collect();
        self.give(Input::Mode(self.mode));
        self.give(Input::Intents(heads));
        self.give(Input::Woke {
            key: None,
            cause: Cause::Boot,
        });
    }

    /// Hands an input to the machine and takes what comes out.
    pub(crate) fn give(&mut self, input: Input) {
        let now = self.now();
        self.machine.input(input, now);
        while let Some(effect) = self.machine.poll_effect() {
            self.issued(effect);
        }
    }

    fn desired(&self, key: &Key) -> Option<Arc<Desired>> {
        match self.store.intents.get(key) {
            Some(Intent::Present(wanted)) => Some(wanted.desired.clone()),
            _ => None,
        }
    }

    fn fault(&mut self, what: String) {
        self.faults.push(what);
    }

    fn issued(&mut self, effect: Effect) {
        match &effect {
            Effect::Execute { step, .. } => self.may_issue(step),
            Effect::Publish { status, events } => {
                self.published += 1;
                if let Some(status) = status {
                    self.say(|| format!("    {} is {:?}", status.key, status.phase));
                }
                for event in events {
                    self.say(|| format!("    event {} {}", event.reason, event.message));
                    let event = event.clone();
                    if let (Some(key), Some((life, told))) = (&event.key, event.kills_told) {
                        self.store.kills_told.insert((key.clone(), life), told);
                    }
                    self.events.push((event.key, event.reason, event.message));
                }
                return;
            }
            Effect::Forget(key) => {
                self.say(|| format!("    forget {key}"));
                return;
            }
            Effect::Observe { .. } => self.looks += 1,
            Effect::Append { .. } | Effect::ScheduleRetry { .. } => {}
        }
        self.effects.push(effect);
    }

    /// The laws that hold at the moment a step is decided.
    fn may_issue(&mut self, step: &Step) {
        let words = explain::step(step);
        self.executes += 1;
        *self.executes_of.entry(step.key.clone()).or_default() += 1;
        let head = self.desired(&step.key);
        if head.as_ref().is_some_and(|head| head.suspend) {
            self.fault(format!("suspended, yet: {words}"));
        }
        let destructive = is_destructive(&step.action);
        if destructive && !self.mode.destroy {
            self.fault(format!("nothing may be destroyed, yet: {words}"));
        }
        let gone = !self.store.intents.contains_key(&step.key);
        if gone && !self.mode.prune {
            self.fault(format!("nothing may be pruned, yet: {words}"));
        }
        let planned_for = match &step.action {
            Action::PrepareBundle(desired)
            | Action::PrepareRoot(desired)
            | Action::StartShim(desired)
            | Action::WriteFiles(desired)
            | Action::StartProcess { desired, .. }
            | Action::RestoreMount { desired, .. }
            | Action::CoverPath { desired, .. } => Some(desired.generation),
            _ => None,
        };
        let newest = head.as_ref().map(|head| head.generation);
        if planned_for.is_some() && planned_for != newest {
            self.fault(format!(
                "planned for {planned_for:?} while {newest:?} is wanted: {words}"
            ));
        }
        if let Action::StartProcess { desired, .. } = &step.action {
            for (on, condition) in &desired.depends_on {
                let seen = self.desired(on).is_some_and(|head| {
                    check::container_was_seen(&self.host.world(), on, &head, *condition)
                });
                if !seen {
                    let condition = condition.as_str();
                    self.fault(format!("{on} was not seen {condition}, yet: {words}"));
                }
            }
        }
        let harm = check::collateral(&self.host.world(), step, head.as_deref());
        self.faults.extend(harm);
        if !self
            .store
            .lives
            .contains_key(&(step.key.clone(), step.incarnation))
        {
            self.fault(format!("no record is durable before: {words}"));
        }
    }

    /// Does one effect; its answer waits to be delivered.
    fn perform(&mut self, at: usize) {
        let effect = self.effects.swap_remove(at);
        let answer = match effect {
            Effect::Observe { ticket, scope } => {
                let observed = self.host.observe(&scope, NO_DEADLINE);
                (Some(scope), Input::Observed(ticket, Box::new(observed)))
            }
            Effect::Execute { ticket, step } => {
                let result = self.host.execute(&step, NO_DEADLINE);
                self.say(|| format!("  {} => {}", explain::step(&step), result_words(&result)));
                (None, Input::Executed(ticket, result))
            }
            Effect::Append { ticket, record } => {
                let result = self.append(&record);
                self.say(|| format!("  {record:?} => {result:?}"));
                (None, Input::Appended(ticket, result))
            }
            Effect::ScheduleRetry {
                key,
                process,
                attempt,
                initial,
                max,
            } => {
                let name = process.as_ref().map(ToString::to_string);
                self.delays.push((key.clone(), name, attempt));
                let doubled = initial
                    .0
                    .saturating_mul(1 << attempt.saturating_sub(1).min(20));
                let delay = Millis(doubled.min(max.0));
                (
                    None,
                    Input::RetryAt {
                        key,
                        process,
                        delay,
                    },
                )
            }
            Effect::Publish { .. } | Effect::Forget(_) => return,
        };
        self.answers.push(answer);
        let violations = std::mem::take(&mut self.host.world().violations);
        self.faults.extend(violations);
    }

    fn append(&mut self, record: &Record) -> Result<(), String> {
        let fails = self
            .store
            .append_fails
            .is_some_and(|ratio| self.rng.chance(ratio));
        if fails && self.rng.below(2) == 0 {
            return Err("no space left on device".into());
        }
        let mut world = self.host.world();
        match record {
            Record::LifeBegins {
                key,
                incarnation,
                generation,
            } => {
                let id = (key.clone(), *incarnation);
                let used = !self.store.used.insert(*incarnation);
                if used && !world.lives.contains_key(&id) {
                    world.violated(format!("{key}.{incarnation} is not a new life"));
                }
                self.store.highest = self.store.highest.max(*incarnation);
                self.store.lives.insert(id.clone(), *generation);
                world.records.insert(id);
            }
            Record::LifeEnded { key, incarnation } => {
                let id = (key.clone(), *incarnation);
                if world.lives.contains_key(&id) {
                    world.violated(format!("{key}.{incarnation} lost its record while there"));
                }
                self.store.lives.remove(&id);
                world.records.remove(&id);
            }
            Record::Cleaned { key } => {
                if world.lives.keys().any(|(of, _)| of == key) {
                    world.violated(format!("{key} is said to be clean and is not"));
                }
                drop(world);
                if matches!(self.store.intents.get(key), Some(Intent::Deleted { .. })) {
                    self.store.intents.remove(key);
                    let gone = Input::Intents(vec![(key.clone(), Intent::Gone)]);
                    self.answers.push((None, gone));
                }
            }
        }
        if fails {
            Err("the answer was lost".into())
        } else {
            Ok(())
        }
    }

    fn deliver(&mut self, at: usize) {
        let (scope, input) = self.answers.swap_remove(at);
        if let (Some(scope), Input::Observed(_, observed)) = (&scope, &input) {
            self.host.delivered(scope, observed);
        }
        if let Input::Intents(changed) = &input {
            // Another specification of that name may have come meanwhile.
            if changed
                .iter()
                .any(|(key, _)| self.store.intents.contains_key(key))
            {
                return;
            }
        }
        self.give(input);
    }

    pub(crate) fn verdict(&self) -> Result<(), String> {
        match self.faults.first() {
            None => Ok(()),
            Some(fault) => Err(fault.clone()),
        }
    }

    fn edit(&mut self) {
        let key = wanted::key(wanted::KEYS[self.rng.index(wanted::KEYS.len())]);
        self.store.generations += 1;
        let generation = self.store.generations;
        let intent = match (self.store.intents.get(&key), self.rng.below(5)) {
            (Some(Intent::Present(wanted)), 0) => {
                let last = (self.rng.below(4) > 0).then(|| wanted.desired.clone());
                Intent::Deleted { last }
            }
            (Some(Intent::Present(wanted)), 1 | 2) => {
                // A small edit.
                let mut desired = (*wanted.desired).clone();
                let other = wanted::any(&mut self.rng, &key, generation);
                desired.generation = other.generation;
                match self.rng.below(8) {
                    6 => desired.depends_on = other.depends_on,
                    0 => {
                        desired.limits = other.limits;
                        desired.disk = desired.disk.and(other.disk).or(desired.disk);
                    }
                    1 => desired.files = other.files,
                    2 => desired.processes = other.processes,
                    3 => desired.run = other.run,
                    4 => desired.suspend = !desired.suspend,
                    5 => desired.restart_epoch += 1,
                    _ => desired.labels = [("a".into(), "b".into())].into(),
                }
                wanted::intent(desired)
            }
            _ => wanted::intent(wanted::any(&mut self.rng, &key, generation)),
        };
        self.want(key, intent);
    }

    pub(crate) fn want(&mut self, key: Key, intent: Intent) {
        self.say(|| format!("want {key}: {}", intent_words(&intent)));
        match &intent {
            Intent::Gone => self.store.intents.remove(&key),
            intent => self.store.intents.insert(key.clone(), intent.clone()),
        };
        self.give(Input::Intents(vec![(key, intent)]));
    }

    fn happen(&mut self) {
        match self.rng.below(100) {
            0..40 if !self.effects.is_empty() => {
                let at = self.rng.index(self.effects.len());
                self.perform(at);
            }
            40..75 if !self.answers.is_empty() => {
                let at = self.rng.index(self.answers.len());
                self.deliver(at);
            }
            75..84 => {
                let ms = [1, 20, 300, 5_000][self.rng.index(4)];
                let hint = self.rng.below(2) == 0;
                self.elapse(ms, hint);
            }
            84..92 => {
                let hand = Hand::SMALL[self.rng.index(Hand::SMALL.len())];
                let hit = self.host.world().lay(hand);
                self.hint(hand, hit);
            }
            92..96 => self.edit(),
            96 => self.die(),
            97 if self.rng.below(4) == 0 => {
                self.host.world().lay(Hand::Reboot);
                self.say(|| "reboot".into());
                self.boot();
            }
            98 if self.rng.below(3) == 0 => {
                let mode = Mode {
                    destroy: self.rng.below(2) == 0,
                    prune: self.rng.below(2) == 0,
                };
                self.mode = mode;
                self.give(Input::Mode(mode));
            }
            99 => {
                let cause = [Cause::Person, Cause::Wake][self.rng.index(2)];
                let key =
                    (self.rng.below(2) == 0).then(|| wanted::key(wanted::KEYS[self.rng.index(4)]));
                self.give(Input::Woke { key, cause });
            }
            _ => {
                self.elapse(7, false);
            }
        }
    }

    /// Lets time pass; what ends by itself wakes its container, unless the hint is lost.
    fn elapse(&mut self, ms: u64, hint: bool) {
        let changed = self.host.world().advance(ms);
        self.give(Input::Tick);
        for key in changed {
            if hint {
                self.give(Input::Woke {
                    key: Some(key),
                    cause: Cause::Wake,
                });
            }
        }
    }

    fn hint(&mut self, hand: Hand, hit: Option<Key>) {
        self.say(|| format!("{hand:?} on {hit:?}"));
        // Hints get lost.
        if let (Some(key), true) = (hit, self.rng.below(2) == 0) {
            self.give(Input::Woke {
                key: Some(key),
                cause: Cause::Wake,
            });
        }
    }

    /// The daemon is killed. What it had handed out may or may not still be done.
    fn die(&mut self) {
        self.say(|| "the daemon dies".into());
        while !self.effects.is_empty() && self.rng.below(2) == 0 {
            let at = self.rng.index(self.effects.len());
            self.perform(at);
        }
        // Of a cleaned key the store knows, though the machine was not told.
        self.boot();
    }

    /// Everything that chance draws.
    pub(crate) fn wild(&mut self) -> Result<(), String> {
        let chances = Chances::draw(&mut self.rng);
        self.host.set_chances(chances);
        let fails = Ratio {
            hits: u32::try_from(self.rng.below(30)).unwrap_or(0),
            of: 100,
        };
        self.store.append_fails = (self.rng.below(2) == 0).then_some(fails);
        self.say(|| format!("{chances:?} append {fails:?}"));
        for _ in 0..3 {
            self.edit();
        }
        for _ in 0..WILD_STEPS {
            self.happen();
            self.verdict()?;
        }
        Ok(())
    }

    /// Nothing fails any more.
    pub(crate) fn calm(&mut self) -> Result<(), String> {
        self.say(|| "calm".into());
        self.host.set_chances(Chances::none());
        self.host.world().calm = true;
        self.store.append_fails = None;
        self.mode = Mode {
            destroy: true,
            prune: true,
        };
        self.give(Input::Mode(self.mode));
        let keys: BTreeSet<Key> = self.store.intents.keys().cloned().collect();
        for key in keys {
            if let Some(desired) = self.desired(&key).filter(|desired| desired.suspend) {
                let mut desired = (*desired).clone();
                desired.suspend = false;
                self.store.generations += 1;
                desired.generation = Generation(self.store.generations);
                self.want(key, wanted::intent(desired));
            }
        }
        if self.rng.below(2) == 0 {
            self.die();
        }
        self.executes_of.clear();
        self.pass(SETTLE_MS)?;
        if let Some((key, steps)) = self.executes_of.iter().find(|(_, n)| **n > STEPS_MAX) {
            return Err(format!("{key} took {steps} steps to settle"));
        }
        let inits = check::inits(&self.host.world());
        let before = self.executes;
        self.pass(QUIET_MS)?;
        if self.executes != before {
            return Err(format!(
                "{} steps after all was settled",
                self.executes - before
            ));
        }
        if check::inits(&self.host.world()) != inits {
            return Err("an init changed after all was settled".into());
        }
        self.is_as_wanted()
    }

    /// Lets virtual time pass, with every effect done and answered at once.
    pub(crate) fn pass(&mut self, ms: u64) -> Result<(), String> {
        let until = self.host.world().clock_ms + ms;
        let mut done = 0;
        loop {
            loop {
                let free = self
                    .effects
                    .iter()
                    .position(|effect| !self.is_stuck(effect));
                if let Some(at) = free {
                    let effect = self.effects.remove(at);
                    self.effects.push(effect);
                    self.perform(self.effects.len() - 1);
                    done += 1;
                } else if self.answers.is_empty() {
                    break;
                } else {
                    self.deliver(0);
                }
                if done > EFFECTS_MAX {
                    return Err("it is busy without an end".into());
                }
                self.verdict()?;
            }
            let now = self.host.world().clock_ms;
            let due = self.machine.poll_timeout().unwrap_or(until).min(until);
            if due >= until && now >= until {
                return Ok(());
            }
            let due = self.host.world().next_change().unwrap_or(due).min(due);
            self.elapse(due.saturating_sub(now).max(1), true);
            self.verdict()?;
        }
    }

    /// A container that this one waits for is not as it needs it.
    fn is_held(&self, desired: &Desired) -> bool {
        let world = self.host.world();
        let is = |on: &Key, condition| {
            let head = self.desired(on);
            head.is_some_and(|head| check::container_is(&world, on, &head, condition))
        };
        let mut needs = desired.depends_on.iter();
        needs.any(|(on, condition)| !is(on, *condition))
    }

    fn is_stuck(&self, effect: &Effect) -> bool {
        let key = match effect {
            Effect::Observe {
                scope: Scope::Container(key),
                ..
            } => Some(key),
            Effect::Execute { step, .. } => Some(&step.key),
            _ => None,
        };
        key.is_some() && key == self.stuck.as_ref()
    }

    /// The world is what is wanted, and people are told so.
    pub(crate) fn is_as_wanted(&self) -> Result<(), String> {
        let mut keys: BTreeSet<Key> = self.store.intents.keys().cloned().collect();
        keys.extend(self.host.world().lives.keys().map(|(key, _)| key.clone()));
        for key in keys {
            let desired = self.desired(&key);
            let held = desired
                .as_ref()
                .is_some_and(|desired| self.is_held(desired));
            check::matches(&self.host.world(), &key, desired.as_deref(), held)?;
            let Some(desired) = desired else {
                return Err(format!("{key} is still to be cleaned"));
            };
            let status = self
                .machine
                .status(&key)
                .ok_or_else(|| format!("{key}: no status"))?;
            let settled = status
                .conditions
                .iter()
                .find(|one| one.kind == ConditionKind::Settled);
            let settled = settled.ok_or("there is no condition Settled")?;
            if check::waits(&self.host.world(), &key, &desired, held) {
                if settled.status == Truth::True {
                    return Err(format!("{key} waits and is told to be settled"));
                }
                continue;
            }
            if settled.status != Truth::True || settled.generation != desired.generation {
                return Err(format!("{key} is not told to be settled: {settled:?}"));
            }
            let healthy = status
                .conditions
                .iter()
                .find(|one| one.kind == ConditionKind::Healthy);
            let fails = check::rests_badly(&self.host.world(), &key);
            if desired.run == Run::Running && !fails {
                let truth = healthy.map(|one| one.status);
                if truth != Some(Truth::True) || status.last_error.is_some() {
                    return Err(format!("{key} is not told to be healthy: {status:?}"));
                }
            }
        }
        let world = self.host.world();
        let recorded: BTreeSet<_> = self.store.lives.keys().collect();
        if recorded != world.lives.keys().collect() {
            return Err(format!("records {recorded:?} are not what is on the host"));
        }
        Ok(())
    }
}

fn result_words(result: &Result<driver_api::Outcome, driver_api::StepError>) -> String {
    match result {
        Ok(outcome) => format!("{outcome:?}"),
        Err(error) => format!("{error:?}"),
    }
}

fn intent_words(intent: &Intent) -> String {
    match intent {
        Intent::Present(wanted) => {
            let desired = &wanted.desired;
            let names: Vec<_> = desired
                .processes
                .iter()
                .map(|(name, process)| format!("{name}={}", process.command[0]))
                .collect();
            format!(
                "generation {} {:?} suspend {} epoch {} host {} {:?} {names:?} files {}",
                desired.generation,
                desired.run,
                desired.suspend,
                desired.restart_epoch,
                desired.container.hostname,
                desired.container.rootfs.writable,
                desired.files.len(),
            )
        }
        Intent::Deleted { .. } => "deleted".into(),
        Intent::Gone => "gone".into(),
    }
}
