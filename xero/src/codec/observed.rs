//! What shows of a value while it is written: which forms its types take, so that a new one can be told from those that
//! were seen before, and the names that stand for what is written.

use std::{
    any,
    cell::{Cell, RefCell},
    collections::{HashMap, HashSet},
    hash::{BuildHasherDefault, Hasher},
};

/// A type, by the place and length of its name. A name that the compiler keeps twice makes two types of one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Type(u64);

impl Type {
    pub(super) fn of<T: ?Sized>() -> Self {
        let name = any::type_name::<T>();
        Self(mix(name.as_ptr() as u64, name.len() as u64))
    }
}

/// One of several forms that a type can take.
#[derive(Clone, Copy, Debug)]
pub(super) enum Form {
    /// `Some`.
    Some,
    /// A list or map with something in it.
    Filled,
    /// A variant, by the address of its name.
    Variant(&'static str),
    /// A struct with these fields: a hash of their names, and their number.
    Fields(u64, usize),
}

impl Form {
    fn hash(self) -> u64 {
        match self {
            Self::Some => 1,
            Self::Filled => 2,
            Self::Variant(variant) => mix(variant.as_ptr() as u64, 3),
            Self::Fields(names, count) => mix(names, 4 + count as u64),
        }
    }
}

/// Forms of types, as hashes.
pub(super) type Forms = HashSet<u64, BuildHasherDefault<AsItIs>>;

/// What is known of a value's forms. Everything else about it follows from its types.
#[derive(Debug, Default)]
pub(super) struct Seen {
    /// The last one; in a list it is mostly the same again.
    last: Cell<u64>,
    forms: RefCell<Forms>,
}

impl Seen {
    pub(super) fn see(&self, of: Type, form: Form) {
        let form = mix(of.0, form.hash());
        if self.last.replace(form) != form {
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

/// A hasher of what is a hash already.
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

/// The names of variants and fields, each where a type takes a form for the first time in the value.
#[derive(Debug, Default)]
pub(super) struct Marks {
    marks: Vec<Mark>,
    marked: Forms,
    beginnings: Beginnings,
    tally: Tally,
}

/// A variant: its enum's type and name, and its own name.
pub(super) type Variant = (Type, &'static str, &'static str);

/// How often each variant is in a value.
pub(super) type Tally = HashMap<Variant, usize>;

/// The structs that begin at one place: a struct's first field may be a struct, even one of the same name.
#[derive(Debug, Default)]
pub(super) struct Beginnings {
    at: u64,
    counts: HashMap<&'static str, usize>,
}

impl Beginnings {
    /// How many structs of that name have begun here before this one.
    pub(super) fn count(&mut self, at: u64, name: &'static str) -> usize {
        if self.at != at {
            self.at = at;
            self.counts.clear();
        }
        let count = self.counts.entry(name).or_default();
        *count += 1;
        *count - 1
    }
}

/// The names at one place.
#[derive(Debug)]
pub(super) struct Mark {
    /// The type that was written.
    pub(super) of: Type,
    /// How many pieces of the value come before it.
    pub(super) at: u64,
    /// How many structs of its name begin at the same place before it.
    pub(super) nth: usize,
    /// Whether another struct of its name begins at the same place.
    pub(super) is_one_of_many: bool,
    /// The enum's or struct's name.
    pub(super) name: &'static str,
    pub(super) variant: Option<&'static str>,
    /// The fields' names; none of a tuple.
    pub(super) fields: Vec<&'static str>,
    /// How many fields are written, where that is known.
    pub(super) count: Option<usize>,
    /// The argument that it is in.
    pub(super) argument: Option<&'static str>,
}

impl Mark {
    pub(super) fn new(of: Type, at: u64, name: &'static str, argument: Option<&'static str>) -> Self {
        Self { of, at, nth: 0, is_one_of_many: false, name, variant: None, fields: Vec::new(), count: None, argument }
    }
}

impl Marks {
    /// Notes a struct. Gives the number of the mark, unless the type has been marked with as many fields.
    pub(super) fn push_struct(&mut self, fields: usize, mut mark: Mark) -> Option<usize> {
        mark.nth = self.beginnings.count(mark.at, mark.name);
        mark.is_one_of_many = mark.nth > 0;
        if mark.is_one_of_many {
            let here = self.marks.iter_mut().rev().take_while(|other| other.at == mark.at);
            here.filter(|other| other.name == mark.name).for_each(|other| other.is_one_of_many = true);
        }
        self.push(Form::Fields(0, fields), mark)
    }

    /// Notes a variant in the same way.
    pub(super) fn push_variant(&mut self, variant: &'static str, mark: Mark) -> Option<usize> {
        *self.tally.entry((mark.of, mark.name, variant)).or_default() += 1;
        self.push(Form::Variant(variant), Mark { variant: Some(variant), ..mark })
    }

    fn push(&mut self, form: Form, mark: Mark) -> Option<usize> {
        let is_new = self.marked.insert(mix(mark.of.0, form.hash()));
        is_new.then(|| self.marks.push(mark))?;
        Some(self.marks.len() - 1)
    }

    pub(super) fn get(&self, mark: usize) -> Option<&Mark> {
        self.marks.get(mark)
    }

    pub(super) fn get_mut(&mut self, mark: usize) -> Option<&mut Mark> {
        self.marks.get_mut(mark)
    }

    pub(super) fn len(&self) -> usize {
        self.marks.len()
    }

    /// The variants among them.
    pub(super) fn variants(&self) -> impl Iterator<Item = &Mark> {
        self.marks.iter().filter(|mark| mark.variant.is_some())
    }

    pub(super) fn into_tally(self) -> Tally {
        self.tally
    }
}
