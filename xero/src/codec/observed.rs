//! What shows of a value while it is written: which shapes it has, so that a new one can be told from those that were
//! seen before, and the names that stand for what is written.

use std::cell::{Cell, RefCell};

/// The shapes of one value: at which places there was a `Some`, an element, or which variant. Everything else about it
/// follows from its type.
#[derive(Debug, Default)]
pub(super) struct Shapes {
    /// What is written now.
    place: Cell<Place>,
    /// The last one seen; in a list it is mostly the same again.
    last: Cell<u64>,
    seen: RefCell<Vec<u64>>,
}

/// A part of something, whose own place is a hash of the way to it. It is hashed where there is something to see, and most
/// parts are plain numbers.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Place {
    whole: u64,
    part: usize,
}

impl Place {
    fn hash(self) -> u64 {
        mix(self.whole, self.part as u64)
    }
}

/// Shapes that are kept of a value. A recursive type has more without end, and after so many there is nothing new.
const SHAPES_MAX: usize = 64;

impl Shapes {
    /// Goes into one of several variants of what is written now. Gives the place to come back to, and what the new parts
    /// are parts of.
    pub(super) fn enter(&self, variant: u32) -> (Place, u64) {
        let outer = self.place.get();
        let whole = outer.hash() ^ u64::from(variant);
        self.go_to_part(whole, 0);
        (outer, whole)
    }

    /// Goes to another part of the same thing.
    pub(super) fn go_to_part(&self, whole: u64, part: usize) {
        self.place.set(Place { whole, part });
    }

    /// Comes back.
    pub(super) fn leave(&self, outer: Place) {
        self.place.set(outer);
    }

    /// Notes which of several forms the value has here.
    pub(super) fn see(&self, form: u64) {
        let shape = mix(self.place.get().hash(), !form);
        if self.last.replace(shape) == shape {
            return;
        }
        let mut seen = self.seen.borrow_mut();
        if seen.len() < SHAPES_MAX && !seen.contains(&shape) {
            seen.push(shape);
        }
    }

    pub(super) fn into_seen(self) -> Vec<u64> {
        self.seen.into_inner()
    }
}

/// Two rounds of a multiplication that spreads its input over all bits (the constant is that of FxHash).
fn mix(hash: u64, with: u64) -> u64 {
    const SPREAD: u64 = 0x517c_c1b7_2722_0a95;
    (hash.rotate_left(5) ^ with).wrapping_mul(SPREAD).rotate_left(23).wrapping_mul(SPREAD)
}

/// The names of variants and fields, in the order in which they are written.
#[derive(Clone, Debug, Default)]
pub(super) struct Marks(Vec<Mark>);

/// One name, or one struct's.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Mark {
    Variant { name: &'static str, variant: &'static str },
    Struct { name: &'static str, fields: Vec<&'static str> },
}

/// Marks that are kept of a value: enough that each of its shapes is among them, and few beside a large value.
const MARKS_MAX: usize = 4096;

impl Marks {
    pub(super) fn push_variant(&mut self, name: &'static str, variant: &'static str) {
        if self.0.len() < MARKS_MAX {
            self.0.push(Mark::Variant { name, variant });
        }
    }

    /// Gives the place where the struct's fields go.
    pub(super) fn push_struct(&mut self, name: &'static str) -> Option<usize> {
        let mark = self.0.len();
        (mark < MARKS_MAX).then(|| self.0.push(Mark::Struct { name, fields: Vec::new() }))?;
        Some(mark)
    }

    pub(super) fn push_field(&mut self, mark: usize, field: &'static str) {
        if let Some(Mark::Struct { fields, .. }) = self.0.get_mut(mark) {
            fields.push(field);
        }
    }

    pub(super) fn get(&self, index: usize) -> Option<&Mark> {
        self.0.get(index)
    }

    /// The variants among them.
    pub(super) fn variants(&self) -> impl Iterator<Item = &Mark> {
        self.0.iter().filter(|mark| matches!(mark, Mark::Variant { .. }))
    }
}
