//! The shapes of values, which decide how their parts are named and counted.

use crate::codec::{
    arguments,
    fault::{Fault, Step},
    notes::Kind,
    steps::Pair,
};

/// The shape of a compound, which decides how its parts are named.
#[derive(Clone, Copy)]
pub(super) enum Shape {
    /// A number of parts that the type fixes or the format declares.
    Parts(usize),
    /// The name of a field or variant.
    Key,
    /// A variant's name or number.
    Variant,
    /// A text or bytes for a reader that takes ownership.
    Owned,
    /// As many elements as follow.
    List,
    Map,
    Struct {
        fields: &'static [&'static str],
        /// What it is in the writer's notes.
        pair: Option<Pair>,
        /// Whether the reader uses exactly these fields, in this order.
        is_derived: bool,
    },
    Enum(Enum),
    Arguments {
        names: &'static [&'static str],
    },
}

/// What an enum's reader declares.
#[derive(Clone, Copy, Default)]
pub(super) struct Enum {
    pub(super) name: &'static str,
    pub(super) variants: &'static [&'static str],
    /// Whether the reader certainly uses exactly these names.
    pub(super) is_derived: bool,
}

impl Shape {
    /// The piece that declares the number of its parts, if there is one.
    #[inline]
    pub(super) fn length(self) -> Option<Kind> {
        if let Self::List = self { Some(Kind::Length) } else { None }
    }

    /// Names a missing argument in the fault.
    #[inline]
    pub(super) fn explain(self, fault: Fault) -> Fault {
        if let Self::Arguments { names } = self { arguments::name_missing(fault, names) } else { fault }
    }

    pub(super) fn step(self, index: usize) -> Step {
        match self {
            Self::Struct { fields: names, .. } | Self::Arguments { names } => {
                names.get(index).map_or(Step::Index(index), |name| Step::Field(name))
            }
            Self::Parts(_) | Self::Key | Self::Variant | Self::Owned | Self::List | Self::Map | Self::Enum(_) => {
                Step::Index(index)
            }
        }
    }
}
