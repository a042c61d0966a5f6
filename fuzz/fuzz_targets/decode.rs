//! Any bytes are a value or an error, at a cost in proportion to their number; and what is a value can be written again.

#![no_main]

use std::collections::{BTreeMap, HashMap, HashSet};

use libfuzzer_sys::fuzz_target;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use xero::{Codec, Value};

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Node {
    next: Option<Box<Self>>,
    list: Vec<Self>,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Pixel {
    r: u8,
    g: u8,
    b: u8,
    mark: (),
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
enum Event {
    Gone,
    Moved { by: i64, at: f64 },
    Named(String, Option<char>),
    Nested(Vec<Event>),
}

fuzz_target!(|input: (u8, Vec<u8>)| {
    let (number, bytes) = input;
    for codec in Codec::available().filter(|codec| *codec as u8 == 1 + number % 4) {
        read::<Node>(codec, &bytes);
        read::<Vec<Pixel>>(codec, &bytes);
        read::<Vec<Event>>(codec, &bytes);
        read::<Vec<()>>(codec, &bytes);
        read::<HashSet<()>>(codec, &bytes);
        read::<HashMap<u8, ()>>(codec, &bytes);
        read::<BTreeMap<String, Vec<u32>>>(codec, &bytes);
        read::<(u128, i128, String, Vec<u8>)>(codec, &bytes);
        read::<serde_json::Value>(codec, &bytes);
    }
});

fn read<T: Serialize + DeserializeOwned>(codec: Codec, bytes: &[u8]) {
    if let Ok(value) = Value::from_bytes(codec, bytes.to_vec()).decode::<T>() {
        // `Some(None)` and the like do not come from bytes, and nothing else that is read is refused.
        Value::encode(codec, &value).unwrap_or_else(|error| panic!("what was read cannot be written: {error}"));
    }
}
