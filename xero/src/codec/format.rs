//! What the codecs have in common: a format writes a value and reads it back, and says what it cannot carry.

use serde::{Serialize, de::DeserializeSeed};

/// A format of payloads.
pub(super) trait Format {
    /// What it can and cannot carry.
    const TRAITS: Traits;

    /// Writes a value.
    fn write<T: Serialize>(value: &T) -> Result<Vec<u8>, String>;

    /// Reads a value, to which all bytes belong. Nothing is allocated by a declared number.
    fn read<'de, S: DeserializeSeed<'de>>(seed: S, bytes: &'de [u8]) -> Result<S::Value, String>;
}

/// A format whose structs are their fields one after the other, with nothing before or between.
pub(super) trait Concatenated: Format {
    /// Reads a value from the start of the bytes, and gives the rest of them.
    fn read_first<'de, S: DeserializeSeed<'de>>(seed: S, bytes: &'de [u8]) -> Result<(S::Value, &'de [u8]), String>;
}

/// What a format can and cannot carry.
#[derive(Clone, Copy, Debug)]
pub(super) struct Traits {
    /// Whether fields and variants have their names with them, so that a value can be read without knowing its type.
    pub(super) is_self_describing: bool,
    /// Whether `None` and `()` are the same, so that `Some` of either would come back as `None`.
    pub(super) none_is_unit: bool,
    /// Whether unit structs are written as `()` is.
    pub(super) unit_structs_are_unit: bool,
    /// Whether floats may be infinite, or not a number.
    pub(super) takes_every_float: bool,
    /// Whether what is declared as a length is written.
    pub(super) writes_lengths: bool,
    /// What an error of its library says, in words that its users know.
    pub(super) explain: fn(String) -> String,
}

impl Traits {
    /// Those of a format that writes values and nothing else.
    pub(super) const BARE: Self = Self {
        is_self_describing: false,
        none_is_unit: false,
        unit_structs_are_unit: false,
        takes_every_float: true,
        writes_lengths: true,
        explain: |text| text,
    };
}

/// The value, if nothing follows it.
pub(super) fn without_rest<T>((value, rest): (T, &[u8])) -> Result<T, String> {
    match rest.len() {
        0 => Ok(value),
        1 => Err("one byte is left over".to_owned()),
        count => Err(format!("{count} bytes are left over")),
    }
}
