//! Any value comes back from any codec as it was, or is refused when it is written.

#![no_main]

use std::collections::BTreeMap;

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use serde::{Deserialize, Serialize};
use xero::{Codec, Value};

#[derive(Arbitrary, Clone, Debug, PartialEq, Serialize, Deserialize)]
enum Tree {
    Unit,
    Number(u64),
    Signed { small: i8, large: i128, huge: u128 },
    Text(String, char),
    List(Vec<Self>),
    Map(BTreeMap<String, Self>),
    Maybe(Option<Box<Self>>),
    Twice(Option<Option<u8>>),
    Nothing(Vec<()>, [u16; 0], Unit),
    Wrapped(Wrapped),
    Pair(Box<(Self, Self)>),
    Float(f64, f32),
    Grid(Vec<Vec<Vec<u8>>>),
    Result(Result<bool, String>),
}

#[derive(Arbitrary, Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Wrapped(u16);

#[derive(Arbitrary, Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Unit;

fuzz_target!(|tree: Tree| {
    for codec in Codec::available() {
        let Ok(written) = Value::encode(codec, &tree) else { continue };
        let read: Tree = written.decode().unwrap_or_else(|error| panic!("{codec}: {tree:?}: {error}"));
        // NaN is not equal to itself; as text it is.
        assert_eq!(format!("{read:?}"), format!("{tree:?}"), "{codec}");
    }
});
