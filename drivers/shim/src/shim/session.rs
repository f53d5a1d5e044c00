//! The shim's side of the dialogue with the init.

use std::os::fd::OwnedFd;

use shim_proto::init::{
    Cancel, Drained, Entry, FromInit, Order as Command, OrderAnswer, Run, ToInit, Word,
};
use shim_proto::launch::Rlimit;
use shim_proto::message::{Answer, Done, Failure};
use shim_proto::record::Record;

use super::papers::log_directory;
use super::{Order, Shim};
use crate::host::ProcessId;
use crate::init::{Hold, limit_name};
use crate::link::{Broken, Link};
use crate::logs::Logs;
use crate::processes::Output;
use crate::{fail, host, kernel};

impl Shim {
    /// Connects to an init that another shim made. Only the very process that `init.id`
    /// names is talked to.
    pub(super) fn reconnect(&mut self) {
        let Some(init) = &self.init else { return };
        let connected = self.life.connect("init.sock").ok().filter(|socket| {
            // Whoever listens was noted when it began to (`unix(7)`, `SO_PEERCRED`).
            kernel::peer(socket).is_ok_and(|peer| u32::try_from(peer.pid) == Ok(init.id.pid))
                && !host::has_ended(&init.pidfd)
        });
        match connected {
            Some(socket) => self.link = Some(Link::new(socket)),
            None => self.retry_later(),
        }
    }

    /// Hears everything the init has said.
    pub(super) fn hear_init(&mut self) {
        loop {
            let Some(link) = &mut self.link else { return };
            let received = link.receive();
            let mut heard = false;
            let broken = loop {
                let Some(link) = &mut self.link else { return };
                match link.next::<FromInit>() {
                    Ok(None) => break received.err(),
                    Ok(Some(message)) => {
                        heard = true;
                        if self.note(message).is_err() {
                            break Some(Broken::Garbage);
                        }
                    }
                    Err(broken) => break Some(broken),
                }
            };
            if let Some(Broken::Gone | Broken::Garbage) = broken {
                self.lose_session();
                return;
            }
            if !heard {
                return;
            }
        }
    }

    /// The init hung up, or made no sense: as long as it lives it is asked anew.
    fn lose_session(&mut self) {
        self.link = None;
        let gone = || fail::retry("pass the order on", "the init hung up");
        for order in std::mem::take(&mut self.orders) {
            self.clients.reply(order.client, Answer::Failure(gone()));
        }
        self.retry_later();
    }

    fn note(&mut self, message: FromInit) -> Result<(), Broken> {
        let link = self.link.as_mut().ok_or(Broken::Gone)?;
        let descriptors = link.take_descriptors(message.descriptors)?;
        match message.word {
            Some(Word::Ready(_)) => {
                let ends = <[OwnedFd; 2]>::try_from(descriptors).map_err(|_| Broken::Garbage)?;
                let [reader, writer] = ends;
                self.note_ready(Hold { reader, writer });
            }
            Some(Word::Entry(entry)) => self.note_entry(entry, descriptors)?,
            Some(Word::ExecWaits(waits)) => self.release_command(&waits, descriptors)?,
            Some(Word::Answer(OrderAnswer { id, failure })) => self.note_answer(id, failure),
            Some(Word::Failed(failure)) => self.launch_failure = Some(failure),
            // A newer init's word, not known here.
            None => {}
        }
        Ok(())
    }

    fn note_ready(&mut self, hold: Hold) {
        if let Some(init) = &mut self.init {
            init.is_ready = true;
        }
        if self.logs.is_none()
            && let (Some(launch), Some(exits)) = (&self.launch, &self.exits)
        {
            self.logs = Logs::new(log_directory(launch), hold, exits).ok();
        }
        self.retry_later();
        self.clients.changed();
    }

