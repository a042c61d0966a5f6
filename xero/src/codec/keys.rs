//! A deserializer that notes the name of a field while it is read.

use std::{cell::RefCell, fmt};

use serde::de::{Deserializer, Error, Visitor};

/// Reads a field's name, whatever is asked for.
pub(super) struct Noting<'n, D> {
    inner: D,
    note: &'n RefCell<String>,
}

impl<'n, D> Noting<'n, D> {
    /// Notes the name in place of what was noted before.
    pub(super) fn new(inner: D, note: &'n RefCell<String>) -> Self {
        note.borrow_mut().clear();
        Self { inner, note }
    }
}

impl<'de, D: Deserializer<'de>> Deserializer<'de> for Noting<'_, D> {
    type Error = D::Error;

    fn deserialize_any<V: Visitor<'de>>(self, inner: V) -> Result<V::Value, D::Error> {
        self.inner.deserialize_identifier(NotingVisitor { inner, note: self.note })
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit unit_struct
        newtype_struct seq tuple tuple_struct map struct enum identifier ignored_any
    }

    fn is_human_readable(&self) -> bool {
        self.inner.is_human_readable()
    }
}

struct NotingVisitor<'n, V> {
    inner: V,
    note: &'n RefCell<String>,
}

impl<'de, V: Visitor<'de>> Visitor<'de> for NotingVisitor<'_, V> {
    type Value = V::Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.expecting(f)
    }

    fn visit_str<E: Error>(self, name: &str) -> Result<V::Value, E> {
        self.note.borrow_mut().push_str(name);
        self.inner.visit_str(name)
    }

    fn visit_borrowed_str<E: Error>(self, name: &'de str) -> Result<V::Value, E> {
        self.note.borrow_mut().push_str(name);
        self.inner.visit_borrowed_str(name)
    }

    fn visit_string<E: Error>(self, name: String) -> Result<V::Value, E> {
        self.note.borrow_mut().push_str(&name);
        self.inner.visit_string(name)
    }

    // Fields may be numbered.
    fn visit_u64<E: Error>(self, number: u64) -> Result<V::Value, E> {
        self.inner.visit_u64(number)
    }

    fn visit_bytes<E: Error>(self, name: &[u8]) -> Result<V::Value, E> {
        self.inner.visit_bytes(name)
    }
}
