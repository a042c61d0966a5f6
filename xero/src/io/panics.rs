//! Panics of the user's code: caught, and quiet where a value is dropped.

use std::{
    any::Any,
    mem,
    panic::{AssertUnwindSafe, catch_unwind},
};

use tracing::error;

/// Runs a user's code, and gives the payload if it panics.
pub(crate) fn catch<T>(code: impl FnOnce() -> T) -> Result<T, Box<dyn Any + Send>> {
    catch_unwind(AssertUnwindSafe(code))
}

/// Drops a user's value and logs a panic of its `Drop`. The payload of that panic is leaked: its `Drop` may panic again.
pub(crate) fn drop_quietly<T>(value: T) {
    if let Err(panic) = catch(|| drop(value)) {
        error!(panic = text(&*panic).unwrap_or(NO_TEXT), "a value has panicked when it was dropped");
        mem::forget(panic);
    }
}

/// What a panic says, where its payload is text.
pub(super) fn text(panic: &(dyn Any + Send)) -> Option<&str> {
    panic.downcast_ref::<String>().map(String::as_str).or_else(|| panic.downcast_ref::<&str>().copied())
}

/// What stands for the text of a panic that has none.
pub(super) const NO_TEXT: &str = "a panic whose payload is no text";
