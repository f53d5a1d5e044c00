//! What containers use, read when somebody asks; never part of a status.
//!
//! What this host does not count is left out, and never 0.

use serde::{Deserialize, Serialize};

use crate::id::{Incarnation, Key};

/// One look at all containers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct UsageSample {
    /// When, `CLOCK_BOOTTIME` milliseconds: two samples give a rate, however the wall clock is
    /// set between them.
    pub at_ms: u64,
    /// By name.
    pub containers: Vec<ContainerUsage>,
}

/// What one container uses: gauges of now, and counters since its life was made.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ContainerUsage {
    /// Which.
    pub name: String,
    /// Which of its lives; the counters of another begin anew.
    pub life: u64,
    /// Bytes charged, page cache included.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_bytes: Option<u64>,
    /// Bytes charged less page cache that was not used lately: what would be missed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub working_set_bytes: Option<u64>,
    /// Most bytes ever charged.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_peak_bytes: Option<u64>,
    /// Hard limit as read back, if there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_limit_bytes: Option<u64>,
    /// Bytes in swap.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub swap_bytes: Option<u64>,
    /// Processor time, microseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu_usec: Option<u64>,
    /// Of it outside the kernel.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu_user_usec: Option<u64>,
    /// Of it in the kernel.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu_system_usec: Option<u64>,
    /// Time that the quota held processes back, microseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu_throttled_usec: Option<u64>,
    /// Tasks.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pids: Option<u64>,
    /// Most tasks ever.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pids_peak: Option<u64>,
    /// Limit of tasks as read back, if there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pids_limit: Option<u64>,
    /// What it has written into its root.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub disk: Option<DiskUsage>,
    /// What went over its own network; none without one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub network: Option<NetworkUsage>,
}

/// What a container has written into its root. Counted by the file system; never by a walk,
/// so what is not counted is left out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct DiskUsage {
    /// Bytes that count against the limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub total_bytes: Option<u64>,
    /// Of them those that the host would have back without the container.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exclusive_bytes: Option<u64>,
    /// Limit of bytes as read back.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit_bytes: Option<u64>,
    /// Inodes that count against the limit; all are its own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub inodes: Option<u64>,
    /// Limit of inodes as read back.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit_inodes: Option<u64>,
}

/// What went over a container's network, as the container sees it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NetworkUsage {
    /// Bytes that came in.
    pub received_bytes: u64,
    /// Packets that came in.
    pub received_packets: u64,
    /// Bytes that went out.
    pub sent_bytes: u64,
    /// Packets that went out.
    pub sent_packets: u64,
}

impl ContainerUsage {
    /// Returns the use of a life of which nothing is known yet.
    #[must_use]
    pub fn of(key: &Key, life: Incarnation) -> Self {
        Self {
            name: key.to_string(),
            life: life.0,
            ..Self::default()
        }
    }
}
