//! JSON.

use serde::{Serialize, de::DeserializeSeed};
use serde_json::{Deserializer, de::SliceRead};

use super::{
    fault::ANOTHER_CODEC,
    format::{Format, Traits},
};

pub(super) struct Json;

impl Format for Json {
    const TRAITS: Traits = Traits {
        is_self_describing: true,
        none_is_unit: true,
        unit_structs_are_unit: true,
        takes_every_float: false,
        narrows_integers: false,
        floats_are_texts: true,
        writes_lengths: false,
        explain,
    };

    fn write<T: Serialize>(value: &T, mut buffer: Vec<u8>) -> Result<Vec<u8>, String> {
        serde_json::to_writer(&mut buffer, value).map_err(|error| error.to_string())?;
        Ok(buffer)
    }

    fn read<'de, S: DeserializeSeed<'de>>(seed: S, bytes: &'de [u8]) -> Result<S::Value, String> {
        let mut deserializer = Deserializer::new(SliceRead::new(bytes));
        // Our own guard counts the depth, for all codecs alike.
        deserializer.disable_recursion_limit();
        let value = seed.deserialize(&mut deserializer).map_err(|error| error.to_string())?;
        deserializer.end().map_err(|error| error.to_string())?;
        Ok(value)
    }
}

fn explain(text: String) -> String {
    match text.starts_with("key must be") {
        true => format!(
            "a map key is neither a text nor a number, and JSON allows no others: use such a key{ANOTHER_CODEC}"
        ),
        false => text,
    }
}
