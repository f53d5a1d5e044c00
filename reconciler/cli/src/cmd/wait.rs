//! Waiting until containers are settled, or cannot go on without a person.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressFinish, ProgressStyle};
use reconciler_daemon::api::wire::{ContainerView, List, Version};
use specs::id::Key;
use specs::status::{ConditionKind, Phase, Status, Truth};

use super::{Exit, Failure, Session, now_ms};
use crate::args::WaitArgs;
use crate::client::{Client, Next};
use crate::render::paint::Tone;
use crate::render::{escape, status};

/// How often the waiting looks at the clock and redraws.
const TICK: Duration = Duration::from_millis(100);
/// After an order: how long everything must stay settled. The daemon answers an order once
/// it is durable; the first status that speaks of it follows within a round.
const QUIET_AFTER_ORDER: Duration = Duration::from_millis(500);

/// What to wait for.
pub(crate) struct Goal<'a> {
    /// Which containers count.
    pub(crate) wanted: &'a dyn Fn(&Key) -> bool,
    /// Names that must be there.
    pub(crate) names: &'a [Key],
    /// An order was just given: a settled status may be older than it.
    pub(crate) after_order: bool,
}

/// How the waiting ended.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Found {
    /// Not settled when the time was over, each with its state in words.
    pub(crate) late: Vec<(Key, String)>,
    /// Cannot go on without a person, each with its state in words.
    pub(crate) stuck: Vec<(Key, String)>,
    /// Names that nobody has heard of.
    pub(crate) unknown: Vec<Key>,
}

/// Waits. Containers that come while it waits count too; those that go count no more.
///
/// # Errors
/// When the daemon gives no answer or its stream ends.
pub(crate) fn wait(
    session: &Session,
    client: &Client,
    goal: &Goal<'_>,
    timeout: Duration,
) -> Result<Found, Failure> {
    let begin = Instant::now();
    let bar = progress(session);
    wait_until_ready(client, &bar, begin, timeout)?;
    // The stream is opened before the list is asked for: no change falls between the two.
    let mut lines = client.lines("/watch")?;
    let list: List = client.get("/containers")?;
    let all = list
        .containers
        .into_iter()
        .map(|view| (view.status.key.clone(), view.status));
    let mut known: BTreeMap<Key, Status> = all.filter(|(key, _)| (goal.wanted)(key)).collect();
    let mut settled_since: Option<Instant> = None;
    let quiet = if goal.after_order {
        QUIET_AFTER_ORDER
    } else {
        Duration::ZERO
    };
    loop {
        let complete = goal.names.iter().all(|name| known.contains_key(name));
        if complete && known.values().all(is_at_rest) {
            if settled_since.get_or_insert_with(Instant::now).elapsed() >= quiet {
                break;
            }
        } else {
            settled_since = None;
        }
        if begin.elapsed() >= timeout {
            break;
        }
        show(&bar, &known, goal);
        let left = timeout.saturating_sub(begin.elapsed());
        match lines.next(TICK.min(left))? {
            Next::Line(line) => {
                let view: ContainerView = serde_json::from_str(&line).map_err(Failure::Line)?;
                if (goal.wanted)(&view.status.key) {
                    settled_since = None;
                    if view.gone {
                        known.remove(&view.status.key);
                    } else {
                        known.insert(view.status.key.clone(), view.status);
                    }
                }
            }
            Next::Quiet => {}
            Next::End => return Err(Failure::Ended),
        }
    }
    bar.finish_and_clear();
    Ok(found(&known, goal))
}

/// With `--wait`, waits until these are settled after an order, and tells what was not reached.
///
/// # Errors
/// When the daemon gives no answer, or standard output takes nothing.
pub(crate) fn settle(
    session: &mut Session,
    client: &Client,
    names: &[Key],
    args: &WaitArgs,
) -> Result<Exit, Failure> {
    if !args.wait {
        return Ok(Exit::Done);
    }
    let goal = Goal {
        wanted: &|key| names.contains(key),
        names,
        after_order: true,
    };
    let found = wait(session, client, &goal, args.timeout.0)?;
    Ok(report(session, &found)?.unwrap_or(Exit::Done))
}

