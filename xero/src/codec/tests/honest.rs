//! Honest types whose two halves look different, or alike by name, and agree all the same.

use std::{collections::BTreeMap, fmt, marker::PhantomData};

use serde::{Deserialize, Deserializer, Serializer, de::Visitor};

use super::*;

mod inner {
    #[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
    pub(super) struct User {
        pub(super) id: u32,
        pub(super) name: String,
        pub(super) age: u8,
    }
    #[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
    pub(super) struct Point {
        pub(super) x: u8,
        pub(super) y: u8,
        pub(super) z: u8,
    }
}

fn user() -> inner::User {
    inner::User { id: 1, name: "n".to_owned(), age: 3 }
}

#[test]
fn variants_named_as_the_struct_in_them() {
    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    enum Event {
        User { user: inner::User, at: u64 },
        Point(inner::Point, u64),
        Gone,
    }
    let signed = || Event::User { user: user(), at: 9 };
    let moved = || Event::Point(inner::Point { x: 1, y: 2, z: 3 }, 4);
    assert_roundtrips([vec![signed()], vec![signed(), signed()], vec![signed(), signed(), Event::Gone]]);
    assert_roundtrips([vec![moved(), moved()], vec![moved(), Event::Gone, moved(), signed()]]);
}

#[test]
fn struct_read_as_a_tuple_around_one_of_its_name() {
    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    #[serde(from = "(inner::Point, u8)")]
    struct Point {
        base: inner::Point,
        extra: u8,
    }
    impl From<(inner::Point, u8)> for Point {
        fn from((base, extra): (inner::Point, u8)) -> Self {
            Self { base, extra }
        }
    }
    let point = || Point { base: inner::Point { x: 1, y: 2, z: 3 }, extra: 4 };
    assert_roundtrips_in(built(BARE), [point()]);
    assert_roundtrips_in(built(BARE), [vec![point(), point()]]);
}

/// Two thousand numbers, as arrays are that serde does not know: their length is in their type.
#[derive(Clone, Debug, PartialEq)]
struct Long(Vec<u8>);

impl Long {
    const LENGTH: usize = 2048;
}

impl Serialize for Long {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        use serde::ser::SerializeTuple;
        let mut tuple = serializer.serialize_tuple(Self::LENGTH)?;
        self.0.iter().try_for_each(|number| tuple.serialize_element(number))?;
        tuple.end()
    }
}

impl<'de> Visitor<'de> for Long {
    type Value = Self;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("2048 numbers")
    }

    fn visit_seq<A: de::SeqAccess<'de>>(mut self, mut access: A) -> Result<Self, A::Error> {
        if access.size_hint().is_some_and(|hint| hint != Self::LENGTH) {
            return Err(de::Error::invalid_length(access.size_hint().unwrap_or(0), &self));
        }
        while let Some(number) = access.next_element()? {
            self.0.push(number);
        }
        Ok(self)
    }
}

impl<'de> Deserialize<'de> for Long {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_tuple(Self::LENGTH, Self(Vec::new()))
    }
}

#[test]
fn arrays_whose_length_is_in_their_type() {
    assert_roundtrips([Long(vec![7; Long::LENGTH])]);
}

/// Writes and reads `a` and `b`, with a visitor of one's own whose keys are `K`s and whose list of fields is `FIELDS`.
macro_rules! by_hand {
    ($name:ident, $key:ty, $a:pat, $fields:expr) => {
        #[derive(Clone, Debug, PartialEq, Serialize)]
        struct $name {
            a: u8,
            b: u16,
        }
        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                struct ByHand;
                impl<'de> Visitor<'de> for ByHand {
                    type Value = $name;
                    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                        f.write_str("two numbers")
                    }
                    fn visit_seq<A: de::SeqAccess<'de>>(self, mut access: A) -> Result<$name, A::Error> {
                        let mut next = || de::Error::custom("too short");
                        let a = access.next_element()?.ok_or_else(&mut next)?;
                        Ok($name { a, b: access.next_element()?.ok_or_else(&mut next)? })
                    }
                    fn visit_map<A: de::MapAccess<'de>>(self, mut access: A) -> Result<$name, A::Error> {
                        let (mut a, mut b) = (0, 0);
                        while let Some(key) = access.next_key::<$key>()? {
                            match key {
                                $a => a = access.next_value()?,
                                _ => b = access.next_value()?,
                            }
                        }
                        Ok($name { a, b })
                    }
                }
                deserializer.deserialize_struct(stringify!($name), $fields, ByHand)
            }
        }
    };
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum Key {
    A,
    B,
}

#[derive(Deserialize, PartialEq, Eq)]
struct Text(char);

by_hand!(KeysAreAnEnum, Key, Key::A, &["a", "b"]);
by_hand!(KeysAreANewtype, Text, Text('a'), &["a", "b"]);
by_hand!(KeysAreCharacters, char, 'a', &["a", "b"]);
by_hand!(FieldsInAnotherOrder, char, 'a', &["b", "a"]);

#[test]
fn hand_written_readers_of_structs() {
    let _ = Key::B;
    assert_roundtrips([KeysAreAnEnum { a: 1, b: 2 }]);
    assert_roundtrips([KeysAreANewtype { a: 1, b: 2 }]);
    assert_roundtrips([KeysAreCharacters { a: 1, b: 2 }]);
    assert_roundtrips([FieldsInAnotherOrder { a: 1, b: 2 }]);
}

#[test]
fn field_of_no_size_on_one_side_only() {
    #[derive(Clone, Debug, PartialEq, Serialize)]
    struct Typed {
        id: u8,
        kind: PhantomData<u8>,
    }
    impl<'de> Deserialize<'de> for Typed {
        fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            #[derive(Deserialize)]
            #[serde(rename = "Typed")]
            struct Raw {
                id: u8,
            }
            Raw::deserialize(deserializer).map(|raw| Self { id: raw.id, kind: PhantomData })
        }
    }
    assert_roundtrips([vec![Typed { id: 1, kind: PhantomData }; 2]]);
}

#[test]
fn bytes_written_at_once_and_read_one_by_one() {
    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    struct Letter {
        #[serde(serialize_with = "serde_bytes::serialize")]
        body: Vec<u8>,
        kind: Option<Kind>,
    }
    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    enum Kind {
        A,
        B,
    }
    let letter = |kind| Letter { body: vec![1, 2], kind };
    assert_roundtrips_in(built(BARE), [letter(None), letter(Some(Kind::A)), letter(Some(Kind::B))]);
}

#[test]
fn maps_written_as_lists_and_read_as_maps() {
    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    struct Table {
        #[serde(serialize_with = "as_list")]
        rows: BTreeMap<u16, String>,
    }
    fn as_list<S: Serializer>(rows: &BTreeMap<u16, String>, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(rows)
    }
    assert_roundtrips_in(built(BARE), [Table { rows: BTreeMap::from([(1, "x".to_owned())]) }]);
}
