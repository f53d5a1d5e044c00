//! What a new process does between clone and exec, worked out beforehand: from here on
//! nothing is allocated, locked or looked up.

use std::ffi::{CString, c_char};
use std::os::fd::AsFd as _;

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::thread::Gid;
use shim_proto::exec::CopyTree;
use shim_proto::launch::{Process, Rlimit};
use shim_proto::message::Failure;

use super::child::{Stage, Trouble};
use super::copy::Copying;
use crate::{fail, kernel};

/// Searched when the process has no `PATH` of its own.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// Most arguments or variables; the kernel's own limits (`execve(2)`) come on top.
const WORDS_MAX: usize = 8192;
/// Most resource limits: there are sixteen kinds (`getrlimit(2)`).
const LIMITS_MAX: usize = 16;

/// A process about to be.
#[derive(Debug)]
pub(crate) struct Plan {
    command: String,
    pub(super) argv: Words,
    pub(super) envp: Words,
    pub(super) candidates: Vec<CString>,
    pub(super) user: User,
    pub(super) work_dir: CString,
    pub(super) limits: Vec<Rlimit>,
    /// Limits that only somebody outside can set, before the process goes on.
    pub(crate) raise: Vec<Rlimit>,
    /// It runs no program, but copies files.
    pub(super) copying: Option<Copying>,
}

/// Who a process runs as.
#[derive(Debug)]
pub(super) struct User {
    pub(super) uid: u32,
    pub(super) gid: u32,
    /// The group, then the supplementary ones.
    pub(super) groups: Vec<Gid>,
}

/// C strings and the list of pointers to them, which ends in null.
#[derive(Debug)]
pub(super) struct Words {
    pub(super) pointers: Vec<*const c_char>,
    _strings: Vec<CString>,
}

impl Words {
    fn new(words: &[String]) -> Option<Self> {
        if words.len() > WORDS_MAX {
            return None;
        }
        let strings: Option<Vec<CString>> = words
            .iter()
            .map(|word| CString::new(word.as_str()).ok())
            .collect();
        let strings = strings?;
        let mut pointers: Vec<*const c_char> = strings.iter().map(|word| word.as_ptr()).collect();
        pointers.push(std::ptr::null());
        Some(Self {
            pointers,
            _strings: strings,
        })
    }
}

impl Plan {
    /// Works out everything a process needs before it exists.
    pub(crate) fn new(process: &Process) -> Result<Self, Failure> {
        let what = format!("start {:?}", process.name);
        let bad = |cause: &str| fail::terminal(&what, cause);
        let command = process.command.first().filter(|word| !word.is_empty());
        let command = command.ok_or_else(|| bad("its command is empty"))?.clone();
        let argv = Words::new(&process.command).ok_or_else(|| bad("a zero byte in its command"))?;
        let envp = Words::new(&process.env).ok_or_else(|| bad("a zero byte in its environment"))?;
        let user = look_up(&process.user)?;
        if process.rlimits.len() > LIMITS_MAX {
            return Err(bad("more resource limits than there are kinds"));
        }
        let mut limits = Vec::new();
        let mut raise = Vec::new();
        for limit in &process.rlimits {
            let name = limit_name(limit.resource);
            let now = kernel::hard_limit(limit.resource)
                .map_err(|errno| fail::kernel(format!("{what}: read the limit {name}"), errno))?;
            if limit.soft > limit.hard {
                return Err(bad(&format!("the soft limit {name} is above the hard one")));
            }
            if limit.hard > now {
                raise.push(*limit)
            } else {
                limits.push(*limit)
            }
        }
        let work_dir = if process.work_dir.is_empty() {
            "/"
        } else {
            process.work_dir.as_str()
        };
        if !work_dir.starts_with('/') {
            return Err(bad(&format!(
                "its work directory {work_dir:?} does not begin with /"
            )));
        }
        Ok(Self {
            candidates: candidates(&command, &process.env).ok_or_else(|| bad("a zero byte"))?,
            command,
            argv,
            envp,
            user,
            work_dir: CString::new(work_dir).map_err(|_| bad("a zero byte"))?,
            limits,
            raise,
            copying: None,
        })
    }

    /// Works out what somebody needs who copies files.
    pub(super) fn copy(wanted: &CopyTree) -> Result<Self, Failure> {
        let nothing = || fail::terminal("copy files", "a zero byte");
        Ok(Self {
            command: String::new(),
            argv: Words::new(&[]).ok_or_else(nothing)?,
            envp: Words::new(&[]).ok_or_else(nothing)?,
            candidates: Vec::new(),
            user: look_up(&wanted.user)?,
            work_dir: c"/".to_owned(),
            limits: Vec::new(),
            raise: Vec::new(),
            copying: Some(Copying::new(wanted)?),
        })
    }

