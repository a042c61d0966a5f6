//! Halves whose disagreement is hidden: behind long lists, many options and recursion, beside hand-written halves, in
//! tuples, and in a second value of a type whose first value was sound.

use serde::{Deserialize, Deserializer, Serializer, ser::SerializeStruct};

use super::*;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
enum Kind {
    Start,
    #[serde(skip)]
    #[allow(dead_code)]
    Pause,
    Stop,
    Erase,
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
struct Pixel {
    r: u8,
    g: u8,
}

/// A sound value first, then one that would arrive as a different one.
#[track_caller]
fn second_is_refused<T>(sound: T, unsound: T)
where
    T: Serialize + DeserializeOwned + PartialEq + std::fmt::Debug + 'static,
{
    for codec in built(BARE) {
        assert_eq!(roundtrip(codec, &sound).expect("is sound"), sound, "{codec}");
        let error = refused(codec, &unsound);
        assert!(error.contains("MessagePack or JSON") || error.contains("no codec"), "{error}");
        assert_eq!(roundtrip(codec, &sound).expect("is still sound"), sound, "{codec}");
    }
}

#[test]
fn behind_a_list_of_any_length() {
    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Many {
        pixels: Vec<Pixel>,
        kind: Kind,
    }
    let many = |length, kind| Many { pixels: vec![Pixel { r: 1, g: 2 }; length], kind };
    for codec in built(BARE) {
        refused(codec, &many(5_000, Kind::Stop));
    }
    second_is_refused(many(5_000, Kind::Start), many(5_000, Kind::Stop));
}

#[test]
fn beside_any_number_of_options() {
    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Wide(Vec<(Option<u8>, Option<u16>)>, [Option<Option<u64>>; 32], Kind);
    let wide = |kind| Wide(vec![(Some(1), Some(2)); 70], [Some(Some(7)); 32], kind);
    second_is_refused(wide(Kind::Start), wide(Kind::Stop));
}

#[test]
fn in_a_tree_of_any_form() {
    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    struct Tree {
        kind: Kind,
        left: Option<Box<Self>>,
        right: Option<Box<Self>>,
    }
    fn tree(seed: u64, depth: u32) -> Tree {
        let child =
            |bit: u64| (depth > 0 && seed & bit != 0).then(|| Box::new(tree(seed.rotate_right(2) ^ bit, depth - 1)));
        Tree { kind: Kind::Start, left: child(1), right: child(2) }
    }
    for codec in built(BARE) {
        for seed in 0..2_000_u64 {
            roundtrip(codec, &tree(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15), 9)).expect("is sound");
        }
    }
    let mut unsound = tree(7, 3);
    unsound.right = Some(Box::new(Tree { kind: Kind::Stop, left: None, right: None }));
    second_is_refused(tree(7, 3), unsound);
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(from = "(i32, i32)")]
struct Point {
    x: i32,
    y: i32,
}

impl From<(i32, i32)> for Point {
    fn from((x, y): (i32, i32)) -> Self {
        Self { x, y }
    }
}

#[test]
fn beside_a_struct_that_is_read_as_a_tuple() {
    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Hidden {
        point: Point,
        kind: Kind,
    }
    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Scene {
        point: Point,
        vector: Vector,
    }
    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Vector {
        x: u8,
        y: u8,
        z: u8,
    }
    let point = Point { x: 1, y: 2 };
    let hidden = |kind| Hidden { point: point.clone(), kind };
    second_is_refused(hidden(Kind::Start), hidden(Kind::Stop));
    for codec in built(BARE) {
        let scene = Scene { point: point.clone(), vector: Vector { x: 1, y: 2, z: 3 } };
        assert_eq!(roundtrip(codec, &scene).expect("is sound"), scene, "{codec}");
    }
}

#[test]
fn under_a_name_that_only_the_writer_knows() {
    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    enum Renamed {
        A,
        #[serde(skip)]
        #[allow(dead_code)]
        B,
        #[serde(rename(deserialize = "c"))]
        C,
        D,
    }
    for codec in built(BARE) {
        roundtrip(codec, &Renamed::A).expect("is sound");
        let error = refused(codec, &Renamed::C);
        assert!(error.contains("there is no variant `C`") && error.contains("one name for both sides"), "{error}");
    }
}

