//! A serializer around a format's own one. It refuses what the format would write without a word and nobody could read
//! back: values nested too deeply, fields left out, lengths that are wrong, `Some(None)`.

use std::cell::{Cell, RefCell};

use serde::ser::{
    Error as _, Serialize, SerializeMap, SerializeSeq, SerializeStruct, SerializeStructVariant, SerializeTuple,
    SerializeTupleStruct, SerializeTupleVariant, Serializer,
};

use super::{
    error::What,
    fault::{Fault, Reason, Step},
    format::Traits,
    observed::{Marks, Place, Shapes},
    state::{Counts, Level},
};

/// What is kept while a value is written.
#[derive(Debug)]
pub(super) struct Writing {
    counts: Counts,
    /// Between a `Some` and the value in it.
    is_inside_some: Cell<bool>,
    shapes: Shapes,
    /// The names of what is written, where they are asked for.
    marks: Option<RefCell<Marks>>,
}

impl Writing {
    pub(super) fn new(traits: Traits, what: What, notes_names: bool) -> Self {
        Self {
            counts: Counts::new(traits, what),
            is_inside_some: Cell::new(false),
            shapes: Shapes::default(),
            marks: notes_names.then(RefCell::default),
        }
    }

    /// The shapes of what was written, and its names.
    pub(super) fn into_observed(self) -> (Vec<u64>, Marks) {
        (self.shapes.into_seen(), self.marks.map(RefCell::into_inner).unwrap_or_default())
    }

    /// The fault that an error of the format's library stands for.
    pub(super) fn recover(&self, error: String) -> Fault {
        self.counts.recover(error)
    }

    /// Something is written that is not `None` or `()`.
    fn count_piece(&self) {
        self.is_inside_some.set(false);
        self.counts.count_piece();
    }

    /// `None`, or what the format writes in the same way.
    fn count_unit(&self, what: &str) -> Result<(), Fault> {
        match self.counts.traits.none_is_unit && self.is_inside_some.get() {
            true => Err(Fault::rule(format!("`Some({what})` would arrive as `None`: {NAME_THE_CASES}"))),
            false => Ok(()),
        }
    }

    fn check_float(&self, is_finite: bool) -> Result<(), Fault> {
        match is_finite || self.counts.traits.takes_every_float {
            true => Ok(()),
            false => Err(Fault::rule("there is no number for NaN or infinity: use another codec, or `None`")),
        }
    }

    fn mark_variant(&self, name: &'static str, variant: &'static str, index: u32) {
        self.shapes.see(u64::from(index));
        if let Some(marks) = &self.marks {
            marks.borrow_mut().push_variant(name, variant);
        }
    }
}

const NAME_THE_CASES: &str = "use an enum that names the cases, or bincode or postcard";
const USE_NAMES: &str = "use MessagePack or JSON for it";

/// A value whose writing is watched.
pub(super) struct Checked<'a, T: ?Sized> {
    pub(super) value: &'a T,
    pub(super) writing: &'a Writing,
}

impl<T: Serialize + ?Sized> Serialize for Checked<'_, T> {
    fn serialize<S: Serializer>(&self, inner: S) -> Result<S::Ok, S::Error> {
        let writing = self.writing;
        let written = self.value.serialize(CheckedSerializer { inner, writing });
        written.map_err(|fault| writing.counts.stash(fault.of_type::<T>(), S::Error::custom))
    }
}

struct CheckedSerializer<'a, S> {
    inner: S,
    writing: &'a Writing,
}

impl<'a, S> CheckedSerializer<'a, S> {
    /// Begins a compound of `declared` parts.
    fn compound<C, E: std::fmt::Display>(
        self,
        name: &'static str,
        declared: Option<usize>,
        variant: u32,
        begin: impl FnOnce(S) -> Result<C, E>,
    ) -> Result<Compound<'a, C>, Fault> {
        let writing = self.writing;
        writing.is_inside_some.set(false);
        writing.counts.descend(Level::Compound)?;
        let inner = begin(self.inner).map_err(|error| writing.counts.recover(error))?;
        let (outer, whole) = writing.shapes.enter(variant);
        Ok(Compound { inner, writing, name, declared, count: 0, outer, whole, pieces_before: 0, mark: None })
    }

    /// Begins a struct, whose fields are marked.
    fn fields<C, E: std::fmt::Display>(
        self,
        name: &'static str,
        declared: usize,
        variant: u32,
        begin: impl FnOnce(S) -> Result<C, E>,
    ) -> Result<Compound<'a, C>, Fault> {
        let mut compound = self.compound(name, Some(declared), variant, begin)?;
        compound.mark = compound.writing.marks.as_ref().and_then(|marks| marks.borrow_mut().push_struct(name));
        Ok(compound)
    }

    /// A list's or map's length must be known where it is written first.
    fn check_length(&self, length: Option<usize>, what: &'static str) -> Result<(), Fault> {
        match length.is_some() || self.writing.counts.traits.is_self_describing {
            true => Ok(()),
            false => Err(Fault::new(Reason::NeedsLength { what })),
        }
    }
}

