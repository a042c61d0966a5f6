//! Asks what a type is where generated code knows it, so that an alias of `Vec<u8>` is bytes as well.
//!
//! An associated constant of a type precedes one of a trait: [`Probe`] answers for the types that it knows, and
//! [`Ordinary`] for all others. [`Choose`] and [`Lend`] turn the answer into a type.

use std::{
    borrow::{Borrow, Cow},
    marker::PhantomData,
    sync::Arc,
};

use bytes::{Bytes, BytesMut};
use serde::{Serialize, de::DeserializeOwned};

use super::{Form, Plain};

/// Knows some types by their associated constants; never a value.
#[derive(Debug)]
pub struct Probe<T: ?Sized>(PhantomData<T>);

macro_rules! bytes {
    ($([$($parameter:tt)*] $type:ty;)*) => {
        $(impl<$($parameter)*> Probe<$type> {
            /// It is bytes.
            pub const BYTES: bool = true;
        })*
    };
}

bytes! {
    [] Vec<u8>;
    [] [u8];
    [] Box<[u8]>;
    [] Cow<'_, [u8]>;
    [] Arc<[u8]>;
    [] Bytes;
    [] BytesMut;
    [const N: usize] [u8; N];
}

macro_rules! standard {
    ($([$($parameter:tt)*] $type:ty;)*) => {
        $(impl<$($parameter)*> Probe<$type> {
            /// It is the standard type of that name, and has its own marker.
            pub const STANDARD: bool = true;
        })*
    };
}

standard! {
    [T] Option<T>;
    [T, E] Result<T, E>;
    [T] Vec<T>;
    [T] [T];
}

impl<T> Probe<T> {
    /// It has a size, so that it is its own owned form.
    pub const SIZED: bool = true;
}

impl<T: Serialize + DeserializeOwned> Probe<T> {
    /// It has serde.
    pub const TRAVELS: bool = true;
}

/// Answers for the types that [`Probe`] does not know.
pub trait Ordinary {
    /// It is not bytes.
    const BYTES: bool = false;
    /// It has no marker of its own.
    const STANDARD: bool = false;
    /// It has no size: it is lent from its owned form.
    const SIZED: bool = false;
    /// It has no serde, or not both halves.
    const TRAVELS: bool = false;
}

impl<T: ?Sized> Ordinary for Probe<T> {}

/// `M` where there are bytes, else `N`.
pub type Chosen<const BYTES: bool, M, N = Plain> = <Choose<BYTES> as Choice>::Of<M, N>;

/// Carries the answer to whether there are bytes.
#[derive(Debug)]
pub struct Choose<const BYTES: bool>;

/// Turns the answer into a marker.
pub trait Choice {
    /// The marker: `M` or `N`.
    type Of<M: Form, N: Form>: Form;
}

impl Choice for Choose<true> {
    type Of<M: Form, N: Form> = M;
}

impl Choice for Choose<false> {
    type Of<M: Form, N: Form> = N;
}

/// Carries the answer to whether a type has a size.
#[derive(Debug)]
pub struct Lend<const SIZED: bool>;

/// The type that a worker decodes for an argument `&T`, and lends it from.
pub trait Lending<T: ?Sized> {
    /// `T` where it has a size, else its owned form: `PathBuf` for `Path`.
    type Owned;

    /// Lends the argument.
    fn lend(owned: &Self::Owned) -> &T;
}

impl<T> Lending<T> for Lend<true> {
    type Owned = T;

    fn lend(owned: &T) -> &T {
        owned
    }
}

impl<T: ToOwned + ?Sized> Lending<T> for Lend<false> {
    type Owned = T::Owned;

    fn lend(owned: &T::Owned) -> &T {
        owned.borrow()
    }
}
