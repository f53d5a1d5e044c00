//! What the daemon may ask.

use std::os::fd::AsFd as _;

use rustix::process::{Signal as HostSignal, pidfd_send_signal};
use shim_proto::init::{Order, is_process_name};
use shim_proto::launch::{File, Mount};
use shim_proto::message::{Answer, Ask, Done, Failure, FileReport, Forget};
use shim_proto::record::Record;

use super::Shim;
use super::papers::read_launch;
use crate::fail::tolerate;
use crate::launch::{open_root, open_user_namespace};
use crate::{fail, root};

impl Shim {
    /// Serves one request. Whatever it holds, the container and other clients go on.
    pub(super) fn serve_request(&mut self, client: u64, ask: Ask) {
        let told = match ask {
            // Answered by the end itself.
            Ask::Hello(_) => Ok(()),
            Ask::Report(_) => {
                let report = self.report();
                self.clients.reply(client, Answer::Report(report));
                return;
            }
            Ask::Start(process) if !is_process_name(&process.name) => {
                let what = format!("start {:?}", process.name);
                Err(fail::terminal(what, "it is no name for a process"))
            }
            Ask::Start(process) => return self.pass_on(client, Order::Spawn(process)),
            Ask::Exec(wanted) => return self.pass_on(client, Order::Exec(wanted)),
            Ask::Copy(wanted) => return self.pass_on(client, Order::Copy(wanted)),
            Ask::Attach(wanted) => return self.pass_on(client, Order::Attach(wanted)),
            Ask::Stop(stop) => return self.pass_on(client, Order::Stop(stop)),
            Ask::Signal(signal) => return self.pass_on(client, Order::Signal(signal)),
            Ask::Forget(forget) if self.init.is_none() => self.forget_here(&forget),
            Ask::Forget(forget) => return self.pass_on(client, Order::Forget(forget)),
            Ask::WriteFile(file) => self.write_file(&file),
            Ask::Mount(mount) => self.restore_mount(&mount),
            Ask::End(_) => return self.end(client),
        };
        let answer = told.map_or_else(Answer::Failure, |()| Answer::Done(Done {}));
        self.clients.reply(client, answer);
    }

    /// Forgets a process of an init that is dead.
    fn forget_here(&mut self, forget: &Forget) -> Result<(), Failure> {
        let Some(slot) = self.processes.find(&forget.name) else {
            return Ok(());
        };
        let Some(process) = self.processes.get_mut(slot) else {
            return Ok(());
        };
        let sequence = process.record.sequence + 1;
        let record = Record {
            sequence,
            ..Record::default()
        };
        if let (Some(exits), Ok(slot)) = (&self.exits, usize::try_from(slot)) {
            exits
                .write_record(slot, &record)
                .map_err(|errno| fail::kernel(format!("forget {:?}", forget.name), errno))?;
        }
        self.processes.remove(slot);
        self.clients.changed();
        Ok(())
    }

    fn write_file(&mut self, file: &File) -> Result<(), Failure> {
        let no_init = || fail::stale("write a file", "the container has no init");
        let init = self
            .init
            .as_ref()
            .filter(|init| init.is_ready)
            .ok_or_else(no_init)?;
        let root = open_root(init.id, &init.pidfd)?;
        let launch = self.launch.as_ref();
        let inside = root::Inside {
            init: init.pidfd.as_fd(),
            has_user_namespace: launch.is_some_and(|launch| launch.user_namespace.is_some()),
        };
        root::write_file(root.as_fd(), file, &inside).map_err(fail::of_root)?;
        let report = FileReport {
            path: file.path.clone(),
            digest: file.digest.clone(),
        };
        self.files.retain(|known| known.path != report.path);
        self.files.push(report);
        self.write_files();
        self.clients.changed();
        Ok(())
    }

    fn restore_mount(&mut self, mount: &Mount) -> Result<(), Failure> {
        let no_init = || fail::stale("make a mount again", "the container has no init");
        let init = self
            .init
            .as_ref()
            .filter(|init| init.is_ready)
            .ok_or_else(no_init)?;
        // Read anew: most of it was let go when the container was made.
        let launch = read_launch(&self.life)?;
        let userns = launch
            .user_namespace
            .is_some()
            .then(|| open_user_namespace(init.id, &init.pidfd))
            .transpose()?;
        let userns = userns.as_ref().map(|fd| fd.as_fd());
        root::restore_mount(&launch, mount, init.pidfd.as_fd(), userns).map_err(fail::of_root)?;
        self.clients.changed();
        Ok(())
    }

    /// Kills the container; the answer follows once it is dead and its output is in the logs.
    fn end(&mut self, client: u64) {
        self.ending.push(client);
        if let Some(init) = &self.init {
            // The kernel takes everything of the pid namespace along. If it has ended by
            // itself that shows in the loop.
            tolerate(pidfd_send_signal(&init.pidfd, HostSignal::KILL));
        }
    }
}
