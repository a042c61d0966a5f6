//! A deserializer around a format's own one. It bounds what a few hostile bytes can cost, and knows the place of an
//! error.
//!
//! Formats trust a declared number of elements, and elements of no size (`()`, an empty struct) take no bytes: a
//! `Vec<()>` of 2^40 would keep a thread busy for an hour. And a recursive type takes one byte a level, until the stack
//! overflows and the process dies.

mod parts;

use std::{
    any,
    cell::{Cell, RefCell},
    fmt,
    marker::PhantomData,
};

use serde::de::{DeserializeSeed, Deserializer, EnumAccess, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};

use self::parts::{Elements, Entries, Variants};

use super::{
    arguments,
    error::What,
    fault::{Fault, Reason, Step},
    format::Traits,
    notes::{Fields, Kind, Piece},
    place::Start,
    state::{Before, Counts, LARGE_BYTES, Level},
    steps::{Pair, Steps, is_derived, reader},
};

/// The state while a value is read.
#[derive(Debug)]
pub(super) struct Reading<'r> {
    counts: Counts,
    /// Whether the struct of a method's arguments is still to come.
    are_arguments_next: Cell<bool>,
    /// The notes of these bytes' writer, if it is this program.
    steps: Option<&'r Steps<'r>>,
    /// The name of the struct's field or variant that was read last.
    key: RefCell<String>,
    /// The number of parts that were read last.
    last_count: Cell<usize>,
}

impl<'r> Reading<'r> {
    pub(super) fn new(traits: Traits, what: What) -> Self {
        Self {
            counts: Counts::new(traits, what),
            are_arguments_next: Cell::new(what == What::Arguments),
            steps: None,
            key: RefCell::default(),
            last_count: Cell::new(0),
        }
    }

    /// Compares the value with its writer's notes.
    pub(super) fn beside(self, steps: &'r Steps<'r>) -> Self {
        Self { steps: Some(steps), ..self }
    }

    /// The notes to compare with, which only formats without names need.
    fn steps(&self) -> Option<&'r Steps<'r>> {
        self.steps.filter(|_| !self.counts.traits.is_self_describing)
    }

    /// Counts a text or bytes.
    fn count_bytes(&self, length: usize) -> Result<(), Fault> {
        self.count_pieces(Kind::Length, 1)?;
        self.count_pieces(Kind::Byte, length)
    }

    fn count_pieces(&self, kind: Kind, count: usize) -> Result<(), Fault> {
        self.count(kind, count, false)
    }

    /// `is_small` says that it is a number from 0 to 127.
    fn count(&self, kind: Kind, count: usize, is_small: bool) -> Result<(), Fault> {
        let at = self.counts.pieces();
        self.counts.count_pieces(count);
        let Some(steps) = self.steps() else { return Ok(()) };
        steps.check_pieces(at, Piece { kind, depth: self.counts.depth(), is_small }, count)
    }

    /// Where the next piece of the value begins.
    fn start(&self) -> Start {
        Start { at: self.counts.pieces(), depth: self.counts.depth() }
    }

    fn note_reader(&self, reader: fn() -> u64) {
        if let Some(steps) = self.steps() {
            steps.note_reader(self.start(), reader);
        }
    }

    /// The writer's struct that is read next as the struct `name`.
    fn find_struct(&self, name: &'static str, fields: &[&str]) -> Option<Pair> {
        self.steps()?.find_struct(self.start(), name, fields)
    }

    /// Counts the number of a variant.
    fn count_variant(&self, is_small: bool) -> Result<(), Fault> {
        if let Some(steps) = self.steps.filter(|_| self.counts.traits.is_self_describing) {
            steps.note_number_for_variant();
        }
        self.count(Kind::Variant, 1, is_small)
    }

