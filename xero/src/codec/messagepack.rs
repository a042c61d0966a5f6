//! MessagePack, structs as maps with field names.

use std::io::ErrorKind;

use rmp_serde::{Deserializer, Serializer, decode::Error};
use serde::{
    Deserialize, Serialize,
    de::{DeserializeSeed, IgnoredAny},
};

use super::format::{Format, Traits};

pub(super) struct MessagePack;

impl Format for MessagePack {
    const TRAITS: Traits = Traits {
        is_self_describing: true,
        none_is_unit: true,
        // They are empty arrays.
        unit_structs_are_unit: false,
        takes_every_float: true,
        writes_lengths: true,
        explain: |text| text,
    };

    fn write<T: Serialize>(value: &T) -> Result<Vec<u8>, String> {
        let mut serializer = Serializer::new(Vec::with_capacity(128)).with_struct_map();
        value.serialize(&mut serializer).map_err(|error| error.to_string())?;
        Ok(serializer.into_inner())
    }

    fn read<'de, S: DeserializeSeed<'de>>(seed: S, bytes: &'de [u8]) -> Result<S::Value, String> {
        let mut deserializer = Deserializer::from_read_ref(bytes);
        // The depth is counted around it, for all codecs alike.
        deserializer.set_max_depth(usize::MAX);
        let value = seed.deserialize(&mut deserializer).map_err(|error| error.to_string())?;
        // The library tells how much is left only by what it finds next.
        match IgnoredAny::deserialize(&mut deserializer) {
            Err(Error::InvalidMarkerRead(error)) if error.kind() == ErrorKind::UnexpectedEof => Ok(value),
            _ => Err("bytes are left over".to_owned()),
        }
    }
}
