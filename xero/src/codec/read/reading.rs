//! The state while a value is read: its counts, its names, and the notes of its writer.

use std::{
    any,
    cell::{Cell, RefCell},
    fmt,
};

use serde::de::{Error, Visitor};

use super::shape::{Enum, Shape};
use crate::codec::{
    error::What,
    fault::Fault,
    format::Traits,
    names::Named,
    notes::{Fields, Kind, Piece},
    place::Start,
    state::{Below, Counts, LARGE_BYTES, Large, Level},
    steps::{Pair, Steps, is_derived, reader},
};

/// The state while a value is read.
#[derive(Debug)]
pub(crate) struct Reading<'r> {
    pub(super) counts: Counts,
    /// Whether the struct of a method's arguments is still to come.
    pub(super) are_arguments_next: Cell<bool>,
    /// The notes of these bytes' writer, if it is this program.
    pub(super) steps: Option<&'r Steps<'r>>,
    /// The name of the struct's field or variant that was read last.
    pub(super) key: RefCell<String>,
    /// The number of parts that were read last.
    pub(super) last_count: Cell<usize>,
}

impl<'r> Reading<'r> {
    pub(crate) fn new(traits: Traits, what: What) -> Self {
        Self {
            counts: Counts::new(traits, what),
            are_arguments_next: Cell::new(what == What::Arguments),
            steps: None,
            key: RefCell::default(),
            last_count: Cell::new(0),
        }
    }

    /// Compares the value with its writer's notes, if there are any.
    pub(crate) fn beside(self, steps: Option<&'r Steps<'r>>) -> Self {
        Self { steps, ..self }
    }

    /// The notes to compare with, which only formats without names need.
    #[inline]
    pub(super) fn steps(&self) -> Option<&'r Steps<'r>> {
        self.steps.filter(|_| !self.counts.traits.is_self_describing)
    }

    /// Counts a text or bytes.
    #[inline]
    pub(super) fn count_bytes(&self, length: usize) -> Result<(), Fault> {
        self.count_pieces(Kind::Length, 1)?;
        self.count_pieces(Kind::Byte, length)
    }

    #[inline]
    pub(super) fn count_pieces(&self, kind: Kind, count: usize) -> Result<(), Fault> {
        self.count(kind, count, false)
    }

    /// `is_small` says that it is a number from 0 to 127.
    #[inline]
    pub(super) fn count(&self, kind: Kind, count: usize, is_small: bool) -> Result<(), Fault> {
        let at = self.counts.pieces();
        self.counts.count_pieces(count);
        let Some(steps) = self.steps() else { return Ok(()) };
        steps.check_pieces(at, Piece { kind, depth: self.counts.depth(), is_small }, count)
    }

    /// Where the next piece of the value begins.
    #[inline]
    pub(super) fn start(&self) -> Start {
        Start { at: self.counts.pieces(), depth: self.counts.depth() }
    }

    pub(super) fn note_reader(&self, reader: fn() -> u64) {
        if let Some(steps) = self.steps() {
            steps.note_reader(self.start(), reader);
        }
    }

    /// The writer's struct that is read next as the struct `name`.
    #[inline]
    pub(super) fn find_struct(&self, name: &'static str, fields: &[&str]) -> Option<Pair> {
        self.steps()?.find_struct(self.start(), name, fields)
    }

