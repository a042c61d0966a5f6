//! The body of a frame, in a buffer of its own that grows with what arrives.

use bytes::Bytes;

/// A body of which not all bytes have arrived.
#[derive(Debug)]
pub(crate) struct Body {
    bytes: Vec<u8>,
    /// The length that the peer has declared.
    length: usize,
}

impl Body {
    pub(super) fn new(length: usize) -> Self {
        Self { bytes: Vec::new(), length }
    }

    /// Copies what belongs to this body.
    pub(super) fn take(&mut self, input: &mut &[u8]) {
        let (taken, rest) = input.split_at(input.len().min(self.missing()));
        if self.bytes.is_empty() {
            self.bytes.reserve_exact(taken.len());
        } else {
            self.make_room(taken.len());
        }
        self.bytes.extend_from_slice(taken);
        *input = rest;
    }

    /// The buffer, with room to read into, and how many bytes it may take.
    pub(crate) fn buffer(&mut self) -> (&mut Vec<u8>, usize) {
        let missing = self.missing();
        self.make_room(missing.min(ROOM_MIN));
        // At most what has been reserved, so that the reader reserves nothing.
        let room = missing.min(self.bytes.capacity() - self.bytes.len());
        (&mut self.bytes, room)
    }

    pub(super) fn is_complete(&self) -> bool {
        self.missing() == 0
    }

    /// The reserved memory.
    pub(super) fn capacity(&self) -> usize {
        self.bytes.capacity()
    }

    pub(super) fn finish(self) -> Bytes {
        self.bytes.into()
    }

    pub(super) fn missing(&self) -> usize {
        self.length - self.bytes.len()
    }

    /// Quadruples a full buffer: a peer makes this side reserve at most four times what it has sent, and [`ROOM_MIN`].
    ///
    /// The last step is exact, so that the finished buffer has no spare memory.
    fn make_room(&mut self, bytes: usize) {
        if self.bytes.capacity() - self.bytes.len() < bytes {
            let step = bytes.max(3 * self.bytes.len());
            self.bytes.reserve_exact(step.min(self.missing()));
        }
    }
}

/// The least room to read into, unless less is missing: a smaller read costs more than its bytes.
const ROOM_MIN: usize = 16 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_follows_what_arrives_and_not_what_is_declared() {
        let mut body = Body::new(1 << 30);
        assert_eq!(body.capacity(), 0);
        body.take(&mut &[7; 100][..]);
        assert_eq!(body.capacity(), 100);
        while body.bytes.len() < 1 << 20 {
            let (buffer, room) = body.buffer();
            assert!(room >= 1);
            buffer.extend(std::iter::repeat_n(7, room.min(1000)));
            assert!(body.capacity() <= 4 * body.bytes.len() + ROOM_MIN, "{}", body.capacity());
        }
    }

    #[test]
    fn finished_body_has_no_spare_memory() {
        for length in [1, 100, ROOM_MIN + 1, 1_000_000] {
            let mut body = Body::new(length);
            body.take(&mut &[1][..]);
            while !body.is_complete() {
                let (buffer, room) = body.buffer();
                buffer.extend(std::iter::repeat_n(1, room));
            }
            assert_eq!(body.capacity(), length);
            assert_eq!(body.finish(), vec![1; length]);
        }
    }
}
