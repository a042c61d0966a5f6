//! Enums with numbers on one side only, tuple structs with fields that are left out, halves with different names.

use serde::{Deserialize, Deserializer, Serializer};

use super::*;

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(into = "u32")]
enum Written {
    A,
    B,
    C,
}

impl From<Written> for u32 {
    fn from(written: Written) -> Self {
        match written {
            Written::A => 1,
            Written::B => 2,
            Written::C => 0,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(from = "u32")]
enum Numbered {
    A,
    B,
    C,
}

impl From<u32> for Numbered {
    fn from(number: u32) -> Self {
        match number {
            1 => Self::A,
            2 => Self::B,
            _ => Self::C,
        }
    }
}

/// As `Serialize_repr` of the crate `serde_repr` does.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize)]
enum Repr {
    A = 1,
    B = 2,
}

impl Serialize for Repr {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u8(*self as u8)
    }
}

#[test]
fn number_does_not_arrive_as_another_variant() {
    for codec in built([Codec::Bincode, Codec::Postcard, Codec::MessagePack]) {
        for error in [refused(codec, &Written::A), refused(codec, &vec![Written::B]), refused(codec, &Repr::A)] {
            assert!(error.contains("variant"), "{error}");
        }
        for error in [refused(codec, &Written::C), refused(codec, &Repr::B)] {
            assert!(!error.contains("panicked"), "{error}");
        }
    }
    for codec in built(BARE) {
        let error = refused(codec, &(1_u8, Numbered::A));
        assert!(error.contains("variant"), "{error}");
    }
}

/// A known form says nothing about another variant.
#[test]
fn number_that_is_the_variants_own_is_carried_each_time() {
    #[derive(Clone, Copy, Debug, PartialEq, Deserialize)]
    enum Mixed {
        A = 0,
        B = 2,
        C = 1,
    }
    impl Serialize for Mixed {
        fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            serializer.serialize_u32(*self as u32)
        }
    }
    for codec in built([Codec::Bincode, Codec::Postcard, Codec::MessagePack]) {
        assert_eq!(roundtrip(codec, &Mixed::A).expect("is the same for both"), Mixed::A, "{codec}");
        refused(codec, &Mixed::B);
        refused(codec, &Mixed::C);
    }
}

