//! Each codec returns every value of every shape unchanged; shapes and values are generated.

use std::fmt;

use proptest::{collection::vec, prelude::*, sample::select};
use serde::de::{DeserializeSeed, Deserializer, EnumAccess, MapAccess, SeqAccess, VariantAccess, Visitor};
use serde::ser::{
    SerializeMap, SerializeSeq, SerializeStruct, SerializeStructVariant, SerializeTuple, SerializeTupleStruct,
    SerializeTupleVariant, Serializer,
};

use super::*;

/// A type, as serde sees it.
#[derive(Clone, Debug)]
enum Shape {
    Unit,
    UnitStruct,
    Bool,
    I8,
    I64,
    I128,
    U8,
    U16,
    U64,
    U128,
    F32,
    F64,
    Char,
    Text,
    Bytes,
    Option(Box<Self>),
    Newtype(Box<Self>),
    List(Box<Self>),
    Map(Box<Self>, Box<Self>),
    Tuple(Vec<Self>),
    TupleStruct(Vec<Self>),
    Struct(Vec<Self>),
    Enum(Vec<Content>),
}

/// A variant's content.
#[derive(Clone, Debug)]
enum Content {
    Unit,
    Newtype(Shape),
    Tuple(Vec<Shape>),
    Struct(Vec<Shape>),
}

#[derive(Clone, Debug, PartialEq)]
enum Value {
    Unit,
    Bool(bool),
    Signed(i128),
    Unsigned(u128),
    F32(f32),
    F64(f64),
    Char(char),
    Text(String),
    Bytes(Vec<u8>),
    None,
    Some(Box<Self>),
    Parts(Vec<Self>),
    Entries(Vec<(Self, Self)>),
    Variant(usize, Vec<Self>),
}

const FIELDS: [&str; 6] = ["a", "bee", "c_c", "dee", "Эх", "f"];
const VARIANTS: [&str; 6] = ["A", "Bee", "CC", "Dee", "Эх", "F"];

fn shape() -> impl Strategy<Value = Shape> {
    use Shape::*;
    let leaves = vec![Unit, UnitStruct, Bool, I8, I64, I128, U8, U16, U64, U128, F32, F64, Char, Text, Bytes];
    select(leaves).prop_recursive(5, 40, 5, |inner| {
        let content = prop_oneof![
            Just(Content::Unit),
            inner.clone().prop_map(Content::Newtype),
            vec(inner.clone(), 0..4).prop_map(Content::Tuple),
            vec(inner.clone(), 0..4).prop_map(Content::Struct),
        ];
        prop_oneof![
            1 => inner.clone().prop_map(|shape| Option(shape.into())),
            1 => inner.clone().prop_map(|shape| Newtype(shape.into())),
            3 => inner.clone().prop_map(|shape| List(shape.into())),
            1 => (select(vec![Text, U16, I8, Char]), inner.clone()).prop_map(|(key, value)| Map(key.into(), value.into())),
            1 => vec(inner.clone(), 0..5).prop_map(Tuple),
            1 => vec(inner.clone(), 0..5).prop_map(TupleStruct),
            2 => vec(inner, 0..6).prop_map(Struct),
            2 => vec(content, 1..6).prop_map(Enum),
        ]
    })
}

