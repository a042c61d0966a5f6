//! The parts of a value, one after the other: elements, entries, and a variant's content.

use std::cell::{Cell, RefCell};

use serde::de::{
    DeserializeSeed, Deserializer, EnumAccess, Error, IntoDeserializer, MapAccess, SeqAccess, VariantAccess, Visitor,
    value::StrDeserializer,
};

use super::{Enum, Named, Reader, Reading, Role, Seed, Shape, Watched};
use crate::codec::{
    arguments::Absent,
    fault::{Fault, Step, or_fault},
    state::{Before, Level},
    steps::{Pair, is_derived},
};

pub(super) struct Elements<'r, 'a, A> {
    pub(super) inner: &'a mut A,
    pub(super) reading: &'r Reading<'r>,
    pub(super) shape: Shape,
    pub(super) count: &'a Cell<usize>,
    /// The elements of a marked struct that take bytes.
    pub(super) filled: &'a RefCell<Vec<usize>>,
}

impl<'de, A: SeqAccess<'de>> SeqAccess<'de> for Elements<'_, '_, A> {
    type Error = Fault;

    fn next_element_seed<S: DeserializeSeed<'de>>(&mut self, inner: S) -> Result<Option<S::Value>, Fault> {
        let (reading, index) = (self.reading, self.count.get());
        if let Shape::Arguments { .. } = self.shape {
            self.count.set(index + 1);
            return self.next_argument(inner, index);
        }
        reading.counts.count_part();
        let before = reading.counts.before_element();
        let element = match self.inner.next_element_seed(Seed { inner, reading }) {
            Ok(element) => element,
            Err(error) => return Err(reading.recover(error).at(self.shape.step(index))),
        };
        if element.is_some() {
            self.count.set(index + 1);
            match self.shape {
                Shape::List => {
                    reading.counts.count_element(before, size_of::<S::Value>(), || self.inner.size_hint())?
                }
                Shape::Struct { pair: Some(_), .. } if reading.counts.has_more_than(before) => {
                    self.filled.borrow_mut().push(index);
                }
                _ => {}
            }
        }
        Ok(element)
    }

    fn size_hint(&self) -> Option<usize> {
        let known = if let Shape::Parts(length) = self.shape { length } else { 0 };
        believed(self.inner.size_hint(), known)
    }
}

impl<A> Elements<'_, '_, A> {
    /// An argument, which may be missing at the end.
    fn next_argument<'de, S>(&mut self, inner: S, index: usize) -> Result<Option<S::Value>, Fault>
    where
        A: SeqAccess<'de>,
        S: DeserializeSeed<'de>,
    {
        let reading = self.reading;
        let mut seed = Some(inner);
        match (self.inner.next_element_seed(TakenSeed { seed: &mut seed, reading }), seed) {
            (Ok(None), Some(seed)) => Ok(seed.deserialize(Absent::ARGUMENT).ok()),
            (Ok(argument), _) => Ok(argument),
            (Err(error), _) => Err(reading.recover(error).at(self.shape.step(index))),
        }
    }
}

/// A seed that is kept if there is nothing to read.
struct TakenSeed<'r, 'a, S> {
    seed: &'a mut Option<S>,
    reading: &'r Reading<'r>,
}

impl<'de, S: DeserializeSeed<'de>> DeserializeSeed<'de> for TakenSeed<'_, '_, S> {
    type Value = S::Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<S::Value, D::Error> {
        match self.seed.take() {
            Some(inner) => Seed { inner, reading: self.reading }.deserialize(deserializer),
            None => Err(D::Error::custom("an element was read twice")),
        }
    }
}

pub(super) struct Entries<'r, A> {
    pub(super) inner: A,
    pub(super) reading: &'r Reading<'r>,
    pub(super) shape: Shape,
    pub(super) index: usize,
    /// The field of the next value.
    pub(super) field: Option<&'static str>,
    pub(super) before: Before,
}

impl<A> Entries<'_, A> {
    fn step(&self) -> Step {
        self.field.map_or(Step::Index(self.index), Step::Field)
    }
}

impl<'de, A: MapAccess<'de>> MapAccess<'de> for Entries<'_, A> {
    type Error = Fault;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, inner: K) -> Result<Option<K::Value>, Fault> {
        let reading = self.reading;
        self.before = reading.counts.before_element();
        let (Shape::Struct { fields: names, .. } | Shape::Arguments { names }) = self.shape else {
            let key = self.inner.next_key_seed(Seed { inner, reading });
            return or_fault!(key, error => reading.recover(error).at(Step::Index(self.index)));
        };
        match self.inner.next_key_seed(FieldSeed { inner, reading }) {
            Ok(key) => {
                self.field = reading.find_key(names, self.index);
                Ok(key)
            }
            Err(error) => Err(reading.recover(error)),
        }
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, inner: S) -> Result<S::Value, Fault> {
        let reading = self.reading;
        let value = match self.inner.next_value_seed(Seed { inner, reading }) {
            Ok(value) => value,
            Err(error) => return Err(reading.recover(error).at(self.step())),
        };
        self.index += 1;
        if let Shape::Map = self.shape {
            reading.counts.count_element(self.before, size_of::<S::Value>(), || self.inner.size_hint())?;
        }
        Ok(value)
    }

    fn size_hint(&self) -> Option<usize> {
        believed(self.inner.size_hint(), 0)
    }
}

/// A declared number of elements, capped to what a reader may reserve room for. `known` elements are in any value of
/// the type.
fn believed(declared: Option<usize>, known: usize) -> Option<usize> {
    declared.map(|declared| declared.min(ELEMENTS_BELIEVED.max(known)))
}

