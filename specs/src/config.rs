//! `config.yaml`: what the administrator of the host decides.

mod file;
mod laws;
mod network;

use std::net::Ipv4Addr;

use crate::desired::{IdRange, NameOrId, Range};
use crate::diagnostic::Diagnostic;
use crate::fields::CONFIG;
use crate::id::Instance;
use crate::parse::faults::Faults;
use crate::parse::{self, Places, decode};
use crate::policy::Policy;
use crate::spec::Rlimits;
use crate::units::{Bytes, MilliCpu, Millis};

pub(crate) use file::{ConfigFile, RuleFile};

/// The whole configuration, every default filled.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Config {
    /// Where things are.
    pub paths: Paths,
    /// Name of the daemon, if given here.
    pub instance: Option<Instance>,
    /// Cgroup below which containers live, as a path below the hierarchy's root; none leaves
    /// the choice to the driver.
    pub cgroup_parent: Option<String>,
    /// What is given out to containers.
    pub pools: Pools,
    /// What holds when a spec says nothing.
    pub defaults: Defaults,
    /// How the loop runs.
    pub reconcile: Reconcile,
    /// When a removal waits for a person.
    pub deletions: Deletions,
    /// Who may use the socket, beside root.
    pub api: Api,
    /// Who may ask for what.
    pub policy: Policy,
}

/// Where things are. All absolute.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Paths {
    /// Directories watched for specs.
    pub specs: Vec<String>,
    /// The store; survives a reboot.
    pub state: String,
    /// Sockets and adoption handles; gone at reboot.
    pub runtime: String,
    /// Output of processes.
    pub logs: String,
    /// The daemon's socket.
    pub socket: String,
}

/// What is given out to containers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pools {
    /// Ranges of user and group ids that no one else on the host uses.
    pub ids: Vec<IdRange>,
    /// How many ids each container gets.
    pub ids_per_container: u32,
    /// IPv4 networks that no one else on the host or beside it uses.
    pub addresses: Vec<Range>,
}

/// What holds when a spec says nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Defaults {
    /// Limits of a container.
    pub limits: DefaultLimits,
    /// Resource limits of each process.
    pub rlimits: Rlimits,
    /// What holds for every isolated network.
    pub network: NetworkDefaults,
}

/// What holds for every isolated network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NetworkDefaults {
    /// Ports of the host's own that are not published may be spoken to, where a spec's egress
    /// says so.
    pub host_access: bool,
    /// Destinations that every container may speak to.
    pub allow: Vec<Range>,
    /// Destinations that none may.
    pub deny: Vec<Range>,
    /// Resolvers of a container that names none; empty: the host's.
    pub dns: Vec<Ipv4Addr>,
    /// Largest packet, bytes.
    pub mtu: u32,
}

/// Limits of a container whose spec does not set them. `None` is "not limited".
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DefaultLimits {
    /// Hard memory limit.
    pub memory: Option<Bytes>,
    /// Swap on top of memory; 0 if absent.
    pub swap: Option<Bytes>,
    /// Processor quota.
    pub cpu: Option<MilliCpu>,
    /// Processor weight.
    pub cpu_weight: Option<u16>,
    /// Most tasks; [`crate::resolve::PIDS_DEFAULT`] if absent.
    pub pids: Option<u32>,
}

/// How the loop runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reconcile {
    /// Longest time until every container has been looked at, events or not.
    pub resync: Millis,
    /// Containers worked on at once.
    pub workers: u32,
}

/// When a removal waits for a person.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Deletions {
    /// Fewer containers than this are removed without asking.
    pub hold_from: u32,
    /// So is a smaller part of a source than this, in percent.
    pub hold_percent: u32,
}

impl Deletions {
    /// Says whether removing `removed` of the `present` containers of one source at once waits
    /// for a person.
    #[must_use]
    pub fn is_held(&self, removed: usize, present: usize) -> bool {
        let number = |value: usize| u64::try_from(value).unwrap_or(u64::MAX);
        let (removed, present) = (number(removed), number(present));
        let many = removed > 0 && removed >= u64::from(self.hold_from);
        let part = removed.saturating_mul(100) >= present.saturating_mul(self.hold_percent.into());
        many && part
    }
}

/// Who may use the socket, beside root. Groups of the host.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Api {
    /// May read status and events, no secrets.
    pub read_groups: Vec<NameOrId>,
    /// May also stop, start, apply and sync.
    pub write_groups: Vec<NameOrId>,
}

impl Default for Paths {
    fn default() -> Self {
        Self {
            specs: vec!["/etc/reconciler/specs.d".to_owned()],
            state: "/var/lib/reconciler".to_owned(),
            runtime: "/run/reconciler".to_owned(),
            logs: "/var/log/reconciler".to_owned(),
            socket: "/run/reconciler/reconciler.sock".to_owned(),
        }
    }
}

impl Default for NetworkDefaults {
    /// Nobody speaks to the address at which clouds give out credentials.
    fn default() -> Self {
        Self {
            host_access: false,
            allow: Vec::new(),
            deny: vec![Range::one(Ipv4Addr::new(169, 254, 169, 254))],
            dns: Vec::new(),
            mtu: 1500,
        }
    }
}

impl Default for Pools {
    /// Above the ranges of login shells, subordinate ids and systemd's containers, below
    /// those that systemd gives to foreign images (UIDS-GIDS of systemd).
    fn default() -> Self {
        Self {
            ids: vec![IdRange {
                base: 0x7000_0000,
                count: 4000 * 65_536,
            }],
            ids_per_container: 65_536,
            addresses: vec![Range {
                first: Ipv4Addr::new(10, 254, 0, 0),
                last: Ipv4Addr::new(10, 254, 255, 255),
            }],
        }
    }
}

impl Default for Reconcile {
    fn default() -> Self {
        Self {
            resync: Millis(30_000),
            workers: 4,
        }
    }
}

impl Default for Deletions {
    fn default() -> Self {
        Self {
            hold_from: 3,
            hold_percent: 50,
        }
    }
}

/// Reads a configuration. `file` is its name for messages.
///
/// # Errors
/// When anything in it is wrong: everything that is, in the order of the file.
pub fn parse_config(file: &str, bytes: &[u8]) -> Result<Config, Vec<Diagnostic>> {
    let mut faults = Faults::new(file);
    let Some(text) = decode::decode(bytes, &mut faults) else {
        return Err(faults.finish());
    };
    let read = parse::read::<ConfigFile>(&text, CONFIG, laws::laws, &mut faults);
    let places = read.roots().next().map(Places::of).unwrap_or_default();
    match read.values.into_iter().next() {
        Some(values) if faults.len() == 0 => Ok(values.fill(file, &places)),
        _ => Err(faults.finish()),
    }
}
