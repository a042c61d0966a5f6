//! Compares what a reader reads with the notes of the same bytes' writer.

use std::{
    any,
    cell::{Cell, RefCell},
    collections::BTreeMap,
    hash::{DefaultHasher, Hash, Hasher},
    mem,
};

use super::{
    fault::{Fault, Reason},
    notes::{Beginnings, Fields, Kind, Mark, Notes, Piece},
};

/// A reader's place in the writer's notes, and what it has read.
#[derive(Debug)]
pub(super) struct Steps<'n> {
    notes: &'n Notes,
    /// The reader has passed all marks before this one.
    next: Cell<usize>,
    beginnings: RefCell<Beginnings>,
    by_name: ByName,
    read: RefCell<Read>,
}

/// Which variants are read by the writer's name instead of by their number.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum ByName {
    None,
    All,
    /// The variant with this mark.
    One(usize),
}

/// What has been read.
#[derive(Debug, Default)]
pub(super) struct Read {
    /// The marked structs, by the mark's number.
    structs: Vec<(usize, Fields)>,
    /// The marked variants: by the mark's number, the variant that the reader has chosen.
    variants: BTreeMap<usize, u64>,
}

impl<'n> Steps<'n> {
    pub(super) fn new(notes: &'n Notes, by_name: ByName) -> Self {
        Self { notes, next: Cell::new(0), beginnings: RefCell::default(), by_name, read: RefCell::default() }
    }

    /// Checks that `count` pieces, from the one at `at` on, were written as the kind that they are read as.
    pub(super) fn check_pieces(&self, at: u64, piece: Piece, count: usize) -> Result<(), Fault> {
        match (at..at + count as u64).find_map(|at| self.notes.contradiction(at, piece)) {
            None => Ok(()),
            Some(written) => Err(Fault::new(Reason::OtherKind {
                written: written.map(Kind::words),
                read: piece.kind.words(),
                within: None,
            })),
        }
    }

    /// The writer's mark of the struct `name` after `at` pieces, if there is one.
    pub(super) fn find_struct(&self, at: u64, name: &'static str) -> Option<usize> {
        let nth = self.beginnings.borrow_mut().count(at, name);
        self.find(at, |mark| mark.is_struct(nth, name))
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

    pub(super) fn note_fields(&self, mark: usize, fields: Fields) {
        self.read.borrow_mut().structs.push((mark, fields));
    }

    /// Notes which variant the reader has chosen. Only the discriminant of its value is visible.
    pub(super) fn note_variant<T>(&self, mark: usize, chosen: &T) {
        let mut hasher = DefaultHasher::new();
        mem::discriminant(chosen).hash(&mut hasher);
        // A reader may convert a variant's number into an enum of its own; the resulting value counts.
        self.read.borrow_mut().variants.insert(mark, hasher.finish());
    }

    /// Compares the fields that were written with those that have been read.
    pub(super) fn check_fields(&self) -> Result<(), Fault> {
        let read = self.read.borrow();
        let differing = read.structs.iter().filter_map(|(mark, fields)| Some((self.notes.marks().get(*mark)?, fields)));
        let mut differing = differing.filter(|(mark, fields)| self.can_be_paired(mark) && !agree(&mark.fields, fields));
        let Some((mark, fields)) = differing.next() else { return Ok(()) };
        Err(mark.blame(Fault::rule(format!(
            "`{}` is written with {} and read with {}, as with `#[serde(skip_serializing)]` or \
             `#[serde(skip_deserializing)]`: use MessagePack or JSON for it, or skip a field on both sides",
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
