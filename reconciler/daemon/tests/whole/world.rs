//! One daemon in a directory of its own.

use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::Once;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use serde_json::Value;

pub(crate) const BOUND: Duration = Duration::from_secs(30);
static COUNTER: AtomicU32 = AtomicU32::new(0);

pub(crate) struct World {
    pub(crate) dir: PathBuf,
    daemon: Option<Child>,
    /// What the daemon finds in its environment.
    pub(crate) environment: Vec<(&'static str, String)>,
}

impl World {
    pub(crate) fn new() -> Self {
        let number = COUNTER.fetch_add(1, Ordering::Relaxed);
        let dir = std::env::temp_dir().join(format!("rcdw{}-{number}", std::process::id()));
        fs::create_dir_all(dir.join("specs")).unwrap();
        // Others must get as far as the socket, for it to be the socket that refuses them.
        fs::set_permissions(&dir, fs::Permissions::from_mode(0o755)).unwrap();
        for name in ["daemon", "ask"] {
            let from = built(name);
            fs::copy(&from, dir.join(name)).unwrap_or_else(|err| panic!("{from:?}: {err}"));
        }
        // No container is begun in these tests.
        fs::copy("/bin/true", dir.join("shim")).unwrap();
        Self {
            dir,
            daemon: None,
            environment: Vec::new(),
        }
    }

    pub(crate) fn started() -> Self {
        let mut world = Self::new();
        world.start();
        world
    }

    pub(crate) fn config(&self, text: &str) {
        let text = format!("apiVersion: reconciler/v1\nkind: Config\n{text}");
        fs::write(self.dir.join("config.yaml"), text).unwrap();
    }

    pub(crate) fn command(&self) -> Command {
        let mut command = Command::new(self.dir.join("daemon"));
        command.arg(&self.dir).arg(self.dir.join("shim"));
        let config = self.dir.join("config.yaml");
        if config.exists() {
            command.arg(config);
        }
        command
            .env_clear()
            .envs(self.environment.iter().cloned())
            .stdin(Stdio::null())
            .stdout(Stdio::null());
        command
    }

    pub(crate) fn start(&mut self) {
        let log = File::options()
            .create(true)
            .append(true)
            .open(self.dir.join("log.txt"))
            .unwrap();
        self.daemon = Some(self.command().stderr(log).spawn().unwrap());
        self.until("the daemon to be ready", || {
            self.try_get("/v1/version")
                .is_some_and(|version| version["ready"] == true)
        });
    }

    pub(crate) fn pid(&self) -> i32 {
        i32::try_from(self.daemon.as_ref().unwrap().id()).unwrap()
    }

