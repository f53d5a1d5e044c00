//! The supervisor: one loop over the daemon's connections, the init, and the output of
//! processes.

mod commands;
mod output;
mod papers;
mod requests;
mod session;

use std::os::fd::OwnedFd;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{WaitOptions, waitpid};
use shim_proto::init::Pipe;
use shim_proto::launch::Launch;
use shim_proto::message::{Answer, Done, Failure, FileReport, InitReport, Report};

use crate::clients::Clients;
use crate::exits::Exits;
use crate::fail::tolerate;
use crate::host::{self, ProcessId};
use crate::launch::{self, Made};
use crate::life::Life;
use crate::link::Link;
use crate::logs::Logs;
use crate::processes::Processes;
use crate::{fail, kernel};
pub(crate) use papers::birthplace;
use papers::{join_own_cgroups, log_directory, read_launch, without_what_was_used};

/// Connections that may wait to be accepted.
const BACKLOG: i32 = 16;
/// How often a refusing disk, or an init that does not listen yet, is tried again.
const RETRY_MS: u64 = 500;
/// How often a shim without a container looks whether its directory is there still.
const LOOK_MS: u64 = 5_000;
/// How long an answer to `End` may take to be read.
const FAREWELL_MS: u64 = 1000;

/// The supervisor of one container.
#[derive(Debug)]
pub(crate) struct Shim {
    life: Life,
    launch: Option<Launch>,
    listener: OwnedFd,
    clients: Clients,
    init: Option<Init>,
    link: Option<Link>,
    exits: Option<Exits>,
    logs: Option<Logs>,
    processes: Processes,
    files: Vec<FileReport>,
    orders: Vec<Order>,
    last_order: u64,
    launch_failure: Option<Failure>,
    ending: Vec<u64>,
    retry_ms: u64,
}

/// The init, while it lives.
#[derive(Debug)]
struct Init {
    id: ProcessId,
    pidfd: OwnedFd,
    is_ready: bool,
}

/// An order that the init has not answered.
#[derive(Debug)]
struct Order {
    id: u64,
    client: u64,
    /// What a command that was let go hands to who asked, once its program runs.
    command: Option<Command>,
}

/// A command about to run.
#[derive(Debug)]
struct Command {
    host: ProcessId,
    descriptors: Vec<OwnedFd>,
}

/// What the loop woke up for.
#[derive(Debug, Default)]
struct Ready {
    listener: bool,
    init_ended: bool,
    session: bool,
    clients: Vec<u64>,
    pipes: Vec<(u32, Pipe)>,
}

impl Shim {
    /// Makes the container and stands by it. None if there is nothing to stand by; the file
    /// `failure` says why.
    pub(crate) fn launch(life: Life) -> Option<Self> {
        life.remove("failure");
        let made = read_launch(&life).and_then(|launch| {
            join_own_cgroups(&launch, life.born_in_place)?;
            let made = launch::make(&life, &launch)?;
            Ok((launch, made))
        });
        let (launch, made) = match made {
            Ok(made) => made,
            Err(failure) => {
                life.write_failure(&failure);
                return None;
            }
        };
        let Made {
            init,
            pidfd,
            link,
            hold,
            exits,
            files,
        } = made;
        let logs = Logs::new(log_directory(&launch), hold, &exits);
        let mut shim = Self::new(life, Some(launch), Some(exits))?;
        shim.init = Some(Init {
            id: init,
            pidfd,
            is_ready: true,
        });
        shim.link = Some(link);
        shim.logs = logs.ok();
        shim.files = files;
        shim.write_files();
        Some(shim)
    }

    /// Stands by what there is: an init that lives, or the records of one that does not.
    pub(crate) fn adopt(life: Life) -> Option<Self> {
        let launch = read_launch(&life).ok();
        if let Some(launch) = &launch {
            // The container matters more than where its shim is counted.
            tolerate(join_own_cgroups(launch, life.born_in_place));
        }
        let exits = Exits::open(&life.directory).ok();
        let id = host::read_id(&life.directory, "init.id");
        let init = id.and_then(|id| Some((id, host::find(id)?)));
        let launch_failure = life.read_failure().or_else(|| {
            id.is_none()
                .then(|| fail::retry("launch the container", "it was cut short"))
        });
        let mut shim = Self::new(life, launch, exits)?;
        shim.launch_failure = launch_failure;
        shim.read_files();
        shim.init = init.map(|(id, pidfd)| Init {
            id,
            pidfd,
            is_ready: false,
        });
        if shim.init.is_some() {
            shim.reconnect();
        } else if let Some(exits) = &shim.exits {
            shim.processes = Processes::from_records(exits.read_records().ok()?, exits);
        }
        Some(shim)
    }

    fn new(life: Life, launch: Option<Launch>, exits: Option<Exits>) -> Option<Self> {
        let listener = life.bind("shim.sock").ok()?;
        rustix::net::listen(&listener, BACKLOG).ok()?;
        Some(Self {
            life,
            launch: launch.map(without_what_was_used),
            listener,
            clients: Clients::default(),
            init: None,
            link: None,
            exits,
            logs: None,
            processes: Processes::default(),
            files: Vec::new(),
            orders: Vec::new(),
            last_order: 0,
            launch_failure: None,
            ending: Vec::new(),
            retry_ms: 0,
        })
    }