fn value(shape: &Shape) -> BoxedStrategy<Value> {
    let parts = |shapes: &[Shape]| shapes.iter().map(value).collect::<Vec<_>>();
    match shape {
        Shape::Unit | Shape::UnitStruct => Just(Value::Unit).boxed(),
        Shape::Bool => any::<bool>().prop_map(Value::Bool).boxed(),
        Shape::I8 => any::<i8>().prop_map(|n| Value::Signed(n.into())).boxed(),
        Shape::I64 => any::<i64>().prop_map(|n| Value::Signed(n.into())).boxed(),
        Shape::I128 => any::<i128>().prop_map(Value::Signed).boxed(),
        Shape::U8 => any::<u8>().prop_map(|n| Value::Unsigned(n.into())).boxed(),
        Shape::U16 => any::<u16>().prop_map(|n| Value::Unsigned(n.into())).boxed(),
        Shape::U64 => any::<u64>().prop_map(|n| Value::Unsigned(n.into())).boxed(),
        Shape::U128 => any::<u128>().prop_map(Value::Unsigned).boxed(),
        Shape::F32 => {
            proptest::num::f32::ANY.prop_filter("equal to itself", |n| !n.is_nan()).prop_map(Value::F32).boxed()
        }
        Shape::F64 => {
            proptest::num::f64::ANY.prop_filter("equal to itself", |n| !n.is_nan()).prop_map(Value::F64).boxed()
        }
        Shape::Char => any::<char>().prop_map(Value::Char).boxed(),
        Shape::Text => any::<String>().prop_map(Value::Text).boxed(),
        Shape::Bytes => any::<Vec<u8>>().prop_map(Value::Bytes).boxed(),
        Shape::Option(inner) => {
            prop_oneof![Just(Value::None), value(inner).prop_map(|value| Value::Some(value.into()))].boxed()
        }
        Shape::Newtype(inner) => value(inner),
        // Mostly short, but sometimes longer than any allowance that does not grow with the payload.
        Shape::List(inner) => {
            let longest = if is_flat(inner) { 3_000 } else { 8 };
            prop_oneof![9 => vec(value(inner), 0..8), 1 => vec(value(inner), 0..longest)].prop_map(Value::Parts).boxed()
        }
        Shape::Map(key, inner) => vec((value(key), value(inner)), 0..8).prop_map(Value::Entries).boxed(),
        Shape::Tuple(shapes) | Shape::TupleStruct(shapes) | Shape::Struct(shapes) => {
            parts(shapes).prop_map(Value::Parts).boxed()
        }
        Shape::Enum(contents) => {
            let variants = contents.iter().enumerate().map(|(index, content)| {
                let parts = match content {
                    Content::Unit => Vec::new(),
                    Content::Newtype(shape) => vec![value(shape)],
                    Content::Tuple(shapes) | Content::Struct(shapes) => parts(shapes),
                };
                parts.prop_map(move |parts| Value::Variant(index, parts)).boxed()
            });
            proptest::strategy::Union::new(variants).boxed()
        }
    }
}

fn is_flat(shape: &Shape) -> bool {
    match shape {
        Shape::List(_) | Shape::Map(..) | Shape::Enum(_) | Shape::Text | Shape::Bytes => false,
        Shape::Option(inner) | Shape::Newtype(inner) => is_flat(inner),
        Shape::Tuple(shapes) | Shape::TupleStruct(shapes) | Shape::Struct(shapes) => shapes.iter().all(is_flat),
        _ => true,
    }
}

/// Whether a codec that knows neither `Some(None)` nor infinity must refuse the value.
fn is_refused(codec: Codec, shape: &Shape, value: &Value) -> bool {
    let any = |shapes: &[Shape], values: &[Value]| {
        shapes.iter().zip(values).any(|(shape, value)| is_refused(codec, shape, value))
    };
    match (shape, value) {
        (Shape::F32, Value::F32(number)) => codec == Codec::Json && !number.is_finite(),
        (Shape::F64, Value::F64(number)) => codec == Codec::Json && !number.is_finite(),
        (Shape::Option(inner), Value::Some(value)) => is_unit(codec, inner, value) || is_refused(codec, inner, value),
        (Shape::Newtype(inner), value) => is_refused(codec, inner, value),
        (Shape::List(inner), Value::Parts(values)) => values.iter().any(|value| is_refused(codec, inner, value)),
        (Shape::Map(_, inner), Value::Entries(entries)) => {
            entries.iter().any(|(_, value)| is_refused(codec, inner, value))
        }
        (Shape::Tuple(shapes) | Shape::TupleStruct(shapes) | Shape::Struct(shapes), Value::Parts(values)) => {
            any(shapes, values)
        }
        (Shape::Enum(contents), Value::Variant(index, values)) => match &contents[*index] {
            Content::Unit => false,
            Content::Newtype(shape) => is_refused(codec, shape, &values[0]),
            Content::Tuple(shapes) | Content::Struct(shapes) => any(shapes, values),
        },
        _ => false,
    }
}

