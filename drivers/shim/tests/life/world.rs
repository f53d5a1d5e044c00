//! One container with the real shim around it, and everything it leaves behind undone.

use std::io::Write as _;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use prost::Message as _;
use shim_proto::end::{DaemonEnd, Heard, hello};
use shim_proto::launch::{CgroupDirectory, IdRange, Launch, Logs, Process, Root};
use shim_proto::message::{
    Answer, Ask, End, Exit, Failure, PROTOCOL, ProcessReport, Report, ReportAsk, Stop,
};

/// Longest wait for anything.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);
static WORLDS: AtomicU32 = AtomicU32::new(0);

/// Says that these tests need root, where there is none.
pub(crate) fn can_run() -> bool {
    let is_root = rustix::process::geteuid().is_root();
    if !is_root {
        println!("skipped: making a container takes root");
    }
    is_root
}

/// Waits for a condition.
#[track_caller]
pub(crate) fn wait_for<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let until = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < until, "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

pub(crate) struct World {
    place: tempfile::TempDir,
    pub(crate) name: String,
    pub(crate) launch: Launch,
}

impl World {
    pub(crate) fn new() -> Self {
        let number = WORLDS.fetch_add(1, Ordering::Relaxed);
        let name = format!("t{}x{number}", std::process::id());
        let place = tempfile::Builder::new().prefix("rxshim").tempdir().unwrap();
        for directory in ["run", "upper", "work", "logs"] {
            std::fs::create_dir(place.path().join(directory)).unwrap();
        }
        let private = std::fs::Permissions::from_mode(0o700);
        std::fs::set_permissions(place.path().join("run"), private).unwrap();
        std::fs::set_permissions(place.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
        let root = place.path().join("root");
        make_root(&root);
        let text = |name: &str| place.path().join(name).to_str().unwrap().to_owned();
        let launch = Launch {
            protocol: PROTOCOL,
            instance: "test".into(),
            key: name.clone(),
            incarnation: 1,
            hostname: "inside".into(),
            user_namespace: Some(IdRange {
                base: 300_000,
                count: 65_536,
            }),
            root: Some(Root {
                lower: text("root"),
                upper: text("upper"),
                work: text("work"),
                ..Root::default()
            }),
            capabilities: 0x0000_00c0, // SETGID, SETUID
            no_new_privileges: true,
            log_directory: text("logs"),
            complete: true,
            ..Launch::default()
        };
        Self {
            place,
            name,
            launch,
        }
    }

    /// A world whose container runs.
    pub(crate) fn launched() -> Self {
        let world = Self::new();
        world.launch();
        world
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.place.path().join(name)
    }

    pub(crate) fn directory(&self) -> PathBuf {
        self.path("run")
    }

    pub(crate) fn launch(&self) {
        std::fs::write(self.directory().join("launch"), self.launch.encode_to_vec()).unwrap();
        self.run_shim("launch");
        self.wait_for_shim();
    }

    pub(crate) fn adopt(&self) {
        self.run_shim("adopt");
        self.wait_for_shim();
    }

    pub(crate) fn run_shim(&self, mode: &str) {
        // The shipped build can be put to the same tests.
        let shipped = std::env::var_os("RECONCILER_SHIM_EXE");
        let exe = shipped.unwrap_or_else(|| env!("CARGO_BIN_EXE_reconciler-shim").into());
        let done = Command::new(exe)
            .arg0("reconciler-shim")
            .args(["test", &format!("{}.1", self.name)])
            .arg(self.directory())
            .arg(mode)
            .env_clear()
            .status()
            .unwrap();
        assert!(done.success(), "{done}");
    }

    fn wait_for_shim(&self) {
        wait_for("the shim", || {
            assert!(self.failure().is_none(), "{:?}", self.failure());
            self.try_connect()
        });
    }

    pub(crate) fn failure(&self) -> Option<Failure> {
        let bytes = std::fs::read(self.directory().join("failure")).ok()?;
        Some(Failure::decode(&*bytes).unwrap())
    }

    pub(crate) fn try_connect(&self) -> Option<Client> {
        let socket = UnixStream::connect(self.directory().join("shim.sock")).ok()?;
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        let end = DaemonEnd::new(hello("test", &self.name, 1)).unwrap();
        let mut client = Client {
            socket,
            end,
            changed: 0,
            descriptors: Vec::new(),
        };
        client
            .hear()
            .map(|heard| assert_eq!(heard, Heard::Greeted))
            .ok()?;
        Some(client)
    }

    pub(crate) fn client(&self) -> Client {
        self.try_connect().expect("the shim answers")
    }

    /// Reads `PID START`.
    pub(crate) fn id(&self, name: &str) -> Option<(i32, String)> {
        let text = std::fs::read_to_string(self.directory().join(name)).ok()?;
        let (pid, start) = text.trim().split_once(' ')?;
        Some((pid.parse().unwrap(), start.into()))
    }

    /// Kills the process an id file names, if it is that one still, and waits for its end.
    pub(crate) fn kill(&self, name: &str) {
        let Some((pid, start)) = self.id(name) else {
            return;
        };
        let is_same = || {
            let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            let rest = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
            let mut fields = rest.split_whitespace();
            fields.next() != Some("Z") && fields.nth(18) == Some(&start)
        };
        if is_same() {
            let pid = rustix::process::Pid::from_raw(pid).unwrap();
            rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
            wait_for("a killed process to go", || (!is_same()).then_some(()));
        }
    }

    pub(crate) fn log(&self, process: &str) -> String {
        std::fs::read_to_string(self.path("logs").join(format!("{process}.log")))
            .unwrap_or_default()
    }

    /// The text of a process' log without times and tags, pieces of lines put together.
    pub(crate) fn output(&self, process: &str) -> String {
        unframe(&self.log(process))
    }

    /// Adds a cgroup of the test's own.
    pub(crate) fn add_cgroup(&mut self, hierarchy: &str, unified: bool) -> PathBuf {
        let path = Path::new("/sys/fs/cgroup")
            .join(hierarchy)
            .join(format!("rxshim-{}", self.name));
        std::fs::create_dir(&path).unwrap();
        let text = path.to_str().unwrap().to_owned();
        self.launch.cgroups.push(CgroupDirectory {
            path: text,
            unified,
        });
        path
    }

    /// Ends the container and waits for the shim to go.
    pub(crate) fn end(&self) {
        assert!(matches!(
            self.client().ask(Ask::End(End {})),
            Answer::Done(_)
        ));
        wait_for("the shim to go", || {
            self.try_connect().is_none().then_some(())
        });
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.kill("shim.id");
        self.kill("init.id");
        for cgroup in &self.launch.cgroups {
            // Dead processes are charged for a moment longer.
            let until = Instant::now() + PATIENCE;
            while Path::new(&cgroup.path).exists() && Instant::now() < until {
                if std::fs::remove_dir(&cgroup.path).is_ok() {
                    break;
                }
                std::thread::sleep(Duration::from_millis(5));
            }
        }
    }
}

pub(crate) fn unframe(log: &str) -> String {
    let mut text = String::new();
    for line in log.lines() {
        let mut words = line.splitn(4, ' ');
        let (_time, _stream, tag) = (words.next(), words.next(), words.next());
        text.push_str(
            words
                .next()
                .unwrap_or_else(|| panic!("a damaged line: {line:?}")),
        );
        if tag == Some("F") {
            text.push('\n');
        }
    }
    text
}

fn make_root(root: &Path) {
    for directory in ["bin", "proc", "sys", "dev", "etc", "tmp"] {
        std::fs::create_dir_all(root.join(directory)).unwrap();
    }
    std::fs::copy("/bin/busybox", root.join("bin/busybox")).unwrap();
    for tool in [
        "sh", "cat", "sleep", "seq", "id", "mkdir", "true", "false", "head", "yes", "dd",
    ] {
        std::os::unix::fs::symlink("busybox", root.join("bin").join(tool)).unwrap();
    }
    std::fs::write(root.join("dev/null"), "").unwrap();
    let shared = std::fs::Permissions::from_mode(0o1777);
    std::fs::set_permissions(root.join("tmp"), shared).unwrap();
    let passwd = "root:x:0:0::/:/bin/sh\nweb:x:1000:1001::/:/bin/sh\n";
    std::fs::write(root.join("etc/passwd"), passwd).unwrap();
    std::fs::write(
        root.join("etc/group"),
        "root:x:0:\nwww:x:1001:\nlog:x:50:web\n",
    )
    .unwrap();
}

/// A process that runs a shell script.
pub(crate) fn script(name: &str, text: &str) -> Process {
    Process {
        name: name.into(),
        command: ["sh", "-c", text].map(Into::into).into(),
        env: vec!["PATH=/bin".into()],
        user: "root".into(),
        work_dir: "/".into(),
        logs: Some(Logs {
            max_bytes: 10 << 20,
            max_files: 3,
            ..Logs::default()
        }),
        digest: vec![7; 16],
        files: vec![8; 16],
        restart_epoch: 9,
        ..Process::default()
    }
}

pub(crate) struct Client {
    pub(crate) socket: UnixStream,
    pub(crate) end: DaemonEnd,
    pub(crate) changed: u32,
    /// What came along with answers.
    pub(crate) descriptors: Vec<OwnedFd>,
}

impl Client {
    pub(crate) fn ask(&mut self, ask: Ask) -> Answer {
        let id = self.end.ask(ask).unwrap();
        loop {
            match self.hear().expect("an answer") {
                Heard::Answer(answered, answer) => {
                    assert_eq!(answered, id);
                    return answer;
                }
                Heard::Changed => self.changed += 1,
                Heard::Greeted => panic!("greeted twice"),
            }
        }
    }