/// Waits until nobody knows these names any more; returns those that are left.
///
/// # Errors
/// When the daemon gives no answer.
pub(crate) fn until_gone(
    session: &Session,
    client: &Client,
    names: &[Key],
    timeout: Duration,
) -> Result<Vec<Key>, Failure> {
    let begin = Instant::now();
    let bar = progress(session);
    loop {
        let list: List = client.get("/containers")?;
        let known = |name: &&Key| list.containers.iter().any(|view| view.status.key == **name);
        let left: Vec<Key> = names.iter().filter(known).cloned().collect();
        if left.is_empty() || begin.elapsed() >= timeout {
            bar.finish_and_clear();
            return Ok(left);
        }
        bar.set_message(format!("{} to go", left.len()));
        bar.tick();
        std::thread::sleep(TICK);
    }
}

/// Waits until the daemon has read all it was given: before that, "nothing is left to do" is
/// true of whatever it has not read yet.
fn wait_until_ready(
    client: &Client,
    bar: &ProgressBar,
    begin: Instant,
    timeout: Duration,
) -> Result<(), Failure> {
    loop {
        let version: Version = client.get("/version")?;
        if version.ready {
            return Ok(());
        }
        if begin.elapsed() >= timeout {
            return Err(Failure::NotReady);
        }
        bar.set_message("the daemon is starting");
        bar.tick();
        std::thread::sleep(TICK);
    }
}

/// Tells what was not reached. Returns the exit code for it; none if all was.
///
/// # Errors
/// When standard output takes nothing.
pub(crate) fn report(session: &mut Session, found: &Found) -> Result<Option<Exit>, Failure> {
    let paint = session.out.paint;
    for (key, state) in &found.late {
        let mark = paint.put(Tone::Warn, "not settled in time:");
        session.out.line(&format!(
            "{mark} {key} is {state}; `reconciler why {key}` tells more"
        ))?;
    }
    for (key, state) in &found.stuck {
        let mark = paint.put(Tone::Bad, "needs a person:");
        session.out.line(&format!(
            "{mark} {key} is {state}; `reconciler why {key}` tells more"
        ))?;
    }
    if let Some(name) = found.unknown.first() {
        return Err(Failure::NoSuchName(name.clone()));
    }
    let reached = found.late.is_empty() && found.stuck.is_empty();
    Ok((!reached).then_some(Exit::NotActive))
}

/// Whether nothing is left to do for the newest generation.
fn is_settled(status: &Status) -> bool {
    let holds = |one: &specs::status::Condition| {
        one.kind == ConditionKind::Settled && one.status == Truth::True
    };
    status.observed_generation == status.generation && status.conditions.iter().any(holds)
}

/// Whether only a person can bring it further.
fn is_stuck(status: &Status) -> bool {
    matches!(status.phase, Phase::Failed | Phase::Invalid)
}

fn is_at_rest(status: &Status) -> bool {
    is_settled(status) || is_stuck(status)
}

fn found(known: &BTreeMap<Key, Status>, goal: &Goal<'_>) -> Found {
    let words = |status: &Status| {
        let (_, text) = status::state(status, now_ms());
        (status.key.clone(), text)
    };
    let unknown = goal
        .names
        .iter()
        .filter(|name| !known.contains_key(*name))
        .cloned();
    Found {
        late: known
            .values()
            .filter(|status| !is_at_rest(status))
            .map(words)
            .collect(),
        stuck: known
            .values()
            .filter(|status| is_stuck(status))
            .map(words)
            .collect(),
        unknown: unknown.collect(),
    }
}

fn progress(session: &Session) -> ProgressBar {
    // Also when the waiting ends in an error, nothing of it stays on the terminal.
    let bar = ProgressBar::new_spinner().with_finish(ProgressFinish::AndClear);
    if !session.shows_progress {
        bar.set_draw_target(ProgressDrawTarget::hidden());
    }
    if let Ok(style) = ProgressStyle::with_template("{spinner} {wide_msg} {elapsed}") {
        bar.set_style(style);
    }
    bar
}

fn show(bar: &ProgressBar, known: &BTreeMap<Key, Status>, goal: &Goal<'_>) {
    if bar.is_hidden() {
        return;
    }
    let busy = known.values().filter(|status| !is_at_rest(status));
    let mut words: Vec<String> = busy
        .map(|status| format!("{} {}", status.key, status::state(status, now_ms()).1))
        .collect();
    let done = known.len().saturating_sub(words.len());
    let absent = goal.names.iter().filter(|name| !known.contains_key(*name));
    words.extend(absent.map(|name| format!("{name} not known yet")));
    let text = format!("{done}/{} settled  {}", known.len(), words.join(", "));
    bar.set_message(escape::line(&text).into_owned());
    bar.tick();
}