/// Whether the codec writes the value like `None`.
fn is_unit(codec: Codec, shape: &Shape, value: &Value) -> bool {
    match (shape, value) {
        (Shape::UnitStruct, _) => codec == Codec::Json,
        (Shape::Unit, _) | (Shape::Option(_), Value::None) => codec.is_self_describing(),
        (Shape::Option(inner), Value::Some(value)) => is_unit(codec, inner, value),
        (Shape::Newtype(inner), value) => is_unit(codec, inner, value),
        _ => false,
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn every_value_of_every_shape_comes_back_as_it_was(
        (shape, value) in shape().prop_flat_map(|shape| (Just(shape.clone()), value(&shape))),
    ) {
        for codec in built(Codec::ALL) {
            let written = encode(codec, &Shaped(&shape, &value));
            if is_refused(codec, &shape, &value) {
                prop_assert!(written.is_err(), "{codec} has written what does not come back");
                continue;
            }
            let written = written.map_err(|error| TestCaseError::fail(error.to_string()))?;
            let read = decode_seed(&written, Reads(&shape)).map_err(|error| TestCaseError::fail(error.to_string()))?;
            prop_assert_eq!(&read, &value, "{}", codec);
        }
    }

    #[test]
    fn no_value_of_any_shape_is_refused_when_it_is_read_back(
        (shape, value) in shape().prop_flat_map(|shape| (Just(shape.clone()), value(&shape))),
    ) {
        SHAPE.set(Some(shape.clone()));
        for codec in built(Codec::ALL).filter(|codec| !is_refused(*codec, &shape, &value)) {
            let shaped = Shaped(&shape, &value);
            let read = with_format!(codec, F => twin::read_back::<F, Dynamic, _>(&shaped, What::Value));
            prop_assert!(read.is_ok(), "{codec}: {}", read.err().map(|fault| fault.to_string()).unwrap_or_default());
        }
    }

    #[test]
    fn any_bytes_are_a_value_or_an_error(
        shape in shape(),
        bytes in vec(any::<u8>(), 0..200),
    ) {
        for codec in built(Codec::ALL) {
            let _ = decode_seed(&payload(codec, bytes.clone()), Reads(&shape));
        }
    }
}

/// A struct's name, which may also be a variant's or an enum's.
fn name(parts: &[Shape]) -> &'static str {
    VARIANTS[parts.len() % VARIANTS.len()]
}

thread_local! {
    /// The shape that [`Dynamic`] reads.
    static SHAPE: std::cell::RefCell<Option<Shape>> = const { std::cell::RefCell::new(None) };
}

struct Dynamic(Shape, Value);

impl<'de> serde::Deserialize<'de> for Dynamic {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let shape = SHAPE.with_borrow(Clone::clone).expect("is set");
        let value = Reads(&shape).deserialize(deserializer)?;
        Ok(Self(shape, value))
    }
}

impl Serialize for Dynamic {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        Shaped(&self.0, &self.1).serialize(serializer)
    }
}

struct Shaped<'a>(&'a Shape, &'a Value);

