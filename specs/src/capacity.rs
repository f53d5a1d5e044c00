//! What a host has for containers, and how much of it is given away. Told when asked.

use serde::{Deserialize, Serialize};

/// What a host has.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Capacity {
    /// Containers that are wanted.
    pub containers: u64,
    /// How many more could be made, by what each of them needs for itself.
    pub more_containers: u64,
    /// Bytes of memory, against limits.
    pub memory: Granted,
    /// Thousandths of a processor, against limits.
    pub cpu: Granted,
    /// Tasks, against limits.
    pub pids: Granted,
    /// Bytes of the state directory's file system, if that could be read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disk: Option<Stock>,
    /// Ranges of ids in `pools.ids`.
    pub id_ranges: Stock,
    /// Addresses in `pools.addresses`, one for each isolated network.
    pub addresses: Stock,
    /// Of which the largest part is gone; none if nothing is known.
    pub tightest: Option<String>,
}

/// Something that limits grant. More may be granted than there is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Granted {
    /// How much there is, if that is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub total: Option<u64>,
    /// The sum of the limits.
    pub granted: u64,
    /// Containers without a limit, which no sum can count.
    pub unlimited: u64,
}

/// Something of which each gets a part that is then gone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Stock {
    /// How much there is.
    pub total: u64,
    /// How much is left.
    pub left: u64,
}

impl Granted {
    /// Counts one container's limit.
    pub fn grant(&mut self, limit: Option<u64>) {
        match limit {
            Some(limit) => self.granted = self.granted.saturating_add(limit),
            None => self.unlimited += 1,
        }
    }

    /// Returns which part is granted, in thousandths; above 1000 when more than all is.
    #[must_use]
    pub fn permille(&self) -> Option<u64> {
        Some(self.granted.saturating_mul(1000) / self.total.filter(|total| *total > 0)?)
    }
}

impl Stock {
    /// Returns which part is gone, in thousandths.
    #[must_use]
    pub fn permille(&self) -> Option<u64> {
        let gone = u128::from(self.total.saturating_sub(self.left));
        let part = (gone * 1000).checked_div(u128::from(self.total))?;
        u64::try_from(part).ok()
    }
}

impl Capacity {
    /// Returns every resource by its name, and which part of it is gone, in thousandths.
    #[must_use]
    pub fn parts(&self) -> [(&'static str, Option<u64>); 6] {
        [
            ("memory", self.memory.permille()),
            ("cpu", self.cpu.permille()),
            ("pids", self.pids.permille()),
            ("disk", self.disk.as_ref().and_then(Stock::permille)),
            ("id ranges", self.id_ranges.permille()),
            ("addresses", self.addresses.permille()),
        ]
    }

    /// Fills in what follows from the rest.
    #[must_use]
    pub fn concluded(mut self) -> Self {
        self.more_containers = self.id_ranges.left;
        let known = self.parts().into_iter().rev();
        let known = known.filter_map(|(name, part)| Some((part?, name)));
        // Of equals the first.
        let tightest = known.max_by_key(|(part, _)| *part);
        self.tightest = tightest.map(|(_, name)| name.to_owned());
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tightest_is_what_is_gone_for_the_largest_part() {
        let mut capacity = Capacity {
            disk: Some(Stock {
                total: 100,
                left: 60,
            }),
            id_ranges: Stock { total: 10, left: 7 },
            ..Capacity::default()
        };
        capacity.memory.total = Some(1000);
        capacity.memory.grant(Some(300));
        capacity.memory.grant(None);
        let told = capacity.clone().concluded();
        assert_eq!(told.tightest.as_deref(), Some("disk"));
        assert_eq!((told.more_containers, told.memory.unlimited), (7, 1));
        // More may be granted than there is.
        capacity.memory.grant(Some(1700));
        assert_eq!(capacity.memory.permille(), Some(2000));
        assert_eq!(capacity.concluded().tightest.as_deref(), Some("memory"));
        assert_eq!(Capacity::default().concluded().tightest, None);
    }
}
