//! How the types of a method travel: generated code chooses markers, so that bytes travel as bytes.
//!
//! serde writes a `Vec<u8>` as a sequence of numbers. A marker beside the type says that it is bytes (`PROTOCOL.md`
//! §7): [`Blob`] for bytes, [`Opt`], [`Res`], [`List`] and tuples of markers for types that contain bytes, [`Plain`]
//! for the rest.

mod blob;
mod choice;
mod defaulted;
mod frame;
mod shapes;

use std::{fmt, marker::PhantomData};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::DeserializeOwned};

use self::shapes::wrapped;
pub use self::{
    blob::Blob,
    choice::{Chosen, Lend, Lending, Ordinary, Probe},
    defaulted::Defaulted,
    shapes::{List, Opt, Res},
};
use crate::{
    codec::{self, CodecError},
    proto::message::{Codec, Payload},
};

/// How a value of type `T` is written; a marker, never a value.
pub trait Wire<T: ?Sized> {
    /// Writes the value.
    ///
    /// # Errors
    /// Those of the serializer and of the value.
    fn write<S: Serializer>(value: &T, serializer: S) -> Result<S::Ok, S::Error>;
}

/// How a value of type `T` is read.
pub trait WireOwned<T>: Wire<T> {
    /// Reads a value.
    ///
    /// # Errors
    /// When the input does not encode such a value.
    fn read<'de, D: Deserializer<'de>>(deserializer: D) -> Result<T, D::Error>;
}

/// Stands for a value in a serializer or deserializer.
///
/// [`Plain`] uses the value itself, the other markers a wrapper.
///
/// The types are associated instead of wrapped throughout, so that errors name a type without serde by its own name.
pub trait Form {
    /// Implements `Serialize`, where `Self` can write a `T`.
    type Lent<'a, T: ?Sized + 'a>;
    /// Implements `Deserialize`, where `Self` can read a `T`.
    type Owned<T>;

    /// Lends a value to a serializer.
    fn lend<T: ?Sized>(value: &T) -> Self::Lent<'_, T>;
    /// Lends the value that was read.
    fn borrow<T>(owned: &Self::Owned<T>) -> &T;
    /// Takes the value that was read.
    fn value<T>(owned: Self::Owned<T>) -> T;
}

/// A form in which both sides can handle a `T`.
///
/// Its diagnostic says in one sentence why a type cannot travel.
#[diagnostic::on_unimplemented(
    message = "`{T}` cannot travel: it needs serde's `Serialize` and `Deserialize`",
    label = "a type without serde",
    note = "for a type of your own write `#[derive(serde::Serialize, serde::Deserialize)]` above it; for one of another \
            crate see whether that has a feature `serde`"
)]
pub trait Carries<T> {
    /// The type that the codec reads.
    type Read: DeserializeOwned;

    /// Writes a value.
    ///
    /// # Errors
    /// As [`codec::encode_as`].
    fn encode(codec: Codec, value: &T) -> Result<Payload, CodecError>;

    /// The value in what was read.
    fn value(read: Self::Read) -> T;
}

#[diagnostic::do_not_recommend]
impl<M: Form, T: 'static> Carries<T> for M
where
    for<'a> M::Lent<'a, T>: Serialize,
    M::Owned<T>: Serialize + DeserializeOwned + 'static,
{
    type Read = M::Owned<T>;

    fn encode(codec: Codec, value: &T) -> Result<Payload, CodecError> {
        codec::encode_as::<M::Owned<T>, _>(codec, &M::lend(value))
    }

    fn value(read: M::Owned<T>) -> T {
        <M as Form>::value(read)
    }
}

/// An argument that a client writes: `Serialize`, with a better diagnostic for types without it.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot travel: it needs serde's `Serialize` and `Deserialize`",
    note = "for a type of your own write `#[derive(serde::Serialize, serde::Deserialize)]` above it; for one of another \
            crate see whether that has a feature `serde`"
)]
pub trait Written: Serialize {}

#[diagnostic::do_not_recommend]
impl<T: Serialize> Written for T {}

