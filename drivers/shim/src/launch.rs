//! Making a container: from the launch description to an init that takes orders.

use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType};
use rustix::pipe::{PipeFlags, pipe_with};
use shim_proto::init::{FromInit, Word};
use shim_proto::launch::{CgroupDirectory, IdRange, Launch};
use shim_proto::message::{Failure, FileReport};

use crate::exits::Exits;
use crate::fail::tolerate;
use crate::host::{self, ProcessId};
use crate::init::{self, Hold, Inherited, Kills};
use crate::kernel::{self, Child, Clone, Cloned};
use crate::life::Life;
use crate::link::Link;
use crate::spawner::{self, Placed};
use crate::{fail, root};

/// How long an init may take to stand in its root, in milliseconds.
const READY_MS: u64 = 60_000;

/// How long an init that did not get ready may take to die, in milliseconds.
const UNDO_MS: u64 = 5_000;

/// A container just made.
#[derive(Debug)]
pub(crate) struct Made {
    /// Its init.
    pub(crate) init: ProcessId,
    /// The init's pidfd.
    pub(crate) pidfd: OwnedFd,
    /// The init's ear.
    pub(crate) link: Link,
    /// The holding pipe.
    pub(crate) hold: Hold,
    /// The file `exits`.
    pub(crate) exits: Exits,
    /// Files as placed.
    pub(crate) files: Vec<FileReport>,
}

/// Makes the container.
///
/// *Guarantees:* until this returns, the end of this process leaves nothing: the init waits
/// for a word that then never comes. Afterwards `init.id` names it.
pub(crate) fn make(life: &Life, launch: &Launch) -> Result<Made, Failure> {
    let refused = |what: &'static str| move |errno: Errno| fail::kernel(what, errno);
    let exits = Exits::create(&life.directory).map_err(refused("make the file exits"))?;
    let listener = life.bind("init.sock").map_err(refused("make init.sock"))?;
    let range = launch.user_namespace.as_ref();
    let userns = range.map(hold_user_namespace).transpose()?;
    let userns = userns.as_ref().map(|fd| fd.as_fd());
    let prepared = root::prepare(launch, userns).map_err(fail::of_root)?;
    let (reader, writer) =
        pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK).map_err(refused("make a pipe"))?;
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let (mine, session) =
        rustix::net::socketpair(AddressFamily::UNIX, SocketType::STREAM, flags, None)
            .map_err(refused("make a socket pair"))?;
    let (go_end, go) = pipe_with(PipeFlags::CLOEXEC).map_err(refused("make a pipe"))?;
    let inherited = Inherited {
        listener,
        session,
        exits,
        kills: Kills::open(&launch.cgroups),
        hold: Hold { reader, writer },
        needs_cgroup_namespace: false,
    };
    let (child, placed) = match clone_init(launch)? {
        (Cloned::Parent(child), placed) => (child, placed),
        (Cloned::Child, placed) => {
            // The lock is the shim's alone; and its own copies would keep the pipe and the
            // session from ever ending.
            life.release_lock();
            drop((mine, go));
            wait_for_word(&go_end);
            let needs_cgroup_namespace = placed == Placed::Later;
            init::run(
                launch,
                &prepared,
                Inherited {
                    needs_cgroup_namespace,
                    ..inherited
                },
            )
        }
    };
    drop(go_end);
    let Inherited {
        exits,
        hold,
        session,
        listener,
        ..
    } = inherited;
    // The init's ends: a copy kept here would hide that it died on the way.
    drop((session, listener));
    let Child { pid, pidfd } = child;
    let mut link = Link::new(mine);
    let finished = release(life, launch, &pidfd, placed, &go).and_then(|init| {
        wait_until_ready(&mut link)?;
        prepared.release().map_err(fail::of_root)?;
        Ok(init)
    });
    match finished {
        Ok(init) => Ok(Made {
            init,
            pidfd,
            link,
            hold,
            exits,
            files: placed_files(launch),
        }),
        Err(failure) => {
            undo(life, pid, &pidfd);
            Err(failure)
        }
    }
}

