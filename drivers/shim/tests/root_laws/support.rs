//! A host with an image on it, and containers whose root is made by `root-probe`.

use std::cell::{Cell, RefCell};
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use prost::Message;
use shim_proto::launch::{Assembly, Bind, File, IdRange, Launch, Mount, MountSource, Root, Tmpfs};
use tempfile::TempDir;

/// Capabilities of containers here; CAP_SYS_ADMIN is not among them, which decides how `Auto`
/// assembles.
pub(crate) const FEW: u64 = 0xff;
pub(crate) const RANGE: IdRange = IdRange {
    base: 700_000,
    count: 65_536,
};
const APPLETS: [&str; 22] = [
    "sh", "ls", "cat", "stat", "mount", "umount", "touch", "mkdir", "rm", "ln", "mv", "id", "dd",
    "mknod", "find", "echo", "sleep", "chown", "chmod", "head", "test", "df",
];

/// Makes a host of its own: without the mounts that other tests make meanwhile.
const ALONE: &str = "for m in $(cut -d' ' -f5 /proc/self/mountinfo | grep '^/tmp/'); do \
    umount -l \"$(printf %b \"$m\")\"; done; mount --make-rshared /";

/// One way to make a root.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Way {
    pub(crate) assembly: Assembly,
    pub(crate) ids: Option<IdRange>,
}

/// Says whether this kernel mounts on trees that are not attached (Linux 6.15). Where it does
/// not, `Detached` cannot be tried and says so.
fn has_detached() -> bool {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    let mut numbers = release
        .split(['.', '-'])
        .map(|n| n.parse::<u32>().unwrap_or(0));
    (numbers.next(), numbers.next()) >= (Some(6), Some(15))
}

/// Runs `law` in both assemblies, with and without a user namespace.
pub(crate) fn every_way(law: impl Fn(Way)) {
    for assembly in [Assembly::Detached, Assembly::Classic] {
        if assembly == Assembly::Detached && !has_detached() {
            eprintln!("skipped: this kernel has no detached trees");
            continue;
        }
        for ids in [None, Some(RANGE)] {
            law(Way { assembly, ids });
        }
    }
}

/// Directories of one test on the host.
pub(crate) struct Host {
    directory: TempDir,
    lives: Cell<u32>,
}

