//! Reading side by side with what the writer of the same bytes has noted.

use std::cell::{Cell, RefCell};

use super::{
    fault::{Fault, Step},
    observed::{Beginnings, Mark, Marks},
};

/// Where a reader is in the notes of the writer.
#[derive(Debug)]
pub(super) struct Steps<'m> {
    marks: &'m Marks,
    /// Marks before this one are behind the reader.
    next: Cell<usize>,
    beginnings: RefCell<Beginnings>,
    /// Which variants are read by the name that the writer has given them instead of by their number.
    by_name: &'m [bool],
}

impl<'m> Steps<'m> {
    /// `by_name` says of each mark, if it is a variant's, whether that is read by its name.
    pub(super) fn new(marks: &'m Marks, by_name: &'m [bool]) -> Self {
        Self { marks, next: Cell::new(0), beginnings: RefCell::default(), by_name }
    }

    /// The writer's mark of the struct `name` after `at` pieces, if there is one.
    pub(super) fn find_struct(&self, at: u64, name: &'static str) -> Option<usize> {
        let nth = self.beginnings.borrow_mut().count(at, name);
        self.find(at, |mark| mark.variant.is_none() && mark.name == name && mark.nth == nth)
    }

    /// The mark of the variant that is read, whatever its enum is called there: at one place there is no other. And the
    /// variant's name, where it is to be read by name. Halves may be enums with nothing in common but their numbers.
    pub(super) fn find_variant(&self, at: u64, name: &str, variants: &[&str]) -> (Option<usize>, Option<&'static str>) {
        let Some(index) = self.find(at, |mark| mark.variant.is_some()) else { return (None, None) };
        let is_by_name = self.by_name.get(index).copied().unwrap_or_default();
        let mark = self.marks.get(index).filter(|_| is_by_name);
        let known =
            mark.and_then(|mark| mark.variant.filter(|variant| mark.name == name || variants.contains(variant)));
        (Some(index), known)
    }

    /// Goes by place and name: a reader that takes a struct for a tuple passes its mark by.
    fn find(&self, at: u64, is_meant: impl Fn(&Mark) -> bool) -> Option<usize> {
        while self.marks.get(self.next.get()).is_some_and(|mark| mark.at < at) {
            self.next.set(self.next.get() + 1);
        }
        let here = (self.next.get()..).map_while(|mark| Some((mark, self.marks.get(mark)?)));
        let mut here = here.take_while(|(_, mark)| mark.at == at);
        here.find(|(_, mark)| is_meant(mark)).map(|(mark, _)| mark)
    }

    /// Compares the fields that were written with those that have been read.
    pub(super) fn check_fields(&self, mark: usize, known: &[&str], read: usize) -> Result<(), Fault> {
        let Some(mark) = self.marks.get(mark) else { return Ok(()) };
        let are_as_many = mark.count.is_none_or(|written| written == read);
        // Of two structs of one name, the reader may know but the inner one.
        if mark.is_one_of_many || are_as_many && are_in_the_same_places(&mark.fields, known) {
            return Ok(());
        }
        Err(Fault::rule(format!(
            "`{}` is written with {} and read with {}, as with `#[serde(skip_serializing)]` or \
             `#[serde(skip_deserializing)]`: use MessagePack or JSON for it, or skip a field on both sides",
            mark.variant.unwrap_or(mark.name),
            fields(&mark.fields, mark.count.unwrap_or(mark.fields.len())),
            fields(known, read),
        )))
    }
}

impl Mark {
    /// The fault, at the argument that the mark is in.
    pub(super) fn blame(&self, fault: Fault) -> Fault {
        match self.argument {
            Some(argument) => fault.at(Step::Field(argument)),
            None => fault,
        }
    }
}

fn fields(names: &[&str], count: usize) -> String {
    match (names, count) {
        ([], 1) => "one field".to_owned(),
        ([], _) => format!("{count} fields"),
        _ => format!("the fields `{}`", names.join("`, `")),
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
