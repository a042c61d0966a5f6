//! What the codecs have in common: a format writes and reads values, and declares what it cannot carry.

use serde::{Serialize, de::DeserializeSeed};

/// A format of payloads.
pub(super) trait Format {
    /// What it can and cannot carry.
    const TRAITS: Traits;

    /// Writes a value into an empty buffer.
    fn write<T: Serialize>(value: &T, buffer: Vec<u8>) -> Result<Vec<u8>, String>;

    /// Reads a value that uses all bytes. No declared number sizes an allocation.
    fn read<'de, S: DeserializeSeed<'de>>(seed: S, bytes: &'de [u8]) -> Result<S::Value, String>;
}

/// What a format can and cannot carry.
#[derive(Clone, Copy, Debug)]
pub(super) struct Traits {
    /// Whether fields and variants carry their names, so that a value can be read without knowing its type.
    pub(super) is_self_describing: bool,
    /// Whether `None` and `()` are the same, so that `Some` of either would come back as `None`.
    pub(super) none_is_unit: bool,
    /// Whether unit structs are written like `()`.
    pub(super) unit_structs_are_unit: bool,
    /// Whether floats may be infinite, or not a number.
    pub(super) takes_every_float: bool,
    /// Whether 128-bit integers that fit into 64 bits are written as 64-bit integers.
    pub(super) narrows_integers: bool,
    /// Whether floats are written as texts, which a buffer reads as an `f64`.
    pub(super) floats_are_texts: bool,
    /// Whether declared lengths are written.
    pub(super) writes_lengths: bool,
    /// Rewrites an error of the format's library in the user's terms.
    pub(super) explain: fn(String) -> String,
}
