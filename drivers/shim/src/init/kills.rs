//! Kills for memory: which of them ended a process.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{Mode, OFlags};
use shim_proto::launch::CgroupDirectory;

/// A process killed for memory is dead within this; a kill that no end accounted for by then
/// was of something else.
const CLAIM_MS: u64 = 5_000;
/// Most bytes of a counter's file that are looked at.
const TEXT_BYTES: usize = 1024;

/// The kernel's counter of kills for memory in the container, and what of it fits no end yet.
#[derive(Debug, Default)]
pub(crate) struct Kills {
    file: Option<OwnedFd>,
    count: Option<u64>,
    unclaimed: u64,
    since_ms: u64,
}

impl Kills {
    /// Opens the counter of the cgroup with the memory controller, if there is one; without it
    /// no end is blamed on memory.
    pub(crate) fn open(cgroups: &[CgroupDirectory]) -> Self {
        let open = |directory: &CgroupDirectory| {
            let name = if directory.unified {
                "memory.events"
            } else {
                "memory.oom_control"
            };
            let path = format!("{}/{name}", directory.path);
            rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).ok()
        };
        let mut kills = Self {
            file: cgroups.iter().find_map(open),
            ..Self::default()
        };
        kills.count = kills.read();
        kills
    }

    /// Returns the counter as last read.
    pub(crate) fn count(&self) -> Option<u64> {
        self.count
    }

    /// Returns the open file.
    pub(crate) fn file(&self) -> Option<BorrowedFd<'_>> {
        self.file.as_ref().map(|file| file.as_fd())
    }

    /// Reads the counter.
    pub(crate) fn look(&mut self, now_ms: u64) {
        let count = self.read();
        self.note(count, now_ms);
    }

    /// Takes one kill for an end; false if there is none left.
    pub(crate) fn claim(&mut self) -> bool {
        let is_there = self.unclaimed > 0;
        self.unclaimed = self.unclaimed.saturating_sub(1);
        is_there
    }

    fn note(&mut self, count: Option<u64>, now_ms: u64) {
        if now_ms.saturating_sub(self.since_ms) > CLAIM_MS {
            self.unclaimed = 0;
        }
        let grown = count
            .zip(self.count)
            .map(|(now, before)| now.saturating_sub(before));
        if let Some(grown @ 1..) = grown {
            self.unclaimed += grown;
            self.since_ms = now_ms;
        }
        self.count = count;
    }

    fn read(&self) -> Option<u64> {
        let mut bytes = [0; TEXT_BYTES];
        // At offset 0 the kernel makes the text anew. A group that was removed is an error.
        let count = rustix::io::pread(self.file.as_ref()?, &mut bytes, 0).ok()?;
        parse(std::str::from_utf8(bytes.get(..count)?).ok()?)
    }
}

fn parse(text: &str) -> Option<u64> {
    let value = text
        .lines()
        .find_map(|line| line.strip_prefix("oom_kill "))?;
    value.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kills() -> Kills {
        Kills {
            count: Some(0),
            ..Kills::default()
        }
    }

    #[test]
    fn both_versions_of_the_counter_are_read() {
        assert_eq!(
            parse("low 0\noom 3\noom_kill 2\noom_group_kill 1\n"),
            Some(2)
        );
        assert_eq!(
            parse("oom_kill_disable 0\nunder_oom 0\noom_kill 7\n"),
            Some(7)
        );
        assert_eq!(parse("oom_kill_disable 1\n"), None);
    }

    #[test]
    fn a_kill_is_claimed_once() {
        let mut kills = kills();
        kills.note(Some(2), 10);
        assert!(kills.claim() && kills.claim() && !kills.claim());
        kills.note(Some(2), 20);
        assert!(!kills.claim());
    }

    #[test]
    fn an_old_kill_is_nobodys() {
        let mut kills = kills();
        kills.note(Some(1), 10);
        kills.note(Some(1), 11 + CLAIM_MS);
        assert!(!kills.claim());
    }

    #[test]
    fn a_counter_that_could_not_be_read_blames_nobody() {
        let mut kills = kills();
        kills.note(None, 10);
        kills.note(Some(5), 11);
        assert!(!kills.claim(), "what happened meanwhile cannot be told");
        kills.note(Some(6), 12);
        assert!(kills.claim());
    }
}
