//! A serializer around a format's own one. It refuses what the format would write silently and no reader could read
//! back: values nested too deeply, skipped fields, wrong lengths, `Some(None)`.

mod parts;

use std::{
    cell::{Cell, RefCell, RefMut},
    io::Write,
};

use serde::ser::{Error as _, Serialize, Serializer};

use self::parts::{Compound, Parts};
use super::{
    error::What,
    fault::{ANOTHER_CODEC, Fault, Reason, or_fault},
    format::Traits,
    notes::{Kind, Mark, Notes},
    observed::{Form, Seen, Type},
    place::{Node, Start, Way},
    state::{Before, Counts, Level},
};

/// The state while a value is written.
#[derive(Debug)]
pub(super) struct Writing {
    counts: Counts,
    /// Between a `Some` and the value in it.
    is_inside_some: Cell<bool>,
    seen: Seen,
    /// The primitive that was written last, or 0 after another value. A type may choose it by its value, so it is a part
    /// of the form of the value around it.
    primitive: Cell<u64>,
    are_dynamic_arguments: bool,
    /// The current argument.
    argument: Cell<Option<&'static str>>,
    /// Notes to compare a reader with, if requested.
    notes: Option<RefCell<Notes>>,
}

impl Writing {
    #[inline]
    pub(super) fn new(traits: Traits, what: What, takes_notes: bool) -> Self {
        Self {
            counts: Counts::new(traits, what),
            is_inside_some: Cell::new(false),
            seen: Seen::default(),
            primitive: Cell::new(0),
            are_dynamic_arguments: what == What::Dynamic,
            argument: Cell::new(None),
            notes: takes_notes.then(RefCell::default),
        }
    }

    /// What was seen of a value that has been written.
    pub(super) fn observed(&self) -> Observed<'_> {
        let Self { counts, seen, primitive, .. } = self;
        if primitive.get() != 0 {
            seen.see(0, Form::Primitive(primitive.get()));
        }
        let levels = counts.levels_max();
        let (compounds, has_empty_elements) = (counts.compounds(), counts.has_empty_elements());
        Observed { seen, levels, compounds, has_empty_elements }
    }

    /// The notes of a value that has been written.
    pub(super) fn into_notes(self) -> Notes {
        self.notes.map(RefCell::into_inner).unwrap_or_default()
    }

    /// The fault that an error of the format's library stands for.
    pub(super) fn recover(&self, error: String) -> Fault {
        self.counts.recover(error)
    }

    /// The notes, if they are useful: a self-describing format needs none.
    fn notes(&self) -> Option<RefMut<'_, Notes>> {
        self.notes.as_ref().filter(|_| !self.counts.traits.is_self_describing).map(RefCell::borrow_mut)
    }

    /// Counts pieces of a value that is not `()`.
    #[inline]
    fn count_pieces(&self, kind: Kind, count: usize) {
        self.is_inside_some.set(false);
        self.counts.count_pieces(count);
        if let Some(mut notes) = self.notes() {
            notes.push_kind(kind, self.counts.depth(), count);
        }
    }

    #[inline]
    fn see(&self, node: &Node<'_>, form: Form) {
        self.seen.see(node.place(), form);
    }

    /// Ends a value that is no primitive.
    #[inline]
    fn end_value(&self) {
        self.primitive.set(0);
    }

    /// Counts `None`, or a value that the format writes the same way.
    fn count_unit(&self, what: &str) -> Result<(), Fault> {
        match self.counts.traits.none_is_unit && self.is_inside_some.get() {
            true => {
                let null = if what == "()" { NULL_VALUE } else { "" };
                Err(Fault::rule(format!(
                    "`Some({what})` would arrive as `None`{null}: use an enum that names the cases{ANOTHER_CODEC}"
                )))
            }
            false => Ok(()),
        }
    }

    /// Refuses arguments by name, and in a list, where the format writes neither names nor an end.
    fn check_arguments(&self, what: &str) -> Result<(), Fault> {
        if !self.are_dynamic_arguments || self.counts.traits.is_self_describing || self.counts.depth() > 0 {
            return Ok(());
        }
        Err(Fault::rule(format!(
            "the arguments of a call without types are a {what}: in this codec they are a tuple; {USE_NAMES} to give them by \
             name or as a list"
        )))
    }

    fn check_float(&self, is_finite: bool) -> Result<(), Fault> {
        match is_finite || self.counts.traits.takes_every_float {
            true => Ok(()),
            false => Err(Fault::rule(format!("there is no number for NaN or infinity: use `None`{ANOTHER_CODEC}"))),
        }
    }

    /// Notes a variant, whose number is about to be written.
    fn mark_variant(&self, node: &Node<'_>, name: &'static str, variant: &'static str) -> Option<usize> {
        let depth = self.counts.depth();
        let mark = Mark::new(name, Some(variant), self.argument.get());
        let mark = self.notes().and_then(|mut notes| notes.mark(node.path(), Form::Variant(variant, 0), depth, mark));
        self.count_pieces(Kind::Variant, 1);
        mark
    }

    fn mark_struct(&self, node: &Node<'_>, name: &'static str, length: usize) -> Option<usize> {
        let mark = Mark::new(name, None, self.argument.get());
        self.notes()?.mark(node.path(), Form::Fields(0, length), self.counts.depth(), mark)
    }

    /// A value within `above`.
    #[inline]
    fn node<'n>(&self, above: &'n Node<'n>, way: Way, of: Type) -> Node<'n> {
        let start = Start { at: self.counts.pieces(), depth: self.counts.depth() };
        let (node, again) = Node::new(above, way, of, start, self.notes.is_some());
        if let Some(again) = again {
            self.seen.see(again.edge, Form::Again);
            if let Some(mut notes) = self.notes() {
                notes.note_again(node.path(), again.around, start);
            }
        }
        if let Some(notes) = self.notes.as_ref().filter(|_| of.hides_others()) {
            notes.borrow().note_change();
        }
        node
    }
}

