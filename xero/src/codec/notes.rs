//! Notes about a value while it is written, so that it can be compared with what its reader reads: the kinds of its
//! pieces, and the names of its variants and fields.

use std::{cell::Cell, collections::HashMap};

use super::{
    fault::{Fault, Step},
    observed::{Form, Forms, Type},
};

/// The kind of a piece of a value, as far as formats without names write kinds differently.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// A bool, a `u8`, the tag of an `Option`, a byte of a text.
    Byte,
    SmallSigned,
    /// Also a variant's number.
    Unsigned,
    /// The length of a list, map or text. It is written like an unsigned integer.
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

    /// Whether both kinds have the same bytes for every value.
    fn is_like(self, other: Self) -> bool {
        let as_number = |kind| if kind == Self::Length { Self::Unsigned } else { kind };
        as_number(self) == as_number(other)
    }

    /// Whether both kinds have the same byte for each number below 128.
    fn is_like_below_128(self, other: Self) -> bool {
        let is_plain = |kind| matches!(kind, Self::Byte | Self::SmallSigned | Self::Unsigned);
        is_plain(self) && is_plain(other)
    }
}

/// A piece of a value.
#[derive(Clone, Copy, Debug)]
pub(super) struct Piece {
    pub(super) kind: Kind,
    /// The number of lists, structs and the like around it.
    pub(super) depth: usize,
    /// Whether it is a number from 0 to 127, as far as its reader knows.
    pub(super) is_small: bool,
}

/// The pieces of a value in order, and a mark with the names for the first value of each type and form.
#[derive(Debug, Default)]
pub(super) struct Notes {
    /// Each with its depth, which has a limit.
    kinds: Vec<(Kind, u8)>,
    marks: Vec<Mark>,
    marked: Forms,
    beginnings: Beginnings,
    /// Forms of types that hide other types: another value of the same form may differ.
    changing: Forms,
    /// Whether the value could be read only because its numbers are small.
    is_small: Cell<bool>,
}

/// The names at one place in the value.
#[derive(Debug)]
pub(super) struct Mark {
    /// The number of pieces before it.
    pub(super) at: u64,
    /// The number of structs with its name that begin at the same place before it.
    nth: usize,
    /// The enum's or struct's name.
    pub(super) name: &'static str,
    pub(super) variant: Option<&'static str>,
    /// The fields' names; none for a tuple.
    pub(super) fields: Fields,
    /// The argument around it.
    argument: Option<&'static str>,
}

/// The fields that were written or read, except those of no size: a reader may lack these.
#[derive(Clone, Debug, Default)]
pub(super) struct Fields {
    pub(super) names: Vec<&'static str>,
    pub(super) count: usize,
    /// Whether all fields have been counted.
    pub(super) is_complete: bool,
}

impl Mark {
    pub(super) fn new(name: &'static str, variant: Option<&'static str>, argument: Option<&'static str>) -> Self {
        Self { at: 0, nth: 0, name, variant, fields: Fields::default(), argument }
    }

    /// Adds the mark's argument to the fault.
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

    /// Marks a struct that begins here, or a variant. Returns the mark's number, unless the type is already marked in
    /// this form.
    pub(super) fn mark(&mut self, of: Type, form: Form, mut mark: Mark) -> Option<usize> {
        mark.at = self.kinds.len() as u64;
        if mark.variant.is_none() {
            mark.nth = self.beginnings.count(mark.at, mark.name);
        }
        self.marked.insert(of.in_form(form)).then(|| self.marks.push(mark))?;
        Some(self.marks.len() - 1)
    }

    /// Notes a form of a type that hides other types.
    pub(super) fn note_form(&mut self, of: Type, form: Form) {
        if of.hides_others() {
            self.changing.insert(of.in_form(form));
        }
    }

    pub(super) fn mark_mut(&mut self, mark: usize) -> Option<&mut Mark> {
        self.marks.get_mut(mark)
    }

    /// The piece written at this place, if it cannot be read as this one.
    ///
    /// A type that writes a `u8` and reads a `u32` works while its numbers are small, so it passes until one is not.
    /// But both must mean the same number: a piece that belongs to another struct for its writer fits only by chance.
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

    /// The forms of which every value is alike.
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

/// The structs that begin at one place: a struct's first field may be a struct, even one with the same name.
#[derive(Debug, Default)]
pub(super) struct Beginnings {
    at: u64,
    counts: HashMap<&'static str, usize>,
    /// The names of which several structs begin at one place, and their number.
    crowded: HashMap<(u64, &'static str), usize>,
}

impl Beginnings {
    /// The number of structs with this name that have begun here before this one.
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

    /// The number of structs with this name that begin here, where one does.
    pub(super) fn total(&self, at: u64, name: &'static str) -> usize {
        self.crowded.get(&(at, name)).copied().unwrap_or(1)
    }
}
