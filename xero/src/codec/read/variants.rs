//! Variants and what is in them.

use serde::de::{DeserializeSeed, EnumAccess, VariantAccess, Visitor};

use super::{
    super::{fault::Fault, state::Level},
    Reading, Seed, Shape, VariantSeed, Watched,
};

/// An enum whose variant is read.
pub(super) struct Variants<'r, A> {
    pub(super) inner: A,
    pub(super) reading: &'r Reading<'r>,
    /// The enum's.
    pub(super) name: &'static str,
    /// Their names.
    pub(super) variants: &'static [&'static str],
}

impl<'de, 'r, A: EnumAccess<'de>> EnumAccess<'de> for Variants<'r, A> {
    type Error = Fault;
    type Variant = Content<'r, A::Variant>;

    fn variant_seed<S: DeserializeSeed<'de>>(self, inner: S) -> Result<(S::Value, Self::Variant), Fault> {
        let Self { inner: access, reading, name, variants } = self;
        let at = reading.counts.pieces();
        let noted = reading.steps.as_ref().map(|steps| steps.find_variant(at, name, variants));
        let (mark, name) = noted.unwrap_or_default();
        let seed = VariantSeed { inner, reading, name };
        let (value, content) = access.variant_seed(seed).map_err(|error| reading.recover(error))?;
        // One piece, however it was read.
        reading.counts.set_pieces(at + 1);
        Ok((value, Content { inner: content, reading, mark }))
    }
}

/// What a variant has in it.
pub(super) struct Content<'r, A> {
    inner: A,
    reading: &'r Reading<'r>,
    /// What the writer has noted of the variant.
    mark: Option<usize>,
}

impl<'de, A: VariantAccess<'de>> VariantAccess<'de> for Content<'_, A> {
    type Error = Fault;

    fn unit_variant(self) -> Result<(), Fault> {
        self.inner.unit_variant().map_err(|error| self.reading.recover(error))
    }

    fn newtype_variant_seed<S: DeserializeSeed<'de>>(self, inner: S) -> Result<S::Value, Fault> {
        let Self { inner: access, reading, .. } = self;
        reading.counts.descend(Level::Compound)?;
        let value = access.newtype_variant_seed(Seed { inner, reading }).map_err(|error| reading.recover(error));
        reading.counts.ascend(Level::Compound);
        value
    }

    fn tuple_variant<V: Visitor<'de>>(self, length: usize, inner: V) -> Result<V::Value, Fault> {
        let reading = self.reading;
        let shape = Shape::Struct { fields: &[], mark: self.mark };
        let visitor = Watched { inner, reading, shape };
        self.inner.tuple_variant(length, visitor).map_err(|error| reading.recover(error))
    }

    fn struct_variant<V: Visitor<'de>>(self, fields: &'static [&'static str], inner: V) -> Result<V::Value, Fault> {
        let reading = self.reading;
        let shape = Shape::Struct { fields, mark: self.mark };
        let visitor = Watched { inner, reading, shape };
        self.inner.struct_variant(fields, visitor).map_err(|error| reading.recover(error))
    }
}
