//! One spec against what it was granted.

use super::Grant;
use crate::diagnostic::{Code, Diagnostic, plain};
use crate::fields::is_below;
use crate::parse::faults::Fault;
use crate::parse::{Located, Places};
use crate::resolve::{PIDS_DEFAULT, capability};
use crate::spec::{NetworkMode, Security, Spec, UserNamespace, Writable};
use crate::units::Ports;

/// Host directories that no root file system lies in: they hold secrets, devices, or the
/// host's own running state.
const NO_ROOTFS: [&str; 6] = ["/boot", "/dev", "/etc", "/proc", "/run", "/sys"];

/// Returns a refusal for each thing in the spec that was not granted; none means that it may
/// be taken.
#[must_use]
pub fn check(located: &Located, grant: &Grant, file: &str) -> Vec<Diagnostic> {
    let mut check = Check {
        located,
        grant,
        file,
        refused: Vec::new(),
    };
    check.binds();
    check.rootfs();
    check.network();
    if let Some(security) = &located.spec.spec.security {
        check.switches(security);
        check.devices(security);
        check.capabilities(security);
        check.seccomp(security);
        check.sysctls(security);
    }
    check.limits();
    check.refused
}

/// Returns what of an accepted spec is not granted any more, in one line; none if all of it
/// still is. The text it was read from may be long gone, so no place is named.
#[must_use]
pub fn withdrawn(spec: &Spec, grant: &Grant) -> Option<String> {
    let located = Located {
        spec: spec.clone(),
        line: 0,
        places: Places::default(),
    };
    let refused = check(&located, grant, "");
    let messages: Vec<&str> = refused.iter().map(|one| one.message.as_str()).collect();
    (!messages.is_empty()).then(|| {
        let rule = plain_rule(&grant.rule);
        format!("{}; decided by {rule}", messages.join("; "))
    })
}

struct Check<'a> {
    located: &'a Located,
    grant: &'a Grant,
    file: &'a str,
    refused: Vec<Diagnostic>,
}