/// What a written value consists of.
#[derive(Debug)]
pub(super) struct Observed<'w> {
    pub(super) seen: &'w Seen,
    /// The most levels of all kinds that are nested in it.
    pub(super) levels: usize,
    /// All lists, tuples, maps, structs and variants with fields.
    pub(super) compounds: u64,
    /// Whether it has lists whose elements take no bytes.
    pub(super) has_empty_elements: bool,
}

/// Primitives beside those of [`Kind`] that formats with names write differently.
const TEXT: u64 = 100;
const BYTES: u64 = 101;
const WIDE: u64 = 102;
const UNIT: u64 = 103;

/// Whether the shortest text of an `f32`, read as an `f64`, gives the same `f32`.
fn survives_f64(value: f32) -> bool {
    let mut buffer = [0; 32];
    let mut rest = &mut buffer[..];
    let is_written = write!(rest, "{value:e}").is_ok();
    let length = 32 - rest.len();
    let text = std::str::from_utf8(&buffer[..length]);
    is_written && text.is_ok_and(|text| text.parse::<f64>().is_ok_and(|read| read as f32 == value))
}

/// What a user who has written no `()` may have.
const NULL_VALUE: &str = ", and so would `Some` of a null `serde_json::Value`, which needs no `Option`";

const USE_NAMES: &str = "use MessagePack or JSON";

/// A value that is observed while it is written.
pub(super) struct Checked<'a, T: ?Sized> {
    pub(super) value: &'a T,
    pub(super) writing: &'a Writing,
    /// The value around it, and the way from there.
    pub(super) above: &'a Node<'a>,
    pub(super) way: Way,
}

