//! Sentences of the guide's page "Choosing a codec" that no other test backs.

use std::{
    collections::BTreeMap,
    net::{Ipv6Addr, SocketAddr, SocketAddrV6},
};

use serde::{Deserialize, Deserializer, Serializer};

use super::*;

fn is0(number: &u8) -> bool {
    *number == 0
}

fn ten() -> u8 {
    10
}

#[test]
fn left_out_option_needs_no_default_in_codecs_with_names() {
    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Maybe {
        #[serde(skip_serializing_if = "Option::is_none")]
        note: Option<u8>,
        id: u8,
    }
    assert_roundtrips_in(built(NAMED), [Maybe { note: None, id: 7 }, Maybe { note: Some(1), id: 7 }]);
    for codec in built(BARE) {
        assert!(refused(codec, &Maybe { note: None, id: 7 }).contains("`note` of `Maybe`"), "{codec}");
    }
}

#[test]
fn left_out_value_arrives_as_the_default() {
    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Ten {
        #[serde(default = "ten", skip_serializing_if = "is0")]
        number: u8,
    }
    for codec in built(NAMED) {
        assert_eq!(roundtrip(codec, &Ten { number: 0 }).expect("is carried"), Ten { number: 10 }, "{codec}");
    }
    assert!(built(BARE).all(|codec| encode_as::<Ten, _>(codec, &Ten { number: 0 }).is_err()));
}

#[test]
fn halves_of_different_kinds_are_refused_in_every_codec() {
    #[derive(Debug, PartialEq)]
    struct SeqMap(Vec<(u8, u8)>);
    impl Serialize for SeqMap {
        fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            serializer.collect_map(self.0.iter().map(|(key, value)| (key.to_string(), value)))
        }
    }
    impl<'de> Deserialize<'de> for SeqMap {
        fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            Vec::deserialize(deserializer).map(Self)
        }
    }
    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    #[serde(from = "(u8, u8)")]
    struct Tup {
        a: u8,
        b: u8,
    }
    impl From<(u8, u8)> for Tup {
        fn from((a, b): (u8, u8)) -> Self {
            Self { a, b }
        }
    }
    for codec in built(NAMED) {
        refused(codec, &SeqMap(vec![(1, 2)]));
        refused(codec, &Tup { a: 1, b: 2 });
    }
    assert_roundtrips_in(built(BARE), [Tup { a: 1, b: 2 }]);
}

#[test]
fn address_with_a_scope_loses_it_where_it_is_not_a_text() {
    let address = |scope| SocketAddr::V6(SocketAddrV6::new(Ipv6Addr::LOCALHOST, 80, 0, scope));
    for codec in built([Codec::Bincode, Codec::Postcard, Codec::MessagePack]) {
        assert_eq!(roundtrip(codec, &address(3)).expect("is carried"), address(0), "{codec}");
    }
    assert_roundtrips_in(built([Codec::Json]), [address(3)]);
    let labelled = |label| SocketAddr::V6(SocketAddrV6::new(Ipv6Addr::LOCALHOST, 80, label, 0));
    for codec in built(Codec::ALL) {
        assert_eq!(roundtrip(codec, &labelled(5)).expect("is carried"), labelled(0), "{codec}");
    }
}

#[test]
fn times_and_paths_that_serde_does_not_write_are_refused() {
    use std::time::{Duration, SystemTime};
    assert_roundtrips([SystemTime::UNIX_EPOCH, SystemTime::UNIX_EPOCH + Duration::from_secs(1)]);
    for codec in built(Codec::ALL) {
        refused(codec, &(SystemTime::UNIX_EPOCH - Duration::from_secs(1)));
        #[cfg(unix)]
        {
            use std::{ffi::OsStr, os::unix::ffi::OsStrExt, path::PathBuf};
            refused(codec, &PathBuf::from(OsStr::from_bytes(b"\xff")));
        }
    }
}

#[test]
fn keys_within_tag_are_carried_or_refused_as_the_table_says() {
    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    #[serde(tag = "t")]
    enum Keyed {
        Bools { map: BTreeMap<bool, u8> },
        Numbers { map: BTreeMap<u8, u8> },
    }
    let values = || [Keyed::Bools { map: [(true, 1)].into() }, Keyed::Numbers { map: [(2, 1)].into() }];
    assert_roundtrips_in(built([Codec::MessagePack]), values());
    for codec in built([Codec::Bincode, Codec::Postcard, Codec::Json]) {
        values().iter().for_each(|value| drop(refused(codec, value)));
    }
}

#[test]
fn two_flattened_fields_arrive_as_the_guide_says() {
    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    #[serde(tag = "type")]
    enum Kind {
        Click { x: u8 },
    }
    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Event {
        #[serde(flatten)]
        kind: Kind,
        #[serde(flatten)]
        extra: BTreeMap<String, serde_json::Value>,
    }
    let event = || Event { kind: Kind::Click { x: 2 }, extra: BTreeMap::new() };
    for codec in built(NAMED) {
        let arrived = roundtrip(codec, &event()).expect("is carried");
        assert_eq!(arrived.extra.keys().collect::<Vec<_>>(), ["type", "x"], "{codec}");
    }
}

