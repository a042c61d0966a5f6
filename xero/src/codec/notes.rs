//! Notes about a value while it is written, so that it can be compared with what its reader reads: the kinds of its
//! pieces, and the names of its variants and fields.

use std::{cell::Cell, collections::HashMap};

use super::{
    fault::{Fault, Step},
    observed::{Form, Forms},
    place::Start,
};

/// The kind of a piece of a value, as far as formats without names write kinds differently.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// A bool, a `u8`, the tag of an `Option`, a byte of a text.
    Byte,
    SmallSigned,
    Unsigned,
    /// A variant's number. It is written like an unsigned integer.
    Variant,
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
            Self::Variant => "a variant",
            Self::Length => "a length",
            Self::Signed => "a signed integer",
            Self::F32 => "an `f32`",
            Self::F64 => "an `f64`",
            Self::Char => "a character",
        }
    }

    /// Whether both kinds have the same byte for each number below 128.
    fn is_like_below_128(self, other: Self) -> bool {
        let is_number =
            |kind| matches!(kind, Self::Byte | Self::SmallSigned | Self::Unsigned | Self::Variant | Self::Length);
        is_number(self) && is_number(other)
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

/// The pieces of a value in order, and a mark with the names for the first value of each form on each way into it.
#[derive(Debug, Default)]
pub(super) struct Notes {
    runs: Vec<Run>,
    marks: Vec<Mark>,
    /// Ways and forms that have a mark.
    marked: Forms,
    beginnings: Beginnings,
    /// Where a value within one of its own type begins, and where the one around it does.
    again: Vec<(Start, Start)>,
    /// Whether another value of the same forms may differ.
    is_changing: Cell<bool>,
    /// Whether a number was written for a variant, or the reverse.
    has_number_for_variant: Cell<bool>,
    /// Whether a field has another name for its reader.
    has_other_names: Cell<bool>,
}

/// Equal pieces in a row.
#[derive(Clone, Copy, Debug)]
struct Run {
    /// The number of pieces up to its end.
    end: u64,
    kind: Kind,
    /// The depth, which has a limit.
    depth: u8,
}

/// The names at one place in the value.
#[derive(Debug)]
pub(super) struct Mark {
    /// The number of pieces before it.
    pub(super) at: u64,
    /// The number of lists, structs and the like around it.
    depth: usize,
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
        Self { at: 0, depth: 0, nth: 0, name, variant, fields: Fields::default(), argument }
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
        let (depth, end) = (within_a_byte(depth), self.length() + count as u64);
        match self.runs.last_mut() {
            Some(run) if run.kind == kind && run.depth == depth => run.end = end,
            _ if count == 0 => {}
            _ => self.runs.push(Run { end, kind, depth }),
        }
    }

    fn length(&self) -> u64 {
        self.runs.last().map_or(0, |run| run.end)
    }

    /// Marks a struct that begins here, or a variant. Returns the mark's number, unless this form is already marked on
    /// the way to it, as for another element of its list.
    pub(super) fn mark(&mut self, path: u64, form: Form, depth: usize, mut mark: Mark) -> Option<usize> {
        mark.at = self.length();
        mark.depth = depth;
        if mark.variant.is_none() {
            mark.nth = self.beginnings.count(mark.at, mark.name);
        }
        self.marked.insert(form.at(path)).then(|| self.marks.push(mark))?;
        Some(self.marks.len() - 1)
    }

    /// Notes a value that begins here within one of its own type.
    pub(super) fn note_again(&mut self, path: u64, around: Start, inner: Start) {
        if self.marked.insert(Form::Again.at(path)) {
            self.again.push((around, inner));
        }
    }

    pub(super) fn again(&self) -> &[(Start, Start)] {
        &self.again
    }

    /// Notes that another value of the same forms may differ from this one.
    pub(super) fn note_change(&self) {
        self.is_changing.set(true);
    }

    pub(super) fn mark_mut(&mut self, mark: usize) -> Option<&mut Mark> {
        self.marks.get_mut(mark)
    }

    /// The piece written at one of these places, if it cannot be read as such a piece. `run` is the run that was found
    /// last.
    ///
    /// A type that writes a `u8` and reads a `u32` works while its numbers are small, so it passes until one is not.
    /// But both must mean the same number: a piece that belongs to another struct for its writer fits only by chance.
    pub(super) fn contradiction(&self, at: u64, read: Piece, count: usize, run: &Cell<usize>) -> Option<Option<Kind>> {
        let end = at + count as u64;
        if at == end {
            return None;
        }
        for (index, written) in self.runs.iter().enumerate().skip(self.run_at(at, run.get())) {
            run.set(index);
            match self.differing(*written, read) {
                Some(kind) => return Some(Some(kind)),
                None if written.end >= end => return None,
                None => {}
            }
        }
        Some(None)
    }

    fn run_at(&self, at: u64, last: usize) -> usize {
        let begins =
            |index: usize| index.checked_sub(1).and_then(|before| self.runs.get(before)).map_or(0, |run| run.end);
        let is_here = |index| self.runs.get(index).is_some_and(|run: &Run| (begins(index)..run.end).contains(&at));
        match [last, last + 1].into_iter().find(|index| is_here(*index)) {
            Some(index) => index,
            None => self.runs.partition_point(|run| run.end <= at),
        }
    }

    fn differing(&self, Run { kind, depth, .. }: Run, read: Piece) -> Option<Kind> {
        if kind == read.kind {
            return None;
        }
        if !read.is_small || !kind.is_like_below_128(read.kind) || depth != within_a_byte(read.depth) {
            return Some(kind);
        }
        self.note_change();
        if kind == Kind::Variant || read.kind == Kind::Variant {
            self.note_number_for_variant();
        }
        None
    }

    /// Notes that a number was written for a variant, or the reverse: the names do not tell whether it is the same one.
    pub(super) fn note_number_for_variant(&self) {
        self.note_change();
        self.has_number_for_variant.set(true);
    }

    pub(super) fn has_number_for_variant(&self) -> bool {
        self.has_number_for_variant.get()
    }

    /// Notes that a field has another name for its reader: it may be another field.
    pub(super) fn note_other_names(&self) {
        self.note_change();
        self.has_other_names.set(true);
    }

    pub(super) fn has_other_names(&self) -> bool {
        self.has_other_names.get()
    }

    pub(super) fn is_changing(&self) -> bool {
        self.is_changing.get()
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
}

/// Depths are below 256.
fn within_a_byte(depth: usize) -> u8 {
    u8::try_from(depth).unwrap_or(u8::MAX)
}

impl Mark {
    pub(super) fn is_struct(&self, nth: usize, name: &str) -> bool {
        self.variant.is_none() && self.nth == nth && self.name == name
    }

    /// Whether it is a struct that another struct with these fields may read.
    pub(super) fn is_like(&self, depth: usize, fields: &[&str]) -> bool {
        self.variant.is_none() && self.depth == depth && self.fields.names.iter().any(|name| fields.contains(name))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_pieces_in_a_row_take_one_note() {
        let mut notes = Notes::default();
        for _ in 0..3 {
            notes.push_kind(Kind::Length, 1, 1);
            notes.push_kind(Kind::Byte, 1, 64 << 20);
            notes.push_kind(Kind::Byte, 1, 0);
        }
        assert_eq!(notes.runs.len(), 6);
        let (byte, run) = (Piece { kind: Kind::Byte, depth: 1, is_small: false }, Cell::new(0));
        for at in [1, 2, 64 << 20] {
            assert_eq!(notes.contradiction(at, byte, 1, &run), None, "{at}");
        }
        assert_eq!(notes.contradiction(1, byte, 64 << 20, &run), None);
        assert_eq!(notes.contradiction(1, byte, (64 << 20) + 1, &run), Some(Some(Kind::Length)));
        assert_eq!(notes.contradiction(0, byte, 1, &run), Some(Some(Kind::Length)), "back again");
        assert_eq!(notes.contradiction(3 * (64 << 20) + 3, byte, 1, &run), Some(None), "behind the end");
        assert_eq!(notes.contradiction(3 * (64 << 20) + 3, byte, 0, &run), None, "no piece");
    }
}