impl<'a, T: Serialize + ?Sized> Serialize for Checked<'a, T> {
    fn serialize<S: Serializer>(&self, inner: S) -> Result<S::Ok, S::Error> {
        let Self { value, writing, above, way } = *self;
        let writer: fn(&T, CheckedSerializer<'a, S>) -> Result<S::Ok, Fault> = T::serialize;
        let of = Type::of::<T>(writer as *const () as usize);
        let written = value.serialize(CheckedSerializer { inner, writing, above, way, of });
        or_fault!(written, fault => writing.counts.stash(fault.of_type::<T>(), S::Error::custom))
    }
}

struct CheckedSerializer<'a, S> {
    inner: S,
    writing: &'a Writing,
    above: &'a Node<'a>,
    way: Way,
    /// The type that is written.
    of: Type,
}

impl<'a, S> CheckedSerializer<'a, S> {
    fn node(&self) -> Node<'a> {
        self.writing.node(self.above, self.way, self.of)
    }

    /// Begins a compound of `declared` parts.
    fn compound<C, E: std::fmt::Display>(
        self,
        node: Node<'a>,
        begin: impl FnOnce(S) -> Result<C, E>,
        parts: Parts,
    ) -> Result<Compound<'a, C>, Fault> {
        let writing = self.writing;
        writing.is_inside_some.set(false);
        let below = writing.counts.descend(Level::Compound)?;
        let inner = begin(self.inner).map_err(|error| writing.counts.recover(error))?;
        Ok(Compound {
            inner,
            writing,
            node,
            parts,
            count: 0,
            left_out: 0,
            names: 0,
            last: [u64::MAX; 2],
            before: Before::default(),
            below,
        })
    }

    /// Begins a struct or tuple struct, and marks its fields: in a format without names, a different number of fields
    /// shifts all that follow.
    fn fields<C, E: std::fmt::Display>(
        self,
        name: &'static str,
        declared: usize,
        begin: impl FnOnce(S) -> Result<C, E>,
    ) -> Result<Compound<'a, C>, Fault> {
        let node = self.node();
        let mark = self.writing.mark_struct(&node, name, declared);
        self.compound(node, begin, Parts { name, declared: Some(declared), mark, are_fixed: true })
    }

    /// Begins the content of a variant.
    fn variant<C, E: std::fmt::Display>(
        self,
        name: &'static str,
        variant: &'static str,
        declared: usize,
        begin: impl FnOnce(S) -> Result<C, E>,
    ) -> Result<Compound<'a, C>, Fault> {
        let mut node = self.node();
        self.writing.see(&node, Form::Variant(variant, 0));
        let mark = self.writing.mark_variant(&node, name, variant);
        node.enter(variant);
        self.compound(node, begin, Parts { name: variant, declared: Some(declared), mark, are_fixed: true })
    }

    /// Begins a list or map.
    fn list<C, E: std::fmt::Display>(
        self,
        declared: Option<usize>,
        what: &'static str,
        begin: impl FnOnce(S) -> Result<C, E>,
    ) -> Result<Compound<'a, C>, Fault> {
        self.check_length(declared, what)?;
        self.writing.check_arguments(what)?;
        let node = self.node();
        self.writing.count_pieces(Kind::Length, 1);
        self.compound(node, begin, Parts { name: "", declared, mark: None, are_fixed: false })
    }

    fn primitive(&self, kind: Kind) {
        self.writing.primitive.set(1 + kind as u64);
        self.writing.count_pieces(kind, 1);
    }

    /// Sees an integer of 128 bits.
    fn wide(&self, kind: Kind, is_narrow: bool) {
        let is_wide = self.writing.counts.traits.narrows_integers && !is_narrow;
        self.writing.primitive.set(if is_wide { WIDE } else { 1 + kind as u64 });
        self.writing.count_pieces(kind, 1);
    }

    /// Counts a text or bytes: without names they are a length, then byte after byte.
    fn bytes(&self, length: usize, kind: u64) {
        self.writing.primitive.set(kind);
        self.writing.count_pieces(Kind::Length, 1);
        self.writing.count_pieces(Kind::Byte, length);
    }

    /// Checks that the length of a list or map is known if the format writes it first.
    fn check_length(&self, length: Option<usize>, what: &'static str) -> Result<(), Fault> {
        match length.is_some() || self.writing.counts.traits.is_self_describing {
            true => Ok(()),
            false => Err(Fault::new(Reason::NeedsLength { what })),
        }
    }
}

