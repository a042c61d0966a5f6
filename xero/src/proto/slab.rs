//! A table whose rows have small, reusable numbers.

/// Rows by number. The numbers are dense, so a look-up costs an index and no search.
#[derive(Debug)]
pub(crate) struct Slab<T> {
    rows: Vec<Option<T>>,
    vacant: Vec<u32>,
}

impl<T> Default for Slab<T> {
    fn default() -> Self {
        Self { rows: Vec::new(), vacant: Vec::new() }
    }
}

impl<T> Slab<T> {
    /// Adds a row; returns its number.
    pub(crate) fn insert(&mut self, row: T) -> u32 {
        let number = self.vacant.pop().unwrap_or_else(|| {
            self.rows.push(None);
            u32::try_from(self.rows.len() - 1).expect("rows are bounded by what fits into memory")
        });
        self.rows[number as usize] = Some(row);
        number
    }

    /// Removes a row. Its number may be used again.
    pub(crate) fn remove(&mut self, number: u32) -> Option<T> {
        let removed = self.rows.get_mut(number as usize)?.take();
        if removed.is_some() {
            self.vacate(number);
        }
        removed
    }

    pub(crate) fn get(&self, number: u32) -> Option<&T> {
        self.rows.get(number as usize)?.as_ref()
    }

    pub(crate) fn get_mut(&mut self, number: u32) -> Option<&mut T> {
        self.rows.get_mut(number as usize)?.as_mut()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.vacant.len() == self.rows.len()
    }

    fn vacate(&mut self, number: u32) {
        self.vacant.push(number);
        if self.vacant.len() == self.rows.len() {
            self.rows.clear();
            self.vacant.clear();
            self.rows.shrink_to(KEPT_ROWS);
            self.vacant.shrink_to(KEPT_ROWS);
        }
    }
}

/// Rows that an empty table keeps memory for, so that adding and removing one in turn allocates nothing.
const KEPT_ROWS: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_removed_rows_are_used_again() {
        let mut slab = Slab::default();
        let [first, second] = ["a", "b"].map(|row| slab.insert(row));
        assert_eq!((slab.remove(first), slab.remove(first)), (Some("a"), None));
        assert_eq!((slab.insert("c"), slab.get(first), slab.get(second)), (first, Some(&"c"), Some(&"b")));
        [first, second].into_iter().for_each(|number| assert!(slab.remove(number).is_some()));
        assert!(slab.is_empty() && slab.get(first).is_none());
    }
}
