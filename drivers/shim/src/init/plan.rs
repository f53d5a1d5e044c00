//! What a new process does between clone and exec, worked out beforehand: from here on
//! nothing is allocated, locked or looked up.

use std::ffi::{CString, c_char};
use std::os::fd::{BorrowedFd, OwnedFd};

use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, openat2};
use rustix::io::{Errno, Result};
use rustix::process::umask;
use rustix::thread::{CapabilitySet, CapabilitySets, Gid, Uid};
use shim_proto::launch::{Process, Rlimit};
use shim_proto::message::Failure;

use super::user::{self, User};
use crate::fail::tolerate;
use crate::{fail, kernel};

/// Searched when the process has no `PATH` of its own.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// Most arguments or variables; the kernel's own limits (`execve(2)`) come on top.
const WORDS_MAX: usize = 8192;
/// Most resource limits: there are sixteen kinds (`getrlimit(2)`).
const LIMITS_MAX: usize = 16;
/// Deepest working directory, in bytes (`PATH_MAX`).
const CWD_BYTES: usize = 4096;

/// What every process of the container is confined to.
#[derive(Debug)]
pub(crate) struct Profile {
    /// Capability bits that stay.
    pub(crate) capabilities: u64,
    /// `PR_SET_NO_NEW_PRIVS`.
    pub(crate) no_new_privileges: bool,
    /// Programs, in the order they are installed.
    pub(crate) seccomp: Vec<Vec<libc::sock_filter>>,
}

/// A process about to be.
#[derive(Debug)]
pub(crate) struct Plan {
    command: String,
    argv: Words,
    envp: Words,
    candidates: Vec<CString>,
    pub(crate) user: User,
    groups: Vec<Gid>,
    work_dir: CString,
    limits: Vec<Rlimit>,
    /// Limits that only somebody outside can set, before the process goes on.
    pub(crate) raise: Vec<Rlimit>,
}

/// The descriptors of a process about to be.
#[derive(Debug)]
pub(crate) struct Ends<'a> {
    /// Becomes 0.
    pub(crate) input: BorrowedFd<'a>,
    /// Becomes 1.
    pub(crate) output: &'a OwnedFd,
    /// Becomes 2.
    pub(crate) errors: &'a OwnedFd,
    /// A byte says go; its end says do not.
    pub(crate) go: &'a OwnedFd,
    /// Takes one [`Trouble`]; closes by itself when the program runs.
    pub(crate) trouble: &'a OwnedFd,
}

/// C strings and the list of pointers to them, which ends in null.
#[derive(Debug)]
struct Words {
    pointers: Vec<*const c_char>,
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

/// At which step a process failed to become its program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub(crate) enum Stage {
    Streams = 1,
    Limits,
    Groups,
    Group,
    User,
    Capabilities,
    Directory,
    Outside,
    Privileges,
    Seccomp,
    Exec,
}

/// Why a process failed to become its program.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Trouble {
    stage: u32,
    errno: i32,
    detail: u32,
}

/// Bytes of a [`Trouble`] on its way.
pub(crate) const TROUBLE_BYTES: usize = 12;

impl Trouble {
    fn encode(self) -> [u8; TROUBLE_BYTES] {
        let mut bytes = [0; TROUBLE_BYTES];
        let words = [
            self.stage.to_le_bytes(),
            self.errno.to_le_bytes(),
            self.detail.to_le_bytes(),
        ];
        for (to, from) in bytes.iter_mut().zip(words.as_flattened()) {
            *to = *from;
        }
        bytes
    }

    /// Returns what was sent.
    pub(crate) fn decode(bytes: &[u8; TROUBLE_BYTES]) -> Self {
        let [a, b, c, d, e, f, g, h, i, j, k, l] = *bytes;
        Self {
            stage: u32::from_le_bytes([a, b, c, d]),
            errno: i32::from_le_bytes([e, f, g, h]),
            detail: u32::from_le_bytes([i, j, k, l]),
        }
    }

