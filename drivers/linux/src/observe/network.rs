//! What connects a life to the network.

use std::cell::OnceCell;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use driver_api::{Deadline, Fact, Gap, Mark, NetworkObserved, ProcessId, RulesObserved};

use crate::clock::left_ms;
use crate::error::gap;
use crate::host::LinuxHost;
use crate::links;
use crate::nft::TableObserved;

/// Longest wait for one answer of the packet filter, which takes milliseconds.
const ANSWER_MS_MAX: u64 = 5000;

/// The packet filter, read once for a whole look, and only when somebody asks: most looks are
/// at one container, and most of those have no network of this kind.
pub(super) struct Table<'a> {
    host: &'a LinuxHost,
    deadline: Deadline,
    read: OnceCell<Result<Arc<TableObserved>, Gap>>,
}

impl<'a> Table<'a> {
    /// Returns one that is not read yet.
    pub(super) fn new(host: &'a LinuxHost, deadline: Deadline) -> Self {
        let read = OnceCell::new();
        Self {
            host,
            deadline,
            read,
        }
    }

    /// Returns the table; a kernel without a packet filter has none.
    pub(super) fn get(&self) -> Result<&TableObserved, &Gap> {
        let read = self.read.get_or_init(|| self.read());
        read.as_deref()
    }

    fn read(&self) -> Result<Arc<TableObserved>, Gap> {
        let patience = Duration::from_millis(left_ms(self.deadline).clamp(1, ANSWER_MS_MAX));
        let firewall = &self.host.firewall;
        match firewall.read(patience) {
            // Asked once more for the least of it: an answer that is late is no answer.
            Err(err) if is_missing(&err) => match firewall.answers(patience) {
                Err(again) if is_missing(&again) => Ok(Arc::default()),
                _ => Err(gap("read the packet filter", &err)),
            },
            read => read.map_err(|err| gap("read the packet filter", &err)),
        }
    }
}

/// A kernel without nf_tables says so in these ways (`nfnetlink_rcv_msg`, `netlink(7)`).
fn is_missing(err: &io::Error) -> bool {
    let missing = [
        libc::EPROTONOSUPPORT,
        libc::EAFNOSUPPORT,
        libc::EOPNOTSUPP,
        libc::EINVAL,
    ];
    err.raw_os_error()
        .is_some_and(|code| missing.contains(&code))
}

/// Observes one life. `is_isolated` says whether it was made with such a network; of one that
/// was not, or of which nothing is known, only what it should not have is looked for.
pub(super) fn observe(
    host: &LinuxHost,
    (mark, init): (&Mark, Option<ProcessId>),
    is_isolated: bool,
    table: &Table<'_>,
    deadline: Deadline,
) -> NetworkObserved {
    let leaf = mark.leaf();
    let rules = match table.get() {
        Err(gap) => Fact::Unknown(gap.clone()),
        Ok(table) => match table.lives.get(&leaf) {
            None => Fact::Absent,
            Some(life) => Fact::Known(RulesObserved {
                shared: table.shared,
                address: life
                    .address
                    .filter(|_| life.device.as_deref() == Some(&mark.device())),
                ports: life.ports.clone(),
                egress: life.egress.clone(),
                reserved: host.ports.of(&leaf, &life.ports),
            }),
        },
    };
    let (device, alias) = (mark.device(), mark.alias());
    let link = host.links.link(init, &device, &alias, &leaf, deadline);
    let forwarding = if is_isolated {
        match links::forwarding() {
            Ok(is_on) => Fact::Known(is_on),
            Err(err) => Fact::Unknown(gap("read net.ipv4.ip_forward", &err)),
        }
    } else {
        Fact::Absent
    };
    NetworkObserved {
        link,
        rules,
        forwarding,
    }
}
