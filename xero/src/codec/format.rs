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
    /// Whether 128-bit integers that fit into 64 bits are written as 64-bit ones.
    pub(super) narrows_integers: bool,
    /// Whether what is declared as a length is written.
    pub(super) writes_lengths: bool,
    /// What an error of its library says, in words that its users know.
    pub(super) explain: fn(String) -> String,
}
