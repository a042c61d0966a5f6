//! Places of one type with different readers, in one value and in a second value of known types.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serializer, ser::SerializeTuple};

use super::*;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
enum Color {
    Red,
    Green,
}

/// An older version of [`Color`].
#[derive(Deserialize)]
enum Old {
    Green,
    Red,
}

impl From<Old> for Color {
    fn from(old: Old) -> Self {
        match old {
            Old::Red => Self::Red,
            Old::Green => Self::Green,
        }
    }
}

fn old<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Color, D::Error> {
    Old::deserialize(deserializer).map(Color::from)
}

fn old_list<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Color>, D::Error> {
    Ok(Vec::<Old>::deserialize(deserializer)?.into_iter().map(Color::from).collect())
}

/// A sound value arrives first; the unsound one after it is refused in codecs without names.
#[track_caller]
fn second_is_refused<T>(sound: T, unsound: T)
where
    T: Serialize + DeserializeOwned + PartialEq + std::fmt::Debug + 'static,
{
    for codec in built(BARE) {
        assert_eq!(roundtrip(codec, &sound).expect("is sound"), sound, "{codec}");
        let error = refused(codec, &unsound);
        assert!(error.contains("MessagePack or JSON"), "{error}");
        assert_eq!(roundtrip(codec, &sound).expect("is still sound"), sound, "{codec}");
    }
    assert_roundtrips_in(built(NAMED), [sound, unsound]);
}

#[test]
fn option_with_another_reader_beside_a_known_one() {
    #[derive(Deserialize)]
    struct Compat {
        width: Option<u32>,
        height: Option<i64>,
    }
    #[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
    #[serde(from = "Compat")]
    struct Size {
        width: Option<u32>,
        height: Option<u32>,
    }
    impl From<Compat> for Size {
        fn from(Compat { width, height }: Compat) -> Self {
            Self { width, height: height.and_then(|height| u32::try_from(height).ok()) }
        }
    }
    second_is_refused(Size { width: Some(1), height: None }, Size { width: Some(1), height: Some(6) });
    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Call {
        retries: Option<u32>,
        #[serde(deserialize_with = "lenient")]
        timeout: Option<u32>,
    }
    fn lenient<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u32>, D::Error> {
        Ok(Option::<i64>::deserialize(deserializer)?.and_then(|number| u32::try_from(number).ok()))
    }
    second_is_refused(Call { retries: Some(3), timeout: None }, Call { retries: Some(3), timeout: Some(5) });
}

#[test]
fn list_with_another_reader_beside_a_known_one() {
    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Two {
        a: Vec<Color>,
        #[serde(deserialize_with = "old_list")]
        b: Vec<Color>,
    }
    use Color::{Green, Red};
    second_is_refused(Two { a: vec![Red, Green], b: vec![] }, Two { a: vec![], b: vec![Red, Green] });
}

