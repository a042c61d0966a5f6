//! The forms that a value's types take while it is written, so that a new form can be recognized.

use std::{
    any,
    cell::{Cell, RefCell},
    collections::HashSet,
    hash::{BuildHasherDefault, Hasher},
};

/// A type, identified by the address and length of its name and by the function that writes it: two types with one name
/// differ in the function.
#[derive(Clone, Copy, Debug)]
pub(super) struct Type {
    hash: u64,
    name: &'static str,
    is_plain: bool,
}

impl Type {
    /// `writer` is the address of a function of the type.
    pub(super) fn of<T: ?Sized>(writer: usize) -> Self {
        let name = any::type_name::<T>();
        let hash = mix(mix(name.as_ptr() as u64, name.len() as u64), writer as u64);
        Self { hash, name, is_plain: is_plain(name) }
    }

    pub(super) fn hash(self) -> u64 {
        self.hash
    }

    /// Whether each value is the same kind of primitive.
    pub(super) fn is_plain(self) -> bool {
        self.is_plain
    }

    /// Whether it hides other types, like a `dyn` of `erased_serde`.
    pub(super) fn hides_others(self) -> bool {
        self.name.contains("dyn ")
    }
}

/// A number for each type whose values are the same kind of primitive, and 0 for others: these show their own forms.
pub(super) fn plain<T: ?Sized>() -> u64 {
    let name = any::type_name::<T>();
    if is_plain(name) { name.as_ptr() as u64 } else { 0 }
}

/// The compiler decides this for each type.
#[inline(always)]
fn is_plain(name: &'static str) -> bool {
    matches!(
        name,
        "u8" | "u16"
            | "u32"
            | "u64"
            | "usize"
            | "i8"
            | "i16"
            | "i32"
            | "i64"
            | "isize"
            | "bool"
            | "char"
            | "f32"
            | "f64"
    ) || matches!(
        name,
        "&u8"
            | "&u16"
            | "&u32"
            | "&u64"
            | "&usize"
            | "&i8"
            | "&i16"
            | "&i32"
            | "&i64"
            | "&isize"
            | "&bool"
            | "&char"
            | "&f32"
            | "&f64"
    ) || matches!(name, "str" | "&str" | "&&str" | "alloc::string::String" | "&alloc::string::String")
}

/// One of several forms that a value can take in its place.
#[derive(Clone, Copy, Debug)]
pub(super) enum Form {
    /// `None`, or a value that is written like it.
    None,
    /// `Some`; of a plain type, if not 0.
    Some(u64),
    Newtype(u64),
    /// An empty list or map.
    Empty,
    /// A list with elements of this plain type.
    Elements(u64),
    /// A map with such keys.
    Keys(u64),
    /// A map with such values.
    Values(u64),
    /// Which primitive, for types that write now a number and now a text.
    Primitive(u64),
    /// A variant, identified by the address of its name; with content of this plain type.
    Variant(&'static str, u64),
    /// A tuple or struct with these fields, left out or not: a hash of their names and plain types, and their number.
    Fields(u64, usize),
    /// A field with this plain type.
    Field(&'static str, u64),
    /// A skipped field.
    LeftOut(&'static str),
    /// A value within one of its own type.
    Again,
}

impl Form {
    fn hash(self) -> u64 {
        match self {
            Self::None => 1,
            Self::Some(plain) => mix(plain, 2),
            Self::Newtype(plain) => mix(plain, 3),
            Self::Empty => 4,
            Self::Elements(plain) => mix(plain, 5),
            Self::Keys(plain) => mix(plain, 6),
            Self::Values(plain) => mix(plain, 7),
            Self::Primitive(kind) => mix(kind, 8),
            Self::Variant(variant, plain) => mix(mix(variant.as_ptr() as u64, 9), plain),
            Self::LeftOut(field) => mix(field.as_ptr() as u64, 10),
            Self::Field(name, plain) => mix(mix(name.as_ptr() as u64, 11), plain),
            Self::Again => 12,
            Self::Fields(names, count) => mix(names, 13 + count as u64),
        }
    }

    /// Itself at a place, in one number.
    pub(super) fn at(self, place: u64) -> u64 {
        mix(place, self.hash())
    }
}

/// Forms at their places, as hashes.
pub(super) type Forms = HashSet<u64, BuildHasherDefault<AsItIs>>;

/// The forms of a value. Its types determine all else.
#[derive(Debug, Default)]
pub(super) struct Seen {
    /// Some of the last forms; in a list they mostly repeat.
    last: [Cell<u64>; 16],
    forms: RefCell<Forms>,
}

impl Seen {
    pub(super) fn see(&self, place: u64, form: Form) {
        let form = form.at(place);
        let last = &self.last[form as usize % self.last.len()];
        if last.replace(form) != form {
            self.forms.borrow_mut().insert(form);
        }
    }

    pub(super) fn into_forms(self) -> Forms {
        self.forms.into_inner()
    }
}

/// Two rounds of a multiplication that spreads its input over all bits (the constant is that of FxHash).
pub(super) fn mix(hash: u64, with: u64) -> u64 {
    const SPREAD: u64 = 0x517c_c1b7_2722_0a95;
    (hash.rotate_left(5) ^ with).wrapping_mul(SPREAD).rotate_left(23).wrapping_mul(SPREAD)
}

/// A hasher for values that are hashes already.
#[derive(Debug, Default)]
pub(super) struct AsItIs(u64);

impl Hasher for AsItIs {
    fn write(&mut self, _: &[u8]) {
        unreachable!("only numbers are hashed");
    }

    fn write_u64(&mut self, number: u64) {
        self.0 = number;
    }

    fn finish(&self) -> u64 {
        self.0
    }
}
