//! Which values are read back a second time, the cost of that, and its failures.

use std::{cell::Cell, collections::HashSet};

use serde::{Deserialize, Deserializer, Serializer, ser::SerializeTuple};

use super::*;

#[test]
fn list_of_structs_of_no_size_is_read_back_in_proportion_to_its_length() {
    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    struct Nothing {}
    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    struct Pair(Nothing, Nothing);
    for codec in built(BARE) {
        // All begin at the same place: searching all of them each time would take half an hour.
        let many = (1_u8, vec![Nothing {}; EMPTY_PARTS_MAX]);
        assert!(roundtrip(codec, &many).expect("is carried") == many, "{codec}");
        let pairs = vec![Pair(Nothing {}, Nothing {}); EMPTY_PARTS_MAX / 4];
        assert!(roundtrip(codec, &pairs).expect("is carried") == pairs, "{codec}");
    }
}

#[test]
fn skipped_fields_are_remembered_one_by_one() {
    #[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
    struct Sparse {
        #[serde(skip_serializing_if = "Option::is_none")]
        a: Option<u8>,
        #[serde(skip_serializing_if = "Option::is_none")]
        b: Option<u8>,
        #[serde(skip_serializing_if = "Option::is_none")]
        c: Option<u8>,
        #[serde(skip_serializing_if = "Option::is_none")]
        d: Option<u8>,
        #[serde(skip_serializing_if = "Option::is_none")]
        e: Option<u8>,
        #[serde(skip_serializing_if = "Option::is_none")]
        f: Option<u8>,
    }
    let sparse = |bits: u8| {
        let bit = |n: u8| (bits >> n & 1 == 1).then_some(n);
        Sparse { a: bit(0), b: bit(1), c: bit(2), d: bit(3), e: bit(4), f: bit(5) }
    };
    for codec in built(NAMED) {
        let forms = |bits| {
            with_format!(codec, F => {
                let writing = Writing::new(F::TRAITS, What::Value, false);
                write::<F, _>(&sparse(bits), &writing, Vec::new()).map(|_| writing.observed().seen.take_forms())
            })
            .expect("writes")
        };
        let all: HashSet<_> = (0..64).flat_map(forms).collect();
        assert!(all.len() < 16, "{codec}: {} forms of 64 sets of fields", all.len());
    }
}

#[test]
fn type_that_panics_while_it_is_read_back_is_an_error_for_its_writer() {
    #[derive(Debug, Serialize)]
    struct Panics(u8);
    impl<'de> Deserialize<'de> for Panics {
        fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            let number = u8::deserialize(deserializer)?;
            assert!(number < 10, "on purpose");
            Ok(Self(number))
        }
    }
    for codec in built(Codec::ALL) {
        let error = refused(codec, &Panics(11));
        assert!(error.contains("panicked"), "{error}");
    }
}

trait Hidden {
    fn number(&self) -> u8;
}

impl Hidden for u8 {
    fn number(&self) -> u8 {
        *self
    }
}

impl Serialize for dyn Hidden {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_some(&self.number())
    }
}

thread_local! {
    static READ: Cell<usize> = const { Cell::new(0) };
}

struct Hiding(u8);

impl Serialize for Hiding {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut tuple = serializer.serialize_tuple(1)?;
        let hidden: &dyn Hidden = &self.0;
        tuple.serialize_element(hidden)?;
        tuple.end()
    }
}

impl<'de> Deserialize<'de> for Hiding {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        READ.set(READ.get() + 1);
        let (number,) = <(Option<u8>,)>::deserialize(deserializer)?;
        Ok(Self(number.unwrap_or_default()))
    }
}

#[test]
fn types_behind_a_dyn_are_read_back_each_time() {
    for codec in built(Codec::ALL) {
        for time in 1..4 {
            encode_as::<Hiding, _>(codec, &Hiding(7)).expect("is carried");
            assert_eq!(READ.get(), time, "{codec}");
        }
        READ.set(0);
    }
}
