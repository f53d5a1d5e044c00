//! Makes one container's namespaces around the shim's root code, for its tests.
//!
//! `root-probe LAUNCHFILE` prepares the root, clones an init, enters, and says `ready PID` or
//! `failure ...`. Then it takes a line each: `mount N` and `write N` (the launch's Nth),
//! `user TEXT`, `errand KIND`, `fds`, `end`; and answers `ok ...` or `failure ...`.
#![expect(unsafe_code, reason = "clone3 has no safe wrapper")]
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "only tests run it"
)]

use std::io::{BufRead, Read, Write};
use std::os::fd::{AsFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};

use prost::Message;
use rustix::process::{Signal, WaitId, WaitIdOptions};
use rustix::thread::{Gid, Uid};
use shim_proto::launch::{Cover, Launch, Mount, MountSource};

#[path = "../src"]
mod shim {
    pub(crate) mod root;
}
#[path = "../src/sys"]
mod sys {
    pub(crate) mod errand;
    pub(crate) mod fsids;
    pub(crate) mod loops;
    pub(crate) mod mount;
}

use shim::root::{self, Failure, Inside};

fn main() -> ExitCode {
    let Some(path) = std::env::args().nth(1) else {
        return ExitCode::from(2);
    };
    let bytes = std::fs::read(path).unwrap();
    let launch = Launch::decode(bytes.as_slice()).unwrap();
    let fds = open_fds();
    match Container::start(&launch) {
        Ok(container) => {
            say(&format!("ready {}", container.pid));
            let left = open_fds() - fds;
            serve(&launch, &container, left);
            ExitCode::SUCCESS
        }
        Err(failure) => {
            say(&format!("failure {:?} {failure}", failure.kind));
            say(&format!("fds {}", open_fds() - fds));
            std::io::stdin().read_to_end(&mut Vec::new()).unwrap();
            ExitCode::FAILURE
        }
    }
}

fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{line}").unwrap();
    out.flush().unwrap();
}

fn open_fds() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

fn serve(launch: &Launch, container: &Container, fds: usize) {
    let userns = container.userns.as_ref().map(AsFd::as_fd);
    let init = container.init.as_fd();
    for line in std::io::stdin().lock().lines() {
        let line = line.unwrap();
        let (verb, rest) = line.split_once(' ').unwrap_or((&line, ""));
        let number = || rest.parse::<usize>().unwrap();
        let place = || std::fs::File::open(format!("/proc/{}/root", container.pid)).unwrap();
        let inside = Inside {
            init,
            has_user_namespace: userns.is_some(),
        };
        let done = match verb {
            "mount" => root::restore_mount(launch, &launch.mounts[number()], init, userns),
            "cover" => {
                let (how, path) = rest.split_once(' ').unwrap();
                let hide = how == "hide";
                let mount = Mount {
                    path: path.to_owned(),
                    read_only: true,
                    source: Some(MountSource::Cover(Cover { hide })),
                };
                root::restore_mount(launch, &mount, init, userns)
            }
            "write" => root::write_file(place().as_fd(), &launch.files[number()], &inside),
            "user" => root::lookup_user(place().as_fd(), rest).map(|ids| say(&format!("{ids:?}"))),
            "errand" => {
                say(&format!("ok {:?}", errand(rest)));
                continue;
            }
            "fds" => {
                say(&format!("ok {fds} {}", open_fds()));
                continue;
            }
            _ => break,
        };
        match done {
            Ok(()) => say("ok"),
            Err(failure) => say(&format!("failure {:?} {failure}", failure.kind)),
        }
    }
    rustix::process::pidfd_send_signal(init, Signal::KILL).unwrap();
    wait(&container.init);
}

/// Sends a child that behaves as `kind` says.
fn errand(kind: &str) -> rustix::io::Result<sys::errand::Errand> {
    let limit_ms = if kind == "late" { 200 } else { 20_000 };
    sys::errand::run(limit_ms, || match kind {
        "late" => loop {
            std::thread::park();
        },
        "died" => panic!("asked to"),
        _ => vec![b'x'; 2 * sys::errand::ANSWER_BYTES_MAX],
    })
}

struct Container {
    pid: i32,
    init: OwnedFd,
    userns: Option<OwnedFd>,
}