impl Serialize for Shaped<'_> {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        match (self.0, self.1) {
            (Shape::Newtype(inner), value) => s.serialize_newtype_struct("N", &Shaped(inner, value)),
            (Shape::Unit, _) => s.serialize_unit(),
            (Shape::UnitStruct, _) => s.serialize_unit_struct("U"),
            (_, Value::Bool(value)) => s.serialize_bool(*value),
            (Shape::I8, Value::Signed(value)) => s.serialize_i8(*value as i8),
            (Shape::I64, Value::Signed(value)) => s.serialize_i64(*value as i64),
            (_, Value::Signed(value)) => s.serialize_i128(*value),
            (Shape::U8, Value::Unsigned(value)) => s.serialize_u8(*value as u8),
            (Shape::U16, Value::Unsigned(value)) => s.serialize_u16(*value as u16),
            (Shape::U64, Value::Unsigned(value)) => s.serialize_u64(*value as u64),
            (_, Value::Unsigned(value)) => s.serialize_u128(*value),
            (_, Value::F32(value)) => s.serialize_f32(*value),
            (_, Value::F64(value)) => s.serialize_f64(*value),
            (_, Value::Char(value)) => s.serialize_char(*value),
            (_, Value::Text(value)) => s.serialize_str(value),
            (_, Value::Bytes(value)) => s.serialize_bytes(value),
            (_, Value::None) => s.serialize_none(),
            (Shape::Option(inner), Value::Some(value)) => s.serialize_some(&Shaped(inner, value)),
            (Shape::List(inner), Value::Parts(values)) => {
                let mut list = s.serialize_seq(Some(values.len()))?;
                values.iter().try_for_each(|value| list.serialize_element(&Shaped(inner, value)))?;
                list.end()
            }
            (Shape::Map(key, inner), Value::Entries(entries)) => {
                let mut map = s.serialize_map(Some(entries.len()))?;
                for (k, value) in entries {
                    map.serialize_entry(&Shaped(key, k), &Shaped(inner, value))?;
                }
                map.end()
            }
            (Shape::Tuple(shapes), Value::Parts(values)) => {
                let mut tuple = s.serialize_tuple(shapes.len())?;
                pairs(shapes, values).try_for_each(|part| tuple.serialize_element(&part))?;
                tuple.end()
            }
            (Shape::TupleStruct(shapes), Value::Parts(values)) => {
                let mut tuple = s.serialize_tuple_struct(name(shapes), shapes.len())?;
                pairs(shapes, values).try_for_each(|part| tuple.serialize_field(&part))?;
                tuple.end()
            }
            (Shape::Struct(shapes), Value::Parts(values)) => {
                let mut fields = s.serialize_struct(name(shapes), shapes.len())?;
                pairs(shapes, values).zip(FIELDS).try_for_each(|(part, name)| fields.serialize_field(name, &part))?;
                fields.end()
            }
            (Shape::Enum(contents), Value::Variant(index, values)) => variant(&contents[*index], *index, values, s),
            (shape, value) => panic!("{value:?} is no {shape:?}"),
        }
    }
}

fn pairs<'a>(shapes: &'a [Shape], values: &'a [Value]) -> impl Iterator<Item = Shaped<'a>> {
    shapes.iter().zip(values).map(|(shape, value)| Shaped(shape, value))
}

fn variant<S: Serializer>(content: &Content, index: usize, values: &[Value], s: S) -> Result<S::Ok, S::Error> {
    let (number, name) = (index as u32, VARIANTS[index]);
    match content {
        Content::Unit => s.serialize_unit_variant(VARIANTS[0], number, name),
        Content::Newtype(shape) => s.serialize_newtype_variant(VARIANTS[0], number, name, &Shaped(shape, &values[0])),
        Content::Tuple(shapes) => {
            let mut tuple = s.serialize_tuple_variant(VARIANTS[0], number, name, shapes.len())?;
            pairs(shapes, values).try_for_each(|part| tuple.serialize_field(&part))?;
            tuple.end()
        }
        Content::Struct(shapes) => {
            let mut fields = s.serialize_struct_variant(VARIANTS[0], number, name, shapes.len())?;
            pairs(shapes, values).zip(FIELDS).try_for_each(|(part, name)| fields.serialize_field(name, &part))?;
            fields.end()
        }
    }
}

#[derive(Clone, Copy)]
struct Reads<'a>(&'a Shape);

