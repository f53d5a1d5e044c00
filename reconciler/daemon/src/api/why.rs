//! Why a container is as it is: one causal chain, outermost first. Pure.

use driver_api::{ContainerObserved, ExitStatus};
use rustix::io::Errno;
use specs::id::{Generation, ProcessName};
use specs::status::{Failure, ProcessStatus, Status, Truth};

use super::views::newest;
use super::wire::{ContainerView, Link, Why};
use crate::commit::Commit;
use crate::keeper::EntryView;

/// Returns the chain and its answer in one sentence.
pub(super) fn why(
    view: &ContainerView,
    entry: Option<&EntryView>,
    observed: Option<&ContainerObserved>,
    notices: &[String],
    commit: Option<&Commit>,
) -> Why {
    let status = &view.status;
    let mut chain = intent(view, entry, commit);
    if let Some(failure) = &status.last_error {
        chain.extend(failed(failure));
    }
    let ended = status
        .processes
        .iter()
        .filter(|process| process.state != "running");
    let ended: Vec<String> = ended
        .map(|process| process_words(process, entry, observed))
        .collect();
    chain.extend(ended.iter().map(|text| link("cause", text.clone())));
    let conditions = status
        .conditions
        .iter()
        .filter(|one| one.status != Truth::True);
    chain.extend(conditions.map(|one| link("cause", format!("{:?}: {}", one.kind, one.message))));
    chain.extend(
        status
            .drift
            .iter()
            .map(|drift| link("cause", drift.clone())),
    );
    let safe = notices
        .iter()
        .filter(|notice| notice.starts_with("safe mode"));
    chain.extend(safe.map(|notice| link("cause", notice.clone())));
    if let Some(at) = status.next_retry_ms {
        let at = i64::try_from(at)
            .ok()
            .and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok());
        let text = at.map_or_else(|| "soon".into(), |at| format!("next try at {at}"));
        chain.push(link("retry", text));
    }
    Why {
        summary: summary(status, entry, ended.first()),
        chain,
    }
}

fn link(kind: &str, text: String) -> Link {
    Link {
        kind: kind.into(),
        text,
    }
}

/// Returns what is wanted, and who said so.
fn intent(view: &ContainerView, entry: Option<&EntryView>, commit: Option<&Commit>) -> Vec<Link> {
    let status = &view.status;
    let mut chain = Vec::new();
    if !view.source.is_empty() {
        chain.push(link("spec", view.source.clone()));
    }
    chain.extend(commit.map(|commit| link("commit", commit_words(commit))));
    if let Some(refusal) = entry.and_then(|entry| entry.refusal.as_ref()) {
        chain.push(link(
            "cause",
            format!("the newest text is refused: {}", refusal.line),
        ));
        chain.push(link(
            "hint",
            "the last accepted spec still runs; fix the file".into(),
        ));
    }
    if status.generation > Generation(0) {
        let (newest, observed) = (status.generation, status.observed_generation);
        let text = match newest == observed {
            true => format!("generation {newest}"),
            false => format!("generation {newest}; what is said below is of {observed}"),
        };
        chain.push(link("generation", text));
    }
    if let Some(order) = &status.override_note {
        let text = format!("{order} by order; `start` or `resume` ends it");
        chain.push(link("override", text));
    }
    chain
}

fn commit_words(commit: &Commit) -> String {
    let Commit {
        id, author, date, ..
    } = commit;
    let edited = if commit.is_edited {
        "; the file was edited since"
    } else {
        ""
    };
    format!("{id} by {author} on {date}: {}{edited}", commit.subject)
}

fn failed(failure: &Failure) -> Vec<Link> {
    let errno = failure
        .errno
        .map(|errno| format!(" (errno {errno})"))
        .unwrap_or_default();
    let cause = format!("{}{errno}; {} tries", failure.cause, failure.attempts);
    let mut chain = vec![
        link("step", format!("{}: {}", failure.step, failure.what)),
        link("cause", cause),
    ];
    chain.extend(failure.hint.iter().map(|hint| link("hint", hint.clone())));
    chain
}

/// Returns why a process does not run; of its command only the program, for arguments may
/// be nobody's business.
fn process_words(
    process: &ProcessStatus,
    entry: Option<&EntryView>,
    observed: Option<&ContainerObserved>,
) -> String {
    let name = &process.name;
    let wanted = entry.and_then(|entry| entry.desired.processes.get(name));
    let program = wanted.and_then(|wanted| wanted.command.first());
    if let Some(errno) = observed.and_then(|observed| not_started(observed, name)) {
        let program = program.map_or("its program", String::as_str);
        let cause = Errno::from_raw_os_error(errno);
        return format!("process {name}: {program} could not be started: {cause}");
    }
    if !process.waits_for.is_empty() {
        return format!(
            "process {name}: waits for {}",
            process.waits_for.join(", and for ")
        );
    }
    let exit = process.last_exit.as_deref().unwrap_or("never ran");
    format!("process {name}: {}, {exit}", process.state)
}

fn not_started(observed: &ContainerObserved, name: &ProcessName) -> Option<i32> {
    let processes = newest(observed)?.processes.known()?;
    match processes.get(name)?.last_exit?.status {
        ExitStatus::NotStarted(errno) => Some(errno),
        ExitStatus::Code(_) | ExitStatus::Signal(_) | ExitStatus::Unseen => None,
    }
}

fn summary(status: &Status, entry: Option<&EntryView>, ended: Option<&String>) -> String {
    let (key, phase) = (&status.key, format!("{:?}", status.phase));
    let false_one = status
        .conditions
        .iter()
        .find(|one| one.status != Truth::True);
    let refusal = entry.and_then(|entry| entry.refusal.as_ref());
    let because = match (&status.last_error, false_one, refusal) {
        (Some(failure), _, _) => format!("{} failed: {}", failure.step, failure.cause),
        (None, Some(condition), _) => match ended {
            Some(process) => format!("{}; {process}", condition.message),
            None => condition.message.clone(),
        },
        (None, None, Some(refusal)) => refusal.line.clone(),
        (None, None, None) => return format!("{key} is {phase}, as it should be"),
    };
    format!("{key} is {phase}: {because}")
}