    /// Serves until it is told to end.
    pub(crate) fn serve(mut self) {
        kernel::trim_memory();
        while self.ending.is_empty() || self.init.is_some() {
            if self.init.is_none() {
                // A directory that nobody told it about is not waited for either.
                if self.life.is_removed() {
                    return;
                }
                self.look_again(LOOK_MS);
            }
            let ready = self.wait();
            self.turn(&ready);
        }
        self.life.write_ended();
        for client in std::mem::take(&mut self.ending) {
            self.clients.reply(client, Answer::Done(Done {}));
        }
        let until = host::boot_ms() + FAREWELL_MS;
        loop {
            self.clients.flush();
            if !self.clients.is_sending() || host::boot_ms() >= until {
                break;
            }
            let step = host::timespec(RETRY_MS / 50);
            tolerate(poll(&mut [], Some(&step)));
        }
        self.life.remove("shim.sock");
        self.life.remove("init.sock");
    }

    fn turn(&mut self, ready: &Ready) {
        if ready.session {
            self.hear_init();
        }
        let mut moved = false;
        for (slot, pipe) in &ready.pipes {
            moved |= self.pump(*slot, *pipe);
        }
        if ready.init_ended {
            self.lose_init();
        }
        if self.retry_ms != 0 && host::boot_ms() >= self.retry_ms {
            self.retry();
        }
        if ready.listener {
            self.clients.accept(&self.listener, &self.life.me);
        }
        for client in &ready.clients {
            self.clients.receive(*client);
        }
        while let Some((client, ask)) = self.clients.poll_request() {
            self.serve_request(client, ask);
        }
        self.flush_orders();
        self.clients.flush();
        if !moved && let Some(logs) = &mut self.logs {
            logs.rest();
        }
    }

    /// Waits until something is to be done.
    fn wait(&self) -> Ready {
        let mut ready = Ready::default();
        let mut watched = vec![PollFd::new(&self.listener, PollFlags::IN)];
        watched.extend(
            self.init
                .as_ref()
                .map(|init| PollFd::new(&init.pidfd, PollFlags::IN)),
        );
        watched.extend(
            self.link
                .as_ref()
                .map(|link| PollFd::new(link, PollFlags::IN | out_if(link.is_sending()))),
        );
        let first_client = watched.len();
        for client in self.clients.iter() {
            let input = if client.wants_bytes() {
                PollFlags::IN
            } else {
                PollFlags::empty()
            };
            watched.push(PollFd::new(client, input | out_if(client.is_sending())));
        }
        let first_pipe = watched.len();
        let mut pipes = Vec::new();
        for (slot, process) in self.processes.iter() {
            // A pipe whose output has to wait is not asked for; it would answer at once.
            if self.has_to_wait(process.record.logs) {
                continue;
            }
            for output in &process.pipes {
                watched.push(PollFd::new(&output.end, PollFlags::IN));
                pipes.push((slot, output.pipe));
            }
        }
        let timeout = (self.retry_ms != 0)
            .then(|| host::timespec(self.retry_ms.saturating_sub(host::boot_ms())));
        if poll(&mut watched, timeout.as_ref()).is_err() {
            return ready;
        }
        let hit = |index: usize| {
            watched
                .get(index)
                .is_some_and(|fd| !fd.revents().is_empty())
        };
        let has_init = self.init.is_some();
        ready.listener = hit(0);
        ready.init_ended = has_init && hit(1);
        ready.session = self.link.is_some() && hit(1 + usize::from(has_init));
        let clients = self.clients.iter().enumerate();
        let heard = clients.filter(|(index, _)| hit(first_client + index));
        ready.clients = heard.map(|(_, client)| client.serial).collect();
        let full = pipes
            .into_iter()
            .enumerate()
            .filter(|(index, _)| hit(first_pipe + index));
        ready.pipes = full.map(|(_, pipe)| pipe).collect();
        ready
    }

    /// The init has ended, and the kernel has killed all of the container before that shows.
    fn lose_init(&mut self) {
        let Some(init) = self.init.take() else { return };
        // Only the shim that made it is its parent; for another one the host's init reaps.
        if let Some(pid) = i32::try_from(init.id.pid)
            .ok()
            .and_then(rustix::process::Pid::from_raw)
        {
            tolerate(waitpid(Some(pid), WaitOptions::NOHANG));
        }
        // What it said last, exits among them, is still in the socket.
        self.hear_init();
        self.link = None;
        let slots: Vec<u32> = self.processes.iter().map(|(slot, _)| slot).collect();
        for slot in slots {
            self.pump_tail(slot);
        }
        if let Some(exits) = &self.exits {
            // An end that the init wrote down and could not tell is no unseen one.
            for (slot, record) in (0..).zip(exits.read_records().unwrap_or_default()) {
                let Some(record) = record else { continue };
                if let Some(process) = self.processes.get_or_make(slot)
                    && record.sequence > process.record.sequence
                {
                    process.record = record;
                }
            }
            self.processes.note_unseen(exits);
        }
        let gone = || fail::retry("pass the order on", "the init has ended");
        for order in std::mem::take(&mut self.orders) {
            self.clients.reply(order.client, Answer::Failure(gone()));
        }
        self.clients.changed();
    }

    fn report(&self) -> Report {
        let init = |init: &Init| InitReport {
            pid: init.id.pid,
            start: init.id.start,
            ready: init.is_ready,
        };
        Report {
            shim_pid: std::process::id(),
            init: self.init.as_ref().map(init),
            launch_failure: self.launch_failure.clone(),
            processes: self.processes.report(),
            files: self.files.clone(),
        }
    }
}

fn out_if(is_sending: bool) -> PollFlags {
    if is_sending {
        PollFlags::OUT
    } else {
        PollFlags::empty()
    }
}