macro_rules! pieces {
    ($($method:ident: $type:ty),* $(,)?) => {
        $(fn $method(self, value: $type) -> Result<S::Ok, Fault> {
            self.writing.count_piece();
            self.inner.$method(value).map_err(|error| self.writing.counts.recover(error))
        })*
    };
}

impl<'a, S: Serializer> Serializer for CheckedSerializer<'a, S> {
    type Ok = S::Ok;
    type Error = Fault;
    type SerializeSeq = Compound<'a, S::SerializeSeq>;
    type SerializeTuple = Compound<'a, S::SerializeTuple>;
    type SerializeTupleStruct = Compound<'a, S::SerializeTupleStruct>;
    type SerializeTupleVariant = Compound<'a, S::SerializeTupleVariant>;
    type SerializeMap = Compound<'a, S::SerializeMap>;
    type SerializeStruct = Compound<'a, S::SerializeStruct>;
    type SerializeStructVariant = Compound<'a, S::SerializeStructVariant>;

    pieces! {
        serialize_bool: bool, serialize_i8: i8, serialize_i16: i16, serialize_i32: i32, serialize_i64: i64,
        serialize_i128: i128, serialize_u8: u8, serialize_u16: u16, serialize_u32: u32, serialize_u64: u64,
        serialize_u128: u128, serialize_char: char, serialize_str: &str, serialize_bytes: &[u8],
    }

    fn serialize_f32(self, value: f32) -> Result<S::Ok, Fault> {
        self.writing.check_float(value.is_finite())?;
        self.writing.count_piece();
        self.inner.serialize_f32(value).map_err(|error| self.writing.counts.recover(error))
    }

    fn serialize_f64(self, value: f64) -> Result<S::Ok, Fault> {
        self.writing.check_float(value.is_finite())?;
        self.writing.count_piece();
        self.inner.serialize_f64(value).map_err(|error| self.writing.counts.recover(error))
    }

