//! Values to payloads and back (`PROTOCOL.md` §7); knows no frames.

mod arguments;
#[cfg(any(feature = "bincode", feature = "postcard"))]
mod bare;
#[cfg(feature = "bincode")]
mod bincode;
mod error;
mod fault;
mod format;
#[cfg(feature = "json")]
mod json;
#[cfg(feature = "messagepack")]
mod messagepack;
mod names;
mod notes;
mod observed;
mod place;
#[cfg(feature = "postcard")]
mod postcard;
mod read;
mod roundtrip;
mod scratch;
mod state;
mod steps;
mod twin;
mod write;

#[cfg(not(any(feature = "bincode", feature = "messagepack", feature = "json", feature = "postcard")))]
compile_error!(
    "xero needs a codec: switch on at least one of its features `bincode`, `messagepack`, `json`, `postcard`"
);

use std::{any::type_name, marker::PhantomData};

use serde::{
    Serialize,
    de::{DeserializeOwned, DeserializeSeed},
};

pub(crate) use self::arguments::DEFAULTED;
pub use self::{
    error::CodecError,
    roundtrip::{assert_roundtrips, assert_roundtrips_in},
};
use self::{
    error::{Action, Carriers, What},
    fault::{Fault, or_fault},
    format::Format,
    place::{Node, Way},
    read::{Reading, Seed},
    write::{Checked, Writing},
};
use crate::proto::message::{Codec, Payload};

/// Runs an expression with `$format` as the codec's format; returns an error if this build lacks the codec.
macro_rules! with_format {
    ($codec:expr, $format:ident => $run:expr) => {
        match $codec {
            #[cfg(feature = "bincode")]
            Codec::Bincode => {
                type $format = self::bincode::Bincode;
                $run
            }
            #[cfg(feature = "messagepack")]
            Codec::MessagePack => {
                type $format = self::messagepack::MessagePack;
                $run
            }
            #[cfg(feature = "json")]
            Codec::Json => {
                type $format = self::json::Json;
                $run
            }
            #[cfg(feature = "postcard")]
            Codec::Postcard => {
                type $format = self::postcard::Postcard;
                $run
            }
            #[allow(unreachable_patterns)]
            absent => Err(absent_codec(absent)),
        }
    };
}

/// Writes a value whose reader's type is unknown: a partial reply, or a dynamic call's arguments. A mistake that the
/// type hides from its writer, such as `#[serde(untagged)]`, shows only when the value is read.
///
/// # Errors
/// When the value's `Serialize` fails, or the codec cannot carry it.
pub(crate) fn encode<T: Serialize + ?Sized>(codec: Codec, value: &T) -> Result<Payload, CodecError> {
    encode_half(codec, value, What::Value)
}

/// The same for arguments of a dynamic call: a tuple or list by position, or a map or struct by name.
///
/// # Errors
/// As [`encode`].
pub(crate) fn encode_dynamic_arguments<T: Serialize + ?Sized>(codec: Codec, value: &T) -> Result<Payload, CodecError> {
    encode_half(codec, value, What::Dynamic)
}

fn encode_half<T: Serialize + ?Sized>(codec: Codec, value: &T, what: What) -> Result<Payload, CodecError> {
    let written =
        with_format!(codec, F => write::<F, T>(value, &Writing::new(F::TRAITS, what, false), scratch::take()));
    match written {
        Ok(bytes) => Ok(Payload { codec, bytes: scratch::into_bytes(bytes) }),
        Err(fault) => Err(CodecError::new(type_name::<T>(), codec, Action::Write, what, fault)),
    }
}

/// Writes a value that is read as an `O`. The first value of each form is read back, so that a type whose two halves
/// disagree is refused here instead of misread there.
///
/// # Errors
/// When the value's `Serialize` fails, the codec cannot carry it, or the type cannot be read back.
pub(crate) fn encode_as<O, T>(codec: Codec, value: &T) -> Result<Payload, CodecError>
where
    O: Serialize + DeserializeOwned + 'static,
    T: Serialize + ?Sized,
{
    encode_twin::<O, T>(codec, value, What::Value)
}

/// The same for a method's arguments.
///
/// # Errors
/// As [`encode_as`]; the error names the argument.
pub(crate) fn encode_arguments<O, T>(codec: Codec, value: &T) -> Result<Payload, CodecError>
where
    O: Serialize + DeserializeOwned + 'static,
    T: Serialize + ?Sized,
{
    encode_twin::<O, T>(codec, value, What::Arguments)
}

