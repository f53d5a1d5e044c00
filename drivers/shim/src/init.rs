//! Pid 1 of a container: starts processes on the shim's word, reaps, keeps the records.
//!
//! It is a copy of the shim that went on inside the namespaces: no program of the image runs
//! with its descriptors, and there is no file that a process could overwrite to become it.
//! It outlives shims; it ends only when it is killed, and all of the container with it.

mod attach;
mod child;
mod copy;
mod entry;
mod execs;
mod kills;
mod orders;
mod plan;
mod reap;
mod starts;
mod table;

use std::os::fd::{AsFd as _, AsRawFd, OwnedFd};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::net::SocketFlags;
use shim_proto::init::{FromInit, Ready as Greeting, ToInit, Word};
use shim_proto::launch::Launch;
use shim_proto::message::PROTOCOL;

use crate::exits::Exits;
use crate::fail::tolerate;
use crate::link::{Broken, Link};
use crate::{fail, host, kernel, root};
use child::Profile;
use entry::{enter, open_null, open_proc, open_pts, profile, take_own_name};
use execs::Exec;
pub(crate) use kills::Kills;
pub(crate) use plan::limit_name;
use table::Slot;

/// Connections that may wait while a shim is served.
const BACKLOG: i32 = 4;
/// Most descriptors the loop watches beside those of starts under way.
const WATCHED: usize = 3;

/// What the init takes over from the shim that cloned it.
#[derive(Debug)]
pub(crate) struct Inherited {
    /// Bound to `init.sock`, not yet listening.
    pub(crate) listener: OwnedFd,
    /// Connected to the shim that cloned it.
    pub(crate) session: OwnedFd,
    /// The file `exits`.
    pub(crate) exits: Exits,
    /// Where the kernel counts kills for memory.
    pub(crate) kills: Kills,
    /// Both ends of the pipe that holds output between a process' pipe and its log.
    pub(crate) hold: Hold,
    /// It was put into its cgroup after the clone, so its cgroup namespace is still to come.
    pub(crate) needs_cgroup_namespace: bool,
}

/// Both ends of the holding pipe.
#[derive(Debug)]
pub(crate) struct Hold {
    /// Read end.
    pub(crate) reader: OwnedFd,
    /// Write end.
    pub(crate) writer: OwnedFd,
}

/// Pid 1.
#[derive(Debug)]
pub(crate) struct Init {
    listener: OwnedFd,
    link: Option<Link>,
    exits: Exits,
    kills: Kills,
    hold: Hold,
    profile: Profile,
    child_ends: OwnedFd,
    /// The container's `/proc`, opened before any process could mount over it.
    proc: Option<OwnedFd>,
    /// The container's devpts, opened as early.
    pts: Option<OwnedFd>,
    null: OwnedFd,
    slots: Vec<Option<Slot>>,
    execs: Vec<Exec>,
}

/// Goes on as pid 1 of the new container. Never returns.
pub(crate) fn run(launch: &Launch, prepared: &root::Prepared, inherited: Inherited) -> ! {
    kernel::block_signals();
    take_own_name();
    let Inherited {
        listener,
        session,
        exits,
        kills,
        hold,
        needs_cgroup_namespace,
    } = inherited;
    let mut session = Link::new(session);
    let made = enter(launch, prepared, needs_cgroup_namespace).and_then(|()| {
        Init::new(launch, listener, (exits, kills), hold)
            .map_err(|errno| fail::kernel("make the init ready", errno))
    });
    match made {
        Ok(mut init) => {
            init.greet(session);
            init.close_strays();
            init.serve()
        }
        Err(failure) => {
            let word = Some(Word::Failed(failure));
            // If the shim cannot be told, it sees the end of this process all the same.
            tolerate(session.push(
                &FromInit {
                    descriptors: 0,
                    word,
                },
                Vec::new(),
            ));
            tolerate(session.flush());
            kernel::exit_now(1)
        }
    }
}

