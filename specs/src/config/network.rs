//! What the configuration says of isolated networks.

use schemars::JsonSchema;
use serde::Deserialize;

use super::NetworkDefaults;
use crate::units::{Address, Target};

/// What holds for every isolated network.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct NetworkFile {
    /// Services of the host itself, on any of its addresses, may be spoken to where a spec's
    /// `egress` says so. Published ports do not need it.
    host_access: Option<bool>,
    /// Destinations that every container may speak to, whatever its spec says.
    #[serde(default)]
    allow: Vec<Target>,
    /// Destinations that none may speak to, whatever its spec says.
    deny: Option<Vec<Target>>,
    /// Resolvers of containers that name none.
    #[serde(default)]
    dns: Vec<Address>,
    /// Largest packet in bytes.
    #[schemars(range(min = 576, max = 65535))]
    mtu: Option<u32>,
}

impl NetworkFile {
    pub(super) fn fill(self) -> NetworkDefaults {
        let absent = NetworkDefaults::default();
        let ranges = |targets: &[Target]| targets.iter().map(|target| target.0).collect();
        NetworkDefaults {
            host_access: self.host_access.unwrap_or(absent.host_access),
            allow: ranges(&self.allow),
            deny: self.deny.map_or(absent.deny, |deny| ranges(&deny)),
            dns: self.dns.iter().map(|server| server.0).collect(),
            mtu: self.mtu.unwrap_or(absent.mtu),
        }
    }
}
