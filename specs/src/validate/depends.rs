//! Laws of what waits for what inside one container.

use std::collections::BTreeMap;

use super::distinct;
use crate::desired::cycle;
use crate::diagnostic::{Code, closest, plain};
use crate::parse::faults::{Fault, Faults};
use crate::parse::tree::{Node, Place};

pub(super) fn laws(spec: &Node<'_>, faults: &mut Faults<'_>) {
    let processes = items(spec, "processes");
    let named = processes
        .iter()
        .filter_map(|process| Some((process.get("name")?.text()?, process)));
    let named: BTreeMap<&str, &Node<'_>> = named.collect();
    let mut waits: BTreeMap<&str, Vec<Wait<'_>>> = BTreeMap::new();
    for process in processes {
        let own = waits_of(process, "process");
        repeated(&own, faults);
        let name = process.get("name").and_then(Node::text);
        for wait in &own {
            match named.get(wait.on) {
                None => faults.push(wait.place, unknown(wait.on, &named)),
                Some(_) if name == Some(wait.on) => faults.push(wait.place, itself(wait.on)),
                Some(other) if wait.completed && restarts_always(other) => {
                    faults.push(wait.place, never(wait.on));
                }
                Some(_) => {}
            }
        }
        if let Some(name) = name {
            waits.entry(name).or_insert(own);
        }
    }
    circles(&waits, faults);
}

/// Laws of the containers that one waits for; whether they are there is not known here.
pub(super) fn container(name: Option<&str>, spec: &Node<'_>, faults: &mut Faults<'_>) {
    let waits = waits_of(spec, "container");
    repeated(&waits, faults);
    for wait in waits.iter().filter(|wait| Some(wait.on) == name) {
        faults.push(wait.place, itself(wait.on));
    }
}

/// One entry of `dependsOn`.
#[derive(Clone, Copy)]
struct Wait<'n> {
    on: &'n str,
    place: Place,
    completed: bool,
}

fn waits_of<'n>(node: &'n Node<'_>, field: &str) -> Vec<Wait<'n>> {
    let wait = |item: &'n Node<'_>| {
        let on = item.get(field)?;
        Some(Wait {
            on: on.text()?,
            place: on.place,
            completed: item.get("condition").and_then(Node::text) == Some("completed"),
        })
    };
    items(node, "dependsOn").iter().filter_map(wait).collect()
}

fn items<'n, 'a>(node: &'n Node<'a>, list: &str) -> &'n [Node<'a>] {
    node.get(list).map_or(&[], Node::items)
}

fn repeated(waits: &[Wait<'_>], faults: &mut Faults<'_>) {
    let names: Vec<(&str, Place)> = waits.iter().map(|wait| (wait.on, wait.place)).collect();
    distinct(&names, faults, |text, first| {
        let message = format!("a second dependency on `{}`", plain(text));
        Fault::new(Code::Repeated, message)
            .note(first)
            .help("remove one of the two")
    });
}

fn restarts_always(process: &Node<'_>) -> bool {
    let policy = process
        .get("restart")
        .and_then(|restart| restart.get("policy"));
    matches!(policy.and_then(Node::text), None | Some("always"))
}

fn unknown(name: &str, named: &BTreeMap<&str, &Node<'_>>) -> Fault {
    let message = format!("the container has no process `{}`", plain(name));
    let help = match closest(name, named.keys().copied()) {
        Some(near) => format!("did you mean `{near}`?"),
        None => "name a process of this container; another container is waited for with \
                 `spec.dependsOn`"
            .to_owned(),
    };
    Fault::new(Code::UnknownDependency, message).help(help)
}

fn itself(name: &str) -> Fault {
    let message = format!("`{}` would wait for itself", plain(name));
    Fault::new(Code::DependencyCycle, message).help("remove the dependency")
}

fn never(name: &str) -> Fault {
    let message = format!(
        "`{}` never completes: it is started again whenever it ends",
        plain(name)
    );
    Fault::new(Code::NeverCompletes, message)
        .help("give it `restart: {policy: onFailure}`, or wait for `started`")
}

/// Tells of each circle once, where it closes in the order of the names.
fn circles(waits: &BTreeMap<&str, Vec<Wait<'_>>>, faults: &mut Faults<'_>) {
    let needs = |name: &&str| -> Vec<&&str> {
        let own = waits.get(name).map_or(&[][..], Vec::as_slice);
        own.iter()
            .filter(|wait| wait.on != *name)
            .filter_map(|wait| waits.get_key_value(wait.on).map(|(name, _)| name))
            .collect()
    };
    let mut told: Vec<&str> = Vec::new();
    for name in waits.keys().filter(|name| !name.is_empty()) {
        if told.contains(name) {
            continue;
        }
        let Some(way) = cycle(name, needs) else {
            continue;
        };
        told.extend(way.iter().copied());
        let next = way.iter().skip(1).chain(way.first());
        let steps: Vec<(&str, &str, Place)> = way
            .iter()
            .zip(next)
            .filter_map(|(from, to)| {
                let wait = waits.get(*from)?.iter().find(|wait| wait.on == **to)?;
                Some((**from, **to, wait.place))
            })
            .collect();
        let Some((_, _, place)) = steps.first() else {
            continue;
        };
        let names: Vec<String> = way
            .iter()
            .chain(way.first())
            .map(|name| plain(name))
            .collect();
        let message = format!("processes wait for each other: {}", names.join(" -> "));
        let lines: Vec<String> = steps
            .iter()
            .map(|(from, to, place)| {
                format!(
                    "`{}` waits for `{}` on line {}",
                    plain(from),
                    plain(to),
                    place.line
                )
            })
            .collect();
        let fault = Fault::new(Code::DependencyCycle, message)
            .note(lines.join(", "))
            .help("remove `dependsOn` from one of them");
        faults.push(*place, fault);
    }
}
