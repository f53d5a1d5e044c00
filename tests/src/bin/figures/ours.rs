//! The daemon under test, and what is asked of it.

use std::fs;
use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::Value;
use tests::world::{World, bin};

use super::clock::{stamp, wait};

/// Bound for one container.
pub(crate) const SOON: Duration = Duration::from_secs(30);

/// A container that stamps and stays, limited as its peers are.
pub(crate) fn spec(name: &str, memory: &str, command: &[&str]) -> String {
    let command = serde_json::to_string(command).expect("words are text");
    format!(
        "apiVersion: reconciler/v1\nkind: Container\nmetadata: {{name: {name}}}\nspec:\n  \
         rootfs: {{directory: /srv/rootfs/busybox}}\n  \
         limits: {{memory: {memory}, cpu: 1000m, pids: 128}}\n  \
         processes: [{{name: main, command: {command}, restart: {{policy: never}}}}]\n"
    )
}

pub(crate) const STAY: &[&str] = &["/bin/bare", "stamp", "stay"];

/// A world whose root has the program of the benchmark.
pub(crate) fn world() -> World {
    let mut world = World::new();
    fs::copy(bin("bare"), world.path("rootfs/bin/bare")).expect("copy bare into the root");
    // Nobody is asked before files go.
    world.config("deletions: {holdFrom: 1000000}\n");
    world
}

/// Starts the client, to be waited for by whoever measures.
pub(crate) fn client(world: &World, words: &[&str]) -> Command {
    let mut command = Command::new(bin("reconciler"));
    command
        .args(words)
        .env("RECONCILER_SOCKET", world.socket())
        .env("NO_COLOR", "1")
        .stdin(Stdio::null())
        .stdout(Stdio::null());
    command
}

/// Waits for the first instruction of a container's process.
pub(crate) fn first_instruction(world: &World, name: &str) -> Duration {
    let log = world
        .path("log")
        .join(world.instance())
        .join(name)
        .join("main.log");
    wait("the first instruction", SOON, || {
        stamp(&fs::read_to_string(&log).ok()?)
    })
}

/// Where the containers of a world leave something.
pub(crate) struct Places(Vec<PathBuf>);

impl Places {
    /// Finds them while a container is there.
    pub(crate) fn of(world: &World) -> Self {
        let mut all = world.cgroups();
        all.push(world.path("run").join(world.instance()));
        all.push(world.path("state").join(world.instance()).join("ephemeral"));
        Self(all)
    }

    /// Whether nothing of a container is left.
    pub(crate) fn are_clear_of(&self, name: &str) -> bool {
        let prefix = format!("{name}.");
        self.0.iter().all(|place| {
            let Ok(entries) = fs::read_dir(place) else {
                return true;
            };
            let mut names = entries.flatten().map(|entry| entry.file_name());
            !names.any(|entry| entry.to_string_lossy().starts_with(&prefix))
        })
    }
}

/// Asks the daemon without a client program.
pub(crate) fn get(world: &World, path: &str) -> Option<Value> {
    let mut stream = UnixStream::connect(world.socket()).ok()?;
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nHost: bench\r\nConnection: close\r\n\r\n"
    )
    .ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    let (_, body) = answer.split_once("\r\n\r\n")?;
    let start = body.find('{')?;
    let end = body.rfind('}')?;
    serde_json::from_str(body.get(start..=end)?).ok()
}

/// Processes that the daemon has for its containers, shims and inits, without the containers'
/// own.
pub(crate) fn supervisors(world: &World) -> Vec<u32> {
    let mut found = std::collections::BTreeSet::new();
    let mut directories = world.cgroups();
    while let Some(directory) = directories.pop() {
        let below = fs::read_dir(&directory).into_iter().flatten().flatten();
        directories.extend(
            below
                .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
                .map(|entry| entry.path()),
        );
        let inside = fs::read_to_string(directory.join("cgroup.procs")).unwrap_or_default();
        found.extend(inside.lines().filter_map(|pid| pid.parse::<u32>().ok()));
    }
    let own = |pid: &u32| {
        let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
        name.starts_with("reconciler") || name.starts_with("init")
    };
    found.into_iter().filter(own).collect()
}

/// Reads a line of a process' memory in KiB: `VmRSS:` and `VmHWM:` of its status, or `Pss:`.
pub(crate) fn memory(pid: u32, line: &str) -> f64 {
    let file = if line == "Pss:" {
        "smaps_rollup"
    } else {
        "status"
    };
    let text = fs::read_to_string(format!("/proc/{pid}/{file}")).unwrap_or_default();
    let mut lines = text.lines();
    let found = lines.find_map(|text| text.strip_prefix(line));
    let number = found.and_then(|text| text.split_whitespace().next());
    number
        .and_then(|text| text.parse().ok())
        .unwrap_or_default()
}