impl Host {
    /// A host with a small image, at a path with all that overlay's options give a meaning.
    pub(crate) fn new() -> Host {
        let directory = tempfile::Builder::new()
            .prefix("reconciler-root-:,=")
            .tempdir()
            .unwrap();
        let host = Host {
            directory,
            lives: Cell::new(0),
        };
        for name in ["bin", "etc", "tmp", "data"] {
            fs::create_dir_all(host.image().join(name)).unwrap();
        }
        fs::copy("/bin/busybox", host.image().join("bin/busybox")).unwrap();
        for applet in APPLETS {
            symlink("busybox", host.image().join("bin").join(applet)).unwrap();
        }
        fs::write(
            host.image().join("etc/passwd"),
            "root:x:0:0::/:\napp:x:1000:1001::/:\n",
        )
        .unwrap();
        fs::write(
            host.image().join("etc/group"),
            "root:x:0:\napps:x:1001:\nlogs:x:7:app\n",
        )
        .unwrap();
        fs::write(host.image().join("etc/plain"), "of the image\n").unwrap();
        host
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub(crate) fn image(&self) -> PathBuf {
        self.path("image")
    }

    /// A directory on the host, open to everyone so that unmapped ids may use it.
    pub(crate) fn directory(&self, name: &str) -> PathBuf {
        let path = self.path(name);
        fs::create_dir_all(&path).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o777)).unwrap();
        path
    }

    /// A launch with a new ephemeral upper, made as the daemon makes it.
    pub(crate) fn launch(&self, way: Way) -> Launch {
        self.lives.set(self.lives.get() + 1);
        let life = self.path(&format!("life{}", self.lives.get()));
        let base = way.ids.map(|ids| ids.base);
        for name in ["upper", "work"] {
            fs::create_dir_all(life.join(name)).unwrap();
            chown(life.join(name), base, base).unwrap();
        }
        fs::set_permissions(&life, fs::Permissions::from_mode(0o700)).unwrap();
        Launch {
            assembly: way.assembly.into(),
            user_namespace: way.ids,
            capabilities: FEW,
            root: Some(Root {
                lower: text(&self.image()),
                upper: text(&life.join("upper")),
                work: text(&life.join("work")),
                read_only: false,
                persistent: false,
                image: String::new(),
            }),
            ..Launch::default()
        }
    }

    /// Digest of everything in a directory: names, kinds, owners, modes, contents.
    pub(crate) fn digest(&self, path: &Path) -> String {
        let script = "cd \"$0\" && find . -exec stat -c '%n %f %u %g %s %Y' {} + | sort; \
            find . -type f -exec sha256sum {} + | sort";
        let output = Command::new("sh")
            .args(["-c", script])
            .arg(path)
            .output()
            .unwrap();
        assert!(output.status.success());
        String::from_utf8(output.stdout).unwrap()
    }

    pub(crate) fn start(&self, launch: &Launch) -> Result<Container, String> {
        self.start_after(launch, "true")
    }

    /// Starts after `setup` on a host of its own: a mount namespace where all is shared, as
    /// init systems make it, but not with the real host, whose table others change meanwhile.
    pub(crate) fn start_after(&self, launch: &Launch, setup: &str) -> Result<Container, String> {
        let file = self.path(&format!("launch{}", self.lives.get()));
        fs::write(&file, launch.encode_to_vec()).unwrap();
        let script = format!("{ALONE} && {setup} && echo set up && read go && exec \"$0\" \"$1\"");
        let mut probe = Command::new("unshare")
            .args(["--mount", "--propagation", "private", "sh", "-c", &script])
            .arg(env!("CARGO_BIN_EXE_root-probe"))
            .arg(&file)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut control = probe.stdin.take().unwrap();
        let mut answers = BufReader::new(probe.stdout.take().unwrap());
        let mut line = String::new();
        answers.read_line(&mut line).unwrap();
        assert_eq!(line, "set up\n");
        let before = table_of(&probe);
        writeln!(control, "go").unwrap();
        line.clear();
        answers.read_line(&mut line).unwrap();
        let Some(ready) = line.trim().strip_prefix("ready ") else {
            assert!(line.starts_with("failure"), "the probe died: {line}");
            let mut fds = String::new();
            answers.read_line(&mut fds).unwrap();
            assert_eq!(fds.trim(), "fds 0", "descriptors were left after {line}");
            assert_eq!(table_of(&probe), before, "mounts were left after {line}");
            drop(control);
            probe.wait().unwrap();
            return Err(line.trim().to_owned());
        };
        let pid = ready.to_owned();
        let table = fs::read_to_string(format!("/proc/{pid}/mountinfo")).unwrap();
        let overlay = table
            .lines()
            .find(|line| line.contains(" - overlay "))
            .unwrap();
        // Only the classic way names layers by descriptors of the shim.
        let is_classic = overlay.contains("lowerdir=/proc/self/fd/");
        let assembly = if is_classic {
            Assembly::Classic
        } else {
            Assembly::Detached
        };
        assert_eq!(table_of(&probe), before, "the host's mounts changed");
        Ok(Container {
            probe,
            before: RefCell::new(before),
            control: Some(control),
            answers,
            pid,
            assembly,
        })
    }

    /// Starts what has to start.
    #[track_caller]
    pub(crate) fn run(&self, launch: &Launch) -> Container {
        self.start(launch)
            .unwrap_or_else(|failure| panic!("{failure}"))
    }

    /// Gives the words of a failure that has to come.
    #[track_caller]
    pub(crate) fn refused(&self, launch: &Launch) -> String {
        match self.start(launch) {
            Ok(_) => panic!("it started"),
            Err(failure) => failure,
        }
    }
}

/// The mounts, and the mount namespace, that a process sees.
fn table_of(process: &Child) -> String {
    let of = PathBuf::from(format!("/proc/{}", process.id()));
    let space = fs::read_link(of.join("ns/mnt")).unwrap();
    format!(
        "{}{}\n",
        fs::read_to_string(of.join("mountinfo")).unwrap(),
        text(&space)
    )
}

/// A running container; killed and waited for when dropped. Whatever was done to it, the
/// host's mounts are then as they were before it started.
pub(crate) struct Container {
    probe: Child,
    before: RefCell<String>,
    control: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
    pub(crate) pid: String,
    pub(crate) assembly: Assembly,
}

