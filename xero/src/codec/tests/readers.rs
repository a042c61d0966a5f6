//! Generated values of types with other readers in some places: what is written arrives as it was, or is refused; and
//! where both readers agree, it is not refused.

use std::{collections::BTreeMap, fmt::Debug};

use proptest::prelude::*;
use serde::{Deserialize, Deserializer, Serializer};

use super::{overlap::Made, *};

/// A type with another reader.
trait Odd: Sized {
    type Reader: DeserializeOwned + Into<Self>;
}

fn odd<'de, T: Odd, D: Deserializer<'de>>(deserializer: D) -> Result<T, D::Error> {
    T::Reader::deserialize(deserializer).map(Into::into)
}

/// A type and its other reader, which has the same variants or fields in another order, or other numbers.
macro_rules! odd {
    ($($(#[$attribute:meta])* $kind:ident $name:ident { $($body:tt)* }, read as $other:ident { $($read:tt)* }
        by $from:pat => $into:expr, made by $seed:ident: $make:expr;)*) => {
        $(
            $(#[$attribute])*
            #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
            $kind $name { $($body)* }
            #[derive(Clone, Debug, Serialize, Deserialize)]
            $kind $other { $($read)* }
            impl From<$other> for $name {
                fn from($from: $other) -> Self {
                    $into
                }
            }
            impl Odd for $name {
                type Reader = $other;
            }
            impl Made for $name {
                fn make($seed: &mut dyn Iterator<Item = u8>) -> Self {
                    $make
                }
            }
        )*
    };
}

odd! {
    enum Color { Red, Green, Mixed(u8) }, read as OldColor { Green, Red, Mixed(u8) } by old => match old {
        OldColor::Red => Self::Red,
        OldColor::Green => Self::Green,
        OldColor::Mixed(of) => Self::Mixed(of),
    }, made by seed: match u8::make(seed) % 3 {
        0 => Self::Red,
        1 => Self::Green,
        _ => Self::Mixed(u8::make(seed)),
    };
    struct Point { x: u8, y: Vec<u8> }, read as Turned { y: Vec<u8>, x: u8 } by Turned { y, x } => Self { x, y },
        made by seed: Self { x: u8::make(seed), y: Vec::make(seed) };
    struct Level { level: Option<u32> }, read as Signed { level: Option<i64> }
        by Signed { level } => Self { level: level.and_then(|level| u32::try_from(level).ok()) },
        made by seed: Self { level: Option::make(seed).map(|level: u8| u32::from(level)) };
    struct Same { number: u16, color: Option<Color> }, read as Compat { number: u16, color: Option<Color> }
        by Compat { number, color } => Self { number, color },
        made by seed: Self { number: u16::from(u8::make(seed)) * 200, color: Option::make(seed) };
    enum Tuple { Skips(
        #[serde(skip_serializing_if = "Option::is_none", default)] Option<u8>,
        #[serde(skip_serializing_if = "Option::is_none", default)] Option<u8>,
    ) }, read as SameTuple { Skips(#[serde(default)] Option<u8>, #[serde(default)] Option<u8>) }
        by SameTuple::Skips(a, b) => Self::Skips(a, b),
        made by seed: Self::Skips(Option::make(seed), Option::make(seed));
}

/// Halves of different types.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(from = "CompatSize")]
struct Size {
    width: Option<u32>,
    height: Option<u32>,
}

#[derive(Deserialize)]
struct CompatSize {
    width: Option<u32>,
    height: Option<i64>,
}

impl From<CompatSize> for Size {
    fn from(CompatSize { width, height }: CompatSize) -> Self {
        Self { width, height: height.and_then(|height| u32::try_from(height).ok()) }
    }
}

impl Made for Size {
    fn make(seed: &mut dyn Iterator<Item = u8>) -> Self {
        let mut number = || Option::make(seed).map(|number: u8| u32::from(number));
        Self { width: number(), height: number() }
    }
}

/// Writes its kind by its value.
#[derive(Clone, Debug, PartialEq, Deserialize)]
struct Num(i64);

impl Serialize for Num {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match u64::try_from(self.0) {
            Ok(number) => serializer.serialize_u64(number),
            Err(_) => serializer.serialize_i64(self.0),
        }
    }
}

impl Made for Num {
    fn make(seed: &mut dyn Iterator<Item = u8>) -> Self {
        Self(i64::from(u8::make(seed)) - 100)
    }
}

/// An enum that is written as a number.
#[derive(Clone, Debug, PartialEq, Deserialize)]
enum Repr {
    A,
    B,
    C,
}

impl Serialize for Repr {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u32(match self {
            Self::A => 0,
            Self::B => 2,
            Self::C => 1,
        })
    }
}

impl Made for Repr {
    fn make(seed: &mut dyn Iterator<Item = u8>) -> Self {
        match u8::make(seed) % 3 {
            0 => Self::A,
            1 => Self::B,
            _ => Self::C,
        }
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Leaves(#[serde(default, skip_serializing_if = "is0")] u8, #[serde(default)] u8);

fn is0(number: &u8) -> bool {
    *number == 0
}

impl Made for Leaves {
    fn make(seed: &mut dyn Iterator<Item = u8>) -> Self {
        Self(u8::make(seed) % 2, u8::make(seed))
    }
}

/// Several places of one type, some of them with another reader.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(bound(deserialize = "T: Odd + DeserializeOwned"))]
struct Places<T> {
    first: Option<T>,
    #[serde(deserialize_with = "odd_list")]
    odd: Vec<T>,
    pair: (Vec<T>, Option<Box<T>>),
    tail: Vec<u8>,
    inner: Option<Box<Self>>,
    #[serde(deserialize_with = "odd_places")]
    odd_inner: Option<Box<Self>>,
}

fn odd_list<'de, T: Odd, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<T>, D::Error> {
    Ok(Vec::<T::Reader>::deserialize(deserializer)?.into_iter().map(Into::into).collect())
}

/// Reads places whose readers are exchanged.
#[derive(Deserialize)]
#[serde(bound(deserialize = "T: Odd + DeserializeOwned"))]
struct OddPlaces<T> {
    #[serde(deserialize_with = "odd_option")]
    first: Option<T>,
    odd: Vec<T>,
    pair: (Vec<T>, Option<Box<T>>),
    tail: Vec<u8>,
    inner: Option<Box<Self>>,
    odd_inner: Option<Box<Self>>,
}

fn odd_option<'de, T: Odd, D: Deserializer<'de>>(deserializer: D) -> Result<Option<T>, D::Error> {
    Ok(Option::<T::Reader>::deserialize(deserializer)?.map(Into::into))
}

fn odd_places<'de, T, D>(deserializer: D) -> Result<Option<Box<Places<T>>>, D::Error>
where
    T: Odd + DeserializeOwned,
    D: Deserializer<'de>,
{
    Ok(Option::<Box<OddPlaces<T>>>::deserialize(deserializer)?.map(|places| Box::new((*places).into())))
}

impl<T> From<OddPlaces<T>> for Places<T> {
    fn from(places: OddPlaces<T>) -> Self {
        let OddPlaces { first, odd, pair, tail, inner, odd_inner } = places;
        let into = |places: Option<Box<OddPlaces<T>>>| places.map(|places| Box::new((*places).into()));
        Self { first, odd, pair, tail, inner: into(inner), odd_inner: into(odd_inner) }
    }
}

impl<T: Made> Made for Places<T> {
    fn make(seed: &mut dyn Iterator<Item = u8>) -> Self {
        let mut inner = || (u8::make(seed) % 4 == 3).then(|| Box::new(Self::make(seed)));
        let (inner, odd_inner) = (inner(), inner());
        let pair = (Vec::make(seed), Option::make(seed).map(Box::new));
        Self { first: Option::make(seed), odd: Vec::make(seed), pair, tail: Vec::make(seed), inner, odd_inner }
    }
}

/// A custom reader at the outer level only.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(bound(deserialize = "T: Odd + DeserializeOwned"))]
struct Outer<T> {
    #[serde(deserialize_with = "odd")]
    held: Held<T>,
    more: Vec<Held<T>>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Held<T> {
    map: BTreeMap<u8, Option<T>>,
}

#[derive(Deserialize)]
struct OddHeld<R> {
    map: BTreeMap<u8, Option<R>>,
}

impl<T: Odd> Odd for Held<T> {
    type Reader = OddHeld<T::Reader>;
}

impl<T, R: Into<T>> From<OddHeld<R>> for Held<T> {
    fn from(OddHeld { map }: OddHeld<R>) -> Self {
        Self { map: map.into_iter().map(|(key, value)| (key, value.map(Into::into))).collect() }
    }
}

impl<T: Made> Made for Held<T> {
    fn make(seed: &mut dyn Iterator<Item = u8>) -> Self {
        Self { map: Vec::<(u8, u8)>::make(seed).into_iter().map(|(key, _)| (key, Option::make(seed))).collect() }
    }
}

impl<T: Made> Made for Outer<T> {
    fn make(seed: &mut dyn Iterator<Item = u8>) -> Self {
        Self { held: Held::make(seed), more: Vec::make(seed) }
    }
}

/// Each value arrives as it was, or is refused; known values do not change that for later ones.
fn arrive_or_are_refused<T>(seed: &[u8]) -> Result<(), TestCaseError>
where
    T: Made + Serialize + DeserializeOwned + PartialEq + Debug + 'static,
{
    let seed = &mut seed.iter().copied();
    for value in std::iter::repeat_with(|| T::make(seed)).take(4) {
        for codec in built(Codec::ALL) {
            if let Ok(written) = encode_as::<T, _>(codec, &value) {
                let read = decode::<T>(&written).map_err(|error| TestCaseError::fail(error.to_string()))?;
                prop_assert_eq!(&read, &value, "{}", codec);
            }
        }
    }
    Ok(())
}

fn are_carried<T>(seed: &[u8], codecs: impl IntoIterator<Item = Codec>) -> Result<(), TestCaseError>
where
    T: Made + Serialize + DeserializeOwned + PartialEq + Debug + 'static,
{
    let value = T::make(&mut seed.iter().copied());
    for codec in built(codecs) {
        let read = roundtrip(codec, &value).map_err(|error| TestCaseError::fail(error.to_string()))?;
        prop_assert_eq!(&read, &value, "{}", codec);
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn values_of_types_with_several_readers_arrive_or_are_refused(seed in prop::collection::vec(any::<u8>(), 4..80)) {
        arrive_or_are_refused::<Places<Color>>(&seed)?;
        arrive_or_are_refused::<Places<Point>>(&seed)?;
        arrive_or_are_refused::<Places<Level>>(&seed)?;
        arrive_or_are_refused::<Places<Tuple>>(&seed)?;
        arrive_or_are_refused::<Outer<Color>>(&seed)?;
        arrive_or_are_refused::<Outer<Level>>(&seed)?;
        arrive_or_are_refused::<Vec<Outer<Point>>>(&seed)?;
        arrive_or_are_refused::<Vec<(Size, Size)>>(&seed)?;
        arrive_or_are_refused::<(Num, Vec<Num>, Option<(Num, u8)>)>(&seed)?;
        arrive_or_are_refused::<(Vec<Repr>, Option<Repr>)>(&seed)?;
        arrive_or_are_refused::<(Leaves, Vec<Leaves>)>(&seed)?;
    }

    #[test]
    fn values_whose_readers_agree_are_carried(seed in prop::collection::vec(any::<u8>(), 4..80)) {
        are_carried::<Places<Same>>(&seed, Codec::ALL)?;
        are_carried::<Outer<Same>>(&seed, Codec::ALL)?;
        are_carried::<Places<Color>>(&seed, NAMED)?;
        are_carried::<Outer<Level>>(&seed, NAMED)?;
        are_carried::<Vec<(Size, Num)>>(&seed, NAMED)?;
    }
}