/// The most elements that room is reserved for before they are read: enough that growth costs little, and little to
/// lose.
const ELEMENTS_BELIEVED: usize = 1024;

pub(super) struct Variants<'r, A> {
    pub(super) inner: A,
    pub(super) reading: &'r Reading<'r>,
    pub(super) of: Enum,
}

impl<'de, 'r, A: EnumAccess<'de>> EnumAccess<'de> for Variants<'r, A> {
    type Error = Fault;
    type Variant = Content<'r, A::Variant>;

    fn variant_seed<S: DeserializeSeed<'de>>(self, inner: S) -> Result<(S::Value, Self::Variant), Fault> {
        let Self { inner: access, reading, of } = self;
        let (at, steps) = (reading.counts.pieces(), reading.steps());
        let mark = steps.and_then(|steps| steps.find_variant(at));
        let name = steps.and_then(|steps| steps.variant(mark, of.name, of.variants));
        if of.is_derived {
            reading.note_key(name.unwrap_or_default());
        }
        let (value, content) =
            or_fault!(access.variant_seed(VariantSeed { inner, reading, name }), error => reading.recover(error))?;
        // One piece, however it was read.
        reading.counts.set_pieces(at + 1);
        reading.check_variant(of)?;
        if let (Some(steps), Some(mark)) = (steps, mark) {
            steps.note_variant(mark, &value);
        }
        let variant = match steps {
            Some(steps) => mark.and_then(|mark| steps.named(mark)).map(|(variant, _)| variant),
            None => of.variants.iter().find(|variant| **variant == *reading.key.borrow()).copied(),
        };
        let named = variant.map_or(Named::Struct(of.name), |variant| Named::Variant(variant, of.name));
        Ok((value, Content { inner: content, reading, of: named, pair: mark.map(Pair::of_variant) }))
    }
}

/// A variant's content.
pub(super) struct Content<'r, A> {
    inner: A,
    reading: &'r Reading<'r>,
    of: Named,
    /// What it is in the writer's notes.
    pair: Option<Pair>,
}

impl<'r, A> Content<'r, A> {
    /// Reads a content with several fields.
    fn read<'de, V: Visitor<'de>, R, E: std::fmt::Display>(
        self,
        inner: V,
        shape: Shape,
        read: impl FnOnce(A, Watched<'r, V>) -> Result<R, E>,
    ) -> Result<R, Fault> {
        let Self { inner: access, reading, of, .. } = self;
        let start = reading.counts.pieces();
        let read = read(access, Watched { inner, reading, shape }).map_err(|error| reading.recover(error));
        read.map_err(|fault| reading.blame(fault, start, of))
    }
}

impl<'de, A: VariantAccess<'de>> VariantAccess<'de> for Content<'_, A> {
    type Error = Fault;

    fn unit_variant(self) -> Result<(), Fault> {
        self.inner.unit_variant().map_err(|error| self.reading.recover(error))
    }

    fn newtype_variant_seed<S: DeserializeSeed<'de>>(self, inner: S) -> Result<S::Value, Fault> {
        let Self { inner: access, reading, .. } = self;
        let below = reading.counts.descend(Level::Compound)?;
        let value = access.newtype_variant_seed(Seed { inner, reading });
        reading.counts.ascend(below);
        or_fault!(value, error => reading.recover(error))
    }

    fn tuple_variant<V: Visitor<'de>>(self, length: usize, inner: V) -> Result<V::Value, Fault> {
        let (reading, of) = (self.reading, self.of);
        let shape = Shape::Struct { fields: &[], pair: self.pair, is_derived: false };
        let value = self.read(inner, shape, |access, visitor| access.tuple_variant(length, visitor))?;
        reading.check_tuple::<V>(of, length).map(|()| value)
    }

    fn struct_variant<V: Visitor<'de>>(self, fields: &'static [&'static str], inner: V) -> Result<V::Value, Fault> {
        let shape = Shape::Struct { fields, pair: self.pair, is_derived: is_derived::<V>() };
        self.read(inner, shape, |access, visitor| access.struct_variant(fields, visitor))
    }
}

/// The name or number of a variant; its type is hidden from users.
struct VariantSeed<'r, S> {
    inner: S,
    reading: &'r Reading<'r>,
    /// The name to read instead of the bytes.
    name: Option<&'static str>,
}

impl<'de, S: DeserializeSeed<'de>> DeserializeSeed<'de> for VariantSeed<'_, S> {
    type Value = S::Value;

    fn deserialize<D: Deserializer<'de>>(self, inner: D) -> Result<S::Value, D::Error> {
        let Self { inner: seed, reading, name } = self;
        let read = match name {
            Some(name) => {
                let name: StrDeserializer<'_, Fault> = name.into_deserializer();
                seed.deserialize(name)
            }
            None => seed.deserialize(Reader { inner, reading, role: Role::Variant }),
        };
        or_fault!(read, fault => reading.stash(fault))
    }
}

/// The name of a field, which is noted; its type is hidden from users.
struct FieldSeed<'r, S> {
    inner: S,
    reading: &'r Reading<'r>,
}

impl<'de, S: DeserializeSeed<'de>> DeserializeSeed<'de> for FieldSeed<'_, S> {
    type Value = S::Value;

    fn deserialize<D: Deserializer<'de>>(self, inner: D) -> Result<S::Value, D::Error> {
        let Self { inner: seed, reading } = self;
        reading.key.borrow_mut().clear();
        or_fault!(seed.deserialize(Reader { inner, reading, role: Role::Field }), fault => reading.stash(fault))
    }
}
