//! The config, read again while the daemon runs.

use std::sync::Arc;

use specs::event::Severity;
use specs::id::{Generation, Key};

use super::{Keeper, event};
use crate::options::Reread;

impl Keeper {
    /// Takes a config that was read again: defaults, pools, policy and the limits of
    /// deletion hold from now on. One that cannot be read changes nothing and is told until
    /// one can.
    pub(super) fn configure(&mut self, read: Result<Reread, String>) {
        let Reread { config, later } = match read {
            Ok(read) => read,
            Err(why) => {
                tracing::error!(err = why, "the config stays as it was");
                let message = format!("{why}; the config stays as it was");
                self.config_error = Some(why);
                let said = ("ConfigRefused", message);
                return self.tell(event(None, Generation(0), Severity::Warning, said));
            }
        };
        self.config_error = None;
        if *self.config == *config {
            return;
        }
        self.config = config;
        self.readers.send_replace(Arc::clone(&self.config));
        let keys: Vec<Key> = self.ledger.entries.keys().cloned().collect();
        for key in &keys {
            if let Err(why) = self.ledger.resolve_again(key, &self.config) {
                tracing::error!(%key, err = why, "its spec cannot be resolved again; it stays as it is");
            }
        }
        // What did not change is no edit to the core.
        self.publish_intents(keys);
        let mut message = "a changed config is in force".to_owned();
        if !later.is_empty() {
            let fields = later.join("`, `");
            message.push_str(&format!("; `{fields}` from the next start on"));
        }
        tracing::info!("{message}");
        let said = ("ConfigRead", message);
        self.tell(event(None, Generation(0), Severity::Normal, said));
    }
}