impl Init {
    fn new(
        launch: &Launch,
        listener: OwnedFd,
        (exits, kills): (Exits, Kills),
        hold: Hold,
    ) -> rustix::io::Result<Self> {
        // Here and not before the clone: who listens is who a connecting shim is told of.
        rustix::net::listen(&listener, BACKLOG)?;
        Ok(Self {
            profile: profile(launch)?,
            child_ends: kernel::child_signals()?,
            proc: open_proc(),
            pts: open_pts(),
            null: open_null()?,
            listener,
            link: None,
            exits,
            kills,
            hold,
            slots: Vec::new(),
            execs: Vec::new(),
        })
    }

    /// Closes what came along with the copy of the shim and is not this program's own: what
    /// the root was assembled from, among others.
    fn close_strays(&self) {
        let mut keep: Vec<i32> = [
            self.listener.as_fd(),
            self.child_ends.as_fd(),
            self.null.as_fd(),
            self.exits.as_fd(),
            self.hold.reader.as_fd(),
            self.hold.writer.as_fd(),
        ]
        .iter()
        .map(AsRawFd::as_raw_fd)
        .collect();
        keep.extend(self.proc.as_ref().map(AsRawFd::as_raw_fd));
        keep.extend(self.pts.as_ref().map(AsRawFd::as_raw_fd));
        keep.extend(self.kills.file().map(|file| file.as_raw_fd()));
        if let Some(link) = &self.link {
            keep.push(link.as_fd().as_raw_fd());
            keep.extend(link.sending().map(|fd| fd.as_raw_fd()));
        }
        if kernel::close_all_but(&mut keep).is_err() {
            // A container that holds the host's descriptors is none.
            kernel::exit_now(1);
        }
    }

    /// Serves for as long as the container lives. Nothing that a shim sends or that a
    /// process does ends it.
    fn serve(&mut self) -> ! {
        loop {
            self.speak();
            let ready = self.wait();
            if ready.child_ended {
                self.reap();
            }
            for slot in &ready.starts {
                self.hear_trouble(*slot);
            }
            for pid in &ready.execs {
                self.tend_exec(*pid);
            }
            self.kill_overdue();
            self.kill_overdue_execs();
            if ready.session {
                self.listen_to_shim();
            }
            if ready.listener && self.link.is_none() {
                self.accept();
            }
        }
    }

    /// Waits until something is to be done.
    fn wait(&self) -> Ready {
        let mut watched: Vec<PollFd<'_>> = Vec::with_capacity(WATCHED);
        watched.push(PollFd::new(&self.child_ends, PollFlags::IN));
        match &self.link {
            Some(link) => {
                let out = if link.is_sending() {
                    PollFlags::OUT
                } else {
                    PollFlags::empty()
                };
                watched.push(PollFd::new(link, PollFlags::IN | out));
            }
            None => watched.push(PollFd::new(&self.listener, PollFlags::IN)),
        }
        let first_start = watched.len();
        let mut starts = Vec::new();
        for (index, slot) in self.slots.iter().enumerate() {
            let starting = slot.as_ref().and_then(|slot| slot.starting.as_ref());
            if let Some(starting) = starting.filter(|starting| starting.go.is_none()) {
                watched.push(PollFd::new(&starting.trouble, PollFlags::IN));
                starts.push(index);
            }
        }
        let first_exec = watched.len();
        let mut execs = self.watch_execs(&mut watched);
        let kills = [self.next_kill_ms(), self.next_exec_kill_ms()];
        let timeout = kills
            .into_iter()
            .flatten()
            .min()
            .map(|at| host::timespec(at.saturating_sub(host::boot_ms())));
        if poll(&mut watched, timeout.as_ref()).is_err() {
            return Ready::default();
        }
        let hit = |index: usize| {
            watched
                .get(index)
                .is_some_and(|fd| !fd.revents().is_empty())
        };
        keep_hits(&mut starts, |place| hit(first_start + place));
        keep_hits(&mut execs, |place| hit(first_exec + place));
        Ready {
            child_ended: hit(0),
            session: hit(1) && self.link.is_some(),
            listener: hit(1) && self.link.is_none(),
            starts,
            execs,
        }
    }