    /// Returns the kernel's number.
    pub(crate) fn errno(self) -> i32 {
        self.errno
    }
}

impl Plan {
    /// Works out everything a process needs before it exists.
    pub(crate) fn new(process: &Process) -> std::result::Result<Self, Failure> {
        let what = format!("start {:?}", process.name);
        let bad = |cause: &str| fail::terminal(&what, cause);
        let command = process.command.first().filter(|word| !word.is_empty());
        let command = command.ok_or_else(|| bad("its command is empty"))?.clone();
        let argv = Words::new(&process.command).ok_or_else(|| bad("a zero byte in its command"))?;
        let envp = Words::new(&process.env).ok_or_else(|| bad("a zero byte in its environment"))?;
        let user = user::look_up(&process.user).map_err(|cause| fail::terminal(&what, cause))?;
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
            groups: user.groups.iter().map(|gid| Gid::from_raw(*gid)).collect(),
            user,
            work_dir: CString::new(work_dir).map_err(|_| bad("a zero byte"))?,
            limits,
            raise,
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
                self.groups.len().max(1) - 1
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

    /// The kernel says the same of a missing program and of a missing interpreter of one.
    fn explain_not_found(&self) -> String {
        let command = &self.command;
        let there = self.candidates.iter().any(|path| {
            path.as_bytes().starts_with(b"/") && rustix::fs::stat(path.as_c_str()).is_ok()
        });
        if there {
            format!("the interpreter of {command} is not in the root")
        } else {
            format!("command {command} not found in the root")
        }
    }

    /// Waits for the word, becomes what the plan says, and runs the program. Never returns.
    pub(crate) fn run(&self, profile: &Profile, ends: &Ends<'_>) -> ! {
        let mut word = [0];
        loop {
            match rustix::io::read(ends.go, &mut word) {
                Ok(1) => break,
                Err(Errno::INTR) => {}
                Ok(_) | Err(_) => kernel::exit_now(0),
            }
        }
        let trouble = match self.become_program(profile, ends) {
            Ok(never) => match never {},
            Err(trouble) => trouble,
        };
        // Nobody is left to hear of it if this fails; the exit code below is then all.
        tolerate(rustix::io::write(ends.trouble, &trouble.encode()));
        kernel::exit_now(127)
    }

    fn become_program(
        &self,
        profile: &Profile,
        ends: &Ends<'_>,
    ) -> std::result::Result<std::convert::Infallible, Trouble> {
        connect(ends).map_err(at(Stage::Streams))?;
        umask(Mode::from_raw_mode(0o022));
        for limit in &self.limits {
            kernel::set_limit(0, limit)
                .map_err(|errno| trouble(Stage::Limits, errno, limit.resource))?;
        }
        self.drop_rights(profile)?;
        self.change_directory()?;
        if profile.no_new_privileges {
            rustix::thread::set_no_new_privs(true).map_err(at(Stage::Privileges))?;
        }
        // Marks only: every descriptor is close-on-exec from birth.
        kernel::close_range(3, u32::MAX, true).map_err(at(Stage::Streams))?;
        kernel::reset_signals();
        for (place, program) in profile.seccomp.iter().enumerate() {
            let place = u32::try_from(place).unwrap_or(u32::MAX);
            kernel::install_seccomp(program)
                .map_err(|errno| trouble(Stage::Seccomp, errno, place))?;
        }
        if needs_admin(profile) {
            set_capabilities(self.final_capabilities(profile)).map_err(at(Stage::Capabilities))?;
        }
        Err(trouble(Stage::Exec, self.try_candidates(), 0))
    }

    /// Bounding set, groups, group, user, then the capabilities that are left.
    fn drop_rights(&self, profile: &Profile) -> std::result::Result<(), Trouble> {
        for capability in 0..64 {
            if profile.capabilities >> capability & 1 == 0 {
                match kernel::drop_bounding(capability) {
                    Ok(()) => {}
                    // The kernel knows no such capability, and none above it.
                    Err(Errno::INVAL) => break,
                    Err(errno) => return Err(trouble(Stage::Capabilities, errno, capability)),
                }
            }
        }
        let gid = Gid::from_raw(self.user.gid);
        let uid = Uid::from_raw(self.user.uid);
        rustix::thread::set_thread_groups(&self.groups).map_err(at(Stage::Groups))?;
        rustix::thread::set_thread_res_gid(gid, gid, gid).map_err(at(Stage::Group))?;
        if needs_admin(profile) {
            rustix::thread::set_keep_capabilities(true).map_err(at(Stage::Capabilities))?;
        }
        rustix::thread::set_thread_res_uid(uid, uid, uid).map_err(at(Stage::User))?;
        let mut kept = self.final_capabilities(profile);
        if needs_admin(profile) {
            kept |= CapabilitySet::SYS_ADMIN.bits();
        }
        set_capabilities(kept).map_err(at(Stage::Capabilities))
    }

    /// Root keeps what the profile grants and gets it again at exec; others have nothing.
    fn final_capabilities(&self, profile: &Profile) -> u64 {
        if self.user.uid == 0 {
            profile.capabilities
        } else {
            0
        }
    }

    /// Done as the user. A directory reached through a descriptor of this process could lie
    /// outside the root, so links of that kind are refused and the outcome is looked at.
    fn change_directory(&self) -> std::result::Result<(), Trouble> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let path = self.work_dir.as_c_str();
        let directory = openat2(CWD, path, flags, Mode::empty(), ResolveFlags::NO_MAGICLINKS)
            .map_err(at(Stage::Directory))?;
        rustix::process::fchdir(&directory).map_err(at(Stage::Directory))?;
        let mut buffer = [0; CWD_BYTES];
        match kernel::first_byte_of_cwd(&mut buffer) {
            Ok(b'/') => Ok(()),
            Ok(_) => Err(trouble(Stage::Outside, Errno::XDEV, 0)),
            Err(errno) => Err(trouble(Stage::Directory, errno, 0)),
        }
    }

