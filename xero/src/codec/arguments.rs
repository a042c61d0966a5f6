//! The arguments of a method. The last ones may be missing if they are optional.

use serde::de::{DeserializeSeed, Deserializer, Error, SeqAccess, Visitor, value::Error as NotThere};

use super::fault::{Fault, Reason};

/// The name of the newtype for an argument with a default; a reader of missing arguments recognizes it.
pub(crate) const DEFAULTED: &str = "$xero::Defaulted";

/// Names the first missing argument in a fault, if one is missing.
pub(super) fn name_missing(fault: Fault, names: &[&str]) -> Fault {
    match fault.reason() {
        Reason::Length { length, .. } if fault.depth() == 0 && *length < names.len() => {
            let missing = names[*length].to_owned();
            fault.map_reason(|_| Reason::Missing(missing))
        }
        _ => fault,
    }
}

/// The fault for more arguments than these.
pub(super) fn too_many(names: &[&str]) -> Fault {
    Fault::rule(too_many_text(names))
}

pub(super) fn too_many_text(names: &[&str]) -> String {
    match names.len() {
        0 => "the method takes no arguments, but some were given".to_owned(),
        1 => "the method takes one argument, but more were given".to_owned(),
        count => format!("the method takes {count} arguments, but more were given"),
    }
}

/// An empty list of arguments.
pub(super) struct Nothing;

impl<'de> SeqAccess<'de> for Nothing {
    type Error = Fault;

    fn next_element_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, Fault> {
        Ok(seed.deserialize(Absent::ARGUMENT).ok())
    }
}

/// The value of a missing argument: `None` for an `Option`, and the value itself for a type that takes no bytes.
pub(super) struct Absent {
    takes_none: bool,
}

impl Absent {
    pub(super) const ARGUMENT: Self = Self { takes_none: true };
    const PART: Self = Self { takes_none: false };
}

fn nothing<T>() -> Result<T, NotThere> {
    Err(NotThere::custom("nothing is there"))
}

impl<'de> Deserializer<'de> for Absent {
    type Error = NotThere;

    fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, NotThere> {
        nothing()
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, NotThere> {
        if self.takes_none { visitor.visit_none() } else { nothing() }
    }

    fn deserialize_unit<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, NotThere> {
        visitor.visit_unit()
    }

    fn deserialize_unit_struct<V: Visitor<'de>>(self, _: &'static str, visitor: V) -> Result<V::Value, NotThere> {
        visitor.visit_unit()
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, name: &'static str, visitor: V) -> Result<V::Value, NotThere> {
        if name == DEFAULTED { nothing() } else { visitor.visit_newtype_struct(Self::PART) }
    }

    fn deserialize_tuple<V: Visitor<'de>>(self, length: usize, visitor: V) -> Result<V::Value, NotThere> {
        visitor.visit_seq(AbsentParts(length))
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        length: usize,
        visitor: V,
    ) -> Result<V::Value, NotThere> {
        visitor.visit_seq(AbsentParts(length))
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, NotThere> {
        visitor.visit_seq(AbsentParts(fields.len()))
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf seq map enum identifier
        ignored_any
    }
}

struct AbsentParts(usize);

impl<'de> SeqAccess<'de> for AbsentParts {
    type Error = NotThere;

    fn next_element_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, NotThere> {
        match self.0.checked_sub(1) {
            None => Ok(None),
            Some(left) => {
                self.0 = left;
                seed.deserialize(Absent::PART).map(Some)
            }
        }
    }
}
