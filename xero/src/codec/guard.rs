//! A deserializer around another one that bounds what a few hostile bytes can cost.
//!
//! bincode believes a declared number of elements, and elements of no size (`()`, an empty struct) take no bytes: a
//! `Vec<()>` of 2^40 would keep a thread busy for an hour. And a recursive type takes one byte a level, until the stack
//! is gone and the process with it. Neither is caught by bincode's own limit, which counts bytes.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, EnumAccess, Error, MapAccess, SeqAccess, VariantAccess, Visitor};

/// Values within values: more than any data needs, and few enough for the smallest stack.
pub(super) const DEPTH_MAX: usize = 128;

/// What decoding may still do.
#[derive(Debug)]
pub(super) struct Budget {
    elements: usize,
    depth: usize,
}

impl Budget {
    /// For a payload of that size: each element of a sequence or map should take a byte or more, give or take some.
    pub(super) fn new(payload_bytes: usize) -> Self {
        Self { elements: payload_bytes.saturating_add(1024), depth: DEPTH_MAX }
    }

    fn take_element<E: Error>(&mut self) -> Result<(), E> {
        self.elements = self.elements.checked_sub(1).ok_or_else(|| E::custom("more elements than bytes"))?;
        Ok(())
    }
}

/// Forwards to a deserializer, visitor, seed or access, and keeps to the budget.
pub(super) struct Guarded<'b, T> {
    pub(super) inner: T,
    pub(super) budget: &'b mut Budget,
}

impl<'b, T> Guarded<'b, T> {
    /// Runs something one level deeper.
    fn deeper<R, E: Error>(self, run: impl FnOnce(T, &mut Budget) -> Result<R, E>) -> Result<R, E> {
        let Self { inner, budget } = self;
        budget.depth = budget.depth.checked_sub(1).ok_or_else(|| E::custom("values are nested too deeply"))?;
        let result = run(inner, budget);
        budget.depth += 1;
        result
    }
}

macro_rules! forward {
    ($($method:ident($($argument:ident: $type:ty),*);)*) => {
        $(fn $method<V: Visitor<'de>>(self, $($argument: $type,)* visitor: V) -> Result<V::Value, D::Error> {
            self.inner.$method($($argument,)* Guarded { inner: visitor, budget: self.budget })
        })*
    };
}

impl<'de, D: Deserializer<'de>> Deserializer<'de> for Guarded<'_, D> {
    type Error = D::Error;

    forward! {
        deserialize_any(); deserialize_bool(); deserialize_i8(); deserialize_i16(); deserialize_i32();
        deserialize_i64(); deserialize_i128(); deserialize_u8(); deserialize_u16(); deserialize_u32();
        deserialize_u64(); deserialize_u128(); deserialize_f32(); deserialize_f64(); deserialize_char();
        deserialize_str(); deserialize_string(); deserialize_bytes(); deserialize_byte_buf(); deserialize_option();
        deserialize_unit(); deserialize_seq(); deserialize_map(); deserialize_identifier();
        deserialize_ignored_any(); deserialize_tuple(len: usize);
        deserialize_unit_struct(name: &'static str); deserialize_newtype_struct(name: &'static str);
        deserialize_tuple_struct(name: &'static str, len: usize);
        deserialize_struct(name: &'static str, fields: &'static [&'static str]);
        deserialize_enum(name: &'static str, variants: &'static [&'static str]);
    }

    fn is_human_readable(&self) -> bool {
        self.inner.is_human_readable()
    }
}

macro_rules! forward_values {
    ($($method:ident: $type:ty),*) => {
        $(fn $method<E: Error>(self, value: $type) -> Result<V::Value, E> {
            self.inner.$method(value)
        })*
    };
}

impl<'de, V: Visitor<'de>> Visitor<'de> for Guarded<'_, V> {
    type Value = V::Value;

    forward_values! {
        visit_bool: bool, visit_i8: i8, visit_i16: i16, visit_i32: i32, visit_i64: i64, visit_i128: i128,
        visit_u8: u8, visit_u16: u16, visit_u32: u32, visit_u64: u64, visit_u128: u128, visit_f32: f32,
        visit_f64: f64, visit_char: char, visit_str: &str, visit_borrowed_str: &'de str, visit_string: String,
        visit_bytes: &[u8], visit_borrowed_bytes: &'de [u8], visit_byte_buf: Vec<u8>
    }

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.expecting(f)
    }

    fn visit_none<E: Error>(self) -> Result<V::Value, E> {
        self.inner.visit_none()
    }

    fn visit_unit<E: Error>(self) -> Result<V::Value, E> {
        self.inner.visit_unit()
    }

    fn visit_some<D: Deserializer<'de>>(self, inner: D) -> Result<V::Value, D::Error> {
        self.deeper(|visitor, budget| visitor.visit_some(Guarded { inner, budget }))
    }

    fn visit_newtype_struct<D: Deserializer<'de>>(self, inner: D) -> Result<V::Value, D::Error> {
        self.deeper(|visitor, budget| visitor.visit_newtype_struct(Guarded { inner, budget }))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, inner: A) -> Result<V::Value, A::Error> {
        self.deeper(|visitor, budget| visitor.visit_seq(Guarded { inner, budget }))
    }

    fn visit_map<A: MapAccess<'de>>(self, inner: A) -> Result<V::Value, A::Error> {
        self.deeper(|visitor, budget| visitor.visit_map(Guarded { inner, budget }))
    }

    fn visit_enum<A: EnumAccess<'de>>(self, inner: A) -> Result<V::Value, A::Error> {
        self.deeper(|visitor, budget| visitor.visit_enum(Guarded { inner, budget }))
    }
}