    fn note_entry(&mut self, entry: Entry, descriptors: Vec<OwnedFd>) -> Result<(), Broken> {
        let slot = entry.slot;
        if entry.record.is_empty() {
            self.processes.remove(slot);
            self.settle();
            self.clients.changed();
            return Ok(());
        }
        let record = Record::decode(&entry.record).ok_or(Broken::Garbage)?;
        let process = self.processes.get_or_make(slot).ok_or(Broken::Garbage)?;
        let has_ended = process.record.pid != 0 && record.pid == 0;
        let mut descriptors = descriptors.into_iter();
        if record.pid == 0 || record.starts != process.record.starts {
            process.host = None;
        }
        if entry.pidfd {
            process.host = descriptors.next().and_then(|pidfd| host::identify(&pidfd));
        }
        for pipe in entry.pipes {
            let end = descriptors.next().ok_or(Broken::Garbage)?;
            process.pipes.retain(|output| output.pipe != pipe);
            process.pipes.push(Output { pipe, end });
        }
        let run = Run {
            slot,
            run: record.starts,
        };
        process.record = record;
        if entry.waits {
            self.release(run, &entry.raise);
        }
        self.settle();
        if has_ended {
            // Its last words are in the log before its end is told.
            self.pump_tail(slot);
        }
        self.tell_joined(slot);
        self.clients.changed();
        Ok(())
    }

    /// Raises what only somebody outside can raise, and lets a process that waits go on.
    fn release(&mut self, run: Run, raise: &[Rlimit]) {
        let Some(process) = self.processes.get_mut(run.slot) else {
            return;
        };
        let what = format!("start {:?}", process.record.name);
        let raised = raise_limits(process.host, raise, &what);
        let order = match raised {
            Ok(()) => Command::Go(run),
            Err(why) => Command::Cancel(Cancel {
                run: Some(run),
                why: Some(why),
            }),
        };
        self.order(0, order);
    }

    fn note_answer(&mut self, id: u64, failure: Option<Failure>) {
        let Some(index) = self.orders.iter().position(|order| order.id == id) else {
            return;
        };
        let order = self.orders.swap_remove(index);
        match (failure, order.command) {
            (Some(failure), _) => self.clients.reply(order.client, Answer::Failure(failure)),
            (None, Some(command)) => self.hand_over(order.client, command),
            (None, None) => self.clients.reply(order.client, Answer::Done(Done {})),
        }
    }

    /// Passes a client's order on; the answer follows.
    pub(super) fn pass_on(&mut self, client: u64, command: Command) {
        let what = "pass the order on";
        let refused = if self.init.is_none() {
            Some(fail::stale(what, "the container has no init"))
        } else if self.link.is_none() {
            Some(fail::retry(what, "the init is not ready"))
        } else {
            self.last_order += 1;
            let is_sent = self.order(self.last_order, command);
            (!is_sent).then(|| fail::terminal(what, "it does not fit a frame"))
        };
        match refused {
            Some(failure) => self.clients.reply(client, Answer::Failure(failure)),
            None => self.orders.push(Order {
                id: self.last_order,
                client,
                command: None,
            }),
        }
    }

    pub(super) fn order(&mut self, id: u64, command: Command) -> bool {
        let message = ToInit {
            id,
            order: Some(command),
        };
        self.link
            .as_mut()
            .is_some_and(|link| link.push(&message, Vec::new()).is_ok())
    }

    /// Tells the init that a pipe has no writer left, so that it lets go of it too.
    pub(super) fn tell_drained(&mut self, drained: Option<Drained>) {
        if let Some(drained) = drained {
            self.order(0, Command::Drained(drained));
        }
    }

    pub(super) fn flush_orders(&mut self) {
        if let Some(link) = &mut self.link
            && link.flush().is_err()
        {
            // What it said last is heard before it is given up.
            self.hear_init();
        }
    }
}

/// Raises hard limits of a process that waits.
pub(super) fn raise_limits(
    host: Option<ProcessId>,
    raise: &[Rlimit],
    what: &str,
) -> Result<(), Failure> {
    let host = host.ok_or_else(|| fail::retry(what, "it was killed before it ran"))?;
    raise.iter().try_for_each(|limit| {
        kernel::set_limit(host.pid, limit).map_err(|errno| {
            let name = limit_name(limit.resource);
            let step = format!("{what}: raise the hard limit {name} to {}", limit.hard);
            let mut failure = fail::kernel(step, errno);
            failure.cause = "this host does not allow it".into();
            failure
        })
    })
}