    /// The shape of the struct that is read next.
    #[inline]
    pub(super) fn shape_of_struct(
        &self,
        name: &'static str,
        fields: &'static [&'static str],
        is_derived: fn() -> bool,
    ) -> Shape {
        let pair = self.find_struct(name, fields);
        match self.are_arguments_next.take() {
            true => Shape::Arguments { names: fields },
            false => Shape::Struct { fields, pair, is_derived: pair.is_some() && is_derived() },
        }
    }

    /// Counts the number of a variant.
    pub(super) fn count_variant(&self, is_small: bool) -> Result<(), Fault> {
        if let Some(steps) = self.steps.filter(|_| self.counts.traits.is_self_describing) {
            steps.note_number_for_variant();
        }
        self.count(Kind::Variant, 1, is_small)
    }

    /// Checks that a derived tuple struct or variant, of `length` fields, has been read with all of them, where no name
    /// shows which one is missing.
    pub(super) fn check_tuple<V>(&self, of: Named, length: usize) -> Result<(), Fault> {
        let count = self.last_count.get();
        let is_checked = self.steps.is_some() && self.counts.traits.is_self_describing && is_derived::<V>();
        if !is_checked || count >= length {
            return Ok(());
        }
        Err(Fault::rule(format!(
            "{of} is written with {count} of {length} fields, as with `#[serde(skip_serializing_if)]`, and its reader takes \
             each for the first one that is left: write all of them, or give the fields names"
        )))
    }

    /// The most stack that one level has taken.
    pub(crate) fn level_bytes_max(&self) -> usize {
        self.counts.level_bytes_max()
    }

    /// All lists, tuples, maps, structs and variants with fields.
    pub(crate) fn compounds(&self) -> u64 {
        self.counts.compounds()
    }

    /// Notes the fields that were read: of `count` fields, those that take bytes.
    pub(super) fn note_fields(&self, shape: Shape, count: &Cell<usize>, filled: &RefCell<Vec<usize>>) {
        let (count, filled) = (count.get(), filled.borrow());
        self.last_count.set(count);
        let (Some(steps), Shape::Struct { fields, pair: Some(pair), is_derived }) = (self.steps(), shape) else {
            return;
        };
        let names = match (is_derived, fields.len() == count) {
            (false, _) => Vec::new(),
            (true, true) => filled.iter().map(|index| fields[*index]).collect(),
            // These include aliases.
            (true, false) => fields.to_vec(),
        };
        steps.note_fields(pair, Fields { names, count: filled.len(), is_complete: true });
    }

    /// Checks that the reader knows the variant, and does not confuse it with another one.
    pub(super) fn check_variant(&self, of: Enum) -> Result<(), Fault> {
        let name = self.key.borrow();
        match !of.is_derived || name.is_empty() || of.variants.contains(&&**name) {
            true => Ok(()),
            false => Err(Fault::unknown_variant(&name, of.variants)),
        }
    }

    #[inline]
    pub(super) fn note_key(&self, name: &str) {
        let mut key = self.key.borrow_mut();
        key.clear();
        key.push_str(name);
    }

    /// The known name that was read last, of the field at `index` if fields come in order, as they mostly do.
    #[inline]
    pub(super) fn find_key(&self, names: &[&'static str], index: usize) -> Option<&'static str> {
        let name = &*self.key.borrow();
        let expected = names.get(index).filter(|expected| *expected == name);
        expected.or_else(|| names.iter().find(|known| *known == name)).copied()
    }

    /// Names the struct or variant that begins at `start` in the fault, if the fault lies behind its first piece.
    pub(super) fn blame(&self, fault: Fault, start: u64, of: Named) -> Fault {
        if self.counts.pieces() > start { fault.within(of) } else { fault }
    }

    /// The fault that an error of the format's library stands for.
    pub(crate) fn recover(&self, error: impl fmt::Display) -> Fault {
        self.counts.recover(error)
    }

    pub(super) fn stash<E: Error>(&self, fault: Fault) -> E {
        self.counts.stash(fault, E::custom)
    }

    /// Prepares to read a value for a visitor, and reserves stack for a large one.
    #[inline]
    pub(super) fn prepare<'de, V: Visitor<'de>>(&self) -> Result<Option<Large>, Fault> {
        if self.steps.is_some() {
            self.note_reader(reader::<V>);
        }
        let size = size_of::<V::Value>();
        match size >= LARGE_BYTES {
            true => self.counts.begin_large(any::type_name::<V>(), size).map(Some),
            false => Ok(None),
        }
    }

    /// Ends a value that was prepared.
    #[inline]
    pub(super) fn end(&self, large: Option<Large>) {
        if let Some(large) = large {
            self.counts.end_large(large);
        }
    }

    /// Goes one level down, after a piece that declares the number of parts.
    #[inline]
    pub(super) fn descend(&self, level: Level, piece: Option<Kind>) -> Result<Below, Fault> {
        if let Some(kind) = piece {
            // The tag of `Some` is 1.
            self.count(kind, 1, kind == Kind::Byte)?;
        }
        self.counts.descend(level)
    }

    /// Counts a primitive of this shape.
    #[inline]
    pub(super) fn count_primitive(&self, shape: Shape, kind: Kind, is_small: bool) -> Result<(), Fault> {
        match shape {
            Shape::Variant => self.count_variant(is_small),
            _ => self.count(kind, 1, is_small),
        }
    }

    /// Counts a text of this shape, and keeps it if it is a name.
    #[inline]
    pub(super) fn count_text(&self, shape: Shape, text: &str) -> Result<(), Fault> {
        if let Shape::Key | Shape::Variant = shape {
            self.note_key(text);
        }
        self.count_bytes(text.len())
    }
}