    /// Checks that a derived tuple struct or variant, of `length` fields, has been read with all of them, where no name
    /// shows which one is missing.
    fn check_tuple<V>(&self, of: Named, length: usize) -> Result<(), Fault> {
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
    pub(super) fn level_bytes_max(&self) -> usize {
        self.counts.level_bytes_max()
    }

    /// All lists, tuples, maps, structs and variants with fields.
    pub(super) fn compounds(&self) -> u64 {
        self.counts.compounds()
    }

    /// Notes the fields that were read: of `count` fields, those that take bytes.
    fn note_fields(&self, shape: Shape, count: &Cell<usize>, filled: &RefCell<Vec<usize>>) {
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
    fn check_variant(&self, of: Enum) -> Result<(), Fault> {
        let name = self.key.borrow();
        match !of.is_derived || name.is_empty() || of.variants.contains(&&**name) {
            true => Ok(()),
            false => Err(Fault::unknown_variant(&name, of.variants)),
        }
    }

    fn note_key(&self, name: &str) {
        let mut key = self.key.borrow_mut();
        key.clear();
        key.push_str(name);
    }

    /// Names the struct or variant that begins at `start` in the fault, if the fault lies behind its first piece.
    fn blame(&self, fault: Fault, start: u64, of: Named) -> Fault {
        if self.counts.pieces() > start { fault.within(of) } else { fault }
    }

    /// The fault that an error of the format's library stands for.
    pub(super) fn recover(&self, error: impl fmt::Display) -> Fault {
        self.counts.recover(error)
    }

    fn stash<E: Error>(&self, fault: Fault) -> E {
        self.counts.stash(fault, E::custom)
    }
}

/// The shape of a compound, which decides how its parts are named.
#[derive(Clone, Copy)]
enum Shape {
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

/// The name of a struct or variant.
#[derive(Clone, Copy, Debug)]
pub(super) enum Named {
    Struct(&'static str),
    /// A variant of an enum.
    Variant(&'static str, &'static str),
}

impl fmt::Display for Named {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Struct(name) => write!(f, "`{name}`"),
            Self::Variant(variant, name) => write!(f, "`{variant}` of `{name}`"),
        }
    }
}

/// What an enum's reader declares.
#[derive(Clone, Copy, Default)]
struct Enum {
    name: &'static str,
    variants: &'static [&'static str],
    /// Whether the reader certainly uses exactly these names.
    is_derived: bool,
}

impl Shape {
    fn step(self, index: usize) -> Step {
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

/// A value of a known type that is read next.
pub(super) struct Seed<'r, S> {
    pub(super) inner: S,
    pub(super) reading: &'r Reading<'r>,
}

impl<'de, S: DeserializeSeed<'de>> DeserializeSeed<'de> for Seed<'_, S> {
    type Value = S::Value;

    fn deserialize<D: Deserializer<'de>>(self, inner: D) -> Result<S::Value, D::Error> {
        let reading = self.reading;
        reading.counts.begin_value(size_of::<S::Value>());
        let read = self.inner.deserialize(Reader { inner, reading, role: Role::Value });
        read.map_err(|fault| reading.stash(fault.of_type::<S::Value>()))
    }
}

struct Reader<'r, D> {
    inner: D,
    reading: &'r Reading<'r>,
    role: Role,
}

/// The role of the value.
#[derive(Clone, Copy, PartialEq)]
enum Role {
    Value,
    /// A variant's name or number.
    Variant,
    /// The name of a struct's field.
    Field,
}

impl<'r, D> Reader<'r, D> {
    fn read<'de, V: Visitor<'de>, R, E: fmt::Display>(
        self,
        visitor: V,
        shape: Shape,
        read: impl FnOnce(D, Watched<'r, V>) -> Result<R, E>,
    ) -> Result<R, Fault>
    where
        D: Deserializer<'de>,
    {
        let Self { inner, reading, .. } = self;
        if reading.steps.is_some() {
            reading.note_reader(reader::<V>);
        }
        let size = size_of::<V::Value>();
        let large = match size >= LARGE_BYTES {
            true => Some(reading.counts.begin_large(any::type_name::<V>(), size)?),
            false => None,
        };
        let read = read(inner, Watched { inner: visitor, reading, shape }).map_err(|error| reading.recover(error));
        if let Some(large) = large {
            reading.counts.end_large(large);
        }
        read
    }

    /// The shape of a name, or of a value without parts.
    fn leaf(&self) -> Shape {
        match self.role {
            Role::Value => Shape::Parts(0),
            Role::Variant if self.reading.steps.is_none() => Shape::Parts(0),
            Role::Variant => Shape::Variant,
            Role::Field => Shape::Key,
        }
    }

    /// The shape of a text or bytes that a visitor wants to own. They are borrowed from the format and then copied, so
    /// that no declared length sizes an allocation.
    fn owned(&self) -> Shape {
        if self.role == Role::Value { Shape::Owned } else { self.leaf() }
    }

    /// Refuses a format whose bytes do not show the type of a value.
    fn needs_names(&self) -> Result<(), Fault> {
        match self.reading.counts.traits.is_self_describing {
            true => Ok(()),
            false => Err(Fault::new(Reason::NeedsNames)),
        }
    }
}

macro_rules! forward {
    ($($method:ident($($argument:ident: $type:ty),*) as $inner:ident;)*) => {
        $(fn $method<V: Visitor<'de>>(self, $($argument: $type,)* visitor: V) -> Result<V::Value, Fault> {
            let shape = self.leaf();
            self.read(visitor, shape, |inner, visitor| inner.$inner($($argument,)* visitor))
        })*
    };
}

