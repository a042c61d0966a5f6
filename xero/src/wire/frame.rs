//! The frame that this thread decodes: large byte values are slices of it and cost no copy.

use std::{cell::RefCell, mem};

use bytes::Bytes;

thread_local! {
    static FRAME: RefCell<Bytes> = const { RefCell::new(Bytes::new()) };
}

/// Runs a decoder on bytes that belong to `frame`. Nested calls each see their own frame.
pub(crate) fn with_frame<R>(frame: &Bytes, run: impl FnOnce() -> R) -> R {
    // A small frame needs no restoring: every piece of it is copied.
    let _restore = (frame.len() > COPIED_BYTES_MAX).then(|| Restore(FRAME.replace(frame.clone())));
    run()
}

/// Puts the outer frame back, also when the decoder panics.
struct Restore(Bytes);

impl Drop for Restore {
    fn drop(&mut self) {
        FRAME.set(mem::take(&mut self.0));
    }
}

/// The bytes as their own value: a slice of the current frame if they lie in it, else a copy.
pub(super) fn piece(bytes: &[u8]) -> Bytes {
    if bytes.len() <= COPIED_BYTES_MAX {
        return Bytes::copy_from_slice(bytes);
    }
    FRAME.with_borrow(|frame| match lies_within(bytes, frame) && bytes.len() >= frame.len() / SHARES_MAX {
        true => frame.slice_ref(bytes),
        false => Bytes::copy_from_slice(bytes),
    })
}

fn lies_within(bytes: &[u8], frame: &[u8]) -> bool {
    let (inner, outer) = (bytes.as_ptr_range(), frame.as_ptr_range());
    outer.start <= inner.start && inner.end <= outer.end
}

/// A value up to this size is copied.
///
/// A slice keeps the whole frame in memory, and a frame with a batch holds payloads of other calls, each of at most
/// this size (`PROTOCOL.md` §11).
const COPIED_BYTES_MAX: usize = crate::proto::outbox::BATCHED_PAYLOAD_BYTES_MAX;

/// A value below this part of its frame is copied too, so it keeps at most this multiple of its size in memory.
///
/// The copy is cheap: it is a small part of the received frame.
const SHARES_MAX: usize = 4;

#[cfg(test)]
mod tests {
    use super::*;

    const SIZE: usize = COPIED_BYTES_MAX + 1;

    #[test]
    fn large_pieces_share_their_frame_and_small_ones_are_copied() {
        let frame = Bytes::from(vec![7; 2 * SIZE]);
        with_frame(&frame, || {
            let large = piece(&frame[1..=SIZE]);
            assert_eq!(large.as_ptr(), frame[1..].as_ptr());
            let small = piece(&frame[1..SIZE]);
            assert_ne!(small.as_ptr(), frame[1..].as_ptr());
            assert_eq!(small, frame[1..SIZE]);
        });
    }

    #[test]
    fn pieces_that_are_a_small_part_of_their_frame_are_copied() {
        let frame = Bytes::from(vec![7; SHARES_MAX * SIZE]);
        with_frame(&frame, || {
            assert_eq!(piece(&frame[1..=SIZE]).as_ptr(), frame[1..].as_ptr(), "a quarter is shared");
        });
        let larger = Bytes::from(vec![7; SHARES_MAX * (SIZE + 1)]);
        with_frame(&larger, || {
            let smaller = piece(&larger[1..=SIZE]);
            assert_ne!(smaller.as_ptr(), larger[1..].as_ptr(), "less than a quarter");
            assert_eq!(smaller, larger[1..=SIZE]);
        });
    }

    #[test]
    fn pieces_of_other_memory_are_copied() {
        let (frame, other) = (Bytes::from(vec![7; SIZE]), vec![8; SIZE]);
        with_frame(&frame, || assert_eq!(piece(&other), other));
        assert_ne!(piece(&frame).as_ptr(), frame.as_ptr(), "no frame is current");
    }

    #[test]
    fn the_outer_frame_comes_back_after_an_inner_one_and_after_a_panic() {
        let (outer, inner) = (Bytes::from(vec![1; SIZE]), Bytes::from(vec![2; SIZE]));
        with_frame(&outer, || {
            with_frame(&inner, || assert_eq!(piece(&inner).as_ptr(), inner.as_ptr()));
            assert_eq!(piece(&outer).as_ptr(), outer.as_ptr());
            let panicked = std::panic::catch_unwind(|| with_frame(&inner, || panic!("a decoder that panics")));
            panicked.expect_err("panics");
            assert_eq!(piece(&outer).as_ptr(), outer.as_ptr());
        });
    }
}