/// Ends an init that did not get ready. As long as it does not die it stays noted down.
fn undo(life: &Life, pid: rustix::process::Pid, pidfd: &OwnedFd) {
    // It may have ended by itself; then that is what was wanted.
    tolerate(rustix::process::pidfd_send_signal(
        pidfd,
        rustix::process::Signal::KILL,
    ));
    if host::is_readable(pidfd, UNDO_MS) {
        tolerate(rustix::process::waitpid(
            Some(pid),
            rustix::process::WaitOptions::NOHANG,
        ));
        life.remove("init.id");
    }
}

/// Clones the init, in its namespaces and cgroups from its first moment.
fn clone_init(launch: &Launch) -> Result<(Cloned, Placed), Failure> {
    let mut namespaces = [
        libc::CLONE_NEWNS,
        libc::CLONE_NEWPID,
        libc::CLONE_NEWIPC,
        libc::CLONE_NEWUTS,
        libc::CLONE_NEWCGROUP,
    ]
    .iter()
    .fold(0, |all, flag| all | flag.unsigned_abs());
    if launch.user_namespace.is_some() {
        namespaces |= libc::CLONE_NEWUSER.unsigned_abs();
    }
    if !launch.host_network {
        namespaces |= libc::CLONE_NEWNET.unsigned_abs();
    }
    let (unified, split): (Vec<&CgroupDirectory>, Vec<_>) = launch
        .cgroups
        .iter()
        .partition(|directory| directory.unified);
    spawner::clone_into(u64::from(namespaces), unified.first().copied(), &split)
}

/// Writes the maps, puts right what could not be given by the clone, notes the init down,
/// and says the word.
fn release(
    life: &Life,
    launch: &Launch,
    pidfd: &OwnedFd,
    placed: Placed,
    go: &OwnedFd,
) -> Result<ProcessId, Failure> {
    let gone = || fail::retry("make the init", "it ended before it began");
    let init = host::identify(pidfd).ok_or_else(gone)?;
    if placed == Placed::Later
        && let Some(unified) = launch.cgroups.iter().find(|directory| directory.unified)
    {
        host::join_cgroup(unified, init.pid)
            .map_err(|errno| fail::kernel(format!("join the cgroup {}", unified.path), errno))?;
    }
    if let Some(range) = &launch.user_namespace {
        write_maps(init.pid, range)?;
    }
    life.give_oom_score(init.pid, launch.oom_score_adj);
    host::write_id(&life.directory, "init.id", init)
        .map_err(|error| fail::retry("write init.id", error.to_string()))?;
    rustix::io::write(go, &[1]).map_err(|errno| fail::kernel("start the init", errno))?;
    Ok(init)
}

fn wait_for_word(go: &OwnedFd) {
    let mut word = [0];
    loop {
        match rustix::io::read(go, &mut word) {
            Ok(1) => return,
            Err(Errno::INTR) => {}
            Ok(_) | Err(_) => kernel::exit_now(0),
        }
    }
}

fn wait_until_ready(link: &mut Link) -> Result<(), Failure> {
    let until = host::boot_ms() + READY_MS;
    loop {
        if !host::is_readable(&*link, until.saturating_sub(host::boot_ms())) {
            // Without its word nothing can be known of it; it has not run anything yet.
            let cause = format!("it was not ready after {} s", READY_MS / 1000);
            return Err(fail::retry("assemble the root", cause));
        }
        let broken = link.receive().is_err();
        match link.next::<FromInit>() {
            Ok(Some(FromInit {
                word: Some(Word::Ready(_)),
                descriptors,
            })) => {
                // The holding pipe is at hand already.
                tolerate(link.take_descriptors(descriptors));
                return Ok(());
            }
            Ok(Some(FromInit {
                word: Some(Word::Failed(failure)),
                ..
            })) => return Err(failure),
            Ok(None) if !broken => {}
            Ok(_) | Err(_) => {
                return Err(fail::retry(
                    "assemble the root",
                    "the init ended on the way",
                ));
            }
        }
    }
}