fn encode_twin<O, T>(codec: Codec, value: &T, what: What) -> Result<Payload, CodecError>
where
    O: Serialize + DeserializeOwned + 'static,
    T: Serialize + ?Sized,
{
    let written = with_format!(codec, F => {
        let writing = Writing::new(F::TRAITS, what, false);
        match write::<F, T>(value, &writing, scratch::take()) {
            Ok(bytes) => match twin::check::<F, O, T>(value, what, &writing.observed()) {
                Ok(()) => Ok(bytes),
                Err(fault) => Err(fault),
            },
            Err(fault) => Err(fault),
        }
    });
    match written {
        Ok(bytes) => Ok(Payload { codec, bytes: scratch::into_bytes(bytes) }),
        Err(fault) => {
            let carriers = fault.asks_for_another_codec().then(|| carriers::<O, T>(codec, value, what));
            Err(CodecError::with_carriers(type_name::<O>(), codec, Action::Write, what, fault, carriers.as_ref()))
        }
    }
}

/// The codecs of this build that carry a value which `codec` does not.
fn carriers<O, T>(codec: Codec, value: &T, what: What) -> Carriers
where
    O: Serialize + DeserializeOwned + 'static,
    T: Serialize + ?Sized,
{
    let mut carriers = Carriers::default();
    for other in Codec::available().filter(|other| *other != codec) {
        carriers.add(other, what, with_format!(other, F => twin::carry::<F, O, T>(value, what)));
    }
    carriers
}

/// Reads a value. All bytes must belong to it.
///
/// # Errors
/// When the bytes are not such a value, or are followed by others.
pub(crate) fn decode<T: DeserializeOwned>(payload: &Payload) -> Result<T, CodecError> {
    decode_seed(payload, PhantomData)
}

/// Reads a value of a type that is known only at run time.
///
/// # Errors
/// As [`decode`].
pub(crate) fn decode_seed<S: for<'de> DeserializeSeed<'de, Value = T>, T>(
    payload: &Payload,
    seed: S,
) -> Result<T, CodecError> {
    let Payload { codec, bytes } = payload;
    let read = with_format!(*codec, F => {
        let reading = Reading::new(F::TRAITS, What::Value);
        or_fault!(F::read(Seed { inner: seed, reading: &reading }, bytes), error => reading.recover(error))
    });
    or_fault!(read, fault => CodecError::new(type_name::<T>(), *codec, Action::Read, What::Value, fault))
}

/// Reads the arguments of a method: a struct whose fields are the arguments, in order. The last ones may be missing if
/// they are optional.
///
/// `count` is the number of arguments in the caller's signature, if known. A codec without names then expects exactly
/// that many: bytes that end before the last of them belong to other types.
///
/// # Errors
/// As [`decode`]; the error names the argument.
pub(crate) fn decode_arguments<A: DeserializeOwned>(payload: &Payload, count: Option<usize>) -> Result<A, CodecError> {
    // With field names, a missing argument shows.
    let _ = count;
    let Payload { codec, bytes } = payload;
    let read = match codec {
        #[cfg(feature = "bincode")]
        Codec::Bincode => bare::read_arguments::<bincode::Bincode, A>(bytes, count),
        #[cfg(feature = "postcard")]
        Codec::Postcard => bare::read_arguments::<postcard::Postcard, A>(bytes, count),
        // JSON's library reads only an array or an object as a struct.
        #[cfg(feature = "json")]
        Codec::Json if bytes.trim_ascii() == b"null" => read_arguments::<json::Json, A>(b"[]"),
        _ => with_format!(*codec, F => read_arguments::<F, A>(bytes)),
    };
    or_fault!(read, fault => CodecError::new(type_name::<A>(), *codec, Action::Read, What::Arguments, fault))
}

fn read_arguments<F: Format, A: DeserializeOwned>(bytes: &[u8]) -> Result<A, Fault> {
    let reading = Reading::new(F::TRAITS, What::Arguments);
    let seed = Seed { inner: PhantomData, reading: &reading };
    or_fault!(F::read(seed, bytes), error => reading.recover(error))
}

/// The bytes of a value, written into an empty buffer. `writing` is new, and knows afterwards what was seen.
fn write<F: Format, T: Serialize + ?Sized>(value: &T, writing: &Writing, buffer: Vec<u8>) -> Result<Vec<u8>, Fault> {
    let whole = Checked { value, writing, above: &Node::ROOT, way: Way::Newtype };
    or_fault!(F::write(&whole, buffer), error => writing.recover(error))
}

/// The fault of a codec that this build lacks.
#[allow(dead_code)]
fn absent_codec(codec: Codec) -> Fault {
    let feature = codec.to_string().to_lowercase();
    Fault::rule(format!(
        "the program that needs this codec was built without the feature `{feature}` of the crate `xero`"
    ))
}

#[cfg(test)]
mod tests;