    pub(crate) fn hear(&mut self) -> std::io::Result<Heard> {
        self.socket.write_all(self.end.pending())?;
        self.end.sent(self.end.pending().len());
        loop {
            if let Some(heard) = self.end.poll_heard().map_err(std::io::Error::other)? {
                return Ok(heard);
            }
            let mut bytes = [0; 4096];
            let count = self.receive(&mut bytes)?;
            if count == 0 {
                return Err(std::io::ErrorKind::UnexpectedEof.into());
            }
            self.end
                .receive(&bytes[..count])
                .map_err(std::io::Error::other)?;
        }
    }

    fn receive(&mut self, bytes: &mut [u8]) -> std::io::Result<usize> {
        use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(16))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let mut slices = [std::io::IoSliceMut::new(bytes)];
        let flags = RecvFlags::CMSG_CLOEXEC;
        let got = recvmsg(&self.socket, &mut slices, &mut control, flags)?;
        for message in control.drain() {
            if let RecvAncillaryMessage::ScmRights(descriptors) = message {
                self.descriptors.extend(descriptors);
            }
        }
        Ok(got.bytes)
    }

    pub(crate) fn report(&mut self) -> Report {
        match self.ask(Ask::Report(ReportAsk {})) {
            Answer::Report(report) => report,
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn process(&mut self, name: &str) -> Option<ProcessReport> {
        self.report()
            .processes
            .into_iter()
            .find(|process| process.name == name)
    }

    #[track_caller]
    pub(crate) fn start(&mut self, process: Process) {
        let name = process.name.clone();
        let answer = self.ask(Ask::Start(process));
        assert!(matches!(answer, Answer::Done(_)), "{name}: {answer:?}");
    }

    #[track_caller]
    pub(crate) fn refused(&mut self, ask: Ask) -> Failure {
        match self.ask(ask) {
            Answer::Failure(failure) => failure,
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn stop(&mut self, name: &str, grace_ms: u64) -> Answer {
        let starts = self.process(name).unwrap().starts;
        let signal = libc::SIGTERM.unsigned_abs();
        self.ask(Ask::Stop(Stop {
            name: name.into(),
            signal,
            grace_ms,
            starts,
        }))
    }

    /// Waits for the end of a process.
    #[track_caller]
    pub(crate) fn exit_of(&mut self, name: &str) -> Exit {
        wait_for("a process to end", || {
            let process = self.process(name)?;
            process.last_exit.filter(|_| process.pid == 0)
        })
    }

    /// Runs a script to its end and returns what it wrote.
    #[track_caller]
    pub(crate) fn run(&mut self, world: &World, name: &str, text: &str) -> (Exit, String) {
        self.start(script(name, text));
        let exit = self.exit_of(name);
        (exit, world.output(name))
    }

    pub(crate) fn fd(&self) -> i32 {
        self.socket.as_raw_fd()
    }
}
