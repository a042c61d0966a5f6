//! What a panic says, and the end of its payload.

use std::{
    any::Any,
    mem,
    panic::{AssertUnwindSafe, catch_unwind},
};

use super::guest::Guest;

/// What the panic says. A payload that is no text is dropped on a thread of its own: it may block, or panic again.
pub(super) fn describe(panic: Box<dyn Any + Send>) -> String {
    let panic = match panic.downcast::<String>() {
        Ok(text) => return *text,
        Err(panic) => panic,
    };
    match panic.downcast::<&'static str>() {
        Ok(text) => (*text).to_owned(),
        Err(panic) => {
            drop(Guest::new(panic));
            "a panic whose payload is no text".to_owned()
        }
    }
}

/// Drops a value of the user's. A panic of its `Drop` ends here; what that panic carries is never dropped, because it
/// may panic in turn.
pub(super) fn drop_quietly<T>(value: T) {
    if let Err(panic) = catch_unwind(AssertUnwindSafe(|| drop(value))) {
        mem::forget(panic);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_repeated_and_other_payloads_are_named() {
        assert_eq!(describe(Box::new("a text")), "a text");
        assert_eq!(describe(Box::new("a text".to_owned())), "a text");
        assert_eq!(describe(Box::new(7)), "a panic whose payload is no text");
    }

    #[test]
    fn payload_whose_drop_panics_again_and_again_harms_nobody() {
        struct Bomb;
        impl Drop for Bomb {
            fn drop(&mut self) {
                std::panic::panic_any(Self);
            }
        }
        assert_eq!(describe(Box::new(Bomb)), "a panic whose payload is no text");
        drop_quietly(Bomb);
    }
}
