//! The two files by which a container finds others by name.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr};

use super::{File, NameOrId, OnChange, User};
use crate::units::Secret;

/// Where the names of single hosts stand.
const HOSTS: &str = "/etc/hosts";
/// Where the resolvers stand.
const RESOLV_CONF: &str = "/etc/resolv.conf";

/// How a container finds others by name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Names {
    /// Resolvers, in the order they are asked.
    pub servers: Vec<Ipv4Addr>,
    /// Domains that short names are looked up in.
    pub search: Vec<String>,
    /// Options of resolv.conf(5).
    pub options: Vec<String>,
    /// Names beside the container's own.
    pub hosts: BTreeMap<String, IpAddr>,
}

impl Names {
    /// Returns the files that say so inside. A file of the spec's own at the same place goes
    /// before.
    #[must_use]
    pub fn files(&self, hostname: &str, address: Ipv4Addr) -> [File; 2] {
        [
            file(HOSTS, self.hosts(hostname, address)),
            file(RESOLV_CONF, self.resolv_conf()),
        ]
    }

    fn hosts(&self, hostname: &str, address: Ipv4Addr) -> String {
        let mut text = String::from("127.0.0.1 localhost\n::1 localhost\n");
        let short = hostname
            .split('.')
            .next()
            .filter(|short| *short != hostname);
        let short = short.map(|short| format!(" {short}")).unwrap_or_default();
        // Writing to a text cannot fail.
        let _infallible = writeln!(text, "{address} {hostname}{short}");
        for (name, address) in &self.hosts {
            let _infallible = writeln!(text, "{address} {name}");
        }
        text
    }

    fn resolv_conf(&self) -> String {
        let mut text = String::new();
        for server in &self.servers {
            let _infallible = writeln!(text, "nameserver {server}");
        }
        for (word, values) in [("search", &self.search), ("options", &self.options)] {
            if !values.is_empty() {
                let _infallible = writeln!(text, "{word} {}", values.join(" "));
            }
        }
        text
    }
}

/// What reads these files reads them anew when they change: nothing is restarted.
fn file(path: &str, content: String) -> File {
    File {
        path: path.to_owned(),
        content: Secret(content),
        mode: 0o644,
        user: User {
            user: NameOrId::Id(0),
            group: Some(NameOrId::Id(0)),
        },
        on_change: OnChange::Nothing,
    }
}
