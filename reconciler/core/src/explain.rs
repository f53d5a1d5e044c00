//! Words for plans, steps, reasons and drift. The only prose of this crate.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use driver_api::{Action, ExitStatus, Run, Step, StepFailure};
use specs::desired::{Condition, Limits};
use specs::id::Key;
use specs::units::{Bytes, CpuSet, Signal};

use crate::plan::{Await, Blocked, Class, Drift, LimitDrift, Need, Plan, Planned, Reason};

#[cfg(test)]
mod tests;

/// Returns how a run ended: `exited 0`, `killed by KILL (out of memory)`.
#[must_use]
pub fn exit(status: ExitStatus, out_of_memory: bool) -> String {
    match status {
        ExitStatus::Code(code) => format!("exited {code}"),
        ExitStatus::Signal(9) if out_of_memory => "killed by KILL (out of memory)".into(),
        ExitStatus::Signal(number) => format!("killed by {}", Signal(number)),
        ExitStatus::NotStarted(errno) => format!("not started (errno {errno})"),
        ExitStatus::Unseen => "unknown".into(),
    }
}

/// Returns how a run ended as a status says it: a kill for memory by its stable word.
#[must_use]
pub fn last_exit(run: &Run) -> String {
    let words = exit(run.status, run.oom_killed);
    if run.oom_killed {
        format!("OOMKilled, {words}")
    } else {
        words
    }
}

/// Returns what there was of memory when the kernel killed for it.
#[must_use]
pub fn memory_at_kill(peak: Option<u64>, limit: Option<Option<u64>>) -> String {
    let peak = peak.map_or_else(
        || "its most is not known".into(),
        |peak| format!("{} at most were in use", Bytes(peak)),
    );
    match limit {
        Some(Some(limit)) => format!("{peak}, the limit is {}", Bytes(limit)),
        Some(None) => format!("{peak}, it has no limit of its own"),
        None => format!("{peak}, its limit is not known"),
    }
}

/// Returns a length of time for people: `300ms`, `2.5s`, `4m`.
#[must_use]
pub fn span(ms: u64) -> String {
    match ms {
        0..1_000 => format!("{ms}ms"),
        1_000..60_000 if ms % 1_000 < 100 => format!("{}s", ms / 1_000),
        1_000..60_000 => format!("{}.{}s", ms / 1_000, ms % 1_000 / 100),
        60_000..7_200_000 => format!("{}m", ms / 60_000),
        _ => format!("{}h", ms / 3_600_000),
    }
}

/// Returns what a step does: `start server in web.3`.
#[must_use]
pub fn step(step: &Step) -> String {
    let life = format!("{}.{}", step.key, step.incarnation);
    match &step.action {
        Action::PrepareBundle(_) => format!("make the runtime directory of {life}"),
        Action::CreateCgroup(wanted) => {
            format!("make the cgroup of {life} with {}", limits(wanted))
        }
        Action::PrepareRoot(_) => format!("make the upper layer of {life}"),
        Action::StartShim(_) => format!("start the supervisor of {life}"),
        Action::AdoptInit => format!("start a new supervisor for {life}"),
        Action::WriteFiles(_) => format!("write the files of {life}"),
        Action::RaiseLoopback => format!("set the loopback link of {life} up"),
        Action::SetRules(_) => format!("set what {life} may speak to"),
        Action::PublishPorts(desired) if desired.ports.is_empty() => {
            format!("publish no port for {life}")
        }
        Action::PublishPorts(desired) => {
            let ports: Vec<String> = desired.ports.iter().map(ToString::to_string).collect();
            format!("publish {} for {life}", ports.join(", "))
        }
        Action::ConnectNetwork(_) => format!("connect {life} to the host"),
        Action::RemoveNetwork => format!("take {life} off the network"),
        Action::StartProcess { name, .. } => format!("start {name} in {life}"),
        Action::StopProcess {
            name,
            signal,
            grace,
        } => format!("send {signal} to {name} in {life}, KILL after {grace}"),
        Action::SignalProcess { name, signal, .. } => format!("send {signal} to {name} in {life}"),
        Action::ForgetProcess(name) => format!("forget {name} in {life}"),
        Action::SetLimits(wanted) => format!("set the limits of {life} to {}", limits(wanted)),
        Action::SetDisk(desired) => {
            let bytes = desired
                .disk
                .map_or_else(|| "none".into(), |bytes| bytes.to_string());
            format!("set the disk limit of {life} to {bytes}")
        }
        Action::RejoinCgroup(_) => format!("put {life} back into its cgroup"),
        Action::RestoreMount { path, .. } => format!("mount {path} of {life} again"),
        Action::CoverPath { path, .. } => format!("cover {path} of {life} again"),
        Action::KillLife => format!("kill what is left in {life}"),
        Action::KillShim => format!("kill the supervisor of {life}"),
        Action::EndShim => format!("end the supervisor of {life}"),
        Action::RemoveCgroup => format!("remove the cgroup of {life}"),
        Action::RemoveRoot => format!("remove the upper layer of {life}"),
        Action::RemoveBundle => format!("remove the runtime directory of {life}"),
    }
}

