//! Who may ask for what. Pure: paths are compared as texts; that a path does not leave its
//! root by a link is the driver's to see to, below [`BindRoot::path`].

mod check;

use std::collections::BTreeSet;

pub use check::{check, withdrawn};

use crate::config::DefaultLimits;
use crate::desired::{Desired, MountSource};
use crate::fields::is_below;
use crate::resolve::capability;
use crate::units::{Bytes, MilliCpu, Ports};

/// Every rule, in order.
#[derive(Clone, Debug, PartialEq)]
pub struct Policy {
    rules: Vec<Rule>,
    built_in: Grant,
}

#[derive(Clone, Debug, PartialEq)]
struct Rule {
    directory: Option<String>,
    owner: Option<u32>,
    grant: Grant,
}

/// What a spec may ask for.
#[derive(Clone, Debug, PartialEq)]
pub struct Grant {
    /// The rule it comes from, in words: name and `FILE:LINE:COLUMN`.
    pub rule: String,
    /// Host directories that may be bound.
    pub bind_roots: Vec<BindRoot>,
    /// Host directories below which a root file system may lie; none: all but those that hold
    /// the host's own secrets and devices.
    pub rootfs_roots: Option<Vec<String>>,
    /// Privileged containers.
    pub privileged: bool,
    /// The host's user namespace.
    pub host_user_namespace: bool,
    /// The host's network.
    pub host_network: bool,
    /// Ports of the host that may be published.
    pub ports: Vec<Ports>,
    /// Devices.
    pub devices: Vec<DeviceRule>,
    /// Capabilities, without `CAP_`, that may be added to the base set.
    pub capabilities: BTreeSet<String>,
    /// No system call filter.
    pub seccomp_unconfined: bool,
    /// Host directories with seccomp profiles.
    pub seccomp_roots: Vec<String>,
    /// Kernel settings; `*` at the end stands for any rest.
    pub sysctls: Vec<String>,
    /// Ceilings.
    pub limits: Ceilings,
    /// What holds when a spec sets no limit.
    defaults: DefaultLimits,
}

/// A host directory that may be bound.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BindRoot {
    /// The directory.
    pub path: String,
    /// With writing.
    pub writable: bool,
}

/// A device that may be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceRule {
    /// The device; `*` at the end stands for any rest.
    pub path: String,
    /// Any of `r`, `w`, `m`.
    pub access: String,
}

/// Ceilings of limits; `None` is no ceiling.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ceilings {
    /// Memory.
    pub memory: Option<Bytes>,
    /// Swap.
    pub swap: Option<Bytes>,
    /// Protected memory.
    pub memory_low: Option<Bytes>,
    /// Processor quota.
    pub cpu: Option<MilliCpu>,
    /// Tasks.
    pub pids: Option<u32>,
    /// Bytes written into the root.
    pub disk: Option<Bytes>,
}

impl Default for Policy {
    fn default() -> Self {
        Self::new(&[], DefaultLimits::default(), |_| String::new())
    }
}

impl Policy {
    /// Returns what specs in this source directory may ask for when this user owns them. A
    /// source that is no directory (the socket) is the empty text.
    #[must_use]
    pub fn grant(&self, source_directory: &str, owner_uid: u32) -> Grant {
        let matches = |rule: &&Rule| {
            let directory = rule.directory.as_deref();
            directory.is_none_or(|directory| is_below(source_directory, &[directory]))
                && rule.owner.is_none_or(|owner| owner == owner_uid)
        };
        let rule = self.rules.iter().find(matches);
        rule.map_or(&self.built_in, |rule| &rule.grant).clone()
    }

    pub(crate) fn new(
        rules: &[crate::config::RuleFile],
        defaults: DefaultLimits,
        place: impl Fn(usize) -> String,
    ) -> Self {
        let built_in = Grant::built_in(defaults);
        let rules = rules.iter().enumerate().map(|(at, rule)| Rule {
            directory: rule.directory.clone(),
            owner: rule.owner,
            grant: built_in.with(rule, &place(at)),
        });
        Self {
            rules: rules.collect(),
            built_in: built_in.clone(),
        }
    }
}

impl Grant {
    fn built_in(defaults: DefaultLimits) -> Self {
        let names = ["AUDIT_WRITE", "MKNOD", "NET_RAW"];
        Self {
            rule: "the built-in policy".to_owned(),
            bind_roots: Vec::new(),
            rootfs_roots: None,
            privileged: false,
            host_user_namespace: false,
            host_network: true,
            ports: vec![Ports(1, u16::MAX)],
            devices: Vec::new(),
            capabilities: names.into_iter().map(str::to_owned).collect(),
            seccomp_unconfined: false,
            seccomp_roots: Vec::new(),
            sysctls: vec!["*".to_owned()],
            limits: Ceilings::default(),
            defaults,
        }
    }

    /// Returns the grant of a rule: what the rule leaves out stays as it is here.
    fn with(&self, rule: &crate::config::RuleFile, place: &str) -> Self {
        let bind_roots = rule.bind_roots.iter().map(|root| BindRoot {
            path: root.path.clone(),
            writable: root.writable,
        });
        let devices = rule.devices.iter().map(|device| DeviceRule {
            path: device.path.clone(),
            access: device.access.clone().unwrap_or_else(|| "rw".to_owned()),
        });
        let named = |names: &Vec<String>| {
            let known = names.iter().filter_map(|name| capability::canonical(name));
            known.map(str::to_owned).collect()
        };
        let limits = rule.limits;
        Self {
            rule: format!("the rule `{}` ({place})", rule.name),
            bind_roots: bind_roots.collect(),
            rootfs_roots: rule
                .rootfs_roots
                .clone()
                .or_else(|| self.rootfs_roots.clone()),
            privileged: rule.privileged.unwrap_or(self.privileged),
            host_user_namespace: rule.host_user_namespace.unwrap_or(self.host_user_namespace),
            host_network: rule.host_network.unwrap_or(self.host_network),
            devices: devices.collect(),
            capabilities: rule
                .capabilities
                .as_ref()
                .map_or(self.capabilities.clone(), named),
            seccomp_unconfined: rule.seccomp_unconfined.unwrap_or(self.seccomp_unconfined),
            seccomp_roots: rule.seccomp_roots.clone(),
            ports: rule.ports.clone().unwrap_or_else(|| self.ports.clone()),
            sysctls: rule.sysctls.clone().unwrap_or_else(|| self.sysctls.clone()),
            limits: Ceilings {
                memory: limits.memory,
                swap: limits.swap,
                memory_low: limits.memory_low,
                cpu: limits.cpu,
                pids: limits.pids,
                disk: limits.disk,
            },
            defaults: self.defaults,
        }
    }

    /// Ties each bind to the root that allows it, for the driver to resolve it below. To be
    /// called after [`crate::resolve::resolve`]; a bind without a root stays untied, and the
    /// driver refuses to make it.
    pub fn confine(&self, desired: &mut Desired) {
        for mount in &mut desired.container.mounts {
            if let MountSource::Bind {
                source, beneath, ..
            } = &mut mount.source
            {
                *beneath = self.bind_root(source).map(|root| root.path.clone());
            }
        }
    }

    /// Returns the root that allows this host path to be bound, the longest if several do. The
    /// driver resolves the path below it, so that no link leads out.
    #[must_use]
    pub fn bind_root(&self, source: &str) -> Option<&BindRoot> {
        let roots = self
            .bind_roots
            .iter()
            .filter(|root| is_below(source, &[&root.path]));
        roots.max_by_key(|root| root.path.len())
    }
}
