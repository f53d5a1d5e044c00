//! What one container uses, as `describe` tells it.

use specs::usage::ContainerUsage;

use super::human;

/// Returns label and value of all that is counted.
pub(crate) fn pairs(usage: &ContainerUsage) -> Vec<(&'static str, String)> {
    let bytes = |bytes: Option<u64>| bytes.map(human::bytes);
    let time = |usec: Option<u64>| usec.map(human::cpu);
    let count = |count: Option<u64>| count.map(|count| count.to_string());
    let net = |of: fn(&specs::usage::NetworkUsage) -> (u64, u64)| {
        let (bytes, packets) = of(usage.network.as_ref()?);
        Some(format!("{} in {packets} packets", human::bytes(bytes)))
    };
    let all = [
        ("Working set", bytes(usage.working_set_bytes)),
        ("Memory peak", bytes(usage.memory_peak_bytes)),
        ("Swap", bytes(usage.swap_bytes)),
        ("Cpu, user", time(usage.cpu_user_usec)),
        ("Cpu, kernel", time(usage.cpu_system_usec)),
        ("Cpu, held back", time(usage.cpu_throttled_usec)),
        ("Pids peak", count(usage.pids_peak)),
        ("Disk", bytes(usage.disk.and_then(|disk| disk.total_bytes))),
        (
            "Disk, on the host",
            bytes(usage.disk.and_then(|disk| disk.exclusive_bytes)),
        ),
        ("Inodes", count(usage.disk.and_then(|disk| disk.inodes))),
        (
            "Received",
            net(|net| (net.received_bytes, net.received_packets)),
        ),
        ("Sent", net(|net| (net.sent_bytes, net.sent_packets))),
    ];
    let told = all.into_iter();
    told.filter_map(|(label, value)| Some((label, value?)))
        .collect()
}
