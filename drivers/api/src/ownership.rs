use alloc::format;
use alloc::string::String;
use core::fmt;

use specs::id::{Incarnation, Instance, Key};

/// Proof on the host that a thing is ours, readable without the store.
///
/// Text form `KEY.INCARNATION`, below a place that carries the instance:
///
/// | object | where the mark stands |
/// | --- | --- |
/// | cgroup | `PARENT/reconciler-INSTANCE/KEY.INCARNATION` |
/// | runtime directory, bundle, sockets | `RUNTIME/INSTANCE/KEY.INCARNATION/` |
/// | shim process | its command line: `reconciler-shim INSTANCE KEY.INCARNATION` |
/// | ephemeral upper layer | `STATE/INSTANCE/ephemeral/KEY.INCARNATION/` |
/// | persistent upper layer | `STATE/INSTANCE/persistent/KEY/` |
/// | volume | `STATE/INSTANCE/volumes/NAME/` |
/// | logs | `LOG/INSTANCE/KEY/PROCESS.log` |
///
/// A label has no dot, so the text splits in one way only.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Mark {
    /// Whose.
    pub instance: Instance,
    /// Which container.
    pub key: Key,
    /// Which of its lives.
    pub incarnation: Incarnation,
}

/// A name that is no mark of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MarkError;

impl fmt::Display for MarkError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a mark reads NAME.NUMBER")
    }
}

impl core::error::Error for MarkError {}

impl Mark {
    /// Returns the last component of the paths in the table above.
    #[must_use]
    pub fn leaf(&self) -> String {
        format!("{}.{}", self.key, self.incarnation)
    }

    /// Returns the mark that a name below a place of `instance` spells.
    ///
    /// # Errors
    /// When the name is not of the form that [`Mark::leaf`] gives, digit for digit.
    pub fn from_leaf(instance: &Instance, leaf: &str) -> Result<Self, MarkError> {
        let (key, number) = leaf.split_once('.').ok_or(MarkError)?;
        let mark = Self {
            instance: instance.clone(),
            key: Key::new(key).map_err(|_| MarkError)?,
            incarnation: Incarnation(number.parse().map_err(|_| MarkError)?),
        };
        if mark.leaf() == leaf {
            Ok(mark)
        } else {
            Err(MarkError)
        }
    }

    /// Returns the name of the directory that holds everything of an instance in a cgroup
    /// hierarchy.
    #[must_use]
    pub fn cgroup_directory(instance: &Instance) -> String {
        format!("reconciler-{instance}")
    }
}