impl Container {
    /// Runs a script inside as the container's root with all its capabilities; gives
    /// whether it went well and all it said.
    pub(crate) fn try_inside(&self, script: &str) -> (bool, String) {
        let output = Command::new("nsenter")
            .args(["--target", &self.pid, "--all", "--", "/bin/sh", "-c"])
            .arg(format!("exec 2>&1; {script}"))
            .output()
            .unwrap();
        let said = [output.stdout, output.stderr].concat();
        (output.status.success(), String::from_utf8(said).unwrap())
    }

    /// The same for a script that has to go well.
    #[track_caller]
    pub(crate) fn inside(&self, script: &str) -> String {
        let (is_well, said) = self.try_inside(script);
        assert!(is_well, "{script}: {said}");
        said
    }

    /// The same for a script that has to fail, and to say `why`.
    #[track_caller]
    pub(crate) fn fails_inside(&self, script: &str, why: &str) {
        let (is_well, said) = self.try_inside(script);
        assert!(!is_well, "{script} went well: {said}");
        assert!(said.contains(why), "{script}: {said}");
    }

    /// Gives the probe a line and reads its answer.
    pub(crate) fn ask(&mut self, line: &str) -> String {
        let control = self.control.as_mut().unwrap();
        writeln!(control, "{line}").unwrap();
        let mut answer = String::new();
        self.answers.read_line(&mut answer).unwrap();
        answer.trim().to_owned()
    }

    /// Path on the host that shows the container's root.
    pub(crate) fn root(&self) -> PathBuf {
        PathBuf::from(format!("/proc/{}/root", self.pid))
    }

    /// Takes the host's mounts as they are from now on, after the test changed them.
    pub(crate) fn host_changed(&self) {
        *self.before.borrow_mut() = table_of(&self.probe);
    }

    /// Pid of the probe, which stands where a shim does.
    pub(crate) fn host_pid(&self) -> String {
        self.probe.id().to_string()
    }

    /// Its mounts, in order: path, flags, kind, and how they spread.
    pub(crate) fn mounts(&self) -> Vec<String> {
        mounts(&self.inside("cat /proc/self/mountinfo"))
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        let after = table_of(&self.probe);
        drop(self.control.take());
        self.probe.wait().unwrap();
        if !std::thread::panicking() {
            assert_eq!(after, *self.before.borrow(), "the host's mounts changed");
        }
    }
}

/// The telling fields of `mountinfo`.
pub(crate) fn mounts(table: &str) -> Vec<String> {
    table
        .lines()
        .map(|line| {
            let (left, right) = line.split_once(" - ").unwrap();
            let left: Vec<&str> = left.split(' ').collect();
            let kind = right.split(' ').next().unwrap();
            let spread = if left.len() > 6 { " spreads" } else { "" };
            format!("{} {} {kind}{spread}", left[4], left[5])
        })
        .collect()
}

pub(crate) fn text(path: &Path) -> String {
    path.to_str().unwrap().to_owned()
}

/// A bind of `source` at `path`, writable and private.
pub(crate) fn bind(path: &str, source: &Path) -> Mount {
    Mount {
        path: path.to_owned(),
        read_only: false,
        source: Some(MountSource::Bind(Bind {
            source: text(source),
            ..Bind::default()
        })),
    }
}

/// The same, changed.
pub(crate) fn bind_with(
    path: &str,
    source: &Path,
    change: impl FnOnce(&mut Mount, &mut Bind),
) -> Mount {
    let mut mount = bind(path, source);
    let mut bind = Bind {
        source: text(source),
        ..Bind::default()
    };
    change(&mut mount, &mut bind);
    Mount {
        source: Some(MountSource::Bind(bind)),
        ..mount
    }
}

pub(crate) fn memory(path: &str, bytes: u64, mode: u32) -> Mount {
    Mount {
        path: path.to_owned(),
        read_only: false,
        source: Some(MountSource::Tmpfs(Tmpfs { bytes, mode })),
    }
}

pub(crate) fn file(path: &str, content: &str, mode: u32, user: &str) -> File {
    File {
        path: path.to_owned(),
        content: content.into(),
        mode,
        user: user.to_owned(),
        digest: vec![0; 16],
    }
}