/// Returns the files the container began with: the init placed them.
fn placed_files(launch: &Launch) -> Vec<FileReport> {
    let report = |file: &shim_proto::launch::File| FileReport {
        path: file.path.clone(),
        digest: file.digest.clone(),
    };
    launch.files.iter().map(report).collect()
}

/// Opens the root that an init stands in.
pub(crate) fn open_root(init: ProcessId, pidfd: &OwnedFd) -> Result<OwnedFd, Failure> {
    open_of(init, pidfd, "root", OFlags::PATH | OFlags::DIRECTORY)
}

/// Opens the user namespace of an init.
pub(crate) fn open_user_namespace(init: ProcessId, pidfd: &OwnedFd) -> Result<OwnedFd, Failure> {
    open_of(init, pidfd, "ns/user", OFlags::RDONLY)
}

fn open_of(
    init: ProcessId,
    pidfd: &OwnedFd,
    name: &str,
    flags: OFlags,
) -> Result<OwnedFd, Failure> {
    let path = format!("/proc/{}/{name}", init.pid);
    let opened = rustix::fs::open(&*path, flags | OFlags::CLOEXEC, Mode::empty());
    let opened = opened.map_err(|errno| fail::kernel(format!("open {path}"), errno))?;
    // While it lives its pid is its own, so what was opened is its.
    if host::has_ended(pidfd) {
        return Err(fail::retry(format!("open {path}"), "the init has ended"));
    }
    Ok(opened)
}

/// Makes a user namespace with the container's maps, for mounts that show their ids through
/// it. The process in it ends at once; the descriptor keeps it.
fn hold_user_namespace(range: &IdRange) -> Result<OwnedFd, Failure> {
    let refused = |errno| fail::kernel("make a user namespace", errno);
    let (end, word) = pipe_with(PipeFlags::CLOEXEC).map_err(refused)?;
    let namespaces = u64::from(libc::CLONE_NEWUSER.unsigned_abs());
    let child = match kernel::clone(Clone {
        namespaces,
        ..Clone::default()
    }) {
        Ok(Cloned::Parent(child)) => child,
        Ok(Cloned::Child) => {
            drop(word);
            wait_for_word(&end);
            kernel::exit_now(0)
        }
        Err(errno) => return Err(refused(errno)),
    };
    let made = host::identify(&child.pidfd)
        .ok_or_else(|| refused(Errno::SRCH))
        .and_then(|id| write_maps(id.pid, range).map(|()| id))
        .and_then(|id| open_user_namespace(id, &child.pidfd));
    drop(word);
    tolerate(rustix::process::waitpid(
        Some(child.pid),
        rustix::process::WaitOptions::empty(),
    ));
    made
}

fn write_maps(pid: u32, range: &IdRange) -> Result<(), Failure> {
    let line = format!("0 {} {}\n", range.base, range.count);
    for name in ["uid_map", "gid_map"] {
        host::write_word(Path::new(&format!("/proc/{pid}/{name}")), &line).map_err(|errno| {
            let ids = format!(
                "{} to {}",
                range.base,
                u64::from(range.base) + u64::from(range.count)
            );
            fail::kernel(format!("map the ids {ids} ({name})"), errno)
        })?;
    }
    Ok(())
}

/// Opens a cgroup directory for a clone into it.
pub(crate) fn open_cgroup(directory: &CgroupDirectory) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::open(&*directory.path, flags, Mode::empty())
}

/// Returns the borrowed form of what may not be there.
pub(crate) fn borrow(fd: Option<&OwnedFd>) -> Option<BorrowedFd<'_>> {
    fd.map(|fd| fd.as_fd())
}
