//! Whether the directories have room.

use std::path::Path;

use rustix::fs::statvfs;
use specs::units::Bytes;

use super::{Check, CheckResult, check};
use crate::error::words;
use crate::places::Places;

/// Below this it is worth a word: the store begins nothing new below 16 MiB.
const LITTLE_BYTES: u64 = 64 << 20;
/// Below this nothing of any size fits.
const NONE_BYTES: u64 = 1 << 20;

/// Looks at the room for state, runtime and logs (`statvfs(3)`).
pub(super) fn rooms(places: &Places) -> [Check; 3] {
    [
        room(
            &places.ephemeral.path,
            "make room: without it no edit is accepted and no container made",
        ),
        room(
            &places.runtime.path,
            "make room: without it no container can be made",
        ),
        room(
            &places.logs,
            "make room: without it processes wait to be heard, or lose output if they chose to",
        ),
    ]
}

fn room(path: &Path, remedy: &str) -> Check {
    let name = format!("room in {}", path.display());
    // A directory that is made when it is needed has the room that is above it.
    let there = path.ancestors().find(|place| place.exists());
    let found = match statvfs(there.unwrap_or(path)) {
        Ok(found) => found,
        Err(errno) => return check(name, CheckResult::Fallback, words(&errno), remedy),
    };
    let bytes = found.f_bavail.saturating_mul(found.f_frsize);
    // Some file systems count no inodes.
    let no_inodes = found.f_files > 0 && found.f_favail == 0;
    let result = match bytes {
        _ if no_inodes => CheckResult::Missing,
        ..NONE_BYTES => CheckResult::Missing,
        NONE_BYTES..LITTLE_BYTES => CheckResult::Fallback,
        LITTLE_BYTES.. => CheckResult::Ok,
    };
    let detail = if no_inodes {
        "no inode is free".to_owned()
    } else {
        format!("{} free", Bytes(bytes / 4096 * 4096))
    };
    check(name, result, detail, remedy)
}
