//! A deserializer around a format's own one. It bounds what a few hostile bytes can cost, and knows the place of an
//! error.
//!
//! Formats trust a declared number of elements, and elements of no size (`()`, an empty struct) take no bytes: a
//! `Vec<()>` of 2^40 would keep a thread busy for an hour. And a recursive type takes one byte a level, until the stack
//! overflows and the process dies.

mod parts;
mod reading;
mod shape;

use std::{
    any,
    cell::{Cell, RefCell},
    fmt,
    marker::PhantomData,
};

use serde::de::{DeserializeSeed, Deserializer, EnumAccess, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};

pub(super) use self::reading::Reading;
use self::{
    parts::{Elements, Entries, Variants},
    shape::{Enum, Shape},
};
use super::{
    arguments,
    fault::{Fault, Reason, or_fault},
    names::Named,
    notes::Kind,
    state::{Before, Level},
    steps::is_derived,
};

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
        or_fault!(read, fault => reading.stash(fault.of_type::<S::Value>()))
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

/// Reads a value for a visitor, as a value of this shape.
///
/// A macro, as [`or_fault`] is: users' types make hundreds of visitors. It returns from the function if that fails before
/// anything is read.
macro_rules! read {
    ($reader:ident, $visitor:ident as $shape:expr, |$inner:ident, $watched:ident| $read:expr) => {{
        let (shape, Self { inner: $inner, reading, .. }) = ($shape, $reader);
        let large = match reading.prepare::<V>() {
            Ok(large) => large,
            Err(fault) => return Err(fault),
        };
        let $watched = Watched { inner: $visitor, reading, shape };
        let read = $read;
        reading.end(large);
        or_fault!(read, error => reading.recover(error))
    }};
}

impl<D> Reader<'_, D> {
    /// Reads whatever follows. A function of its own, so that the frame of its caller, which the estimate of a buffer's
    /// stack includes, stays small.
    fn read_any<'de, V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault>
    where
        D: Deserializer<'de>,
    {
        read!(self, visitor as self.leaf(), |inner, visitor| inner.deserialize_any(visitor))
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
            read!(self, visitor as self.leaf(), |inner, visitor| inner.$inner($($argument,)* visitor))
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
        read!(self, visitor as self.owned(), |inner, visitor| inner.deserialize_str(visitor))
    }

    fn deserialize_byte_buf<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        read!(self, visitor as self.owned(), |inner, visitor| inner.deserialize_bytes(visitor))
    }

    fn deserialize_tuple<V: Visitor<'de>>(self, length: usize, visitor: V) -> Result<V::Value, Fault> {
        read!(self, visitor as Shape::Parts(length), |inner, visitor| inner.deserialize_tuple(length, visitor))
    }

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        self.needs_names()?;
        let counts = &self.reading.counts;
        let before = counts.begin_buffer(any::type_name::<V>);
        let value = self.read_any(visitor);
        counts.end_buffer(before);
        value
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        self.needs_names()?;
        read!(self, visitor as self.leaf(), |inner, visitor| inner.deserialize_ignored_any(visitor))
    }

    fn deserialize_identifier<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        if self.role != Role::Variant {
            self.needs_names()?;
        }
        read!(self, visitor as self.leaf(), |inner, visitor| inner.deserialize_identifier(visitor))
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        read!(self, visitor as Shape::List, |inner, visitor| inner.deserialize_seq(visitor))
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        read!(self, visitor as Shape::Map, |inner, visitor| inner.deserialize_map(visitor))
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, name: &'static str, visitor: V) -> Result<V::Value, Fault> {
        if name == arguments::DEFAULTED {
            return visitor.visit_newtype_struct(self);
        }
        read!(self, visitor as self.leaf(), |inner, visitor| inner.deserialize_newtype_struct(name, visitor))
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Fault> {
        let reading = self.reading;
        let (start, shape) = (reading.counts.pieces(), reading.shape_of_struct(name, fields, is_derived::<V>));
        let read = read!(self, visitor as shape, |inner, visitor| inner.deserialize_struct(name, fields, visitor));
        or_fault!(read, fault => match shape {
            // It is generated: users know the argument and its type.
            Shape::Arguments { .. } => fault,
            _ => reading.blame(fault, start, Named::Struct(name)),
        })
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
        let read =
            read!(self, visitor as shape, |inner, visitor| inner.deserialize_tuple_struct(name, length, visitor));
        let checked = match (read, reading.check_tuple::<V>(of, length)) {
            (Ok(_), Err(fault)) => Err(fault),
            (read, _) => read,
        };
        or_fault!(checked, fault => reading.blame(fault, start, of))
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
        let read = read!(self, visitor as shape, |inner, visitor| inner.deserialize_enum(name, variants, visitor));
        or_fault!(read, fault => reading.blame(fault, start, Named::Struct(name)))
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
    ($($method:ident($value:ident: $type:ty), $kind:ident, $is_small:expr;)*) => {
        $(fn $method<E: Error>(self, $value: $type) -> Result<V::Value, E> {
            let Self { inner, reading, shape } = self;
            if let Err(fault) = reading.count_primitive(shape, Kind::$kind, $is_small) {
                return Err(reading.stash(fault));
            }
            or_fault!(inner.$method($value), fault => reading.stash(fault))
        })*
    };
}

