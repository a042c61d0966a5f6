//! postcard 1.

use postcard::Deserializer;
use serde::{Serialize, de::DeserializeSeed};

use super::{
    bare::{Concatenated, without_rest},
    format::{Format, Traits},
};

pub(super) struct Postcard;

impl Format for Postcard {
    const TRAITS: Traits = Traits { explain, ..Traits::BARE };

    fn write<T: Serialize>(value: &T, buffer: Vec<u8>) -> Result<Vec<u8>, String> {
        postcard::to_extend(value, buffer).map_err(|error| error.to_string())
    }

    fn read<'de, S: DeserializeSeed<'de>>(seed: S, bytes: &'de [u8]) -> Result<S::Value, String> {
        without_rest(Self::read_first(seed, bytes)?)
    }
}

impl Concatenated for Postcard {
    fn read_first<'de, S: DeserializeSeed<'de>>(seed: S, bytes: &'de [u8]) -> Result<(S::Value, &'de [u8]), String> {
        let mut deserializer = Deserializer::from_bytes(bytes);
        let value = seed.deserialize(&mut deserializer).map_err(|error| error.to_string())?;
        let rest = deserializer.finalize().map_err(|error| error.to_string())?;
        Ok((value, rest))
    }
}

/// postcard's error texts assume knowledge of postcard.
fn explain(text: String) -> String {
    use postcard::Error::*;
    let known = [
        (DeserializeUnexpectedEnd, "the bytes end within the value"),
        (DeserializeBadVarint, "an integer is too large for its type"),
        (DeserializeBadBool, "a byte is not a bool"),
        (DeserializeBadChar, "a text is not a character"),
        (DeserializeBadUtf8, "a text is not UTF-8"),
        (DeserializeBadOption, "a byte is neither `None` nor `Some`"),
    ];
    let known = known.into_iter().find(|(error, _)| error.to_string() == text);
    known.map_or(text, |(_, words)| words.to_owned())
}
