//! Links of a container's network namespace, over rtnetlink.
//!
//! A netlink socket belongs to the namespace it was opened in, so a thread enters the
//! namespace, opens one, asks, and ends.

use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::time::Duration;

use driver_api::{Deadline, Fact, ProcessId, StepError};
use futures_util::TryStreamExt as _;
use rtnetlink::packet_route::link::LinkFlags;
use rtnetlink::{Handle, LinkUnspec};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use tokio::runtime::Runtime;

use crate::clock::left_ms;
use crate::error::{During as _, gap, retry};
use crate::process;

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
    #[error("netlink")]
    Netlink(#[source] rtnetlink::Error),
    #[error("the kernel did not answer in time")]
    Late,
    #[error("the connection ended")]
    Ended,
    #[error("the process is gone")]
    Gone,
    #[error("the thread in its network namespace panicked")]
    Panic,
}

#[derive(Clone, Copy)]
enum Ask {
    Loopback,
    Raise,
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
        match self.within(init, deadline, Ask::Loopback) {
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
        match self.within(init, deadline, Ask::Raise) {
            Ok(Some(was_up)) => Ok(!was_up),
            Ok(None) => Err(retry(what(), "its network namespace has no loopback link")),
            Err(LinkError::Gone) => Err(StepError::Stale(format!("the init of {leaf} is gone"))),
            Err(err) => Err(io::Error::other(err)).during(what),
        }
    }

    /// Does the asking inside the namespace; `None` when there is no loopback link.
    fn within(
        &self,
        init: ProcessId,
        deadline: Deadline,
        ask: Ask,
    ) -> Result<Option<bool>, LinkError> {
        let namespace = File::open(process::proc_path(init.pid, "ns/net")).map_err(|err| {
            if crate::text::is_gone(&err) {
                LinkError::Gone
            } else {
                LinkError::Open(err)
            }
        })?;
        // The pid was ours when the namespace was opened only if it still is.
        match process::is_alive(init) {
            Ok(true) => {}
            Ok(false) => return Err(LinkError::Gone),
            Err(err) => return Err(LinkError::Open(err)),
        }
        let patience = Duration::from_millis(left_ms(deadline).clamp(1, ANSWER_MS_MAX));
        std::thread::scope(|scope| {
            let asked = scope.spawn(|| {
                let kind = Some(LinkNameSpaceType::Network);
                move_into_link_name_space(namespace.as_fd(), kind)
                    .map_err(|err| LinkError::Enter(err.into()))?;
                self.runtime.block_on(converse(ask, patience))
            });
            asked.join().unwrap_or(Err(LinkError::Panic))
        })
    }
}

async fn converse(ask: Ask, patience: Duration) -> Result<Option<bool>, LinkError> {
    let (connection, handle, _unasked) = rtnetlink::new_connection().map_err(LinkError::Socket)?;
    // Not spawned: with this call the socket goes too.
    tokio::select! {
        answer = answer(&handle, ask) => answer.map_err(LinkError::Netlink),
        () = connection => Err(LinkError::Ended),
        () = tokio::time::sleep(patience) => Err(LinkError::Late),
    }
}

async fn answer(handle: &Handle, ask: Ask) -> Result<Option<bool>, rtnetlink::Error> {
    let mut links = handle.link().get().match_index(LOOPBACK).execute();
    let link = match links.try_next().await {
        Ok(Some(link)) => link,
        Ok(None) => return Ok(None),
        Err(rtnetlink::Error::NetlinkError(said)) if said.raw_code() == -libc::ENODEV => {
            return Ok(None);
        }
        Err(err) => return Err(err),
    };
    let is_up = link.header.flags.contains(LinkFlags::Up);
    if let (Ask::Raise, false) = (ask, is_up) {
        let up = LinkUnspec::new_with_index(LOOPBACK).up().build();
        handle.link().set(up).execute().await?;
    }
    Ok(Some(is_up))
}