impl Check<'_> {
    fn refuse(&mut self, path: &str, code: Code, message: String, help: &str) {
        let note = format!("decided by {}", plain_rule(&self.grant.rule));
        let fault = Fault::new(code, message).note(note).help(help);
        self.refused
            .push(fault.at(self.file, self.located.places.value(path)));
    }

    fn binds(&mut self) {
        for (at, mount) in self.located.spec.spec.mounts.iter().enumerate() {
            let Some(source) = &mount.source else {
                continue;
            };
            let path = format!("spec.mounts[{at}]");
            match self.grant.bind_root(source) {
                None => {
                    let message = format!("the host path `{}` may not be bound", plain(source));
                    let help = "list a directory above it in the policy's `bindRoots`";
                    self.refuse(&format!("{path}.source"), Code::PolicyBind, message, help);
                }
                Some(root) if mount.read_only == Some(false) && !root.writable => {
                    let message = format!("`{}` may be bound read-only", plain(source));
                    let help = "write `readOnly: true`, or `writable: true` in the policy";
                    self.refuse(&format!("{path}.readOnly"), Code::PolicyBind, message, help);
                }
                Some(_) => {}
            }
        }
    }

    fn rootfs(&mut self) {
        let directory = &self.located.spec.spec.rootfs.directory;
        let allowed = match &self.grant.rootfs_roots {
            Some(roots) => roots.iter().any(|root| is_below(directory, &[root])),
            None => directory != "/root" && !is_below(directory, &NO_ROOTFS),
        };
        if !allowed {
            let message = format!("`{}` may not be used as a root", plain(directory));
            let help = "list a directory above it in the policy's `rootfsRoots`";
            self.refuse("spec.rootfs.directory", Code::PolicyRootfs, message, help);
        }
    }

    fn network(&mut self) {
        let network = self.located.spec.spec.network.as_ref();
        let mode = network.and_then(|network| network.mode);
        let ports = network.map_or(&[][..], |network| &network.ports);
        for (at, port) in ports.iter().enumerate() {
            let mut granted = self.grant.ports.iter();
            if !granted.any(|Ports(first, last)| (first..=last).contains(&&port.host)) {
                let message = format!("the host's port {} may not be published", port.host);
                let help = "choose one of the policy's `ports`, or list this one there";
                let path = format!("spec.network.ports[{at}].host");
                self.refuse(&path, Code::PolicyPort, message, help);
            }
        }
        if mode == Some(NetworkMode::Host) && !self.grant.host_network {
            let message = "the host's network may not be used".to_owned();
            let help = "write `mode: none`, or `hostNetwork: true` in the policy";
            self.refuse("spec.network.mode", Code::PolicyNetwork, message, help);
        }
    }

    fn switches(&mut self, security: &Security) {
        if security.privileged == Some(true) && !self.grant.privileged {
            let message = "the container may not be privileged".to_owned();
            let help = "ask for single capabilities or devices instead";
            self.refuse(
                "spec.security.privileged",
                Code::PolicyPrivileged,
                message,
                help,
            );
        }
        let namespace = security.user.as_ref().and_then(|user| user.namespace);
        if namespace == Some(UserNamespace::Host) && !self.grant.host_user_namespace {
            let message = "the host's user namespace may not be used".to_owned();
            let help = "write `namespace: auto`";
            let path = "spec.security.user.namespace";
            self.refuse(path, Code::PolicyUserNamespace, message, help);
        }
    }

    fn devices(&mut self, security: &Security) {
        for (at, device) in security.devices.iter().enumerate() {
            let access = device.access.as_deref().unwrap_or("rw");
            let granted = self.grant.devices.iter().any(|rule| {
                matches(&rule.path, &device.path)
                    && access.chars().all(|letter| rule.access.contains(letter))
            });
            if !granted {
                let message = format!("`{}` may not be used with `{access}`", plain(&device.path));
                let help = "list it in the policy's `devices`";
                let path = format!("spec.security.devices[{at}].path");
                self.refuse(&path, Code::PolicyDevice, message, help);
            }
        }
    }

    fn capabilities(&mut self, security: &Security) {
        let Some(capabilities) = &security.capabilities else {
            return;
        };
        for (at, name) in capabilities.add.iter().enumerate() {
            let Some(name) = capability::canonical(name) else {
                continue;
            };
            if !capability::BASE.contains(&name) && !self.grant.capabilities.contains(name) {
                let message = format!("the capability `{name}` may not be added");
                let help = "list it in the policy's `capabilities`";
                let path = format!("spec.security.capabilities.add[{at}]");
                self.refuse(&path, Code::PolicyCapability, message, help);
            }
        }
    }

    fn seccomp(&mut self, security: &Security) {
        let (message, help) = match security.seccomp.as_deref() {
            None | Some("default") => return,
            Some("unconfined") if self.grant.seccomp_unconfined => return,
            Some("unconfined") => (
                "the system call filter may not be left out".to_owned(),
                "write `default`, or `seccompUnconfined: true` in the policy",
            ),
            Some(path) => {
                let roots = &self.grant.seccomp_roots;
                if roots.iter().any(|root| is_below(path, &[root])) {
                    return;
                }
                (
                    format!("the profile `{}` may not be used", plain(path)),
                    "list a directory above it in the policy's `seccompRoots`",
                )
            }
        };
        self.refuse("spec.security.seccomp", Code::PolicySeccomp, message, help);
    }

    fn sysctls(&mut self, security: &Security) {
        for name in security.sysctls.keys() {
            if !self
                .grant
                .sysctls
                .iter()
                .any(|pattern| matches(pattern, name))
            {
                let message = format!("`{}` may not be set", plain(name));
                let help = "list it in the policy's `sysctls`";
                let path = format!("spec.security.sysctls.{name}");
                self.refuse(&path, Code::PolicySysctl, message, help);
            }
        }
    }

    fn limits(&mut self) {
        let limits = self.located.spec.spec.limits.clone().unwrap_or_default();
        let (ceiling, fallback) = (self.grant.limits, self.grant.defaults);
        let pids = limits.pids.or(fallback.pids).unwrap_or(PIDS_DEFAULT);
        let zero = Some(crate::units::Bytes(0));
        self.limit("memory", limits.memory.or(fallback.memory), ceiling.memory);
        self.limit("swap", limits.swap.or(fallback.swap).or(zero), ceiling.swap);
        self.limit("memoryLow", limits.memory_low.or(zero), ceiling.memory_low);
        self.limit("cpu", limits.cpu.or(fallback.cpu), ceiling.cpu);
        self.limit("pids", Some(pids), ceiling.pids);
        if self.located.spec.spec.rootfs.writable != Some(Writable::None) {
            let asked = limits.disk.map(|disk| disk.bytes);
            self.limit("disk.bytes", asked, ceiling.disk);
        }
    }

    fn limit<T>(&mut self, field: &str, asked: Option<T>, ceiling: Option<T>)
    where
        T: Copy + PartialOrd + std::fmt::Display,
    {
        let Some(ceiling) = ceiling else { return };
        let message = match asked {
            Some(asked) if asked <= ceiling => return,
            Some(asked) => format!("`{field}` is {asked}, at most {ceiling} is allowed"),
            None => format!("`{field}` is not limited, at most {ceiling} is allowed"),
        };
        let help = format!("write `{field}: {ceiling}` or less");
        self.refuse(
            &format!("spec.limits.{field}"),
            Code::PolicyLimit,
            message,
            &help,
        );
    }
}

/// Says whether a pattern, perhaps with `*` at its end, stands for the text.
fn matches(pattern: &str, text: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some(stem) => text.starts_with(stem),
        None => pattern == text,
    }
}

/// A path in the rule's place may be long.
fn plain_rule(rule: &str) -> String {
    rule.chars().filter(|c| !c.is_control()).take(400).collect()
}
