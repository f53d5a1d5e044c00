//! The end of a world: nothing of it may be left.

use std::fs;
use std::path::PathBuf;

use super::{SOON, World};
use crate::eventually::eventually;

impl World {
    /// Takes every spec away, waits for the cleanup, ends the daemon, and checks that the
    /// host is as it was before this world.
    ///
    /// # Panics
    /// When anything is left.
    pub fn finish(mut self) {
        for entry in fs::read_dir(self.path("specs"))
            .expect("list specs")
            .flatten()
        {
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                fs::remove_dir_all(entry.path()).expect("remove a directory");
            } else {
                fs::remove_file(entry.path()).expect("remove a spec");
            }
        }
        if self.daemon.is_none() {
            self.start();
        }
        eventually("every container to be gone", SOON, || {
            drop(self.cli(&["sync", "--allow-deletes", "1000"]));
            let list = self.json(&["status", "-o", "json"]);
            match list["containers"].as_array() {
                Some(all) if all.is_empty() => Ok(()),
                _ => Err(format!("{list:#}\n{}", self.log_tail())),
            }
        });
        self.stop();
        let before = self.before.clone();
        let mine = self.own_leftovers();
        assert!(mine.is_empty(), "left behind: {mine:?}");
        drop(self);
        before.check_unchanged(SOON);
    }

    fn own_leftovers(&self) -> Vec<PathBuf> {
        let instance = self.path("run").join(&self.instance);
        let ephemeral = self.path("state").join(&self.instance).join("ephemeral");
        [instance, ephemeral]
            .iter()
            .filter_map(|place| fs::read_dir(place).ok())
            .flat_map(|entries| entries.flatten().map(|entry| entry.path()))
            .filter(|path| path.is_dir())
            .collect()
    }
}

impl Drop for World {
    /// Whatever a failed test left: by this instance's marks only.
    fn drop(&mut self) {
        if let Some(mut child) = self.daemon.take() {
            drop(child.kill());
            drop(child.wait());
        }
        self.clear_cgroups();
        for path in self.mounts.drain(..).rev() {
            nix::mount::umount2(&path, nix::mount::MntFlags::MNT_DETACH).ok();
        }
    }
}
