//! Honest types whose two halves look different, or share names, and still agree.

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
fn variants_named_like_the_struct_in_them() {
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

/// Two thousand numbers, like an array that serde does not know: the length is in the type.
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

/// Writes and reads `a` and `b`, with a hand-written visitor whose keys are `K`s and whose list of fields is `FIELDS`.
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

/// A hand-written reader of an enum, whose variants have keys of `$key`.
macro_rules! keyed_by {
    ($name:ident, $key:ident { $($part:tt)* }, $a:pat) => {
        #[derive(Clone, Debug, PartialEq, Serialize)]
        enum $name {
            A(u8),
            B(u8),
        }
        #[derive(Deserialize)]
        enum $key { $($part)* }
        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                struct ByHand;
                impl<'de> Visitor<'de> for ByHand {
                    type Value = $name;
                    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                        f.write_str("an enum")
                    }
                    fn visit_enum<A: de::EnumAccess<'de>>(self, access: A) -> Result<$name, A::Error> {
                        use de::VariantAccess;
                        match access.variant::<$key>()? {
                            ($a, content) => content.newtype_variant().map($name::A),
                            (_, content) => content.newtype_variant().map($name::B),
                        }
                    }
                }
                deserializer.deserialize_enum(stringify!($name), &["A", "B"], ByHand)
            }
        }
    };
}

/// Like those of the crate `ipnet`.
mod keyed_by_an_enum {
    use super::*;

    keyed_by!(Net, Key { A, B }, Key::A);

    #[test]
    fn hand_written_readers_of_enums() {
        let _ = Key::B;
        assert_roundtrips_in(built(BARE), [(Net::A(1), vec![Net::A(1), Net::B(2), Net::A(3), Net::B(4)])]);
    }
}

/// The value read from a number and the one read from a name differ, but mean the same.
#[test]
fn hand_written_readers_that_keep_numbers_and_names_apart() {
    #[derive(Clone, Debug, PartialEq, Serialize)]
    enum Net {
        A,
        B,
    }
    enum Key {
        Number(u64),
        Name(String),
    }
    impl<'de> Deserialize<'de> for Key {
        fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            struct ByHand;
            impl Visitor<'_> for ByHand {
                type Value = Key;
                fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                    f.write_str("a variant")
                }
                fn visit_u64<E>(self, number: u64) -> Result<Key, E> {
                    Ok(Key::Number(number))
                }
                fn visit_str<E>(self, name: &str) -> Result<Key, E> {
                    Ok(Key::Name(name.to_owned()))
                }
            }
            deserializer.deserialize_identifier(ByHand)
        }
    }
    impl<'de> Deserialize<'de> for Net {
        fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            struct ByHand;
            impl<'de> Visitor<'de> for ByHand {
                type Value = Net;
                fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                    f.write_str("an enum")
                }
                fn visit_enum<A: de::EnumAccess<'de>>(self, access: A) -> Result<Net, A::Error> {
                    let (key, content) = access.variant()?;
                    de::VariantAccess::unit_variant(content)?;
                    match key {
                        Key::Number(0) => Ok(Net::A),
                        Key::Name(name) if name == "A" => Ok(Net::A),
                        _ => Ok(Net::B),
                    }
                }
            }
            deserializer.deserialize_enum("Net", &["A", "B"], ByHand)
        }
    }
    assert_roundtrips([vec![Net::A, Net::B, Net::A]]);
}

/// Writes a number with one method and reads another type.
macro_rules! number {
    ($name:ident: $written:ident by $method:ident, read as $read:ty) => {
        #[derive(Clone, Debug, PartialEq)]
        struct $name($read);
        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.$method(self.0 as $written)
            }
        }
        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                <$read>::deserialize(deserializer).map(Self)
            }
        }
    };
}

number!(Level: u8 by serialize_u8, read as u32);
number!(Narrow: u64 by serialize_u64, read as u8);
number!(Signed: i8 by serialize_i8, read as u16);

#[test]
fn small_numbers_of_one_size_read_as_another() {
    assert_roundtrips([vec![Level(0), Level(127)]]);
    assert_roundtrips([(Narrow(3), Signed(7), 5_u8, Level(1))]);
    assert_roundtrips_in(built(NAMED), [Level(200)]);
    for codec in built(BARE) {
        // Each value is checked, because the previous one proves nothing about it.
        let error = refused(codec, &vec![Level(1), Level(255)]);
        assert!(error.contains("MessagePack or JSON"), "{error}");
        refused(codec, &Level(200));
        refused(codec, &Narrow(200));
    }
}

#[test]
fn variants_written_as_bytes() {
    #[derive(Clone, Copy, Debug, PartialEq, Deserialize)]
    enum Kind {
        A,
        B,
    }
    impl Serialize for Kind {
        fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            serializer.serialize_u8(*self as u8)
        }
    }
    assert_roundtrips_in(built(BARE), [vec![Kind::A, Kind::B]]);
}

#[test]
fn texts_and_bytes_that_a_visitor_takes_over() {
    #[derive(Clone, Debug, PartialEq)]
    struct Owned(String, Vec<u8>);
    impl Serialize for Owned {
        fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            (&self.0, serde_bytes::Bytes::new(&self.1)).serialize(serializer)
        }
    }
    #[derive(Debug, Default)]
    struct Taken<T>(T);
    // As clippy warns: such visitors exist, and work with every deserializer that owns its text.
    #[expect(clippy::serde_api_misuse)]
    impl<'de> Visitor<'de> for Taken<String> {
        type Value = Self;
        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a text")
        }
        fn visit_string<E>(self, text: String) -> Result<Self, E> {
            Ok(Self(text))
        }
    }
    impl<'de> Visitor<'de> for Taken<Vec<u8>> {
        type Value = Self;
        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("bytes")
        }
        fn visit_byte_buf<E>(self, bytes: Vec<u8>) -> Result<Self, E> {
            Ok(Self(bytes))
        }
    }
    impl<'de> Deserialize<'de> for Taken<String> {
        fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            deserializer.deserialize_string(Self::default())
        }
    }
    impl<'de> Deserialize<'de> for Taken<Vec<u8>> {
        fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            deserializer.deserialize_byte_buf(Self::default())
        }
    }
    impl<'de> Deserialize<'de> for Owned {
        fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            let (Taken(text), Taken(bytes)) = Deserialize::deserialize(deserializer)?;
            Ok(Self(text, bytes))
        }
    }
    // serde_json writes bytes as a list.
    let codecs = [Codec::Bincode, Codec::Postcard, Codec::MessagePack];
    assert_roundtrips_in(built(codecs), [Owned("text".to_owned(), vec![1, 2])]);
}

#[test]
fn large_untagged_enums_with_lists_in_lists() {
    type Nested = Vec<Vec<Vec<Vec<Vec<u8>>>>>;
    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    #[serde(untagged)]
    enum Large {
        A { a: [[u64; 16]; 4], deep: Nested },
        B { b: [[u64; 16]; 4], deep: Nested },
        C { c: [[u64; 16]; 4], deep: Nested },
        D { d: [[u64; 16]; 4], deep: Nested },
        E { e: [[u64; 16]; 4], deep: Nested },
        F { f: [[u64; 16]; 4], deep: Nested },
    }
    let large = Large::F { f: [[1; 16]; 4], deep: vec![vec![vec![vec![vec![1]]]]] };
    assert_roundtrips_in(built(NAMED), [vec![Some(large)]]);
}
