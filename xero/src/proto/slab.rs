//! A table whose rows have small, reusable numbers.

use std::array::from_fn;

/// Rows by number. The numbers are dense, so a look-up costs two indices and no search.
///
/// Rows stand in pages, and most pages without rows take no memory: a few rows that stay do not keep that of a burst.
#[derive(Debug)]
pub(crate) struct Slab<T> {
    pages: Vec<Option<Box<Page<T>>>>,
    /// The pages with a vacant row.
    open: Vec<u32>,
    /// Pages that are kept once they are empty, so that adding and removing rows in turn allocates nothing.
    spare: Vec<u32>,
    len: usize,
}

#[derive(Debug)]
struct Page<T> {
    /// A bit for each row in use.
    used: u32,
    rows: [Option<T>; PAGE_ROWS],
}

impl<T> Default for Slab<T> {
    fn default() -> Self {
        Self { pages: Vec::new(), open: Vec::new(), spare: Vec::new(), len: 0 }
    }
}

impl<T> Slab<T> {
    /// Adds a row; returns its number.
    #[inline]
    pub(crate) fn insert(&mut self, row: T) -> u32 {
        let number = self.open.last().copied().unwrap_or_else(|| self.add_page());
        let page = match &mut self.pages[number as usize] {
            Some(page) => page,
            missing => missing.insert(Box::default()),
        };
        let place = page.used.trailing_ones();
        page.used |= 1 << place;
        page.rows[place as usize] = Some(row);
        if page.used == u32::MAX {
            self.open.pop();
        }
        self.len += 1;
        number * PAGE_ROWS as u32 + place
    }

    /// Removes a row. Its number may be used again.
    #[inline]
    pub(crate) fn remove(&mut self, number: u32) -> Option<T> {
        let (number, place) = place_of(number);
        let page = self.pages.get_mut(number)?.as_mut()?;
        let removed = page.rows[place].take()?;
        if page.used == u32::MAX {
            self.open.push(number as u32);
        }
        page.used &= !(1 << place);
        self.len -= 1;
        if page.used == 0 {
            self.note_spare(number);
        }
        Some(removed)
    }

    #[inline]
    pub(crate) fn get(&self, number: u32) -> Option<&T> {
        let (number, place) = place_of(number);
        self.pages.get(number)?.as_ref()?.rows[place].as_ref()
    }

    #[inline]
    pub(crate) fn get_mut(&mut self, number: u32) -> Option<&mut T> {
        let (number, place) = place_of(number);
        self.pages.get_mut(number)?.as_mut()?.rows[place].as_mut()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len == 0
    }

    #[cold]
    fn add_page(&mut self) -> u32 {
        let number = u32::try_from(self.pages.len()).expect("rows are bounded by what fits into memory");
        self.pages.push(None);
        self.open.push(number);
        number
    }

    #[cold]
    fn note_spare(&mut self, number: usize) {
        let number = number as u32;
        if !self.spare.contains(&number) {
            self.spare.push(number);
            if self.spare.len() > SPARE_MAX {
                let oldest = self.spare.remove(0);
                let page = &mut self.pages[oldest as usize];
                page.take_if(|page| page.used == 0);
            }
        }
        if self.len == 0 && self.pages.len() > SPARE_MAX {
            *self = Self::default();
        }
    }
}

impl<T> Default for Page<T> {
    fn default() -> Self {
        Self { used: 0, rows: from_fn(|_| None) }
    }
}

/// The page of a row, and the row's place in it.
fn place_of(number: u32) -> (usize, usize) {
    let number = number as usize;
    (number / PAGE_ROWS, number % PAGE_ROWS)
}

/// As many as a page has bits for.
const PAGE_ROWS: usize = u32::BITS as usize;

/// The most pages that are kept without rows.
const SPARE_MAX: usize = 4;

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, iter::repeat_with};

    use fastrand::Rng;

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

    #[test]
    fn slab_holds_what_a_map_does_in_dense_numbers() {
        for seed in 0..100 {
            let (mut rng, mut slab, mut model) = (Rng::with_seed(seed), Slab::default(), BTreeMap::new());
            let mut most = 0;
            for step in 0..2_000 {
                let grows = rng.u32(..100) < if step / 500 % 2 == 0 { 80 } else { 20 };
                if grows {
                    let number = slab.insert(step);
                    assert_eq!(model.insert(number, step), None, "seed {seed}");
                    most = model.len().max(most);
                    assert!((number as usize) < most + PAGE_ROWS, "seed {seed}: {number} beside {most}");
                } else if let Some(number) = rng.choice(model.keys().copied().collect::<Vec<_>>()) {
                    assert_eq!(slab.remove(number), model.remove(&number), "seed {seed}");
                    assert_eq!(slab.remove(number), None, "seed {seed}");
                }
                assert_eq!(slab.is_empty(), model.is_empty(), "seed {seed}");
            }
            for number in 0..4 * most as u32 {
                assert_eq!(slab.get(number), model.get(&number), "seed {seed}");
                assert_eq!(slab.get_mut(number), model.get_mut(&number), "seed {seed}");
            }
        }
    }

    #[test]
    fn page_that_is_used_next_is_kept_after_a_burst() {
        let mut slab = Slab::default();
        let numbers: Vec<_> = repeat_with(|| slab.insert(0)).take(1_000).collect();
        numbers[1..].iter().for_each(|number| assert!(slab.remove(*number).is_some()));
        let next = *slab.open.last().expect("all are vacant");
        assert!(slab.pages[next as usize].is_some());
    }

    #[test]
    fn burst_is_not_kept_by_rows_that_stay() {
        let mut slab = Slab::default();
        let numbers: Vec<_> = repeat_with(|| slab.insert([0_u8; 100])).take(100_000).collect();
        let (stays, others) = numbers.split_last().expect("there are many");
        others.iter().for_each(|number| assert!(slab.remove(*number).is_some()));
        assert_eq!((slab.pages.iter().flatten().count(), slab.get(*stays).is_some()), (1 + SPARE_MAX, true));
        slab.remove(*stays);
        assert!(slab.is_empty() && slab.pages.capacity() <= SPARE_MAX);
    }
}
