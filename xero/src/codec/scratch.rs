//! A buffer of each thread to write values into, so that a small value takes one allocation, of its exact size.

use std::cell::Cell;

use bytes::Bytes;

thread_local! {
    static SCRATCH: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// An empty buffer. A `Serialize` that writes another value meanwhile gets a new one.
pub(super) fn take() -> Vec<u8> {
    // A thread that ends has none any more.
    let mut buffer = SCRATCH.try_with(Cell::take).unwrap_or_default();
    buffer.clear();
    buffer
}

/// The bytes in a buffer. Few are copied, so that the buffer can be used again; many take it along.
pub(super) fn into_bytes(buffer: Vec<u8>) -> Bytes {
    if buffer.len() > COPIED_BYTES_MAX {
        return buffer.into();
    }
    let bytes = Bytes::copy_from_slice(&buffer);
    let _ = SCRATCH.try_with(|scratch| scratch.set(buffer));
    bytes
}

/// The bytes whose copy costs less than the growth of a new buffer.
const COPIED_BYTES_MAX: usize = 4 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffer_of_a_small_value_is_used_again_and_that_of_a_large_one_is_given_away() {
        let mut buffer = take();
        buffer.extend([1; 100]);
        let place = buffer.as_ptr();
        assert_eq!(into_bytes(buffer), [1; 100][..]);
        let mut again = take();
        assert_eq!((again.as_ptr(), again.len()), (place, 0));
        let other = take();
        assert_ne!(other.as_ptr(), place, "that one is in use");
        again.resize(COPIED_BYTES_MAX + 1, 2);
        let place = again.as_ptr();
        assert_eq!(into_bytes(again).as_ptr(), place);
        assert_eq!(take().capacity(), 0);
    }
}
