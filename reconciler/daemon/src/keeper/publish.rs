//! What the keeper tells: intents and the mode to the core, a view to those who ask.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use reconciler_core::io::Mode;
use specs::config::Config;
use specs::desired::Desired;
use specs::event::Severity;
use specs::id::{Generation, Key};

use super::{Keeper, event};
use crate::api::wire::{HeldDeletes, RefusedFile};
use crate::ledger;
use crate::overrides;
use crate::reading::Refusal;
use crate::shell::Message;

/// Intent as people are shown it.
#[derive(Clone, Debug)]
pub(crate) struct View {
    /// By name; those being removed included.
    pub(crate) entries: BTreeMap<Key, EntryView>,
    /// Refused files.
    pub(crate) refused: Vec<RefusedFile>,
    /// What a person should know before anything else.
    pub(crate) notices: Vec<String>,
    /// Why nothing is destroyed, if so.
    pub(crate) safe_mode: Option<String>,
    /// Removals that wait for a person.
    pub(crate) held: Option<HeldDeletes>,
    /// Every source was listed, and nothing is left to settle; or it cannot be listed.
    pub(crate) listed: bool,
    /// Names whose only text was refused: the file, and why.
    pub(crate) invalid: BTreeMap<Key, (String, Refusal)>,
    /// What may be destroyed.
    pub(crate) mode: Mode,
    /// The configuration in force.
    pub(crate) config: Arc<Config>,
}

impl Default for View {
    fn default() -> Self {
        Self {
            entries: BTreeMap::new(),
            refused: Vec::new(),
            notices: Vec::new(),
            safe_mode: None,
            held: None,
            listed: false,
            invalid: BTreeMap::new(),
            mode: NOTHING,
            config: Arc::default(),
        }
    }
}

/// Until anything is known.
pub(crate) const NOTHING: Mode = Mode {
    destroy: false,
    prune: false,
};

/// One key.
#[derive(Clone, Debug)]
pub(crate) struct EntryView {
    /// `FILE:LINE`, or `api`.
    pub(crate) source: String,
    /// The file, if it came from one.
    pub(crate) file: Option<PathBuf>,
    /// Resolved, orders applied.
    pub(crate) desired: Arc<Desired>,
    /// It is being removed.
    pub(crate) deleted: bool,
    /// Why the newest text is not what runs.
    pub(crate) refusal: Option<Refusal>,
    /// A standing order in words.
    pub(crate) order: Option<String>,
    /// What of it the policy grants no more.
    pub(crate) withdrawn: Option<String>,
}

impl Keeper {
    /// Tells the core what changed.
    pub(super) fn publish_intents(&self, keys: Vec<Key>) {
        if keys.is_empty() {
            return;
        }
        let intents = keys.into_iter().map(|key| {
            let intent = self.ledger.intent(&key);
            (key, intent)
        });
        self.send(Message::Intents(intents.collect()));
    }

    /// Tells the core what may be destroyed, if that changed.
    pub(super) fn publish_mode(&mut self) {
        let destroy = self.doubt.is_none();
        let all_whole = self.sources.values().all(|known| known.was_whole);
        let mode = Mode {
            destroy,
            prune: destroy && all_whole && self.ledger.unresolved.is_empty(),
        };
        if self.mode != Some(mode) {
            self.mode = Some(mode);
            self.send(Message::Mode(mode));
        }
    }

    /// Leaves safe mode when everything was compared: each source was listed whole twice with
    /// nothing left to settle, what they say is durable, and every head could be resolved.
    pub(super) fn leave_doubt(&mut self) {
        let Some(why) = self.doubt.clone() else {
            return;
        };
        // What escaped the look may be in no spec too.
        let is_settled = self.lets_go || (self.found_all && self.unclaimed().is_empty());
        if !is_settled
            || !self.is_compared()
            || !self.ledger.unresolved.is_empty()
            || self.store_error.is_some()
        {
            return;
        }
        let confirmed = match self.store.confirm() {
            Ok(committed) => {
                self.commits.send_replace(committed.revision);
                Ok(())
            }
            Err(err) => Err(crate::errors::chain(&err)),
        };
        match confirmed {
            Ok(()) => {
                tracing::info!("every source was compared; leaving safe mode");
                self.doubt = None;
                let message = format!("every source was listed whole; it was: {why}");
                let said = ("SafeModeLeft", message);
                self.tell(event(None, Generation(0), Severity::Normal, said));
            }
            Err(err) => tracing::error!(err, "the store cannot be confirmed"),
        }
    }

