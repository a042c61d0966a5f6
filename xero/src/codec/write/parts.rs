//! The parts of lists, maps, tuples and structs, each written as a value in its place.

use serde::ser::{
    Serialize, SerializeMap, SerializeSeq, SerializeStruct, SerializeStructVariant, SerializeTuple,
    SerializeTupleStruct, SerializeTupleVariant,
};

use super::{Checked, USE_NAMES, Writing};
use crate::codec::{
    fault::{Fault, Step},
    observed::{Form, fold},
    place::{Node, Way},
    state::{Before, Below},
};

/// What is known of a compound when it begins.
pub(super) struct Parts {
    /// The struct's or variant's name, if it has one.
    pub(super) name: &'static str,
    /// The announced number of parts.
    pub(super) declared: Option<usize>,
    /// The mark of the struct or variant.
    pub(super) mark: Option<usize>,
    /// Whether each part may have its own type, unlike those of lists and maps.
    pub(super) are_fixed: bool,
}

/// A list, tuple, map or struct that is being written.
pub(super) struct Compound<'a, C> {
    pub(super) inner: C,
    pub(super) writing: &'a Writing,
    pub(super) node: Node<'a>,
    pub(super) parts: Parts,
    /// The number of parts written.
    pub(super) count: usize,
    /// The number of skipped fields.
    pub(super) left_out: usize,
    /// A hash of the fields' names, left out or not, and of their primitives.
    pub(super) names: u64,
    /// The primitives of the last element or key, and of the last value of a map.
    pub(super) last: [u64; 2],
    /// The counts before the map's entry.
    pub(super) before: Before,
    pub(super) below: Below,
}

impl<'a, C> Compound<'a, C> {
    /// Writes a part of a tuple or struct; each may have its own type.
    fn field<T: ?Sized, E: std::fmt::Display>(
        &mut self,
        step: Step,
        value: &T,
        write: impl FnOnce(&mut C, &Checked<'_, T>) -> Result<(), E>,
    ) -> Result<(), Fault> {
        let writing = self.writing;
        writing.is_inside_some.set(false);
        writing.counts.count_part();
        self.count += 1;
        let way = match step {
            Step::Field(name) => {
                if writing.counts.is_in_arguments() {
                    writing.argument.set(Some(name));
                }
                Way::Field(name)
            }
            Step::Index(index) => Way::Index(index),
        };
        let pieces = writing.counts.pieces();
        write(&mut self.inner, &Checked { value, writing, above: &self.node, way })
            .map_err(|error| writing.counts.recover(error).at(step.clone()))?;
        self.see_field(&step);
        if writing.counts.pieces() > pieces {
            self.note_field(&step);
        }
        Ok(())
    }

    /// Sees a field's name and primitive: together with the others, unless these may be left out.
    fn see_field(&mut self, step: &Step) {
        let primitive = self.writing.primitive.get();
        let name = if let Step::Field(name) = step { *name } else { "" };
        match name.is_empty() || !self.writing.counts.traits.is_self_describing {
            true => self.names = fold(self.names, name.as_ptr() as u64 ^ primitive),
            false => {
                self.names = fold(self.names, name.as_ptr() as u64);
                if primitive != 0 {
                    self.writing.see(&self.node, Form::Field(name, primitive));
                }
            }
        }
    }

    /// Writes an element of a list, or half of a map's entry.
    fn element<T: ?Sized, E: std::fmt::Display>(
        &mut self,
        way: Way,
        value: &T,
        write: impl FnOnce(&mut C, &Checked<'_, T>) -> Result<(), E>,
    ) -> Result<(), Fault> {
        let writing = self.writing;
        writing.is_inside_some.set(false);
        let written = write(&mut self.inner, &Checked { value, writing, above: &self.node, way });
        written.map_err(|error| writing.counts.recover(error).at(Step::Index(self.count)))?;
        let (last, form): (usize, fn(u64) -> Form) = match way {
            Way::Key => (0, Form::Keys),
            Way::Value => (1, Form::Values),
            _ => (0, Form::Elements),
        };
        let primitive = writing.primitive.get();
        if self.last[last] != primitive {
            self.last[last] = primitive;
            writing.see(&self.node, form(primitive));
        }
        Ok(())
    }

    /// Notes a field that takes bytes.
    fn note_field(&self, step: &Step) {
        if let (Some(mark), Some(mut notes)) = (self.parts.mark, self.writing.notes())
            && let Some(mark) = notes.mark_mut(mark)
        {
            mark.fields.count += 1;
            mark.fields.names.extend(if let Step::Field(name) = step { Some(*name) } else { None });
        }
    }

    /// Skips a struct's field, which a reader that relies on the order cannot know.
    fn skip<E: std::fmt::Display>(
        &mut self,
        field: &'static str,
        skip: impl FnOnce(&mut C) -> Result<(), E>,
    ) -> Result<(), Fault> {
        if !self.writing.counts.traits.is_self_describing {
            return Err(Fault::rule(format!(
                "the field `{field}` of `{}` is left out, as by `#[serde(skip_serializing_if)]`, and its reader would read \
                 the next one instead: always write it, or {USE_NAMES} for it, with `#[serde(default)]` on a field that is no \
                 `Option`",
                self.parts.name
            )));
        }
        self.names = fold(self.names, field.as_ptr() as u64);
        self.left_out += 1;
        self.writing.see(&self.node, Form::LeftOut(field));
        skip(&mut self.inner).map_err(|error| self.writing.counts.recover(error))
    }

    fn end<R, E: std::fmt::Display>(self, end: impl FnOnce(C) -> Result<R, E>) -> Result<R, Fault> {
        let Self { inner, writing, node, parts, count, left_out, names, below, .. } = self;
        let Parts { name, declared, mark, are_fixed } = parts;
        if writing.counts.traits.writes_lengths && declared.is_some_and(|declared| declared != count) {
            let of = if name.is_empty() { String::new() } else { format!(" of `{name}`") };
            let declared = declared.unwrap_or_default();
            return Err(Fault::rule(format!("{declared} parts{of} were announced and {count} are written")));
        }
        match are_fixed {
            true => writing.see(&node, Form::Fields(names, count + left_out)),
            false if count == 0 => writing.see(&node, Form::Empty),
            false => {}
        }
        if let (Some(mark), Some(mut notes)) = (mark, writing.notes())
            && let Some(mark) = notes.mark_mut(mark)
        {
            mark.fields.is_complete = true;
        }
        writing.end_value();
        writing.counts.ascend(below);
        end(inner).map_err(|error| writing.counts.recover(error))
    }
}

impl<C: SerializeSeq> SerializeSeq for Compound<'_, C> {
    type Ok = C::Ok;
    type Error = Fault;

    fn serialize_element<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Fault> {
        let before = self.writing.counts.before_element();
        self.element(Way::Element, value, |inner, value| inner.serialize_element(value))?;
        self.count += 1;
        self.writing.counts.count_element(before, size_of_val(value), || None)
    }

    fn end(self) -> Result<C::Ok, Fault> {
        self.end(C::end)
    }
}

impl<C: SerializeMap> SerializeMap for Compound<'_, C> {
    type Ok = C::Ok;
    type Error = Fault;

    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Result<(), Fault> {
        self.before = self.writing.counts.before_element();
        self.element(Way::Key, key, |inner, key| inner.serialize_key(key))
    }

    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Fault> {
        self.element(Way::Value, value, |inner, value| inner.serialize_value(value))?;
        self.count += 1;
        self.writing.counts.count_element(self.before, size_of_val(value), || None)
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
