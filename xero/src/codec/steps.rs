//! Reading side by side with what the writer of the same bytes has noted.

use std::cell::Cell;

use super::{
    fault::Fault,
    observed::{Mark, Marks},
};

/// Where a reader is in the notes of the writer.
#[derive(Debug)]
pub(super) struct Steps<'m> {
    marks: &'m Marks,
    /// The next mark; none once reader and writer go different ways, as those of types with hand-written halves may.
    next: Cell<Option<usize>>,
    /// Whether variants are read by the name that the writer has given them instead of by their number.
    by_name: bool,
}

impl<'m> Steps<'m> {
    pub(super) fn new(marks: &'m Marks, by_name: bool) -> Self {
        Self { marks, next: Cell::new(Some(0)), by_name }
    }

    /// Whether reader and writer have met at each struct and variant.
    pub(super) fn are_in_step(&self) -> bool {
        self.next.get().is_some()
    }

    /// The writer's mark of the struct that is read next.
    pub(super) fn next_struct(&self) -> Option<usize> {
        let index = self.next.get()?;
        let is_struct = matches!(self.marks.get(index), Some(Mark::Struct { .. }));
        self.next.set(is_struct.then_some(index + 1));
        is_struct.then_some(index)
    }

    /// The name of the variant that is read next, where it is to be read by name.
    pub(super) fn next_variant(&self) -> Option<&'static str> {
        let index = self.next.get()?;
        let Some(Mark::Variant { variant, .. }) = self.marks.get(index) else {
            self.next.set(None);
            return None;
        };
        self.next.set(Some(index + 1));
        self.by_name.then_some(variant)
    }

    /// Compares the fields that were written with those that have been read.
    pub(super) fn check_struct(&self, mark: usize, known: &[&str], read: usize) -> Result<(), Fault> {
        let Some(Mark::Struct { name, fields }) = self.marks.get(mark) else { return Ok(()) };
        if fields.len() == read && are_in_the_same_places(fields, known) {
            return Ok(());
        }
        let known = known.join("`, `");
        Err(Fault::rule(format!(
            "`{name}` is written with the fields `{}` and read with `{known}`, as with `#[serde(skip_serializing)]` or \
             `#[serde(skip_deserializing)]`: use MessagePack or JSON for it, or skip a field on both sides",
            fields.join("`, `"),
        )))
    }
}

/// Whether each name that both have is where the other has it. A name that only one has may be a rename, unless both have
/// another number of names: then the reader's are its aliases too, and only their order tells.
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