#[test]
fn in_tuple_structs_and_tuple_variants() {
    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    struct Always(u8, #[serde(skip_serializing)] u8, u8);
    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    struct NowAndThen(u8, #[serde(skip_serializing_if = "Option::is_none")] Option<u8>, u8);
    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    enum Variant {
        A(u8, #[serde(skip_serializing_if = "Option::is_none")] Option<u8>, u8),
    }
    for codec in built(BARE) {
        let error = refused(codec, &(Always(1, 2, 2), vec![1_u8, 7]));
        assert!(error.contains("`Always`") && error.contains("no codec"), "{error}");
        refused(codec, &(NowAndThen(1, None, 1), vec![2_u8, 0]));
        refused(codec, &(Variant::A(1, None, 1), vec![2_u8, 0]));
    }
    second_is_refused((NowAndThen(1, Some(3), 0), vec![1, 5]), (NowAndThen(1, None, 0), vec![1, 5]));
    second_is_refused((Variant::A(1, Some(3), 0), vec![1, 5]), (Variant::A(1, None, 0), vec![1, 5]));
}

#[test]
fn in_hand_written_halves() {
    /// Leaves `b` out when it is 0, and declares one field less.
    #[derive(Clone, Debug, PartialEq, Deserialize)]
    struct Hand {
        a: u8,
        #[serde(default)]
        b: u8,
        c: u8,
    }
    impl Serialize for Hand {
        fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            let mut fields = serializer.serialize_struct("Hand", if self.b == 0 { 2 } else { 3 })?;
            fields.serialize_field("a", &self.a)?;
            if self.b != 0 {
                fields.serialize_field("b", &self.b)?;
            }
            fields.serialize_field("c", &self.c)?;
            fields.end()
        }
    }
    let value = |b| (Hand { a: 1, b, c: 5 }, 7_u8, None::<u8>);
    second_is_refused(value(2), value(0));
    assert_roundtrips_in(built(NAMED), [value(2), value(0)]);
}

#[test]
fn in_two_types_of_one_name() {
    for codec in built(BARE) {
        {
            #[derive(Debug, PartialEq, Serialize, Deserialize)]
            enum Twin {
                A,
                B,
                C,
            }
            assert_roundtrips_in([codec], [Twin::A, Twin::B, Twin::C]);
        }
        {
            #[derive(Debug, PartialEq, Serialize, Deserialize)]
            enum Twin {
                A,
                #[serde(skip)]
                #[allow(dead_code)]
                X,
                B,
                C,
            }
            assert_eq!(roundtrip(codec, &Twin::A).expect("is sound"), Twin::A);
            refused(codec, &Twin::B);
            assert!(encode_as::<Twin, _>(codec, &Twin::C).is_err());
        }
    }
}

#[test]
fn in_codecs_with_names_too() {
    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Host {
        ip: std::net::IpAddr,
    }
    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Node {
        name: String,
        #[serde(flatten)]
        host: Host,
    }
    let node = Node { name: "n".to_owned(), host: Host { ip: std::net::Ipv4Addr::LOCALHOST.into() } };
    for codec in built([Codec::MessagePack]) {
        let error = refused(codec, &node);
        assert!(error.contains("Node`") && error.contains("use JSON for it"), "{error}");
    }
    for codec in built([Codec::Json]) {
        assert_eq!(roundtrip(codec, &node).expect("is carried"), node);
    }
}

#[test]
fn wide_integers_stay_integers_for_readers_of_any_type() {
    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    #[serde(untagged)]
    enum Key {
        Number(u64),
        Text(String),
    }
    for codec in built(NAMED) {
        let written = encode(codec, &3_u128).expect("is written");
        assert_eq!(decode::<Key>(&written).expect("is read"), Key::Number(3), "{codec}");
        for number in [i128::MIN, -1, 0, i128::from(u64::MAX), i128::MAX] {
            assert_eq!(roundtrip(codec, &number).expect("is carried"), number, "{codec}");
        }
        assert_eq!(roundtrip(codec, &u128::MAX).expect("is carried"), u128::MAX, "{codec}");
    }
}

#[test]
fn reader_by_number_alone_is_carried() {
    #[derive(Debug, PartialEq, Serialize)]
    enum Level {
        Low,
        High,
    }
    impl<'de> Deserialize<'de> for Level {
        fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            struct ByNumber;
            impl<'de> de::Visitor<'de> for ByNumber {
                type Value = Level;
                fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                    f.write_str("a level")
                }
                fn visit_enum<A: de::EnumAccess<'de>>(self, access: A) -> Result<Level, A::Error> {
                    let (number, content) = access.variant::<u32>()?;
                    de::VariantAccess::unit_variant(content)?;
                    Ok(if number == 0 { Level::Low } else { Level::High })
                }
            }
            deserializer.deserialize_enum("Level", &["Low", "High"], ByNumber)
        }
    }
    assert_roundtrips_in(built(BARE), [Level::Low, Level::High]);
}

#[test]
fn nested_structs_with_one_name_are_carried() {
    mod first {
        #[derive(Debug, PartialEq, serde::Serialize, serde::Deserialize)]
        pub(super) struct Config {
            pub(super) size: u8,
            pub(super) path: String,
            pub(super) depth: u8,
        }
    }
    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Config {
        base: first::Config,
        extra: u8,
    }
    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Outer<T>(T, u8);
    let base = || first::Config { size: 1, path: "/".to_owned(), depth: 2 };
    assert_roundtrips([Config { base: base(), extra: 3 }]);
    assert_roundtrips([vec![Config { base: base(), extra: 3 }, Config { base: base(), extra: 4 }]]);
    assert_roundtrips([Outer(Outer(Outer(base(), 1), 2), 3)]);
}