    /// Says in words why the process failed to become its program.
    pub(crate) fn explain(&self, name: &str, trouble: Trouble) -> Failure {
        let errno = Errno::from_raw_os_error(trouble.errno);
        let command = &self.command;
        let of = |stage: Stage| trouble.stage == stage as u32;
        let step = if of(Stage::Exec) {
            format!("run {command:?}")
        } else if of(Stage::Directory) || of(Stage::Outside) {
            format!("enter its work directory {:?}", self.work_dir)
        } else if of(Stage::Limits) {
            format!("set the limit {}", limit_name(trouble.detail))
        } else if of(Stage::User) {
            format!("become user {}", self.user.uid)
        } else if of(Stage::Group) || of(Stage::Groups) {
            format!(
                "join group {} and {} more",
                self.user.gid,
                self.user.groups.len().max(1) - 1
            )
        } else if of(Stage::Capabilities) {
            "drop capabilities".into()
        } else if of(Stage::Seccomp) {
            format!("install seccomp program {}", trouble.detail)
        } else if of(Stage::Privileges) {
            "give up new privileges".into()
        } else {
            "connect its output".into()
        };
        let mut failure = fail::kernel(format!("start {name:?}: {step}"), errno);
        failure.no_such_command = of(Stage::Exec) && errno == Errno::NOENT && !self.is_there();
        failure.cause = match errno {
            Errno::NOENT if of(Stage::Exec) => self.explain_not_found(),
            Errno::ACCESS if of(Stage::Exec) => {
                format!("user {} may not run {command}", self.user.uid)
            }
            Errno::NOEXEC if of(Stage::Exec) => format!("{command} is no program of this machine"),
            Errno::TOOBIG if of(Stage::Exec) => "command and environment are too long".into(),
            Errno::NOENT | Errno::NOTDIR if of(Stage::Directory) => {
                "there is no such directory in the root".into()
            }
            Errno::LOOP if of(Stage::Directory) => "it leads through a descriptor".into(),
            _ if of(Stage::Outside) => "it is not inside the root".into(),
            Errno::INVAL if of(Stage::User) || of(Stage::Group) || of(Stage::Groups) => {
                "the id is not in the container's range".into()
            }
            _ => String::new(),
        };
        failure
    }

    fn is_there(&self) -> bool {
        self.candidates.iter().any(|path| {
            path.as_bytes().starts_with(b"/") && rustix::fs::stat(path.as_c_str()).is_ok()
        })
    }

    /// The kernel says the same of a missing program and of a missing interpreter of one.
    fn explain_not_found(&self) -> String {
        let command = &self.command;
        if self.is_there() {
            format!("the interpreter of {command} is not in the root")
        } else {
            format!("command {command} not found in the root")
        }
    }
}

/// Returns who that is in the root this process stands in. `root` needs no entry: an image of
/// one program may have no `/etc`.
fn look_up(text: &str) -> Result<User, Failure> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root = rustix::fs::open("/", flags, Mode::empty())
        .map_err(|errno| fail::kernel("open the root", errno))?;
    let found = match crate::root::lookup_user(root.as_fd(), text) {
        Err(_) if text == "root" => crate::root::lookup_user(root.as_fd(), "0"),
        found => found,
    };
    let found = found.map_err(fail::of_root)?;
    let all = std::iter::once(&found.gid).chain(&found.groups);
    Ok(User {
        uid: found.uid,
        gid: found.gid,
        groups: all.map(|gid| Gid::from_raw(*gid)).collect(),
    })
}

/// Returns the paths to try: the command itself if it has a slash, else one below each
/// directory of the process' own `PATH`.
fn candidates(command: &str, env: &[String]) -> Option<Vec<CString>> {
    if command.contains('/') {
        return CString::new(command).ok().map(|path| vec![path]);
    }
    let path = env
        .iter()
        .find_map(|word| word.strip_prefix("PATH="))
        .unwrap_or(DEFAULT_PATH);
    path.split(':')
        .filter(|directory| directory.starts_with('/'))
        .map(|directory| {
            CString::new(format!("{}/{command}", directory.trim_end_matches('/'))).ok()
        })
        .collect()
}

/// Returns the name of a resource limit (`getrlimit(2)`).
pub(crate) fn limit_name(resource: u32) -> String {
    let name = match resource {
        libc::RLIMIT_AS => "as",
        libc::RLIMIT_CORE => "core",
        libc::RLIMIT_CPU => "cpu",
        libc::RLIMIT_DATA => "data",
        libc::RLIMIT_FSIZE => "fsize",
        libc::RLIMIT_LOCKS => "locks",
        libc::RLIMIT_MEMLOCK => "memlock",
        libc::RLIMIT_MSGQUEUE => "msgqueue",
        libc::RLIMIT_NICE => "nice",
        libc::RLIMIT_NOFILE => "nofile",
        libc::RLIMIT_NPROC => "nproc",
        libc::RLIMIT_RSS => "rss",
        libc::RLIMIT_RTPRIO => "rtprio",
        libc::RLIMIT_RTTIME => "rttime",
        libc::RLIMIT_SIGPENDING => "sigpending",
        libc::RLIMIT_STACK => "stack",
        other => return format!("number {other}"),
    };
    name.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_searched_on_its_own_path() {
        let paths = |command: &str, env: &[&str]| {
            let env: Vec<String> = env.iter().map(|word| (*word).into()).collect();
            let found = candidates(command, &env).unwrap();
            found
                .iter()
                .map(|path| path.to_str().unwrap().to_owned())
                .collect::<Vec<_>>()
        };
        assert_eq!(paths("a", &["X=1", "PATH=/x:/y/:rel::"]), ["/x/a", "/y/a"]);
        assert_eq!(paths("./a", &["PATH=/x"]), ["./a"]);
        assert_eq!(paths("a", &[]).len(), 6);
        assert!(paths("a", &["PATH="]).is_empty());
    }
}