    /// Takes the next shim. Only somebody outside of this pid namespace can be one: its pid
    /// reads 0 here (`unix(7)`, `SO_PEERCRED`).
    fn accept(&mut self) {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let Ok(socket) = rustix::net::accept_with(&self.listener, flags) else {
            return;
        };
        if peer_pid(&socket) == Some(0) {
            self.greet(Link::new(socket));
        }
    }

    fn greet(&mut self, mut link: Link) {
        let ends = [self.hold.reader.try_clone(), self.hold.writer.try_clone()];
        let ends: Vec<OwnedFd> = ends.into_iter().flatten().collect();
        let descriptors = u32::try_from(ends.len()).unwrap_or(0);
        let word = Some(Word::Ready(Greeting { protocol: PROTOCOL }));
        if ends.len() == 2 && link.push(&FromInit { descriptors, word }, ends).is_ok() {
            self.link = Some(link);
            for slot in self.slots.iter_mut().flatten() {
                slot.untell();
            }
        }
    }

    /// Tells the shim what it does not know yet. Entries are made only when all before them
    /// were taken, so a shim that does not listen costs one entry of memory.
    fn speak(&mut self) {
        loop {
            let Some(link) = &mut self.link else { return };
            if link.flush().is_err() {
                self.lose_shim();
                return;
            }
            if link.is_sending() {
                return;
            }
            if !self.tell_next() {
                return;
            }
        }
    }

    /// Queues one entry that the shim does not know; false if there is none.
    fn tell_next(&mut self) -> bool {
        let dirty = |slot: &Option<Slot>| slot.as_ref().is_some_and(|slot| slot.is_dirty);
        let Some(index) = self.slots.iter().position(dirty) else {
            return false;
        };
        let (Some(link), Some(place)) = (&mut self.link, self.slots.get_mut(index)) else {
            return false;
        };
        let Some(slot) = place.as_mut() else {
            return false;
        };
        let (message, descriptors) = slot.tell(u32::try_from(index).unwrap_or(u32::MAX));
        if slot.is_gone {
            *place = None;
        }
        if link.push(&message, descriptors).is_err() {
            self.lose_shim();
            return false;
        }
        true
    }

    fn listen_to_shim(&mut self) {
        let Some(link) = &mut self.link else { return };
        let mut heard = link.receive();
        while heard.is_ok() {
            let Some(link) = &mut self.link else { return };
            heard = match link.next::<ToInit>() {
                Ok(None) => return,
                Ok(Some(message)) => {
                    self.obey(message);
                    Ok(())
                }
                Err(broken) => Err(broken),
            };
        }
        if let Err(Broken::Gone | Broken::Garbage) = heard {
            self.lose_shim();
        }
    }

    /// Forgets the shim. What it had begun and not released does not come to be; the rest
    /// goes on, and the next shim is told of it.
    fn lose_shim(&mut self) {
        self.link = None;
        for index in 0..self.slots.len() {
            self.take_back(index);
        }
        // What was released goes on; the next shim's orders are others.
        let starts = self.slots.iter_mut().flatten();
        for starting in starts.filter_map(|slot| slot.starting.as_mut()) {
            starting.order = 0;
        }
        self.lose_exec_orders();
    }
}

/// What the loop woke up for.
#[derive(Debug, Default)]
struct Ready {
    child_ended: bool,
    session: bool,
    listener: bool,
    /// Places of processes whose start has something to tell.
    starts: Vec<usize>,
    /// Pids of commands that something is to be told of.
    execs: Vec<u32>,
}

/// Keeps what was hit, by its place.
fn keep_hits<T>(all: &mut Vec<T>, hit: impl Fn(usize) -> bool) {
    let mut place = 0;
    all.retain(|_| {
        place += 1;
        hit(place - 1)
    });
}

/// Returns the pid of the process at the other end, as seen from here.
pub(crate) fn peer_pid(socket: &OwnedFd) -> Option<i32> {
    // Not through rustix: its type has no room for the 0 of a process that is not visible.
    let facts = kernel::peer(socket).ok()?;
    Some(facts.pid)
}
