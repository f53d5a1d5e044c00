//! The main job on a small real root, each step printed as the command a person would type.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};

use crate::build::workspace;
use crate::{build, packages, say};

/// How long one step may take; each takes well under a second on a quiet machine.
const STEP: Duration = Duration::from_secs(20);
/// The root as the examples name it.
const EXAMPLE_ROOT: &str = "/srv/rootfs/busybox";
/// Commands that the root's busybox answers to.
const APPLETS: &[&str] = &[
    "sh", "sleep", "echo", "cat", "ls", "httpd", "wget", "date", "id",
];

/// One demonstration: its directory, its programs, and the daemon while it runs.
struct Demo {
    dir: PathBuf,
    bin: PathBuf,
    instance: String,
    daemon: Option<Child>,
}

/// Runs the quickstart.
pub(crate) fn run() -> Result<()> {
    packages::install(&[packages::BUSYBOX])?;
    let bin = build::run(false)?;
    let started = Instant::now();
    let mut demo = Demo::new(bin)?;
    let shown = demo.show();
    let cleaned = demo.clean();
    shown.and(cleaned)?;
    say(&format!(
        "\ndone in {:.1} s after the build; nothing is left",
        started.elapsed().as_secs_f32()
    ));
    Ok(())
}

impl Demo {
    fn new(bin: PathBuf) -> Result<Self> {
        let instance = format!("quickstart-{}", std::process::id());
        let dir = std::env::temp_dir().join(format!("reconciler-{instance}"));
        fs::create_dir_all(dir.join("specs")).context("make the demonstration's directory")?;
        make_root(&dir.join("rootfs")).context("make a small root from busybox-static")?;
        Ok(Self {
            dir,
            bin,
            instance,
            daemon: None,
        })
    }

    /// Every step in order.
    fn show(&mut self) -> Result<()> {
        title("a small real root, made from busybox-static");
        self.shell(&format!("ls {}", self.dir.join("rootfs").display()))?;
        title("start the daemon on a directory of specs");
        self.start()?;
        title("drop two specs into it: a web server and a worker");
        for story in ["web", "worker"] {
            self.place(story)?;
        }
        self.cli(&["sync", "--wait", "--timeout", "20s"])?;
        self.cli(&["status"])?;
        self.wait_for("the web server to listen", |_| {
            Ok(std::net::TcpStream::connect("127.0.0.1:8480").is_ok())
        })?;
        self.shell("/bin/busybox wget -q -O - http://127.0.0.1:8480/")?;
        self.cli(&["logs", "worker", "--tail", "2"])?;

        title("edit a memory limit in the YAML: the pid stays");
        let before = self.pid("worker")?;
        self.edit("worker.yaml", "memory: 64Mi", "memory: 96Mi")?;
        self.wait_for("the new limit", |demo| {
            Ok(demo
                .quiet(&["status", "worker", "-o", "json"])?
                .contains("100663296"))
        })?;
        self.cli(&["status", "worker", "-o", "wide"])?;
        ensure!(self.pid("worker")? == before, "the worker was restarted");

        title("kill the daemon with -9: the containers run on, and the next start adopts them");
        self.kill9()?;
        self.start()?;
        self.cli(&["version"])?;
        self.cli(&["status"])?;
        ensure!(self.pid("worker")? == before, "the worker was restarted");

        title("break a spec: the running container stays, and you see where the fault is");
        self.edit("worker.yaml", "memory: 96Mi", "memroy: 96Mi")?;
        let path = self.dir.join("specs/worker.yaml").display().to_string();
        self.cli_may_fail(&["validate", &path])?;
        self.edit("worker.yaml", "memroy: 96Mi", "memory: 96Mi")?;

        title("remove a file: its container goes, and nothing of it stays");
        self.shell(&format!("rm {path}"))?;
        self.wait_for("the worker to be gone", |demo| {
            Ok(demo.command(&["status", "worker"]).output()?.status.code() == Some(4))
        })?;
        self.cli(&["events", "--tail", "4"])?;
        self.cli(&["status"])
    }

    /// Copies an example with its root replaced by the demonstration's.
    fn place(&self, story: &str) -> Result<()> {
        let from = workspace()
            .join("examples")
            .join(story)
            .join(format!("{story}.yaml"));
        let text = fs::read_to_string(&from).with_context(|| format!("read {}", from.display()))?;
        let root = self.dir.join("rootfs").display().to_string();
        let to = self.dir.join("specs").join(format!("{story}.yaml"));
        say(&format!(
            "$ cp examples/{story}/{story}.yaml {}",
            to.display()
        ));
        put(&to, &text.replace(EXAMPLE_ROOT, &root))
    }

    fn edit(&self, file: &str, from: &str, to: &str) -> Result<()> {
        let path = self.dir.join("specs").join(file);
        say(&format!("$ sed -i 's/{from}/{to}/' {}", path.display()));
        let text = fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
        ensure!(text.contains(from), "{file} has no `{from}`");
        put(&path, &text.replace(from, to))
    }

