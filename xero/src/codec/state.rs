//! Counts that writer and reader keep alike, so that each side reads whatever the other writes.

use std::{
    cell::{Cell, RefCell},
    fmt::Display,
};

use super::{
    error::What,
    fault::{ANOTHER_CODEC, Fault},
    format::Traits,
};

/// The most levels of nesting (`PROTOCOL.md` §13): each list, tuple, map, struct and variant with fields is a level.
/// `Some` and newtypes are counted apart, up to the same number. More than any data needs.
pub(crate) const DEPTH_MAX: usize = 128;

/// What a value is nested in.
#[derive(Clone, Copy, Debug)]
pub(super) enum Level {
    /// A list, tuple, map, struct or variant.
    Compound = 0,
    /// `Some` or a newtype, which contains only the value.
    Wrapper = 1,
}

/// The most elements of lists and maps that take no bytes, in one payload (`PROTOCOL.md` §13). A list of `()` is only
/// its length, so a few bytes could declare 2^60 elements; this many are read within milliseconds. An element counts
/// for each of its parts, and for its size in memory.
pub(crate) const EMPTY_PARTS_MAX: usize = 1 << 20;

/// Bytes in memory that count as a part: together 64 MiB, the default limit of a payload.
const EMPTY_PART_BYTES: usize = 64;

/// The most stack that writing or reading may use. A level takes up to eight kibibytes in a debug build, and more for
/// types with large fields of their own; Tokio's threads have two mebibytes.
const STACK_BYTES_MAX: usize = if cfg!(debug_assertions) { 1280 * 1024 } else { 1024 * 1024 };

/// Values of this size on each level can exhaust the stack before [`Counts::descend`] notices.
pub(super) const LARGE_BYTES: usize = 1024;

/// The stack that reading a large value takes, as a measured multiple of its size: it passes through many functions,
/// and without optimizations each reserves room for it.
const COPIES: usize = if cfg!(debug_assertions) { 20 } else { 12 };

/// The stack that a level of a buffered value takes beside the value, and that the value takes as a multiple of its
/// size; both measured.
const BUFFERED_LEVEL_BYTES: usize = if cfg!(debug_assertions) { 5 * 1024 } else { 2 * 1024 };
const BUFFERED_COPIES: usize = if cfg!(debug_assertions) { 20 } else { 8 };

/// The most stack that large values may take that are no part of a value of their own type, by estimate: as high as
/// Tokio's threads allow. Without optimizations, half of it is taken before it is asked for.
const FLAT_STACK_BYTES_MAX: usize = if cfg!(debug_assertions) { 1200 * 1024 } else { 1536 * 1024 };

/// The most stack that a value may take including its buffered parts, by estimate. Most buffered types are not
/// recursive and need no such limit, so it is as high as Tokio's threads allow.
const BUFFERED_STACK_BYTES_MAX: usize = 1536 * 1024;

/// The stack that each level of a buffered value takes, for a type of `size` whose reading took `frame` before it asked
/// for the buffer. For a boxed value, `size` is a pointer's, so the frame must stand in for it: an enum with a tag has
/// a frame of one value, an enum without has room for a value of each variant.
fn buffered_level_bytes(size: usize, frame: usize, visitor: fn() -> &'static str) -> usize {
    const SMALL_BYTES: usize = LARGE_BYTES / 4;
    let value = match (size < SMALL_BYTES, frame < SMALL_BYTES) {
        (false, _) => size,
        (true, true) => 0,
        (true, false) if visitor().contains("TaggedContentVisitor") => frame,
        (true, false) => frame.div_ceil(4).min(LARGE_BYTES),
    };
    let copies = if value < SMALL_BYTES { 0 } else { value.saturating_mul(BUFFERED_COPIES) };
    BUFFERED_LEVEL_BYTES.saturating_add(frame).saturating_add(copies)
}

/// The approximate stack pointer.
fn stack_pointer() -> usize {
    let here = 0_u8;
    std::ptr::from_ref(&here).addr()
}

/// The place on the stack where a value is written or read.
#[derive(Clone, Copy, Debug)]
struct Stack {
    /// The place where the value began.
    first: usize,
    /// The place on the level above.
    last: usize,
}

impl Stack {
    fn new() -> Self {
        let here = stack_pointer();
        Self { first: here, last: here }
    }

    /// One level further down, with `large` bytes on the way for large values. Without these no step is that large: a
    /// type whose code continues on another stack, as `stacker` does, starts a new count there.
    fn further(self, large: usize) -> Self {
        let here = stack_pointer();
        let is_elsewhere = self.last.abs_diff(here) > STACK_BYTES_MAX.saturating_add(large);
        Self { first: if is_elsewhere { here } else { self.first }, last: here }
    }

    fn used(self) -> usize {
        self.first.abs_diff(self.last)
    }
}

/// A level that has been entered.
#[derive(Clone, Copy, Debug)]
#[must_use = "the level must be left"]
pub(super) struct Below {
    level: Level,
    above: Stack,
}