macro_rules! texts {
    ($($method:ident: $type:ty;)*) => {
        $(fn $method<E: Error>(self, value: $type) -> Result<V::Value, E> {
            let Self { inner, reading, shape } = self;
            if let Err(fault) = reading.count_text(shape, &value) {
                return Err(reading.stash(fault));
            }
            let read = match shape {
                Shape::Owned => inner.visit_string(value.into()),
                _ => inner.$method(value),
            };
            or_fault!(read, fault => reading.stash(fault))
        })*
    };
}

macro_rules! bytes {
    ($($method:ident: $type:ty;)*) => {
        $(fn $method<E: Error>(self, value: $type) -> Result<V::Value, E> {
            let Self { inner, reading, shape } = self;
            if let Err(fault) = reading.count_bytes(value.len()) {
                return Err(reading.stash(fault));
            }
            let read = match shape {
                Shape::Owned => inner.visit_byte_buf(value.into()),
                _ => inner.$method(value),
            };
            or_fault!(read, fault => reading.stash(fault))
        })*
    };
}

/// Reads one level deeper, after a piece that declares the number of parts.
macro_rules! below {
    ($watched:ident, $level:expr, $piece:expr, |$visitor:ident, $reading:ident| $read:expr) => {{
        let Self { inner: $visitor, reading: $reading, .. } = $watched;
        let below = match $reading.descend($level, $piece) {
            Ok(below) => below,
            Err(fault) => return Err($reading.stash(fault)),
        };
        let read = $read;
        $reading.counts.ascend(below);
        or_fault!(read, fault => $reading.stash(fault))
    }};
}

impl<'de, V: Visitor<'de>> Visitor<'de> for Watched<'_, V> {
    type Value = V::Value;

    primitives! {
        visit_bool(value: bool), Byte, true;
        visit_i8(value: i8), SmallSigned, value >= 0;
        visit_i16(value: i16), Signed, false;
        visit_i32(value: i32), Signed, false;
        visit_i64(value: i64), Signed, false;
        visit_i128(value: i128), Signed, false;
        visit_u8(value: u8), Byte, value < 128;
        visit_u16(value: u16), Unsigned, value < 128;
        visit_u32(value: u32), Unsigned, value < 128;
        visit_u64(value: u64), Unsigned, value < 128;
        visit_u128(value: u128), Unsigned, value < 128;
        visit_f32(value: f32), F32, false;
        visit_f64(value: f64), F64, false;
        visit_char(value: char), Char, false;
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
        if let Err(fault) = reading.count(Kind::Byte, 1, true) {
            return Err(reading.stash(fault));
        }
        or_fault!(inner.visit_none(), fault => reading.stash(fault))
    }

    fn visit_unit<E: Error>(self) -> Result<V::Value, E> {
        let Self { inner, reading, shape } = self;
        let read = match shape {
            // A unit stands for no arguments.
            Shape::Arguments { .. } => inner.visit_seq(arguments::Nothing),
            _ => inner.visit_unit(),
        };
        or_fault!(read, fault => reading.stash(shape.explain(fault)))
    }

    fn visit_some<D: Deserializer<'de>>(self, inner: D) -> Result<V::Value, D::Error> {
        below!(self, Level::Wrapper, Some(Kind::Byte), |visitor, reading| {
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
        below!(self, Level::Wrapper, None, |visitor, reading| {
            reading.counts.begin_value(0);
            visitor.visit_newtype_struct(Reader { inner, reading, role })
        })
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut inner: A) -> Result<V::Value, A::Error> {
        let Self { inner: visitor, reading, shape } = self;
        let (count, filled) = (Cell::new(0), RefCell::new(Vec::new()));
        let below = match reading.descend(Level::Compound, shape.length()) {
            Ok(below) => below,
            Err(fault) => return Err(reading.stash(fault)),
        };
        let read = visitor.visit_seq(Elements { inner: &mut inner, reading, shape, count: &count, filled: &filled });
        let ended = match shape {
            _ if read.is_err() => Ok(()),
            Shape::Arguments { names } => refuse_more(&mut inner, reading, names),
            _ => {
                reading.note_fields(shape, &count, &filled);
                Ok(())
            }
        };
        reading.counts.ascend(below);
        if let Err(fault) = ended {
            return Err(reading.stash(fault));
        }
        or_fault!(read, fault => reading.stash(shape.explain(fault)))
    }

    fn visit_map<A: MapAccess<'de>>(self, inner: A) -> Result<V::Value, A::Error> {
        let shape = self.shape;
        below!(self, Level::Compound, Some(Kind::Length), |visitor, reading| {
            visitor.visit_map(Entries { inner, reading, shape, index: 0, field: None, before: Before::default() })
        })
    }

    fn visit_enum<A: EnumAccess<'de>>(self, inner: A) -> Result<V::Value, A::Error> {
        let Self { inner: visitor, reading, shape } = self;
        let of = if let Shape::Enum(of) = shape { of } else { Enum::default() };
        or_fault!(visitor.visit_enum(Variants { inner, reading, of }), fault => reading.stash(fault))
    }
}

/// Refuses more arguments than these.
fn refuse_more<'de, A: SeqAccess<'de>>(inner: &mut A, reading: &Reading<'_>, names: &[&str]) -> Result<(), Fault> {
    match inner.next_element_seed(Seed { inner: PhantomData::<IgnoredAny>, reading }) {
        Ok(None) => Ok(()),
        Ok(Some(_)) => Err(arguments::too_many(names)),
        Err(error) => Err(reading.recover(error)),
    }
}
