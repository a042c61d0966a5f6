//! Formats that write only values, one after the other. Arguments are read one by one, so that their end shows.

use std::marker::PhantomData;

use serde::de::{DeserializeOwned, DeserializeSeed, Deserializer, SeqAccess, Visitor};

use super::{
    arguments::{Absent, name_missing, too_many_text},
    error::What,
    fault::{Fault, Step},
    format::{Format, Traits},
    read::{Reading, Seed},
};

/// A format whose structs are their fields one after the other, without a length or separator.
pub(super) trait Concatenated: Format {
    /// Reads a value from the start of the bytes, and returns the rest of them.
    fn read_first<'de, S: DeserializeSeed<'de>>(seed: S, bytes: &'de [u8]) -> Result<(S::Value, &'de [u8]), String>;
}

impl Traits {
    /// The traits of a format that writes only values.
    pub(super) const BARE: Self = Self {
        is_self_describing: false,
        none_is_unit: false,
        unit_structs_are_unit: false,
        takes_every_float: true,
        narrows_integers: false,
        floats_are_texts: false,
        writes_lengths: true,
        explain: |text| text,
    };
}

/// The value, if nothing follows it.
pub(super) fn without_rest<T>((value, rest): (T, &[u8])) -> Result<T, String> {
    match rest.len() {
        0 => Ok(value),
        1 => Err("one byte is left over".to_owned()),
        count => Err(format!("{count} bytes are left over")),
    }
}

/// Reads arguments that are written one after the other: `count` of them, if known.
pub(super) fn read_arguments<F: Concatenated, A: DeserializeOwned>(
    bytes: &[u8],
    count: Option<usize>,
) -> Result<A, Fault> {
    let reading = Reading::new(F::TRAITS, What::Value);
    A::deserialize(InTurn::<F> { rest: bytes, count, reading: &reading, format: PhantomData })
}

/// The fault for bytes behind these arguments, which do not mark where one ends. `sent` is their number, if known.
pub(super) fn left_over(names: &[&str], sent: Option<usize>) -> Fault {
    let is_another_type = sent.is_some_and(|sent| sent <= names.len());
    Fault::library(match names {
        [] => too_many_text(names),
        [name] if is_another_type => format!("bytes are left over: the argument `{name}` has another type"),
        _ if is_another_type => "bytes are left over: an argument has another type".to_owned(),
        _ => format!("bytes are left over: {}, or one has another type", too_many_text(names)),
    })
}

struct InTurn<'r, 'de, F> {
    rest: &'de [u8],
    count: Option<usize>,
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
        let Self { mut rest, count, reading, .. } = self;
        let access = Arguments::<F> { rest: &mut rest, count, reading, names, index: 0, format: PhantomData };
        match visitor.visit_seq(access) {
            Ok(arguments) if rest.is_empty() => Ok(arguments),
            Ok(_) => Err(left_over(names, count)),
            Err(fault) => Err(name_missing(fault, names)),
        }
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
    count: Option<usize>,
    reading: &'r Reading<'r>,
    names: &'static [&'static str],
    index: usize,
    format: PhantomData<F>,
}

impl<'de, F: Concatenated> SeqAccess<'de> for Arguments<'_, '_, 'de, F> {
    type Error = Fault;

    fn next_element_seed<S: DeserializeSeed<'de>>(&mut self, inner: S) -> Result<Option<S::Value>, Fault> {
        let Some(name) = self.names.get(self.index) else { return Ok(None) };
        let is_sent = self.count.map_or(!self.rest.is_empty(), |count| self.index < count);
        self.index += 1;
        if !is_sent {
            return Ok(inner.deserialize(Absent::ARGUMENT).ok());
        }
        let read = F::read_first(Seed { inner, reading: self.reading }, self.rest);
        let (value, rest) = read.map_err(|error| self.reading.recover(error).at(Step::Field(name)))?;
        *self.rest = rest;
        Ok(Some(value))
    }
}