#[test]
fn variant_with_another_reader_in_the_same_value() {
    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Two {
        a: Color,
        #[serde(deserialize_with = "old")]
        b: Color,
    }
    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    struct Pt {
        x: u8,
        y: u8,
    }
    #[derive(Deserialize)]
    #[serde(rename = "Pt")]
    struct Turned {
        y: u8,
        x: u8,
    }
    fn turned<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Pt, D::Error> {
        Turned::deserialize(deserializer).map(|Turned { y, x }| Pt { x, y })
    }
    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Line {
        a: Pt,
        #[serde(deserialize_with = "turned")]
        b: Pt,
    }
    for codec in built(BARE) {
        let error = refused(codec, &Two { a: Color::Red, b: Color::Red });
        assert!(error.contains("`Red` of `Color`") && error.contains("MessagePack or JSON"), "{error}");
        let error = refused(codec, &Line { a: Pt { x: 1, y: 2 }, b: Pt { x: 3, y: 4 } });
        assert!(error.contains("`Pt`") && error.contains("MessagePack or JSON"), "{error}");
    }
    assert_roundtrips_in(built(NAMED), [Two { a: Color::Red, b: Color::Red }]);
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Inner {
    colors: Vec<Color>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Outer {
    inner: Option<Inner>,
}

#[derive(Deserialize)]
struct OldInner {
    #[serde(deserialize_with = "old_list")]
    colors: Vec<Color>,
}

#[derive(Deserialize)]
struct OldOuter {
    inner: Option<OldInner>,
}

fn old_outer<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Outer, D::Error> {
    let OldOuter { inner } = OldOuter::deserialize(deserializer)?;
    Ok(Outer { inner: inner.map(|OldInner { colors }| Inner { colors }) })
}

#[test]
fn reader_of_an_outer_type_beside_a_known_one() {
    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Two {
        a: Outer,
        #[serde(deserialize_with = "old_outer")]
        b: Outer,
    }
    let outer = |colors: &[Color]| Outer { inner: Some(Inner { colors: colors.to_vec() }) };
    second_is_refused(
        Two { a: outer(&[Color::Green, Color::Red]), b: outer(&[]) },
        Two { a: outer(&[]), b: outer(&[Color::Red]) },
    );
    for codec in built(BARE) {
        refused(codec, &Two { a: outer(&[Color::Red]), b: outer(&[Color::Red]) });
    }
}

#[test]
fn keys_and_values_of_a_map_and_parts_of_a_tuple() {
    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Map {
        #[serde(deserialize_with = "old_values")]
        map: BTreeMap<Color, Vec<Color>>,
    }
    fn old_values<'de, D: Deserializer<'de>>(deserializer: D) -> Result<BTreeMap<Color, Vec<Color>>, D::Error> {
        let map = BTreeMap::<Color, Vec<Old>>::deserialize(deserializer)?;
        Ok(map.into_iter().map(|(key, values)| (key, values.into_iter().map(Color::from).collect())).collect())
    }
    let map = |values: &[Color]| Map { map: BTreeMap::from([(Color::Red, values.to_vec())]) };
    second_is_refused(map(&[]), map(&[Color::Red]));
    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Tuple(Option<Color>, #[serde(deserialize_with = "old_option")] Option<Color>);
    fn old_option<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Color>, D::Error> {
        Ok(Option::<Old>::deserialize(deserializer)?.map(Color::from))
    }
    second_is_refused(Tuple(Some(Color::Red), None), Tuple(None, Some(Color::Red)));
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Tree {
    color: Color,
    left: Option<Box<Self>>,
    #[serde(deserialize_with = "odd_tree")]
    right: Option<Box<Self>>,
}

#[derive(Deserialize)]
struct OddTree {
    #[serde(deserialize_with = "old")]
    color: Color,
    left: Option<Box<Self>>,
    right: Option<Box<Self>>,
}

impl From<OddTree> for Tree {
    fn from(OddTree { color, left, right }: OddTree) -> Self {
        let into = |tree: Option<Box<OddTree>>| tree.map(|tree| Box::new(Self::from(*tree)));
        Self { color, left: into(left), right: into(right) }
    }
}

fn odd_tree<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Box<Tree>>, D::Error> {
    Ok(Option::<Box<OddTree>>::deserialize(deserializer)?.map(|tree| Box::new(Tree::from(*tree))))
}

fn leaf(color: Color) -> Option<Box<Tree>> {
    Some(Box::new(Tree { color, left: None, right: None }))
}

#[test]
fn other_reader_of_a_recursive_type() {
    use Color::Red;
    let left = |inner| Some(Box::new(Tree { color: Red, left: inner, right: None }));
    let known = Tree { color: Red, left: left(left(leaf(Red))), right: None };
    for unsound in [
        Tree { color: Red, left: None, right: leaf(Red) },
        Tree { color: Red, left: left(leaf(Red)), right: left(leaf(Red)) },
        Tree { color: Red, left: Some(Box::new(Tree { color: Red, left: None, right: leaf(Red) })), right: None },
    ] {
        second_is_refused(known.clone(), unsound);
    }
}

/// As many forms as a type with one reader for each place has, however deep and in which shape its values are.
#[test]
fn recursive_types_have_few_forms() {
    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    enum Node {
        Number(i64),
        Pair(Box<Self>, Box<Self>),
        List(Vec<Self>),
        Named { name: Option<String>, of: Box<Self> },
    }
    fn node(seed: u64, depth: u32) -> Node {
        let next = |by: u32| node(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_right(by), depth - 1);
        match (depth, seed % 4) {
            (0, _) | (_, 0) => Node::Number(3),
            (_, 1) => Node::Pair(Box::new(next(7)), Box::new(next(9))),
            (_, 2) => Node::List((0..seed % 3).map(|index| next(index as u32 + 11)).collect()),
            _ => Node::Named { name: (seed % 5 > 1).then(String::new), of: Box::new(next(21)) },
        }
    }
    for codec in built(Codec::ALL) {
        let forms = |seed| {
            let node = node(seed, 12);
            with_format!(codec, F => {
                let writing = Writing::new(F::TRAITS, What::Value, false);
                write::<F, _>(&node, &writing, Vec::new()).map(|_| writing.observed().seen.take_forms())
            })
            .expect("writes")
        };
        let all: std::collections::HashSet<_> = (0..20_000).flat_map(forms).collect();
        assert!(all.len() < 300, "{codec}: {} forms", all.len());
    }
}

/// A known recursive type is not read back again.
#[test]
fn recursive_types_are_known_after_some_values() {
    thread_local! {
        static READ: std::cell::Cell<usize> = const { std::cell::Cell::new(0) };
    }
    #[derive(Debug, Serialize)]
    struct Counted {
        name: Option<u8>,
        inner: Vec<Self>,
    }
    impl<'de> Deserialize<'de> for Counted {
        fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            #[derive(Deserialize)]
            #[serde(rename = "Counted")]
            struct Plain {
                name: Option<u8>,
                inner: Vec<Counted>,
            }
            READ.set(READ.get() + 1);
            Plain::deserialize(deserializer).map(|Plain { name, inner }| Self { name, inner })
        }
    }
    fn counted(depth: usize) -> Counted {
        let inner = (0..depth.min(2)).map(|_| counted(depth - 1)).collect();
        Counted { name: (depth > 2).then_some(1), inner }
    }
    for codec in built(Codec::ALL) {
        for depth in 0..5 {
            encode_as::<Counted, _>(codec, &counted(depth)).expect("is carried");
        }
        let read = READ.get();
        for depth in 0..10 {
            encode_as::<Counted, _>(codec, &counted(depth)).expect("is carried");
        }
        assert_eq!(READ.get(), read, "{codec}");
    }
}

/// The reader in a codec with names would refuse what the writer has sent.
#[test]
fn codecs_with_names_refuse_it_at_the_writer_too() {
    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Tx {
        a: Option<u32>,
        #[serde(deserialize_with = "text")]
        b: Option<u32>,
    }
    fn text<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u32>, D::Error> {
        Ok(Option::<String>::deserialize(deserializer)?.and_then(|text| text.parse().ok()))
    }
    for codec in built(NAMED) {
        roundtrip(codec, &Tx { a: Some(5), b: None }).expect("is carried");
        refused(codec, &Tx { a: None, b: Some(5) });
    }
}

/// Writes a number as a `u64` if it fits, else as an `i64`, and reads an `i64`.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize)]
struct Num(i64);

impl Serialize for Num {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match u64::try_from(self.0) {
            Ok(number) => serializer.serialize_u64(number),
            Err(_) => serializer.serialize_i64(self.0),
        }
    }
}

#[test]
fn kind_of_a_number_that_depends_on_its_value() {
    second_is_refused(Num(-1), Num(5));
    second_is_refused((Num(-1), Num(-2)), (Num(5), Num(6)));
    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Sum {
        a: Num,
        b: Option<Num>,
    }
    second_is_refused(Sum { a: Num(-1), b: Some(Num(-3)) }, Sum { a: Num(-1), b: Some(Num(5)) });
    second_is_refused(vec![Num(-1), Num(-4)], vec![Num(-1), Num(5)]);
}

/// Hides the choice in a part, or in whether there is a part.
#[test]
fn kind_of_a_part_that_depends_on_its_value() {
    #[derive(Debug, PartialEq)]
    struct Part(i64);
    impl Serialize for Part {
        fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            let mut tuple = serializer.serialize_tuple(1)?;
            match u64::try_from(self.0) {
                Ok(number) => tuple.serialize_element(&number)?,
                Err(_) => tuple.serialize_element(&self.0)?,
            }
            tuple.end()
        }
    }
    impl<'de> Deserialize<'de> for Part {
        fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            <(i64,)>::deserialize(deserializer).map(|(number,)| Self(number))
        }
    }
    second_is_refused(Part(-1), Part(5));
    #[derive(Debug, PartialEq)]
    struct List(Vec<i64>);
    impl Serialize for List {
        fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            use serde::ser::SerializeSeq;
            let mut list = serializer.serialize_seq(Some(self.0.len()))?;
            for number in &self.0 {
                match u64::try_from(*number) {
                    Ok(number) => list.serialize_element(&number)?,
                    Err(_) => list.serialize_element(number)?,
                }
            }
            list.end()
        }
    }
    impl<'de> Deserialize<'de> for List {
        fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            Vec::deserialize(deserializer).map(Self)
        }
    }
    second_is_refused(List(vec![-1, -1]), List(vec![-1, 5]));
    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Flat {
        #[serde(deserialize_with = "as_tuple")]
        a: Option<u32>,
        b: Vec<u8>,
    }
    fn as_tuple<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u32>, D::Error> {
        <(u8, u32)>::deserialize(deserializer).map(|(_, number)| Some(number))
    }
    for codec in built(BARE) {
        let sound = Flat { a: Some(5), b: vec![1] };
        assert_eq!(roundtrip(codec, &sound).expect("is sound"), sound, "{codec}");
        refused(codec, &Flat { a: None, b: vec![0] });
    }
}