impl<'de, D: Deserializer<'de>> Deserializer<'de> for Reader<'_, D> {
    type Error = Fault;

    forward! {
        deserialize_bool() as deserialize_bool;
        deserialize_i8() as deserialize_i8;
        deserialize_i16() as deserialize_i16;
        deserialize_i32() as deserialize_i32;
        deserialize_i64() as deserialize_i64;
        deserialize_i128() as deserialize_i128;
        deserialize_u8() as deserialize_u8;
        deserialize_u16() as deserialize_u16;
        deserialize_u32() as deserialize_u32;
        deserialize_u64() as deserialize_u64;
        deserialize_u128() as deserialize_u128;
        deserialize_f32() as deserialize_f32;
        deserialize_f64() as deserialize_f64;
        deserialize_char() as deserialize_char;
        deserialize_str() as deserialize_str;
        deserialize_bytes() as deserialize_bytes;
        deserialize_option() as deserialize_option;
        deserialize_unit() as deserialize_unit;
        deserialize_unit_struct(name: &'static str) as deserialize_unit_struct;
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        let shape = self.owned();
        self.read(visitor, shape, |inner, visitor| inner.deserialize_str(visitor))
    }

    fn deserialize_byte_buf<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        let shape = self.owned();
        self.read(visitor, shape, |inner, visitor| inner.deserialize_bytes(visitor))
    }

    fn deserialize_tuple<V: Visitor<'de>>(self, length: usize, visitor: V) -> Result<V::Value, Fault> {
        self.read(visitor, Shape::Parts(length), |inner, visitor| inner.deserialize_tuple(length, visitor))
    }

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        self.needs_names()?;
        let (shape, counts) = (self.leaf(), &self.reading.counts);
        let before = counts.begin_buffer(|| any::type_name::<V>().contains("TaggedContentVisitor"));
        let value = self.read(visitor, shape, |inner, visitor| inner.deserialize_any(visitor));
        counts.end_buffer(before);
        value
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        self.needs_names()?;
        let shape = self.leaf();
        self.read(visitor, shape, |inner, visitor| inner.deserialize_ignored_any(visitor))
    }

    fn deserialize_identifier<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        if self.role != Role::Variant {
            self.needs_names()?;
        }
        let shape = self.leaf();
        self.read(visitor, shape, |inner, visitor| inner.deserialize_identifier(visitor))
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        self.read(visitor, Shape::List, |inner, visitor| inner.deserialize_seq(visitor))
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        self.read(visitor, Shape::Map, |inner, visitor| inner.deserialize_map(visitor))
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, name: &'static str, visitor: V) -> Result<V::Value, Fault> {
        if name == arguments::DEFAULTED {
            return visitor.visit_newtype_struct(self);
        }
        let shape = self.leaf();
        self.read(visitor, shape, |inner, visitor| inner.deserialize_newtype_struct(name, visitor))
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Fault> {
        let reading = self.reading;
        let (start, pair) = (reading.counts.pieces(), reading.find_struct(name, fields));
        let shape = match reading.are_arguments_next.take() {
            true => Shape::Arguments { names: fields },
            false => Shape::Struct { fields, pair, is_derived: pair.is_some() && is_derived::<V>() },
        };
        let read = self.read(visitor, shape, |inner, visitor| inner.deserialize_struct(name, fields, visitor));
        match shape {
            // It is generated: users know the argument and its type.
            Shape::Arguments { .. } => read,
            _ => read.map_err(|fault| reading.blame(fault, start, Named::Struct(name))),
        }
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        length: usize,
        visitor: V,
    ) -> Result<V::Value, Fault> {
        let reading = self.reading;
        let (start, of) = (reading.counts.pieces(), Named::Struct(name));
        let shape = Shape::Struct { fields: &[], pair: reading.find_struct(name, &[]), is_derived: false };
        self.read(visitor, shape, |inner, visitor| inner.deserialize_tuple_struct(name, length, visitor))
            .and_then(|value| reading.check_tuple::<V>(of, length).map(|()| value))
            .map_err(|fault| reading.blame(fault, start, of))
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Fault> {
        let reading = self.reading;
        let start = reading.counts.pieces();
        let is_derived = reading.steps.is_some() && is_derived::<V>();
        let shape = Shape::Enum(Enum { name, variants, is_derived });
        self.read(visitor, shape, |inner, visitor| inner.deserialize_enum(name, variants, visitor))
            .map_err(|fault| reading.blame(fault, start, Named::Struct(name)))
    }

    fn is_human_readable(&self) -> bool {
        self.inner.is_human_readable()
    }
}

