//! An argument that a caller may leave out: `#[xero(default)]`.

use std::{fmt, marker::PhantomData};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Visitor, ser::Error};

use crate::codec;

/// An argument with a default of the worker's.
#[derive(Debug, Default)]
pub enum Defaulted<T> {
    /// The caller has left it out.
    #[default]
    Missing,
    /// The caller has sent it.
    Given(T),
}

impl<T> Defaulted<T> {
    /// The sent value, which `read` takes out of its form, or else the default.
    pub fn resolve<V>(self, read: impl FnOnce(T) -> V, default: impl FnOnce() -> V) -> V {
        match self {
            Self::Missing => default(),
            Self::Given(value) => read(value),
        }
    }

    /// The same with the default of the type.
    pub fn resolve_or_default<V: Default>(self, read: impl FnOnce(T) -> V) -> V {
        self.resolve(read, V::default)
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Defaulted<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        // The name tells the codec that a missing value here is not a `None`.
        deserializer.deserialize_newtype_struct(codec::DEFAULTED, Inner(PhantomData)).map(Self::Given)
    }
}

struct Inner<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for Inner<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_newtype_struct<D: Deserializer<'de>>(self, deserializer: D) -> Result<T, D::Error> {
        T::deserialize(deserializer)
    }
}

impl<T: Serialize> Serialize for Defaulted<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Missing => Err(S::Error::custom("a client leaves no argument out")),
            Self::Given(value) => value.serialize(serializer),
        }
    }
}
