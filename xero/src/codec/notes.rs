//! What is noted of a value while it is written, so that it can be read back side by side: what its pieces are, and the
//! names of its variants and fields.

use std::{cell::Cell, collections::HashMap};

use super::{
    fault::{Fault, Step},
    observed::{Form, Forms, Type},
};

/// What a piece of a value is, as far as formats without names write one differently from the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// A bool, a `u8`, whether there is `Some`, a byte of a text.
    Byte,
    SmallSigned,
    /// A variant's number, too.
    Unsigned,
    /// Of a list, map or text. It is written as an unsigned integer is.
    Length,
    Signed,
    F32,
    F64,
    Char,
}

impl Kind {
    pub(super) fn words(self) -> &'static str {
        match self {
            Self::Byte => "a byte",
            Self::SmallSigned => "an `i8`",
            Self::Unsigned => "an unsigned integer",
            Self::Length => "a length",
            Self::Signed => "a signed integer",
            Self::F32 => "an `f32`",
            Self::F64 => "an `f64`",
            Self::Char => "a character",
        }
    }

    /// Whether both are the same bytes, whatever is written.
    fn is_like(self, other: Self) -> bool {
        let as_number = |kind| if kind == Self::Length { Self::Unsigned } else { kind };
        as_number(self) == as_number(other)
    }

    /// Whether both are the same byte for a number below 128.
    fn is_like_below_128(self, other: Self) -> bool {
        let is_plain = |kind| matches!(kind, Self::Byte | Self::SmallSigned | Self::Unsigned);
        is_plain(self) && is_plain(other)
    }
}

/// A piece of a value.
#[derive(Clone, Copy, Debug)]
pub(super) struct Piece {
    pub(super) kind: Kind,
    /// How many lists, structs and the like it is in.
    pub(super) depth: usize,
    /// Whether it is a number below 128 and no negative one, as far as its reader knows.
    pub(super) is_small: bool,
}

/// The pieces of a value in order; and names, each where a type takes a form for the first time in the value.
#[derive(Debug, Default)]
pub(super) struct Notes {
    /// Each with its depth, which is limited.
    kinds: Vec<(Kind, u8)>,
    marks: Vec<Mark>,
    marked: Forms,
    beginnings: Beginnings,
    /// Forms of types that hide others: a value of the same form may be another one.
    changing: Forms,
    /// Whether it could be read only because of how small its numbers are.
    is_small: Cell<bool>,
}

/// The names at one place.
#[derive(Debug)]
pub(super) struct Mark {
    /// How many pieces of the value come before it.
    pub(super) at: u64,
    /// How many structs of its name begin at the same place before it.
    nth: usize,
    /// The enum's or struct's name.
    pub(super) name: &'static str,
    pub(super) variant: Option<&'static str>,
    /// The fields' names; none of a tuple.
    pub(super) fields: Fields,
    /// The argument that it is in.
    argument: Option<&'static str>,
}

/// The fields that have been written or read, without those of no size: a reader need not have these.
#[derive(Clone, Debug, Default)]
pub(super) struct Fields {
    pub(super) names: Vec<&'static str>,
    pub(super) count: usize,
    /// Whether all of them have been counted.
    pub(super) is_complete: bool,
}

impl Mark {
    pub(super) fn new(name: &'static str, variant: Option<&'static str>, argument: Option<&'static str>) -> Self {
        Self { at: 0, nth: 0, name, variant, fields: Fields::default(), argument }
    }

    /// The fault, at the argument that the mark is in.
    pub(super) fn blame(&self, fault: Fault) -> Fault {
        match self.argument {
            Some(argument) => fault.at(Step::Field(argument)),
            None => fault,
        }
    }
}

impl Notes {
    pub(super) fn push_kind(&mut self, kind: Kind, depth: usize, count: usize) {
        self.kinds.extend(std::iter::repeat_n((kind, within_a_byte(depth)), count));
    }

    /// Marks a struct that begins here, or a variant. Gives the number of the mark, unless the type has been marked in this
    /// form.
    pub(super) fn mark(&mut self, of: Type, form: Form, mut mark: Mark) -> Option<usize> {
        mark.at = self.kinds.len() as u64;
        if mark.variant.is_none() {
            mark.nth = self.beginnings.count(mark.at, mark.name);
        }
        self.marked.insert(of.in_form(form)).then(|| self.marks.push(mark))?;
        Some(self.marks.len() - 1)
    }

    /// Notes a form of a type that hides others.
    pub(super) fn note_form(&mut self, of: Type, form: Form) {
        if of.hides_others() {
            self.changing.insert(of.in_form(form));
        }
    }

    pub(super) fn mark_mut(&mut self, mark: usize) -> Option<&mut Mark> {
        self.marks.get_mut(mark)
    }

    /// What is written at a place, if it cannot be read as this piece.
    ///
    /// A type that writes a `u8` and reads a `u32` is right as long as its numbers are small. So it is carried until one is
    /// not. But it must be one number: what is in another struct than for its writer only happens to be there.
    pub(super) fn contradiction(&self, at: u64, read: Piece) -> Option<Option<Kind>> {
        let Some((written, depth)) = usize::try_from(at).ok().and_then(|at| self.kinds.get(at)).copied() else {
            return Some(None);
        };
        if written.is_like(read.kind) {
            return None;
        }
        if read.is_small && written.is_like_below_128(read.kind) && depth == within_a_byte(read.depth) {
            self.is_small.set(true);
            return None;
        }
        Some(Some(written))
    }

    pub(super) fn marks(&self) -> &[Mark] {
        &self.marks
    }

    pub(super) fn has_variants(&self) -> bool {
        self.marks.iter().any(|mark| mark.variant.is_some())
    }

    pub(super) fn beginnings(&self) -> &Beginnings {
        &self.beginnings
    }

    /// Takes the forms away of which another value may not be like this one.
    pub(super) fn without_changing(&self, forms: Forms) -> impl Iterator<Item = u64> {
        forms.into_iter().filter(|form| !self.is_small.get() && !self.changing.contains(form))
    }
}

/// Depths are below 256.
fn within_a_byte(depth: usize) -> u8 {
    u8::try_from(depth).unwrap_or(u8::MAX)
}

impl Mark {
    pub(super) fn is_struct(&self, nth: usize, name: &str) -> bool {
        self.variant.is_none() && self.nth == nth && self.name == name
    }
}

/// The structs that begin at one place: a struct's first field may be a struct, even one of the same name.
#[derive(Debug, Default)]
pub(super) struct Beginnings {
    at: u64,
    counts: HashMap<&'static str, usize>,
    /// Where more than one of a name begins, and how many.
    crowded: HashMap<(u64, &'static str), usize>,
}

impl Beginnings {
    /// How many structs of that name have begun here before this one.
    pub(super) fn count(&mut self, at: u64, name: &'static str) -> usize {
        if self.at != at {
            self.at = at;
            self.counts.clear();
        }
        let count = self.counts.entry(name).or_default();
        *count += 1;
        if *count > 1 {
            self.crowded.insert((at, name), *count);
        }
        *count - 1
    }

    /// How many structs of that name begin at a place where one does.
    pub(super) fn total(&self, at: u64, name: &'static str) -> usize {
        self.crowded.get(&(at, name)).copied().unwrap_or(1)
    }
}