macro_rules! primitives {
    ($($method:ident: $type:ty, $kind:ident;)*) => {
        $(fn $method(self, value: $type) -> Result<S::Ok, Fault> {
            self.primitive(Kind::$kind);
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

    primitives! {
        serialize_bool: bool, Byte;
        serialize_i8: i8, SmallSigned;
        serialize_i16: i16, Signed;
        serialize_i32: i32, Signed;
        serialize_i64: i64, Signed;
        serialize_u8: u8, Byte;
        serialize_u16: u16, Unsigned;
        serialize_u32: u32, Unsigned;
        serialize_u64: u64, Unsigned;
        serialize_char: char, Char;
    }

    /// MessagePack's widest integers have 64 bits; wider ones are written as bytes, which only a reader that asks for
    /// such an integer understands. So those that fit are written as 64-bit integers.
    fn serialize_i128(self, value: i128) -> Result<S::Ok, Fault> {
        let narrow = i64::try_from(value).ok();
        if let Some(narrow) = narrow.filter(|_| self.writing.counts.traits.narrows_integers) {
            return self.serialize_i64(narrow);
        }
        self.wide(Kind::Signed, narrow.is_some());
        self.inner.serialize_i128(value).map_err(|error| self.writing.counts.recover(error))
    }

    fn serialize_u128(self, value: u128) -> Result<S::Ok, Fault> {
        let narrow = u64::try_from(value).ok();
        if let Some(narrow) = narrow.filter(|_| self.writing.counts.traits.narrows_integers) {
            return self.serialize_u64(narrow);
        }
        self.wide(Kind::Unsigned, narrow.is_some());
        self.inner.serialize_u128(value).map_err(|error| self.writing.counts.recover(error))
    }

    fn serialize_f32(self, value: f32) -> Result<S::Ok, Fault> {
        self.writing.check_float(value.is_finite())?;
        self.primitive(Kind::F32);
        // Serde's buffers would round such a text twice.
        if self.writing.counts.traits.floats_are_texts && !survives_f64(value) {
            return self.inner.serialize_f64(value.into()).map_err(|error| self.writing.counts.recover(error));
        }
        self.inner.serialize_f32(value).map_err(|error| self.writing.counts.recover(error))
    }

    fn serialize_f64(self, value: f64) -> Result<S::Ok, Fault> {
        self.writing.check_float(value.is_finite())?;
        self.primitive(Kind::F64);
        self.inner.serialize_f64(value).map_err(|error| self.writing.counts.recover(error))
    }

    fn serialize_str(self, value: &str) -> Result<S::Ok, Fault> {
        self.bytes(value.len(), TEXT);
        self.inner.serialize_str(value).map_err(|error| self.writing.counts.recover(error))
    }

    fn serialize_bytes(self, value: &[u8]) -> Result<S::Ok, Fault> {
        self.bytes(value.len(), BYTES);
        self.inner.serialize_bytes(value).map_err(|error| self.writing.counts.recover(error))
    }

    fn serialize_none(self) -> Result<S::Ok, Fault> {
        self.writing.count_unit("None")?;
        self.writing.see(&self.node(), Form::None);
        self.writing.end_value();
        self.writing.count_pieces(Kind::Byte, 1);
        self.inner.serialize_none().map_err(|error| self.writing.counts.recover(error))
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<S::Ok, Fault> {
        let node = self.node();
        let Self { inner, writing, .. } = self;
        writing.count_pieces(Kind::Byte, 1);
        let below = writing.counts.descend(Level::Wrapper)?;
        writing.is_inside_some.set(true);
        let written = inner.serialize_some(&Checked { value, writing, above: &node, way: Way::Some });
        let written = written.map_err(|error| writing.counts.recover(error))?;
        writing.is_inside_some.set(false);
        writing.see(&node, Form::Some(writing.primitive.get()));
        writing.end_value();
        writing.counts.ascend(below);
        Ok(written)
    }

    fn serialize_unit(self) -> Result<S::Ok, Fault> {
        self.writing.count_unit("()")?;
        self.writing.primitive.set(UNIT);
        self.inner.serialize_unit().map_err(|error| self.writing.counts.recover(error))
    }

    fn serialize_unit_struct(self, name: &'static str) -> Result<S::Ok, Fault> {
        if self.writing.counts.traits.unit_structs_are_unit {
            self.writing.count_unit(name)?;
        }
        self.writing.primitive.set(UNIT);
        self.inner.serialize_unit_struct(name).map_err(|error| self.writing.counts.recover(error))
    }

    fn serialize_unit_variant(self, name: &'static str, index: u32, variant: &'static str) -> Result<S::Ok, Fault> {
        let node = self.node();
        self.writing.see(&node, Form::Variant(variant, 0));
        self.writing.mark_variant(&node, name, variant);
        self.writing.end_value();
        let written = self.inner.serialize_unit_variant(name, index, variant);
        written.map_err(|error| self.writing.counts.recover(error))
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(self, name: &'static str, value: &T) -> Result<S::Ok, Fault> {
        let node = self.node();
        let Self { inner, writing, .. } = self;
        let below = writing.counts.descend(Level::Wrapper)?;
        let part = Checked { value, writing, above: &node, way: Way::Newtype };
        let written = inner.serialize_newtype_struct(name, &part);
        let written = written.map_err(|error| writing.counts.recover(error))?;
        writing.counts.ascend(below);
        Ok(written)
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        name: &'static str,
        index: u32,
        variant: &'static str,
        value: &T,
    ) -> Result<S::Ok, Fault> {
        let mut node = self.node();
        let Self { inner, writing, .. } = self;
        writing.mark_variant(&node, name, variant);
        node.enter(variant);
        let below = writing.counts.descend(Level::Compound)?;
        let part = Checked { value, writing, above: &node, way: Way::Newtype };
        let written = inner.serialize_newtype_variant(name, index, variant, &part);
        let written = written.map_err(|error| writing.counts.recover(error))?;
        writing.see(&node, Form::Variant(variant, writing.primitive.get()));
        writing.end_value();
        writing.counts.ascend(below);
        Ok(written)
    }

    fn serialize_seq(self, length: Option<usize>) -> Result<Self::SerializeSeq, Fault> {
        self.list(length, "list", |inner| inner.serialize_seq(length))
    }

    fn serialize_tuple(self, length: usize) -> Result<Self::SerializeTuple, Fault> {
        let node = self.node();
        let parts = Parts { name: "", declared: Some(length), mark: None, are_fixed: true };
        self.compound(node, |inner| inner.serialize_tuple(length), parts)
    }

    fn serialize_tuple_struct(self, name: &'static str, length: usize) -> Result<Self::SerializeTupleStruct, Fault> {
        self.fields(name, length, |inner| inner.serialize_tuple_struct(name, length))
    }

    fn serialize_tuple_variant(
        self,
        name: &'static str,
        index: u32,
        variant: &'static str,
        length: usize,
    ) -> Result<Self::SerializeTupleVariant, Fault> {
        self.variant(name, variant, length, |inner| inner.serialize_tuple_variant(name, index, variant, length))
    }

    fn serialize_map(self, length: Option<usize>) -> Result<Self::SerializeMap, Fault> {
        self.list(length, "map", |inner| inner.serialize_map(length))
    }

    fn serialize_struct(self, name: &'static str, length: usize) -> Result<Self::SerializeStruct, Fault> {
        self.writing.check_arguments("struct")?;
        self.fields(name, length, |inner| inner.serialize_struct(name, length))
    }

    fn serialize_struct_variant(
        self,
        name: &'static str,
        index: u32,
        variant: &'static str,
        length: usize,
    ) -> Result<Self::SerializeStructVariant, Fault> {
        self.variant(name, variant, length, |inner| inner.serialize_struct_variant(name, index, variant, length))
    }

    fn is_human_readable(&self) -> bool {
        self.inner.is_human_readable()
    }
}