fn is0(number: &u8) -> bool {
    *number == 0
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Tk(#[serde(skip_serializing_if = "is0", default)] u8, #[serde(default)] u8);

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Options(
    #[serde(skip_serializing_if = "Option::is_none", default)] Option<u8>,
    #[serde(skip_serializing_if = "Option::is_none", default)] Option<u8>,
);

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
enum Ek {
    V(#[serde(skip_serializing_if = "is0", default)] u8, #[serde(default)] u8),
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Ts(#[serde(skip_serializing, default)] u8, #[serde(default)] u8, #[serde(default)] u8);

#[test]
fn fields_left_out_of_a_tuple_struct_are_refused_in_every_codec() {
    for codec in built(Codec::ALL) {
        for (error, name) in [
            (refused(codec, &Tk(0, 5)), "Tk"),
            (refused(codec, &Options(None, Some(5))), "Options"),
            (refused(codec, &Ek::V(0, 5)), "V"),
            (refused(codec, &vec![Ek::V(0, 5)]), "V"),
            (refused(codec, &Ts(0, 1, 2)), "Ts"),
        ] {
            assert!(error.contains(&format!("`{name}`")), "{error}");
            assert!(error.contains("no codec") || !error.contains("use "), "{error}");
        }
    }
    assert_roundtrips([Tk(1, 5)]);
    assert_roundtrips([Options(Some(1), Some(5))]);
    assert_roundtrips([Ek::V(1, 5)]);
}

#[test]
fn fields_left_out_in_a_second_value_are_refused_in_every_codec() {
    for codec in built(Codec::ALL) {
        roundtrip(codec, &(Tk(1, 5), Ek::V(1, 5))).expect("is whole");
        refused(codec, &(Tk(0, 5), Ek::V(1, 5)));
        refused(codec, &(Tk(1, 5), Ek::V(0, 5)));
    }
}

#[test]
fn tuple_struct_without_the_same_fields_on_both_sides_is_carried() {
    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    struct Both(u8, #[serde(skip)] u8, u8);
    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    enum Variant {
        V(u8, #[serde(skip)] u8, u8),
    }
    assert_roundtrips([Both(1, 0, 2)]);
    assert_roundtrips([Variant::V(1, 0, 2)]);
}

#[test]
fn halves_with_different_names_are_compared_by_place() {
    #[derive(Serialize)]
    struct P1 {
        x: u8,
        y: u8,
        z: u8,
    }
    #[derive(Deserialize)]
    struct Q2 {
        y: u8,
        x: u8,
        z: u8,
    }
    #[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
    #[serde(into = "P1", from = "Q2")]
    struct Sw {
        x: u8,
        y: u8,
    }
    impl From<Sw> for P1 {
        fn from(Sw { x, y }: Sw) -> Self {
            Self { x, y, z: 0 }
        }
    }
    impl From<Q2> for Sw {
        fn from(Q2 { y, x, z: 0.. }: Q2) -> Self {
            Self { x, y }
        }
    }
    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    struct Around {
        first: Sw,
        more: Vec<Sw>,
    }
    for codec in built(BARE) {
        let sw = Sw { x: 1, y: 2 };
        for error in [refused(codec, &sw), refused(codec, &Around { first: sw, more: vec![sw] })] {
            assert!(error.contains("`P1`") && error.contains("MessagePack or JSON"), "{error}");
        }
    }
    assert_roundtrips_in(built(NAMED), [Sw { x: 1, y: 2 }]);
}

#[test]
fn halves_with_different_names_and_fields_at_the_same_places_are_carried() {
    #[derive(Serialize)]
    struct Out {
        x: u8,
        inner: OutInner,
    }
    #[derive(Serialize)]
    struct OutInner {
        a: u8,
        b: u8,
    }
    #[derive(Deserialize)]
    struct In {
        x: u8,
        inner: InInner,
    }
    #[derive(Deserialize)]
    struct InInner {
        a: u8,
        renamed: u8,
    }
    #[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
    #[serde(into = "Out", from = "In")]
    struct Whole(u8, u8, u8);
    impl From<Whole> for Out {
        fn from(Whole(x, a, b): Whole) -> Self {
            Self { x, inner: OutInner { a, b } }
        }
    }
    impl From<In> for Whole {
        fn from(In { x, inner: InInner { a, renamed } }: In) -> Self {
            Self(x, a, renamed)
        }
    }
    assert_roundtrips_in(built(BARE), [vec![Whole(1, 2, 3), Whole(4, 5, 6)]]);
    // A flat reader of a nested struct.
    #[derive(Debug, PartialEq, Serialize)]
    struct Nested {
        x: u8,
        inner: (u8, u8),
        z: u8,
    }
    impl<'de> Deserialize<'de> for Nested {
        fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            #[derive(Deserialize)]
            struct Flat {
                x: u8,
                a: u8,
                b: u8,
                z: u8,
            }
            Flat::deserialize(deserializer).map(|Flat { x, a, b, z }| Self { x, inner: (a, b), z })
        }
    }
    assert_roundtrips_in(built(BARE), [Nested { x: 1, inner: (2, 3), z: 4 }]);
}

/// The error blames the type whose halves disagree, and no part of it.
#[test]
fn errors_blame_the_type_whose_halves_disagree() {
    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    enum SkDe {
        A(u8, #[serde(skip_serializing, default)] u8),
    }
    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    struct Held {
        name: String,
        held: Vec<SkDe>,
    }
    for codec in built(BARE) {
        for error in [refused(codec, &SkDe::A(1, 2)), refused(codec, &Tk(0, 5))] {
            assert!(!error.contains("`u8` cannot"), "{error}");
        }
        assert!(refused(codec, &SkDe::A(1, 2)).contains("`A` of `SkDe`"), "{}", refused(codec, &SkDe::A(1, 2)));
        let error = refused(codec, &Held { name: "n".to_owned(), held: vec![SkDe::A(1, 2)] });
        assert!(error.contains("`A` of `SkDe`"), "{error}");
        assert!(refused(codec, &Tk(0, 5)).contains("`Tk`"), "{}", refused(codec, &Tk(0, 5)));
    }
}

/// Where no codec carries a value, none is advised.
#[test]
fn errors_advise_only_codecs_that_carry_the_value() {
    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    #[serde(tag = "t")]
    enum Tb {
        A { n: u128 },
    }
    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    #[serde(tag = "t")]
    enum Keyed {
        Map { map: std::collections::BTreeMap<u64, u8> },
    }
    for codec in built(Codec::ALL) {
        let error = refused(codec, &Tb::A { n: 1 });
        assert!(!error.contains("use another codec") && !error.contains("use "), "{error}");
        assert!(error.contains("no codec"), "{error}");
    }
    if Codec::MessagePack.is_available() {
        for codec in built([Codec::Bincode, Codec::Postcard, Codec::Json]) {
            let error = refused(codec, &Keyed::Map { map: [(1, 2)].into() });
            assert!(error.contains("use MessagePack") && !error.contains("JSON for"), "{error}");
        }
    }
}

#[test]
fn arguments_by_name_are_refused_in_codecs_without_names() {
    let by_name = std::collections::BTreeMap::from([("n", 4_u8)]);
    for codec in built(BARE) {
        for error in [
            encode_dynamic_arguments(codec, &vec![7_u8]).expect_err("is refused"),
            encode_dynamic_arguments(codec, &by_name).expect_err("is refused"),
            encode_dynamic_arguments(codec, &serde_json::json!({"n": 4})).expect_err("is refused"),
            encode_dynamic_arguments(codec, &Named { n: 4 }).expect_err("is refused"),
        ] {
            let error = error.to_string();
            assert!(error.contains("tuple") && error.contains("MessagePack or JSON"), "{error}");
        }
        encode_dynamic_arguments(codec, &(vec![7_u8], 1)).expect("is a tuple");
        encode_dynamic_arguments(codec, &()).expect("is a tuple");
    }
    for codec in built(NAMED) {
        encode_dynamic_arguments(codec, &vec![7_u8]).expect("is a list");
        encode_dynamic_arguments(codec, &by_name).expect("is a map");
        encode_dynamic_arguments(codec, &Named { n: 4 }).expect("is a struct");
    }
    #[derive(Serialize)]
    struct Named {
        n: u8,
    }
}
