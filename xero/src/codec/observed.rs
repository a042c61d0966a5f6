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
}

impl Type {
    /// `writer` is the address of a function of the type.
    pub(super) fn of<T: ?Sized>(writer: usize) -> Self {
        let name = any::type_name::<T>();
        let hash = fold(name.as_ptr() as u64 ^ (name.len() as u64).rotate_right(16), writer as u64);
        Self { hash, name }
    }

    #[inline]
    pub(super) fn hash(self) -> u64 {
        self.hash
    }

    /// Whether it hides other types, like a `dyn` of `erased_serde`.
    pub(super) fn hides_others(self) -> bool {
        self.name.contains("dyn ")
    }
}

/// One of several forms that a value can take in its place.
#[derive(Clone, Copy, Debug)]
pub(super) enum Form {
    /// `None`, or a value that is written like it.
    None,
    /// `Some` of such a primitive, or of no primitive if it is 0.
    Some(u64),
    /// An empty list or map.
    Empty,
    /// A list with such an element.
    Elements(u64),
    /// A map with such a key.
    Keys(u64),
    /// A map with such a value.
    Values(u64),
    /// The whole value is such a primitive.
    Primitive(u64),
    /// A variant, identified by the address of its name, with such a content.
    Variant(&'static str, u64),
    /// A tuple or struct with these fields, left out or not: a hash of their names and primitives, and their number.
    Fields(u64, usize),
    /// A field that is such a primitive.
    Field(&'static str, u64),
    /// A skipped field.
    LeftOut(&'static str),
    /// A value within one of its own type.
    Again,
}

impl Form {
    #[inline]
    fn hash(self) -> u64 {
        match self {
            Self::None => 1,
            Self::Some(kind) => fold(kind, 2),
            Self::Empty => 4,
            Self::Elements(kind) => fold(kind, 5),
            Self::Keys(kind) => fold(kind, 6),
            Self::Values(kind) => fold(kind, 7),
            Self::Primitive(kind) => fold(kind, 8),
            Self::Variant(variant, kind) => fold(variant.as_ptr() as u64, kind + 512),
            Self::LeftOut(field) => fold(field.as_ptr() as u64, 10),
            Self::Field(name, kind) => fold(name.as_ptr() as u64, kind + 1024),
            Self::Again => 12,
            Self::Fields(names, count) => fold(names, 2048 + count as u64),
        }
    }

    /// Itself at a place, in one number.
    #[inline]
    pub(super) fn at(self, place: u64) -> u64 {
        mix(place, self.hash())
    }
}

/// Forms at their places, as hashes.
pub(super) type Forms = HashSet<u64, BuildHasherDefault<AsItIs>>;

/// The forms of a value. Its types determine all else.
#[derive(Debug, Default)]
pub(super) struct Seen {
    /// Some of the last forms, or 0; in a list they mostly repeat, and those of most values are all here.
    last: [Cell<u64>; 16],
    others: RefCell<Forms>,
}

impl Seen {
    #[inline]
    pub(super) fn see(&self, place: u64, form: Form) {
        let form = form.at(place);
        let before = self.last[form as usize % self.last.len()].replace(form);
        if before != form && before != 0 {
            self.others.borrow_mut().insert(before);
        }
    }

    /// Whether all forms are among these.
    pub(super) fn are_all_in(&self, known: &Forms) -> bool {
        self.last().all(|form| known.contains(&form)) && self.others.borrow().is_subset(known)
    }

    /// Takes all forms; none may be seen afterwards.
    pub(super) fn take_forms(&self) -> Forms {
        let mut forms = self.others.take();
        forms.extend(self.last());
        forms
    }

    fn last(&self) -> impl Iterator<Item = u64> {
        self.last.iter().map(Cell::get).filter(|form| *form != 0)
    }
}

/// Two rounds of a multiplication that spreads its input over all bits (the constant is that of FxHash).
#[inline]
pub(super) fn mix(hash: u64, with: u64) -> u64 {
    const SPREAD: u64 = 0x517c_c1b7_2722_0a95;
    (hash.rotate_left(5) ^ with).wrapping_mul(SPREAD).rotate_left(23).wrapping_mul(SPREAD)
}

/// One round, for what is mixed later.
#[inline]
pub(super) fn fold(hash: u64, with: u64) -> u64 {
    (hash.rotate_left(5) ^ with).wrapping_mul(0x517c_c1b7_2722_0a95)
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
