//! Panics of user code: caught, and only logged when a value is dropped or a task is woken.

use std::{
    any::Any,
    future::{Future, poll_fn},
    mem,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::pin,
    sync::Arc,
    task::{Context, Wake, Waker},
};

use tracing::error;

/// Runs user code, and returns the payload if it panics.
pub(crate) fn catch<T>(code: impl FnOnce() -> T) -> Result<T, Box<dyn Any + Send>> {
    catch_unwind(AssertUnwindSafe(code))
}

/// Drops a user's value and logs a panic of its `Drop`.
///
/// The payload of that panic is leaked unless it is text, because its `Drop` may panic again.
pub(crate) fn drop_quietly<T>(value: T) {
    if let Err(panic) = catch(|| drop(value)) {
        error!(panic = text(&*panic).unwrap_or(NO_TEXT), "a value has panicked while it was dropped");
        leak_unless_text(panic);
    }
}

/// Runs our code that calls user wakers; a panicking waker costs nobody else anything.
pub(crate) fn wake<T>(code: impl FnOnce() -> T) -> Option<T> {
    match catch(code) {
        Ok(value) => Some(value),
        Err(panic) => {
            error!(panic = text(&*panic).unwrap_or(NO_TEXT), "a waker has panicked");
            leak_unless_text(panic);
            None
        }
    }
}

/// Polls a user's shared wait with a waker whose panic is caught.
///
/// Otherwise Tokio would not wake the waiters behind it.
pub(crate) async fn shielded<T>(wait: impl Future<Output = T>) -> T {
    let mut wait = pin!(wait);
    poll_fn(|cx| {
        let waker = Waker::from(Arc::new(Shield(cx.waker().clone())));
        wait.as_mut().poll(&mut Context::from_waker(&waker))
    })
    .await
}

struct Shield(Waker);

impl Wake for Shield {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        wake(|| self.0.wake_by_ref());
    }
}

fn leak_unless_text(panic: Box<dyn Any + Send>) {
    if text(&*panic).is_none() {
        mem::forget(panic);
    }
}

/// The panic's text, if its payload is text.
pub(super) fn text(panic: &(dyn Any + Send)) -> Option<&str> {
    panic.downcast_ref::<String>().map(String::as_str).or_else(|| panic.downcast_ref::<&str>().copied())
}

/// The text for a panic without text.
pub(super) const NO_TEXT: &str = "a panic whose payload is not text";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn panicking_waker_is_reported() {
        assert_eq!(wake(|| 7), Some(7));
        assert_eq!(wake(|| panic!("a waker that panics")), None::<u32>);
    }
}
