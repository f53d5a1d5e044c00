//! What a watched directory says, over time.
//!
//! A single look proves little: half of a valid spec is often a valid spec that asks for
//! less care. So a text is *taken* when it arrived by rename, or when two looks at least
//! [`SETTLE_MS`] apart saw the same size, times, inode and content. Until then the file
//! *settles*, and whatever was taken from it before still stands. A file that was written and
//! renamed within one tick of the file system's clock bears one time for both: it is looked at
//! once more, [`TICK_MS`] later, since what was written after the rename then bears another.
//!
//! ```text
//!            first seen, or changed                     the same over SETTLE_MS, or renamed in
//!   nothing ───────────────────────▶ settling ──────────────────────────────▶ taken
//!                                      ▲   ▲──────── changed ─────────────────── │
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

pub(crate) mod directory;

use directory::{Identity, Look, LookError, Seen, Stamp, Text};

/// How long a text must stay the same before it is taken, and how far apart two listings
/// must lie that agree on a removal.
pub(crate) const SETTLE_MS: u64 = 500;

/// No file system's clock is coarser: a tick of the slowest kernel takes 10 ms.
pub(crate) const TICK_MS: u64 = 11;

/// One watched directory over time.
#[derive(Debug)]
pub(crate) struct Source {
    path: PathBuf,
    taken: BTreeMap<String, Arc<Text>>,
    settling: BTreeMap<String, (Stamp, u64)>,
}

/// What a look said, after what is known from earlier ones.
#[derive(Clone, Debug)]
pub(crate) struct Listing {
    /// The directory.
    pub(crate) path: PathBuf,
    /// When the look was made, milliseconds since boot.
    pub(crate) at_ms: u64,
    /// Files, or why nothing is known.
    pub(crate) outcome: Result<Listed, String>,
}

/// A directory that could be listed.
#[derive(Clone, Debug)]
pub(crate) struct Listed {
    /// Which directory it was.
    pub(crate) identity: Identity,
    /// Nothing changed while it was listed: what is not here was not there.
    pub(crate) complete: bool,
    /// Every candidate, by its name in the directory.
    pub(crate) files: BTreeMap<String, File>,
    /// Names that are never specs.
    pub(crate) ignored: Vec<String>,
    /// Look again after so long.
    pub(crate) again_ms: Option<u64>,
}

/// One candidate file.
#[derive(Clone, Debug)]
pub(crate) enum File {
    /// Its text may be acted on.
    Taken(Arc<Text>),
    /// Somebody may still be writing it.
    Settling {
        /// What was taken from it before.
        before: Option<Arc<Text>>,
    },
    /// It is there but no spec can be read from it: why.
    Refused(String),
}

impl Source {
    /// Returns a source of which nothing is known yet.
    pub(crate) fn new(path: PathBuf) -> Self {
        Self {
            path,
            taken: BTreeMap::new(),
            settling: BTreeMap::new(),
        }
    }

    /// Returns the directory.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Takes a look into account.
    ///
    /// `renamed` are names that the kernel said arrived by rename and were not written since;
    /// a hint that only counts where the file's own times agree.
    pub(crate) fn take_in(
        &mut self,
        look: Result<Look, LookError>,
        renamed: &BTreeSet<String>,
        at_ms: u64,
    ) -> Listing {
        let outcome = match look {
            Ok(look) => Ok(self.listed(look, renamed, at_ms)),
            Err(err) => Err(format!("{}: {err}", self.path.display())),
        };
        Listing {
            path: self.path.clone(),
            at_ms,
            outcome,
        }
    }

    fn listed(&mut self, look: Look, renamed: &BTreeSet<String>, at_ms: u64) -> Listed {
        let mut files = BTreeMap::new();
        for (name, seen) in look.files {
            let file = match seen {
                Seen::Text(text) => self.settle(&name, text, renamed.contains(&name), at_ms),
                Seen::Refused(why) => {
                    self.settling.remove(&name);
                    File::Refused(why)
                }
            };
            files.insert(name, file);
        }
        if look.complete {
            self.taken.retain(|name, _| files.contains_key(name));
            self.settling.retain(|name, _| files.contains_key(name));
        }
        let is_settling = |name: &String| self.settling.contains_key(name);
        let again_ms = if renamed.iter().any(is_settling) {
            Some(TICK_MS)
        } else {
            (!self.settling.is_empty()).then_some(SETTLE_MS)
        };
        Listed {
            identity: look.identity,
            complete: look.complete,
            files,
            ignored: look.ignored,
            again_ms,
        }
    }

    fn settle(&mut self, name: &str, text: Text, renamed: bool, at_ms: u64) -> File {
        let before = self.taken.get(name).cloned();
        let stamp = text.stamp;
        let known = before.as_ref().filter(|taken| {
            taken.stamp.digest == stamp.digest && taken.owner == text.owner && !text.moving
        });
        if let Some(taken) = known {
            let taken = Arc::clone(taken);
            self.settling.remove(name);
            return File::Taken(taken);
        }
        let since = match self.settling.get(name) {
            Some((seen, since)) if *seen == stamp && !text.moving => *since,
            _ => at_ms,
        };
        let for_ms = at_ms.saturating_sub(since);
        let arrived_whole = renamed && !text.moving && (text.renamed_last || for_ms >= TICK_MS);
        if arrived_whole || for_ms >= SETTLE_MS {
            let text = Arc::new(text);
            self.taken.insert(name.to_owned(), Arc::clone(&text));
            self.settling.remove(name);
            return File::Taken(text);
        }
        self.settling.insert(name.to_owned(), (stamp, since));
        File::Settling { before }
    }
}

#[cfg(test)]
#[path = "source/tests.rs"]
mod tests;
