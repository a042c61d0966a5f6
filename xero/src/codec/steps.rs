//! Compares what a reader reads with the notes of the same bytes' writer.

use std::{
    any,
    cell::{Cell, RefCell},
    collections::{BTreeMap, HashMap},
    fmt,
    hash::{DefaultHasher, Hash, Hasher},
    mem,
};

use serde::de::Visitor;

use super::{
    fault::{ANOTHER_CODEC, Fault, Reason},
    notes::{Beginnings, Fields, Kind, Mark, Notes, Piece},
    observed::mix,
    place::Start,
};

/// A reader's place in the writer's notes, and what it has read.
#[derive(Debug)]
pub(super) struct Steps<'n> {
    notes: &'n Notes,
    /// The reader has passed all marks before this one.
    next: Cell<usize>,
    /// The last of the notes' pieces, as a run of equal ones.
    run: Cell<usize>,
    beginnings: RefCell<Beginnings>,
    by_name: ByName,
    read: RefCell<Read>,
    /// The readers that begin where the notes have a value within one of its own type, each with its depth.
    readers: RefCell<HashMap<u64, Vec<(usize, u64)>>>,
}

/// Which variants are read by the writer's name instead of by their number.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum ByName {
    None,
    All,
    /// The variant with this mark.
    One(usize),
}

/// A struct of the writer that belongs to one of the reader.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pair {
    /// The number of its mark.
    mark: usize,
    /// Whether both have the same name.
    are_namesakes: bool,
}

impl Pair {
    /// The content of a variant.
    pub(super) fn of_variant(mark: usize) -> Self {
        Self { mark, are_namesakes: true }
    }
}

/// What has been read.
#[derive(Debug, Default)]
pub(super) struct Read {
    /// The marked structs, by the mark's number.
    structs: Vec<(Pair, Fields)>,
    /// The marked variants: by the mark's number, the variant that the reader has chosen.
    variants: BTreeMap<usize, u64>,
}

impl<'n> Steps<'n> {
    pub(super) fn new(notes: &'n Notes, by_name: ByName) -> Self {
        let places = notes.again().iter().flat_map(|(around, inner)| [around.at, inner.at]);
        let readers =
            if by_name == ByName::None { places.map(|at| (at, Vec::new())).collect() } else { HashMap::new() };
        Self {
            notes,
            next: Cell::new(0),
            run: Cell::new(0),
            beginnings: RefCell::default(),
            by_name,
            read: RefCell::default(),
            readers: RefCell::new(readers),
        }
    }