fn limits(wanted: &Limits) -> String {
    fn part<T: ToString>(name: &str, value: Option<T>) -> Option<String> {
        value.map(|value| format!("{name} {}", value.to_string()))
    }
    let swap = wanted.memory.map(|_| wanted.swap).filter(|swap| swap.0 > 0);
    let parts = [
        part("memory", wanted.memory),
        part("swap", swap),
        part("memoryLow", wanted.memory_low),
        part("cpu", wanted.cpu),
        part("cpuWeight", wanted.cpu_weight),
        part("cpuSet", wanted.cpu_set.clone().map(CpuSet)),
        part("pids", wanted.pids),
    ];
    let parts: Vec<String> = parts.into_iter().flatten().collect();
    if parts.is_empty() {
        "no limits".into()
    } else {
        parts.join(", ")
    }
}

/// Returns the word for a class of change, as the socket's protocol spells it.
#[must_use]
pub fn class(class: Class) -> &'static str {
    match class {
        Class::Live => "live",
        Class::Process => "process",
        Class::Recreate => "recreate",
        Class::Create => "create",
        Class::Repair => "repair",
        Class::Delete => "delete",
        Class::Prune => "prune",
    }
}

/// Returns why a step is planned, with its class: `repair: memory is 1Gi instead of 256Mi`.
#[must_use]
pub fn reason(reason: &Reason) -> String {
    format!("{}: {}", class(reason.class), drift(&reason.drift))
}

/// Returns a difference in words.
#[must_use]
pub fn drift(drift: &Drift) -> String {
    match drift {
        Drift::Missing => "it is not there".into(),
        Drift::Unfinished => "it is only half made".into(),
        Drift::InitDead => "its init has ended".into(),
        Drift::Changed => "its specification changed in what a container is made from".into(),
        Drift::Rebooted => "it was made before the host's last boot".into(),
        Drift::Superseded => "a newer life takes its place".into(),
        Drift::Leftover => "it is not whole and fits nothing that is wanted".into(),
        Drift::Deleted => "its specification was removed".into(),
        Drift::Orphan => "no specification wants it, and it carries our mark".into(),
        Drift::ShimGone => "its supervisor is gone".into(),
        Drift::ShimHangs => "its supervisor hangs".into(),
        Drift::CgroupGone => "its cgroup is gone".into(),
        Drift::CgroupPartial => "its cgroup is missing in some hierarchy".into(),
        Drift::InitMoved => "its init is outside its cgroup".into(),
        Drift::Limits(fields) => limit_drifts(fields),
        Drift::MountLost(path) => format!("{path} is not mounted"),
        Drift::MountMode {
            path,
            read_only: true,
        } => format!("{path} is writable"),
        Drift::MountMode {
            path,
            read_only: false,
        } => format!("{path} is read-only"),
        Drift::Exposed(path) => format!("{path} is not covered any more"),
        Drift::LoopbackDown => "its loopback link is down".into(),
        Drift::Rules(words) | Drift::Ports(words) | Drift::Link(words) => words.join(", "),
        Drift::Files(paths) => format!("{} differ from the specification", paths.join(", ")),
        Drift::ProcessMissing => "it was not started in this life".into(),
        Drift::ProcessEnded(ExitStatus::Unseen) => "it ended, nobody saw how".into(),
        Drift::ProcessEnded(status) => format!("it {}", passive(*status)),
        Drift::ProcessWanted => "it was stopped and is wanted again".into(),
        Drift::ProcessChanged => "its specification changed".into(),
        Drift::RestartAsked => "a person asked for a restart".into(),
        Drift::ProcessFiles => "files it is restarted for changed".into(),
        Drift::SignalFiles => "files it is signalled about changed".into(),
        Drift::ProcessExtra => "it is wanted no more".into(),
        Drift::Stopped => "the container shall be stopped".into(),
    }
}