/// An argument that a worker reads: `Deserialize`, with a better diagnostic for types without it.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot travel: it needs serde's `Serialize` and `Deserialize`",
    note = "for a type of your own write `#[derive(serde::Serialize, serde::Deserialize)]` above it; for one of another \
            crate see whether that has a feature `serde`"
)]
pub trait Read: DeserializeOwned {}

#[diagnostic::do_not_recommend]
impl<T: DeserializeOwned> Read for T {}

/// Requires that a `T` can travel in the form `M`.
///
/// The client and the trait state the requirement in the same words and at the same place, the user's type. So the
/// compiler reports it once.
pub const fn travels<M: Carries<T>, T>() {}

/// The form of an argument that cannot travel, which [`travels`] reports.
///
/// It meets every other requirement of a form, so that the compiler reports nothing else. No program that compiles has
/// a value of it.
#[derive(Debug)]
pub struct Stranded;

wrapped!(impl[] Form for Stranded);

impl<T: ?Sized> Wire<T> for Stranded {
    fn write<S: Serializer>(_: &T, _: S) -> Result<S::Ok, S::Error> {
        Err(serde::ser::Error::custom("a type without serde"))
    }
}

impl<T> WireOwned<T> for Stranded {
    fn read<'de, D: Deserializer<'de>>(_: D) -> Result<T, D::Error> {
        Err(serde::de::Error::custom("a type without serde"))
    }
}

/// Reads a value of the form `M`.
///
/// # Errors
/// As [`codec::decode`].
pub(crate) fn decode<M: Carries<T>, T>(payload: &Payload) -> Result<T, CodecError> {
    frame::with_frame(&payload.bytes, || codec::decode::<M::Read>(payload)).map(M::value)
}

/// Any type with serde, as serde writes it.
#[derive(Debug)]
pub struct Plain;

impl<T: Serialize + ?Sized> Wire<T> for Plain {
    fn write<S: Serializer>(value: &T, serializer: S) -> Result<S::Ok, S::Error> {
        value.serialize(serializer)
    }
}

impl<T: Serialize + DeserializeOwned> WireOwned<T> for Plain {
    fn read<'de, D: Deserializer<'de>>(deserializer: D) -> Result<T, D::Error> {
        T::deserialize(deserializer)
    }
}

impl Form for Plain {
    type Lent<'a, T: ?Sized + 'a> = &'a T;
    type Owned<T> = T;

    fn lend<T: ?Sized>(value: &T) -> &T {
        value
    }

    fn borrow<T>(owned: &T) -> &T {
        owned
    }

    fn value<T>(owned: T) -> T {
        owned
    }
}

/// A value to be written in the form `M`.
pub struct Ref<'a, M, T: ?Sized>(&'a T, PhantomData<fn() -> M>);

impl<'a, M, T: ?Sized> Ref<'a, M, T> {
    /// Wraps the value.
    pub fn new(value: &'a T) -> Self {
        Self(value, PhantomData)
    }
}

impl<M: Wire<T>, T: ?Sized> Serialize for Ref<'_, M, T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        M::write(self.0, serializer)
    }
}

impl<M, T: ?Sized + fmt::Debug> fmt::Debug for Ref<'_, M, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A value that was read in the form `M`.
pub struct Own<M, T>(pub(crate) T, PhantomData<fn() -> M>);

impl<M, T> Own<M, T> {
    /// Wraps the value.
    pub fn new(value: T) -> Self {
        Self(value, PhantomData)
    }
}

impl<'de, M: WireOwned<T>, T> Deserialize<'de> for Own<M, T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        M::read(deserializer).map(Self::new)
    }
}

impl<M: Wire<T>, T> Serialize for Own<M, T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        M::write(&self.0, serializer)
    }
}

impl<M, T: Default> Default for Own<M, T> {
    fn default() -> Self {
        Self::new(T::default())
    }
}

impl<M, T: fmt::Debug> fmt::Debug for Own<M, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Reads the arguments of a method; its caller knows the first `count`.
///
/// # Errors
/// As [`codec::decode_arguments`].
pub(crate) fn decode_arguments<A: DeserializeOwned>(payload: &Payload, count: Option<usize>) -> Result<A, CodecError> {
    frame::with_frame(&payload.bytes, || codec::decode_arguments(payload, count))
}