    /// Says whether every source was listed whole.
    pub(super) fn is_compared(&self) -> bool {
        let mut sources = self.sources.values();
        sources.all(|known| known.was_whole && known.said.is_ok())
    }

    /// Returns what was on the host at the start and is in no spec. Where the store is in doubt
    /// its spec may have been lost.
    pub(super) fn unclaimed(&self) -> Vec<&Key> {
        let (known, unresolved) = (&self.ledger.entries, &self.ledger.unresolved);
        let found = self.found_generations.keys();
        found
            .filter(|key| !known.contains_key(*key) && !unresolved.contains_key(*key))
            .collect()
    }

    /// Tells once when a source begins or ceases to say something.
    pub(super) fn tell_source(&mut self, source: &Path) {
        let Some(known) = self.sources.get(source) else {
            return;
        };
        let mark = format!("@{}", source.display());
        match &known.said {
            Err(why) if self.told.get(&mark) != Some(why) => {
                tracing::error!(source = %source.display(), err = why, "nothing is deleted");
                self.told.insert(mark, why.clone());
                let message = format!("{why}; what came from it stays as it is");
                let said = ("SourceUnknown", message);
                self.tell(event(None, Generation(0), Severity::Warning, said));
            }
            Ok(_) if self.told.remove(&mark).is_some() => {
                let said = (
                    "SourceBack",
                    format!("{} is listed again", source.display()),
                );
                self.tell(event(None, Generation(0), Severity::Normal, said));
            }
            Ok(_) | Err(_) => {}
        }
    }

    /// Tells once when removals are held back.
    pub(super) fn tell_held(&mut self, source: &Path, held: &[Key]) {
        let mark = format!("@held {}", source.display());
        if held.is_empty() {
            self.told.remove(&mark);
            return;
        }
        let names: Vec<&str> = held.iter().map(Key::as_str).collect();
        let message = format!(
            "{} containers went from {} at once and are kept ({}); if that is meant, say `sync \
             --allow-deletes {}`",
            held.len(),
            source.display(),
            names.join(", "),
            held.len()
        );
        if self.told.get(&mark) != Some(&message) {
            tracing::warn!(source = %source.display(), count = held.len(), "removals held back");
            self.told.insert(mark, message.clone());
            let said = ("DeletesHeld", message);
            self.tell(event(None, Generation(0), Severity::Warning, said));
        }
    }

    /// Shows what stands now.
    pub(super) fn publish_view(&self) {
        let entries = self
            .ledger
            .entries
            .iter()
            .filter(|(_, entry)| !entry.expired);
        let entries = entries.map(|(key, entry)| {
            let view = EntryView {
                source: ledger::place(&entry.head.accepted),
                file: ledger::file(&entry.head.accepted),
                desired: Arc::clone(&entry.desired),
                deleted: entry.head.deleted,
                refusal: entry.refusal.clone(),
                order: self.ledger.orders.get(key).and_then(overrides::note),
                withdrawn: entry.withdrawn.clone(),
            };
            (key.clone(), view)
        });
        let refused = self.refused.iter().map(|(path, refusal)| RefusedFile {
            path: path.clone(),
            diagnostics: refusal.diagnostics.clone(),
            rendered: refusal.rendered.clone(),
        });
        let held = self.held();
        let from: Vec<String> = self
            .sources
            .iter()
            .filter(|(_, known)| !known.held.is_empty())
            .map(|(path, _)| path.display().to_string())
            .collect();
        let view = View {
            invalid: self.invalid(),
            mode: self.mode.unwrap_or(NOTHING),
            config: Arc::clone(&self.config),
            entries: entries.collect(),
            refused: refused.collect(),
            notices: self.notices(),
            safe_mode: self.doubt.clone(),
            held: (!held.is_empty()).then(|| HeldDeletes {
                names: held.iter().map(ToString::to_string).collect(),
                source: from.join(", "),
            }),
            listed: self.sources.values().all(|known| match &known.said {
                // Nothing to settle: a second listing says what is gone, and nobody waits
                // for that.
                Ok(said) => known.was_whole || said.is_settled(),
                // Known to say nothing, as opposed to not asked yet.
                Err(_) => known.is_asked,
            }),
        };
        self.view.send_replace(Arc::new(view));
    }