impl<'de> DeserializeSeed<'de> for Reads<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, d: D) -> Result<Value, D::Error> {
        match self.0 {
            Shape::Unit => d.deserialize_unit(self),
            Shape::UnitStruct => d.deserialize_unit_struct("U", self),
            Shape::Bool => d.deserialize_bool(self),
            Shape::I8 => d.deserialize_i8(self),
            Shape::I64 => d.deserialize_i64(self),
            Shape::I128 => d.deserialize_i128(self),
            Shape::U8 => d.deserialize_u8(self),
            Shape::U16 => d.deserialize_u16(self),
            Shape::U64 => d.deserialize_u64(self),
            Shape::U128 => d.deserialize_u128(self),
            Shape::F32 => d.deserialize_f32(self),
            Shape::F64 => d.deserialize_f64(self),
            Shape::Char => d.deserialize_char(self),
            Shape::Text => d.deserialize_string(self),
            Shape::Bytes => d.deserialize_byte_buf(self),
            Shape::Option(_) => d.deserialize_option(self),
            Shape::Newtype(_) => d.deserialize_newtype_struct("N", self),
            Shape::List(_) => d.deserialize_seq(self),
            Shape::Map(..) => d.deserialize_map(self),
            Shape::Tuple(shapes) => d.deserialize_tuple(shapes.len(), self),
            Shape::TupleStruct(shapes) => d.deserialize_tuple_struct(name(shapes), shapes.len(), self),
            Shape::Struct(shapes) => d.deserialize_struct(name(shapes), &FIELDS[..shapes.len()], self),
            Shape::Enum(contents) => d.deserialize_enum(VARIANTS[0], &VARIANTS[..contents.len()], self),
        }
    }
}

macro_rules! numbers {
    ($($method:ident: $type:ty),*) => {
        $(fn $method<E: de::Error>(self, number: $type) -> Result<Value, E> {
            match self.0 {
                Shape::I8 | Shape::I64 | Shape::I128 => i128::try_from(number).map(Value::Signed).map_err(E::custom),
                Shape::F32 => Ok(Value::F32(number as f32)),
                Shape::F64 => Ok(Value::F64(number as f64)),
                _ => u128::try_from(number).map(Value::Unsigned).map_err(E::custom),
            }
        })*
    };
}

impl<'de> Visitor<'de> for Reads<'_> {
    type Value = Value;

    numbers! {
        visit_i8: i8, visit_i16: i16, visit_i32: i32, visit_i64: i64, visit_i128: i128,
        visit_u8: u8, visit_u16: u16, visit_u32: u32, visit_u64: u64, visit_u128: u128
    }

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.0)
    }

    fn visit_bool<E: de::Error>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_f32<E: de::Error>(self, value: f32) -> Result<Value, E> {
        Ok(Value::F32(value))
    }

    fn visit_f64<E: de::Error>(self, value: f64) -> Result<Value, E> {
        Ok(if let Shape::F32 = self.0 { Value::F32(value as f32) } else { Value::F64(value) })
    }

    fn visit_char<E: de::Error>(self, value: char) -> Result<Value, E> {
        Ok(Value::Char(value))
    }

    fn visit_str<E: de::Error>(self, value: &str) -> Result<Value, E> {
        match self.0 {
            Shape::Char => value.chars().next().map(Value::Char).ok_or_else(|| E::custom("no character")),
            _ => Ok(Value::Text(value.to_owned())),
        }
    }

    fn visit_bytes<E: de::Error>(self, value: &[u8]) -> Result<Value, E> {
        Ok(Value::Bytes(value.to_vec()))
    }

    fn visit_unit<E: de::Error>(self) -> Result<Value, E> {
        Ok(Value::Unit)
    }

    fn visit_none<E: de::Error>(self) -> Result<Value, E> {
        Ok(Value::None)
    }

    fn visit_some<D: Deserializer<'de>>(self, d: D) -> Result<Value, D::Error> {
        let Shape::Option(inner) = self.0 else { return Err(de::Error::custom("no option")) };
        Reads(inner).deserialize(d).map(|value| Value::Some(value.into()))
    }

    fn visit_newtype_struct<D: Deserializer<'de>>(self, d: D) -> Result<Value, D::Error> {
        let Shape::Newtype(inner) = self.0 else { return Err(de::Error::custom("no newtype")) };
        Reads(inner).deserialize(d)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Value, A::Error> {
        match self.0 {
            Shape::List(inner) => {
                let mut values = Vec::new();
                while let Some(value) = access.next_element_seed(Reads(inner))? {
                    values.push(value);
                }
                Ok(Value::Parts(values))
            }
            // A list of numbers, as JSON writes bytes.
            Shape::Bytes => {
                let mut bytes = Vec::new();
                while let Some(byte) = access.next_element()? {
                    bytes.push(byte);
                }
                Ok(Value::Bytes(bytes))
            }
            Shape::Tuple(shapes) | Shape::TupleStruct(shapes) | Shape::Struct(shapes) => {
                in_turn(shapes, access).map(Value::Parts)
            }
            _ => Err(de::Error::custom("no list")),
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, access: A) -> Result<Value, A::Error> {
        match self.0 {
            Shape::Map(key, inner) => entries(key, inner, access).map(Value::Entries),
            Shape::Struct(shapes) => by_name(shapes, access).map(Value::Parts),
            _ => Err(de::Error::custom("no map")),
        }
    }

    fn visit_enum<A: EnumAccess<'de>>(self, access: A) -> Result<Value, A::Error> {
        let Shape::Enum(contents) = self.0 else { return Err(de::Error::custom("no enum")) };
        let (index, content) = access.variant_seed(Named(&VARIANTS[..contents.len()]))?;
        let parts = match &contents[index] {
            Content::Unit => content.unit_variant().map(|()| Vec::new()),
            Content::Newtype(shape) => content.newtype_variant_seed(Reads(shape)).map(|value| vec![value]),
            Content::Tuple(shapes) => content.tuple_variant(shapes.len(), Parts(shapes)),
            Content::Struct(shapes) => content.struct_variant(&FIELDS[..shapes.len()], Parts(shapes)),
        };
        Ok(Value::Variant(index, parts?))
    }
}