    pub(super) fn notes(&self) -> &'n Notes {
        self.notes
    }

    /// Checks that `count` pieces, from the one at `at` on, were written as the kind that they are read as.
    pub(super) fn check_pieces(&self, at: u64, piece: Piece, count: usize) -> Result<(), Fault> {
        match self.notes.contradiction(at, piece, count, &self.run) {
            None => Ok(()),
            Some(written) => {
                Err(Fault::new(Reason::OtherKind { written: written.map(Kind::words), read: piece.kind.words() }))
            }
        }
    }

    /// The writer's struct after `at` pieces that is read as the struct `name`: the one of this name, or else one in the
    /// same place, if both share the name of a field.
    pub(super) fn find_struct(&self, start: Start, name: &'static str, fields: &[&str]) -> Option<Pair> {
        let nth = self.beginnings.borrow_mut().count(start.at, name);
        let namesake = self.find(start.at, |mark| mark.is_struct(nth, name));
        match namesake {
            Some(mark) => Some(Pair { mark, are_namesakes: true }),
            None => {
                let mark = self.find(start.at, |mark| mark.is_like(start.depth, fields))?;
                Some(Pair { mark, are_namesakes: false })
            }
        }
    }

    /// The mark of a variant: whatever its enum is called, there is only one here.
    pub(super) fn find_variant(&self, at: u64) -> Option<usize> {
        self.find(at, |mark| mark.variant.is_some())
    }

    /// The name of the marked variant, if it is to be read by name. Two halves may be enums that share only the numbers
    /// of their variants; then the name is unknown to the reader's enum, which has another name.
    pub(super) fn variant(&self, mark: Option<usize>, name: &str, variants: &[&str]) -> Option<&'static str> {
        let mark = mark.filter(|mark| [ByName::All, ByName::One(*mark)].contains(&self.by_name))?;
        let mark = self.notes.marks().get(mark)?;
        mark.variant.filter(|variant| mark.name == name || variants.contains(variant))
    }

    /// Finds by place and name: a reader that treats a struct as a tuple skips its mark.
    fn find(&self, at: u64, is_meant: impl Fn(&Mark) -> bool) -> Option<usize> {
        let marks = self.notes.marks();
        while marks.get(self.next.get()).is_some_and(|mark| mark.at < at) {
            self.next.set(self.next.get() + 1);
        }
        let here = marks.iter().enumerate().skip(self.next.get()).take_while(|(_, mark)| mark.at == at);
        here.into_iter().find(|(_, mark)| is_meant(mark)).map(|(mark, _)| mark)
    }

    pub(super) fn note_fields(&self, pair: Pair, fields: Fields) {
        self.read.borrow_mut().structs.push((pair, fields));
    }

    /// Notes a reader, identified by a hash, where a value within one of its own type begins.
    pub(super) fn note_reader(&self, start: Start, reader: fn() -> u64) {
        if let Some(readers) = self.readers.borrow_mut().get_mut(&start.at) {
            readers.push((start.depth, reader()));
        }
    }

    /// Whether each value within one of its own type was read like the one around it. What is known of one then holds
    /// for the other.
    pub(super) fn are_read_alike(&self) -> bool {
        let readers = self.readers.borrow();
        let at = |start: &Start| {
            let all = readers.get(&start.at).into_iter().flatten();
            all.filter(|(depth, _)| *depth == start.depth).map(|(_, reader)| *reader).collect::<Vec<_>>()
        };
        // Newtypes around one of them are readers in the same place.
        self.notes.again().iter().map(|(around, inner)| (at(around), at(inner))).all(|(around, inner)| {
            !around.is_empty() && !inner.is_empty() && (around.ends_with(&inner) || inner.ends_with(&around))
        })
    }

    /// Notes that a variant was read from a number, in a format that writes names.
    pub(super) fn note_number_for_variant(&self) {
        self.notes.note_number_for_variant();
    }

    /// The variant and enum with this mark.
    pub(super) fn named(&self, mark: usize) -> Option<(&'static str, &'static str)> {
        let mark = self.notes.marks().get(mark)?;
        Some((mark.variant?, mark.name))
    }

    /// Notes which variant the reader has chosen. Only the discriminant of its value is visible.
    pub(super) fn note_variant<T>(&self, mark: usize, chosen: &T) {
        let mut hasher = DefaultHasher::new();
        mem::discriminant(chosen).hash(&mut hasher);
        // A reader may convert a variant's number into an enum of its own; the resulting value counts.
        self.read.borrow_mut().variants.insert(mark, hasher.finish());
    }

    /// Compares the fields that were written with those that have been read.
    ///
    /// Two names at one place may be a rename, or two fields of which each half skips one: only the values tell.
    pub(super) fn check_fields(&self) -> Result<(), Fault> {
        let read = self.read.borrow();
        let names = read.structs.iter().filter_map(|(pair, fields)| Some((self.notes.marks().get(pair.mark)?, fields)));
        if { names }.any(|(mark, fields)| have_other_names(&mark.fields.names, &fields.names)) {
            self.notes.note_other_names();
        }
        let differing = read.structs.iter().filter_map(|(pair, fields)| {
            let mark = self.notes.marks().get(pair.mark)?;
            let do_agree = match pair.are_namesakes {
                true => agree(&mark.fields, fields),
                false => are_in_the_same_places(&mark.fields.names, &fields.names),
            };
            (!do_agree && self.can_be_paired(mark)).then_some((mark, fields))
        });
        let Some((mark, fields)) = { differing }.next() else { return Ok(()) };
        Err(mark.blame(Fault::rule(format!(
            "`{}` is written with {} and read with {}, as with `#[serde(skip_serializing)]` or \
             `#[serde(skip_deserializing)]`: give both halves the same fields{ANOTHER_CODEC}",
            mark.variant.unwrap_or(mark.name),
            words(&mark.fields),
            words(fields),
        ))))
    }

    /// If the reader begins fewer structs with this name than the writer, it treats one of them as a tuple, and which
    /// one is unknown.
    fn can_be_paired(&self, mark: &Mark) -> bool {
        let total = |beginnings: &Beginnings| beginnings.total(mark.at, mark.name);
        mark.variant.is_some() || total(self.notes.beginnings()) == total(&self.beginnings.borrow())
    }

    /// The marks of variants that two readers of the same bytes chose differently.
    pub(super) fn differences(&self, other: &Self) -> Vec<(usize, &'n Mark)> {
        let (ours, theirs) = (self.read.borrow(), other.read.borrow());
        let pairs = ours.variants.iter().filter_map(|(mark, ours)| Some((*mark, ours, theirs.variants.get(mark)?)));
        let differing = pairs.filter(|(_, ours, theirs)| ours != theirs);
        differing.filter_map(|(mark, ..)| Some((mark, self.notes.marks().get(mark)?))).collect()
    }
}