/// A large value that is being read.
#[derive(Debug)]
#[must_use = "the value must end"]
pub(super) struct Large {
    bytes_before: usize,
}

/// The counts at the beginning of an element.
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
    /// The limit for compounds in a buffer.
    buffered_depth_max: Cell<usize>,
    stack: Cell<Stack>,
    /// The most levels of all kinds so far.
    levels_max: Cell<usize>,
    /// All compounds so far.
    compounds: Cell<u64>,
    /// The most stack that one level has taken.
    level_bytes_max: Cell<usize>,
    /// Grows with each piece of a value that takes bytes.
    pieces: Cell<u64>,
    /// Grows with each part of a value, even if it takes no bytes.
    parts: Cell<usize>,
    empty_parts: Cell<usize>,
    /// The large values that are being read, by their readers' names.
    large: RefCell<Vec<&'static str>>,
    /// Their stack.
    large_bytes: Cell<usize>,
    /// The place where the current value began, and its size.
    begun: Cell<(usize, usize)>,
    /// A fault on its way through the format's library, whose own error type cannot hold it.
    stash: RefCell<Option<Fault>>,
}

impl Counts {
    /// Counts each argument of a method as one value: the struct around them is no level.
    #[inline]
    pub(super) fn new(traits: Traits, what: What) -> Self {
        let around = match what {
            What::Arguments | What::Dynamic => 1,
            What::Value => 0,
        };
        Self {
            traits,
            depth_max: DEPTH_MAX + around,
            depths: Default::default(),
            buffered_depth_max: Cell::new(usize::MAX),
            stack: Cell::new(Stack::new()),
            levels_max: Cell::new(0),
            compounds: Cell::new(0),
            level_bytes_max: Cell::new(0),
            pieces: Cell::new(0),
            parts: Cell::new(0),
            empty_parts: Cell::new(0),
            large: RefCell::default(),
            large_bytes: Cell::new(0),
            begun: Cell::new((stack_pointer(), 0)),
            stash: RefCell::new(None),
        }
    }

    /// Goes one level down.
    pub(super) fn descend(&self, level: Level) -> Result<Below, Fault> {
        let depth = &self.depths[level as usize];
        if depth.get() == self.depth_max {
            return Err(Fault::rule(format!("values are nested more than {DEPTH_MAX} deep")));
        }
        if matches!(level, Level::Compound) && depth.get() >= self.buffered_depth_max.get() {
            return Err(too_large());
        }
        let above = self.stack.get();
        let stack = above.further(self.large_bytes.get());
        if stack.used() > STACK_BYTES_MAX {
            return Err(too_large());
        }
        self.count_level_bytes(above.last.abs_diff(stack.last));
        self.stack.set(stack);
        depth.set(depth.get() + 1);
        self.compounds.set(self.compounds.get() + u64::from(matches!(level, Level::Compound)));
        let [compounds, wrappers] = &self.depths;
        self.levels_max.set(self.levels_max.get().max(compounds.get() + wrappers.get()));
        Ok(Below { level, above })
    }

    fn count_level_bytes(&self, bytes: usize) {
        self.level_bytes_max.set(self.level_bytes_max.get().max(bytes));
    }

    /// The most levels of all kinds that were nested.
    pub(super) fn levels_max(&self) -> usize {
        self.levels_max.get()
    }

    /// All lists, tuples, maps, structs and variants with fields.
    pub(super) fn compounds(&self) -> u64 {
        self.compounds.get()
    }

    /// The most stack that one level has taken.
    pub(super) fn level_bytes_max(&self) -> usize {
        self.level_bytes_max.get()
    }

    /// Whether lists have elements that take no bytes.
    pub(super) fn has_empty_elements(&self) -> bool {
        self.empty_parts.get() > 0
    }

    /// Comes back up.
    pub(super) fn ascend(&self, below: Below) {
        let depth = &self.depths[below.level as usize];
        depth.set(depth.get() - 1);
        self.stack.set(below.above);
    }

    /// Reserves stack for a large value before it is read. A recursive type, whose depth a peer may choose, gets less of
    /// it than values whose size only the program decides.
    pub(super) fn begin_large(&self, reader: &'static str, size: usize) -> Result<Large, Fault> {
        let before = self.large_bytes.get();
        let bytes = before.saturating_add(size.saturating_mul(COPIES));
        let mut large = self.large.borrow_mut();
        if bytes > STACK_BYTES_MAX.min(FLAT_STACK_BYTES_MAX) && large.contains(&reader) {
            return Err(too_large());
        }
        if bytes.max(self.stack.get().used()) > FLAT_STACK_BYTES_MAX {
            return Err(Fault::rule(format!(
                "structs within each other take {} bytes in memory, too many to be read on the stack: keep their arrays and \
                 large fields in a `Vec`",
                bytes / COPIES
            )));
        }
        large.push(reader);
        self.count_level_bytes(size.saturating_mul(COPIES));
        self.large_bytes.set(bytes);
        Ok(Large { bytes_before: before })
    }

