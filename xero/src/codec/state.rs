//! What writing and reading count alike, so that whatever one side writes the other side reads.

use std::{
    cell::{Cell, RefCell},
    fmt::Display,
};

use super::{error::What, fault::Fault, format::Traits};

/// How deep values may be nested (`PROTOCOL.md` §13): each list, tuple, map, struct and variant with fields is a level.
/// `Some` and newtypes are counted apart, up to the same number. More than any data needs.
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
/// nothing but its length, so a few bytes could declare 2^60 elements; this number is read within milliseconds. An element
/// counts for each of its parts, and for what it takes in memory.
pub(crate) const EMPTY_PARTS_MAX: usize = 1 << 20;

/// Bytes in memory that count for a part: 64 MiB are as many as a payload has by default.
const EMPTY_PART_BYTES: usize = 64;

/// How much of the stack reading or writing may take. A level takes a few kibibytes in a debug build, and more where a type
/// has large fields of its own; Tokio's threads have two mebibytes.
const STACK_BYTES_MAX: usize = 1024 * 1024;

/// More than a stack has on most systems: whoever is this far away is on another one, as the crate `stacker` makes them.
const STACKS_APART: usize = 8 * 1024 * 1024;

/// How far a value has gone on its stack.
#[derive(Debug)]
struct Stack {
    /// Where the value began.
    begin: Cell<usize>,
    /// Where it was seen last.
    last: Cell<usize>,
}

impl Stack {
    fn new(here: usize) -> Self {
        Self { begin: Cell::new(here), last: Cell::new(here) }
    }

    /// Whether the value has used more than it may. On another stack it goes on with what it has used on the last one.
    fn is_used_up(&self, here: usize) -> bool {
        let last = self.last.replace(here);
        if last.abs_diff(here) > STACKS_APART {
            self.begin.set(self.begin.get().wrapping_add(here.wrapping_sub(last)));
        }
        self.begin.get().abs_diff(here) > STACK_BYTES_MAX
    }
}

/// About where the stack is.
fn stack_pointer() -> usize {
    let here = 0_u8;
    std::ptr::from_ref(&here).addr()
}

/// Counts at the beginning of an element.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Before {
    pieces: u64,
    parts: usize,
}

/// The counts of one payload.
#[derive(Debug)]
pub(super) struct Counts {
    pub(super) traits: Traits,
    /// Of compounds, and of wrappers.
    depths: [Cell<usize>; 2],
    depth_max: usize,
    stack: Stack,
    /// Grows with each piece of a value that takes a byte or more.
    pieces: Cell<u64>,
    /// Grows with each part of a value, whether it takes bytes or not.
    parts: Cell<usize>,
    empty_parts: Cell<usize>,
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
            stack: Stack::new(stack_pointer()),
            pieces: Cell::new(0),
            parts: Cell::new(0),
            empty_parts: Cell::new(0),
            stash: RefCell::new(None),
        }
    }

    /// Goes one level down.
    pub(super) fn descend(&self, level: Level) -> Result<(), Fault> {
        let depth = &self.depths[level as usize];
        if depth.get() == self.depth_max {
            return Err(Fault::rule(format!("values are nested more than {DEPTH_MAX} deep")));
        }
        if self.stack.is_used_up(stack_pointer()) {
            return Err(Fault::rule(
                "values of this size are nested too deeply for the stack: put the large ones in a `Box`",
            ));
        }
        depth.set(depth.get() + 1);
        Ok(())
    }

    /// Comes back up.
    pub(super) fn ascend(&self, level: Level) {
        let depth = &self.depths[level as usize];
        depth.set(depth.get() - 1);
    }

    /// Whether what is written now is a part of the outermost struct, which is that of a method's arguments.
    pub(super) fn is_in_arguments(&self) -> bool {
        self.depth_max > DEPTH_MAX && self.depths[Level::Compound as usize].get() == 1
    }

    pub(super) fn count_piece(&self) {
        self.pieces.set(self.pieces.get() + 1);
    }

    /// Counts a text or bytes as what they are to a reader that takes them for a list of numbers.
    pub(super) fn count_bytes(&self, length: usize) {
        self.pieces.set(self.pieces.get() + 1 + length as u64);
    }

    pub(super) fn pieces(&self) -> u64 {
        self.pieces.get()
    }

    /// Sets the number of pieces, whatever was counted meanwhile.
    pub(super) fn set_pieces(&self, pieces: u64) {
        self.pieces.set(pieces);
    }

    pub(super) fn count_part(&self) {
        self.parts.set(self.parts.get().wrapping_add(1));
    }

    /// What has been counted when an element of a list begins.
    pub(super) fn before_element(&self) -> Before {
        Before { pieces: self.pieces.get(), parts: self.parts.get() }
    }

    /// Counts an element of `size` bytes in memory. If it takes no bytes in the payload, neither does the rest of its
    /// list, so that one look at the declared length is enough.
    pub(super) fn count_element(
        &self,
        before: Before,
        size: usize,
        left: impl FnOnce() -> Option<usize>,
    ) -> Result<(), Fault> {
        if self.pieces.get() > before.pieces || self.traits.is_self_describing {
            return Ok(());
        }
        let parts = 1 + self.parts.get().wrapping_sub(before.parts);
        let cost = parts.max(size / EMPTY_PART_BYTES);
        let count = self.empty_parts.get().saturating_add(cost);
        if count.saturating_add(cost.saturating_mul(left().unwrap_or(0))) > EMPTY_PARTS_MAX {
            return Err(Fault::rule(format!("more than {EMPTY_PARTS_MAX} elements of lists take no bytes at all")));
        }
        self.empty_parts.set(count);
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_stack_is_no_depth() {
        const MIB: usize = 1024 * 1024;
        let (here, there) = (64 * MIB, 640 * MIB);
        let stack = Stack::new(here);
        assert!(!stack.is_used_up(here - MIB / 2));
        assert!(!stack.is_used_up(there), "another stack");
        assert!(!stack.is_used_up(there - MIB / 4));
        assert!(stack.is_used_up(there - MIB), "what was used on the first one counts");
        assert!(stack.is_used_up(here - 2 * MIB), "back on it");
        assert!(!stack.is_used_up(here - MIB / 2));
    }
}
