//! bincode 2, standard configuration.

use bincode::{
    config,
    enc::write::Writer,
    error::EncodeError,
    serde::{encode_into_writer, seed_decode_from_slice},
};
use serde::{Serialize, de::DeserializeSeed};

use super::{
    bare::{Concatenated, without_rest},
    format::{Format, Traits},
};

pub(super) struct Bincode;

impl Format for Bincode {
    const TRAITS: Traits = Traits { explain, ..Traits::BARE };

    fn write<T: Serialize>(value: &T, mut buffer: Vec<u8>) -> Result<Vec<u8>, String> {
        encode_into_writer(value, Growing(&mut buffer), config::standard()).map_err(|error| error.to_string())?;
        Ok(buffer)
    }

    fn read<'de, S: DeserializeSeed<'de>>(seed: S, bytes: &'de [u8]) -> Result<S::Value, String> {
        without_rest(Self::read_first(seed, bytes)?)
    }
}

/// A buffer that bincode writes into.
struct Growing<'b>(&'b mut Vec<u8>);

impl Writer for Growing<'_> {
    fn write(&mut self, bytes: &[u8]) -> Result<(), EncodeError> {
        self.0.extend_from_slice(bytes);
        Ok(())
    }
}

impl Concatenated for Bincode {
    /// Without bincode's own limit on bytes: the deserializer around it asks only for what it can borrow from them.
    fn read_first<'de, S: DeserializeSeed<'de>>(seed: S, bytes: &'de [u8]) -> Result<(S::Value, &'de [u8]), String> {
        let (value, length) =
            seed_decode_from_slice(seed, bytes, config::standard()).map_err(|error| error.to_string())?;
        Ok((value, &bytes[length..]))
    }
}

/// bincode's error texts are their Rust `Debug` form.
fn explain(text: String) -> String {
    match text.split([' ', '(']).next() {
        Some("UnexpectedEnd") => "the bytes end within the value".to_owned(),
        Some("InvalidBooleanValue") => "a byte is not a bool".to_owned(),
        Some("InvalidCharEncoding") => "a text is not a character".to_owned(),
        Some("InvalidIntegerType") => "an integer is too large for its type".to_owned(),
        Some("UnexpectedVariant") => "a byte is neither `None` nor `Some`".to_owned(),
        Some("Utf8") => "a text is not UTF-8".to_owned(),
        _ => text,
    }
}
