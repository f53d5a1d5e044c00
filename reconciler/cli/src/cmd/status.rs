//! `reconciler status`.

use std::cell::RefCell;

use reconciler_daemon::api::wire::{ContainerView, Detail, List};
use serde::Serialize;
use specs::id::Key;
use specs::status::{ConditionKind, Phase, Status, Truth};

use super::follow::{Ended, follow};
use super::wait::{self, Goal};
use super::{Exit, Failure, Session};
use crate::args::{ListFormat, StatusArgs};
use crate::client::{Client, with_query};
use crate::cmd::target::Selector;
use crate::render::{escape, status};

/// Lists containers, or tells of one.
///
/// # Errors
/// When the daemon gives no answer, or standard output takes nothing.
pub(crate) fn status(session: &mut Session, args: &StatusArgs) -> Result<Exit, Failure> {
    let client = session.client()?;
    if args.watch {
        return watch(session, &client, args);
    }
    if args.wait.wait {
        let selected = selected_names(&client, args)?;
        let wanted = |key: &Key| selected.as_ref().is_none_or(|names| names.contains(key));
        let names = args.name.as_slice();
        let goal = Goal {
            wanted: &wanted,
            names,
            after_order: false,
        };
        let found = wait::wait(session, &client, &goal, args.wait.timeout.0)?;
        let late = wait::report(session, &found)?;
        let (exit, active) = print_now(session, &client, args)?;
        return Ok(late.unwrap_or(if active { exit } else { Exit::NotActive }));
    }
    print_now(session, &client, args).map(|(exit, _)| exit)
}

/// Whether a container does what it is there for.
pub(crate) fn is_active(status: &Status) -> bool {
    match status.phase {
        Phase::Running | Phase::Updating | Phase::Completed => true,
        // Left as it is: what it is tells the condition.
        Phase::Suspended => status
            .conditions
            .iter()
            .any(|one| one.kind == ConditionKind::Running && one.status == Truth::True),
        Phase::Pending
        | Phase::Starting
        | Phase::Waiting
        | Phase::Degraded
        | Phase::Stopping
        | Phase::Stopped
        | Phase::Backoff
        | Phase::Failed
        | Phase::Invalid
        | Phase::Unknown => false,
    }
}

/// The names that a selector means now; none when all are meant.
fn selected_names(client: &Client, args: &StatusArgs) -> Result<Option<Vec<Key>>, Failure> {
    if let Some(name) = &args.name {
        return Ok(Some(vec![name.clone()]));
    }
    let Some(selector) = &args.selector else {
        return Ok(None);
    };
    let list = list(client, Some(selector))?;
    Ok(Some(
        list.containers
            .into_iter()
            .map(|view| view.status.key)
            .collect(),
    ))
}

fn list(client: &Client, selector: Option<&Selector>) -> Result<List, Failure> {
    let selector = selector.and_then(Selector::to_query);
    Ok(client.get(&with_query("/containers", &[("selector", selector)]))?)
}

/// Prints once. Returns the exit code and whether all that was printed is active.
fn print_now(
    session: &mut Session,
    client: &Client,
    args: &StatusArgs,
) -> Result<(Exit, bool), Failure> {
    let Some(name) = &args.name else {
        let list = list(client, args.selector.as_ref())?;
        print(session, args.output, &list, &list)?;
        return Ok((
            Exit::Done,
            list.containers.iter().all(|view| is_active(&view.status)),
        ));
    };
    let detail: Detail = client.get(&format!("/containers/{name}"))?;
    let active = is_active(&detail.view.status);
    let title = status::refusal_title(&detail.view.status);
    let list = List {
        containers: vec![detail.view],
        refused: Vec::new(),
        notices: Vec::new(),
    };
    print(session, args.output, &list, list.containers.first())?;
    if let (Some(refusal), ListFormat::Table | ListFormat::Wide) = (&detail.refusal, args.output) {
        let refusal = escape::lines(refusal);
        let text = format!("\n{title}:\n{}\n", refusal.trim_end());
        session.out.text(&text)?;
    }
    Ok((if active { Exit::Done } else { Exit::NotActive }, active))
}

/// Prints a list for people, or `value`, which is the list or its only member.
fn print<T: Serialize>(
    session: &mut Session,
    format: ListFormat,
    list: &List,
    value: T,
) -> Result<(), Failure> {
    match format {
        ListFormat::Json => session.out.json(&value)?,
        ListFormat::Yaml => session.out.yaml(&value)?,
        ListFormat::Name => {
            for view in &list.containers {
                session.out.line(view.status.key.as_str())?;
            }
        }
        ListFormat::Table | ListFormat::Wide => {
            let wide = format == ListFormat::Wide;
            let look = session.look();
            let mut grid = status::grid(wide);
            for view in &list.containers {
                grid.push(status::row(view, wide, &look));
            }
            if list.containers.is_empty() {
                session.out.line("no containers")?;
            } else {
                session.out.text(&grid.take(look.paint))?;
            }
            session.out.text(&status::remarks(list, look.paint))?;
        }
    }
    Ok(())
}

fn watch(session: &mut Session, client: &Client, args: &StatusArgs) -> Result<Exit, Failure> {
    if let Some(name) = &args.name {
        // Says at once that there is no such name; the stream would wait for it for ever.
        let _known: Detail = client.get(&format!("/containers/{name}"))?;
    }
    let wide = args.output == ListFormat::Wide;
    let lines = client.lines("/watch")?;
    let grid = RefCell::new(status::grid(wide));
    let take = |session: &mut Session, line: &str| {
        let view: ContainerView = serde_json::from_str(line).map_err(Failure::Line)?;
        let named = args
            .name
            .as_ref()
            .is_none_or(|name| *name == view.status.key);
        let chosen = args
            .selector
            .as_ref()
            .is_none_or(|labels| labels.matches(&view.labels));
        if !(named && chosen) {
            return Ok(());
        }
        match args.output {
            ListFormat::Json => session.out.json_line(&view)?,
            ListFormat::Yaml => {
                session.out.line("---")?;
                session.out.yaml(&view)?;
            }
            ListFormat::Name => session.out.line(view.status.key.as_str())?,
            ListFormat::Table | ListFormat::Wide => {
                grid.borrow_mut()
                    .push(status::row(&view, wide, &session.look()));
            }
        }
        Ok(())
    };
    let print = |session: &mut Session| {
        let text = grid.borrow_mut().take_rows(session.out.paint);
        Ok(session.out.text(&text)?)
    };
    match follow(session, lines, take, print)? {
        Ended::ByDaemon => Err(Failure::Ended),
        Ended::ByReader => Ok(Exit::Done),
    }
}
