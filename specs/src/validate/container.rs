//! Laws between the fields of one container.

use super::distinct;
use crate::diagnostic::{Code, plain};
use crate::fields::is_below;
use crate::parse::faults::{Fault, Faults};
use crate::parse::tree::Node;
use crate::resolve::capability;
use crate::units::{Bytes, Inodes, Millis};

pub(super) fn laws(spec: &Node<'_>, faults: &mut Faults<'_>) {
    if let Some(limits) = spec.get("limits") {
        memory(limits, faults);
        disk(spec, limits, faults);
    }
    for mount in items(spec, "mounts") {
        mount_source(mount, faults);
    }
    repeated(spec, "mounts", "path", "two mounts on", faults);
    repeated(spec, "files", "path", "two files at", faults);
    repeated(spec, "processes", "name", "a second process", faults);
    files(spec, faults);
    for process in items(spec, "processes") {
        process_laws(process, faults);
    }
    if let Some(security) = spec.get("security") {
        repeated(security, "devices", "path", "a second device", faults);
        capabilities(security, faults);
        privileged(security, faults);
    }
    host_network(spec, faults);
}

fn items<'n, 'a>(node: &'n Node<'a>, list: &str) -> &'n [Node<'a>] {
    node.get(list).map_or(&[], Node::items)
}

fn parsed<T: std::str::FromStr>(node: &Node<'_>, field: &str) -> Option<T> {
    node.get(field)?.text()?.parse().ok()
}

fn memory(limits: &Node<'_>, faults: &mut Faults<'_>) {
    let memory: Option<Bytes> = parsed(limits, "memory");
    if let (None, Some(swap)) = (limits.get("memory"), limits.entry("swap")) {
        let message = "`swap` counts on top of `memory`, and no `memory` is given";
        let help = "add `memory:`, or remove `swap`";
        faults.push(
            swap.key_place,
            Fault::new(Code::NoEffect, message).help(help),
        );
    }
    let low: Option<Bytes> = parsed(limits, "memoryLow");
    if let (Some(memory), Some(low), Some(place)) = (memory, low, limits.get("memoryLow"))
        && low > memory
    {
        let message = format!("`memoryLow` ({low}) is above `memory` ({memory})");
        let help = "more cannot be protected than may be used";
        faults.push(place.place, Fault::new(Code::Order, message).help(help));
    }
}

/// An image has room for one inode in 4 KiB at most, and no file is smaller on disk.
const BYTES_PER_INODE: u64 = 4096;

fn disk(spec: &Node<'_>, limits: &Node<'_>, faults: &mut Faults<'_>) {
    let Some(disk) = limits.entry("disk") else {
        return;
    };
    let writable = spec.get("rootfs").and_then(|root| root.get("writable"));
    if writable.and_then(Node::text) == Some("none") {
        let message = "`disk` has no effect with `writable: none`";
        let help = "remove it, or let the root be written";
        faults.push(
            disk.key_place,
            Fault::new(Code::NoEffect, message).help(help),
        );
    }
    let (bytes, inodes) = (disk.node.get("bytes"), disk.node.get("inodes"));
    let read = |node: Option<&Node<'_>>| node.and_then(Node::text).map(str::to_owned);
    let given: Option<Bytes> = read(bytes).and_then(|text| text.parse().ok());
    let wanted: Option<Inodes> = read(inodes).and_then(|text| text.parse().ok());
    if let (Some(given), Some(wanted), Some(node)) = (given, wanted, inodes)
        && wanted.0 > given.0 / BYTES_PER_INODE
    {
        let message = format!("`inodes` ({wanted}) are more than `bytes` ({given}) has room for");
        let help = format!("write at most `{}`", Inodes(given.0 / BYTES_PER_INODE));
        faults.push(node.place, Fault::new(Code::Order, message).help(help));
    }
}

fn mount_source(mount: &Node<'_>, faults: &mut Faults<'_>) {
    let kinds = ["source", "tmpfs", "volume"];
    let given: Vec<&str> = kinds
        .into_iter()
        .filter(|kind| mount.get(kind).is_some())
        .collect();
    if mount.entries().is_empty() {
        return;
    }
    let [kind] = given.as_slice() else {
        let message = if given.is_empty() {
            "a mount needs one of `source`, `tmpfs`, `volume`".to_owned()
        } else {
            format!(
                "a mount has one of `source`, `tmpfs`, `volume`, not {}",
                given.len()
            )
        };
        let help = "`source` is a host path, `tmpfs` a size, `volume` a name";
        faults.push(
            mount.place,
            Fault::new(Code::ExactlyOne, message).help(help),
        );
        return;
    };
    let only = [
        ("recursive", "source"),
        ("propagation", "source"),
        ("mode", "tmpfs"),
    ];
    for (field, needs) in only {
        if let Some(entry) = mount.entry(field).filter(|_| *kind != needs) {
            let message = format!("`{field}` has no effect without `{needs}`");
            faults.push(
                entry.key_place,
                Fault::new(Code::NoEffect, message).help("remove it"),
            );
        }
    }
    let path = mount
        .get("path")
        .filter(|path| path.text() == Some("/dev/shm"));
    if let Some(path) = path.filter(|_| *kind != "tmpfs") {
        let message = "only a tmpfs may be mounted on `/dev/shm`";
        let help = "write `tmpfs:` with a size";
        faults.push(path.place, Fault::new(Code::MountPath, message).help(help));
    }
}