/// The user's visitor, behind the guard.
struct Watched<'r, V> {
    inner: V,
    reading: &'r Reading<'r>,
    shape: Shape,
}

macro_rules! primitives {
    ($($method:ident: $type:ty, $kind:ident, $is_small:expr;)*) => {
        $(fn $method<E: Error>(self, value: $type) -> Result<V::Value, E> {
            let Self { inner, reading, shape } = self;
            let is_small = ($is_small)(value);
            let counted = match shape {
                Shape::Variant => reading.count_variant(is_small),
                _ => reading.count(Kind::$kind, 1, is_small),
            };
            counted.and_then(|()| inner.$method(value)).map_err(|fault| reading.stash(fault))
        })*
    };
}

macro_rules! texts {
    ($($method:ident: $type:ty;)*) => {
        $(fn $method<E: Error>(self, value: $type) -> Result<V::Value, E> {
            let Self { inner, reading, shape } = self;
            if let Shape::Key | Shape::Variant = shape {
                reading.note_key(&value);
            }
            let counted = reading.count_bytes(value.len());
            let read = counted.and_then(|()| match shape {
                Shape::Owned => inner.visit_string(value.into()),
                _ => inner.$method(value),
            });
            read.map_err(|fault| reading.stash(fault))
        })*
    };
}

macro_rules! bytes {
    ($($method:ident: $type:ty;)*) => {
        $(fn $method<E: Error>(self, value: $type) -> Result<V::Value, E> {
            let Self { inner, reading, shape } = self;
            let counted = reading.count_bytes(value.len());
            let read = counted.and_then(|()| match shape {
                Shape::Owned => inner.visit_byte_buf(value.into()),
                _ => inner.$method(value),
            });
            read.map_err(|fault| reading.stash(fault))
        })*
    };
}

impl<'de, V: Visitor<'de>> Visitor<'de> for Watched<'_, V> {
    type Value = V::Value;

    primitives! {
        visit_bool: bool, Byte, |_| true;
        visit_i8: i8, SmallSigned, |n| n >= 0;
        visit_i16: i16, Signed, |_| false;
        visit_i32: i32, Signed, |_| false;
        visit_i64: i64, Signed, |_| false;
        visit_i128: i128, Signed, |_| false;
        visit_u8: u8, Byte, |n| n < 128;
        visit_u16: u16, Unsigned, |n| n < 128;
        visit_u32: u32, Unsigned, |n| n < 128;
        visit_u64: u64, Unsigned, |n| n < 128;
        visit_u128: u128, Unsigned, |n| n < 128;
        visit_f32: f32, F32, |_| false;
        visit_f64: f64, F64, |_| false;
        visit_char: char, Char, |_| false;
    }