/// The parts of a variant.
struct Parts<'a>(&'a [Shape]);

impl<'de> Visitor<'de> for Parts<'_> {
    type Value = Vec<Value>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.0)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, access: A) -> Result<Vec<Value>, A::Error> {
        in_turn(self.0, access)
    }

    fn visit_map<A: MapAccess<'de>>(self, access: A) -> Result<Vec<Value>, A::Error> {
        by_name(self.0, access)
    }
}

fn in_turn<'de, A: SeqAccess<'de>>(shapes: &[Shape], mut access: A) -> Result<Vec<Value>, A::Error> {
    let parts = shapes.iter().map(|shape| access.next_element_seed(Reads(shape)));
    parts.map(|part| part?.ok_or_else(|| de::Error::custom("too short"))).collect()
}

fn by_name<'de, A: MapAccess<'de>>(shapes: &[Shape], mut access: A) -> Result<Vec<Value>, A::Error> {
    let mut parts = vec![None; shapes.len()];
    while let Some(index) = access.next_key_seed(Named(&FIELDS[..shapes.len()]))? {
        parts[index] = Some(access.next_value_seed(Reads(&shapes[index]))?);
    }
    parts.into_iter().collect::<Option<_>>().ok_or_else(|| de::Error::custom("a field is missing"))
}

fn entries<'de, A: MapAccess<'de>>(key: &Shape, inner: &Shape, mut access: A) -> Result<Vec<(Value, Value)>, A::Error> {
    let mut entries = Vec::new();
    while let Some(key) = access.next_key_seed(Reads(key))? {
        entries.push((key, access.next_value_seed(Reads(inner))?));
    }
    Ok(entries)
}

/// The number of a field or variant.
struct Named<'a>(&'a [&'static str]);

impl<'de> DeserializeSeed<'de> for Named<'_> {
    type Value = usize;

    fn deserialize<D: Deserializer<'de>>(self, d: D) -> Result<usize, D::Error> {
        d.deserialize_identifier(self)
    }
}

impl Visitor<'_> for Named<'_> {
    type Value = usize;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a name or a number")
    }

    fn visit_u64<E: de::Error>(self, number: u64) -> Result<usize, E> {
        usize::try_from(number).ok().filter(|index| *index < self.0.len()).ok_or_else(|| E::custom("no such number"))
    }

    fn visit_str<E: de::Error>(self, name: &str) -> Result<usize, E> {
        self.0.iter().position(|known| *known == name).ok_or_else(|| E::custom("no such name"))
    }
}
