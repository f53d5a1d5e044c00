//! Cgroups made for one test.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use shim_proto::launch::CgroupDirectory;

use crate::support::text;

static COUNT: AtomicU32 = AtomicU32::new(0);

/// Empty cgroups with a name of their own, removed when dropped.
pub(crate) struct OwnCgroups {
    /// Path on the host, of version 2, prefix inside.
    made: Vec<(PathBuf, bool, String)>,
}

impl OwnCgroups {
    pub(crate) fn make() -> OwnCgroups {
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("reconciler-root-test-{}-{count}", std::process::id());
        let top = Path::new("/sys/fs/cgroup");
        let mut places = Vec::new();
        if top.join("cgroup.controllers").exists() {
            places.push((top.join(&name), true, String::new()));
        } else {
            for (hierarchy, unified) in [("unified", true), ("pids", false), ("memory", false)] {
                if top.join(hierarchy).is_dir() {
                    let path = top.join(hierarchy).join(&name);
                    places.push((path, unified, format!("{hierarchy}/")));
                }
            }
        }
        for (path, ..) in &places {
            fs::create_dir(path).unwrap();
        }
        OwnCgroups { made: places }
    }

    pub(crate) fn directories(&self) -> Vec<CgroupDirectory> {
        let directory = |(path, unified, _): &(PathBuf, bool, String)| CgroupDirectory {
            path: text(path),
            unified: *unified,
        };
        self.made.iter().map(directory).collect()
    }

    pub(crate) fn names_inside(&self) -> Vec<String> {
        self.made.iter().map(|(.., name)| name.clone()).collect()
    }
}

impl Drop for OwnCgroups {
    fn drop(&mut self) {
        for (path, ..) in &self.made {
            fs::remove_dir(path).unwrap();
        }
    }
}
