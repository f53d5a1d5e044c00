//! Directories that are listed once and then kept up to date by what the kernel tells of them.
//!
//! Many containers share few directories, and a look at one of them shall not read the names of
//! all others. `inotify(7)` is no hint here but a log: what happened to a directory before a
//! call is in the queue when the call returns. When the queue overflowed, or the directory is
//! another one, it is listed anew.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use driver_api::Mark;
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify, InotifyEvent, WatchDescriptor};
use specs::id::{Incarnation, Instance, Key};

use crate::places::{list_marks, mark_of};

#[cfg(test)]
mod tests;

/// What is told of a directory. Its own end is told without being asked for.
const TOLD: AddWatchFlags = AddWatchFlags::from_bits_retain(
    AddWatchFlags::IN_CREATE.bits()
        | AddWatchFlags::IN_DELETE.bits()
        | AddWatchFlags::IN_MOVE.bits()
        | AddWatchFlags::IN_MOVE_SELF.bits()
        | AddWatchFlags::IN_ONLYDIR.bits(),
);

/// The directories of one instance.
#[derive(Debug)]
pub(crate) struct Listings {
    instance: Instance,
    kept: Mutex<Kept>,
}

#[derive(Debug, Default)]
struct Kept {
    /// None if the kernel gives none: then each look lists.
    told: Option<Inotify>,
    directories: BTreeMap<PathBuf, Directory>,
}

#[derive(Debug)]
struct Directory {
    watch: WatchDescriptor,
    identity: (u64, u64),
    marks: BTreeMap<Key, BTreeSet<Incarnation>>,
}

impl Listings {
    /// Returns listings of nothing yet.
    pub(crate) fn new(instance: &Instance) -> Self {
        let flags = InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK;
        let told = Inotify::init(flags).ok();
        Self {
            instance: instance.clone(),
            kept: Mutex::new(Kept {
                told,
                directories: BTreeMap::new(),
            }),
        }
    }

    /// Returns the lives of one container, or of all, that have an entry in a directory.
    ///
    /// # Errors
    /// When there is no such directory, or its listing stopped half way.
    pub(crate) fn marks(&self, path: &Path, key: Option<&Key>) -> io::Result<Vec<Mark>> {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let meta = std::fs::metadata(path)?;
        let identity = (meta.dev(), meta.ino());
        kept.catch_up(&self.instance);
        let is_kept = kept.directories.get(path).map(|found| found.identity) == Some(identity);
        if !is_kept && !kept.list(path, identity, &self.instance)? {
            let all = list_marks(path, &self.instance)?.marks.into_iter();
            return Ok(all
                .filter(|mark| key.is_none_or(|key| mark.key == *key))
                .collect());
        }
        let directory = kept.directories.get(path);
        let marks = directory.into_iter().flat_map(|found| &found.marks);
        let wanted = marks.filter(|(of, _)| key.is_none_or(|key| *of == key));
        let mark = |(key, incarnation): (&Key, &Incarnation)| Mark {
            instance: self.instance.clone(),
            key: key.clone(),
            incarnation: *incarnation,
        };
        Ok(wanted
            .flat_map(|(key, lives)| lives.iter().map(move |life| mark((key, life))))
            .collect())
    }
}

impl Kept {
    /// Takes in what was told since the last look.
    fn catch_up(&mut self, instance: &Instance) {
        loop {
            let Some(told) = &self.told else {
                return;
            };
            match told.read_events() {
                Ok(events) => {
                    for event in events {
                        self.take(&event, instance);
                    }
                }
                Err(nix::errno::Errno::EAGAIN) => return,
                Err(nix::errno::Errno::EINTR) => {}
                // Nothing that was learned from it holds any more.
                Err(_) => {
                    self.told = None;
                    self.directories.clear();
                }
            }
        }
    }

    fn take(&mut self, event: &InotifyEvent, instance: &Instance) {
        if event.mask.contains(AddWatchFlags::IN_Q_OVERFLOW) {
            self.forget(|_| true);
            return;
        }
        let ends = AddWatchFlags::IN_IGNORED
            | AddWatchFlags::IN_UNMOUNT
            | AddWatchFlags::IN_MOVE_SELF
            | AddWatchFlags::IN_DELETE_SELF;
        if event.mask.intersects(ends) {
            self.forget(|directory| directory.watch == event.wd);
            return;
        }
        let came = AddWatchFlags::IN_CREATE | AddWatchFlags::IN_MOVED_TO;
        let name = event.name.as_deref().unwrap_or(OsStr::new(""));
        let Some(mark) = mark_of(name, instance) else {
            return;
        };
        let mut all = self.directories.values_mut();
        let Some(directory) = all.find(|directory| directory.watch == event.wd) else {
            return;
        };
        let lives = directory.marks.entry(mark.key.clone()).or_default();
        if event.mask.intersects(came) {
            lives.insert(mark.incarnation);
        } else {
            lives.remove(&mark.incarnation);
        }
        if lives.is_empty() {
            directory.marks.remove(&mark.key);
        }
    }

    fn forget(&mut self, of: impl Fn(&Directory) -> bool) {
        if let Some(told) = &self.told {
            for directory in self.directories.values().filter(|found| of(found)) {
                // Gone with its directory, if that is gone.
                let _gone = told.rm_watch(directory.watch);
            }
        }
        self.directories.retain(|_, directory| !of(directory));
    }

    /// Lists a directory that is told of from before on. Returns false if that cannot be had.
    fn list(&mut self, path: &Path, identity: (u64, u64), instance: &Instance) -> io::Result<bool> {
        if let Some(before) = self.directories.get(path).map(|found| found.watch) {
            self.forget(|directory| directory.watch == before);
        }
        let Some(told) = &self.told else {
            return Ok(false);
        };
        let Ok(watch) = told.add_watch(path, TOLD) else {
            return Ok(false);
        };
        // A path may have become another directory's in between; one directory has one watch.
        let meta = std::fs::metadata(path)?;
        let is_shared = self.directories.values().any(|found| found.watch == watch);
        if is_shared || (meta.dev(), meta.ino()) != identity {
            if !is_shared {
                let _gone = told.rm_watch(watch);
            }
            return Ok(false);
        }
        let mut marks: BTreeMap<Key, BTreeSet<Incarnation>> = BTreeMap::new();
        for mark in list_marks(path, instance)?.marks {
            marks.entry(mark.key).or_default().insert(mark.incarnation);
        }
        let directory = Directory {
            watch,
            identity,
            marks,
        };
        self.directories.insert(path.to_owned(), directory);
        Ok(true)
    }
}