/// Identifies the code of a visitor. Two types may have one name; they differ in their functions.
pub(super) fn reader<'de, V: Visitor<'de>>() -> u64 {
    let name = any::type_name::<V>();
    let function: fn(&V, &mut fmt::Formatter<'_>) -> fmt::Result = V::expecting;
    mix(mix(name.as_ptr() as u64, name.len() as u64), function as *const () as u64)
}

/// Whether a visitor was derived by serde: it uses exactly the fields and variants that it declares. Hand-written ones
/// may declare anything.
pub(super) fn is_derived<V>() -> bool {
    any::type_name::<V>().contains("::__Visitor")
}

fn words(fields: &Fields) -> String {
    match (&*fields.names, fields.count) {
        ([], 1) => "one field".to_owned(),
        ([], count) => format!("{count} fields"),
        (names, _) => format!("the fields `{}`", names.join("`, `")),
    }
}

fn agree(written: &Fields, read: &Fields) -> bool {
    let are_as_many = !written.is_complete || written.count == read.count;
    are_as_many && are_in_the_same_places(&written.names, &read.names)
}

/// Whether each name that both have is at the same place in both. A name that only one has may be a rename, unless the
/// numbers of names differ: then the reader's include aliases, and only their order counts.
fn are_in_the_same_places(written: &[&str], known: &[&str]) -> bool {
    let shared = |name: &&&str| written.contains(*name) && known.contains(*name);
    match written.len() == known.len() {
        true => written
            .iter()
            .zip(known)
            .all(|(ours, theirs)| ours == theirs || !(known.contains(ours) || written.contains(theirs))),
        false => written.iter().filter(shared).eq(known.iter().filter(shared)),
    }
}

/// Whether a name is written that its reader does not know, even as an alias.
fn have_other_names(written: &[&str], known: &[&str]) -> bool {
    !known.is_empty() && written.iter().any(|name| !known.contains(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_that_both_sides_have_are_compared_by_their_places() {
        assert!(are_in_the_same_places(&["id", "name"], &["id", "name"]));
        assert!(are_in_the_same_places(&["id", "name"], &["id", "title"]), "renamed for one side");
        assert!(are_in_the_same_places(&["id", "name"], &["id", "name", "nom"]), "an alias");
        assert!(!are_in_the_same_places(&["id", "name"], &["name", "password"]), "other fields are skipped");
        assert!(!are_in_the_same_places(&["id", "name"], &["name", "id"]));
    }
}