    pub(crate) fn signal(&mut self, signal: nix::sys::signal::Signal) -> std::process::ExitStatus {
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(self.pid()), signal).unwrap();
        self.daemon.take().unwrap().wait().unwrap()
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.dir.join("sock")
    }

    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.dir.join("log.txt")).unwrap_or_default()
    }

    pub(crate) fn until(&self, what: &str, mut holds: impl FnMut() -> bool) {
        let begun = Instant::now();
        while !holds() {
            assert!(
                begun.elapsed() < BOUND,
                "waited in vain for {what}\n{}",
                self.log()
            );
            std::thread::park_timeout(Duration::from_millis(20));
        }
    }

    pub(crate) fn try_get(&self, path: &str) -> Option<Value> {
        let (status, body) = ask(&self.socket(), "GET", path, b"").ok()?;
        (status == 200).then(|| serde_json::from_slice(&body).ok())?
    }

    pub(crate) fn get(&self, path: &str) -> Value {
        self.try_get(path)
            .unwrap_or_else(|| panic!("{path}: no answer\n{}", self.log()))
    }

    pub(crate) fn post(&self, path: &str, body: &str) -> (u16, Value) {
        let (status, body) = ask(&self.socket(), "POST", path, body.as_bytes()).unwrap();
        (status, serde_json::from_slice(&body).unwrap_or(Value::Null))
    }

    /// Asks as another user; returns the status line and all.
    pub(crate) fn ask_as(&self, uid: u32, gid: u32, request: &str) -> Output {
        let mut child = Command::new(self.dir.join("ask"))
            .arg(self.socket())
            .uid(uid)
            .gid(gid)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        child
            .stdin
            .take()
            .unwrap()
            .write_all(request.as_bytes())
            .unwrap();
        child.wait_with_output().unwrap()
    }

    pub(crate) fn write(&self, file: &str, text: &str) {
        let temporary = self.dir.join("specs").join(format!(".{file}.tmp"));
        fs::write(&temporary, text).unwrap();
        fs::rename(temporary, self.dir.join("specs").join(file)).unwrap();
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if let Some(mut daemon) = self.daemon.take() {
            if self.dir.join("specs").is_dir() {
                let files = fs::read_dir(self.dir.join("specs")).unwrap().flatten();
                files.for_each(|file| fs::remove_file(file.path()).unwrap());
                let gone = |list: Value| list["containers"].as_array().is_some_and(Vec::is_empty);
                let begun = Instant::now();
                while begun.elapsed() < BOUND {
                    ask(
                        &self.socket(),
                        "POST",
                        "/v1/sync",
                        br#"{"allowDeletes":1000}"#,
                    )
                    .ok();
                    if self.try_get("/v1/containers").is_none_or(gone) {
                        break;
                    }
                    std::thread::park_timeout(Duration::from_millis(100));
                }
            }
            let pid = nix::unistd::Pid::from_raw(i32::try_from(daemon.id()).unwrap());
            nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).ok();
            daemon.wait().unwrap();
        }
        fs::remove_dir_all(&self.dir).ok();
    }
}

pub(crate) fn spec(name: &str) -> String {
    format!(
        "apiVersion: reconciler/v1\nkind: Container\nmetadata: {{name: {name}, labels: {{app: \
         {name}}}}}\nspec:\n  rootfs: {{directory: /srv/no-such-root}}\n"
    )
}

/// Returns an example, built if that was not done: a run of this file alone does not. The
/// task runner, which sets the variable, builds it with everything else, and a second build
/// with this package's features alone would take a minute of the first test's time.
fn built(example: &str) -> PathBuf {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        if std::env::var_os("RECONCILER_BIN_DIR").is_some() {
            return;
        }
        let built = Command::new(env!("CARGO"))
            .args([
                "build",
                "--quiet",
                "--package",
                "reconciler-daemon",
                "--examples",
            ])
            .status();
        assert!(
            built.is_ok_and(|status| status.success()),
            "the examples do not build"
        );
    });
    let own = std::env::current_exe().unwrap();
    own.parent()
        .and_then(Path::parent)
        .unwrap()
        .join("examples")
        .join(example)
}

/// One request over a connection of its own.
pub(crate) fn ask(
    socket: &Path,
    method: &str,
    path: &str,
    body: &[u8],
) -> std::io::Result<(u16, Vec<u8>)> {
    let mut stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(BOUND))?;
    let head = format!(
        "{method} {path} HTTP/1.1\r\nhost: d\r\nconnection: close\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes())?;
    stream.write_all(body)?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    parse(&answer).ok_or_else(|| std::io::ErrorKind::InvalidData.into())
}

pub(crate) fn parse(answer: &[u8]) -> Option<(u16, Vec<u8>)> {
    let end = answer.windows(4).position(|four| four == b"\r\n\r\n")?;
    let head = std::str::from_utf8(&answer[..end])
        .ok()?
        .to_ascii_lowercase();
    let status = head.split_ascii_whitespace().nth(1)?.parse().ok()?;
    let rest = &answer[end + 4..];
    let body = if head.contains("transfer-encoding: chunked") {
        unchunk(rest)?
    } else {
        rest.to_vec()
    };
    Some((status, body))
}

fn unchunk(mut rest: &[u8]) -> Option<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let end = rest.windows(2).position(|two| two == b"\r\n")?;
        let size = usize::from_str_radix(std::str::from_utf8(&rest[..end]).ok()?, 16).ok()?;
        if size == 0 {
            return Some(body);
        }
        body.extend_from_slice(rest.get(end + 2..end + 2 + size)?);
        rest = rest.get(end + 4 + size..)?;
    }
}