    fn invalid(&self) -> BTreeMap<Key, (String, Refusal)> {
        let names = self.refused.iter().flat_map(|(path, refusal)| {
            let named = |key: &Key| (key.clone(), (path.clone(), refusal.clone()));
            refusal.names.iter().map(named)
        });
        names
            .filter(|(key, _)| !self.ledger.entries.contains_key(key))
            .collect()
    }

    fn notices(&self) -> Vec<String> {
        let mut notices = Vec::new();
        if let Some(why) = &self.doubt {
            notices.push(format!("safe mode, nothing is destroyed: {why}"));
            if !self.found_all {
                notices.push(
                    "the host could not be listed whole at the start, so that safe mode is not \
                     left; start the daemon again, or say `sync --allow-deletes`"
                        .to_owned(),
                );
            }
            let left: Vec<&str> = self.unclaimed().into_iter().map(Key::as_str).collect();
            if !left.is_empty() {
                let (names, count) = (left.join(", "), left.len());
                notices.push(format!(
                    "on this host without a known spec, left alone: {names}; bring their specs \
                     back, or say `sync --allow-deletes {count}`"
                ));
            }
        }
        if let Some(why) = &self.config_error {
            notices.push(format!(
                "the config is wrong and stays as it was: {why}; correct it and send HUP"
            ));
        }
        if let Some(why) = &self.store_error {
            notices.push(format!(
                "the store cannot be written, nothing new is taken: {why}"
            ));
        }
        for (key, why) in &self.ledger.unresolved {
            notices.push(format!(
                "{key} is left alone, its accepted spec cannot be read: {why}"
            ));
        }
        for (source, known) in &self.sources {
            if let Err(why) = &known.said
                && known.is_asked
            {
                notices.push(format!("{}: {why}; nothing is deleted", source.display()));
            }
        }
        for (mark, message) in &self.told {
            if mark.starts_with("@held ") {
                notices.push(message.clone());
            }
        }
        let stray = self.stray();
        if !stray.is_empty() {
            let names: Vec<&str> = stray.iter().map(Key::as_str).collect();
            notices.push(format!(
                "{} came from a directory that is no source any more and are kept; `sync \
                 --allow-deletes {}` removes them",
                names.join(", "),
                stray.len()
            ));
        }
        notices.extend(self.expired());
        notices.extend(self.sources.iter().filter_map(|(source, known)| {
            let contents = known.said.as_ref().ok()?;
            let names = contents
                .ignored
                .iter()
                .filter(|name| !name.starts_with('.'));
            let names: Vec<&str> = names.map(String::as_str).collect();
            (!names.is_empty())
                .then(|| format!("ignored in {}: {}", source.display(), names.join(", ")))
        }));
        notices
    }

    fn expired(&self) -> Vec<String> {
        let entries = self.ledger.entries.iter();
        let expired = entries.filter(|(_, entry)| entry.expired);
        let words = expired.map(|(key, entry)| {
            let place = ledger::place(&entry.head.accepted);
            format!(
                "{key} was removed because its `ttl` is over; edit {place} to run it again, or \
                 remove it there"
            )
        });
        words.collect()
    }
}
