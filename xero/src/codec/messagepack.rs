//! MessagePack, structs as maps with field names.

use std::io::ErrorKind;

use rmp_serde::{Deserializer, Serializer, decode::Error};
use serde::{Deserialize, Serialize, de::DeserializeSeed};

use super::format::{Format, Traits};

pub(super) struct MessagePack;

impl Format for MessagePack {
    const TRAITS: Traits = Traits {
        is_self_describing: true,
        none_is_unit: true,
        // Unit structs are empty arrays.
        unit_structs_are_unit: false,
        takes_every_float: true,
        narrows_integers: true,
        floats_are_texts: false,
        writes_lengths: true,
        explain,
    };

    fn write<T: Serialize>(value: &T, buffer: Vec<u8>) -> Result<Vec<u8>, String> {
        let mut serializer = Serializer::new(buffer).with_struct_map();
        value.serialize(&mut serializer).map_err(|error| error.to_string())?;
        Ok(serializer.into_inner())
    }

    fn read<'de, S: DeserializeSeed<'de>>(seed: S, bytes: &'de [u8]) -> Result<S::Value, String> {
        let mut deserializer = Deserializer::from_read_ref(bytes);
        // Our own guard counts the depth, for all codecs alike.
        deserializer.set_max_depth(usize::MAX);
        let value = seed.deserialize(&mut deserializer).map_err(|error| error.to_string())?;
        // The library reports a rest only through the next value; for a bool it reads one marker and no more.
        match bool::deserialize(&mut deserializer) {
            Err(Error::InvalidMarkerRead(error)) if error.kind() == ErrorKind::UnexpectedEof => Ok(value),
            _ => Err("bytes are left over".to_owned()),
        }
    }
}

/// The library names the format's markers.
fn explain(text: String) -> String {
    if text.starts_with("IO error while reading") {
        return "the bytes end within the value".to_owned();
    }
    let Some(marker) = text.strip_prefix("wrong msgpack marker ") else {
        return text.strip_prefix("uncategorized error: ").map(str::to_owned).unwrap_or(text);
    };
    let kinds = [
        ("Null", "nil"),
        ("True", "a bool"),
        ("False", "a bool"),
        ("FixStr", "a text"),
        ("Str", "a text"),
        ("FixArray", "an array"),
        ("Array", "an array"),
        ("FixMap", "a map"),
        ("Map", "a map"),
        ("Bin", "bytes"),
        ("F32", "a float"),
        ("F64", "a float"),
    ];
    // The remaining markers are integers of all sizes; extensions are not used.
    let is_integer = ["FixPos", "FixNeg", "U", "I"].iter().any(|prefix| marker.starts_with(prefix));
    let kind = kinds.iter().find(|(prefix, _)| marker.starts_with(prefix)).map(|(_, kind)| *kind);
    match (is_integer, kind) {
        (true, _) => "there is an integer".to_owned(),
        (false, Some(kind)) => format!("there is {kind}"),
        (false, None) => format!("there is the marker {marker}"),
    }
}
