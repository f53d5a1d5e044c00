//! Commands on their way from the init to who asked for them.

use std::os::fd::OwnedFd;

use shim_proto::exec::{ExecGo, ExecWaits, Executing};
use shim_proto::init::{Order, Run};
use shim_proto::message::Answer;

use super::session::raise_limits;
use super::{Command, Shim};
use crate::host::ProcessId;
use crate::link::Broken;
use crate::processes::Process;
use crate::{fail, host};

impl Shim {
    /// Raises what only somebody outside can raise, and lets a command that waits go on.
    pub(super) fn release_command(
        &mut self,
        waits: &ExecWaits,
        descriptors: Vec<OwnedFd>,
    ) -> Result<(), Broken> {
        let pidfd = descriptors.first().ok_or(Broken::Garbage)?;
        let host = host::identify(pidfd);
        if let Some(run) = waits.run {
            self.join(waits.order, run, host, descriptors);
            return Ok(());
        }
        let what = "start a command";
        let refusal = raise_limits(host, &waits.raise, what).err();
        let order = self.orders.iter_mut().find(|order| order.id == waits.order);
        let refusal = match (order, host, refusal) {
            (_, _, Some(refusal)) => Some(refusal),
            (Some(order), Some(host), None) => {
                order.command = Some(Command { host, descriptors });
                None
            }
            (..) => Some(fail::retry(what, "nobody waits for it")),
        };
        let go = ExecGo {
            order: waits.order,
            refusal,
        };
        self.order(0, Order::ExecGo(go));
        Ok(())
    }

    /// Joins who asked to a run of a process: its end is told once all it wrote is in its log.
    fn join(
        &mut self,
        order: u64,
        run: Run,
        host: Option<ProcessId>,
        mut descriptors: Vec<OwnedFd>,
    ) {
        let Some(order) = self.orders.iter_mut().find(|one| one.id == order) else {
            return;
        };
        let process = self.processes.get_mut(run.slot);
        let process = process.filter(|process| process.record.starts == run.run);
        // Without the two it is answered as what cannot be done now.
        if let (Some(host), Some(process)) = (host, process)
            && let Some(status) = process.join()
        {
            descriptors.insert(1, status);
            order.command = Some(Command { host, descriptors });
        }
    }

    /// Tells who takes part in runs of a process that are over how they ended.
    pub(super) fn tell_joined(&mut self, slot: u32) {
        let has_ended = |process: &mut Process| process.has_joined_of_ended_run();
        if self.processes.get_mut(slot).is_some_and(has_ended) {
            self.pump_tail(slot);
            if let Some(process) = self.processes.get_mut(slot) {
                process.tell_joined();
            }
        }
    }

    /// Hands a command that runs to who asked for it. If nobody is there to take it, the
    /// init finds it deserted and ends it.
    pub(super) fn hand_over(&mut self, client: u64, command: Command) {
        let Command { host, descriptors } = command;
        let executing = Executing {
            pid: host.pid,
            start: host.start,
            descriptors: u32::try_from(descriptors.len()).unwrap_or(0),
        };
        let answer = Answer::Executing(executing);
        self.clients.reply_with(client, answer, descriptors);
    }
}
