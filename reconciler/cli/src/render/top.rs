//! What containers use from one sample to the next. Pure.

use serde::Serialize;
use specs::usage::{ContainerUsage, UsageSample};

use super::human;
use super::paint::{Paint, Tone};
use super::table::{Cell, Grid};

/// From this part of its limit on, in thousandths, use is worth a look.
const FULL_PERMILLE: u64 = 900;

/// Two samples, compared.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Top {
    /// Time between them, milliseconds.
    pub(crate) interval_ms: u64,
    /// One row a container.
    pub(crate) containers: Vec<Row>,
}

/// One container. What is not counted, or began between the samples, is left out.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Row {
    /// Which.
    pub(crate) name: String,
    /// Thousandths of one processor.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) cpu_permille: Option<u64>,
    /// Thousandths of the time that the quota held processes back.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) held_permille: Option<u64>,
    /// Bytes in use.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) working_set_bytes: Option<u64>,
    /// Limit of bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) memory_limit_bytes: Option<u64>,
    /// Most bytes ever charged.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) memory_peak_bytes: Option<u64>,
    /// Tasks.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) pids: Option<u64>,
    /// Limit of tasks.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) pids_limit: Option<u64>,
    /// Bytes written into its root.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) disk_bytes: Option<u64>,
    /// Limit of them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) disk_limit_bytes: Option<u64>,
    /// Files, directories and links in its root.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) disk_inodes: Option<u64>,
    /// Bytes that came in, a second.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) received_bytes_per_s: Option<u64>,
    /// Bytes that went out, a second.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) sent_bytes_per_s: Option<u64>,
}

impl Top {
    /// Compares two samples.
    pub(crate) fn between(before: &UsageSample, after: &UsageSample) -> Self {
        let interval_ms = after.at_ms.saturating_sub(before.at_ms).max(1);
        let rows = after.containers.iter().map(|now| {
            let same = |was: &&ContainerUsage| (&was.name, was.life) == (&now.name, now.life);
            row(before.containers.iter().find(same), now, interval_ms)
        });
        Self {
            interval_ms,
            containers: rows.collect(),
        }
    }
}

fn row(was: Option<&ContainerUsage>, now: &ContainerUsage, interval_ms: u64) -> Row {
    let grown = |of: fn(&ContainerUsage) -> Option<u64>| Some(of(now)?.saturating_sub(of(was?)?));
    // A microsecond a millisecond is a thousandth.
    let permille = |of| Some(grown(of)? / interval_ms);
    let per_second = |of| Some(grown(of)?.saturating_mul(1000) / interval_ms);
    Row {
        name: now.name.clone(),
        cpu_permille: permille(|usage| usage.cpu_usec),
        held_permille: permille(|usage| usage.cpu_throttled_usec),
        working_set_bytes: now.working_set_bytes,
        memory_limit_bytes: now.memory_limit_bytes,
        memory_peak_bytes: now.memory_peak_bytes,
        pids: now.pids,
        pids_limit: now.pids_limit,
        disk_bytes: now.disk.and_then(|disk| disk.total_bytes),
        disk_limit_bytes: now.disk.and_then(|disk| disk.limit_bytes),
        disk_inodes: now.disk.and_then(|disk| disk.inodes),
        received_bytes_per_s: per_second(|usage| Some(usage.network?.received_bytes)),
        sent_bytes_per_s: per_second(|usage| Some(usage.network?.sent_bytes)),
    }
}

/// Returns one row a container.
pub(crate) fn table(top: &Top, paint: Paint) -> String {
    if top.containers.is_empty() {
        return "no containers\n".to_owned();
    }
    let mut grid = Grid::new(&[
        "NAME", "CPU%", "HELD%", "MEMORY", "LIMIT", "MEM%", "PEAK", "PIDS", "DISK", "IN/S", "OUT/S",
    ]);
    for row in &top.containers {
        let used = row.working_set_bytes.zip(row.memory_limit_bytes);
        let used = used.map(|(used, limit)| used.saturating_mul(1000) / limit.max(1));
        let tone = |permille: Option<u64>| match permille {
            Some(FULL_PERMILLE..) => Tone::Warn,
            _ => Tone::Plain,
        };
        let pids = row.pids.map(|pids| match row.pids_limit {
            Some(limit) => format!("{pids}/{limit}"),
            None => pids.to_string(),
        });
        let disk = row.disk_bytes.zip(row.disk_limit_bytes);
        let full = disk.map(|(used, limit)| used.saturating_mul(1000) / limit.max(1));
        let disk = disk.map(|(used, limit)| {
            let (used, limit) = (human::bytes(used), human::bytes(limit));
            format!("{used}/{limit}")
        });
        let size = |bytes: Option<u64>| Cell::option(bytes.map(human::bytes));
        grid.push(vec![
            Cell::plain(&row.name),
            Cell::option(row.cpu_permille.map(percent)),
            Cell::option(row.held_permille.map(percent)),
            size(row.working_set_bytes),
            size(row.memory_limit_bytes),
            Cell::new(tone(used), used.map_or_else(|| "-".to_owned(), percent)),
            size(row.memory_peak_bytes),
            Cell::option(pids),
            Cell::new(tone(full), disk.unwrap_or_else(|| "-".to_owned())),
            size(row.received_bytes_per_s),
            size(row.sent_bytes_per_s),
        ]);
    }
    grid.take(paint)
}

fn percent(permille: u64) -> String {
    format!("{}.{}", permille / 10, permille % 10)
}

#[cfg(test)]
mod tests {
    use specs::usage::NetworkUsage;

    use super::*;

    fn usage(cpu: u64, received: u64) -> ContainerUsage {
        ContainerUsage {
            name: "web".to_owned(),
            life: 3,
            cpu_usec: Some(cpu),
            network: Some(NetworkUsage {
                received_bytes: received,
                ..NetworkUsage::default()
            }),
            ..ContainerUsage::default()
        }
    }

    fn at(at_ms: u64, usage: ContainerUsage) -> UsageSample {
        UsageSample {
            at_ms,
            containers: vec![usage],
        }
    }

    #[test]
    fn rates_are_of_the_time_between_the_samples() {
        let top = Top::between(&at(1000, usage(0, 100)), &at(3000, usage(3_000_000, 2100)));
        let row = &top.containers[0];
        assert_eq!(row.cpu_permille, Some(1500));
        assert_eq!(row.received_bytes_per_s, Some(1000));
        assert_eq!(row.held_permille, None, "not counted is not 0");
    }

    #[test]
    fn another_life_has_no_rate_yet() {
        let mut anew = usage(5, 5);
        anew.life = 4;
        let top = Top::between(&at(1000, usage(9, 9)), &at(3000, anew));
        assert_eq!(top.containers[0].cpu_permille, None);
    }
}
