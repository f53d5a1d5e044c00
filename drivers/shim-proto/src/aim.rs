//! What an order is meant for, and which of them end something.

use alloc::string::String;

use crate::message::Ask;

/// What an order that ends something says once more: which life it is for, and what it is.
/// Another message that is damaged in one place can then never become one.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Aim {
    /// Name of the container.
    #[prost(string, tag = "1")]
    pub key: String,
    /// Which of its lives.
    #[prost(uint64, tag = "2")]
    pub incarnation: u64,
    /// What is ordered.
    #[prost(enumeration = "Act", tag = "3")]
    pub act: i32,
}

/// Orders that end something.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, prost::Enumeration)]
#[repr(i32)]
pub enum Act {
    /// None.
    None = 0,
    /// [`Ask::Stop`].
    Stop = 1,
    /// [`Ask::Signal`]: it may be `KILL`.
    Signal = 2,
    /// [`Ask::Forget`]: an exit that nobody can ask for any more.
    Forget = 3,
    /// [`Ask::End`].
    End = 4,
}

impl Ask {
    /// Returns which order that ends something this is.
    #[must_use]
    pub fn act(&self) -> Act {
        match self {
            Self::Stop(_) => Act::Stop,
            Self::Signal(_) => Act::Signal,
            Self::Forget(_) => Act::Forget,
            Self::End(_) => Act::End,
            Self::Hello(_)
            | Self::Report(_)
            | Self::Start(_)
            | Self::WriteFile(_)
            | Self::Mount(_)
            | Self::Exec(_)
            | Self::Copy(_)
            | Self::Attach(_) => Act::None,
        }
    }
}
