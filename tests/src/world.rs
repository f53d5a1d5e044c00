//! A daemon of one's own on the real kernel: its own instance name, directories, cgroup
//! parent and root file system, so that tests cannot meet.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use nix::sys::signal::Signal;
use serde_json::Value;

use crate::cgroups::{clear_cgroup, find_directories};
use crate::eventually::{eventually, until};
use crate::host::signal;
use crate::inventory::Inventory;
use crate::network::{Network, entered};
use crate::root::make_root;

mod end;

/// Bound for everything that should take a moment. Generous: the machines are shared.
pub const SOON: Duration = Duration::from_secs(20);
/// The lower layer as the examples name it; replaced by the world's own.
const EXAMPLE_ROOT: &str = "/srv/rootfs/busybox";

static COUNTER: AtomicU32 = AtomicU32::new(0);

/// One daemon and everything around it.
#[derive(Debug)]
pub struct World {
    instance: String,
    dir: tempfile::TempDir,
    daemon: Option<Child>,
    before: Inventory,
    extra: Vec<String>,
    /// A process in the network namespace that the daemon runs in; none for the host's own.
    network: Option<u32>,
    /// File systems of this world's own, by path.
    mounts: Vec<PathBuf>,
}

/// Directory of the built programs.
///
/// # Panics
/// When `RECONCILER_BIN_DIR` is not set: `cargo xtask test` builds and sets it.
#[must_use]
pub fn bin(name: &str) -> PathBuf {
    let dir = std::env::var_os("RECONCILER_BIN_DIR")
        .expect("RECONCILER_BIN_DIR is not set; run the tests with `cargo xtask test`");
    PathBuf::from(dir).join(name)
}

impl Default for World {
    fn default() -> Self {
        Self::new()
    }
}

impl World {
    /// Returns a world with nothing in it and no daemon yet.
    ///
    /// # Panics
    /// When its directories or root can't be made.
    #[must_use]
    pub fn new() -> Self {
        let before = Inventory::take();
        let number = COUNTER.fetch_add(1, Ordering::Relaxed);
        let instance = format!("t{}-{number}", std::process::id());
        let dir = tempfile::Builder::new()
            .prefix("rct-")
            .tempdir()
            .expect("make a directory");
        for name in ["specs", "state", "run", "log"] {
            fs::create_dir(dir.path().join(name)).expect("make a directory");
        }
        make_root(&dir.path().join("rootfs"));
        Self {
            instance,
            dir,
            daemon: None,
            before,
            extra: Vec::new(),
            network: None,
            mounts: Vec::new(),
        }
    }

    /// Puts a memory file system of so many bytes on one of this world's directories, until
    /// the world is over.
    ///
    /// # Panics
    /// When it can't be mounted.
    pub fn limit_disk(&mut self, name: &str, bytes: u64) {
        let path = self.path(name);
        let flags = nix::mount::MsFlags::empty();
        let size = format!("size={bytes},mode=0755");
        nix::mount::mount(
            Some("tests"),
            &path,
            Some("tmpfs"),
            flags,
            Some(size.as_str()),
        )
        .expect("mount a memory file system");
        self.mounts.push(path);
    }

    /// Adds arguments for every later start of the daemon.
    #[must_use]
    pub fn with(mut self, arguments: &[&str]) -> Self {
        self.extra
            .extend(arguments.iter().map(|text| (*text).to_owned()));
        self
    }

    /// Runs the daemon in a network of the test's own.
    #[must_use]
    pub fn on(mut self, network: &Network) -> Self {
        self.network = Some(network.pid());
        self
    }

    /// Writes the configuration, without its head, for the daemon's next start or hang-up.
    ///
    /// # Panics
    /// When it can't be written.
    pub fn config(&mut self, text: &str) {
        let path = self.path("config.yaml");
        let text = self.localised(&format!("apiVersion: reconciler/v1\nkind: Config\n{text}"));
        fs::write(&path, text).expect("write the configuration");
        if self.extra.is_empty() {
            self.extra = vec!["--config".to_owned(), path.display().to_string()];
        }
    }

    /// Tells the daemon to read configuration and specs again.
    ///
    /// # Panics
    /// When it does not run.
    pub fn hang_up(&self) {
        signal(self.daemon_pid().into(), Signal::SIGHUP);
    }

    /// Returns a path of this world: `specs`, `state`, `run`, `log`, `rootfs` or below.
    #[must_use]
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Returns the daemon's instance name.
    #[must_use]
    pub fn instance(&self) -> &str {
        &self.instance
    }

    /// Returns the daemon's process id.
    ///
    /// # Panics
    /// When it does not run.
    #[must_use]
    pub fn daemon_pid(&self) -> u32 {
        self.daemon.as_ref().expect("the daemon runs").id()
    }

    /// Puts a spec into the watched directory as an editor or Git does: by rename.
    ///
    /// # Panics
    /// When it can't be written.
    pub fn write(&self, file: &str, text: &str) {
        let target = self.path("specs").join(file);
        let temporary = self.path("specs").join(format!(".{file}.new"));
        fs::write(&temporary, self.localised(text)).expect("write a spec");
        fs::rename(&temporary, &target).expect("rename a spec");
    }

    /// Returns the text with the examples' root replaced by this world's.
    #[must_use]
    pub fn localised(&self, text: &str) -> String {
        text.replace(EXAMPLE_ROOT, &self.path("rootfs").display().to_string())
            .replace("/srv/data", &self.path("data").display().to_string())
    }

    /// Takes a spec out of the watched directory.
    ///
    /// # Panics
    /// When it is not there.
    pub fn remove(&self, file: &str) {
        fs::remove_file(self.path("specs").join(file)).expect("remove a spec");
    }

