use alloc::format;
use alloc::string::String;
use core::fmt;

use specs::id::{Digest, Incarnation, Instance, Key};

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
/// | image of an upper layer | `disk.img` in its directory; its loop device names that file |
/// | volume | `STATE/INSTANCE/volumes/NAME/` |
/// | logs | `LOG/INSTANCE/KEY/PROCESS.log` |
/// | devices | alias `reconciler-INSTANCE/KEY.INCARNATION` of the host's end, and its name |
/// | packet filter | table `inet reconciler-INSTANCE`; in it, comments `KEY.INCARNATION` |
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

/// Letters of a device's name that stand for the instance: 20 bits.
const INSTANCE_LETTERS: usize = 4;
/// Letters of a device's name that stand for the life: 45 bits.
const DEVICE_LETTERS: usize = 9;

/// Returns the first letters of the digest of a text, five bits each.
fn letters(text: &str, count: usize) -> String {
    const ALPHABET: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";
    let digest = Digest::of(text.as_bytes()).0;
    let bits = u128::from_be_bytes(digest);
    let letter = |at: usize| {
        let five = (bits >> (123 - 5 * at)) & 31;
        let found = usize::try_from(five).ok().and_then(|at| ALPHABET.get(at));
        char::from(*found.unwrap_or(&b'a'))
    };
    (0..count).map(letter).collect()
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

    /// Returns the name of the host's end of the life's pair of devices: a digest, since the
    /// kernel takes 15 bytes at most (`IFNAMSIZ`). The alias says in words whose it is.
    #[must_use]
    pub fn device(&self) -> String {
        let prefix = Self::device_prefix(&self.instance);
        let own = letters(&self.alias(), DEVICE_LETTERS);
        format!("{prefix}{own}")
    }

    /// Returns what the names of all host ends of an instance begin with, 6 bytes: a packet
    /// from such a device is refused unless a life has made rules for it.
    #[must_use]
    pub fn device_prefix(instance: &Instance) -> String {
        let own = letters(instance.as_str(), INSTANCE_LETTERS);
        format!("rc{own}")
    }

    /// Returns the alias of the host's end of the life's pair of devices.
    #[must_use]
    pub fn alias(&self) -> String {
        format!("{}/{}", Self::table(&self.instance), self.leaf())
    }

    /// Returns the name of the instance's table in the packet filter.
    #[must_use]
    pub fn table(instance: &Instance) -> String {
        format!("reconciler-{instance}")
    }

    /// Returns the name of the directory that holds everything of an instance in a cgroup
    /// hierarchy.
    #[must_use]
    pub fn cgroup_directory(instance: &Instance) -> String {
        format!("reconciler-{instance}")
    }
}
