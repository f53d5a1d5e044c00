//! Taking part in a process of a container.

use std::io;
use std::os::fd::{AsFd as _, OwnedFd};

use driver_api::Deadline;
use shim_proto::exec::Attach;
use shim_proto::message::Ask;
use specs::id::{Incarnation, Key, ProcessName};

use super::{ExecError, Handle};
use crate::host::LinuxHost;

/// Which process somebody takes part in.
#[derive(Clone, Debug)]
pub struct Attaching {
    /// In which container.
    pub key: Key,
    /// In which of its lives.
    pub incarnation: Incarnation,
    /// Which of its processes.
    pub process: ProcessName,
}

/// A run of a process that somebody takes part in.
#[derive(Debug)]
pub struct Attached {
    /// Who it is. How it ended is told once all that it wrote is in its log, and as lost also
    /// when its supervisor was replaced.
    pub handle: Handle,
    /// What it reads, if that is open; not blocking, and shared by all who take part.
    pub input: Option<OwnedFd>,
}

impl LinuxHost {
    /// Takes part in a process.
    ///
    /// # Errors
    /// When it does not run, or the container cannot be asked.
    pub fn attach(&self, asked: &Attaching, deadline: Deadline) -> Result<Attached, ExecError> {
        let ask = Ask::Attach(Attach {
            name: asked.process.to_string(),
        });
        let life = (&asked.key, asked.incarnation);
        self.run(life, ask, deadline, attached)
    }
}

fn attached(pid: u32, descriptors: Vec<OwnedFd>) -> io::Result<Attached> {
    let missing = || io::Error::new(io::ErrorKind::InvalidData, "its shim sent too little along");
    let mut descriptors = descriptors.into_iter();
    let pidfd = descriptors.next().ok_or_else(missing)?;
    let status = descriptors.next().ok_or_else(missing)?;
    let input = descriptors.next();
    for end in input.iter().chain([&status]) {
        rustix::io::ioctl_fionbio(end.as_fd(), true)?;
    }
    let handle = Handle { pid, pidfd, status };
    Ok(Attached { handle, input })
}
