//! What limits the writes to a root.

use std::path::Path;

use super::{Check, CheckResult, check};
use crate::disk;
use crate::places::Places;

const NAME: &str = "limits.disk";

/// Looks for what an image needs.
pub(super) fn limit(places: &Places) -> Check {
    let missing = |detail: String, remedy: &str| check(NAME, CheckResult::Missing, detail, remedy);
    let Some(program) = disk::mkfs() else {
        let detail = format!("there is no {}", disk::MKFS[0]);
        return missing(detail, "install it (Debian, Fedora: e2fsprogs)");
    };
    if !Path::new("/dev/loop-control").exists() {
        let remedy = "load the loop module: `modprobe loop`";
        return missing("there is no /dev/loop-control".to_owned(), remedy);
    }
    let place = places.ephemeral.path.display();
    let detail = format!("an ext4 image for each root in {place}, made by {program}");
    check(NAME, CheckResult::Ok, detail, "")
}