    fn try_candidates(&self) -> Errno {
        let mut last = Errno::NOENT;
        for path in &self.candidates {
            match kernel::exec(path, &self.argv.pointers, &self.envp.pointers) {
                Errno::NOENT | Errno::NOTDIR => {}
                // As shells do: look further, but remember that one was there.
                Errno::ACCESS => last = Errno::ACCESS,
                errno => return errno,
            }
        }
        last
    }
}

/// Installing a filter without giving up new privileges takes `CAP_SYS_ADMIN` in the user
/// namespace (`seccomp(2)`).
fn needs_admin(profile: &Profile) -> bool {
    !profile.no_new_privileges && !profile.seccomp.is_empty()
}

fn set_capabilities(bits: u64) -> Result<()> {
    let set = CapabilitySet::from_bits_retain(bits);
    let inheritable = CapabilitySet::empty();
    rustix::thread::clear_ambient_capability_set()?;
    let sets = CapabilitySets {
        effective: set,
        permitted: set,
        inheritable,
    };
    rustix::thread::set_capabilities(None, sets)
}

fn connect(ends: &Ends<'_>) -> Result<()> {
    rustix::stdio::dup2_stdin(ends.input)?;
    rustix::stdio::dup2_stdout(ends.output)?;
    rustix::stdio::dup2_stderr(ends.errors)?;
    rustix::process::setsid().map(|_| ())
}

fn at(stage: Stage) -> impl Fn(Errno) -> Trouble {
    move |errno| trouble(stage, errno, 0)
}

fn trouble(stage: Stage, errno: Errno, detail: u32) -> Trouble {
    Trouble {
        stage: stage as u32,
        errno: errno.raw_os_error(),
        detail,
    }
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

    #[test]
    fn trouble_survives_its_own_bytes() {
        let sent = trouble(Stage::Limits, Errno::PERM, 7);
        let got = Trouble::decode(&sent.encode());
        assert_eq!((got.stage, got.errno, got.detail), (2, 1, 7));
    }
}
