use alloc::string::String;

/// One observed thing.
///
/// *Law: unknown is not absent.* Nothing is created, killed, deleted or released on
/// [`Fact::Unknown`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fact<T> {
    /// It is there, and this is what it is like.
    Known(T),
    /// It was looked for in a listing or lookup that succeeded, and is not there.
    Absent,
    /// It could not be read.
    Unknown(Gap),
}

/// Why something could not be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gap {
    /// What was read, for example `read memory.limit_in_bytes of web.3`.
    pub what: String,
    /// Why it failed, in words.
    pub why: String,
}

impl<T> Fact<T> {
    /// Returns the value if it is known.
    pub fn known(&self) -> Option<&T> {
        match self {
            Self::Known(value) => Some(value),
            Self::Absent | Self::Unknown(_) => None,
        }
    }

    /// Returns whether the thing was looked for and found not to be there.
    pub fn is_absent(&self) -> bool {
        matches!(self, Self::Absent)
    }

    /// Returns why the thing could not be read, if so.
    pub fn gap(&self) -> Option<&Gap> {
        match self {
            Self::Unknown(gap) => Some(gap),
            Self::Known(_) | Self::Absent => None,
        }
    }

    /// Returns the fact with its value replaced.
    pub fn map<U>(self, with: impl FnOnce(T) -> U) -> Fact<U> {
        match self {
            Self::Known(value) => Fact::Known(with(value)),
            Self::Absent => Fact::Absent,
            Self::Unknown(gap) => Fact::Unknown(gap),
        }
    }
}
