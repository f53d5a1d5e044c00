//! Links of a container's network namespace and of the host's, over rtnetlink.
//!
//! A netlink socket belongs to the namespace it was opened in, so a thread enters the
//! container's namespace, opens one, asks, and ends. What concerns the host is asked from the
//! calling thread: its namespace is the host's.

use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::time::Duration;

use driver_api::{Deadline, Fact, ProcessId, StepError};
use rtnetlink::{Handle, LinkUnspec};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use tokio::runtime::Runtime;

use crate::clock::left_ms;
use crate::error::{failed, gap, retry, terminal};
use crate::process;

mod ends;
mod laws;
mod pair;
mod routes;
mod sysctl;
#[cfg(test)]
pub(crate) mod tests;

pub(crate) use pair::Wire;
pub(crate) use sysctl::{forward, forwarding};

/// The loopback link has this number in every network namespace.
const LOOPBACK: u32 = 1;
/// Longest wait for the kernel's answer, which takes microseconds.
const ANSWER_MS_MAX: u64 = 2000;

/// Asks the kernel about links.
#[derive(Debug)]
pub(crate) struct Links {
    runtime: Runtime,
}

#[derive(Debug, thiserror::Error)]
enum LinkError {
    #[error("open its network namespace")]
    Open(#[source] io::Error),
    #[error("enter its network namespace")]
    Enter(#[source] io::Error),
    #[error("open a netlink socket")]
    Socket(#[source] io::Error),
    #[error("{what}")]
    Refused {
        what: &'static str,
        #[source]
        source: io::Error,
    },
    #[error("{what}")]
    Netlink {
        what: &'static str,
        #[source]
        source: rtnetlink::Error,
    },
    #[error("the kernel did not answer in time")]
    Late,
    #[error("the connection ended")]
    Ended,
    #[error("the process is gone")]
    Gone,
    #[error("the thread in its network namespace panicked")]
    Panic,
    #[error("a device {device} stands that is not ours, alias {alias:?}")]
    Foreign { device: String, alias: String },
    #[error("an end of the pair went while it was made")]
    Apart,
}

#[derive(Clone, Copy)]
enum Ask {
    Loopback,
    Raise,
}

impl LinkError {
    /// Keeps the kernel's number where it gave one.
    fn of(what: &'static str, err: rtnetlink::Error) -> Self {
        match err {
            rtnetlink::Error::NetlinkError(said) => Self::Refused {
                what,
                source: said.to_io(),
            },
            source => Self::Netlink { what, source },
        }
    }

    /// Returns the kernel's number.
    fn errno(&self) -> Option<i32> {
        match self {
            Self::Refused { source, .. } => source.raw_os_error(),
            _ => None,
        }
    }

    fn step(self, what: String, leaf: &str) -> StepError {
        match self {
            Self::Gone => StepError::Stale(format!("the init of {leaf} is gone")),
            Self::Foreign { ref device, .. } => {
                let hint = format!("rename or delete the device {device}");
                terminal(what, self.to_string(), hint)
            }
            err => failed(what, &err),
        }
    }
}

impl Links {
    /// Makes the runtime that netlink needs.
    pub(crate) fn new() -> io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        Ok(Self { runtime })
    }

    /// Returns whether the loopback link in the namespace of a process is up.
    pub(crate) fn loopback_up(
        &self,
        init: ProcessId,
        leaf: &str,
        deadline: Deadline,
    ) -> Fact<bool> {
        match self.loopback(init, deadline, Ask::Loopback) {
            Ok(Some(up)) => Fact::Known(up),
            Ok(None) | Err(LinkError::Gone) => Fact::Absent,
            Err(err) => Fact::Unknown(gap(format!("read the loopback link of {leaf}"), &err)),
        }
    }

    /// Sets the loopback link up; says whether it was not.
    pub(crate) fn raise_loopback(
        &self,
        init: ProcessId,
        leaf: &str,
        deadline: Deadline,
    ) -> Result<bool, StepError> {
        let what = || format!("raise the loopback link of {leaf}");
        match self.loopback(init, deadline, Ask::Raise) {
            Ok(Some(was_up)) => Ok(!was_up),
            Ok(None) => Err(retry(what(), "its network namespace has no loopback link")),
            Err(err) => Err(err.step(what(), leaf)),
        }
    }

    fn loopback(
        &self,
        init: ProcessId,
        deadline: Deadline,
        ask: Ask,
    ) -> Result<Option<bool>, LinkError> {
        let namespace = namespace(init)?;
        self.inside(&namespace, deadline, async |handle| {
            loopback(handle, ask).await
        })
    }

    /// Talks with the kernel inside a namespace.
    fn inside<T: Send>(
        &self,
        namespace: &File,
        deadline: Deadline,
        talk: impl AsyncFnOnce(&Handle) -> Result<T, LinkError> + Send,
    ) -> Result<T, LinkError> {
        std::thread::scope(|scope| {
            let asked = scope.spawn(move || {
                let kind = Some(LinkNameSpaceType::Network);
                move_into_link_name_space(namespace.as_fd(), kind)
                    .map_err(|err| LinkError::Enter(err.into()))?;
                self.here(deadline, talk)
            });
            asked.join().unwrap_or(Err(LinkError::Panic))
        })
    }

    /// Talks with the kernel in the namespace of the calling thread.
    fn here<T>(
        &self,
        deadline: Deadline,
        talk: impl AsyncFnOnce(&Handle) -> Result<T, LinkError>,
    ) -> Result<T, LinkError> {
        let patience = Duration::from_millis(left_ms(deadline).clamp(1, ANSWER_MS_MAX));
        self.runtime.block_on(async {
            // Strict: only then does the kernel look at what a dump is asked to leave out.
            let (connection, handle, _unasked) =
                rtnetlink::new_connection_with_strict_check().map_err(LinkError::Socket)?;
            // Not spawned: with this call the socket goes too.
            tokio::select! {
                answer = talk(&handle) => answer,
                () = connection => Err(LinkError::Ended),
                () = tokio::time::sleep(patience) => Err(LinkError::Late),
            }
        })
    }
}

/// Opens the network namespace of a process.
fn namespace(init: ProcessId) -> Result<File, LinkError> {
    let namespace = File::open(process::proc_path(init.pid, "ns/net")).map_err(|err| {
        if crate::text::is_gone(&err) {
            LinkError::Gone
        } else {
            LinkError::Open(err)
        }
    })?;
    // The pid was ours when the namespace was opened only if it still is.
    match process::is_alive(init) {
        Ok(true) => Ok(namespace),
        Ok(false) => Err(LinkError::Gone),
        Err(err) => Err(LinkError::Open(err)),
    }
}

/// Returns whether the loopback link was up; `None` when there is none.
async fn loopback(handle: &Handle, ask: Ask) -> Result<Option<bool>, LinkError> {
    let Some(link) = ends::by_index(handle, LOOPBACK).await? else {
        return Ok(None);
    };
    if let (Ask::Raise, false) = (ask, link.is_up) {
        let up = LinkUnspec::new_with_index(LOOPBACK).up().build();
        laws::change(handle, up, "raise it").await?;
    }
    Ok(Some(link.is_up))
}
