//! Places in a value. What reads a part depends on the way to it: a field may have a reader of its own, at any level.

use super::observed::{Type, fold};

/// One step from a value into a part of it.
#[derive(Clone, Copy, Debug)]
pub(super) enum Way {
    Element,
    Key,
    Value,
    Some,
    Newtype,
    Index(usize),
    Field(&'static str),
}

impl Way {
    #[inline]
    fn hash(self) -> u64 {
        match self {
            Self::Element => 1,
            Self::Key => 2,
            Self::Value => 3,
            Self::Some => 4,
            Self::Newtype => 5,
            Self::Index(index) => 6 + index.min(INDICES_MAX) as u64,
            Self::Field(name) => name.as_ptr() as u64,
        }
    }
}

/// The parts of a tuple with ways of their own. Longer ones are mostly arrays, whose elements have one reader.
const INDICES_MAX: usize = 64;

/// A value in its place, linked to those around it.
///
/// The place is a hash of all types and steps on the way from the whole value. Within a recursive type there are any
/// number of ways. So a value has the place of the one around it that has its type; whether the same code reads both
/// shows when they are read back.
#[derive(Debug)]
pub(super) struct Node<'p> {
    above: Option<&'p Self>,
    of: u64,
    /// A bit for each type on the way, itself included: most types are not on their own way.
    types: u64,
    place: u64,
    /// The hash of the whole way, which is kept only for notes.
    path: u64,
    /// What places and paths of parts start from: it also tells the variant.
    base: u64,
    path_base: u64,
    pub(super) start: Start,
}

/// Where a value begins.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Start {
    /// The number of pieces before it.
    pub(super) at: u64,
    /// The number of compounds around it.
    pub(super) depth: usize,
}

/// A value within one of its own type.
#[derive(Clone, Copy, Debug)]
pub(super) struct Again {
    /// The edge that leads to it, as a hash.
    pub(super) edge: u64,
    /// Where the one around it begins.
    pub(super) around: Start,
}

impl<'p> Node<'p> {
    /// Around the whole value.
    pub(super) const ROOT: Self = Node {
        above: None,
        of: 0,
        types: 0,
        place: 0,
        path: 0,
        base: 0,
        path_base: 0,
        start: Start { at: 0, depth: 0 },
    };

    /// A part of `above`.
    #[inline]
    pub(super) fn new(above: &'p Self, way: Way, of: Type, start: Start, has_path: bool) -> (Self, Option<Again>) {
        let way = way.hash();
        let edge = fold(fold(above.base, way), of.hash());
        let bit = 1 << (of.hash() >> 58);
        let around = if above.types & bit == 0 { None } else { above.find(of) };
        let place = around.map_or(edge, |around| around.place);
        let path = if has_path { fold(fold(above.path_base, way), of.hash()) } else { 0 };
        let types = above.types | bit;
        let again = around.map(|around| Again { edge, around: around.start });
        let above = Some(above);
        (Self { above, of: of.hash(), types, place, path, base: place, path_base: path, start }, again)
    }

    /// Continues into a variant.
    #[inline]
    pub(super) fn enter(&mut self, variant: &'static str) {
        let variant = variant.as_ptr() as u64;
        self.base = fold(self.place, variant);
        self.path_base = fold(self.path, variant);
    }

    #[inline]
    pub(super) fn place(&self) -> u64 {
        self.place
    }

    #[inline]
    pub(super) fn path(&self) -> u64 {
        self.path
    }

    fn find(&self, of: Type) -> Option<&Self> {
        let mut node = self;
        while node.of != of.hash() {
            node = node.above?;
        }
        Some(node)
    }
}
