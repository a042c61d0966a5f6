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

/// A value of this size on each level can use up the stack before [`Counts::descend`] sees it.
pub(super) const LARGE_BYTES: usize = 1024;

/// How many times its size a large value takes on the stack while it is read, as measured: it passes through many
/// functions, and without optimizations each has room for it.
const COPIES: usize = if cfg!(debug_assertions) { 20 } else { 12 };

/// Stack that a level of a buffered value takes beside the value itself, and how many times its size the value takes there:
/// both as measured.
const BUFFERED_LEVEL_BYTES: usize = if cfg!(debug_assertions) { 5 * 1024 } else { 2 * 1024 };
const BUFFERED_COPIES: usize = if cfg!(debug_assertions) { 20 } else { 8 };

/// How much of the stack a value may take with what is read from a buffer, by estimate. Most types that are read so are not
/// within themselves and need no such limit, so it is as high as Tokio's threads allow.
const BUFFERED_STACK_BYTES_MAX: usize = STACK_BYTES_MAX / 2 * 3;

/// The stack that each level of a buffered value takes, for a type of `size` whose reading took `frame` before it asked for
/// the buffer. The size is a pointer's where the value is in a box; then the frame has to say what is in it: that of an
/// enum with a tag is as large as a value, and one without has room for a value for each variant.
fn buffered_level_bytes(size: usize, frame: usize, is_tagged: impl FnOnce() -> bool) -> usize {
    const SMALL_BYTES: usize = LARGE_BYTES / 4;
    let value = match (size < SMALL_BYTES, frame < SMALL_BYTES) {
        (false, _) => size,
        (true, true) => 0,
        (true, false) if is_tagged() => frame,
        (true, false) => frame.div_ceil(4).min(LARGE_BYTES),
    };
    let copies = if value < SMALL_BYTES { 0 } else { value.saturating_mul(BUFFERED_COPIES) };
    BUFFERED_LEVEL_BYTES.saturating_add(frame).saturating_add(copies)
}

/// About where the stack is.
fn stack_pointer() -> usize {
    let here = 0_u8;
    std::ptr::from_ref(&here).addr()
}

/// Where on the stack a value is written or read.
#[derive(Clone, Copy, Debug)]
struct Stack {
    /// Where it was when the value began.
    first: usize,
    /// Where it was on the level above.
    last: usize,
}

impl Stack {
    fn new() -> Self {
        let here = stack_pointer();
        Self { first: here, last: here }
    }

    /// One level further down, with `large` bytes on the way for large values. Without these no step is that large: a type
    /// whose code goes on elsewhere, as those do that let the stack grow, begins anew there.
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
    /// The same of compounds in a buffer.
    buffered_depth_max: Cell<usize>,
    stack: Cell<Stack>,
    /// Grows with each piece of a value that takes a byte or more.
    pieces: Cell<u64>,
    /// Grows with each part of a value, whether it takes bytes or not.
    parts: Cell<usize>,
    empty_parts: Cell<usize>,
    /// The large values that are being read, by the names of whatever reads them.
    large: RefCell<Vec<&'static str>>,
    /// The stack that these take.
    large_bytes: Cell<usize>,
    /// Where the value began that is read now, and its size.
    begun: Cell<(usize, usize)>,
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
            buffered_depth_max: Cell::new(usize::MAX),
            stack: Cell::new(Stack::new()),
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
        self.stack.set(stack);
        depth.set(depth.get() + 1);
        Ok(Below { level, above })
    }

    /// Comes back up.
    pub(super) fn ascend(&self, below: Below) {
        let depth = &self.depths[below.level as usize];
        depth.set(depth.get() - 1);
        self.stack.set(below.above);
    }

    /// Takes stack for a large value, before it is read. How often large values follow each other is a matter of their
    /// types, and shows at once; but where one is within itself, it is a matter of the bytes.
    pub(super) fn begin_large(&self, reader: &'static str, size: usize) -> Result<Large, Fault> {
        let before = self.large_bytes.get();
        let bytes = before.saturating_add(size.saturating_mul(COPIES));
        let mut large = self.large.borrow_mut();
        if bytes > STACK_BYTES_MAX && large.contains(&reader) {
            return Err(too_large());
        }
        large.push(reader);
        self.large_bytes.set(bytes);
        Ok(Large { bytes_before: before })
    }

    pub(super) fn end_large(&self, large: Large) {
        self.large.borrow_mut().pop();
        self.large_bytes.set(large.bytes_before);
    }

    /// A value begins, of `size` bytes where that is known.
    pub(super) fn begin_value(&self, size: usize) {
        self.begun.set((stack_pointer(), size));
    }

    /// A value goes into a buffer, whole: serde reads it from there by itself, level after level, and nothing counts the
    /// stack. So it goes in only as deep as there is stack for, if its type is within itself: by the size of the type that
    /// has asked for it, and the stack that this has taken so far. `is_tagged` says that it is an enum with a tag. Gives
    /// the limit of before.
    pub(super) fn begin_buffer(&self, is_tagged: impl FnOnce() -> bool) -> usize {
        let (begun, size) = self.begun.get();
        let frame = begun.abs_diff(stack_pointer()).saturating_sub(LARGE_BYTES);
        let frame = if frame > STACK_BYTES_MAX { 0 } else { frame };
        let level = buffered_level_bytes(size, frame, is_tagged);
        let levels = BUFFERED_STACK_BYTES_MAX.saturating_sub(self.stack.get().used()) / level;
        let depth = self.depths[Level::Compound as usize].get();
        let before = self.buffered_depth_max.get();
        self.buffered_depth_max.set(before.min(depth + levels.max(1)));
        before
    }

    pub(super) fn end_buffer(&self, before: usize) {
        self.buffered_depth_max.set(before);
    }

    /// Whether what is written now is a part of the outermost struct, which is that of a method's arguments.
    pub(super) fn is_in_arguments(&self) -> bool {
        self.depth_max > DEPTH_MAX && self.depths[Level::Compound as usize].get() == 1
    }

    /// How many compounds the value is in.
    pub(super) fn depth(&self) -> usize {
        self.depths[Level::Compound as usize].get()
    }

    pub(super) fn count_pieces(&self, count: usize) {
        self.pieces.set(self.pieces.get() + count as u64);
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

    /// Whether something that takes bytes has come since.
    pub(super) fn has_more_than(&self, before: Before) -> bool {
        self.pieces.get() > before.pieces
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

fn too_large() -> Fault {
    Fault::rule("values of this size are nested too deeply for the stack: put the large ones in a `Box`")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn code_that_goes_on_elsewhere_begins_anew() {
        let here = stack_pointer();
        for elsewhere in [here - 64 * STACK_BYTES_MAX, here + 3 * STACK_BYTES_MAX, 1 << 12] {
            let above = Stack { first: elsewhere + STACK_BYTES_MAX / 2, last: elsewhere };
            assert_eq!(above.further(0).used(), 0);
        }
        let above = Stack { first: here + STACK_BYTES_MAX, last: here + STACK_BYTES_MAX / 2 };
        assert!(above.further(0).used() > STACK_BYTES_MAX / 2, "only further down");
    }
}
