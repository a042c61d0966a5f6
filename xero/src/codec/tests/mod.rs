//! What the codecs carry and refuse, and how their errors name it.

mod again;
mod arguments;
mod basics;
mod crossed;
mod disguised;
mod guide;
mod halves;
mod hand;
mod hidden;
mod honest;
mod moved;
mod nesting;
mod numbers;
mod options;
mod overlap;
mod places;
mod readers;
mod shapes;

use bytes::Bytes;
use serde::{
    Serialize,
    de::{self, DeserializeOwned},
};

use super::{
    state::{DEPTH_MAX, EMPTY_PARTS_MAX},
    *,
};

/// Self-describing codecs.
const NAMED: [Codec; 2] = [Codec::MessagePack, Codec::Json];
/// The other codecs.
const BARE: [Codec; 2] = [Codec::Bincode, Codec::Postcard];

/// Those codecs that this build has.
fn built(codecs: impl IntoIterator<Item = Codec>) -> impl Iterator<Item = Codec> {
    codecs.into_iter().filter(|codec| codec.is_available())
}

fn payload(codec: Codec, bytes: impl Into<Bytes>) -> Payload {
    Payload { codec, bytes: bytes.into() }
}

/// Writes a value and reads it back.
fn roundtrip<T: Serialize + DeserializeOwned + 'static>(codec: Codec, value: &T) -> Result<T, CodecError> {
    decode(&encode_as::<T, T>(codec, value)?)
}

/// Why the value cannot be written for a reader of its type.
#[track_caller]
fn refused<T: Serialize + DeserializeOwned + 'static>(codec: Codec, value: &T) -> String {
    encode_as::<T, T>(codec, value).expect_err("is refused").to_string()
}