impl Container {
    fn start(launch: &Launch) -> Result<Container, Failure> {
        let userns = launch.user_namespace.map(|_| user_namespace(launch));
        let prepared = root::prepare(launch, userns.as_ref().map(AsFd::as_fd))?;
        let mut flags = libc::CLONE_NEWNS
            | libc::CLONE_NEWPID
            | libc::CLONE_NEWUTS
            | libc::CLONE_NEWIPC
            | libc::CLONE_NEWCGROUP;
        if !launch.host_network {
            flags |= libc::CLONE_NEWNET;
        }
        if launch.user_namespace.is_some() {
            flags |= libc::CLONE_NEWUSER;
        }
        let (go_reader, go_writer) = std::io::pipe().unwrap();
        let (mut answer_reader, answer_writer) = std::io::pipe().unwrap();
        let Some((pid, init)) = clone(flags) else {
            drop((go_writer, answer_reader));
            become_init(launch, prepared, go_reader, answer_writer);
        };
        drop((go_reader, answer_writer));
        write_maps(launch, pid);
        drop(go_writer);
        let mut answer = Vec::new();
        answer_reader.read_to_end(&mut answer).unwrap();
        prepared.release()?;
        if !answer.is_empty() {
            wait(&init);
            let failure = shim_proto::message::Failure::decode(answer.as_slice()).unwrap();
            return Err(failure.into());
        }
        Ok(Container { pid, init, userns })
    }
}

/// Enters and runs a sleeper, which closes the answer pipe without a word.
fn become_init(
    launch: &Launch,
    prepared: root::Prepared,
    mut go: std::io::PipeReader,
    mut answer: std::io::PipeWriter,
) -> ! {
    go.read_to_end(&mut Vec::new()).unwrap();
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL)).unwrap();
    rustix::thread::set_thread_groups(&[]).unwrap();
    rustix::thread::set_thread_res_gid(Gid::ROOT, Gid::ROOT, Gid::ROOT).unwrap();
    rustix::thread::set_thread_res_uid(Uid::ROOT, Uid::ROOT, Uid::ROOT).unwrap();
    let never = rustix::process::DumpableBehavior::NotDumpable;
    rustix::process::set_dumpable_behavior(never).unwrap();
    let failure = match root::enter(launch, &prepared) {
        Ok(()) => {
            drop(prepared);
            let error = Command::new("/bin/busybox")
                .args(["sleep", "100000"])
                .stdin(std::process::Stdio::null())
                .stdout(std::process::Stdio::null())
                .exec();
            Failure {
                kind: root::FailureKind::Terminal,
                what: format!("cannot run the sleeper: {error}"),
                errno: 0,
                cause: String::new(),
            }
        }
        Err(failure) => failure,
    };
    let failure = shim_proto::message::Failure::from(failure);
    answer.write_all(&failure.encode_to_vec()).unwrap();
    // SAFETY: ends the process.
    unsafe { libc::_exit(1) }
}

fn user_namespace(launch: &Launch) -> OwnedFd {
    let (mut reader, writer) = std::io::pipe().unwrap();
    let Some((pid, child)) = clone(libc::CLONE_NEWUSER) else {
        drop(writer);
        reader.read_to_end(&mut Vec::new()).unwrap();
        // SAFETY: ends the process.
        unsafe { libc::_exit(0) }
    };
    write_maps(launch, pid);
    let userns = std::fs::File::open(format!("/proc/{pid}/ns/user")).unwrap();
    drop((reader, writer));
    wait(&child);
    userns.into()
}

fn write_maps(launch: &Launch, pid: i32) {
    if let Some(ids) = launch.user_namespace {
        let map = format!("0 {} {}", ids.base, ids.count);
        std::fs::write(format!("/proc/{pid}/uid_map"), &map).unwrap();
        std::fs::write(format!("/proc/{pid}/gid_map"), &map).unwrap();
    }
}

fn wait(child: &OwnedFd) {
    let options =
        WaitIdOptions::EXITED | WaitIdOptions::from_bits_retain(libc::__WALL.cast_unsigned());
    rustix::process::waitid(WaitId::PidFd(child.as_fd()), options).unwrap();
}

fn clone(flags: i32) -> Option<(i32, OwnedFd)> {
    let mut pidfd: RawFd = -1;
    // SAFETY: plain numbers, zero is the documented default.
    let mut args: libc::clone_args = unsafe { std::mem::zeroed() };
    args.flags = u64::from((flags | libc::CLONE_PIDFD).cast_unsigned());
    args.pidfd = (&raw mut pidfd).addr() as u64;
    let size = size_of::<libc::clone_args>();
    // SAFETY: no shared memory, one thread, arguments outlive the call.
    let pid = unsafe { libc::syscall(libc::SYS_clone3, &raw mut args, size) };
    if pid == 0 {
        return None;
    }
    assert!(pid > 0, "clone3: {}", std::io::Error::last_os_error());
    // SAFETY: the kernel has just opened it for us.
    let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
    Some((i32::try_from(pid).unwrap(), pidfd))
}