    /// Starts the daemon and waits until it answers and says that it is ready.
    ///
    /// # Panics
    /// When it is not ready soon.
    pub fn start(&mut self) {
        self.spawn();
        until("the daemon to be ready", SOON, || {
            self.cli(&["version", "-o", "json"]).status.success()
                && self.json(&["version", "-o", "json"])["daemon"]["ready"] == true
        });
    }

    /// Starts the daemon without waiting for anything.
    ///
    /// # Panics
    /// When it runs already or can't be started.
    pub fn spawn(&mut self) {
        assert!(self.daemon.is_none(), "the daemon runs already");
        let log = fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.path("daemon.log"))
            .expect("open the daemon's log");
        let child = self
            .daemon_command()
            .stderr(log)
            .spawn()
            .expect("start the daemon");
        self.daemon = Some(child);
    }

    /// Returns the command that starts this world's daemon.
    #[must_use]
    pub fn daemon_command(&self) -> Command {
        let mut command = match self.network {
            None => Command::new(bin("reconciler")),
            Some(pid) => entered(pid, &bin("reconciler")),
        };
        command
            .arg("run")
            .arg("--specs")
            .arg(self.path("specs"))
            .arg("--state-dir")
            .arg(self.path("state"))
            .arg("--runtime-dir")
            .arg(self.path("run"))
            .arg("--log-dir")
            .arg(self.path("log"))
            .arg("--socket")
            .arg(self.socket())
            .arg("--instance")
            .arg(&self.instance)
            .args(&self.extra)
            .stdin(Stdio::null())
            .stdout(Stdio::null());
        command
    }

    /// Returns where the daemon listens.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        self.path("reconciler.sock")
    }

    /// Kills the daemon with no chance to do anything.
    ///
    /// # Panics
    /// When it does not run.
    pub fn kill9(&mut self) {
        let mut child = self.daemon.take().expect("the daemon runs");
        child.kill().expect("kill the daemon");
        child.wait().expect("reap the daemon");
    }

    /// Ends the daemon in the ordinary way and waits for it.
    ///
    /// # Panics
    /// When it does not run, or does not end soon.
    pub fn stop(&mut self) {
        signal(self.daemon_pid().into(), Signal::SIGTERM);
        let mut child = self.daemon.take().expect("the daemon runs");
        until("the daemon to end", SOON, || {
            child.try_wait().expect("wait").is_some()
        });
    }

    /// Runs the client.
    ///
    /// # Panics
    /// When it can't be started.
    #[must_use]
    pub fn cli(&self, arguments: &[&str]) -> Output {
        Command::new(bin("reconciler"))
            .args(arguments)
            .env("RECONCILER_SOCKET", self.socket())
            .env("NO_COLOR", "1")
            .stdin(Stdio::null())
            .output()
            .expect("run the client")
    }

    /// Runs the client and reads its answer as JSON; `Null` when it gave none.
    #[must_use]
    pub fn json(&self, arguments: &[&str]) -> Value {
        serde_json::from_slice(&self.cli(arguments).stdout).unwrap_or(Value::Null)
    }

    /// Returns the status of one container, `Null` when there is none.
    #[must_use]
    pub fn status(&self, name: &str) -> Value {
        let mut view = self.json(&["status", name, "-o", "json"]);
        if view.get("status").is_some() {
            view["status"].take()
        } else {
            view
        }
    }

    /// Waits until a container is in a phase, settled, at its newest generation.
    ///
    /// # Panics
    /// When it is not soon; with the status that it had, and the end of the daemon's log.
    pub fn wait_phase(&self, name: &str, phase: &str) -> Value {
        eventually(&format!("{name} to be {phase}"), SOON, || {
            let status = self.status(name);
            let current = status["generation"] == status["observedGeneration"];
            if status["phase"] == phase && current && self.condition(&status, "Settled") {
                return Ok(status);
            }
            Err(format!("{status:#}\n{}", self.log_tail()))
        })
    }

    /// Returns whether a condition of a status is true.
    #[must_use]
    pub fn condition(&self, status: &Value, kind: &str) -> bool {
        status["conditions"].as_array().is_some_and(|all| {
            all.iter()
                .any(|c| c["kind"] == kind && c["status"] == "True")
        })
    }

    /// Returns the host pid of a process of a container.
    #[must_use]
    pub fn pid(&self, name: &str, process: &str) -> Option<u64> {
        let status = self.status(name);
        let all = status["processes"].as_array()?;
        all.iter().find(|p| p["name"] == process)?["pid"].as_u64()
    }

    /// Waits until nobody knows the container any more.
    ///
    /// # Panics
    /// When somebody still does.
    pub fn wait_gone(&self, name: &str) {
        until(&format!("{name} to be gone"), SOON, || {
            self.cli(&["status", name]).status.code() == Some(4)
        });
    }

    /// Returns the last lines that the daemon said.
    #[must_use]
    pub fn log_tail(&self) -> String {
        let text = fs::read_to_string(self.path("daemon.log")).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines
            .iter()
            .skip(lines.len().saturating_sub(30))
            .copied()
            .collect::<Vec<_>>()
            .join("\n")
    }

    /// Kills and removes everything of this instance in the cgroup hierarchies.
    pub fn clear_cgroups(&self) {
        for place in self.cgroups() {
            clear_cgroup(&place);
        }
    }

    /// Returns every directory of this instance in the cgroup hierarchies.
    #[must_use]
    pub fn cgroups(&self) -> Vec<PathBuf> {
        let wanted = format!("reconciler-{}", self.instance);
        let mut found = Vec::new();
        find_directories(Path::new("/sys/fs/cgroup"), &wanted, &mut found);
        found
    }
}