/// A value whose halves agree only for small numbers is read back each time, whatever it consists of.
#[test]
fn small_numbers_prove_nothing_about_larger_ones() {
    macro_rules! level {
        ($name:ident, $into:ty, $from:ty) => {
            #[derive(Clone, Debug, PartialEq, Serialize)]
            struct $name(u32);
            impl From<$name> for $into {
                fn from(level: $name) -> Self {
                    level.0 as $into
                }
            }
            impl<'de> Deserialize<'de> for $name {
                fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                    <$from>::deserialize(deserializer).map(|number| Self(number as u32))
                }
            }
        };
    }
    level!(Wide, u8, u32);
    level!(Wider, u8, u64);
    for codec in built(BARE) {
        let write = |level: u32, text: &str| encode_as::<(Wide, String), _>(codec, &(u8::from(Wide(level)), text));
        let read: (Wide, String) = decode(&write(3, "x").expect("is small")).expect("is read");
        assert_eq!(read, (Wide(3), "x".to_owned()), "{codec}");
        write(200, "\u{1}a").expect_err("is refused");
        encode_as::<Wider, _>(codec, &u8::from(Wider(3))).expect("is small");
        encode_as::<Wider, _>(codec, &u8::from(Wider(255))).expect_err("is refused");
    }
}
