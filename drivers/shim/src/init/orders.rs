//! What the shim may order, and how a process comes to be.

use shim_proto::init::{Drained, FromInit, Order, OrderAnswer, ToInit, Word};
use shim_proto::message::{Failure, Forget, Signal, Stop};
use shim_proto::record::{DIGEST_BYTES, Record};

use super::Init;
use super::table::Slot;
use crate::fail::tolerate;
use crate::{fail, host, kernel};

/// The number of `SIGKILL`.
pub(crate) const KILL: u32 = libc::SIGKILL as u32;

/// What came of an order.
pub(super) type Told = Result<(), Failure>;

impl Init {
    /// Does one order and answers it; a start is answered once it is decided.
    pub(super) fn obey(&mut self, message: ToInit) {
        let told = match message.order {
            Some(Order::Spawn(process)) => match self.spawn(message.id, &process) {
                Ok(()) => return,
                Err(failure) => Err(failure),
            },
            Some(Order::Exec(wanted)) => match self.exec(message.id, &wanted) {
                Ok(()) => return,
                Err(failure) => Err(failure),
            },
            Some(Order::Copy(wanted)) => match self.copy(message.id, &wanted) {
                Ok(()) => return,
                Err(failure) => Err(failure),
            },
            Some(Order::Attach(wanted)) => self.attach(message.id, &wanted),
            Some(Order::ExecGo(word)) => {
                self.exec_go(word);
                Ok(())
            }
            Some(Order::Go(run)) => self.release(run),
            Some(Order::Cancel(cancel)) => {
                if let Some(run) = cancel.run {
                    let lost = || fail::retry("start a process", "it was called off");
                    self.call_off(run, cancel.why.unwrap_or_else(lost));
                }
                Ok(())
            }
            Some(Order::Stop(stop)) => self.stop(&stop),
            Some(Order::Signal(signal)) => self.signal(&signal),
            Some(Order::Forget(forget)) => self.forget(&forget),
            Some(Order::Drained(drained)) => {
                self.let_go(drained);
                Ok(())
            }
            None => Err(fail::unknown("take an order", "this init does not know it")),
        };
        self.answer(message.id, told);
    }

    pub(super) fn answer(&mut self, id: u64, told: Told) {
        if id == 0 {
            return;
        }
        // What the order changed is known before it is answered: who asks next sees it.
        while self.tell_next() {}
        let word = Some(Word::Answer(OrderAnswer {
            id,
            failure: told.err(),
        }));
        if let Some(link) = &mut self.link
            && link
                .push(
                    &FromInit {
                        descriptors: 0,
                        word,
                    },
                    Vec::new(),
                )
                .is_err()
        {
            self.lose_shim();
        }
    }

    /// Writes a changed record down and has the shim told.
    pub(super) fn note(&mut self, index: usize) {
        let Some(Some(slot)) = self.slots.get_mut(index) else {
            return;
        };
        slot.record.sequence += 1;
        slot.is_dirty = true;
        // Room was set aside before the process began, and a record that could not be
        // written still stands in memory, from where every shim is told.
        tolerate(self.exits.write_record(index, &slot.record));
    }

    /// Returns the named process; which start the asker saw must still be the last.
    fn find(&mut self, name: &str, starts: u64, what: &str) -> Result<(usize, &mut Slot), Failure> {
        let held = |slot: &Option<Slot>| slot.as_ref().is_some_and(|slot| slot.record.name == name);
        let index = self.slots.iter().position(held);
        let slot = index.and_then(|index| self.slots.get_mut(index)?.as_mut().map(|s| (index, s)));
        let (index, slot) = slot.ok_or_else(|| fail::stale(what, "there is no such process"))?;
        if slot.record.starts == starts {
            return Ok((index, slot));
        }
        let cause = format!("it was started {} times, not {starts}", slot.record.starts);
        Err(fail::stale(what, cause))
    }

    fn stop(&mut self, stop: &Stop) -> Told {
        let what = format!("stop {:?}", stop.name);
        check_signal(stop.signal, &what)?;
        let now = host::boot_ms();
        let (index, slot) = self.find(&stop.name, stop.starts, &what)?;
        let record = &mut slot.record;
        if record.pid == 0 {
            return Ok(());
        }
        let is_first = record.stopping_ms == 0;
        let kill_ms = now.saturating_add(stop.grace_ms).max(1);
        if is_first {
            record.stopping_ms = now.max(1);
            record.kill_ms = kill_ms;
        } else {
            // Nearer only; once it was killed there is nothing left to bring nearer.
            record.kill_ms = record.kill_ms.min(kill_ms);
        }
        let pid = record.pid;
        self.note(index);
        if is_first && stop.grace_ms > 0 {
            send(pid, stop.signal, &what)?;
        }
        self.kill_overdue();
        Ok(())
    }

    fn signal(&mut self, signal: &Signal) -> Told {
        let what = format!("signal {:?}", signal.name);
        check_signal(signal.signal, &what)?;
        if signal.files.len() > DIGEST_BYTES {
            return Err(fail::unknown(what, "a digest of more than 16 bytes"));
        }
        let (index, slot) = self.find(&signal.name, signal.starts, &what)?;
        if slot.record.pid == 0 || slot.starting.is_some() {
            return Err(fail::stale(what, "it does not run"));
        }
        send(slot.record.pid, signal.signal, &what)?;
        if !signal.files.is_empty() {
            slot.record.files.clone_from(&signal.files);
            self.note(index);
        }
        Ok(())
    }

    fn forget(&mut self, forget: &Forget) -> Told {
        let held =
            |slot: &Option<Slot>| slot.as_ref().is_some_and(|s| s.record.name == forget.name);
        let Some(index) = self.slots.iter().position(held) else {
            return Ok(());
        };
        let Some(Some(slot)) = self.slots.get_mut(index) else {
            return Ok(());
        };
        if slot.record.pid != 0 {
            return Err(fail::stale(format!("forget {:?}", forget.name), "it runs"));
        }
        let sequence = slot.record.sequence;
        *slot = Slot::new(Record {
            sequence,
            ..Record::default()
        });
        slot.is_gone = true;
        self.note(index);
        Ok(())
    }

    fn let_go(&mut self, drained: Drained) {
        let index = usize::try_from(drained.slot).unwrap_or(usize::MAX);
        let Some(Some(slot)) = self.slots.get_mut(index) else {
            return;
        };
        slot.pipes
            .retain(|kept| (kept.pipe.run, kept.pipe.stream) != (drained.run, drained.stream));
    }
}

fn check_signal(signal: u32, what: &str) -> Told {
    if (1..=kernel::SIGNAL_MAX).contains(&signal) {
        Ok(())
    } else {
        Err(fail::terminal(what, format!("there is no signal {signal}")))
    }
}

/// Signals a child that is not reaped yet, so that its pid is still its own.
fn send(pid: u32, signal: u32, what: &str) -> Told {
    let pid = i32::try_from(pid).unwrap_or(0);
    if pid < 2 {
        return Err(fail::stale(what, "it does not run"));
    }
    kernel::kill(pid, signal).map_err(|errno| fail::kernel(what, errno))
}
