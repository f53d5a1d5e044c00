//! A host of one's own for each test.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use driver_api::{
    Action, Deadline, Driver as _, Life, Observed, Outcome, Precondition, Scope, Step, StepError,
    Wake,
};
use driver_linux::{HostOptions, LinuxHost, boot_ms};
use shim_proto::launch::Assembly;
use specs::desired::{
    Container, Desired, Limits, LogMode, Logs, NameOrId, Network, Process, Restart, RestartPolicy,
    Rootfs, Run, Seccomp, Security, Stop, User, UserNamespace, Writable,
};
use specs::id::{Generation, Incarnation, Instance, Key, ProcessName};
use specs::units::{Bytes, Millis, Signal};

static COUNT: AtomicU32 = AtomicU32::new(0);

/// One instance on this host, with everything of it removed at the end.
pub(crate) struct World {
    pub(crate) host: LinuxHost,
    pub(crate) instance: Instance,
    pub(crate) dir: tempfile::TempDir,
    pub(crate) wakes: Arc<Mutex<Vec<Wake>>>,
    parent: String,
    children: Mutex<Vec<Child>>,
}

/// A process that reads commands from its input, and answers on its output.
pub(crate) struct Shell {
    pub(crate) pid: u32,
    input: std::process::ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Shell {
    /// Runs one command in the process itself, and returns the line it prints.
    pub(crate) fn ask(&mut self, command: &str) -> String {
        writeln!(self.input, "{command}").unwrap();
        let mut line = String::new();
        self.output.read_line(&mut line).unwrap();
        line.trim().to_owned()
    }
}

pub(crate) fn soon() -> Deadline {
    Deadline {
        at_ms: boot_ms() + 10_000,
    }
}

/// Waits for a condition, at most ten seconds.
pub(crate) fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let until = boot_ms() + 10_000;
    while !holds() {
        assert!(boot_ms() < until, "never: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

pub(crate) fn key(name: &str) -> Key {
    Key::new(name).unwrap()
}

impl World {
    pub(crate) fn new() -> Self {
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        Self::named(
            &format!("t{}-{number}", std::process::id()),
            tempfile::tempdir().unwrap(),
        )
    }

    /// A second instance on the same directories and cgroup parent.
    pub(crate) fn named(name: &str, dir: tempfile::TempDir) -> Self {
        let parent = format!("/linux-room-{}", std::process::id());
        let instance = Instance::new(name).unwrap();
        let wakes: Arc<Mutex<Vec<Wake>>> = Arc::default();
        let host = open(&instance, dir.path(), &parent, Arc::clone(&wakes));
        Self {
            host,
            instance,
            dir,
            wakes,
            parent,
            children: Mutex::default(),
        }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn runtime(&self, leaf: &str) -> PathBuf {
        self.path("run").join(self.instance.as_str()).join(leaf)
    }

    pub(crate) fn state(&self, rest: &str) -> PathBuf {
        self.path("state").join(self.instance.as_str()).join(rest)
    }

    /// A container whose lower layer is an empty directory of the test's.
    pub(crate) fn desired(&self, name: &str) -> Desired {
        let lower = self.path("lower");
        std::fs::create_dir_all(&lower).unwrap();
        desired(name, lower.to_str().unwrap())
    }

    pub(crate) fn step(&self, name: &str, action: Action) -> Step {
        Step {
            key: key(name),
            incarnation: Incarnation(1),
            precondition: Precondition::default(),
            action,
        }
    }

    pub(crate) fn execute(&self, name: &str, action: Action) -> Result<Outcome, StepError> {
        self.host.execute(&self.step(name, action), soon())
    }

    /// Executes what must work.
    pub(crate) fn done(&self, name: &str, action: Action) {
        let verb = action.verb();
        if let Err(err) = self.execute(name, action) {
            panic!("{verb} of {name}: {err:?}");
        }
    }

    pub(crate) fn observe(&self) -> Observed {
        self.host.observe(&Scope::Host, soon())
    }

    pub(crate) fn life(&self, name: &str) -> Life {
        let observed = self.host.observe(&Scope::Container(key(name)), soon());
        assert!(observed.complete, "{:?}", observed.gaps);
        observed.containers[&key(name)].lives[&Incarnation(1)].clone()
    }

    /// Makes everything of a life but its processes.
    pub(crate) fn prepare(&self, desired: &Desired) {
        let name = desired.key.as_str();
        let desired = Arc::new(desired.clone());
        self.done(name, Action::PrepareBundle(Arc::clone(&desired)));
        self.done(name, Action::CreateCgroup(desired.limits.clone()));
        self.done(name, Action::PrepareRoot(desired));
    }

    /// Starts a process and says that it is the life's init.
    pub(crate) fn init(&self, name: &str, wrap: &[&str]) -> Shell {
        let shell = self.shell(wrap);
        let id = format!("{} {}\n", shell.pid, start_of(shell.pid));
        std::fs::write(self.runtime(&format!("{name}.1")).join("init.id"), id).unwrap();
        shell
    }

    pub(crate) fn shell(&self, wrap: &[&str]) -> Shell {
        let mut child = Command::new("/bin/busybox")
            .args(wrap)
            .args(["sh", "-c", "while read -r line; do eval \"$line\"; done"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let input = child.stdin.take().unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        let mut shell = Shell {
            pid: child.id(),
            input,
            output,
        };
        self.children.lock().unwrap().push(child);
        // Answers only once it has become what it shall be.
        assert_eq!(shell.ask("echo ready"), "ready");
        shell
    }

    /// Lets a process be collected when it ends, as a shim would.
    pub(crate) fn collect(&self, pid: u32) {
        let mut children = self.children.lock().unwrap();
        let at = children.iter().position(|child| child.id() == pid).unwrap();
        let mut child = children.remove(at);
        std::thread::spawn(move || child.wait());
    }

    /// Returns the cgroup directories of a life that are there.
    pub(crate) fn groups(&self, leaf: &str) -> Vec<PathBuf> {
        let hierarchies = hierarchies();
        let below = format!("{}/reconciler-{}/{leaf}", &self.parent[1..], self.instance);
        hierarchies
            .iter()
            .map(|at| at.join(&below))
            .filter(|path| path.exists())
            .collect()
    }

    /// Returns the directory of a life that has a file.
    pub(crate) fn group_with(&self, leaf: &str, file: &str) -> PathBuf {
        let mut groups = self.groups(leaf).into_iter();
        groups
            .find(|path| path.join(file).exists())
            .unwrap_or_else(|| panic!("no {file}"))
    }

    pub(crate) fn instance_directories(&self) -> Vec<PathBuf> {
        let below = format!("{}/reconciler-{}", &self.parent[1..], self.instance);
        hierarchies().iter().map(|at| at.join(&below)).collect()
    }
}

impl Drop for World {
    fn drop(&mut self) {
        for child in self.children.lock().unwrap().iter_mut() {
            let _killed = child.kill();
            let _reaped = child.wait();
        }
        for directory in self.instance_directories() {
            remove_groups(&directory);
            let _shared = std::fs::remove_dir(directory.parent().unwrap());
        }
    }
}

fn remove_groups(directory: &Path) {
    for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
        if entry.path().is_dir() {
            remove_groups(&entry.path());
        }
    }
    for _try in 0..200 {
        match std::fs::remove_dir(directory) {
            Err(err) if err.raw_os_error() == Some(16) => {
                std::thread::sleep(Duration::from_millis(10));
            }
            _ => break,
        }
    }
}

pub(crate) fn open(
    instance: &Instance,
    dir: &Path,
    parent: &str,
    wakes: Arc<Mutex<Vec<Wake>>>,
) -> LinuxHost {
    let options = HostOptions {
        instance: instance.clone(),
        runtime_dir: dir.join("run"),
        state_dir: dir.join("state"),
        log_dir: dir.join("log"),
        cgroup_parent: Some(parent.to_owned()),
        shim_exe: "/bin/busybox".into(),
        assembly: Assembly::Auto,
    };
    LinuxHost::open(
        options,
        Arc::new(move |wake| wakes.lock().unwrap().push(wake)),
    )
    .unwrap()
}

pub(crate) fn hierarchies() -> Vec<PathBuf> {
    let table = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    let lines = table.lines().filter(|line| line.contains(" - cgroup"));
    lines
        .filter_map(|line| line.split(' ').nth(4))
        .map(PathBuf::from)
        .collect()
}

pub(crate) fn start_of(pid: u32) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let (_, rest) = stat.rsplit_once(')').unwrap();
    rest.split_ascii_whitespace()
        .nth(19)
        .unwrap()
        .parse()
        .unwrap()
}

pub(crate) fn desired(name: &str, lower: &str) -> Desired {
    let process = Process {
        command: vec!["/bin/true".into(), "a b".into()],
        user: User {
            user: NameOrId::Id(0),
            group: Some(NameOrId::Name("wheel".into())),
        },
        work_dir: "/".into(),
        env: BTreeMap::new(),
        rlimits: BTreeMap::new(),
        restart: Restart {
            policy: RestartPolicy::Always,
            initial: Millis(100),
            max: Millis(1000),
            reset_after: Millis(1000),
        },
        stop: Stop {
            signal: Signal(15),
            grace: Millis(1000),
        },
        depends_on: BTreeMap::new(),
        has_open_stdin: false,
        logs: Logs {
            max_bytes: Bytes(1 << 20),
            max_files: 2,
            mode: LogMode::Block,
            discard: false,
        },
    };
    Desired {
        key: key(name),
        generation: Generation(7),
        labels: BTreeMap::new(),
        annotations: BTreeMap::new(),
        run: Run::Running,
        suspend: false,
        ttl: None,
        depends_on: BTreeMap::new(),
        restart_epoch: 0,
        container: Container {
            rootfs: Rootfs {
                directory: lower.to_owned(),
                writable: Writable::Ephemeral,
                bound: None,
            },
            hostname: name.to_owned(),
            network: Network::None,
            mounts: Vec::new(),
            security: Security {
                user_namespace: UserNamespace::Host,
                capabilities: BTreeSet::from(["CHOWN".to_owned(), "KILL".to_owned()]),
                seccomp: Seccomp::Default,
                no_new_privileges: true,
                privileged: false,
                devices: Vec::new(),
                sysctls: BTreeMap::new(),
                read_only_paths: vec!["/proc/sys".into()],
                masked_paths: vec!["/proc/kcore".into()],
            },
        },
        limits: Limits::default(),
        disk: None,
        ports: Vec::new(),
        egress: specs::desired::Egress::default(),
        names: None,
        files: Vec::new(),
        processes: BTreeMap::from([(ProcessName::new("main").unwrap(), process)]),
    }
}
