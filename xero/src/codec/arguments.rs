//! The arguments of a method, which may be fewer than it has: what is missing at the end may be left out.

use std::marker::PhantomData;

use serde::de::{DeserializeOwned, DeserializeSeed, Deserializer, Error, SeqAccess, Visitor, value::Error as Nothing};

use super::{
    fault::{Fault, Reason, Step},
    format::Concatenated,
    read::{Reading, Seed},
};

/// The name of the newtype that has a default of its own, which is known when nothing is there.
pub(crate) const DEFAULTED: &str = "$xero::Defaulted";

/// Reads arguments that are written one after the other.
pub(super) fn read_in_turn<F: Concatenated, A: DeserializeOwned>(bytes: &[u8]) -> Result<A, Fault> {
    let reading = Reading::new(F::TRAITS);
    A::deserialize(InTurn::<F> { rest: bytes, reading: &reading, format: PhantomData })
}

struct InTurn<'r, 'de, F> {
    rest: &'de [u8],
    reading: &'r Reading<'r>,
    format: PhantomData<F>,
}

impl<'de, F: Concatenated> Deserializer<'de> for InTurn<'_, 'de, F> {
    type Error = Fault;

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        names: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Fault> {
        let Self { mut rest, reading, .. } = self;
        let access = Arguments::<F> { rest: &mut rest, reading, names, index: 0, format: PhantomData };
        all_taken(visitor.visit_seq(access), names, || Ok(!rest.is_empty()))
    }

    fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Fault> {
        Err(Fault::rule("arguments are a struct"))
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit unit_struct
        newtype_struct seq tuple tuple_struct map enum identifier ignored_any
    }
}

struct Arguments<'r, 'a, 'de, F> {
    rest: &'a mut &'de [u8],
    reading: &'r Reading<'r>,
    names: &'static [&'static str],
    index: usize,
    format: PhantomData<F>,
}

impl<'de, F: Concatenated> SeqAccess<'de> for Arguments<'_, '_, 'de, F> {
    type Error = Fault;

    fn next_element_seed<S: DeserializeSeed<'de>>(&mut self, inner: S) -> Result<Option<S::Value>, Fault> {
        let Some(name) = self.names.get(self.index) else { return Ok(None) };
        self.index += 1;
        if self.rest.is_empty() {
            return Ok(inner.deserialize(Absent::ARGUMENT).ok());
        }
        let read = F::read_first(Seed { inner, reading: self.reading }, self.rest);
        let (value, rest) = read.map_err(|error| self.reading.recover(error).at(Step::Field(name)))?;
        *self.rest = rest;
        Ok(Some(value))
    }
}

/// Arguments that were read, if there are no more of them; names the first that is missing.
pub(super) fn all_taken<T>(
    read: Result<T, Fault>,
    names: &[&str],
    are_there_more: impl FnOnce() -> Result<bool, Fault>,
) -> Result<T, Fault> {
    match read {
        Ok(arguments) if !are_there_more()? => Ok(arguments),
        Ok(_) => Err(Fault::rule(match names.len() {
            0 => "the method takes no arguments, and there are some".to_owned(),
            1 => "the method takes one argument, and there are more".to_owned(),
            count => format!("the method takes {count} arguments, and there are more"),
        })),
        Err(fault) => Err(fault.map_reason(|reason| match reason {
            Reason::Length { length, .. } if length < names.len() => Reason::Missing(names[length].to_owned()),
            other => other,
        })),
    }
}

/// Where an argument should be, and nothing is there: an `Option` is `None` then, and what takes no bytes is there.
pub(super) struct Absent {
    takes_none: bool,
}

impl Absent {
    pub(super) const ARGUMENT: Self = Self { takes_none: true };
    const PART: Self = Self { takes_none: false };
}

fn nothing<T>() -> Result<T, Nothing> {
    Err(Nothing::custom("nothing is there"))
}

impl<'de> Deserializer<'de> for Absent {
    type Error = Nothing;

    fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Nothing> {
        nothing()
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Nothing> {
        if self.takes_none { visitor.visit_none() } else { nothing() }
    }

    fn deserialize_unit<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Nothing> {
        visitor.visit_unit()
    }

    fn deserialize_unit_struct<V: Visitor<'de>>(self, _: &'static str, visitor: V) -> Result<V::Value, Nothing> {
        visitor.visit_unit()
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, name: &'static str, visitor: V) -> Result<V::Value, Nothing> {
        if name == DEFAULTED { nothing() } else { visitor.visit_newtype_struct(Self::PART) }
    }

    fn deserialize_tuple<V: Visitor<'de>>(self, length: usize, visitor: V) -> Result<V::Value, Nothing> {
        visitor.visit_seq(AbsentParts(length))
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        length: usize,
        visitor: V,
    ) -> Result<V::Value, Nothing> {
        visitor.visit_seq(AbsentParts(length))
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Nothing> {
        visitor.visit_seq(AbsentParts(fields.len()))
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf seq map enum identifier
        ignored_any
    }
}

struct AbsentParts(usize);

impl<'de> SeqAccess<'de> for AbsentParts {
    type Error = Nothing;

    fn next_element_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, Nothing> {
        match self.0.checked_sub(1) {
            None => Ok(None),
            Some(left) => {
                self.0 = left;
                seed.deserialize(Absent::PART).map(Some)
            }
        }
    }
}