    texts! {
        visit_str: &str;
        visit_borrowed_str: &'de str;
        visit_string: String;
    }

    bytes! {
        visit_bytes: &[u8];
        visit_borrowed_bytes: &'de [u8];
        visit_byte_buf: Vec<u8>;
    }

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.expecting(f)
    }

    fn visit_none<E: Error>(self) -> Result<V::Value, E> {
        let Self { inner, reading, .. } = self;
        reading.count(Kind::Byte, 1, true).and_then(|()| inner.visit_none()).map_err(|fault| reading.stash(fault))
    }

    fn visit_unit<E: Error>(self) -> Result<V::Value, E> {
        if let Shape::Arguments { names } = self.shape {
            // A unit stands for no arguments.
            let read = self.inner.visit_seq(arguments::Nothing);
            return arguments::all_taken(read, names, || Ok(false)).map_err(|fault| self.reading.stash(fault));
        }
        self.inner.visit_unit().map_err(|fault| self.reading.stash(fault))
    }

    fn visit_some<D: Deserializer<'de>>(self, inner: D) -> Result<V::Value, D::Error> {
        self.below(Level::Wrapper, Some(Kind::Byte), |visitor, reading| {
            reading.counts.begin_value(0);
            visitor.visit_some(Reader { inner, reading, role: Role::Value })
        })
    }

    fn visit_newtype_struct<D: Deserializer<'de>>(self, inner: D) -> Result<V::Value, D::Error> {
        let role = match self.shape {
            Shape::Key => Role::Field,
            Shape::Variant => Role::Variant,
            _ => Role::Value,
        };
        self.below(Level::Wrapper, None, |visitor, reading| {
            reading.counts.begin_value(0);
            visitor.visit_newtype_struct(Reader { inner, reading, role })
        })
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut inner: A) -> Result<V::Value, A::Error> {
        let shape = self.shape;
        let length = if let Shape::List = shape { Some(Kind::Length) } else { None };
        let (count, filled) = (Cell::new(0), RefCell::new(Vec::new()));
        self.below(Level::Compound, length, |visitor, reading| {
            let value =
                visitor.visit_seq(Elements { inner: &mut inner, reading, shape, count: &count, filled: &filled });
            match shape {
                Shape::Arguments { names } => arguments::all_taken(value, names, || {
                    let more = inner.next_element_seed(Seed { inner: PhantomData::<IgnoredAny>, reading });
                    more.map(|more| more.is_some()).map_err(|error| reading.recover(error))
                }),
                _ => {
                    if value.is_ok() {
                        reading.note_fields(shape, &count, &filled);
                    }
                    value
                }
            }
        })
    }

    fn visit_map<A: MapAccess<'de>>(self, inner: A) -> Result<V::Value, A::Error> {
        let shape = self.shape;
        self.below(Level::Compound, Some(Kind::Length), |visitor, reading| {
            visitor.visit_map(Entries { inner, reading, shape, index: 0, field: None, before: Before::default() })
        })
    }

    fn visit_enum<A: EnumAccess<'de>>(self, inner: A) -> Result<V::Value, A::Error> {
        let Self { inner: visitor, reading, shape } = self;
        let of = if let Shape::Enum(of) = shape { of } else { Enum::default() };
        visitor.visit_enum(Variants { inner, reading, of }).map_err(|fault| reading.stash(fault))
    }
}

impl<'r, V> Watched<'r, V> {
    /// Runs a closure one level deeper, after a piece that declares the number of parts.
    fn below<R, E: Error>(
        self,
        level: Level,
        piece: Option<Kind>,
        run: impl FnOnce(V, &'r Reading<'r>) -> Result<R, Fault>,
    ) -> Result<R, E> {
        let Self { inner, reading, .. } = self;
        // The tag of `Some` is 1.
        let counted = piece.map_or(Ok(()), |kind| reading.count(kind, 1, kind == Kind::Byte));
        let result = counted.and_then(|()| reading.counts.descend(level)).and_then(|below| {
            let result = run(inner, reading);
            reading.counts.ascend(below);
            result
        });
        result.map_err(|fault| reading.stash(fault))
    }
}
