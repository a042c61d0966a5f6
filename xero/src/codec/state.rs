//! What writing and reading count alike, so that whatever one side writes the other side reads.

use std::{
    cell::{Cell, RefCell},
    fmt::Display,
};

use super::{error::What, fault::Fault, format::Traits};

/// How deep values may be nested (`PROTOCOL.md` §13): each list, tuple, map, struct and variant with fields is a level.
/// `Some` and newtypes are counted apart, up to the same number. More than any data needs; the deepest value of a debug
/// build takes two thirds of a mebibyte of stack, and Tokio's threads have two mebibytes.
pub(crate) const DEPTH_MAX: usize = 128;

/// What a value is nested in.
#[derive(Clone, Copy, Debug)]
pub(super) enum Level {
    /// A list, tuple, map, struct or variant.
    Compound = 0,
    /// `Some` or a newtype, which has nothing but the value.
    Wrapper = 1,
}

/// How many elements of lists and maps may take no bytes at all, in one payload (`PROTOCOL.md` §13). A list of `()` is
/// nothing but its length, so a few bytes could declare 2^60 elements; so many are read within milliseconds.
pub(crate) const EMPTY_ELEMENTS_MAX: usize = 1 << 20;

/// The counts of one payload.
#[derive(Debug)]
pub(super) struct Counts {
    pub(super) traits: Traits,
    /// Of compounds, and of wrappers.
    depths: [Cell<usize>; 2],
    depth_max: usize,
    /// Grows with each piece of a value that takes a byte or more.
    pieces: Cell<u64>,
    empty_elements: Cell<usize>,
    /// A fault on its way through the format's library, whose own error type has no room for it.
    stash: RefCell<Option<Fault>>,
}

impl Counts {
    /// Counts the arguments of a method as one value each: the struct around them is no level of theirs.
    pub(super) fn new(traits: Traits, what: What) -> Self {
        let around = match what {
            What::Arguments => 1,
            What::Value => 0,
        };
        Self {
            traits,
            depth_max: DEPTH_MAX + around,
            depths: Default::default(),
            pieces: Cell::new(0),
            empty_elements: Cell::new(0),
            stash: RefCell::new(None),
        }
    }

    /// Goes one level down.
    pub(super) fn descend(&self, level: Level) -> Result<(), Fault> {
        let depth = &self.depths[level as usize];
        if depth.get() == self.depth_max {
            return Err(Fault::rule(format!("values are nested more than {DEPTH_MAX} deep")));
        }
        depth.set(depth.get() + 1);
        Ok(())
    }

    /// Comes back up.
    pub(super) fn ascend(&self, level: Level) {
        let depth = &self.depths[level as usize];
        depth.set(depth.get() - 1);
    }

    pub(super) fn count_piece(&self) {
        self.pieces.set(self.pieces.get() + 1);
    }

    pub(super) fn pieces(&self) -> u64 {
        self.pieces.get()
    }

    /// Counts an element that began when there were so many pieces. If it takes no bytes, neither does what is left of
    /// its list, so that one look at the declared length is enough.
    pub(super) fn count_element(&self, pieces_before: u64, left: impl FnOnce() -> Option<usize>) -> Result<(), Fault> {
        if self.pieces.get() > pieces_before || self.traits.is_self_describing {
            return Ok(());
        }
        let count = self.empty_elements.get() + 1;
        if count.saturating_add(left().unwrap_or(0)) > EMPTY_ELEMENTS_MAX {
            return Err(Fault::rule(format!("more than {EMPTY_ELEMENTS_MAX} elements of lists take no bytes at all")));
        }
        self.empty_elements.set(count);
        Ok(())
    }

    /// The error of a format's library that stands for the fault until [`Self::recover`].
    pub(super) fn stash<E>(&self, fault: Fault, custom: impl FnOnce(&'static str) -> E) -> E {
        self.stash.replace(Some(fault));
        custom("see the fault that was put aside")
    }

    /// The fault that an error of the format's library stands for.
    pub(super) fn recover(&self, error: impl Display) -> Fault {
        self.stash.take().unwrap_or_else(|| Fault::library((self.traits.explain)(error.to_string())))
    }
}