    fn serialize_none(self) -> Result<S::Ok, Fault> {
        self.writing.count_unit("None")?;
        self.writing.count_piece();
        self.inner.serialize_none().map_err(|error| self.writing.counts.recover(error))
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<S::Ok, Fault> {
        let Self { inner, writing } = self;
        writing.count_piece();
        writing.counts.descend(Level::Wrapper)?;
        let (outer, _) = writing.shapes.enter(0);
        writing.shapes.see(0);
        writing.is_inside_some.set(true);
        let written = inner.serialize_some(&Checked { value, writing });
        let written = written.map_err(|error| writing.counts.recover(error))?;
        writing.is_inside_some.set(false);
        writing.shapes.leave(outer);
        writing.counts.ascend(Level::Wrapper);
        Ok(written)
    }

    fn serialize_unit(self) -> Result<S::Ok, Fault> {
        self.writing.count_unit("()")?;
        self.inner.serialize_unit().map_err(|error| self.writing.counts.recover(error))
    }

    fn serialize_unit_struct(self, name: &'static str) -> Result<S::Ok, Fault> {
        if self.writing.counts.traits.unit_structs_are_unit {
            self.writing.count_unit(name)?;
        }
        self.inner.serialize_unit_struct(name).map_err(|error| self.writing.counts.recover(error))
    }

    fn serialize_unit_variant(self, name: &'static str, index: u32, variant: &'static str) -> Result<S::Ok, Fault> {
        self.writing.count_piece();
        self.writing.mark_variant(name, variant, index);
        let written = self.inner.serialize_unit_variant(name, index, variant);
        written.map_err(|error| self.writing.counts.recover(error))
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(self, name: &'static str, value: &T) -> Result<S::Ok, Fault> {
        let Self { inner, writing } = self;
        writing.counts.descend(Level::Wrapper)?;
        let written = inner.serialize_newtype_struct(name, &Checked { value, writing });
        let written = written.map_err(|error| writing.counts.recover(error))?;
        writing.counts.ascend(Level::Wrapper);
        Ok(written)
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        name: &'static str,
        index: u32,
        variant: &'static str,
        value: &T,
    ) -> Result<S::Ok, Fault> {
        let Self { inner, writing } = self;
        writing.count_piece();
        writing.mark_variant(name, variant, index);
        writing.counts.descend(Level::Compound)?;
        let (outer, _) = writing.shapes.enter(index);
        let written = inner.serialize_newtype_variant(name, index, variant, &Checked { value, writing });
        let written = written.map_err(|error| writing.counts.recover(error))?;
        writing.shapes.leave(outer);
        writing.counts.ascend(Level::Compound);
        Ok(written)
    }

    fn serialize_seq(self, length: Option<usize>) -> Result<Self::SerializeSeq, Fault> {
        self.check_length(length, "list")?;
        self.writing.count_piece();
        self.compound("", length, 0, |inner| inner.serialize_seq(length))
    }

    fn serialize_tuple(self, length: usize) -> Result<Self::SerializeTuple, Fault> {
        self.compound("", Some(length), 0, |inner| inner.serialize_tuple(length))
    }

    fn serialize_tuple_struct(self, name: &'static str, length: usize) -> Result<Self::SerializeTupleStruct, Fault> {
        self.compound(name, Some(length), 0, |inner| inner.serialize_tuple_struct(name, length))
    }

    fn serialize_tuple_variant(
        self,
        name: &'static str,
        index: u32,
        variant: &'static str,
        length: usize,
    ) -> Result<Self::SerializeTupleVariant, Fault> {
        self.writing.count_piece();
        self.writing.mark_variant(name, variant, index);
        self.compound(variant, Some(length), index, |inner| inner.serialize_tuple_variant(name, index, variant, length))
    }

    fn serialize_map(self, length: Option<usize>) -> Result<Self::SerializeMap, Fault> {
        self.check_length(length, "map")?;
        self.writing.count_piece();
        self.compound("", length, 0, |inner| inner.serialize_map(length))
    }

    fn serialize_struct(self, name: &'static str, length: usize) -> Result<Self::SerializeStruct, Fault> {
        self.fields(name, length, 0, |inner| inner.serialize_struct(name, length))
    }

    fn serialize_struct_variant(
        self,
        name: &'static str,
        index: u32,
        variant: &'static str,
        length: usize,
    ) -> Result<Self::SerializeStructVariant, Fault> {
        self.writing.count_piece();
        self.writing.mark_variant(name, variant, index);
        self.fields(variant, length, index, |inner| inner.serialize_struct_variant(name, index, variant, length))
    }

    fn is_human_readable(&self) -> bool {
        self.inner.is_human_readable()
    }
}

/// A list, tuple, map or struct that is being written.
pub(super) struct Compound<'a, C> {
    inner: C,
    writing: &'a Writing,
    /// The struct's or variant's name, if it has one.
    name: &'static str,
    /// How many parts were announced.
    declared: Option<usize>,
    /// How many have been written.
    count: usize,
    /// Where it stands in the value's shape.
    outer: Place,
    /// What its parts are parts of, there.
    whole: u64,
    /// How many pieces there were before the map's entry.
    pieces_before: u64,
    mark: Option<usize>,
}

impl<'a, C> Compound<'a, C> {
    /// Writes a part of a tuple or struct, each of which may have a type of its own.
    fn field<T: ?Sized, E: std::fmt::Display>(
        &mut self,
        step: Step,
        value: &T,
        write: impl FnOnce(&mut C, &Checked<'_, T>) -> Result<(), E>,
    ) -> Result<(), Fault> {
        let writing = self.writing;
        writing.is_inside_some.set(false);
        writing.shapes.go_to_part(self.whole, self.count);
        self.count += 1;
        if let (Some(marks), Some(mark), Step::Field(name)) = (&writing.marks, self.mark, &step) {
            marks.borrow_mut().push_field(mark, name);
        }
        write(&mut self.inner, &Checked { value, writing }).map_err(|error| writing.counts.recover(error).at(step))
    }

    /// Writes an element of a list, or half of a map's entry.
    fn element<T: ?Sized, E: std::fmt::Display>(
        &mut self,
        half: usize,
        value: &T,
        write: impl FnOnce(&mut C, &Checked<'_, T>) -> Result<(), E>,
    ) -> Result<(), Fault> {
        let writing = self.writing;
        writing.is_inside_some.set(false);
        writing.shapes.go_to_part(self.whole, half);
        if self.count == 0 {
            writing.shapes.see(half as u64);
        }
        let written = write(&mut self.inner, &Checked { value, writing });
        written.map_err(|error| writing.counts.recover(error).at(Step::Index(self.count)))
    }

    /// A struct's field is left out, which a reader that goes by the order of fields cannot know.
    fn skip<E: std::fmt::Display>(
        &mut self,
        field: &'static str,
        skip: impl FnOnce(&mut C) -> Result<(), E>,
    ) -> Result<(), Fault> {
        if !self.writing.counts.traits.is_self_describing {
            return Err(Fault::rule(format!(
                "the field `{field}` of `{}` is left out, as by `#[serde(skip_serializing_if)]`, and its reader would take \
                 the next one for it: {USE_NAMES}, or always write the field",
                self.name
            )));
        }
        skip(&mut self.inner).map_err(|error| self.writing.counts.recover(error))
    }

    fn end<R, E: std::fmt::Display>(self, end: impl FnOnce(C) -> Result<R, E>) -> Result<R, Fault> {
        let Self { inner, writing, name, declared, count, outer, .. } = self;
        if writing.counts.traits.writes_lengths && declared.is_some_and(|declared| declared != count) {
            let of = if name.is_empty() { String::new() } else { format!(" of `{name}`") };
            let declared = declared.unwrap_or_default();
            return Err(Fault::rule(format!("{declared} parts{of} were announced and {count} are written")));
        }
        writing.shapes.leave(outer);
        writing.counts.ascend(Level::Compound);
        end(inner).map_err(|error| writing.counts.recover(error))
    }
}

impl<C: SerializeSeq> SerializeSeq for Compound<'_, C> {
    type Ok = C::Ok;
    type Error = Fault;

    fn serialize_element<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Fault> {
        let before = self.writing.counts.pieces();
        self.element(0, value, |inner, value| inner.serialize_element(value))?;
        self.count += 1;
        self.writing.counts.count_element(before, || None)
    }

    fn end(self) -> Result<C::Ok, Fault> {
        self.end(C::end)
    }
}

impl<C: SerializeMap> SerializeMap for Compound<'_, C> {
    type Ok = C::Ok;
    type Error = Fault;

    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Result<(), Fault> {
        self.pieces_before = self.writing.counts.pieces();
        self.element(0, key, |inner, key| inner.serialize_key(key))
    }

    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Fault> {
        self.element(1, value, |inner, value| inner.serialize_value(value))?;
        self.count += 1;
        self.writing.counts.count_element(self.pieces_before, || None)
    }

