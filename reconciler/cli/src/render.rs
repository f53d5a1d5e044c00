//! Answers as text for people. Every function here is pure: moments, colour and time zone are
//! arguments.

pub(crate) mod apply;
pub(crate) mod capacity;
pub(crate) mod describe;
pub(crate) mod doctor;
pub(crate) mod escape;
pub(crate) mod events;
pub(crate) mod history;
pub(crate) mod human;
pub(crate) mod paint;
pub(crate) mod plan;
pub(crate) mod status;
pub(crate) mod table;
pub(crate) mod top;
pub(crate) mod usage;
pub(crate) mod why;

#[cfg(test)]
mod fixture;
#[cfg(test)]
mod golden;

use jiff::tz::TimeZone;

use paint::Paint;

/// What a rendering depends on beside its subject.
#[derive(Clone, Debug)]
pub(crate) struct Look {
    /// Colour or none.
    pub(crate) paint: Paint,
    /// Now, milliseconds since the epoch.
    pub(crate) now_ms: u64,
    /// The reader's time zone.
    pub(crate) zone: TimeZone,
}
