//! `reconciler apply`, `delete`, `get`: containers whose spec lies in the store.

use std::collections::BTreeMap;

use reconciler_daemon::api::wire::{Applied, ApplyAsk, Detail, Done, List, PlanAsk, PlanView};
use serde_json::Value;
use specs::id::Key;

use super::{Exit, Failure, Session, plan, wait};
use crate::args::{ApplyArgs, DeleteArgs, Format, GetArgs};
use crate::render::{apply, escape, plan as planned};

/// Gives texts to the daemon as what is wanted: all of them are taken, or none.
///
/// # Errors
/// When a file cannot be read, the daemon gives no answer, or standard output takes nothing.
pub(crate) fn apply(session: &mut Session, args: &ApplyArgs) -> Result<Exit, Failure> {
    let files = plan::files(&args.files)?;
    if files.is_empty() {
        return Err(Failure::Usage("there is no spec file in what was named"));
    }
    let client = session.client()?;
    if args.dry_run {
        let ask = PlanAsk {
            files,
            applied: true,
        };
        let view: PlanView = client.post("/plan", &ask)?;
        session.print(args.output, &view, |view, look| {
            planned::plan(view, look.paint)
        })?;
        return Ok(if view.refused.is_empty() {
            Exit::Done
        } else {
            Exit::Failed
        });
    }
    let applied: Applied = client.post("/apply", &ApplyAsk { files })?;
    session.print(args.output, &applied, |applied, look| {
        apply::applied(applied, look.paint)
    })?;
    session.out.flush()?;
    if !applied.refused.is_empty() {
        return Ok(Exit::Failed);
    }
    let names = applied.containers.iter();
    let names: Vec<Key> = names.filter_map(|one| Key::new(&one.name).ok()).collect();
    wait::settle(session, &client, &names, &args.wait)
}

/// Deletes containers that were applied.
///
/// # Errors
/// When the daemon refuses one; those before it are being removed.
pub(crate) fn delete(session: &mut Session, args: &DeleteArgs) -> Result<Exit, Failure> {
    let client = session.client()?;
    for name in &args.names {
        let done: Done = client.delete(&format!("/containers/{name}"))?;
        session.out.line(&escape::line(&done.message))?;
    }
    session.out.flush()?;
    if !args.wait.wait {
        return Ok(Exit::Done);
    }
    let late = wait::until_gone(session, &client, &args.names, args.wait.timeout.0)?;
    for name in &late {
        session.out.line(&format!(
            "not gone in time: {name}; `reconciler why {name}` tells more"
        ))?;
    }
    Ok(if late.is_empty() {
        Exit::Done
    } else {
        Exit::NotActive
    })
}

/// Prints effective specs: every default filled, secrets as their length.
///
/// # Errors
/// When the daemon gives no answer, or standard output takes nothing.
pub(crate) fn get(session: &mut Session, args: &GetArgs) -> Result<Exit, Failure> {
    let client = session.client()?;
    let detail = |name: &str| client.get::<Detail>(&format!("/containers/{name}"));
    let specs: Vec<Value> = match &args.name {
        Some(name) => match detail(name.as_str())?.effective {
            Value::Null => return Err(Failure::NothingAccepted(name.clone())),
            spec => vec![spec],
        },
        None => {
            let list: List = client.get("/containers")?;
            let mut specs = BTreeMap::new();
            for view in &list.containers {
                let name = view.status.key.as_str();
                match detail(name) {
                    Ok(detail) if detail.effective.is_null() => {}
                    Ok(detail) => _ = specs.insert(name, detail.effective),
                    // It went meanwhile.
                    Err(err) if err.is_unknown_name() => {}
                    Err(err) => return Err(err.into()),
                }
            }
            specs.into_values().collect()
        }
    };
    match (args.output, &args.name) {
        (Format::Json, None) => session.out.json(&specs)?,
        (Format::Json, Some(_)) => {
            for spec in &specs {
                session.out.json(spec)?;
            }
        }
        (Format::Text | Format::Yaml, _) => {
            for (at, spec) in specs.iter().enumerate() {
                if at > 0 {
                    session.out.line("---")?;
                }
                session.out.yaml(spec)?;
            }
        }
    }
    Ok(Exit::Done)
}
