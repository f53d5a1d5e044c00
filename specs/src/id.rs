//! Identities: newtypes, never bare strings or integers.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Longest DNS label, in bytes (RFC 1123).
pub const LABEL_BYTES_MAX: usize = 63;

/// A text that is no DNS label.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LabelError {
    /// Nothing was given.
    #[error("a name may not be empty")]
    Empty,
    /// Longer than [`LABEL_BYTES_MAX`].
    #[error("a name has at most {LABEL_BYTES_MAX} characters, this one has {0}")]
    TooLong(usize),
    /// A character that is not `a-z`, `0-9` or `-`.
    #[error("a name has lower-case letters, digits and `-` only, not {0:?}")]
    Character(char),
    /// A `-` at either end.
    #[error("a name may not begin or end with `-`")]
    Edge,
}

fn check_label(text: &str) -> Result<(), LabelError> {
    if text.is_empty() {
        return Err(LabelError::Empty);
    }
    if let Some(bad) = text
        .chars()
        .find(|c| !(c.is_ascii_lowercase() || c.is_ascii_digit() || *c == '-'))
    {
        return Err(LabelError::Character(bad));
    }
    if text.len() > LABEL_BYTES_MAX {
        return Err(LabelError::TooLong(text.len()));
    }
    if text.starts_with('-') || text.ends_with('-') {
        return Err(LabelError::Edge);
    }
    Ok(())
}

macro_rules! label {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// Returns the text as a checked label.
            ///
            /// # Errors
            /// When the text is empty, too long, or holds a character a DNS label may not.
            pub fn new(text: impl Into<String>) -> Result<Self, LabelError> {
                let text = text.into();
                check_label(&text)?;
                Ok(Self(text))
            }

            /// Returns the label's text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }

        impl TryFrom<String> for $name {
            type Error = LabelError;
            fn try_from(text: String) -> Result<Self, LabelError> {
                Self::new(text)
            }
        }

        impl std::str::FromStr for $name {
            type Err = LabelError;
            fn from_str(text: &str) -> Result<Self, LabelError> {
                Self::new(text)
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> String {
                name.0
            }
        }
    };
}

label! {
    /// Identity of a managed thing: the container's `metadata.name`, unique over all sources.
    Key
}
label! {
    /// Name of one process inside a container.
    ProcessName
}
label! {
    /// Name of a volume that outlives containers.
    VolumeName
}
label! {
    /// Name of one daemon on a host; part of every mark, so several can live side by side.
    Instance
}

macro_rules! counter {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(
            Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
        )]
        #[serde(transparent)]
        pub struct $name(pub u64);

        impl $name {
            /// Returns the value that follows.
            #[must_use]
            pub fn next(self) -> Self {
                Self(self.0.saturating_add(1))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

counter! {
    /// Version of one key's intent; 1 is the first accepted spec, 0 means "none yet".
    Generation
}
counter! {
    /// One life of one container on the host; never reused by an instance.
    Incarnation
}

/// First 16 bytes of a BLAKE3 hash over a normalised form; printed as 32 hex digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Digest(pub [u8; 16]);

impl Digest {
    /// Returns the digest of the bytes.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        let hash = blake3::hash(bytes);
        let mut out = [0; 16];
        out.copy_from_slice(&hash.as_bytes()[..16]);
        Self(out)
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Digest({self})")
    }
}

impl From<Digest> for String {
    fn from(digest: Digest) -> String {
        digest.to_string()
    }
}

/// A text that is not 32 hex digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a digest is 32 hex digits")]
pub struct DigestTextError;

impl std::str::FromStr for Digest {
    type Err = DigestTextError;
    fn from_str(text: &str) -> Result<Self, DigestTextError> {
        if text.len() != 32 || !text.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(DigestTextError);
        }
        let mut out = [0; 16];
        for (at, byte) in out.iter_mut().enumerate() {
            let pair = text.get(at * 2..at * 2 + 2).ok_or(DigestTextError)?;
            *byte = u8::from_str_radix(pair, 16).map_err(|_| DigestTextError)?;
        }
        Ok(Self(out))
    }
}

impl TryFrom<String> for Digest {
    type Error = DigestTextError;
    fn try_from(text: String) -> Result<Self, DigestTextError> {
        text.parse()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_dns_labels_are_names() {
        for good in ["a", "web-1", "0", &"x".repeat(63)] {
            assert!(Key::new(good).is_ok(), "{good}");
        }
        for bad in [
            "",
            "-a",
            "a-",
            "A",
            "a.b",
            "a/b",
            "é",
            "a b",
            &"x".repeat(64),
        ] {
            assert!(Key::new(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_digest_survives_its_own_text() {
        let digest = Digest::of(b"web");
        assert_eq!(digest.to_string().parse(), Ok(digest));
        assert_eq!("zz".parse::<Digest>(), Err(DigestTextError));
    }
}