    fn end(self) -> Result<C::Ok, Fault> {
        self.end(C::end)
    }
}

macro_rules! tuples {
    ($($kind:ident: $method:ident),*) => {
        $(impl<C: $kind> $kind for Compound<'_, C> {
            type Ok = C::Ok;
            type Error = Fault;

            fn $method<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Fault> {
                self.field(Step::Index(self.count), value, |inner, value| inner.$method(value))
            }

            fn end(self) -> Result<C::Ok, Fault> {
                self.end(C::end)
            }
        })*
    };
}

tuples!(SerializeTuple: serialize_element, SerializeTupleStruct: serialize_field, SerializeTupleVariant: serialize_field);

macro_rules! structs {
    ($($kind:ident),*) => {
        $(impl<C: $kind> $kind for Compound<'_, C> {
            type Ok = C::Ok;
            type Error = Fault;

            fn serialize_field<T: Serialize + ?Sized>(&mut self, name: &'static str, value: &T) -> Result<(), Fault> {
                self.field(Step::Field(name), value, |inner, value| inner.serialize_field(name, value))
            }

            fn skip_field(&mut self, name: &'static str) -> Result<(), Fault> {
                self.skip(name, |inner| inner.skip_field(name))
            }

            fn end(self) -> Result<C::Ok, Fault> {
                self.end(C::end)
            }
        })*
    };
}

structs!(SerializeStruct, SerializeStructVariant);
