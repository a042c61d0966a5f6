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
        Self { hash: mix(mix(name.as_ptr() as u64, name.len() as u64), writer as u64), name }
    }

    /// Both in one number.
    pub(super) fn in_form(self, form: Form) -> u64 {
        mix(self.hash, form.hash())
    }

    /// Whether it hides other types, like a `dyn` of `erased_serde`.
    pub(super) fn hides_others(self) -> bool {
        self.name.contains("dyn ")
    }
}

/// One of several forms that a type can take.
#[derive(Clone, Copy, Debug)]
pub(super) enum Form {
    /// `Some`.
    Some,
    /// A list or map that is not empty.
    Filled,
    /// Which primitive, for types that write now a number and now a text.
    Primitive(u64),
    /// A variant, identified by the address of its name.
    Variant(&'static str),
    /// A struct with these fields, left out or not: a hash of their names, and their number.
    Fields(u64, usize),
    /// A skipped field.
    LeftOut(&'static str),
}

impl Form {
    fn hash(self) -> u64 {
        match self {
            Self::Some => 1,
            Self::Filled => 2,
            Self::Primitive(kind) => mix(kind, 3),
            Self::Variant(variant) => mix(variant.as_ptr() as u64, 4),
            Self::LeftOut(field) => mix(field.as_ptr() as u64, 5),
            Self::Fields(names, count) => mix(names, 6 + count as u64),
        }
    }
}

/// Forms of types, as hashes.
pub(super) type Forms = HashSet<u64, BuildHasherDefault<AsItIs>>;

/// The known forms of a value. Its types determine all else.
#[derive(Debug, Default)]
pub(super) struct Seen {
    /// Some of the last forms; in a list they mostly repeat.
    last: [Cell<u64>; 8],
    forms: RefCell<Forms>,
}

impl Seen {
    pub(super) fn see(&self, of: Type, form: Form) {
        let form = of.in_form(form);
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
