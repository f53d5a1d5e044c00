//! How the init gets into its cgroups without ever being moved: version 2 by the clone
//! itself, version 1 by inheritance from a process that lives for this only.

use std::os::fd::OwnedFd;

use rustix::net::{AddressFamily, SocketFlags, SocketType};
use rustix::process::{WaitOptions, waitpid};
use shim_proto::init::{FromInit, Ready, Word};
use shim_proto::launch::CgroupDirectory;
use shim_proto::message::Failure;

use crate::fail;
use crate::fail::tolerate;
use crate::host;
use crate::kernel::{self, Child, Clone, Cloned};
use crate::launch::{borrow, open_cgroup};
use crate::link::Link;

/// How long a spawner may take, in milliseconds.
const SPAWN_MS: u64 = 10_000;

/// Whether the init began in its version 2 cgroup.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Placed {
    /// It did, or there is none.
    AtBirth,
    /// The kernel refused; it is to be moved, and makes its cgroup namespace afterwards.
    Later,
}

/// Clones as [`kernel::clone`] does, into these cgroups. The child's parent is the caller.
pub(crate) fn clone_into(
    namespaces: u64,
    unified: Option<&CgroupDirectory>,
    split: &[&CgroupDirectory],
) -> Result<(Cloned, Placed), Failure> {
    let unified = unified.map(|directory| {
        open_cgroup(directory)
            .map_err(|errno| fail::kernel(format!("open the cgroup {}", directory.path), errno))
    });
    let unified = unified.transpose()?;
    if split.is_empty() {
        return clone_once(namespaces, unified.as_ref(), false)
            .map_err(|errno| fail::kernel("clone the init", errno));
    }
    let refused = |errno| fail::kernel("make a spawner", errno);
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let (mine, its) = rustix::net::socketpair(AddressFamily::UNIX, SocketType::STREAM, flags, None)
        .map_err(refused)?;
    match kernel::clone(Clone::default()).map_err(refused)? {
        Cloned::Child => {
            drop(mine);
            let spawned = join_all(split).and_then(|()| {
                clone_once(namespaces, unified.as_ref(), true)
                    .map_err(|errno| fail::kernel("clone the init", errno))
            });
            if let Ok((Cloned::Child, placed)) = spawned {
                // This is the init. The spawner's ends are closed with all other strays.
                return Ok((Cloned::Child, placed));
            }
            tell(Link::new(its), spawned);
            kernel::exit_now(0)
        }
        Cloned::Parent(spawner) => {
            drop(its);
            let heard = hear(&mut Link::new(mine));
            if heard.is_err() {
                tolerate(rustix::process::pidfd_send_signal(
                    &spawner.pidfd,
                    rustix::process::Signal::KILL,
                ));
            }
            tolerate(waitpid(Some(spawner.pid), WaitOptions::empty()));
            heard.map(|(child, placed)| (Cloned::Parent(child), placed))
        }
    }
}

fn clone_once(
    namespaces: u64,
    unified: Option<&OwnedFd>,
    sibling: bool,
) -> rustix::io::Result<(Cloned, Placed)> {
    let how = Clone {
        namespaces,
        sibling,
        cgroup: borrow(unified),
    };
    match kernel::clone(how) {
        Ok(cloned) => Ok((cloned, Placed::AtBirth)),
        Err(errno) if unified.is_none() => Err(errno),
        Err(_) => {
            let namespaces = namespaces & !u64::from(libc::CLONE_NEWCGROUP.unsigned_abs());
            kernel::clone(Clone {
                namespaces,
                sibling,
                cgroup: None,
            })
            .map(|cloned| (cloned, Placed::Later))
        }
    }
}

fn join_all(split: &[&CgroupDirectory]) -> Result<(), Failure> {
    split.iter().try_for_each(|directory| {
        host::join_cgroup(directory, 0)
            .map_err(|errno| fail::kernel(format!("join the cgroup {}", directory.path), errno))
    })
}

fn tell(mut link: Link, spawned: Result<(Cloned, Placed), Failure>) {
    let (word, descriptors) = match spawned {
        Ok((Cloned::Parent(child), placed)) => {
            let protocol = u32::from(placed == Placed::AtBirth);
            (Word::Ready(Ready { protocol }), vec![child.pidfd])
        }
        Ok((Cloned::Child, _)) => return,
        Err(failure) => (Word::Failed(failure), Vec::new()),
    };
    let count = u32::from(!descriptors.is_empty());
    // If the shim is gone, so is the pipe the init waits on, and it ends.
    tolerate(link.push(
        &FromInit {
            descriptors: count,
            word: Some(word),
        },
        descriptors,
    ));
    tolerate(link.flush());
}

fn hear(link: &mut Link) -> Result<(Child, Placed), Failure> {
    let lost = || fail::retry("clone the init", "its spawner said nothing");
    let until = host::boot_ms() + SPAWN_MS;
    loop {
        if !host::is_readable(&*link, until.saturating_sub(host::boot_ms())) {
            return Err(lost());
        }
        let gone = link.receive().is_err();
        match link.next::<FromInit>() {
            Ok(Some(FromInit {
                word: Some(Word::Failed(failure)),
                ..
            })) => return Err(failure),
            Ok(Some(FromInit {
                word: Some(Word::Ready(ready)),
                descriptors,
            })) => {
                let pidfd = link
                    .take_descriptors(descriptors)
                    .ok()
                    .and_then(|mut fds| fds.pop());
                let pidfd = pidfd.ok_or_else(lost)?;
                let id = host::identify(&pidfd).ok_or_else(lost)?;
                let pid = i32::try_from(id.pid)
                    .ok()
                    .and_then(rustix::process::Pid::from_raw);
                let placed = if ready.protocol == 1 {
                    Placed::AtBirth
                } else {
                    Placed::Later
                };
                return Ok((
                    Child {
                        pid: pid.ok_or_else(lost)?,
                        pidfd,
                    },
                    placed,
                ));
            }
            Ok(None) if !gone => {}
            Ok(_) | Err(_) => return Err(lost()),
        }
    }
}