impl<'de, S: DeserializeSeed<'de>> DeserializeSeed<'de> for Guarded<'_, S> {
    type Value = S::Value;

    fn deserialize<D: Deserializer<'de>>(self, inner: D) -> Result<S::Value, D::Error> {
        self.inner.deserialize(Guarded { inner, budget: self.budget })
    }
}

impl<'de, A: SeqAccess<'de>> SeqAccess<'de> for Guarded<'_, A> {
    type Error = A::Error;

    fn next_element_seed<S: DeserializeSeed<'de>>(&mut self, inner: S) -> Result<Option<S::Value>, A::Error> {
        self.budget.take_element()?;
        self.inner.next_element_seed(Guarded { inner, budget: self.budget })
    }

    fn size_hint(&self) -> Option<usize> {
        self.inner.size_hint()
    }
}

impl<'de, A: MapAccess<'de>> MapAccess<'de> for Guarded<'_, A> {
    type Error = A::Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, inner: K) -> Result<Option<K::Value>, A::Error> {
        self.budget.take_element()?;
        self.inner.next_key_seed(Guarded { inner, budget: self.budget })
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, inner: S) -> Result<S::Value, A::Error> {
        self.inner.next_value_seed(Guarded { inner, budget: self.budget })
    }

    fn size_hint(&self) -> Option<usize> {
        self.inner.size_hint()
    }
}

impl<'de, 'b, A: EnumAccess<'de>> EnumAccess<'de> for Guarded<'b, A> {
    type Error = A::Error;
    type Variant = Guarded<'b, A::Variant>;

    fn variant_seed<S: DeserializeSeed<'de>>(self, inner: S) -> Result<(S::Value, Self::Variant), A::Error> {
        let Self { inner: access, budget } = self;
        let (value, variant) = access.variant_seed(Guarded { inner, budget: &mut *budget })?;
        Ok((value, Guarded { inner: variant, budget }))
    }
}

impl<'de, A: VariantAccess<'de>> VariantAccess<'de> for Guarded<'_, A> {
    type Error = A::Error;

    fn unit_variant(self) -> Result<(), A::Error> {
        self.inner.unit_variant()
    }

    fn newtype_variant_seed<S: DeserializeSeed<'de>>(self, inner: S) -> Result<S::Value, A::Error> {
        self.inner.newtype_variant_seed(Guarded { inner, budget: self.budget })
    }

    fn tuple_variant<V: Visitor<'de>>(self, len: usize, inner: V) -> Result<V::Value, A::Error> {
        self.inner.tuple_variant(len, Guarded { inner, budget: self.budget })
    }

    fn struct_variant<V: Visitor<'de>>(self, fields: &'static [&'static str], inner: V) -> Result<V::Value, A::Error> {
        self.inner.struct_variant(fields, Guarded { inner, budget: self.budget })
    }
}