fn repeated(spec: &Node<'_>, list: &str, field: &str, words: &str, faults: &mut Faults<'_>) {
    let values = items(spec, list).iter().filter_map(|item| {
        let node = item.get(field)?;
        Some((node.text()?, node.place))
    });
    let values: Vec<_> = values.collect();
    distinct(&values, faults, |text, first| {
        let message = format!("{words} `{}`", plain(text));
        Fault::new(Code::Repeated, message)
            .note(first)
            .help("remove one of the two")
    });
}

fn files(spec: &Node<'_>, faults: &mut Faults<'_>) {
    let mounts: Vec<(&str, bool)> = items(spec, "mounts")
        .iter()
        .filter_map(|mount| Some((mount.get("path")?.text()?, mount.get("source").is_some())))
        .collect();
    let paths: Vec<&str> = items(spec, "files")
        .iter()
        .filter_map(|file| file.get("path")?.text())
        .collect();
    for file in items(spec, "files") {
        let Some(path) = file.get("path") else {
            continue;
        };
        let Some(text) = path.text() else { continue };
        let on = mounts
            .iter()
            .find(|(at, bind)| *at == text || (*bind && is_below(text, &[at])));
        if let Some((at, _)) = on {
            let message = format!("a file cannot be placed on the mount `{}`", plain(at));
            let help = "choose a path of the container's own root";
            faults.push(path.place, Fault::new(Code::FilePath, message).help(help));
        }
        if let Some(other) = paths
            .iter()
            .find(|other| **other != text && is_below(text, &[other]))
        {
            let message = format!("`{}` is a file and cannot be a directory too", plain(other));
            let help = "choose another path for one of the two";
            faults.push(path.place, Fault::new(Code::FilePath, message).help(help));
        }
    }
}

fn process_laws(process: &Node<'_>, faults: &mut Faults<'_>) {
    if let Some(command) = process.get("command") {
        let first = command.items().first();
        let empty = first.is_none_or(|first| first.text() == Some(""));
        if matches!(command.value, crate::parse::tree::Value::List(_)) && empty {
            let fault = Fault::new(Code::TextShape, "a command begins with a program");
            faults.push(
                command.place,
                fault.help("write for example `[/bin/httpd, -f]`"),
            );
        }
    }
    if let Some(backoff) = process
        .get("restart")
        .and_then(|restart| restart.get("backoff"))
    {
        let initial = parsed(backoff, "initial").unwrap_or(Millis(100));
        let max = parsed(backoff, "max").unwrap_or(Millis(60_000));
        if initial > max {
            let message = format!("`initial` ({initial}) is above `max` ({max})");
            let place = backoff
                .get("initial")
                .or(backoff.get("max"))
                .unwrap_or(backoff)
                .place;
            let help = "the first wait is the shortest";
            faults.push(place, Fault::new(Code::Order, message).help(help));
        }
    }
    let never = process
        .get("restart")
        .filter(|restart| restart.get("policy").and_then(Node::text) == Some("never"));
    if let Some(entry) = never.and_then(|restart| restart.entry("backoff")) {
        let message = "`backoff` has no effect with `policy: never`";
        faults.push(
            entry.key_place,
            Fault::new(Code::NoEffect, message).help("remove it"),
        );
    }
    if let Some(logs) = process.get("logs")
        && logs.get("discard").and_then(Node::text) == Some("true")
    {
        for entry in logs
            .entries()
            .iter()
            .filter(|entry| entry.key.text != "discard")
        {
            let message = format!(
                "`{}` has no effect with `discard: true`",
                plain(&entry.key.text)
            );
            faults.push(
                entry.key_place,
                Fault::new(Code::NoEffect, message).help("remove it"),
            );
        }
    }
}

fn capabilities(security: &Node<'_>, faults: &mut Faults<'_>) {
    let Some(node) = security.get("capabilities") else {
        return;
    };
    let dropped: Vec<&str> = items(node, "drop")
        .iter()
        .filter_map(|item| capability::canonical(item.text()?))
        .collect();
    for item in items(node, "add") {
        let Some(name) = item.text().and_then(capability::canonical) else {
            continue;
        };
        if dropped.contains(&name) {
            let message = format!("`{name}` is added and dropped");
            let help = "remove it from one of the two lists";
            faults.push(item.place, Fault::new(Code::Conflict, message).help(help));
        }
    }
}

fn privileged(security: &Node<'_>, faults: &mut Faults<'_>) {
    if security.get("privileged").and_then(Node::text) != Some("true") {
        return;
    }
    let moot = [
        "capabilities",
        "seccomp",
        "devices",
        "readOnlyPaths",
        "maskedPaths",
    ];
    for field in moot {
        if let Some(entry) = security.entry(field) {
            let message = format!("`{field}` has no effect with `privileged: true`");
            let help = "remove it, or grant what is needed without `privileged`";
            faults.push(
                entry.key_place,
                Fault::new(Code::NoEffect, message).help(help),
            );
        }
    }
}

fn host_network(spec: &Node<'_>, faults: &mut Faults<'_>) {
    let mode = spec.get("network").and_then(|network| network.get("mode"));
    if mode.and_then(Node::text) != Some("host") {
        return;
    }
    let sysctls = spec
        .get("security")
        .and_then(|security| security.get("sysctls"));
    for entry in sysctls.map_or(&[][..], Node::entries) {
        if entry.key.text.starts_with("net.") {
            let message = format!(
                "`{}` would change the host's network",
                plain(&entry.key.text)
            );
            let help = "net.* can be set with a network of the container's own only";
            faults.push(
                entry.key_place,
                Fault::new(Code::Sysctl, message).help(help),
            );
        }
    }
}