    fn start(&mut self) -> Result<()> {
        let mut command = self.daemon_command();
        say(&format!("$ {} &", shown(&command)));
        let log = fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.dir.join("daemon.log"))
            .context("open the daemon's log")?;
        let copy = log.try_clone().context("share the daemon's log")?;
        let child = command
            .stdin(Stdio::null())
            .stdout(log)
            .stderr(copy)
            .spawn();
        self.daemon = Some(child.context("start the daemon")?);
        self.wait_for("the daemon to be ready", |demo| {
            Ok(demo
                .quiet(&["version", "-o", "json"])?
                .replace(' ', "")
                .contains("\"ready\":true"))
        })
    }

    fn daemon_command(&self) -> Command {
        let mut command = Command::new(self.bin.join("reconciler"));
        command.arg("run");
        for (flag, name) in [
            ("--specs", "specs"),
            ("--state-dir", "state"),
            ("--runtime-dir", "run"),
            ("--log-dir", "log"),
            ("--socket", "reconciler.sock"),
        ] {
            command.arg(flag).arg(self.dir.join(name));
        }
        command.args(["--instance", &self.instance]);
        command
    }

    fn kill9(&mut self) -> Result<()> {
        let mut child = self.daemon.take().context("the daemon runs")?;
        say(&format!("$ kill -9 {}", child.id()));
        child.kill().context("kill the daemon")?;
        child.wait().context("reap the daemon")?;
        Ok(())
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(self.bin.join("reconciler"));
        command
            .args(arguments)
            .env("RECONCILER_SOCKET", self.dir.join("reconciler.sock"))
            .stdin(Stdio::null());
        command
    }

    fn cli(&self, arguments: &[&str]) -> Result<()> {
        let output = self.cli_may_fail(arguments)?;
        ensure!(
            output.status.success(),
            "reconciler {} failed",
            arguments.join(" ")
        );
        Ok(())
    }

    fn cli_may_fail(&self, arguments: &[&str]) -> Result<Output> {
        say(&format!("$ reconciler {}", arguments.join(" ")));
        let output = self.command(arguments).output().context("run reconciler")?;
        for text in [&output.stdout, &output.stderr] {
            let text = String::from_utf8_lossy(text);
            if !text.trim().is_empty() {
                say(text.trim_end());
            }
        }
        Ok(output)
    }

    fn quiet(&self, arguments: &[&str]) -> Result<String> {
        let output = self.command(arguments).output().context("run reconciler")?;
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Host pid of the container's init, out of the table's JSON.
    fn pid(&self, name: &str) -> Result<String> {
        let text = self
            .quiet(&["status", name, "-o", "json"])?
            .replace(' ', "");
        let number = text
            .split("\"pid\":")
            .nth(1)
            .context("the container has a pid")?;
        Ok(number.chars().take_while(char::is_ascii_digit).collect())
    }

    fn shell(&self, line: &str) -> Result<()> {
        say(&format!("$ {line}"));
        let mut words = line.split(' ');
        let program = words.next().context("a command")?;
        let output = Command::new(program)
            .args(words)
            .output()
            .context("run a command")?;
        say(String::from_utf8_lossy(&output.stdout).trim_end());
        ensure!(
            output.status.success(),
            "`{line}` failed: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        Ok(())
    }

    fn wait_for(&self, what: &str, holds: impl Fn(&Self) -> Result<bool>) -> Result<()> {
        let end = Instant::now() + STEP;
        while !holds(self)? {
            if Instant::now() > end {
                let log = fs::read_to_string(self.dir.join("daemon.log")).unwrap_or_default();
                anyhow::bail!("waited {STEP:?} for {what}; the daemon said:\n{log}");
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    /// Takes everything away again, whatever happened before.
    fn clean(&mut self) -> Result<()> {
        if self.daemon.is_none() {
            self.start()?;
        }
        for entry in fs::read_dir(self.dir.join("specs"))
            .context("list the specs")?
            .flatten()
        {
            fs::remove_file(entry.path()).context("remove a spec")?;
        }
        self.wait_for("everything to be gone", |demo| {
            demo.quiet(&["sync", "--allow-deletes", "100"])?;
            let list = demo.quiet(&["status", "-o", "name"])?;
            Ok(list.trim().is_empty())
        })?;
        if let Some(mut child) = self.daemon.take() {
            child.kill().context("end the daemon")?;
            child.wait().context("reap the daemon")?;
        }
        fs::remove_dir_all(&self.dir).with_context(|| format!("remove {}", self.dir.display()))
    }
}

fn title(text: &str) {
    say(&format!("\n# {text}"));
}

fn shown(command: &Command) -> String {
    let words = command
        .get_args()
        .map(|word| word.to_string_lossy().into_owned());
    std::iter::once("reconciler".to_owned())
        .chain(words)
        .collect::<Vec<_>>()
        .join(" ")
}

/// Writes a file as an editor does: beside it, then by rename.
fn put(path: &Path, text: &str) -> Result<()> {
    let fresh = path.with_extension("new");
    fs::write(&fresh, text).with_context(|| format!("write {}", fresh.display()))?;
    fs::rename(&fresh, path).with_context(|| format!("rename to {}", path.display()))
}

fn make_root(root: &Path) -> Result<()> {
    for name in [
        "bin", "etc", "proc", "sys", "dev", "tmp", "var", "root", "www",
    ] {
        fs::create_dir_all(root.join(name))?;
    }
    fs::copy("/bin/busybox", root.join("bin/busybox"))?;
    for applet in APPLETS {
        symlink("busybox", root.join("bin").join(applet))?;
    }
    fs::write(
        root.join("etc/passwd"),
        "root:x:0:0:root:/root:/bin/sh\napp:x:1000:1000::/:/bin/sh\n",
    )?;
    fs::write(root.join("etc/group"), "root:x:0:\napp:x:1000:\n")?;
    fs::write(root.join("www/index.html"), "hello from a container\n")?;
    Ok(())
}