fn passive(status: ExitStatus) -> String {
    match status {
        ExitStatus::Code(_) => exit(status, false),
        _ => format!("was {}", exit(status, false)),
    }
}

/// Returns limits that differ: `memory is 1Gi instead of 256Mi`.
#[must_use]
pub fn limit_drifts(fields: &[LimitDrift]) -> String {
    let one =
        |limit: &LimitDrift| format!("{} is {} instead of {}", limit.field, limit.from, limit.to);
    fields.iter().map(one).collect::<Vec<_>>().join(", ")
}

/// Returns a step and its reason in one line.
#[must_use]
pub fn planned(planned: &Planned) -> String {
    format!("{} ({})", step(&planned.step), reason(&planned.reason))
}

/// Returns what is waited for.
#[must_use]
pub fn awaited(wait: &Await) -> String {
    match wait {
        Await::ProcessEnds { name, .. } => format!("{name} to end"),
        Await::InitReady { incarnation } => format!("the init of life {incarnation} to stand"),
        Await::Backoff {
            process: Some(name),
        } => format!("the delay before {name} starts again"),
        Await::Backoff { process: None } => "the delay before a new life".into(),
        Await::Dependency {
            process,
            need,
            condition,
        } => format!("{}, for {process} to start", needed(need, *condition)),
    }
}

/// Returns what a start waits for: `process db to be healthy`.
#[must_use]
pub fn needed(need: &Need, condition: Condition) -> String {
    let what = match condition {
        Condition::Started => "to be started",
        Condition::Healthy => "to be healthy",
        Condition::Completed => "to be completed",
    };
    match need {
        Need::Process(name) => format!("process {name} {what}"),
        Need::Container(unmet) => format!("container {} {what}: {}", unmet.key, unmet.why),
    }
}

/// Returns an obstacle in one line.
#[must_use]
pub fn blocked(blocked: &Blocked) -> String {
    format!("{}: {}", blocked.on, blocked.why)
}

/// Returns a whole plan, a line each, in order.
#[must_use]
pub fn plan(plan: &Plan) -> String {
    let mut out = String::new();
    for (at, stage) in plan.stages.iter().enumerate() {
        out += &format!("stage {}\n", at + 1);
        for step in &stage.steps {
            out += &format!("  {}\n", planned(step));
        }
        for wait in &stage.awaits {
            out += &format!("  waits for {}\n", awaited(wait));
        }
    }
    for obstacle in &plan.blocked {
        out += &format!("blocked on {}\n", blocked(obstacle));
    }
    for note in &plan.notes {
        out += &format!("note: {}\n", note.0);
    }
    if out.is_empty() {
        out += "nothing to do\n";
    }
    out
}

/// Returns a step's failure in one line.
#[must_use]
pub fn failure(failure: &StepFailure) -> String {
    let hint = failure
        .hint
        .as_ref()
        .map_or_else(String::new, |hint| format!("; {hint}"));
    format!("{}: {}{hint}", failure.what, failure.cause)
}

/// Returns why an orphan is left alone.
pub(crate) fn not_pruned(key: &Key) -> String {
    format!("{key} carries our mark and is wanted by nobody known; it stays until all is listed")
}

/// Returns why a step that ends or removes something is not done.
pub(crate) fn withheld(withheld: &Step) -> String {
    format!(
        "nothing is ended or removed while the store is suspect; would {}",
        step(withheld)
    )
}

/// Returns that the policy grants something of an accepted spec no more.
pub(crate) fn withdrawn(why: &str) -> String {
    format!("not granted any more, so what runs is not made again once it ends: {why}")
}

/// Returns a difference that a suspended container keeps.
pub(crate) fn suspended_drift(would: &Planned) -> String {
    format!("suspended; would {}", planned(would))
}

/// Returns that a wanted limit cannot be had.
pub(crate) fn limit_impossible(field: &str) -> String {
    if field.starts_with("disk") {
        return "its root was made without; delete the container and apply it anew".into();
    }
    format!("this host has no control for {field}; remove the limit or enable its controller")
}

/// Returns that a limit which was not asked for is not enforced.
pub(crate) fn limit_unenforced(field: &str) -> String {
    format!("{field} is not limited: this host has no control for it")
}

/// Returns that the upper layer of a living container was taken away on the host.
pub(crate) fn upper_lost() -> String {
    "its upper layer was removed on the host; it runs on, and what it writes is lost".into()
}
