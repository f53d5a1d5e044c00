//! Every field there is: its shape, its default, and what a change of it costs.
//!
//! The walk over a document, `explain` and the tests that hold schema and parser together
//! all read these tables. What a field means is said once, on the types in [`crate::spec`].

mod config;
mod elsewhere;
mod spec;
mod types;

use crate::change::Class;
use crate::parse::faults::Fault;
use crate::parse::tree::Scalar;

pub(crate) use config::CONFIG;
pub(crate) use elsewhere::{foreign, later, later_value};
pub(crate) use spec::SPEC;
pub(crate) use types::is_below;

/// One field of a mapping.
#[derive(Debug)]
pub(crate) struct Field {
    pub(crate) name: &'static str,
    pub(crate) shape: Shape,
    pub(crate) needed: bool,
    /// What holds when it is left out, in words.
    pub(crate) default: &'static str,
    pub(crate) class: Option<Class>,
}

/// What a field holds.
#[derive(Debug)]
pub(crate) enum Shape {
    /// A mapping of known fields.
    Object(&'static [Field]),
    /// A list of such mappings, with its greatest length.
    Objects(&'static [Field], usize),
    /// One value.
    One(Type),
    /// A list of values, with its greatest length.
    List(Type, usize),
    /// A mapping of free keys to values.
    Map(Type, Type),
}

/// What a single value may be.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Type {
    /// One of these words.
    Words(&'static [&'static str]),
    /// A whole number in this range.
    Integer(u64, u64),
    /// `true` or `false`.
    Boolean,
    /// Anything that the function takes; with a name for people.
    Read(&'static str, fn(&Scalar<'_>) -> Result<(), Fault>),
}

impl Field {
    pub(crate) const fn new(name: &'static str, shape: Shape) -> Self {
        Self {
            name,
            shape,
            needed: false,
            default: "",
            class: None,
        }
    }

    const fn needed(mut self) -> Self {
        self.needed = true;
        self
    }

    const fn default(mut self, default: &'static str) -> Self {
        self.default = default;
        self
    }

    const fn live(mut self) -> Self {
        self.class = Some(Class::Live);
        self
    }

    const fn process(mut self) -> Self {
        self.class = Some(Class::Process);
        self
    }

    const fn recreate(mut self) -> Self {
        self.class = Some(Class::Recreate);
        self
    }
}