    pub(super) fn end_large(&self, large: Large) {
        self.large.borrow_mut().pop();
        self.large_bytes.set(large.bytes_before);
    }

    /// Begins a value of `size` bytes in memory, where known.
    pub(super) fn begin_value(&self, size: usize) {
        self.begun.set((stack_pointer(), size));
    }

    /// Begins a buffer: serde reads the whole value from it by itself, level after level, and nothing counts the stack.
    /// So for a recursive type, the depth of the buffer is limited in advance, by the size of the type that asks for it
    /// and the stack used so far. `visitor` is the name of the visitor's type. Returns the former limit.
    pub(super) fn begin_buffer(&self, visitor: fn() -> &'static str) -> usize {
        let (begun, size) = self.begun.get();
        let frame = begun.abs_diff(stack_pointer()).saturating_sub(LARGE_BYTES);
        let frame = if frame > STACK_BYTES_MAX { 0 } else { frame };
        let level = buffered_level_bytes(size, frame, visitor);
        self.count_level_bytes(level);
        let levels = BUFFERED_STACK_BYTES_MAX.saturating_sub(self.stack.get().used()) / level;
        let depth = self.depths[Level::Compound as usize].get();
        let before = self.buffered_depth_max.get();
        self.buffered_depth_max.set(before.min(depth + levels.max(1)));
        before
    }

    pub(super) fn end_buffer(&self, before: usize) {
        self.buffered_depth_max.set(before);
    }

    /// Whether the current part belongs to the outermost struct, that of a method's arguments.
    pub(super) fn is_in_arguments(&self) -> bool {
        self.depth_max > DEPTH_MAX && self.depths[Level::Compound as usize].get() == 1
    }

    /// The number of compounds around the value.
    #[inline]
    pub(super) fn depth(&self) -> usize {
        self.depths[Level::Compound as usize].get()
    }

    #[inline]
    pub(super) fn count_pieces(&self, count: usize) {
        self.pieces.set(self.pieces.get() + count as u64);
    }

    #[inline]
    pub(super) fn pieces(&self) -> u64 {
        self.pieces.get()
    }

    /// Sets the number of pieces, whatever was counted meanwhile.
    pub(super) fn set_pieces(&self, pieces: u64) {
        self.pieces.set(pieces);
    }

    #[inline]
    pub(super) fn count_part(&self) {
        self.parts.set(self.parts.get().wrapping_add(1));
    }

    /// The counts at the beginning of a list's element.
    #[inline]
    pub(super) fn before_element(&self) -> Before {
        Before { pieces: self.pieces.get(), parts: self.parts.get() }
    }

    /// Whether a piece that takes bytes has followed.
    #[inline]
    pub(super) fn has_more_than(&self, before: Before) -> bool {
        self.pieces.get() > before.pieces
    }

    /// Counts an element of `size` bytes in memory. If it takes no bytes in the payload, the rest of its list takes
    /// none either, so checking the declared length once is enough.
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
            return Err(Fault::rule(format!(
                "more than {EMPTY_PARTS_MAX} elements of lists take no bytes at all: send their number{ANOTHER_CODEC}"
            )));
        }
        self.empty_parts.set(count);
        Ok(())
    }

    /// An error of the format's library that stands for the fault until [`Self::recover`].
    pub(super) fn stash<E>(&self, fault: Fault, custom: impl FnOnce(&'static str) -> E) -> E {
        self.stash.replace(Some(fault));
        custom("see the fault that was put aside")
    }

    /// The fault that an error of the format's library stands for.
    pub(super) fn recover(&self, error: impl Display) -> Fault {
        self.stash.take().unwrap_or_else(|| Fault::library((self.traits.explain)(error.to_string())))
    }
}

fn too_large() -> Fault {
    Fault::rule(
        "values of these types are nested too deeply for the stack that it takes to read them: nest fewer, or keep their large \
         fields in a `Box` or `Vec`",
    )
}

/// Whether reading this many levels may exceed its stack, if a level takes at most `level_bytes`.
pub(super) fn may_be_too_deep(levels: usize, level_bytes: usize) -> bool {
    // Another value may have the largest level more often, and between smaller ones.
    levels.saturating_mul(level_bytes) > STACK_BYTES_MAX / 2
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn code_on_another_stack_starts_a_new_count() {
        let here = stack_pointer();
        for elsewhere in [here - 64 * STACK_BYTES_MAX, here + 3 * STACK_BYTES_MAX, 1 << 12] {
            let above = Stack { first: elsewhere + STACK_BYTES_MAX / 2, last: elsewhere };
            assert_eq!(above.further(0).used(), 0);
        }
        let above = Stack { first: here + STACK_BYTES_MAX, last: here + STACK_BYTES_MAX / 2 };
        assert!(above.further(0).used() > STACK_BYTES_MAX / 2, "only further down");
    }
}