#[test]
fn variant_that_only_its_writer_knows_arrives_as_other() {
    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    #[serde(tag = "t")]
    enum Known {
        A,
        #[serde(rename(serialize = "bee"))]
        B,
        #[serde(other)]
        Other,
    }
    for codec in built(NAMED) {
        assert_eq!(roundtrip(codec, &Known::A).expect("is carried"), Known::A, "{codec}");
        assert_eq!(roundtrip(codec, &Known::B).expect("is carried"), Known::Other, "{codec}");
    }
}

#[test]
fn tuple_structs_of_which_each_half_skips_another_field_arrive_as_the_guide_says() {
    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Crossed(#[serde(skip_serializing)] u8, u8, #[serde(skip_deserializing)] u8);
    for codec in built(Codec::ALL) {
        assert_eq!(roundtrip(codec, &Crossed(1, 2, 3)).expect("is carried"), Crossed(2, 3, 0), "{codec}");
    }
}

#[test]
fn exchanged_names_are_refused_without_names_and_arrive_exchanged_with_them() {
    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Crossed {
        #[serde(rename(serialize = "b", deserialize = "a"))]
        a: u8,
        #[serde(rename(serialize = "a", deserialize = "b"))]
        b: u8,
    }
    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    enum Exchanged {
        #[serde(rename(serialize = "B", deserialize = "A"))]
        A,
        #[serde(rename(serialize = "A", deserialize = "B"))]
        B,
    }
    for codec in built(NAMED) {
        assert_eq!(roundtrip(codec, &Crossed { a: 1, b: 2 }).expect("is carried"), Crossed { a: 2, b: 1 }, "{codec}");
        assert_eq!(roundtrip(codec, &Exchanged::A).expect("is carried"), Exchanged::B, "{codec}");
    }
    for codec in built(BARE) {
        refused(codec, &Crossed { a: 1, b: 2 });
        refused(codec, &Exchanged::A);
    }
}

#[test]
fn flattened_option_arrives_as_what_can_be_read_from_nothing() {
    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Rest {
        a: u8,
        #[serde(flatten)]
        rest: Option<BTreeMap<String, u8>>,
    }
    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Defaults {
        #[serde(default)]
        x: u8,
    }
    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Flat {
        #[serde(flatten)]
        rest: Option<Defaults>,
    }
    for codec in built(NAMED) {
        let read = roundtrip(codec, &Rest { a: 1, rest: None }).expect("is carried");
        assert_eq!(read, Rest { a: 1, rest: Some(BTreeMap::new()) }, "{codec}");
        let read = roundtrip(codec, &Flat { rest: None }).expect("is carried");
        assert_eq!(read, Flat { rest: Some(Defaults { x: 0 }) }, "{codec}");
    }
}

#[test]
fn fields_of_tuples_that_one_half_skips_are_refused_in_every_codec() {
    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Read(#[serde(skip_deserializing)] u8, u8);
    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Last(u8, #[serde(default, skip_serializing_if = "is0")] u8);
    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Both(u8, #[serde(skip)] u8, u8);
    for codec in built(Codec::ALL) {
        refused(codec, &Read(1, 2));
        refused(codec, &Last(1, 0));
    }
    assert_roundtrips([Both(1, 0, 2)]);
    assert_roundtrips([Last(1, 2)]);
}

/// A reader may read the elements of one list with different code, which only its first element shows.
#[test]
fn elements_that_one_reader_reads_differently_are_not_compared() {
    #[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
    enum Color {
        Red,
        Green,
    }
    #[derive(Deserialize)]
    enum Old {
        Green,
        Red,
    }
    #[derive(Debug, PartialEq, Serialize)]
    struct Stateful(Vec<Color>);
    impl<'de> Deserialize<'de> for Stateful {
        fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            struct Whole;
            impl<'de> de::Visitor<'de> for Whole {
                type Value = Stateful;
                fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                    f.write_str("colors")
                }
                fn visit_seq<A: de::SeqAccess<'de>>(self, mut access: A) -> Result<Stateful, A::Error> {
                    let mut colors: Vec<_> = access.next_element()?.into_iter().collect();
                    while let Some(old) = access.next_element()? {
                        colors.push(if let Old::Red = old { Color::Red } else { Color::Green });
                    }
                    Ok(Stateful(colors))
                }
            }
            let _ = Old::Green;
            deserializer.deserialize_seq(Whole)
        }
    }
    for codec in built(BARE) {
        let read = roundtrip(codec, &Stateful(vec![Color::Red, Color::Red])).expect("is carried");
        assert_eq!(read, Stateful(vec![Color::Red, Color::Green]), "{codec}");
    }
}
